#include "queue/wal.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "queue/crc32c.h"

enum {
    BATCH_EAGER = 256 * 1024, /* bytes that are written without waiting for more */
    SETTLE_DELAY_US = 5000,   /* outcomes wait so long for a commit to ride with */
    RETRY_US = 1000000,       /* pause after a disk error */
    SPARE_WANTED = 2,
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

static uint32_t batch_crc(const struct format_batch *batch)
{
    const uint8_t *bytes = (const uint8_t *)batch;
    size_t skip = offsetof(struct format_batch, log);
    return crc32c(0, bytes + skip, sizeof(*batch) - skip);
}

static uint32_t record_crc(const struct format_record *record, uint32_t seed)
{
    const uint8_t *bytes = (const uint8_t *)record;
    size_t skip = offsetof(struct format_record, payload_crc);
    return crc32c(seed, bytes + skip, sizeof(*record) - skip);
}

static uint32_t wal_seed(const struct wal *wal)
{
    return format_seed(wal->segment->sequence, wal->segment->life);
}

bool format_batch_check(const struct format_batch *batch)
{
    if (batch->magic != FORMAT_MAGIC)
        return false;
#if !defined(PLANT_SKIP_CRC)
    if (batch->crc != batch_crc(batch))
        return false;
#endif
    return batch->size >= sizeof(*batch);
}

bool format_record_check(const struct format_record *record, uint32_t space, uint32_t seed)
{
    if (space < sizeof(*record) || record->size > space - sizeof(*record))
        return false;
#if !defined(PLANT_SKIP_CRC)
    if (record->header_crc != record_crc(record, seed))
        return false;
    if (record->payload_crc != crc32c(0, record + 1, record->size))
        return false;
#endif
    return record->type >= FORMAT_BODY && record->type <= FORMAT_SETTLE;
}

static void page_leave(struct wal *wal)
{
    if (!wal->page)
        return;
    struct page *page = wal->page;
    wal->page = NULL;
    page_seal(&wal->pages, page);
}

int wal_init(struct wal *wal, const struct wal_options *options)
{
    assert(options->writes_max >= 1 && options->writes_max <= WAL_BATCHES / 2);
    *wal = (struct wal){
        .storage = options->storage,
        .memory = options->memory,
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
    if (wal->page) {
        wal->page->pins++; /* so that sealing does not let it go yet */
        page_leave(wal);
    }
    struct page *page;
    while ((page = TAILQ_FIRST(&wal->pages.resident))) {
        page->pins = 0;
        page_drop(&wal->pages, page);
    }
    page_pool_deinit(&wal->pages);
    segment_table_deinit(&wal->segments);
    free(wal->unlogged);
}

static struct wal_batch *batch_at(struct wal *wal, uint32_t index)
{
    return &wal->batches[(wal->batch_first + index) % WAL_BATCHES];
}

static uint8_t *batch_bytes(const struct wal_batch *batch)
{
    return batch->page->data + batch->begin;
}

/* --- Writing
 * ----------------------------------------------------------------------------------------------------- */

static void body_finish(struct wal *wal)
{
    if (!wal->body)
        return;
    wal->body->header_crc = record_crc(wal->body, wal_seed(wal));
    wal->body = NULL;
}

static void batch_seal(struct wal *wal, struct wal_batch *batch)
{
    struct format_batch *header = (struct format_batch *)(void *)batch_bytes(batch);
    uint32_t padded = (uint32_t)format_align(batch->used, STORAGE_BLOCK);
    memset(batch_bytes(batch) + batch->used, 0, padded - batch->used);
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
    header->crc = batch_crc(header);
#if defined(PLANT_REUSE_EARLY)
    segment_recycle(&wal->segments, batch->tail, SPARE_MAX);
#endif
}

static void batch_written(struct storage_op *op, int32_t result);

static void batch_submit(struct wal *wal)
{
    struct wal_batch *batch = wal->batch;
    assert(batch && batch->state == WAL_BATCH_OPEN && batch->used > sizeof(struct format_batch));
    body_finish(wal);
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
                                 batch_bytes(batch), padded, plant_durable(batch->number));
}

static void batch_tell(struct wal_batch *batch, int error)
{
    struct wal_waiter *waiter = batch->first;
    batch->first = NULL;
    batch->last = &batch->first;
    while (waiter) {
        struct wal_waiter *next = waiter->next;
        waiter->done(waiter, error);
        waiter = next;
    }
}

static void segment_leave(struct wal *wal)
{
    page_leave(wal);
    if (!wal->segment)
        return;
    wal->segment->sealed = true;
    wal->segment = NULL;
}

/* The batch leaves the FIFO before its waiters hear of it, since they may append. */
static struct wal_waiter *batch_pop(struct wal *wal, struct wal_batch *batch)
{
    assert(batch == batch_at(wal, 0));
    struct wal_waiter *first = batch->first;
    batch->first = NULL;
    wal->batch_first = (wal->batch_first + 1) % WAL_BATCHES;
    wal->batch_count--;
    return first;
}

static void waiters_tell(struct wal_waiter *waiter, int error)
{
    struct wal_batch once = {.first = waiter};
    once.last = &once.first;
    batch_tell(&once, error);
}

void wal_cancel(struct wal *wal)
{
    wal->batch = NULL;
    while (wal->batch_count > 0)
        waiters_tell(batch_pop(wal, batch_at(wal, 0)), -ECANCELED);
}

static void unlogged_add(struct wal *wal, uint64_t id, const struct format_settle *settle)
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

/* Outcomes of a batch that did not reach the disk go into a later one. */
static void batch_keep_settles(struct wal *wal, const struct wal_batch *batch)
{
    const uint8_t *bytes = batch_bytes(batch);
    uint32_t at = sizeof(struct format_batch);
    while (at < batch->used) {
        const struct format_record *record = (const struct format_record *)(const void *)(bytes + at);
        if (record->type == FORMAT_SETTLE)
            unlogged_add(wal, record->id, (const struct format_settle *)(const void *)(record + 1));
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
    body_finish(wal);
    wal->batch = NULL;
    while (wal->batch_count > 0) {
        struct wal_batch *batch = batch_at(wal, 0);
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
        unlogged_add(wal, newer[i].id, &newer[i].settle);
    free(newer);
    segment_leave(wal);
    wal->failing = false;
    wal->epoch++;
    wal->error = error;
    wal->retry_us = wal->now_us + RETRY_US;
    waiters_tell(told, error);
}

static bool wal_writing(struct wal *wal)
{
    for (uint32_t i = 0; i < wal->batch_count; i++)
        if (batch_at(wal, i)->state == WAL_BATCH_WRITING)
            return true;
    return false;
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
    while (wal->batch_count > 0 && batch_at(wal, 0)->state == WAL_BATCH_WRITTEN)
        batch_durable(wal, batch_at(wal, 0));
    if (!wal->failing || wal_writing(wal))
        return;
    /* The open batch needs a pin like the others before it can be given up with them. */
    if (wal->batch)
        wal->batch->page->pins++;
    wal_fail(wal);
}

/* --- Room
 * -------------------------------------------------------------------------------------------------------- */

static int segment_next(struct wal *wal, bool privileged)
{
    struct segment_table *segments = &wal->segments;
    uint32_t needed = privileged ? 1 : SPARE_WANTED;
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
    struct wal_batch *batch = batch_at(wal, wal->batch_count++);
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
    assert(wal->batch == batch_at(wal, wal->batch_count - 1) && !wal->batch->first);
    wal->batch_count--;
    wal->next_number--;
    wal->batch = NULL;
}

static bool batch_empty(const struct wal *wal)
{
    return !wal->batch || wal->batch->used == sizeof(struct format_batch);
}

static void page_end(struct wal *wal)
{
    uint32_t page_size = wal->pages.page_size;
    if (wal->batch && batch_empty(wal))
        batch_cancel(wal);
    if (wal->batch)
        batch_submit(wal);
    page_leave(wal);
    wal->offset = (uint32_t)format_align(wal->offset, page_size);
    if (wal->offset == wal->storage->segment_size)
        segment_leave(wal);
}

static uint32_t batch_space(const struct wal *wal)
{
    return wal->pages.page_size - wal->batch->begin - wal->batch->used;
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
        else if (!wal->batch && wal->offset / wal->pages.page_size != wal->page->index)
            page_end(wal);
        else if (!wal->batch)
            error = batch_next(wal);
        else if (batch_space(wal) < size)
            page_end(wal);
        else
            return 0;
    }
    if (error == -EAGAIN)
        wal->wanted = true;
    return error;
}

/* --- Appending
 * --------------------------------------------------------------------------------------------------- */

static struct format_record *record_begin(struct wal *wal, enum format_type type, uint64_t id, uint32_t size)
{
    body_finish(wal);
    assert(batch_space(wal) >= format_record_size(size));
    struct format_record *record =
        (struct format_record *)(void *)(batch_bytes(wal->batch) + wal->batch->used);
    *record = (struct format_record){.size = size, .type = (uint8_t)type, .id = id};
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
               uint32_t count, bool privileged, struct format_piece *piece)
{
    uint32_t size = 0;
    for (uint32_t i = 0; i < count; i++)
        size += parts[i].size;
    int error = wal_reserve(wal, format_record_size(size), privileged);
    if (error)
        return error;
    struct format_record *record = record_begin(wal, type, id, size);
    uint8_t *to = (uint8_t *)(record + 1);
    for (uint32_t i = 0; i < count; i++) {
        if (parts[i].size > 0)
            memcpy(to, parts[i].bytes, parts[i].size);
        to += parts[i].size;
    }
    record->payload_crc = crc32c(0, record + 1, size);
    record->header_crc = record_crc(record, wal_seed(wal));
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
    uint32_t space = batch_space(wal) & ~(uint32_t)(FORMAT_ALIGN - 1);
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
    uint32_t fits = wal->pages.page_size - wal->batch->begin - wal->batch->used;
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
    struct format_record *record = record_begin(wal, FORMAT_BODY, id, taken);
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

static bool settle_append(struct wal *wal, uint64_t id, const struct format_settle *settle)
{
    struct wal_part part = {settle, sizeof(*settle)};
    struct format_piece piece;
    if (wal_append(wal, FORMAT_SETTLE, id, &part, 1, true, &piece) != 0)
        return false;
    wal->batch->outcomes = true;
    wal->settles++;
    return true;
}

void wal_settle(struct wal *wal, uint64_t id, const struct format_settle *settle)
{
    if (wal->unlogged_count > 0 || !settle_append(wal, id, settle))
        unlogged_add(wal, id, settle);
}

static void unlogged_retry(struct wal *wal)
{
    uint32_t done = 0;
    while (done < wal->unlogged_count &&
           settle_append(wal, wal->unlogged[done].id, &wal->unlogged[done].settle))
        done++;
    wal->unlogged_count -= done;
    if (done > 0 && wal->unlogged_count > 0)
        memmove(wal->unlogged, wal->unlogged + done, wal->unlogged_count * sizeof(*wal->unlogged));
}

/* --- Group commit
 * ------------------------------------------------------------------------------------------------ */

static uint32_t writes_under_way(struct wal *wal)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < wal->batch_count; i++)
        count += batch_at(wal, i)->state == WAL_BATCH_WRITING;
    return count;
}

/* How long the open batch still waits for company; 0: it goes now. UINT64_MAX: until a write under way is
 * done. */
static uint64_t batch_wait(struct wal *wal, uint32_t receiving)
{
    uint32_t writing = writes_under_way(wal);
    bool large = wal->batch->used >= BATCH_EAGER;
    if (wal->draining && writing < wal->writes_max)
        return 0;
    if (writing >= wal->writes_max || (writing > 0 && !large))
        return UINT64_MAX;
    if (large)
        return 0;
    if (wal->waiters == 0 && !wal->batch->outcomes)
        return UINT64_MAX; /* content alone is needed on disk no sooner than its message's commit */
    if (!wal->batch->urgent) {
        wal->batch->urgent = true;
        wal->commit_us = wal->now_us;
        wal->joined = wal->waiters;
    }
    uint64_t delay = SETTLE_DELAY_US;
    if (wal->waiters > 0) {
        if (wal->joined == 0) {
            wal->commit_us =
                wal->now_us; /* outcomes have waited; the first message begins a wait of its own */
            wal->joined = wal->waiters;
        }
        delay = receiving > 0 && wal->delay_skip == 0 ? wal->commit_delay_us : 0;
    }
    uint64_t waited = wal->now_us - wal->commit_us;
    if (waited < delay)
        return delay - waited;
    if (wal->waiters > 0 && delay > 0)
        wal->delay_skip = wal->waiters == wal->joined ? 16 : 0;
    else if (wal->delay_skip > 0)
        wal->delay_skip--;
    return 0;
}

static void prepare_ahead(struct wal *wal)
{
    struct segment_table *segments = &wal->segments;
    if (segments->preparing != SEGMENT_NO_SLOT)
        return;
    if (segments->prepare_error && wal->prepare_us <= wal->now_us) {
        wal->prepare_us = wal->now_us + RETRY_US;
        segment_prepare(segments);
    } else if (!segments->prepare_error && segments->spare_count < SPARE_WANTED) {
        segment_prepare(segments);
    }
}

uint64_t wal_flush(struct wal *wal, uint64_t now_us, uint32_t receiving)
{
    wal->now_us = now_us;
    prepare_ahead(wal);
    if (wal->segments.spare_count >= SPARE_WANTED)
        wal->full = false;
    uint64_t within = wal->segments.prepare_error || wal->error ? RETRY_US : UINT64_MAX;
    if (wal->failing)
        return within;
    if (wal->unlogged_count > 0)
        unlogged_retry(wal);
    if (batch_empty(wal))
        return within;
    uint64_t wait = batch_wait(wal, receiving);
    if (wait == 0)
        batch_submit(wal);
    else if (wait < within)
        within = wait;
    return within;
}

bool wal_has_room(struct wal *wal)
{
    return wal_reserve(wal, WAL_ROOM_MIN, false) == 0;
}

bool wal_idle(const struct wal *wal)
{
    uint32_t open = wal->batch ? 1 : 0;
    return batch_empty(wal) && wal->batch_count == open && wal->unlogged_count == 0 &&
           wal->segments.preparing == SEGMENT_NO_SLOT;
}

/* --- Content in memory
 * ------------------------------------------------------------------------------------------- */

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
    if (page)
        page->live++;
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
