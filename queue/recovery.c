/* Recovery: reads the segments and fills the shard. The cases and what is decided in each stand in the table
 * of queue/README.md; the labels there (R1 …) are those of the comments here. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "queue/shard.h"

enum { SLOTS_MAX = 1 << 20, TAIL_LOOK = 2, SPARES_KEPT = 4 };

struct candidate {
    uint32_t slot;
    bool known; /* `first` is a valid header, though perhaps not of the slot's first batch */
    struct format_batch first;
};

struct recovery {
    struct queue *queue;
    struct queue_recovery *found;
    struct candidate *candidates; /* in order of sequence, those of this log only, after sorting */
    uint32_t candidate_count;
    uint8_t *page; /* one page of the segment being read */
    uint32_t page_slot;
    uint64_t page_offset;   /* UINT64_MAX: none */
    uint32_t page_valid;    /* bytes */
    struct message **table; /* by id; open addressing */
    uint64_t table_size;
    uint64_t table_used;
    uint32_t tail;
    uint64_t last_number; /* highest batch number seen */
    uint64_t highest_id;
};

/* --- Reading
 * ----------------------------------------------------------------------------------------------------- */

static int load_page(struct recovery *r, uint32_t slot, uint64_t offset)
{
    struct storage *storage = r->queue->wal.storage;
    uint32_t page_size = r->queue->options.page_size;
    uint64_t begin = offset - offset % page_size;
    if (r->page_slot == slot && r->page_offset == begin)
        return 0;
    int64_t got = storage->methods->load(storage, slot, begin, r->page, page_size);
    r->page_offset = UINT64_MAX;
    if (got < 0)
        return (int)got;
    memset(r->page + got, 0, page_size - (size_t)got);
    r->page_slot = slot;
    r->page_offset = begin;
    r->found->bytes += (uint64_t)got;
    return 0;
}

/* The batch header at this offset, if it checks and is of this log. The page is loaded. */
static const struct format_batch *batch_here(struct recovery *r, uint64_t offset)
{
    uint32_t page_size = r->queue->options.page_size;
    uint32_t at = (uint32_t)(offset % page_size);
    const struct format_batch *batch = (const struct format_batch *)(const void *)(r->page + at);
    if (!format_batch_check(batch) || batch->size > page_size - at)
        return NULL;
    if (r->queue->wal.identity && batch->log != r->queue->wal.identity)
        return NULL;
    return batch;
}

/* A slot that is used again may hold batches of a segment with the same number, begun in a life whose first
 * write to it did not survive. */
static bool batch_is_of(const struct format_batch *batch, const struct segment *segment)
{
    return batch->segment == segment->sequence && batch->life == segment->life;
}

/* --- Which slots hold what
 * --------------------------------------------------------------------------------------- */

static bool all_zero(const uint8_t *bytes, size_t size)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

/* The first block does not check (R6): the slot is known by the newest batch in it. */
static int candidate_search(struct recovery *r, struct candidate *candidate)
{
    uint64_t size = r->queue->wal.storage->segment_size;
    for (uint64_t offset = 0; offset < size; offset += STORAGE_BLOCK) {
        int error = load_page(r, candidate->slot, offset);
        if (error)
            return error;
        const struct format_batch *batch = batch_here(r, offset);
        if (!batch)
            continue;
        int32_t newer = candidate->known ? (int32_t)(batch->segment - candidate->first.segment) : 1;
        if (newer > 0 || (newer == 0 && batch->number > candidate->first.number))
            candidate->first = *batch;
        candidate->known = true;
    }
    return 0;
}

static int candidate_look(struct recovery *r, struct candidate *candidate)
{
    int error = load_page(r, candidate->slot, 0);
    if (error)
        return error;
    const struct format_batch *batch = batch_here(r, 0);
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
    return (x->first.segment > y->first.segment) - (x->first.segment < y->first.segment);
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
            if (candidate.first.version != FORMAT_VERSION ||
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

/* --- Messages by id
 * ---------------------------------------------------------------------------------------------- */

static uint64_t table_slot(const struct recovery *r, uint64_t id)
{
    uint64_t at = (id * UINT64_C(0x9e3779b97f4a7c15)) >> 20;
    for (;; at++) {
        at &= r->table_size - 1;
        if (!r->table[at] || r->table[at]->id == id)
            return at;
    }
}

static int table_reserve(struct recovery *r)
{
    if (r->table_used * 2 < r->table_size)
        return 0;
    struct message **old = r->table;
    uint64_t old_size = r->table_size;
    r->table_size = old_size ? 2 * old_size : 1024;
    r->table = calloc(r->table_size, sizeof(*r->table));
    if (!r->table) {
        r->table = old;
        r->table_size = old_size;
        return -ENOMEM;
    }
    for (uint64_t i = 0; i < old_size; i++)
        if (old[i])
            r->table[table_slot(r, old[i]->id)] = old[i];
    free(old);
    return 0;
}

static struct message *table_find(const struct recovery *r, uint64_t id)
{
    return r->table_size ? r->table[table_slot(r, id)] : NULL;
}

/* --- Replaying
 * --------------------------------------------------------------------------------------------------- */

/* A later commit of the same message is its copy: it takes the place of the first. */
static void message_unlist(struct recovery *r, struct message *message)
{
    uint64_t hole = table_slot(r, message->id);
    assert(r->table[hole] == message);
    r->table[hole] = NULL;
    r->table_used--;
    for (uint64_t at = (hole + 1) & (r->table_size - 1); r->table[at]; at = (at + 1) & (r->table_size - 1)) {
        struct message *moved = r->table[at];
        r->table[at] = NULL;
        r->table[table_slot(r, moved->id)] = moved;
    }
}

static int replay_commit(struct recovery *r, const struct format_record *record,
                         const struct format_piece *where)
{
    struct commit_view view;
    if (!commit_parse(record + 1, record->size, &view)) {
        r->found->damaged_records++;
        return 0;
    }
    int error = table_reserve(r);
    if (error)
        return error;
    struct queue_envelope envelope = {view.meta, view.head.meta_size, view.recipients,
                                      view.head.recipients_size, view.head.recipient_count};
    struct message *former = table_find(r, record->id);
    if (former) {
        message_unlist(r, former);
        message_free(r->queue, former);
    }
    /* R12: content before the tail: it was settled, and only the outcome is lost. */
    uint32_t first = r->queue->wal.segments.segments[0]->sequence;
    if ((int32_t)(commit_oldest_segment(&view, where->segment) - first) < 0) {
        r->found->orphans++;
        return 0;
    }
    struct message *message = message_new(r->queue, record->id, &envelope, &error);
    if (!message && error == -EBADMSG)
        r->found->damaged_records++;
    if (!message)
        return error == -EBADMSG ? 0 : error;
    message->arrival_ms = view.head.arrival_ms;
    message->commit = *where;
    message->log_bytes = commit_log_bytes(&view, record->size);
    /* R8: content in a segment that is gone; found again, as damage, when it is to be delivered */
    struct segment_table *segments = &r->queue->wal.segments;
    struct segment *oldest = segment_find(segments, commit_oldest_segment(&view, where->segment));
    segment_hold(oldest ? oldest : segments->segments[0], &message->holder, false);
    r->table[table_slot(r, record->id)] = message;
    r->table_used++;
    if (record->id > r->highest_id)
        r->highest_id = record->id;
    return 0;
}

/* The outcome may have been recorded when entries were cut otherwise: it counts for each entry that it
 * overlaps. */
static bool settle_entry(struct entry *entry, const struct format_settle *settle)
{
    uint64_t done = 0;
    bool overlaps = false;
    for (uint32_t bit = 0; bit < entry->count; bit++) {
        uint32_t index = entry->first + bit - settle->first;
        if (entry->first + bit < settle->first || index >= settle->count)
            continue;
        overlaps = true;
        done |= (settle->done >> index & 1) << bit;
    }
    if (!overlaps)
        return false;
    entry->pending &= ~done;
    /* Of outcomes that are now about one entry, the latest time counts: nobody is tried before it is due. */
    if (entry->due_ms < settle->due_ms)
        entry->due_ms = settle->due_ms;
    if (entry->attempts < settle->attempt)
        entry->attempts = settle->attempt;
    return true;
}

static void replay_settle(struct recovery *r, const struct format_record *record)
{
    struct format_settle settle;
    if (record->size != sizeof(settle)) {
        r->found->damaged_records++;
        return;
    }
    memcpy(&settle, record + 1, sizeof(settle));
    if (settle.count > ENTRY_RECIPIENTS_MAX) {
        r->found->damaged_records++;
        return;
    }
    struct message *message = table_find(r, record->id);
    bool any = false;
    for (uint32_t i = 0; message && i < message->entry_count; i++)
        any |= settle_entry(&message->entries[i], &settle);
    r->found->orphans += !any; /* R9: its message was settled or moved before the tail */
}

static int replay_record(struct recovery *r, const struct format_record *record, uint32_t sequence,
                         uint64_t offset)
{
    struct format_piece where = {sequence, (uint32_t)(offset + sizeof(*record)), record->size,
                                 record->payload_crc};
    if (record->type == FORMAT_COMMIT)
        return replay_commit(r, record, &where);
    if (record->type == FORMAT_SETTLE)
        replay_settle(r, record);
    return 0;
}

/* --- Batches
 * ----------------------------------------------------------------------------------------------------- */

static bool records_check(const struct format_batch *batch)
{
    const uint8_t *bytes = (const uint8_t *)batch;
    uint32_t at = sizeof(*batch);
    while (at < batch->size) {
        const struct format_record *record = (const struct format_record *)(const void *)(bytes + at);
        if (!format_record_check(record, batch->size - at, format_seed(batch->segment, batch->life)))
            return false;
        at += format_record_size(record->size);
    }
    return at == batch->size;
}

static int replay_batch(struct recovery *r, const struct format_batch *batch, uint64_t offset)
{
    const uint8_t *bytes = (const uint8_t *)batch;
    for (uint32_t at = sizeof(*batch); at < batch->size;) {
        const struct format_record *record = (const struct format_record *)(const void *)(bytes + at);
        int error = replay_record(r, record, batch->segment, offset + at);
        if (error)
            return error;
        at += format_record_size(record->size);
    }
    r->found->batches++;
    if ((int32_t)(batch->tail - r->tail) > 0)
        r->tail = batch->tail;
    return 0;
}

/* R5: an acknowledged batch does not check. What does check of its records counts; they are looked for at
 * every place where one can begin, up to `end`. */
static int salvage(struct recovery *r, const struct segment *segment, uint64_t begin, uint64_t end)
{
    uint32_t page_size = r->queue->options.page_size;
    bool gap = true;
    for (uint64_t offset = begin; offset < end;) {
        int error = load_page(r, segment->slot, offset);
        if (error)
            return error;
        uint32_t at = (uint32_t)(offset % page_size);
        const struct format_record *record = (const struct format_record *)(const void *)(r->page + at);
        uint64_t space = end - offset < page_size - at ? end - offset : page_size - at;
        if (!format_record_check(record, (uint32_t)space, format_seed(segment->sequence, segment->life))) {
            r->found->damaged_records += gap;
            gap = false;
            offset += FORMAT_ALIGN;
            continue;
        }
        gap = true;
        error = replay_record(r, record, segment->sequence, offset);
        if (error)
            return error;
        offset += format_record_size(record->size);
    }
    return 0;
}

struct next_batch {
    uint64_t offset; /* of the next batch after the bad place, or the segment's size */
    uint64_t number;
    uint64_t acknowledged; /* the highest number that a batch after the bad place says was durable */
};

static int look_ahead(struct recovery *r, const struct segment *segment, uint64_t offset, uint64_t expected,
                      struct next_batch *next)
{
    uint64_t size = r->queue->wal.storage->segment_size;
    *next = (struct next_batch){.offset = size};
    for (; offset < size; offset += STORAGE_BLOCK) {
        int error = load_page(r, segment->slot, offset);
        if (error)
            return error;
        const struct format_batch *batch = batch_here(r, offset);
        if (!batch || !batch_is_of(batch, segment) || batch->number < expected)
            continue;
        if (next->offset == size) {
            next->offset = offset;
            next->number = batch->number;
        }
        if (batch->durable > next->acknowledged)
            next->acknowledged = batch->durable;
    }
    return 0;
}

/* The batch expected here, if it stands here whole. */
static const struct format_batch *batch_expected(struct recovery *r, const struct segment *segment,
                                                 uint64_t offset, uint64_t expected)
{
    const struct format_batch *batch = batch_here(r, offset);
    if (!batch || !batch_is_of(batch, segment) || (expected && batch->number != expected))
        return NULL;
    return records_check(batch) ? batch : NULL;
}

struct reader {
    uint64_t offset;
    uint64_t expected; /* number of the next batch; 0: any */
    uint64_t known;    /* numbers up to this one were acknowledged, the next segment says */
    bool ended;
};

/* Nothing whole stands where the next batch should be: the end, or damage. */
static int reader_trouble(struct recovery *r, const struct segment *segment, struct reader *reader)
{
    struct next_batch next;
    int error = look_ahead(r, segment, reader->offset, reader->expected, &next);
    if (error)
        return error;
    uint64_t acknowledged = next.acknowledged > reader->known ? next.acknowledged : reader->known;
    uint64_t before = segment->previous > r->queue->wal.durable ? segment->previous : r->queue->wal.durable;
    uint64_t lowest = reader->expected ? reader->expected : before + 1;
    if (next.offset > reader->offset && next.number == reader->expected && reader->expected) {
        reader->offset = next.offset; /* there is just a gap */
        return 0;
    }
    if (acknowledged < lowest) {
        /* R2: the end; R3: the last writes were cut short; R4: a failed write, after which the log went on
         * elsewhere */
        r->found->torn_tails += next.offset < r->queue->wal.storage->segment_size;
        reader->ended = true;
        return 0;
    }
    r->found->damaged_batches++;
    uint64_t end = next.offset;
    if (next.offset == reader->offset) {
        /* its own header is whole: its records are not */
        error = load_page(r, segment->slot, reader->offset);
        if (error)
            return error;
        const struct format_batch *batch = batch_here(r, reader->offset);
        assert(batch); /* look_ahead found it */
        end = reader->offset + format_align(batch->size, STORAGE_BLOCK);
        next.number++;
    }
    error = salvage(r, segment, reader->offset, end);
    reader->offset = end;
    reader->expected = next.offset == r->queue->wal.storage->segment_size ? 0 : next.number;
    reader->ended = end == r->queue->wal.storage->segment_size;
    return error;
}

static int read_batch(struct recovery *r, const struct segment *segment, struct reader *reader)
{
    uint32_t page_size = r->queue->options.page_size;
    uint64_t places[2] = {reader->offset, format_align(reader->offset, page_size)};
    for (int i = 0; i < 2 && places[i] < r->queue->wal.storage->segment_size; i++) {
        int error = load_page(r, segment->slot, places[i]);
        if (error)
            return error;
        const struct format_batch *batch = batch_expected(r, segment, places[i], reader->expected);
        if (!batch)
            continue;
        reader->offset = places[i] + format_align(batch->size, STORAGE_BLOCK);
        reader->expected = batch->number + 1;
        r->queue->wal.durable = batch->number;
        if (batch->number > r->last_number)
            r->last_number = batch->number;
        return replay_batch(r, batch, places[i]);
    }
    if (reader->expected && reader->known && reader->expected > reader->known) {
        reader->ended = true; /* R2, R4 */
        return 0;
    }
    return reader_trouble(r, segment, reader);
}

static int read_segment(struct recovery *r, const struct segment *segment, uint64_t known)
{
    struct reader reader = {.known = known};
    r->found->segments++;
    while (!reader.ended && reader.offset < r->queue->wal.storage->segment_size) {
        int error = read_batch(r, segment, &reader);
        if (error)
            return error;
    }
    if (known > r->queue->wal.durable)
        r->queue->wal.durable = known;
    return 0;
}

/* --- The whole
 * --------------------------------------------------------------------------------------------------- */

/* The newest batches know the tail best. */
static int tail_find(struct recovery *r)
{
    uint32_t look = r->candidate_count < TAIL_LOOK ? r->candidate_count : TAIL_LOOK;
    r->tail = r->candidates[r->candidate_count - 1].first.tail;
    for (uint32_t i = r->candidate_count - look; i < r->candidate_count; i++) {
        const struct candidate *candidate = &r->candidates[i];
        for (uint64_t offset = 0; offset < r->queue->wal.storage->segment_size; offset += STORAGE_BLOCK) {
            int error = load_page(r, candidate->slot, offset);
            if (error)
                return error;
            const struct format_batch *batch = batch_here(r, offset);
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
            if (load_page(r, candidate->slot, offset) < 0)
                break;
            const struct format_batch *batch = batch_here(r, offset);
            if (batch && batch->number == previous)
                return true;
        }
    }
    return previous == 0;
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
        int error = read_segment(r, segment, known);
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
            if (entry->pending == 0) {
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
