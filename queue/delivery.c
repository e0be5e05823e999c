/* Messages on their way out. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "queue/crc32c.h"
#include "queue/delivery.h"

enum { REREAD_MS = 60000 /* after an envelope could not be read back */ };

static size_t delivery_size(uint32_t entry_count)
{
    return sizeof(struct delivery) + entry_count * sizeof(struct delivery_entry);
}

/* --- Taking --- */

/* Which entries ride: the first always, others of its message as far as they match and recipients_max allows.
 * Counts them when `entries` is NULL. */
static uint32_t choose_entries(struct entry *head, uint32_t recipients_max, queue_match *match, void *context,
                               struct delivery_entry *entries)
{
    struct message *message = head->message;
    uint32_t recipients = (uint32_t)__builtin_popcountll(entry_next(head));
    uint32_t count = 0;
    for (uint32_t i = 0; i < message->entry_count; i++) {
        struct entry *entry = &message->entries[i];
        if (entry != head) {
            uint32_t more = (uint32_t)__builtin_popcountll(entry_next(entry));
            if (entry->state != ENTRY_READY || recipients + more > recipients_max)
                continue;
            if ((entry->pending == 0) != (head->pending == 0))
                continue; /* what is owed goes alone */
            if (entry->lane != head->lane && (!match || !match(context, entry->lane)))
                continue;
            recipients += more;
        }
        if (entries)
            entries[count] = (struct delivery_entry){.entry = entry};
        count++;
    }
    return count;
}

static uint32_t delivery_recipients(const struct delivery *delivery)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < delivery->entry_count; i++)
        count += (uint32_t)__builtin_popcountll(entry_next(delivery->entries[i].entry));
    return count;
}

static void fill_targets(struct delivery *delivery)
{
    const uint8_t *recipients = delivery->view.recipients;
    uint32_t size = delivery->view.head.recipients_size;
    uint32_t at = 0;
    uint32_t index = 0;
    uint32_t target = 0;
    struct recipient_view view;
    bool whole = true;
    for (uint32_t i = 0; i < delivery->entry_count; i++) {
        const struct entry *entry = delivery->entries[i].entry;
        for (; index < entry->first + entry->count; index++) {
            whole &= recipient_next(recipients, size, &at, &view);
            if (index < entry->first || !(entry_next(entry) >> (index - entry->first) & 1))
                continue;
            delivery->pub.targets[target++] = (struct queue_target){
                .address = view.address,
                .size = view.address_size,
                .index = index,
                .marked = !delivery->pub.is_owed && (entry->marked >> (index - entry->first) & 1),
            };
        }
    }
    assert(whole);
    assert(target == delivery->pub.target_count);
}

static void fill_pieces(struct delivery *delivery)
{
    struct wal *wal = &delivery->pub.queue->wal;
    for (uint32_t i = 0; i < delivery->view.head.piece_count; i++) {
        const struct format_piece *piece = &delivery->view.pieces[i];
        const struct segment *segment = segment_find(&wal->segments, piece->segment);
        const void *data = delivery->entries[0].entry->message->damaged ? NULL : wal_resident(wal, piece);
        if (data)
            wal_pin(wal, piece);
        delivery->pub.pieces[i] = (struct queue_piece){
            .data = data,
            .size = piece->size,
            .slot = segment ? segment->slot : SEGMENT_NO_SLOT,
            .offset = piece->offset,
            .crc = piece->crc,
        };
    }
}

static int delivery_fill(struct delivery *delivery)
{
    struct queue *queue = delivery->pub.queue;
    uint32_t target_count = delivery_recipients(delivery);
    uint32_t piece_count = delivery->view.head.piece_count;
    size_t targets_size = target_count * sizeof(struct queue_target);
    delivery->arrays_size = targets_size + piece_count * sizeof(struct queue_piece);
    delivery->arrays = memory_alloc(&queue->memory, delivery->arrays_size);
    if (!delivery->arrays)
        return -ENOMEM;
    delivery->pub.content_size = delivery->view.head.content_size;
    delivery->pub.meta = delivery->view.meta;
    delivery->pub.meta_size = delivery->view.head.meta_size;
    delivery->pub.target_count = target_count;
    delivery->pub.targets = delivery->arrays;
    delivery->pub.piece_count = piece_count;
    delivery->pub.pieces = (struct queue_piece *)(void *)((uint8_t *)delivery->arrays + targets_size);
    fill_targets(delivery);
    fill_pieces(delivery);
    return 0;
}

void delivery_free(struct delivery *delivery)
{
    struct queue *queue = delivery->pub.queue;
    free(delivery->envelope);
    memory_free(&queue->memory, delivery->arrays, delivery->arrays_size);
    memory_free(&queue->memory, delivery, delivery_size(delivery->entry_count));
    queue->deliveries--;
}

/* The envelope cannot be had: its entries wait, without an attempt being counted. */
static void delivery_fail(struct delivery *delivery)
{
    struct queue *queue = delivery->pub.queue;
    for (uint32_t i = 0; i < delivery->entry_count; i++) {
        struct entry *entry = delivery->entries[i].entry;
        entry->message->out--;
        entry->due_ms = queue->now_ms + REREAD_MS;
        entry->message->active--;
        entry_place(queue, entry, false);
    }
    if (!delivery->envelope && delivery->view.meta)
        wal_unpin(&queue->wal, &delivery->commit);
    queue_taken *taken = delivery->taken;
    void *context = delivery->context;
    delivery_free(delivery);
    taken(context, NULL);
}

static void delivery_ready(struct delivery *delivery)
{
    int error = delivery_fill(delivery);
    if (error) {
        delivery_fail(delivery);
        return;
    }
    delivery->taken(delivery->context, &delivery->pub);
}

static bool envelope_check(struct delivery *delivery)
{
    const uint8_t *payload = delivery->envelope + delivery->envelope_skip;
#if !defined(PLANT_SKIP_CRC)
    if (crc32c(0, payload, delivery->commit.size) != delivery->commit.crc)
        return false;
#endif
    return commit_parse(payload, delivery->commit.size, &delivery->view);
}

static void envelope_read(struct storage_op *op, int32_t result)
{
    struct delivery *delivery = (struct delivery *)(void *)((char *)op - offsetof(struct delivery, read));
    delivery->pub.queue->operations--;
    if (result < 0 || !envelope_check(delivery))
        delivery_fail(delivery);
    else
        delivery_ready(delivery);
}

static struct queue_piece_range range_of(uint32_t offset, uint32_t size)
{
    uint64_t begin = offset & ~(uint64_t)(STORAGE_BLOCK - 1);
    uint64_t end = format_align((uint64_t)offset + size, STORAGE_BLOCK);
    return (struct queue_piece_range){.offset = begin, .size = end - begin, .skip = offset - begin};
}

static void envelope_load(struct delivery *delivery)
{
    struct queue *queue = delivery->pub.queue;
    struct queue_piece_range range = range_of(delivery->commit.offset, delivery->commit.size);
    const struct segment *segment = segment_find(&queue->wal.segments, delivery->commit.segment);
    assert(segment);
    delivery->envelope = aligned_alloc(STORAGE_BLOCK, range.size);
    if (!delivery->envelope) {
        delivery_fail(delivery);
        return;
    }
    delivery->envelope_skip = (uint32_t)range.skip;
    delivery->read.done = envelope_read;
    queue->operations++;
    queue->envelope_reads++;
    queue->wal.storage->methods->read(queue->wal.storage, &delivery->read, segment->slot, range.offset,
                                      delivery->envelope, range.size);
}

static struct delivery *delivery_new(struct queue *queue, struct entry *head, uint32_t recipients_max,
                                     queue_match *match, void *context)
{
    uint32_t count = choose_entries(head, recipients_max, match, context, NULL);
    struct delivery *delivery = memory_alloc(&queue->memory, delivery_size(count));
    if (!delivery)
        return NULL;
    *delivery = (struct delivery){
        .pub = {.queue = queue,
                .id = head->message->id,
                .arrival_ms = head->message->arrival_ms,
                .attempt = head->attempts + 1,
                .is_owed = head->pending == 0},
        .commit = head->message->commit,
        .entry_count = count,
        .context = context,
    };
    choose_entries(head, recipients_max, match, context, delivery->entries);
    for (uint32_t i = 0; i < count; i++) {
        lane_remove(delivery->entries[i].entry);
        delivery->entries[i].entry->state = ENTRY_OUT;
    }
    head->message->out += count;
    queue->deliveries++;
    return delivery;
}

bool queue_take(struct queue_lane *lane, uint32_t recipients_max, queue_match *match, queue_taken *taken,
                void *context)
{
    struct queue *queue = lane->queue;
    struct entry *head = lane_first(lane);
    struct delivery *delivery = head ? delivery_new(queue, head, recipients_max, match, context) : NULL;
    if (!delivery)
        return false;
    delivery->taken = taken;
    const void *payload = wal_resident(&queue->wal, &delivery->commit);
    if (!payload) {
        envelope_load(delivery);
        return true;
    }
    bool whole = commit_parse(payload, delivery->commit.size, &delivery->view);
    assert(whole);
    wal_pin(&queue->wal, &delivery->commit);
    delivery_ready(delivery);
    return true;
}

/* --- Reading back --- */

struct queue_piece_range queue_piece_range(const struct queue_piece *piece)
{
    return range_of(piece->offset, piece->size);
}

bool queue_piece_check(const struct queue_piece *piece, const void *content)
{
#if defined(PLANT_SKIP_CRC)
    (void)piece;
    (void)content;
    return true;
#else
    return crc32c(0, content, piece->size) == piece->crc;
#endif
}
