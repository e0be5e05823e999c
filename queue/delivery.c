/* Messages on their way out. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "queue/crc32c.h"
#include "queue/shard.h"

enum { REREAD_MS = 60000 /* after an envelope could not be read back */ };

struct delivery {
    struct queue_delivery pub;
    struct storage_op read;
    struct format_piece commit;
    struct commit_view view; /* points into the pinned page, or into `envelope` */
    uint8_t *envelope;       /* read back, or NULL */
    uint32_t envelope_skip;
    bool settled;
    void *arrays; /* targets and pieces */
    size_t arrays_size;
    queue_taken *taken;
    void *context;
    uint32_t entry_count;
    struct entry *entries[];
};

static struct delivery *delivery_of(struct queue_delivery *pub)
{
    return (struct delivery *)(void *)pub;
}

static size_t delivery_size(uint32_t entry_count)
{
    return sizeof(struct delivery) + entry_count * sizeof(struct entry *);
}

/* --- Taking --- */

/* Which entries ride: the first always, others of its message as far as they match and recipients_max allows.
 * Counts them when `entries` is NULL. */
static uint32_t choose_entries(struct entry *head, uint32_t recipients_max, queue_match *match, void *context,
                               struct entry **entries)
{
    struct message *message = head->message;
    uint32_t recipients = (uint32_t)__builtin_popcountll(head->pending);
    uint32_t count = 0;
    for (uint32_t i = 0; i < message->entry_count; i++) {
        struct entry *entry = &message->entries[i];
        if (entry != head) {
            uint32_t more = (uint32_t)__builtin_popcountll(entry->pending);
            if (entry->state != ENTRY_READY || recipients + more > recipients_max)
                continue;
            if (entry->lane != head->lane && (!match || !match(context, entry->lane)))
                continue;
            recipients += more;
        }
        if (entries)
            entries[count] = entry;
        count++;
    }
    return count;
}

static uint32_t delivery_recipients(const struct delivery *delivery)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < delivery->entry_count; i++)
        count += (uint32_t)__builtin_popcountll(delivery->entries[i]->pending);
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
        const struct entry *entry = delivery->entries[i];
        for (; index < entry->first + entry->count; index++) {
            whole &= recipient_next(recipients, size, &at, &view);
            if (index < entry->first || !(entry->pending >> (index - entry->first) & 1))
                continue;
            delivery->pub.targets[target++] =
                (struct queue_target){.address = view.address, .size = view.address_size, .index = index};
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
        const void *data = delivery->entries[0]->message->damaged ? NULL : wal_resident(wal, piece);
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

static void delivery_free(struct delivery *delivery)
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
        struct entry *entry = delivery->entries[i];
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
                .attempt = head->attempts + 1},
        .commit = head->message->commit,
        .entry_count = count,
        .context = context,
    };
    choose_entries(head, recipients_max, match, context, delivery->entries);
    for (uint32_t i = 0; i < count; i++) {
        lane_remove(delivery->entries[i]);
        delivery->entries[i]->state = ENTRY_OUT;
    }
    head->message->out += count;
    queue->deliveries++;
    return delivery;
}

bool queue_take(struct queue_lane *lane, uint32_t recipients_max, queue_match *match, queue_taken *taken,
                void *context)
{
    struct queue *queue = lane->queue;
    struct entry *head = TAILQ_FIRST(&lane->ready);
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

/* --- Settling --- */

static int64_t retry_delay(struct queue *queue, uint32_t attempts)
{
    const struct queue_options *options = &queue->options;
    uint32_t step = attempts - 1 < options->retry_count ? attempts - 1 : options->retry_count - 1;
    int64_t delay = options->retry_ms[step];
    int64_t spread = delay * options->retry_jitter_percent / 100;
    if (spread > 0)
        delay += (int64_t)(queue_random(queue) % (uint64_t)(2 * spread + 1)) - spread;
    return delay > 0 ? delay : 1;
}

struct entry_result {
    uint64_t done;
    bool deferred;
};

static struct entry_result entry_result(struct queue *queue, struct entry *entry,
                                        struct queue_target *targets, int64_t now_ms)
{
    struct entry_result result = {0};
    bool expired = now_ms - entry->message->arrival_ms >= queue->options.age_max_ms;
    for (uint32_t bit = 0, i = 0; bit < entry->count; bit++) {
        if (!(entry->pending >> bit & 1))
            continue;
        struct queue_target *target = &targets[i++];
        assert(target->index == entry->first + bit);
        if (target->outcome == QUEUE_DEFER && expired)
            target->outcome = QUEUE_EXPIRED;
        if (target->outcome == QUEUE_DONE || target->outcome == QUEUE_EXPIRED)
            result.done |= UINT64_C(1) << bit;
        else if (target->outcome == QUEUE_DEFER)
            result.deferred = true;
    }
    return result;
}

static void entry_defer(struct queue *queue, struct entry *entry, int64_t now_ms)
{
    entry->attempts += entry->attempts < UINT16_MAX;
    int64_t last = entry->message->arrival_ms + queue->options.age_max_ms;
    entry->due_ms = now_ms + retry_delay(queue, entry->attempts);
    if (entry->due_ms > last && last > now_ms)
        entry->due_ms = last;
}

/* Whether the entry waits for a time now. */
static bool entry_settle(struct delivery *delivery, struct entry *entry, struct queue_target *targets,
                         int64_t now_ms)
{
    struct queue *queue = delivery->pub.queue;
    struct entry_result result = entry_result(queue, entry, targets, now_ms);
    entry->pending &= ~result.done;
    queue->recipients -= (uint64_t)__builtin_popcountll(result.done);
    if (result.deferred) {
        entry_defer(queue, entry, now_ms);
        if (delivery->pub.due_ms == 0 || entry->due_ms < delivery->pub.due_ms)
            delivery->pub.due_ms = entry->due_ms;
    }
    if (!result.done && !result.deferred)
        return false;
    struct format_settle settle = entry_outcome(entry);
    wal_settle(&queue->wal, delivery->pub.id, &settle);
    return result.deferred;
}

void message_unclaim(struct queue *queue, struct message *message, const struct commit_view *view)
{
    if (!message->claimed)
        return;
    message->claimed = false;
    wal_unclaim(&queue->wal, &message->commit);
    for (uint32_t i = 0; i < view->head.piece_count; i++)
        wal_unclaim(&queue->wal, &view->pieces[i]);
}

void queue_settle(struct queue_delivery *pub, int64_t now_ms)
{
    struct delivery *delivery = delivery_of(pub);
    struct queue *queue = pub->queue;
    assert(!delivery->settled);
    delivery->settled = true;
    queue->now_ms = now_ms > queue->now_ms ? now_ms : queue->now_ms;
    struct message *message = delivery->entries[0]->message;
    struct queue_target *targets = pub->targets;
    for (uint32_t i = 0; i < delivery->entry_count; i++) {
        struct entry *entry = delivery->entries[i];
        uint32_t count = (uint32_t)__builtin_popcountll(entry->pending);
        bool deferred = entry_settle(delivery, entry, targets, now_ms);
        targets += count;
        message->out--;
        bool again = entry->pending != 0 && !deferred;
        message->active -= !again;
    }
    if (message->active == 0)
        message_unclaim(queue, message, &delivery->view);
    for (uint32_t i = 0; i < delivery->entry_count; i++)
        if (delivery->entries[i]->pending == 0)
            entry_place(queue, delivery->entries[i], false);
    if (message->left == 0) {
        queue_dismiss(queue, message);
        return;
    }
    /* Placing may call lane_ready, whose taker may take and settle at once: the message stays as long as one
     * of these entries is still to be placed. */
    for (uint32_t i = delivery->entry_count; i > 0; i--)
        if (delivery->entries[i - 1]->state == ENTRY_OUT)
            entry_place(queue, delivery->entries[i - 1], true);
}

void queue_release(struct queue_delivery *pub)
{
    struct delivery *delivery = delivery_of(pub);
    struct wal *wal = &pub->queue->wal;
    assert(delivery->settled);
    for (uint32_t i = 0; i < pub->piece_count; i++)
        if (pub->pieces[i].data)
            wal_unpin(wal, &delivery->view.pieces[i]);
    if (!delivery->envelope)
        wal_unpin(wal, &delivery->commit);
    delivery_free(delivery);
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
