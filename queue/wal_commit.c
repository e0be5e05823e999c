/* Group commit: when the open batch is written. And outcomes, which ride with it. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "queue/wal_inner.h"

enum {
    BATCH_EAGER = 256 * 1024, /* bytes that are written without waiting for more */
    SETTLE_DELAY_US = 5000,   /* outcomes wait so long for a commit to ride with */
    RETRY_US = 1000000,       /* between attempts to prepare a segment when the disk is full */
};

/* --- Outcomes --- */

static bool settle_append(struct wal *wal, uint64_t id, const struct format_settle *settle, unsigned flags)
{
    struct wal_part part = {settle, format_settle_size(settle)};
    struct format_piece piece;
    if (wal_append(wal, FORMAT_SETTLE, id, &part, 1, flags, &piece) != 0)
        return false;
    wal->batch->outcomes = true;
    wal->settles++;
    return true;
}

void wal_settle(struct wal *wal, uint64_t id, const struct format_settle *settle)
{
    if (wal->unlogged_count > 0 || !settle_append(wal, id, settle, WAL_PRIVILEGED))
        wal_unlogged_add(wal, id, settle);
}

void wal_settle_together(struct wal *wal, uint64_t id, const struct format_settle *settle)
{
    bool appended = settle_append(wal, id, settle, WAL_TOGETHER);
    assert(appended);
}

static void unlogged_retry(struct wal *wal)
{
    uint32_t done = 0;
    while (done < wal->unlogged_count &&
           settle_append(wal, wal->unlogged[done].id, &wal->unlogged[done].settle, WAL_PRIVILEGED))
        done++;
    wal->unlogged_count -= done;
    if (done > 0 && wal->unlogged_count > 0)
        memmove(wal->unlogged, wal->unlogged + done, wal->unlogged_count * sizeof(*wal->unlogged));
}

int wal_catch_up(struct wal *wal)
{
    unlogged_retry(wal);
    if (wal->unlogged_count == 0)
        return 0;
    wal->wanted = true;
    return -EAGAIN;
}

/* --- Group commit --- */

/* How long the open batch still waits for company; 0: it goes now. UINT64_MAX: until a write under way is
 * done. */
static uint64_t batch_wait(struct wal *wal, uint32_t receiving)
{
    uint32_t writing = wal_writing(wal);
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
    } else if (!segments->prepare_error && segments->spare_count < WAL_SPARE_WANTED) {
        segment_prepare(segments);
    }
}

uint64_t wal_flush(struct wal *wal, uint64_t now_us, uint32_t receiving)
{
    wal->now_us = now_us;
    prepare_ahead(wal);
    if (wal->segments.spare_count >= WAL_SPARE_WANTED)
        wal->full = false;
    else if (!wal->segment && wal->segments.prepare_error)
        wal->full = true; /* known before anybody asks */
    uint64_t within = wal->segments.prepare_error || wal->error ? RETRY_US : UINT64_MAX;
    if (wal->failing)
        return within;
    if (wal->unlogged_count > 0)
        unlogged_retry(wal);
    if (wal_batch_empty(wal))
        return within;
    uint64_t wait = batch_wait(wal, receiving);
    if (wait == 0)
        wal_batch_submit(wal);
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
    return wal_batch_empty(wal) && wal->batch_count == open && wal->unlogged_count == 0 &&
           wal->extents_writing == 0 && wal->segments.preparing == SEGMENT_NO_SLOT;
}
