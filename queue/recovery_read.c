/* Recovery: the batches of a segment, whole, torn or damaged. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "queue/recovery_inner.h"

/* --- Reading --- */

int recovery_load_page(struct recovery *r, uint32_t slot, uint64_t offset)
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

const struct format_batch *recovery_batch_here(struct recovery *r, uint64_t offset)
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

bool recovery_batch_is_of(const struct format_batch *batch, const struct segment *segment)
{
    return batch->segment == segment->sequence && batch->life == segment->life;
}

/* --- Batches --- */

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
        int error = recovery_replay(r, record, batch->segment, offset + at);
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
    bool whole = false; /* the records that the next may belong to are all there */
    for (uint64_t offset = begin; offset < end;) {
        int error = recovery_load_page(r, segment->slot, offset);
        if (error)
            return error;
        uint32_t at = (uint32_t)(offset % page_size);
        const struct format_record *record = (const struct format_record *)(const void *)(r->page + at);
        uint64_t space = end - offset < page_size - at ? end - offset : page_size - at;
        if (!format_record_check(record, (uint32_t)space, format_seed(segment->sequence, segment->life))) {
            r->found->damaged_records += gap;
            gap = false;
            whole = false;
            offset += FORMAT_ALIGN;
            continue;
        }
        gap = true;
        whole = whole || !(record->flags & FORMAT_TOGETHER);
        /* Somebody may be told twice rather than never. */
        if (whole || record->type != FORMAT_SETTLE)
            error = recovery_replay(r, record, segment->sequence, offset);
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
        int error = recovery_load_page(r, segment->slot, offset);
        if (error)
            return error;
        const struct format_batch *batch = recovery_batch_here(r, offset);
        if (!batch || !recovery_batch_is_of(batch, segment) || batch->number < expected)
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
    const struct format_batch *batch = recovery_batch_here(r, offset);
    if (!batch || !recovery_batch_is_of(batch, segment) || (expected && batch->number != expected))
        return NULL;
    return records_check(batch) ? batch : NULL;
}

struct reader {
    uint64_t offset;
    uint64_t expected; /* number of the next batch; 0: any */
    uint64_t known;    /* numbers up to this one were acknowledged, the next segment says */
    uint64_t last;     /* the log went on elsewhere behind this one; 0: not known */
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
        error = recovery_load_page(r, segment->slot, reader->offset);
        if (error)
            return error;
        const struct format_batch *batch = recovery_batch_here(r, reader->offset);
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
        int error = recovery_load_page(r, segment->slot, places[i]);
        if (error)
            return error;
        const struct format_batch *batch = batch_expected(r, segment, places[i], reader->expected);
        if (!batch)
            continue;
        if (reader->last && batch->number > reader->last) {
            reader->ended = true; /* R4: its write failed, and yet it is there */
            return 0;
        }
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

int recovery_read_segment(struct recovery *r, const struct segment *segment, uint64_t known, uint64_t last)
{
    struct reader reader = {.known = known, .last = last};
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
