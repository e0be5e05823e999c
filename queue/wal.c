#include "queue/wal.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "queue/crc32c.h"
#include "queue/wal_inner.h"

int wal_init(struct wal *wal, const struct wal_options *options)
{
    assert(options->writes_max >= 1 && options->writes_max <= WAL_BATCHES / 2);
    *wal = (struct wal){
        .storage = options->storage,
        .shard = options->shard,
        .writes_max = options->writes_max,
        .commit_delay_us = options->commit_delay_us,
        .next_number = 1,
    };
    page_pool_init(&wal->pages, options->page_size, options->pages_max);
    return segment_table_init(&wal->segments, options->storage, options->page_size);
}

void wal_deinit(struct wal *wal)
{
    assert(wal->extents_writing == 0);
    if (wal->page) {
        wal->page->pins++; /* so that sealing does not let it go yet */
        wal_page_leave(wal);
    }
    page_pool_deinit(&wal->pages);
    segment_table_deinit(&wal->segments);
    free(wal->unlogged);
}

/* --- Room --- */

static int segment_next(struct wal *wal, bool privileged)
{
    struct segment_table *segments = &wal->segments;
    uint32_t needed = privileged ? 1 : WAL_SPARE_WANTED;
    while (segments->prepare_error != 0 && segments->spare_count < needed && segment_steal(segments))
        ;
    if (segments->spare_count < needed) {
        if (wal->now_us >= wal->prepare_us)
            segment_prepare(segments);
        wal->full = segments->prepare_error != 0 && segments->spare_count < needed;
        return wal->full ? segments->prepare_error : -EAGAIN;
    }
    struct segment *segment = segment_push(segments, segments->spare[segments->spare_count - 1]);
    if (!segment)
        return -EAGAIN;
    segments->spare_count--;
    segment->previous = wal->durable;
    segment->life = wal->life;
    wal->segment = segment;
    wal->offset = 0;
    wal->full = false;
    return 0;
}

static int page_next(struct wal *wal)
{
    assert(wal->offset % STORAGE_BLOCK == 0);
    wal->page = page_take(&wal->pages, wal->segment, wal->offset / wal->pages.page_size);
    return wal->page ? 0 : -EAGAIN;
}

static int batch_next(struct wal *wal)
{
    if (wal->batch_count == WAL_BATCHES)
        return -EAGAIN;
    struct wal_batch *batch = wal_batch_at(wal, wal->batch_count++);
    *batch = (struct wal_batch){
        .wal = wal,
        .number = wal->next_number++,
        .page = wal->page,
        .begin = wal->offset % wal->pages.page_size,
        .used = sizeof(struct format_batch),
    };
    batch->last = &batch->first;
    wal->batch = batch;
    wal->waiters = 0;
    return 0;
}

/* A batch into which nothing was put was never begun. */
static void batch_cancel(struct wal *wal)
{
    assert(wal->batch == wal_batch_at(wal, wal->batch_count - 1) && !wal->batch->first);
    wal->batch_count--;
    wal->next_number--;
    wal->batch = NULL;
}

bool wal_batch_empty(const struct wal *wal)
{
    return !wal->batch || wal->batch->used == sizeof(struct format_batch);
}

void wal_page_end(struct wal *wal)
{
    uint32_t page_size = wal->pages.page_size;
    if (wal->batch && wal_batch_empty(wal))
        batch_cancel(wal);
    if (wal->batch)
        wal_batch_submit(wal);
    assert(wal->offset % page_size != 0 || wal->offset / page_size > wal->page->index);
    wal_page_leave(wal);
    wal->offset = (uint32_t)format_align(wal->offset, page_size);
    if (wal->offset == wal->storage->segment_size)
        wal_segment_leave(wal);
}

/* No batch begins behind the limit, and none grows beyond it. */
static bool page_is_full(const struct wal *wal)
{
    uint32_t page_size = wal->pages.page_size;
    return wal->offset / page_size != wal->page->index || wal->offset % page_size >= wal->page->limit;
}

uint32_t wal_batch_space(const struct wal *wal)
{
    assert(wal->batch->begin + wal->batch->used <= wal->page->limit);
    return wal->page->limit - wal->batch->begin - wal->batch->used;
}

/* The segment that batches not yet durable lie in must be the last one when the next begins, so that the
 * number of its last good batch is known. */
static bool segment_settled(const struct wal *wal)
{
#if defined(PLANT_REUSE_EARLY)
    return true;
#endif
    return wal->segment || wal->batch_count == 0;
}

int wal_reserve(struct wal *wal, uint32_t size, bool privileged)
{
    if (size > wal->pages.page_size - sizeof(struct format_batch))
        return -EMSGSIZE;
    int error = 0;
    if (wal->failing)
        error = -EAGAIN;
    else if (wal->error && wal->now_us < wal->retry_us)
        error = privileged ? -EAGAIN : wal->error;
    while (!error) {
        if (!wal->segment)
            error = segment_settled(wal) ? segment_next(wal, privileged) : -EAGAIN;
        else if (!wal->page)
            error = page_next(wal);
        else if (!wal->batch && page_is_full(wal))
            wal_page_end(wal);
        else if (!wal->batch)
            error = batch_next(wal);
        else if (wal_batch_space(wal) < size)
            wal_page_end(wal);
        else
            return 0;
    }
    if (error == -EAGAIN)
        wal->wanted = true;
    return error;
}

/* --- Appending --- */

static struct format_record *record_begin(struct wal *wal, enum format_type type, unsigned flags, uint64_t id,
                                          uint32_t size)
{
    wal_body_finish(wal);
    assert(wal_batch_space(wal) >= format_record_size(size));
    struct format_record *record =
        (struct format_record *)(void *)(wal_batch_bytes(wal->batch) + wal->batch->used);
    *record = (struct format_record){
        .size = size,
        .type = (uint8_t)type,
        .flags = flags & WAL_TOGETHER ? FORMAT_TOGETHER : 0,
        .id = id,
    };
    return record;
}

static void record_end(struct wal *wal, struct format_record *record)
{
    uint32_t whole = format_record_size(record->size);
    uint32_t bare = (uint32_t)sizeof(*record) + record->size;
    memset((uint8_t *)record + bare, 0, whole - bare);
    wal->batch->used += whole;
}

static uint32_t segment_offset(const struct wal *wal, const void *byte)
{
    return wal->page->index * wal->pages.page_size + (uint32_t)((const uint8_t *)byte - wal->page->data);
}

int wal_append(struct wal *wal, enum format_type type, uint64_t id, const struct wal_part *parts,
               uint32_t count, unsigned flags, struct format_piece *piece)
{
    uint32_t size = 0;
    for (uint32_t i = 0; i < count; i++)
        size += parts[i].size;
    int error = wal_reserve(wal, format_record_size(size), flags & WAL_PRIVILEGED);
    if (error)
        return error;
    struct format_record *record = record_begin(wal, type, flags, id, size);
    uint8_t *to = (uint8_t *)(record + 1);
    for (uint32_t i = 0; i < count; i++) {
        if (parts[i].size > 0)
            memcpy(to, parts[i].bytes, parts[i].size);
        to += parts[i].size;
    }
    record->payload_crc = crc32c(0, record + 1, size);
    record->header_crc = format_record_crc(record, wal_seed(wal));
    record_end(wal, record);
    *piece = (struct format_piece){
        .segment = wal->segment->sequence,
        .offset = segment_offset(wal, record + 1),
        .size = size,
        .crc = record->payload_crc,
    };
    return 0;
}

static uint32_t body_fits(const struct wal *wal, uint32_t header)
{
    uint32_t space = wal_batch_space(wal) & ~(uint32_t)(FORMAT_ALIGN - 1);
    return space > header ? space - header : 0;
}

static bool body_may_grow(const struct wal *wal, uint64_t id, const struct format_piece *piece)
{
    return wal->body && wal->body->id == id && piece->size > 0 && piece->segment == wal->segment->sequence &&
           piece->offset == segment_offset(wal, wal->body + 1) && piece->size < WAL_PIECE_MAX &&
           body_fits(wal, 0) > 0;
}

static uint32_t body_share(size_t size, uint32_t fits, uint32_t most)
{
    uint32_t share = fits < most ? fits : most;
    return size < share ? (uint32_t)size : share;
}

static int64_t body_grow(struct wal *wal, const void *bytes, size_t size, struct format_piece *piece)
{
    struct format_record *record = wal->body;
    wal->batch->used -= format_record_size(record->size) - (uint32_t)sizeof(*record) - record->size;
    uint32_t fits = wal_batch_space(wal);
    uint32_t taken = body_share(size, fits, WAL_PIECE_MAX - record->size);
    memcpy((uint8_t *)(record + 1) + record->size, bytes, taken);
    record->payload_crc = crc32c(record->payload_crc, bytes, taken);
    wal->batch->used -= (uint32_t)sizeof(*record) + record->size;
    record->size += taken;
    record_end(wal, record);
    piece->size = record->size;
    piece->crc = record->payload_crc;
    return taken;
}

int64_t wal_append_body(struct wal *wal, uint64_t id, const void *bytes, size_t size, bool privileged,
                        struct format_piece *piece, bool *is_new)
{
    assert(size > 0);
    if (!wal->failing && body_may_grow(wal, id, piece)) {
        *is_new = false;
        return body_grow(wal, bytes, size, piece);
    }
    int error = wal_reserve(wal, WAL_ROOM_MIN, privileged);
    if (error)
        return error;
    uint32_t fits = body_fits(wal, sizeof(struct format_record));
    uint32_t taken = body_share(size, fits, WAL_PIECE_MAX);
    struct format_record *record = record_begin(wal, FORMAT_BODY, 0, id, taken);
    memcpy(record + 1, bytes, taken);
    record->payload_crc = crc32c(0, bytes, taken);
    record_end(wal, record);
    wal->body = record;
    *is_new = true;
    *piece = (struct format_piece){
        .segment = wal->segment->sequence,
        .offset = segment_offset(wal, record + 1),
        .size = taken,
        .crc = record->payload_crc,
    };
    return taken;
}

void wal_await(struct wal *wal, struct wal_waiter *waiter)
{
    assert(wal->batch);
    waiter->next = NULL;
    *wal->batch->last = waiter;
    wal->batch->last = &waiter->next;
    wal->waiters++;
}

/* --- Content in memory --- */

static struct page *piece_page(const struct wal *wal, const struct format_piece *piece)
{
    struct segment *segment = segment_find(&wal->segments, piece->segment);
    if (!segment)
        return NULL;
    uint32_t index = piece->offset / wal->pages.page_size;
    return index < segment->page_count ? segment->pages[index] : NULL;
}

const void *wal_resident(const struct wal *wal, const struct format_piece *piece)
{
    const struct page *page = piece_page(wal, piece);
    return page ? page->data + piece->offset % wal->pages.page_size : NULL;
}

void wal_pin(struct wal *wal, const struct format_piece *piece)
{
    struct page *page = piece_page(wal, piece);
    assert(page);
    page->pins++;
}

void wal_unpin(struct wal *wal, const struct format_piece *piece)
{
    struct page *page = piece_page(wal, piece);
    assert(page && page->pins > 0);
    page->pins--;
    page_relax(&wal->pages, page);
}

void wal_claim(struct wal *wal, const struct format_piece *piece)
{
    struct page *page = piece_page(wal, piece);
    if (!page)
        return;
    page->live++;
    page->claims++;
}

void wal_unclaim(struct wal *wal, const struct format_piece *piece)
{
    struct page *page = piece_page(wal, piece);
    if (!page)
        return;
    assert(page->live > 0);
    page->live--;
    page_relax(&wal->pages, page);
}
