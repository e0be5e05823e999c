/* Batches on their way to disk, and what becomes of those that wait for them. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "queue/wal_inner.h"

enum {
    RETRY_US = 1000000, /* pause after a disk error */
    SPARE_MAX = 6,
};

/* The simulator's planted bugs: builds that must be caught. */
#if defined(PLANT_SKIP_SYNC)
static bool plant_durable(uint64_t number)
{
    return number % 64 != 0;
}
#else
static bool plant_durable(uint64_t number)
{
    (void)number;
    return true;
}
#endif

struct wal_batch *wal_batch_at(struct wal *wal, uint32_t index)
{
    return &wal->batches[(wal->batch_first + index) % WAL_BATCHES];
}

void wal_page_leave(struct wal *wal)
{
    if (!wal->page)
        return;
    struct page *page = wal->page;
    wal->page = NULL;
    page_seal(&wal->pages, page);
}

void wal_body_finish(struct wal *wal)
{
    if (!wal->body)
        return;
    wal->body->header_crc = format_record_crc(wal->body, wal_seed(wal));
    wal->body = NULL;
}

static void batch_seal(struct wal *wal, struct wal_batch *batch)
{
    struct format_batch *header = (struct format_batch *)(void *)wal_batch_bytes(batch);
    uint32_t padded = (uint32_t)format_align(batch->used, STORAGE_BLOCK);
    memset(wal_batch_bytes(batch) + batch->used, 0, padded - batch->used);
    segment_release(&wal->segments);
    /* A tail that moved because of outcomes which are not in the log yet must not be named. */
    batch->tail = wal->unlogged_count == 0 ? segment_tail_sequence(&wal->segments)
                                           : wal->segments.segments[0]->sequence;
    *header = (struct format_batch){
        .magic = FORMAT_MAGIC,
        .log = wal->identity,
        .number = batch->number,
        .durable = wal->durable,
        .previous = batch->page->segment->previous,
        .segment = batch->page->segment->sequence,
        .tail = batch->tail,
        .size = batch->used,
        .version = FORMAT_VERSION,
        .shard = (uint16_t)wal->shard,
        .page_size = wal->pages.page_size,
        .life = batch->page->segment->life,
    };
    header->crc = format_batch_crc(header);
#if defined(PLANT_REUSE_EARLY)
    segment_recycle(&wal->segments, batch->tail, SPARE_MAX);
#endif
}

static void batch_written(struct storage_op *op, int32_t result);

void wal_batch_submit(struct wal *wal)
{
    struct wal_batch *batch = wal->batch;
    assert(batch && batch->state == WAL_BATCH_OPEN && batch->used > sizeof(struct format_batch));
    wal_body_finish(wal);
    batch_seal(wal, batch);
    uint32_t padded = (uint32_t)format_align(batch->used, STORAGE_BLOCK);
    uint64_t offset = (uint64_t)batch->page->index * wal->pages.page_size + batch->begin;
    wal->offset = (uint32_t)(offset + padded);
    wal->batch = NULL;
    batch->state = WAL_BATCH_WRITING;
    batch->submitted_us = wal->now_us;
    batch->page->pins++;
    batch->op.done = batch_written;
    wal->write_bytes += padded;
#if defined(PLANT_EARLY_ACK)
    for (struct wal_waiter *waiter = batch->first, *next; waiter; waiter = next) {
        next = waiter->next;
        waiter->done(waiter, 0);
    }
    batch->first = NULL;
    batch->last = &batch->first;
#endif
    wal->storage->methods->write(wal->storage, &batch->op, batch->page->segment->slot, offset,
                                 wal_batch_bytes(batch), padded, plant_durable(batch->number));
}

void wal_segment_leave(struct wal *wal)
{
    wal_page_leave(wal);
    if (!wal->segment)
        return;
    wal->segment->sealed = true;
    wal->segment = NULL;
}

/* The batch leaves the FIFO before its waiters hear of it, since they may append. */
static struct wal_waiter *batch_pop(struct wal *wal, struct wal_batch *batch)
{
    assert(batch == wal_batch_at(wal, 0));
    struct wal_waiter *first = batch->first;
    batch->first = NULL;
    wal->batch_first = (wal->batch_first + 1) % WAL_BATCHES;
    wal->batch_count--;
    return first;
}

static void waiters_tell(struct wal_waiter *waiter, int error)
{
    while (waiter) {
        struct wal_waiter *next = waiter->next;
        waiter->done(waiter, error);
        waiter = next;
    }
}

void wal_cancel(struct wal *wal)
{
    wal->batch = NULL;
    while (wal->batch_count > 0)
        waiters_tell(batch_pop(wal, wal_batch_at(wal, 0)), -ECANCELED);
}

void wal_unlogged_add(struct wal *wal, uint64_t id, const struct format_settle *settle)
{
    if (wal->unlogged_count == wal->unlogged_capacity) {
        uint32_t more = wal->unlogged_capacity ? 2 * wal->unlogged_capacity : 64;
        struct wal_unlogged *grown = realloc(wal->unlogged, more * sizeof(*grown));
        if (!grown)
            return; /* the outcome is lost, which may cost a duplicate after a restart, never a message */
        wal->unlogged = grown;
        wal->unlogged_capacity = more;
    }
    wal->unlogged[wal->unlogged_count++] = (struct wal_unlogged){.id = id, .settle = *settle};
}

/* Outcomes of a batch that did not reach the disk go into a later one, but for those that failed together
 * with the messages that they belong to. */
static void batch_keep_settles(struct wal *wal, const struct wal_batch *batch)
{
    const uint8_t *bytes = wal_batch_bytes(batch);
    uint32_t at = sizeof(struct format_batch);
    while (at < batch->used) {
        const struct format_record *record = (const struct format_record *)(const void *)(bytes + at);
        struct format_settle settle;
        bool alone = record->type == FORMAT_SETTLE && !(record->flags & FORMAT_TOGETHER);
        if (alone && format_settle_read(record, &settle))
            wal_unlogged_add(wal, record->id, &settle);
        at += format_record_size(record->size);
    }
    assert(at == batch->used);
}

static struct wal_waiter **waiters_append(struct wal_waiter **last, struct wal_waiter *first)
{
    *last = first;
    while (*last)
        last = &(*last)->next;
    return last;
}

/* Nothing is under way any more: the segment ends here, and what was not durable is told so. */
static void wal_fail(struct wal *wal)
{
    int error = 0;
    struct wal_waiter *told = NULL;
    struct wal_waiter **last = &told;
    /* What is in the batches is older than what was kept while they were being written. */
    struct wal_unlogged *newer = wal->unlogged;
    uint32_t newer_count = wal->unlogged_count;
    wal->unlogged = NULL;
    wal->unlogged_count = wal->unlogged_capacity = 0;
    wal_body_finish(wal);
    wal->batch = NULL;
    while (wal->batch_count > 0) {
        struct wal_batch *batch = wal_batch_at(wal, 0);
        struct page *page = batch->page;
        if (batch->error && !error)
            error = batch->error;
        batch_keep_settles(wal, batch);
        page->segment->bad = true;
        last = waiters_append(last, batch_pop(wal, batch));
        page->pins--;
        page_relax(&wal->pages, page);
    }
    for (uint32_t i = 0; i < newer_count; i++)
        wal_unlogged_add(wal, newer[i].id, &newer[i].settle);
    free(newer);
    wal_segment_leave(wal);
    wal->failing = false;
    wal->epoch++;
    wal->error = error;
    wal->retry_us = wal->now_us + RETRY_US;
    waiters_tell(told, error);
}

uint32_t wal_writing(struct wal *wal)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < wal->batch_count; i++)
        count += wal_batch_at(wal, i)->state == WAL_BATCH_WRITING;
    return count;
}

static void batch_durable(struct wal *wal, struct wal_batch *batch)
{
    struct page *page = batch->page;
    wal->durable = batch->number;
    wal->error = 0;
    uint32_t tail = batch->tail;
    struct wal_waiter *first = batch_pop(wal, batch);
    segment_recycle(&wal->segments, tail, SPARE_MAX);
    waiters_tell(first, 0);
    page->pins--;
    page_relax(&wal->pages, page);
}

static void batch_written(struct storage_op *op, int32_t result)
{
    struct wal_batch *batch = (struct wal_batch *)(void *)((char *)op - offsetof(struct wal_batch, op));
    struct wal *wal = batch->wal;
    assert(batch->state == WAL_BATCH_WRITING);
    wal->writes++;
    wal->write_us += wal->now_us > batch->submitted_us ? wal->now_us - batch->submitted_us : 0;
    if (result < 0) {
        batch->state = WAL_BATCH_FAILED;
        batch->error = result;
        wal->failing = true;
        wal->write_errors++;
    } else {
        batch->state = WAL_BATCH_WRITTEN;
    }
    while (wal->batch_count > 0 && wal_batch_at(wal, 0)->state == WAL_BATCH_WRITTEN)
        batch_durable(wal, wal_batch_at(wal, 0));
    if (!wal->failing || wal_writing(wal) > 0)
        return;
    /* The open batch needs a pin like the others before it can be given up with them. */
    if (wal->batch)
        wal->batch->page->pins++;
    wal_fail(wal);
}
