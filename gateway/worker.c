#include "gateway/worker.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/panic.h"
#include "gateway/outbound/hop_query.h"

enum {
    MAILBOX_SIZE = 1 << 14,
    LETTER_BITS = 3,
    LETTER_MASK = (1 << LETTER_BITS) - 1,
    LISTENER_SHIFT = 32,
    DRAIN_MS = 60 * 1000, /* for deliveries in flight to end, after the sessions did */
    SWEEP_US = 500000,    /* mail that waits is looked through no more often, and half as often at rest */
    ROOM_SEGMENTS = 2,    /* without which the queue takes no mail */
    ROOM_TURN_US = 10000,
    ROOM_TURNS = 3000,
};

/* jemalloc's, when it is linked: how many bytes this thread ever got from it. */
extern int mallctl(const char *name, void *old, size_t *old_size, void *new_value, size_t new_size)
    __attribute__((weak));

/* --- Mail between threads --- */

bool worker_post(struct worker *worker, struct worker *self, enum letter letter, void *content)
{
    uintptr_t value = (uintptr_t)content;
    assert((value & LETTER_MASK) == 0);
    value |= (uintptr_t)letter;
    assert(value != 0); /* a ring holds no NULL */
    if (!ring_push(&worker->mailbox, (void *)value))
        return false;
    loop_wake(worker->loop, self ? self->loop : NULL);
    return true;
}

bool worker_order(struct worker *worker, enum order order)
{
    return worker_post(worker, NULL, LETTER_ORDER, (void *)((uintptr_t)order << LETTER_BITS));
}

static struct shard *shard_of(const struct gateway *gateway, const struct queue *queue)
{
    for (uint32_t i = 0; i < gateway->shard_count; i++)
        if (gateway->shards[i].queue == queue)
            return &gateway->shards[i];
    panic("a delivery of no shard");
}

static void *accept_letter(int fd, uint32_t listener)
{
    return (void *)(((uintptr_t)listener << LISTENER_SHIFT | (uintptr_t)(uint32_t)fd) << LETTER_BITS |
                    (uintptr_t)1 << 63);
}

static void accept_here(struct worker *worker, int fd, uint32_t listener)
{
    inbound_accept(&worker->inbound, fd, listener, NULL);
    atomic_store_explicit(&worker->sessions, inbound_session_count(&worker->inbound), memory_order_relaxed);
}

static void worker_adopt(struct worker *worker, const struct snapshot *snapshot);
static void worker_drain(struct worker *worker);
static void worker_publish(struct worker *worker);

static void obey(struct worker *worker, enum order order)
{
    switch (order) {
    case ORDER_PUBLISH:
        worker_publish(worker);
        atomic_fetch_add_explicit(&worker->published, 1, memory_order_release);
        break;
    case ORDER_DRAIN:
        worker_drain(worker);
        break;
    case ORDER_STOP:
        worker->stopping = true;
        break;
    }
}

static void read_letter(struct worker *worker, uintptr_t value)
{
    void *content = (void *)(value & ~(uintptr_t)LETTER_MASK);
    switch ((enum letter)(value & LETTER_MASK)) {
    case LETTER_DELIVER:
        outbound_accept_handover(&worker->outbound, content);
        break;
    case LETTER_HOME:
        COUNTER_ADD(&worker->counters, handoffs_done, 1);
        outbound_come_home(&worker->outbound, content);
        break;
    case LETTER_ACCEPT:
        value = (value & ~((uintptr_t)1 << 63)) >> LETTER_BITS;
        accept_here(worker, (int)(uint32_t)value, (uint32_t)(value >> LISTENER_SHIFT));
        break;
    case LETTER_CONFIG:
        worker_adopt(worker, content);
        break;
    case LETTER_ORDER:
        obey(worker, (enum order)(value >> LETTER_BITS));
        break;
    case LETTER_CHECKED:
        inbound_password_checked(&worker->inbound, content);
        break;
    case LETTER_ASK:
        hop_query_serve(&worker->outbound, content);
        break;
    case LETTER_ANSWER:
        hop_query_answered(content);
        break;
    }
}

static bool read_mail(void *context)
{
    struct worker *worker = context;
    bool any = false;
    void *value;
    while ((value = ring_pop(&worker->mailbox))) {
        read_letter(worker, (uintptr_t)value);
        any = true;
    }
    return any;
}

/* --- The queue's callbacks --- */

static void on_lane_ready(void *context, struct queue_lane *lane)
{
    struct worker *worker = context;
    outbound_lane_ready(&worker->outbound, lane);
}

static void on_lane_gone(void *context, struct queue_lane *lane)
{
    struct worker *worker = context;
    outbound_lane_gone(&worker->outbound, lane);
}

static void on_room(void *context)
{
    struct worker *worker = context;
    inbound_room(&worker->inbound);
    report_pump(&worker->outbound);
}

static const char *state_text(enum queue_state state)
{
    switch (state) {
    case QUEUE_OPEN:
        return "mail is taken again";
    case QUEUE_DISK_FULL:
        return "no room on disk: mail is refused with 452 until some leaves";
    case QUEUE_MEMORY_FULL:
        return "limits.memory is reached: mail is refused with 452 until some leaves";
    case QUEUE_FAILED:
        return "the disk refuses writes: mail is refused with 451";
    }
    return "";
}

static void on_state(void *context, enum queue_state state, int error)
{
    struct worker *worker = context;
    struct log_line line;
    enum log_event event = state == QUEUE_FAILED ? LOG_FAILURE : LOG_DISK_FULL;
    if (!log_begin(worker->log, &line, event, state == QUEUE_OPEN ? LOG_NOTICE : LOG_ERROR))
        return;
    log_u64(&line, "worker", worker->index);
    log_text(&line, "reason", state_text(state));
    if (error)
        log_errno(&line, "error", error);
    log_end(&line);
}

static const struct queue_callbacks queue_callbacks = {
    .lane_ready = on_lane_ready,
    .lane_gone = on_lane_gone,
    .room = on_room,
    .state = on_state,
};

/* --- Outbound's needs --- */

static void send_home(void *context, struct queue_delivery *delivery)
{
    struct worker *worker = context;
    struct worker *home = shard_of(worker->gateway, delivery->queue)->worker;
    assert(home != worker);
    if (worker_post(home, worker, LETTER_HOME, delivery))
        return;
    delivery->next = worker->homeless;
    worker->homeless = delivery;
}

static void homeless_again(struct worker *worker)
{
    struct queue_delivery *delivery = worker->homeless;
    worker->homeless = NULL;
    while (delivery) {
        struct queue_delivery *next = delivery->next;
        send_home(worker, delivery);
        delivery = next;
    }
}

static bool hand_over(void *context, uint32_t site_index, struct queue_delivery *delivery)
{
    struct worker *worker = context;
    struct worker *best = NULL;
    uint32_t most = 0;
    for (uint32_t i = 0; i < worker->gateway->worker_count; i++) {
        struct worker *other = &worker->gateway->workers[i];
        uint32_t room = other == worker ? 0 : outbound_room(&other->outbound, site_index);
        if (room > most) {
            most = room;
            best = other;
        }
    }
    if (!best || !worker_post(best, worker, LETTER_DELIVER, delivery))
        return false;
    COUNTER_ADD(&worker->counters, handoffs_sent, 1);
    return true;
}

static bool hand_to(void *context, uint32_t index, struct queue_delivery *delivery)
{
    struct worker *worker = context;
    assert(index < worker->gateway->worker_count && index != worker->index);
    if (!worker_post(&worker->gateway->workers[index], worker, LETTER_DELIVER, delivery))
        return false;
    COUNTER_ADD(&worker->counters, handoffs_sent, 1);
    return true;
}

/* To the one whose resolver is asked, or back to the one that asks. */
static void send_query(void *context, struct hop_query *query)
{
    struct worker *worker = context;
    struct worker *workers = worker->gateway->workers;
    bool is_answer = query->worker == worker->index;
    struct worker *to = is_answer ? query->asker->options.context : &workers[query->worker];
    if (worker_post(to, worker, is_answer ? LETTER_ANSWER : LETTER_ASK, query))
        return;
    query->next = worker->unsent;
    worker->unsent = query;
}

static void send_queries_again(struct worker *worker)
{
    struct hop_query *query = worker->unsent;
    worker->unsent = NULL;
    while (query) {
        struct hop_query *next = query->next;
        send_query(worker, query);
        query = next;
    }
}

static bool is_local(void *context, const struct queue *queue)
{
    const struct worker *worker = context;
    for (uint32_t i = 0; i < worker->shard_count; i++)
        if (worker->shards[i].queue == queue)
            return true;
    return false;
}

static bool ask_null_mx(void *context, const char *domain, void (*answer)(void *asker, bool is_null),
                        void *asker)
{
    struct worker *worker = context;
    return outbound_ask_null_mx(&worker->outbound, domain, answer, asker);
}

static void piece_read(struct storage_op *op, int32_t result)
{
    struct outbound_read *read =
        (struct outbound_read *)(void *)((char *)op - offsetof(struct outbound_read, op));
    read->done(read, result);
}

static void read_piece(void *context, struct outbound_read *read)
{
    struct worker *worker = context;
    struct shard *shard = shard_of(worker->gateway, read->shard);
    COUNTER_ADD(&worker->counters, reads_from_disk, 1);
    read->op.done = piece_read;
    spool_read(&shard->spool, worker->loop, &read->op, read->piece->slot, read->range.offset, read->buffer,
               read->range.size);
}

/* --- Listening --- */

/* The kernel spreads connections by chance; ten of them can land on one worker. A worker that has clearly
 * more than the idlest one gives the next away. */
static struct worker *accept_where(struct worker *worker)
{
    uint32_t mine = inbound_session_count(&worker->inbound);
    struct worker *best = worker;
    uint32_t least = mine;
    for (uint32_t i = 0; i < worker->gateway->worker_count; i++) {
        struct worker *other = &worker->gateway->workers[i];
        uint32_t theirs =
            other == worker ? mine : atomic_load_explicit(&other->sessions, memory_order_relaxed);
        if (theirs < least) {
            least = theirs;
            best = other;
        }
    }
    return mine >= least + 2 + least / 8 ? best : worker;
}

static void on_accept(void *context, int fd)
{
    struct worker_listener *listener = context;
    struct worker *worker = listener->worker;
    struct worker *target = accept_where(worker);
    if (target != worker) {
        /* Counted at once, or a burst would all go to the same one. The target sets it right when it has it.
         */
        atomic_fetch_add_explicit(&target->sessions, 1, memory_order_relaxed);
        if (worker_post(target, worker, LETTER_ACCEPT, accept_letter(fd, listener->index)))
            return;
    }
    accept_here(worker, fd, listener->index);
}

static void on_exhausted(void *context, int error)
{
    struct worker_listener *listener = context;
    struct log_line line;
    if (!log_begin(listener->worker->log, &line, LOG_CAUTION, LOG_WARNING))
        return;
    log_text(&line, "reason",
             "no connection can be accepted for a moment: too many open files, or no memory");
    log_errno(&line, "error", error);
    log_end(&line);
}

static void on_stopped(void *context)
{
    struct worker_listener *listener = context;
    listener->stopped = true;
}

static const struct listener_handler listener_handler = {on_accept, on_exhausted, on_stopped};

/* --- Turns --- */

static void worker_adopt(struct worker *worker, const struct snapshot *snapshot)
{
    const struct config *config = snapshot->policy.config;
    bool is_new_config = config != worker->snapshot->policy.config;
    if (outbound_set_policy(&worker->outbound, &snapshot->outbound, is_new_config) < 0)
        panic("no memory to take over a new configuration");
    inbound_set_policy(&worker->inbound, &snapshot->policy);
    struct queue_options options = {0};
    shard_retry_options(config, &options);
    for (uint32_t i = 0; i < worker->shard_count; i++) {
        queue_set_retry(worker->shards[i].queue, &options);
        queue_each_lane(worker->shards[i].queue, on_lane_ready, worker);
    }
    worker->snapshot = snapshot;
    atomic_store_explicit(&worker->adopted, snapshot, memory_order_release);
}

static uint64_t heap_bytes(void)
{
    uint64_t bytes = 0;
    size_t size = sizeof(bytes);
    if (!mallctl || mallctl("thread.allocated", &bytes, &size, NULL, 0) != 0)
        return 0;
    return bytes;
}

static void worker_publish(struct worker *worker)
{
    struct queue_stats sum = {0};
    for (uint32_t i = 0; i < worker->shard_count; i++) {
        struct queue_stats stats = queue_stats(worker->shards[i].queue);
        sum.log_writes += stats.log_writes;
        sum.log_write_bytes += stats.log_write_bytes;
        sum.log_write_us += stats.log_write_us;
        sum.messages += stats.messages;
        sum.deferred += stats.deferred;
        sum.moved += stats.moved;
        sum.segments += stats.segments;
        sum.pages += stats.pages;
        sum.pages_evicted += stats.pages_evicted;
        sum.envelope_reads += stats.envelope_reads;
    }
    const struct loop_stats *loop = loop_stats(worker->loop);
    counter_set(&worker->counters, COUNTER_log_writes, sum.log_writes);
    counter_set(&worker->counters, COUNTER_log_write_bytes, sum.log_write_bytes);
    counter_set(&worker->counters, COUNTER_log_write_us, sum.log_write_us);
    counter_set(&worker->counters, COUNTER_messages_waiting, sum.messages);
    counter_set(&worker->counters, COUNTER_deferred_now, sum.deferred);
    counter_set(&worker->counters, COUNTER_messages_moved, sum.moved);
    counter_set(&worker->counters, COUNTER_log_segments, sum.segments);
    counter_set(&worker->counters, COUNTER_log_pages, sum.pages);
    counter_set(&worker->counters, COUNTER_log_pages_evicted, sum.pages_evicted);
    counter_set(&worker->counters, COUNTER_envelope_reads, sum.envelope_reads);
    counter_set(&worker->counters, COUNTER_enter_calls, loop->enters);
    counter_set(&worker->counters, COUNTER_loop_turns, loop->turns);
    counter_set(&worker->counters, COUNTER_loop_completions, loop->completions);
    counter_set(&worker->counters, COUNTER_sends, loop->sends);
    counter_set(&worker->counters, COUNTER_tls_handshakes, loop->tls_handshakes);
    counter_set(&worker->counters, COUNTER_tls_resumed, loop->tls_resumed);
    counter_set(&worker->counters, COUNTER_tls_failed, loop->tls_failed);
    counter_set(&worker->counters, COUNTER_heap_bytes, heap_bytes());
}

/* Mail that only waits makes no turns by itself. */
static void sweep_queues(struct worker *worker)
{
    uint64_t now_us = loop_now_us(worker->loop);
    uint64_t since_us = now_us - worker->swept_us;
    uint64_t waiting = 0;

    for (uint32_t i = 0; i < worker->shard_count; i++) {
        if (since_us >= SWEEP_US)
            outbound_sweep(&worker->outbound, worker->shards[i].queue, since_us);
        waiting += queue_message_count(worker->shards[i].queue);
    }
    if (since_us >= SWEEP_US)
        worker->swept_us = now_us;
    if (waiting > 0)
        loop_wake_within(worker->loop, SWEEP_US * 2);
}

static void drive_queues(struct worker *worker)
{
    int64_t now_ms = (int64_t)loop_now_wall_ms(worker->loop);
    int64_t next_ms = INT64_MAX;
    for (uint32_t i = 0; i < worker->shard_count; i++) {
        struct queue *queue = worker->shards[i].queue;
        int64_t due_ms = queue_tick(queue, now_ms);
        next_ms = due_ms < next_ms ? due_ms : next_ms;
    }
    sweep_queues(worker);
    outbound_pump(&worker->outbound);
    for (uint32_t i = 0; i < worker->shard_count; i++) {
        uint64_t within_us = queue_flush(worker->shards[i].queue, loop_now_us(worker->loop));
        if (within_us != UINT64_MAX)
            loop_wake_within(worker->loop, within_us);
    }
    if (next_ms != INT64_MAX)
        loop_wake_within(worker->loop, next_ms > now_ms ? (uint64_t)(next_ms - now_ms) * 1000 : 0);
}

static bool worker_listens(const struct worker *worker)
{
    for (uint32_t i = 0; i < worker->listener_count; i++)
        if (!worker->listeners[i].stopped)
            return true;
    return false;
}

static uint32_t deliveries_out(const struct worker *worker)
{
    uint32_t out = 0;
    for (uint32_t i = 0; i < worker->shard_count; i++)
        out += queue_stats(worker->shards[i].queue).out;
    return out;
}

static void worker_drain(struct worker *worker)
{
    if (worker->drain_until_us)
        return;
    worker->drain_until_us = UINT64_MAX;
    for (uint32_t i = 0; i < worker->listener_count; i++)
        listener_stop(&worker->listeners[i].listener);
    inbound_drain(&worker->inbound);
}

/* First those who send to us, then what we send, each within its time; then the worker is quiet until all
 * are. */
static void drain_on(struct worker *worker)
{
    uint64_t now_us = loop_now_us(worker->loop);
    loop_wake_within(worker->loop, 50000);
    if (!worker->draining_out) {
        if (worker_listens(worker) || inbound_session_count(&worker->inbound) > 0)
            return;
        worker->draining_out = true;
        worker->drain_until_us = now_us + (uint64_t)DRAIN_MS * 1000;
        outbound_drain(&worker->outbound);
    }
    if (now_us >= worker->drain_until_us) {
        worker->drain_until_us = UINT64_MAX;
        outbound_stop(&worker->outbound);
    }
    bool quiet = outbound_is_quiet(&worker->outbound) && deliveries_out(worker) == 0 && !worker->homeless &&
                 !worker->unsent;
    atomic_store_explicit(&worker->quiet, quiet, memory_order_release);
}

static void stop_when_idle(struct worker *worker)
{
    bool idle = true;
    for (uint32_t i = 0; i < worker->shard_count; i++) {
        queue_drain(worker->shards[i].queue);
        idle &= queue_idle(worker->shards[i].queue);
    }
    if (idle)
        loop_stop(worker->loop);
    else
        loop_wake_within(worker->loop, 1000);
}

static void on_turn(struct loop_hook *hook)
{
    struct worker *worker = (struct worker *)(void *)((char *)hook - offsetof(struct worker, hook));
    if (worker->homeless)
        homeless_again(worker);
    if (worker->unsent)
        send_queries_again(worker);
    drive_queues(worker);
    atomic_store_explicit(&worker->sessions, inbound_session_count(&worker->inbound), memory_order_relaxed);
    if (worker->drain_until_us)
        drain_on(worker);
    if (worker->stopping)
        stop_when_idle(worker);
}

static void on_turn_end(struct loop_hook *hook)
{
    struct worker *worker = (struct worker *)(void *)((char *)hook - offsetof(struct worker, hook));
    outbound_ask_for_turn(&worker->outbound);
}

static void on_begin(void *context)
{
    struct worker *worker = context;
    log_set_time(worker->log, loop_now_wall_ms(worker->loop) * 1000);
}

/* --- Life --- */

static void pin(const struct worker *worker)
{
    if (worker->cpu < 0)
        return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(worker->cpu, &set);
    /* Unpinned is slower, not wrong: a container may forbid it. */
    (void)pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

/* On a thread of the hasher, which may wait: a worker's mailbox does not stay full. */
static void password_checked(struct hasher_job *job)
{
    struct worker *worker = job->context;
    while (!worker_post(worker, NULL, LETTER_CHECKED, job))
        usleep(1000);
}

static int worker_open(struct worker *worker)
{
    const struct config *config = worker->snapshot->policy.config;
    log_set_time(worker->log, clock_wall_us());
    struct shard_options options = {
        .config = config,
        .shard_count = worker->gateway->shard_count,
        .loop = worker->loop,
        .log = worker->log,
        .pool = &worker->pool,
        .callbacks = &queue_callbacks,
        .context = worker,
    };
    for (uint32_t i = 0; i < worker->shard_count; i++) {
        int error = shard_open(&worker->shards[i], &options);
        if (error)
            return error;
    }
    struct inbound_options inbound = {
        .loop = worker->loop,
        .queue = worker->shards[0].queue,
        .policy = &worker->snapshot->policy,
        .log = worker->log,
        .counters = &worker->counters,
        .pool = &worker->pool,
        .connection_count = &worker->gateway->connections,
        .rates = worker->gateway->rates,
        .hasher = worker->gateway->hasher,
        .server_secret = worker->gateway->server_secret,
        .password_checked = password_checked,
        .password_context = worker,
        .ask_null_mx = ask_null_mx,
        .dns_context = worker,
    };
    inbound_init(&worker->inbound, &inbound);
    struct outbound_options outbound = {
        .loop = worker->loop,
        .policy = &worker->snapshot->outbound,
        .log = worker->log,
        .counters = &worker->counters,
        .pool = &worker->pool,
        .worker_index = worker->index,
        .worker_count = worker->gateway->worker_count,
        .context = worker,
        .send_home = send_home,
        .hand_over = hand_over,
        .hand_to = hand_to,
        .ask = send_query,
        .answer = send_query,
        .is_local = is_local,
        .read_piece = read_piece,
        .notice_rates = worker->gateway->notice_rates,
        .probes = worker->gateway->probes,
    };
    return outbound_init(&worker->outbound, &outbound);
}

/* A new log has to be filled with zeros first. Until it has room for mail nobody is let in, unless it never
 * will. */
static void worker_make_room(struct worker *worker)
{
    struct queue *queue = worker->shards[0].queue;
    for (int turns = 0; turns < ROOM_TURNS; turns++) {
        (void)queue_flush(queue, loop_now_us(worker->loop));
        if (queue_stats(queue).segments_spare >= ROOM_SEGMENTS || queue_state(queue) != QUEUE_OPEN)
            return;
        loop_turn(worker->loop, ROOM_TURN_US);
    }
}

static void worker_listen(struct worker *worker)
{
    for (uint32_t i = 0; i < worker->listener_count; i++) {
        struct worker_listener *listener = &worker->listeners[i];
        listener_start(&listener->listener, worker->loop, listener->fd, &listener_handler, listener);
    }
}

static void worker_close(struct worker *worker)
{
    for (uint32_t i = 0; i < worker->shard_count; i++) {
        shard_close(&worker->shards[i]);
    }
    inbound_deinit(&worker->inbound);
    outbound_deinit(&worker->outbound);
    loop_free(worker->loop);
    ring_deinit(&worker->mailbox);
    pool_deinit(&worker->pool);
}

/* All must have their shards open before one takes mail, since deliveries travel between them. */
static bool others_open(const struct worker *worker)
{
    for (uint32_t i = 0; i < worker->gateway->worker_count; i++)
        if (!atomic_load_explicit(&worker->gateway->workers[i].ready, memory_order_acquire))
            return false;
    return true;
}

static void *worker_main(void *context)
{
    struct worker *worker = context;
    pin(worker);
    int error = worker_open(worker);
    if (error) {
        atomic_store_explicit(&worker->start_error, error, memory_order_release);
        return NULL;
    }
    worker_make_room(worker);
    atomic_store_explicit(&worker->adopted, worker->snapshot, memory_order_release);
    atomic_store_explicit(&worker->ready, true, memory_order_release);
    while (!others_open(worker)) {
        if (atomic_load_explicit(&worker->gateway->given_up, memory_order_relaxed))
            return NULL;
        usleep(1000);
    }
    loop_set_begin_fn(worker->loop, on_begin, worker);
    loop_set_wake_fn(worker->loop, read_mail, worker);
    worker->hook.fn = on_turn;
    worker->hook.late = on_turn_end;
    loop_add_hook(worker->loop, &worker->hook);
    worker_listen(worker);
    loop_run(worker->loop);
    worker_publish(worker);
    /* Whoever sent the last letter may still be about to wake us. */
    while (!atomic_load_explicit(&worker->gateway->parting, memory_order_acquire))
        usleep(1000);
    worker_close(worker);
    return NULL;
}

int worker_start(struct worker *worker, const struct snapshot *snapshot)
{
    worker->snapshot = snapshot;
    counters_init(&worker->counters);
    pool_init(&worker->pool, &worker->counters, SIZE_MAX);
    int error = ring_init(&worker->mailbox, MAILBOX_SIZE);
    if (!error)
        error = loop_new(NULL, &worker->loop);
    if (error)
        return error;
    error = -pthread_create(&worker->thread, NULL, worker_main, worker);
    worker->has_thread = error == 0;
    return error;
}
