/* Recovery: reads the segments and fills the shard. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "queue/recovery_inner.h"

enum { SLOTS_MAX = 1 << 20, TAIL_LOOK = 2, SPARES_KEPT = 4 };

/* --- Which slots hold what --- */

static bool all_zero(const uint8_t *bytes, size_t size)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

/* The first block does not check (R6): the slot is known by the newest batch in it. */
static int candidate_search(struct recovery *r, struct candidate *candidate)
{
    uint64_t size = r->queue->wal.storage->segment_size;
    for (uint64_t offset = 0; offset < size; offset += STORAGE_BLOCK) {
        int error = recovery_load_page(r, candidate->slot, offset);
        if (error)
            return error;
        const struct format_batch *batch = recovery_batch_here(r, offset);
        if (!batch)
            continue;
        int32_t newer = candidate->known ? (int32_t)(batch->segment - candidate->first.segment) : 1;
        if (newer > 0 || (newer == 0 && batch->number > candidate->first.number))
            candidate->first = *batch;
        candidate->known = true;
        candidate->searched = true;
    }
    return 0;
}

static int candidate_look(struct recovery *r, struct candidate *candidate)
{
    int error = recovery_load_page(r, candidate->slot, 0);
    if (error)
        return error;
    const struct format_batch *batch = recovery_batch_here(r, 0);
    if (batch) {
        candidate->known = true;
        candidate->first = *batch;
        return 0;
    }
    return all_zero(r->page, STORAGE_BLOCK) ? 0 : candidate_search(r, candidate);
}

static int by_sequence(const void *a, const void *b)
{
    const struct candidate *x = a;
    const struct candidate *y = b;
    if (x->first.segment != y->first.segment)
        return x->first.segment > y->first.segment ? 1 : -1;
    /* R13: the slot that was taken for a blank one is the latter. */
    return x->searched - y->searched;
}

/* Keeps those of the log that the newest segment belongs to; slots that hold nothing are to be prepared anew.
 */
static int candidates_sort(struct recovery *r)
{
    struct segment_table *segments = &r->queue->wal.segments;
    const struct candidate *newest = NULL;
    for (uint32_t i = 0; i < r->candidate_count; i++)
        if (r->candidates[i].known && (!newest || newest->first.segment < r->candidates[i].first.segment))
            newest = &r->candidates[i];
    uint64_t identity = newest ? newest->first.log : 0;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < r->candidate_count; i++) {
        struct candidate candidate = r->candidates[i];
        if (candidate.known && candidate.first.log == identity) {
            if (candidate.first.version > FORMAT_VERSION || candidate.first.version < FORMAT_VERSION_OLDEST ||
                candidate.first.page_size != r->queue->options.page_size)
                return -EPROTO;
            r->candidates[kept++] = candidate;
            continue;
        }
        r->found->foreign_slots++;
        if (candidate.known)
            continue; /* R11: somebody else's mail: left alone */
        int error = segment_add_hole(segments, candidate.slot);
        if (error)
            return error;
    }
    r->candidate_count = kept;
    r->queue->wal.identity = identity;
    qsort(r->candidates, kept, sizeof(r->candidates[0]), by_sequence);
    return 0;
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Numbers below the highest that no slot has can be used again. */
static int holes_find(struct recovery *r, uint32_t *slots, uint32_t count)
{
    struct segment_table *segments = &r->queue->wal.segments;
    qsort(slots, count, sizeof(*slots), by_number);
    for (uint32_t i = 0; i < count; i++) {
        while (segments->slot_count < slots[i]) {
            int error = segment_add_hole(segments, segments->slot_count++);
            if (error)
                return error;
        }
        segments->slot_count = slots[i] + 1;
    }
    return 0;
}

static int candidates_find(struct recovery *r)
{
    struct storage *storage = r->queue->wal.storage;
    uint32_t *slots = calloc(SLOTS_MAX, sizeof(*slots));
    if (!slots)
        return -ENOMEM;
    int count = storage->methods->list(storage, slots, SLOTS_MAX);
    int error = count < 0 ? count : 0;
    r->candidates = calloc(count > 0 ? (size_t)count : 1, sizeof(r->candidates[0]));
    if (!r->candidates)
        error = -ENOMEM;
    for (int i = 0; !error && i < count; i++) {
        r->candidates[i].slot = slots[i];
        error = candidate_look(r, &r->candidates[i]);
        r->candidate_count++;
    }
    if (!error)
        error = holes_find(r, slots, (uint32_t)count);
    free(slots);
    return error ? error : candidates_sort(r);
}

/* --- The whole --- */

/* The newest batches know the tail best. */
static int tail_find(struct recovery *r)
{
    uint32_t look = r->candidate_count < TAIL_LOOK ? r->candidate_count : TAIL_LOOK;
    r->tail = r->candidates[r->candidate_count - 1].first.tail;
    for (uint32_t i = r->candidate_count - look; i < r->candidate_count; i++) {
        const struct candidate *candidate = &r->candidates[i];
        for (uint64_t offset = 0; offset < r->queue->wal.storage->segment_size; offset += STORAGE_BLOCK) {
            int error = recovery_load_page(r, candidate->slot, offset);
            if (error)
                return error;
            const struct format_batch *batch = recovery_batch_here(r, offset);
            if (!batch || batch->segment != candidate->first.segment || batch->life != candidate->first.life)
                continue;
            if (batch->number > r->last_number)
                r->last_number = batch->number;
            if ((int32_t)(batch->tail - r->tail) > 0)
                r->tail = batch->tail;
        }
    }
    return 0;
}

/* Of the slots before the tail a few are kept to be written again. */
static int spares_trim(struct recovery *r)
{
    struct segment_table *segments = &r->queue->wal.segments;
    while (segments->spare_count > SPARES_KEPT) {
        uint32_t slot = segments->spare[--segments->spare_count];
        (void)segments->storage->methods->discard(segments->storage, slot);
        int error = segment_add_hole(segments, slot);
        if (error)
            return error;
    }
    return 0;
}

/* Places all live segments, with an empty one for each that is missing (R7), before any is read: commits
 * refer to content in segments before theirs. */
static int segments_place(struct recovery *r)
{
    struct segment_table *segments = &r->queue->wal.segments;
    uint32_t newest = r->candidates[r->candidate_count - 1].first.segment;
    uint32_t next = 0;
    segments->next_sequence = r->tail;
    while ((int32_t)(newest - segments->next_sequence) >= 0) {
        while (next < r->candidate_count &&
               (int32_t)(r->candidates[next].first.segment - segments->next_sequence) < 0) {
            r->found->stale_segments++; /* R10 */
            int error = segment_add_spare(segments, r->candidates[next++].slot);
            if (error)
                return error;
        }
        bool there = r->candidates[next].first.segment == segments->next_sequence;
        struct segment *segment = segment_push(segments, there ? r->candidates[next].slot : SEGMENT_NO_SLOT);
        if (!segment)
            return -ENOMEM;
        segment->sealed = true;
        segment->previous = there ? r->candidates[next].first.previous : 0;
        segment->life = there ? r->candidates[next].first.life : 0;
        next += there;
    }
    for (; next < r->candidate_count; next++) {
        r->found->stale_segments++; /* R13 */
        int error = segment_add_spare(segments, r->candidates[next].slot);
        if (error)
            return error;
    }
    return 0;
}

/* Segments from the tail on are missing, and the first one that is there names `previous` as the last good
 * batch before it. If that batch lies in what is left of the segments before the tail, nothing was
 * acknowledged in between. */
static bool lies_before_tail(struct recovery *r, uint64_t previous)
{
    for (uint32_t i = 0; i < r->candidate_count; i++) {
        const struct candidate *candidate = &r->candidates[i];
        if ((int32_t)(candidate->first.segment - r->queue->wal.segments.segments[0]->sequence) >= 0)
            break;
        for (uint64_t offset = 0; offset < r->queue->wal.storage->segment_size; offset += STORAGE_BLOCK) {
            if (recovery_load_page(r, candidate->slot, offset) < 0)
                break;
            const struct format_batch *batch = recovery_batch_here(r, offset);
            if (batch && batch->number == previous)
                return true;
        }
    }
    return previous == 0;
}

/* The number of the last good batch before the next segment that is there; 0: there is none. */
static uint64_t previous_of_next(const struct segment_table *segments, uint32_t index)
{
    for (uint32_t i = index + 1; i < segments->count; i++)
        if (segments->segments[i]->slot != SEGMENT_NO_SLOT)
            return segments->segments[i]->previous;
    return 0;
}

static int segments_read(struct recovery *r)
{
    struct segment_table *segments = &r->queue->wal.segments;
    uint32_t gap = 0;
    for (uint32_t i = 0; i < segments->count; i++) {
        const struct segment *segment = segments->segments[i];
        if (segment->slot == SEGMENT_NO_SLOT) {
            gap++;
            continue;
        }
        /* R7: batches that were acknowledged lay in between; else the gap's only writes failed. */
        bool missing = segment->previous > r->queue->wal.durable;
        if (missing && i == gap)
            missing = !lies_before_tail(r, segment->previous);
        if (gap > 0 && missing)
            r->found->missing_segments += gap;
        gap = 0;
        uint64_t known = i + 1 < segments->count ? segments->segments[i + 1]->previous : 0;
        int error = recovery_read_segment(r, segment, known, previous_of_next(segments, i));
        if (error)
            return error;
    }
    return 0;
}

static int messages_admit(struct recovery *r)
{
    struct queue *queue = r->queue;
    int error = 0;
    for (uint64_t i = 0; i < r->table_size; i++) {
        struct message *message = r->table[i];
        if (!message)
            continue;
        for (uint32_t e = 0; e < message->entry_count; e++) {
            struct entry *entry = &message->entries[e];
            if (entry_left(entry) == 0) {
                entry_place(queue, entry, false);
                message->active--;
            } else if (entry->due_ms > queue->now_ms) {
                message->active--;
            }
        }
        if (message->left == 0) {
            message_free(queue, message);
            continue;
        }
        struct segment *oldest = message->holder.segment;
        segment_unhold(&message->holder);
        queue_admit(queue, message, oldest);
        r->found->messages++;
    }
    r->found->recipients = queue->recipients;
    return error;
}

static int recover(struct recovery *r)
{
    struct queue *queue = r->queue;
    r->page = aligned_alloc(STORAGE_BLOCK, queue->options.page_size);
    if (!r->page)
        return -ENOMEM;
    int error = candidates_find(r);
    if (error || r->candidate_count == 0)
        return error;
    error = tail_find(r);
    if (!error)
        error = segments_place(r);
    if (!error)
        error = segments_read(r);
    if (!error)
        error = spares_trim(r);
    return error ? error : messages_admit(r);
}

int queue_recover(struct queue *queue, struct queue_recovery *recovery)
{
    struct recovery r = {.queue = queue, .found = recovery, .page_offset = UINT64_MAX};
    const struct queue_callbacks *callbacks = queue->options.callbacks;
    *recovery = (struct queue_recovery){0};
    queue->options.callbacks = NULL;
    int error = recover(&r);
    queue->options.callbacks = callbacks;
    queue->announce = true;
    free(r.page);
    free(r.candidates);
    free(r.table);
    struct wal *wal = &queue->wal;
    uint32_t seconds = (uint32_t)(queue->now_ms / 1000);
    if (!wal->identity) {
        wal->identity = queue_random(queue) | 1;
        wal->segments.next_sequence = seconds ? seconds : 1;
    }
    wal->life =
        (uint32_t)((queue_random(queue) ^ (uint64_t)queue->now_ms) * UINT64_C(0x9fb21c651e98df25) >> 32);
    wal->next_number = r.last_number + 1;
    /* Ids count up from the time of the start, which keeps them apart from those before. */
    queue->next_id =
        (uint64_t)queue->options.shard << 56 | ((uint64_t)queue->now_ms << 14 & ~(UINT64_C(0xff) << 56));
    if (queue->next_id <= r.highest_id)
        queue->next_id = r.highest_id + 1;
    return error;
}
