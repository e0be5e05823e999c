#include "tests/sim/disk.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "queue/format.h"
#include "tests/sim/disk_cut.h"

/* Writes in flight are fewer, so a place in the ring is never wanted twice. */
enum { FINISHED_RING = sizeof(((struct disk *)0)->finished) };
static_assert((int)FINISHED_RING > (int)DISK_PENDING_MAX * 2, "the ring must outlast what is in flight");

static struct disk *disk_of(struct storage *storage)
{
    return (struct disk *)(void *)((char *)storage - offsetof(struct disk, storage));
}

static void demand(const struct disk *disk, bool holds, const char *what)
{
    if (holds)
        return;
    if (disk->options.violation)
        disk->options.violation(what);
    fprintf(stderr, "disk: %s\n", what);
    abort();
}

static bool fails(struct disk *disk, uint32_t chance)
{
    return chance > 0 && random_below(&disk->random, 1000000) < chance;
}

/* Cheap and good enough to see that a buffer changed. */
static uint64_t sum_of(const uint8_t *bytes, uint64_t size)
{
    uint64_t sum = size;

    assert(size % 8 == 0);
    for (uint64_t i = 0; i < size; i += 8) {
        uint64_t word;
        memcpy(&word, bytes + i, 8);
        sum = (sum ^ word) * 0x9e3779b97f4a7c15ULL;
        sum ^= sum >> 29;
    }
    return sum;
}

static int disk_list(struct storage *storage, uint32_t *slots, uint32_t max)
{
    struct disk *disk = disk_of(storage);
    uint32_t count = 0;

    if (disk->dead || fails(disk, disk->options.load_fails))
        return -EIO;
    for (uint32_t i = 0; i < DISK_SLOTS_MAX && count < max; i++)
        if (disk->slots[i].exists)
            slots[count++] = i;
    /* A directory is read in no order. */
    for (uint32_t i = count; i > 1; i--) {
        uint32_t other = (uint32_t)random_below(&disk->random, i);
        uint32_t swap = slots[i - 1];
        slots[i - 1] = slots[other];
        slots[other] = swap;
    }
    return (int)count;
}

static int64_t disk_load(struct storage *storage, uint32_t slot, uint64_t offset, void *buffer, size_t size)
{
    struct disk *disk = disk_of(storage);

    demand(disk, slot < DISK_SLOTS_MAX && disk->slots[slot].exists, "load from a slot that is not there");
    demand(disk, offset % STORAGE_BLOCK == 0 && size % STORAGE_BLOCK == 0, "unaligned load");
    if (disk->dead || fails(disk, disk->options.load_fails))
        return -EIO;
    const struct disk_slot *from = &disk->slots[slot];
    if (offset >= from->size)
        return 0;
    if (size > from->size - offset)
        size = from->size - offset;
    memcpy(buffer, from->bytes + offset, size);
    return (int64_t)size;
}

static struct disk_pending *begin(struct disk *disk, struct storage_op *op, enum disk_kind kind,
                                  uint32_t slot)
{
    demand(disk, op->done != NULL, "an operation that tells nobody");
    demand(disk, slot < DISK_SLOTS_MAX, "slot number out of reason");
    demand(disk, disk->pending_count < DISK_PENDING_MAX, "too many operations in flight");
    for (uint32_t i = 0; i < disk->pending_count; i++)
        demand(disk, disk->pending[i].op != op, "an operation begun twice");
    struct disk_pending *pending = &disk->pending[disk->pending_count++];
    *pending = (struct disk_pending){.op = op, .kind = kind, .slot = slot};
    uint64_t latency =
        random_skewed(&disk->random, disk->options.latency_min_us, disk->options.latency_max_us);
    pending->due_us = disk->now_us + latency;
    return pending;
}

static void disk_prepare(struct storage *storage, struct storage_op *op, uint32_t slot)
{
    struct disk *disk = disk_of(storage);

    (void)begin(disk, op, DISK_PREPARE, slot);
}

static void demand_range(const struct disk *disk, uint32_t slot, uint64_t offset, uint64_t size)
{
    demand(disk, slot < DISK_SLOTS_MAX && disk->slots[slot].exists,
           "input or output on a slot that is not there");
    demand(disk, size > 0 && offset % STORAGE_BLOCK == 0 && size % STORAGE_BLOCK == 0,
           "unaligned input or output");
    demand(disk, offset + size <= disk->options.segment_size, "input or output past the slot's end");
}

static void disk_write(struct storage *storage, struct storage_op *op, uint32_t slot, uint64_t offset,
                       const void *buffer, size_t size, bool durable)
{
    struct disk *disk = disk_of(storage);

    demand_range(disk, slot, offset, size);
    demand(disk, disk->slots[slot].prepared || disk->slots[slot].size == disk->options.segment_size,
           "write to a slot that was not prepared");
    demand(disk, (uintptr_t)buffer % STORAGE_BLOCK == 0, "unaligned buffer");
    for (uint32_t i = 0; i < disk->pending_count; i++) {
        const struct disk_pending *other = &disk->pending[i];
        bool apart = other->kind != DISK_WRITE || other->slot != slot ||
                     other->offset + other->size <= offset || offset + size <= other->offset;
        demand(disk, apart, "two writes to the same place at the same time");
    }
    struct disk_pending *pending = begin(disk, op, DISK_WRITE, slot);
    pending->offset = offset;
    pending->size = size;
    pending->source = buffer;
    pending->durable = durable;
    pending->number = ++disk->writes;
    pending->sum = sum_of(buffer, size);
    pending->is_batch = format_batch_check(buffer);
    disk->finished[pending->number % FINISHED_RING] = false;
    disk->batches[pending->number % FINISHED_RING] = pending->is_batch;
}

static void disk_read(struct storage *storage, struct storage_op *op, uint32_t slot, uint64_t offset,
                      void *buffer, size_t size)
{
    struct disk *disk = disk_of(storage);

    demand_range(disk, slot, offset, size);
    demand(disk, (uintptr_t)buffer % STORAGE_BLOCK == 0, "unaligned buffer");
    struct disk_pending *pending = begin(disk, op, DISK_READ, slot);
    pending->offset = offset;
    pending->size = size;
    pending->target = buffer;
}

static int disk_discard(struct storage *storage, uint32_t slot)
{
    struct disk *disk = disk_of(storage);

    demand(disk, slot < DISK_SLOTS_MAX && disk->slots[slot].exists, "discard of a slot that is not there");
    for (uint32_t i = 0; i < disk->pending_count; i++)
        demand(disk, disk->pending[i].slot != slot || disk->pending[i].kind == DISK_READ,
               "discard of a slot that is being written");
    if (disk->dead || fails(disk, disk->options.discard_fails))
        return -EIO;
    disk->slots[slot].exists = false;
    disk->slots[slot].prepared = false;
    disk->slots[slot].size = 0;
    disk->slot_count--;
    return 0;
}

static const struct storage_methods methods = {
    .list = disk_list,
    .load = disk_load,
    .prepare = disk_prepare,
    .write = disk_write,
    .read = disk_read,
    .discard = disk_discard,
};

/* A slot's memory is that of its last life, so its old bytes are cleared as a fresh file's would be. */
void disk_slot_make(struct disk *disk, uint32_t number, uint64_t size)
{
    struct disk_slot *slot = &disk->slots[number];
    uint64_t blocks = disk->options.segment_size / STORAGE_BLOCK;

    if (slot->bytes == NULL) {
        slot->bytes = malloc(disk->options.segment_size);
        slot->writer = malloc(blocks * sizeof(slot->writer[0]));
        if (slot->bytes == NULL || slot->writer == NULL)
            abort();
    }
    if (!slot->exists) {
        memset(slot->bytes, 0, disk->options.segment_size);
        memset(slot->writer, 0, blocks * sizeof(slot->writer[0]));
        slot->exists = true;
        slot->size = 0;
        disk->slot_count++;
    }
    if (slot->size < size)
        slot->size = size;
}

static int32_t complete_prepare(struct disk *disk, const struct disk_pending *pending)
{
    bool failed = fails(disk, disk->options.prepare_fails);

    if (!disk->slots[pending->slot].exists && disk->slot_count >= disk->options.slots_max) {
        disk->was_full = true;
        return -ENOSPC;
    }
    if (failed && random_one_in(&disk->random, 2))
        return -EIO;
    uint64_t size = disk->options.segment_size;
    if (failed)
        size = random_below(&disk->random, size / STORAGE_BLOCK) * STORAGE_BLOCK;
    disk_slot_make(disk, pending->slot, size);
    disk->slots[pending->slot].prepared = !failed;
    return failed ? -EIO : 0;
}

static int32_t complete_write(struct disk *disk, const struct disk_pending *pending)
{
    demand(disk, sum_of(pending->source, pending->size) == pending->sum,
           "a buffer changed while it was written");
    bool failed = fails(disk, disk->options.write_fails);
    if (failed) {
        disk->writes_failed++;
        disk_tear(disk, pending);
    } else {
        disk_apply(disk, pending);
        if (pending->is_batch && pending->number > disk->batch_good)
            disk->batch_good = pending->number;
    }
    disk->finished[pending->number % FINISHED_RING] = true;
    while (disk->writes_through < disk->writes && disk->finished[(disk->writes_through + 1) % FINISHED_RING])
        if (disk->batches[++disk->writes_through % FINISHED_RING])
            disk->batch_through = disk->writes_through;
    return failed ? -EIO : 0;
}

static int32_t complete_read(struct disk *disk, const struct disk_pending *pending)
{
    const struct disk_slot *slot = &disk->slots[pending->slot];

    if (fails(disk, disk->options.read_fails) || !slot->exists ||
        pending->offset + pending->size > slot->size) {
        memset(pending->target, 0xee, pending->size);
        return -EIO;
    }
    memcpy(pending->target, slot->bytes + pending->offset, pending->size);
    return 0;
}

static int32_t complete(struct disk *disk, const struct disk_pending *pending)
{
    if (disk->dead)
        return -EIO;
    switch (pending->kind) {
    case DISK_PREPARE:
        return complete_prepare(disk, pending);
    case DISK_WRITE:
        return complete_write(disk, pending);
    case DISK_READ:
        return complete_read(disk, pending);
    }
    abort();
}

static uint32_t first_due(const struct disk *disk)
{
    uint32_t first = 0;

    for (uint32_t i = 1; i < disk->pending_count; i++)
        if (disk->pending[i].due_us < disk->pending[first].due_us)
            first = i;
    return first;
}

uint64_t disk_next_us(const struct disk *disk)
{
    return disk->pending_count > 0 ? disk->pending[first_due(disk)].due_us : UINT64_MAX;
}

bool disk_step(struct disk *disk)
{
    if (disk->pending_count == 0)
        return false;
    uint32_t first = first_due(disk);
    struct disk_pending pending = disk->pending[first];
    if (pending.due_us > disk->now_us && !disk->dead)
        return false;
    disk->pending[first] = disk->pending[--disk->pending_count];
    disk->completions++;
    int32_t result = complete(disk, &pending);
    pending.op->done(pending.op, result);
    return true;
}

void disk_heal(struct disk *disk)
{
    disk->options.prepare_fails = 0;
    disk->options.write_fails = 0;
    disk->options.read_fails = 0;
    disk->options.load_fails = 0;
    disk->options.discard_fails = 0;
}

void disk_init(struct disk *disk, const struct disk_options *options)
{
    assert(options->slots_max <= DISK_SLOTS_MAX);
    assert(options->segment_size % STORAGE_BLOCK == 0);

    struct disk_slot kept[DISK_SLOTS_MAX];
    bool fits = disk->options.segment_size == options->segment_size;
    if (!fits)
        disk_deinit(disk);
    disk_volatiles_free(disk);
    memcpy(kept, disk->slots, sizeof(kept));
    memset(disk, 0, sizeof(*disk));
    for (uint32_t i = 0; i < DISK_SLOTS_MAX; i++) {
        disk->slots[i].bytes = kept[i].bytes;
        disk->slots[i].writer = kept[i].writer;
    }
    disk->storage = (struct storage){.methods = &methods, .segment_size = options->segment_size};
    disk->options = *options;
    disk->random.state = options->seed;
}

void disk_deinit(struct disk *disk)
{
    disk_volatiles_free(disk);
    for (uint32_t i = 0; i < DISK_SLOTS_MAX; i++) {
        free(disk->slots[i].bytes);
        free(disk->slots[i].writer);
        disk->slots[i] = (struct disk_slot){0};
    }
}
