#include "tests/sim/disk_cut.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void touch(struct disk *disk, const struct disk_pending *pending)
{
    struct disk_slot *slot = &disk->slots[pending->slot];

    for (uint64_t at = pending->offset; at < pending->offset + pending->size; at += STORAGE_BLOCK)
        slot->writer[at / STORAGE_BLOCK] = pending->number;
    for (uint32_t i = 0; i < disk->flip_count; i++) {
        struct disk_flip *flip = &disk->flips[i];
        if (flip->slot == pending->slot && flip->offset >= pending->offset &&
            flip->offset < pending->offset + pending->size)
            flip->overwritten = true;
    }
}

static void remember(struct disk *disk, const struct disk_pending *pending)
{
    struct disk_volatile *saved = malloc(sizeof(*saved) + pending->size);
    if (saved == NULL)
        abort();
    saved->older = disk->volatiles;
    saved->slot = pending->slot;
    saved->offset = pending->offset;
    saved->size = pending->size;
    memcpy(saved->before, disk->slots[pending->slot].bytes + pending->offset, pending->size);
    disk->volatiles = saved;
}

/* A durable write over a volatile one ends the latter: only what lies outside may still be lost. Volatile
 * writes are never partly overwritten by the log, so an overlap settles the whole. */
static void supersede(struct disk *disk, const struct disk_pending *pending)
{
    struct disk_volatile **link = &disk->volatiles;

    while (*link) {
        struct disk_volatile *saved = *link;
        bool apart = saved->slot != pending->slot || saved->offset + saved->size <= pending->offset ||
                     pending->offset + pending->size <= saved->offset;
        if (apart) {
            link = &saved->older;
        } else {
            *link = saved->older;
            free(saved);
        }
    }
}

void disk_apply(struct disk *disk, const struct disk_pending *pending)
{
    assert(pending->kind == DISK_WRITE);
    if (pending->durable)
        supersede(disk, pending);
    else
        remember(disk, pending);
    memcpy(disk->slots[pending->slot].bytes + pending->offset, pending->source, pending->size);
    touch(disk, pending);
}

void disk_tear(struct disk *disk, const struct disk_pending *pending)
{
    assert(pending->kind == DISK_WRITE);
    uint8_t *bytes = disk->slots[pending->slot].bytes + pending->offset;
    uint64_t sectors = pending->size / DISK_SECTOR;
    uint64_t garbage = random_one_in(&disk->random, 2) ? random_below(&disk->random, sectors) : sectors;
    /* All old, all new, a prefix, or any mix. */
    uint32_t way = (uint32_t)random_below(&disk->random, 8);
    uint64_t prefix = random_below(&disk->random, sectors + 1);

    for (uint64_t i = 0; i < sectors; i++) {
        bool written = way == 0   ? false
                       : way == 1 ? true
                       : way <= 3 ? i < prefix
                                  : random_one_in(&disk->random, 2);
        if (written)
            memcpy(bytes + i * DISK_SECTOR, pending->source + i * DISK_SECTOR, DISK_SECTOR);
        if (i == garbage && way > 1)
            for (uint32_t byte = 0; byte < DISK_SECTOR; byte++)
                bytes[i * DISK_SECTOR + byte] = (uint8_t)random_next(&disk->random);
    }
    touch(disk, pending);
}

static void lose(struct disk *disk, const struct disk_volatile *saved)
{
    uint8_t *bytes = disk->slots[saved->slot].bytes + saved->offset;

    if (!disk->slots[saved->slot].exists)
        return;
    for (uint64_t at = 0; at < saved->size; at += DISK_SECTOR)
        if (random_one_in(&disk->random, 2))
            memcpy(bytes + at, saved->before + at, DISK_SECTOR);
}

void disk_volatiles_free(struct disk *disk)
{
    while (disk->volatiles) {
        struct disk_volatile *saved = disk->volatiles;
        disk->volatiles = saved->older;
        free(saved);
    }
}

static void cut_prepare(struct disk *disk, const struct disk_pending *pending)
{
    bool there = disk->slots[pending->slot].exists;

    if (random_one_in(&disk->random, 3) || (!there && disk->slot_count >= disk->options.slots_max))
        return;
    uint64_t size = disk->options.segment_size;
    if (random_one_in(&disk->random, 2))
        size = random_below(&disk->random, size);
    disk_slot_make(disk, pending->slot, size);
}

void disk_cut(struct disk *disk)
{
    assert(!disk->dead);
    for (uint32_t i = 0; i < disk->pending_count; i++) {
        if (disk->pending[i].kind == DISK_WRITE)
            disk_tear(disk, &disk->pending[i]);
        else if (disk->pending[i].kind == DISK_PREPARE)
            cut_prepare(disk, &disk->pending[i]);
    }
    for (const struct disk_volatile *saved = disk->volatiles; saved; saved = saved->older)
        lose(disk, saved);
    disk_volatiles_free(disk);
    disk->dead = true;
}

void disk_restore(struct disk *disk)
{
    assert(disk->pending_count == 0);
    disk->dead = false;
    disk->writes_through = disk->writes;
    disk->batch_through = disk->writes;
    /* What it takes to write to a slot is the storage's knowledge, and that went with the power. */
    for (uint32_t i = 0; i < DISK_SLOTS_MAX; i++)
        disk->slots[i].prepared = false;
}

/* The next slot from a random one on that was ever written. */
static struct disk_slot *any_slot(struct disk *disk, uint32_t *number)
{
    uint32_t first = (uint32_t)random_below(&disk->random, DISK_SLOTS_MAX);

    for (uint32_t i = 0; i < DISK_SLOTS_MAX; i++) {
        *number = (first + i) % DISK_SLOTS_MAX;
        struct disk_slot *slot = &disk->slots[*number];
        if (slot->exists && slot->size == disk->options.segment_size)
            return slot;
    }
    return NULL;
}

bool disk_flip(struct disk *disk)
{
    if (disk->flip_count == DISK_FLIPS_MAX)
        return false;
    for (uint32_t attempt = 0; attempt < 64; attempt++) {
        uint32_t number;
        struct disk_slot *slot = any_slot(disk, &number);
        if (slot == NULL)
            return false;
        uint64_t offset = random_below(&disk->random, slot->size);
        uint64_t writer = slot->writer[offset / STORAGE_BLOCK];
        if (writer == 0)
            continue;
        slot->bytes[offset] ^= (uint8_t)(1U << random_below(&disk->random, 8));
        disk->flips[disk->flip_count++] =
            (struct disk_flip){.slot = number, .offset = offset, .writer = writer};
        return true;
    }
    return false;
}

bool disk_flipped(const struct disk *disk, uint32_t slot, uint64_t offset, uint64_t size)
{
    for (uint32_t i = 0; i < disk->flip_count; i++) {
        const struct disk_flip *flip = &disk->flips[i];
        if (!flip->overwritten && flip->slot == slot && flip->offset >= offset &&
            flip->offset < offset + size)
            return true;
    }
    return false;
}

bool disk_flipped_writes(const struct disk *disk, uint64_t first, uint64_t last)
{
    for (uint32_t i = 0; i < disk->flip_count; i++)
        if (disk->flips[i].writer >= first && disk->flips[i].writer <= last)
            return true;
    return false;
}
