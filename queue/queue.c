#include "queue/queue.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "queue/shard.h"

enum { PAGES_MIN = 4 };

/* --- Life --- */

static int options_check(const struct storage *storage, const struct queue_options *options)
{
    uint32_t page = options->page_size;
    bool good = page >= 4 * STORAGE_BLOCK && (page & (page - 1)) == 0 && storage->segment_size % page == 0 &&
                options->shard <= 255 && options->writes_max >= 1 && options->writes_max <= WAL_BATCHES / 2 &&
                options->retry_count >= 1 && options->retry_count <= QUEUE_RETRY_STEPS_MAX &&
                options->retry_jitter_percent <= 100 && options->entry_recipients >= 1 &&
                options->entry_recipients <= ENTRY_RECIPIENTS_MAX && options->age_max_ms >= 0;
    return good ? 0 : -EINVAL;
}

static uint64_t pages_allowed(const struct queue *queue)
{
    uint64_t limit = queue->options.memory_limit;
    uint64_t left = limit > queue->memory.used ? limit - queue->memory.used : 0;
    uint64_t pages = left / queue->options.page_size;
    return pages > PAGES_MIN ? pages : PAGES_MIN;
}

static struct queue *queue_new(struct storage *storage, const struct queue_options *options, int64_t now_ms)
{
    struct queue *queue = calloc(1, sizeof(*queue));
    if (!queue)
        return NULL;
    queue->options = *options;
    queue->memory = (struct memory){options->alloc, options->free, options->alloc_context, 0};
    queue->random = options->seed;
    queue->now_ms = now_ms;
    struct wal_options wal = {
        .storage = storage,
        .shard = options->shard,
        .page_size = options->page_size,
        .pages_max = pages_allowed(queue),
        .writes_max = options->writes_max,
        .commit_delay_us = options->commit_delay_us,
    };
    if (lane_table_init(&queue->lanes, queue_random(queue)) == 0 && wal_init(&queue->wal, &wal) == 0)
        return queue;
    queue_close(queue);
    return NULL;
}

int queue_open(struct storage *storage, const struct queue_options *options, int64_t now_ms,
               struct queue_recovery *recovery, struct queue **queue)
{
    int error = options_check(storage, options);
    if (error)
        return error;
    struct queue *opened = queue_new(storage, options, now_ms);
    if (!opened)
        return -ENOMEM;
    error = queue_recover(opened, recovery);
    if (error) {
        queue_close(opened);
        return error;
    }
    *queue = opened;
    return 0;
}

static void close_messages(struct queue *queue)
{
    for (uint32_t i = 0; i < queue->wal.segments.count; i++) {
        struct segment_holder *holder;
        struct segment_holder *next;
        for (holder = TAILQ_FIRST(&queue->wal.segments.segments[i]->holders); holder; holder = next) {
            next = TAILQ_NEXT(holder, link);
            if (!holder->is_draft)
                message_free(queue, (struct message *)(void *)holder);
        }
    }
}

void queue_close(struct queue *queue)
{
    if (!queue)
        return;
    assert(queue->operations == 0);
    queue->options.callbacks = NULL;
    wal_cancel(&queue->wal);
    mover_free(queue);
    close_messages(queue);
    schedule_deinit(&queue->schedule);
    lane_table_deinit(&queue->lanes, &queue->memory);
    wal_deinit(&queue->wal);
    free(queue);
}

bool queue_idle(const struct queue *queue)
{
    return queue->operations == 0 && !queue->mover && wal_idle(&queue->wal);
}

void queue_set_retry(struct queue *queue, const struct queue_options *options)
{
    assert(options->retry_count >= 1 && options->retry_count <= QUEUE_RETRY_STEPS_MAX);
    queue->options.retry_count = options->retry_count;
    memcpy(queue->options.retry_ms, options->retry_ms, sizeof(options->retry_ms));
    queue->options.retry_jitter_percent = options->retry_jitter_percent;
    queue->options.age_max_ms = options->age_max_ms;
    assert(options->entry_recipients >= 1 && options->entry_recipients <= ENTRY_RECIPIENTS_MAX);
    queue->options.entry_recipients = options->entry_recipients;
}

/* SplitMix64 (Steele, Lea and Flood, 2014). */
uint64_t queue_random(struct queue *queue)
{
    uint64_t z = queue->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* --- Messages --- */

void entry_place(struct queue *queue, struct entry *entry, bool at_head)
{
    struct message *message = entry->message;
    if (entry_left(entry) == 0) {
        entry->state = ENTRY_GONE;
        message->left--;
        lane_unref(entry->lane);
        return;
    }
    if (entry->due_ms > queue->now_ms) {
        entry->state = ENTRY_DEFERRED;
        if (schedule_add(&queue->schedule, entry->due_ms, entry) == 0)
            return;
        message->active++; /* no memory to remember when: it is tried at once */
    }
    if (message->moving)
        lane_put_held(entry);
    else
        lane_put(entry, at_head);
}

void queue_admit(struct queue *queue, struct message *message, struct segment *oldest)
{
    segment_hold(oldest, &message->holder, false);
    queue->messages++;
    queue->live_bytes += message->log_bytes;
    for (uint32_t i = 0; i < message->entry_count; i++)
        queue->recipients += (uint64_t)__builtin_popcountll(entry_left(&message->entries[i]));
    uint32_t count = message->entry_count;
    for (uint32_t i = 0; i < count; i++)
        if (message->entries[i].state == ENTRY_HELD)
            entry_place(queue, &message->entries[i], false);
}

void queue_dismiss(struct queue *queue, struct message *message)
{
    assert(message->left == 0 && message->out == 0 && !message->moving && !message->claimed);
    queue->messages--;
    queue->live_bytes -= message->log_bytes;
    message_free(queue, message);
}

/* --- Driving --- */

static void announce_lane(void *context, struct queue_lane *lane)
{
    const struct queue *queue = context;
    if (lane->ready_count > 0 && queue->options.callbacks && queue->options.callbacks->lane_ready)
        queue->options.callbacks->lane_ready(queue->options.context, lane);
}

int64_t queue_tick(struct queue *queue, int64_t now_ms)
{
    queue->now_ms = now_ms > queue->now_ms ? now_ms : queue->now_ms;
    if (queue->announce) {
        queue->announce = false;
        queue_each_lane(queue, announce_lane, queue);
    }
    struct entry *entry;
    while ((entry = schedule_take(&queue->schedule, queue->now_ms))) {
        assert(entry->state == ENTRY_DEFERRED);
        entry->message->active++;
        entry_place(queue, entry, false);
    }
    return schedule_next(&queue->schedule);
}

static enum queue_state state_now(const struct queue *queue)
{
    const struct wal *wal = &queue->wal;
    if (wal->error && wal->now_us < wal->retry_us)
        return QUEUE_FAILED;
    if (wal->full)
        return QUEUE_DISK_FULL;
    if (queue->memory.used > queue->options.memory_limit / 2)
        return QUEUE_MEMORY_FULL;
    return QUEUE_OPEN;
}

enum queue_state queue_state(const struct queue *queue)
{
    return state_now(queue);
}

static void state_tell(struct queue *queue)
{
    enum queue_state state = state_now(queue);
    if (state == queue->state)
        return;
    queue->state = state;
    int error = state == QUEUE_FAILED      ? queue->wal.error
                : state == QUEUE_DISK_FULL ? queue->wal.segments.prepare_error
                                           : 0;
    if (queue->options.callbacks && queue->options.callbacks->state)
        queue->options.callbacks->state(queue->options.context, state, error);
}

/* Whoever was told to wait is called once there is room, or once waiting is pointless: the next append says
 * which. */
/* True when somebody was told, and may have appended. */
static bool room_tell(struct queue *queue)
{
    struct wal *wal = &queue->wal;
    if (!wal->wanted || (!wal_has_room(wal) && !wal->full && !wal->error))
        return false;
    wal->wanted = false;
    if (!queue->options.callbacks || !queue->options.callbacks->room)
        return false;
    queue->options.callbacks->room(queue->options.context);
    return true;
}

uint64_t queue_flush(struct queue *queue, uint64_t now_us)
{
    page_pool_limit(&queue->wal.pages, pages_allowed(queue));
    mover_step(queue);
    uint64_t within = wal_flush(&queue->wal, now_us, queue->drafts);
    if (room_tell(queue))
        within = wal_flush(&queue->wal, now_us, queue->drafts);
    state_tell(queue);
    return within;
}

void queue_drain(struct queue *queue)
{
    queue->wal.draining = true;
}

uint64_t queue_message_count(const struct queue *queue)
{
    return queue->messages;
}

struct queue_stats queue_stats(const struct queue *queue)
{
    const struct wal *wal = &queue->wal;
    return (struct queue_stats){
        .log_writes = wal->writes,
        .log_write_bytes = wal->write_bytes,
        .log_write_us = wal->write_us,
        .write_errors = wal->write_errors,
        .commits = queue->commits,
        .settles = wal->settles,
        .moved = queue->moved,
        .messages = queue->messages,
        .recipients = queue->recipients,
        .deferred = queue->schedule.count,
        .out = queue->deliveries,
        .segments = wal->segments.count,
        .segments_spare = wal->segments.spare_count,
        .pages = wal->pages.count,
        .pages_evicted = wal->pages.evicted,
        .envelope_reads = queue->envelope_reads,
    };
}
