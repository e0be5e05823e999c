#include "gateway/net/loop.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/panic.h"
#include "gateway/net/loop_inner.h"

#define LOOP_BATCH       256 /* completions copied out at once */
#define LOOP_LOAD_UNIT   64
#define LOOP_GATHER_FROM 2 /* usual events a turn from which on a turn waits for as many */
#define LOOP_GATHER_MAX  32
#define LOOP_GATHER_US   200 /* and how long at most */

/*
 * user_data is the address of a completion. For a wake on its way to another loop it is that loop's address
 * with the lowest bit set: only a failure reports back, and then the target has to be known.
 */
#define LOOP_WAKE_TAG UINT64_C(1)

struct loop_event {
    uint64_t user_data;
    int32_t result;
    uint32_t flags;
};

static void loop_ignore(struct completion *completion, int32_t result, uint32_t flags)
{
}

static void loop_watch_event(struct loop *loop)
{
    struct io_uring_sqe *sqe = loop_sqe(loop, &loop->event);
    io_uring_prep_read(sqe, loop->event_fd, &loop->event_value, sizeof(loop->event_value), 0);
    loop->event_armed = true;
}

static void loop_on_event(struct completion *completion, int32_t result, uint32_t flags)
{
    struct loop *loop = list_entry(completion, struct loop, event);
    assert(loop->event_armed);
    loop->event_armed = false;
    loop_watch_event(loop);
}

static void loop_on_last_event(struct completion *completion, int32_t result, uint32_t flags)
{
    list_entry(completion, struct loop, event)->event_armed = false;
}

static void loop_init_fields(struct loop *loop)
{
    memset(loop, 0, sizeof(*loop));
    loop->ring_fd = -1;
    loop->event_fd = -1;
    loop->ring.ring_fd = -1;
    loop->now_us = clock_monotonic_us();
    loop->now_wall_ms = clock_wall_ms();
    loop->wait_us = UINT64_MAX;
    list_init(&loop->hooks);
    list_init(&loop->ready);
    list_init(&loop->flush);
    list_init(&loop->buffers.starved);
    loop->ignored.fn = loop_ignore;
    loop->woken.fn = loop_ignore;
    loop->event.fn = loop_on_event;
    timer_wheel_init(&loop->wheel, loop->now_us);
    tx_pool_init(&loop->tx_pool);
    atomic_init(&loop->sleeping, false);
    atomic_init(&loop->stopping, false);
}

static int loop_open_ring(struct loop *loop, const struct loop_options *options)
{
    /* Disabled until its thread adopts it: the kernel lets only the thread that enables it submit. */
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
                 IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED,
        .cq_entries = options->cq_entries != 0 ? options->cq_entries : 16384,
    };
    uint32_t sq_entries = options->sq_entries != 0 ? options->sq_entries : 4096;
    int result = io_uring_queue_init_params(sq_entries, &loop->ring, &params);
    if (result < 0) {
        loop->ring.ring_fd = -1;
        return result;
    }
    if (!(params.features & IORING_FEAT_EXT_ARG) || !(params.features & IORING_FEAT_NODROP))
        return -EINVAL;
    loop->ring_fd = loop->ring.ring_fd;
    return 0;
}

static int loop_init(struct loop *loop, const struct loop_options *options)
{
    loop_init_fields(loop);
    int result = loop_open_ring(loop, options);
    if (result < 0)
        return result;
    uint32_t count = options->receive_buffer_count != 0 ? options->receive_buffer_count : 512;
    uint32_t size = options->receive_buffer_size != 0 ? options->receive_buffer_size : 16384;
    result = buffers_init(&loop->buffers, &loop->ring, count, size);
    if (result < 0)
        return result;
    loop->event_fd = eventfd(0, EFD_CLOEXEC);
    if (loop->event_fd < 0)
        return -errno;
    loop_watch_event(loop);
    return 0;
}

int loop_new(const struct loop_options *options, struct loop **out)
{
    static const struct loop_options defaults = {0};
    struct loop *loop = aligned_alloc(_Alignof(struct loop), sizeof(struct loop));
    if (loop == NULL)
        return -ENOMEM;
    int result = loop_init(loop, options != NULL ? options : &defaults);
    if (result < 0) {
        loop_free(loop);
        return result;
    }
    *out = loop;
    return 0;
}

const char *loop_error_text(int error)
{
    switch (error) {
    case -ENOSYS:
        return "this kernel has no io_uring; Linux 6.1 or later is needed";
    case -EPERM:
        return "io_uring is not allowed here (sysctl kernel.io_uring_disabled, or a seccomp filter)";
    case -EINVAL:
        return "this kernel's io_uring is too old; Linux 6.1 or later is needed";
    case -ENOMEM:
        return "not enough memory for an io_uring (or RLIMIT_MEMLOCK is too small)";
    default:
        return strerror(-error);
    }
}

static void loop_adopt(struct loop *loop)
{
    assert(!loop->adopted);
    /* liburing 2.3 declares a function for this but does not export it. */
    if (syscall(SYS_io_uring_register, loop->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0)
        panic("io_uring could not be enabled: %s", strerror(errno));
    /* Spares the kernel a look-up in each system call; without it all works the same. */
    if (io_uring_register_ring_fd(&loop->ring) == 1)
        loop->enter_flags = IORING_ENTER_REGISTERED_RING;
    loop->adopted = true;
}

static void loop_check_submit(int result)
{
    switch (result) {
    case -ETIME:
    case -EINTR:
    case -EAGAIN: /* no memory for requests right now, or */
    case -EBUSY:  /* overflown completions did not all fit: both pass when this turn's are reaped */
        return;
    default:
        if (result < 0)
            panic("io_uring_enter: %s", strerror(-result));
    }
}

struct io_uring_sqe *loop_sqe(struct loop *loop, struct completion *completion)
{
    assert(completion != NULL && completion->fn != NULL);
    struct io_uring_sqe *sqe = io_uring_get_sqe(&loop->ring);
    for (uint32_t tries = 0; sqe == NULL; tries++) {
        if (!loop->adopted)
            loop_adopt(loop);
        if (tries == 1000)
            panic("io_uring takes no more submissions");
        if (tries > 0)
            usleep(1000);
        loop->stats.sq_full++;
        loop->stats.enters++;
        loop_check_submit(io_uring_submit(&loop->ring));
        sqe = io_uring_get_sqe(&loop->ring);
    }
    io_uring_prep_nop(sqe);
    io_uring_sqe_set_data(sqe, completion);
    return sqe;
}

struct io_uring_sqe *loop_sqe_ignored(struct loop *loop)
{
    return loop_sqe(loop, &loop->ignored);
}

void loop_cancel(struct loop *loop, struct completion *completion)
{
    struct io_uring_sqe *sqe = loop_sqe_ignored(loop);
    io_uring_prep_cancel(sqe, completion, 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
}

static void loop_write_event(struct loop *loop)
{
    const uint64_t one = 1;
    ssize_t written = write(loop->event_fd, &one, sizeof(one));
    assert(written == (ssize_t)sizeof(one));
}

static void loop_dispatch(const struct loop_event *event)
{
    if (event->user_data & LOOP_WAKE_TAG) {
        /* The message could not be posted (the other ring is full or not enabled yet): knock the slow way. */
        loop_write_event((struct loop *)(uintptr_t)(event->user_data & ~LOOP_WAKE_TAG));
        return;
    }
    struct completion *completion = (struct completion *)(uintptr_t)event->user_data;
    completion->fn(completion, event->result, event->flags);
}

/* Copies out a batch, so that the kernel has its places back before any callback can submit. */
static unsigned loop_take_batch(struct loop *loop, struct loop_event *events)
{
    struct io_uring_cqe *cqes[LOOP_BATCH];
    unsigned count = io_uring_peek_batch_cqe(&loop->ring, cqes, LOOP_BATCH);
    for (unsigned index = 0; index < count; index++) {
        const struct io_uring_cqe *cqe = cqes[index];
        events[index] = (struct loop_event){cqe->user_data, cqe->res, cqe->flags};
        __builtin_prefetch((const void *)(uintptr_t)cqe->user_data);
    }
    io_uring_cq_advance(&loop->ring, count);
    return count;
}

static void loop_reap(struct loop *loop)
{
    struct loop_event events[LOOP_BATCH];
    if (io_uring_cq_has_overflow(&loop->ring))
        loop->stats.overflows++;
    unsigned count = 0;
    unsigned total = 0;
    do {
        count = loop_take_batch(loop, events);
        for (unsigned index = 0; index < count; index++)
            loop_dispatch(&events[index]);
        total += count;
    } while (count == LOOP_BATCH);
    loop->stats.completions += total;
    unsigned events_only = total > loop->sent_before ? total - loop->sent_before : 0;
    loop->load += (events_only * LOOP_LOAD_UNIT) / 8 - loop->load / 8;
}

static void loop_run_hooks(struct loop *loop)
{
    list_each(link, &loop->hooks)
    {
        struct loop_hook *hook = list_entry(link, struct loop_hook, link);
        hook->fn(hook);
    }
}

static void loop_run_late(struct loop *loop)
{
    list_each(link, &loop->hooks)
    {
        struct loop_hook *hook = list_entry(link, struct loop_hook, link);
        if (hook->late != NULL)
            hook->late(hook);
    }
}

static bool loop_drain_mailboxes(struct loop *loop)
{
    return loop->wake_fn != NULL && loop->wake_fn(loop->wake_ctx);
}

static uint64_t loop_wait_us(const struct loop *loop, uint64_t max_wait_us)
{
    if (!list_is_empty(&loop->ready) || !list_is_empty(&loop->flush))
        return 0;
    if (atomic_load_explicit(&loop->stopping, memory_order_relaxed))
        return 0; /* pairs with nothing: a late look costs one turn, loop_stop also writes the eventfd */
    uint64_t wait_us = loop->wait_us < max_wait_us ? loop->wait_us : max_wait_us;
    uint64_t timer_us = timer_wheel_wait_us(&loop->wheel, loop->now_us);
    return timer_us < wait_us ? timer_us : wait_us;
}

/* Announces the sleep, then looks once more; true when the mailboxes were still empty. */
static bool loop_fall_asleep(struct loop *loop)
{
    atomic_store_explicit(&loop->sleeping, true, memory_order_relaxed);
    /* Pairs with the fence in loop_wake: either the producer sees the flag or we see its message. */
    atomic_thread_fence(memory_order_seq_cst);
    return !loop_drain_mailboxes(loop);
}

/*
 * One system call: submits everything and waits. liburing's own way to do that enters the kernel a second
 * time when the wait of the first ran out.
 */
static int loop_enter(struct loop *loop, unsigned wait_count, uint64_t wait_us)
{
    struct io_uring_sq *sq = &loop->ring.sq;
    sq->sqe_head = sq->sqe_tail;
    io_uring_smp_store_release(sq->ktail, sq->sqe_tail);
    unsigned submit_count = sq->sqe_tail - io_uring_smp_load_acquire(sq->khead);
    struct __kernel_timespec time = {.tv_sec = (int64_t)(wait_us / 1000000),
                                     .tv_nsec = (int64_t)(wait_us % 1000000) * 1000};
    struct io_uring_getevents_arg argument = {
        .sigmask_sz = _NSIG / 8,
        .ts = wait_us == UINT64_MAX ? 0 : (uint64_t)(uintptr_t)&time,
    };
    unsigned flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG | loop->enter_flags;
    loop->stats.enters++;
    return io_uring_enter2((unsigned)loop->ring.enter_ring_fd, submit_count, wait_count, flags,
                           (sigset_t *)(void *)&argument, sizeof(argument));
}

/*
 * How many events the next turn waits for. When turns come with several each, it is worth waiting a little
 * for the next ones together: going to sleep and being woken costs more than handling an event. A turn that
 * gathered little makes the next one wait for the first event again.
 */
static unsigned loop_gather(const struct loop *loop)
{
    unsigned usual = loop->load / LOOP_LOAD_UNIT;
    return usual >= LOOP_GATHER_FROM ? (usual < LOOP_GATHER_MAX ? usual : LOOP_GATHER_MAX) : 1;
}

static void loop_submit_and_wait(struct loop *loop, uint64_t wait_us)
{
    unsigned gather = loop_gather(loop);
    unsigned wait_count = wait_us > 0 ? 1 : 0;
    if (wait_count > 0 && gather > 1) {
        /* Small sends nearly always end within the submission: their completions are no reason to wake up. */
        wait_count = gather + loop->small_sends;
        wait_us = wait_us < LOOP_GATHER_US ? wait_us : LOOP_GATHER_US;
    }
    loop->sent_before = loop->small_sends;
    loop->small_sends = 0;
    loop_check_submit(loop_enter(loop, wait_count, wait_us));
}

void loop_turn(struct loop *loop, uint64_t max_wait_us)
{
    if (!loop->adopted)
        loop_adopt(loop);
    loop->now_us = clock_monotonic_us();
    loop->now_wall_ms = clock_wall_ms();
    loop->wait_us = UINT64_MAX;
    loop->stats.turns++;
    if (loop->begin_fn)
        loop->begin_fn(loop->begin_ctx);

    loop_reap(loop);
    timer_wheel_expire(&loop->wheel, loop->now_us);
    loop_drain_mailboxes(loop);
    conn_deliver_ready(loop);
    loop_run_hooks(loop);
    conn_flush_all(loop);
    conn_feed_starved(loop, buffers_replenish(&loop->buffers));
    loop_run_late(loop);

    uint64_t wait_us = loop_wait_us(loop, max_wait_us);
    if (wait_us > 0 && !loop_fall_asleep(loop))
        wait_us = 0;
    loop_submit_and_wait(loop, wait_us);
    loop->stats.allocations = loop->tx_pool.allocations + loop->tls.allocations + loop->held_copies;
    /* Relaxed: a producer that still sees the old value sends one wake too many. */
    atomic_store_explicit(&loop->sleeping, false, memory_order_relaxed);
}

void loop_run(struct loop *loop)
{
    /* Pairs with the release in loop_stop: what the stopper did before is seen after the loop. */
    while (!atomic_load_explicit(&loop->stopping, memory_order_acquire))
        loop_turn(loop, UINT64_MAX);
}

void loop_stop(struct loop *loop)
{
    atomic_store_explicit(&loop->stopping, true, memory_order_release);
    loop_write_event(loop);
}

void loop_set_begin_fn(struct loop *loop, void (*fn)(void *ctx), void *ctx)
{
    loop->begin_fn = fn;
    loop->begin_ctx = ctx;
}

uint64_t loop_now_us(const struct loop *loop)
{
    return loop->now_us;
}

uint64_t loop_now_wall_ms(const struct loop *loop)
{
    return loop->now_wall_ms;
}

void loop_add_hook(struct loop *loop, struct loop_hook *hook)
{
    assert(hook->fn != NULL);
    list_init(&hook->link);
    list_push_back(&loop->hooks, &hook->link);
}

void loop_wake_within(struct loop *loop, uint64_t us)
{
    if (us < loop->wait_us)
        loop->wait_us = us;
}

void loop_set_wake_fn(struct loop *loop, bool (*fn)(void *ctx), void *ctx)
{
    loop->wake_fn = fn;
    loop->wake_ctx = ctx;
}

void loop_wake(struct loop *target, struct loop *self)
{
    assert(target != self);
    /* Pairs with the fence in loop_fall_asleep. */
    atomic_thread_fence(memory_order_seq_cst);
    if (!atomic_load_explicit(&target->sleeping, memory_order_relaxed))
        return;
    /* One of several producers sends the wake; the others rely on it. */
    if (!atomic_exchange_explicit(&target->sleeping, false, memory_order_relaxed))
        return;
    if (self == NULL) {
        loop_write_event(target);
        return;
    }
    struct io_uring_sqe *sqe = loop_sqe_ignored(self);
    io_uring_prep_msg_ring(sqe, target->ring_fd, 0, (uint64_t)(uintptr_t)&target->woken, 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)target | LOOP_WAKE_TAG);
}

bool loop_is_sleeping(const struct loop *loop)
{
    return atomic_load_explicit(&loop->sleeping, memory_order_relaxed);
}

const struct loop_stats *loop_stats(const struct loop *loop)
{
    return &loop->stats;
}

void loop_free(struct loop *loop)
{
    if (loop == NULL)
        return;
    assert(list_is_empty(&loop->ready) && list_is_empty(&loop->flush));
    if (loop->adopted) {
        /* The kernel may write event_value until the read has come home; it is not watched again. */
        loop->event.fn = loop_on_last_event;
        loop_cancel(loop, &loop->event);
        for (loop_reap(loop); loop->event_armed; loop_reap(loop))
            loop_submit_and_wait(loop, UINT64_MAX);
        loop_submit_and_wait(loop, 0);
    }
    if (loop->ring.ring_fd >= 0) {
        buffers_deinit(&loop->buffers);
        io_uring_queue_exit(&loop->ring);
    }
    if (loop->event_fd >= 0)
        close(loop->event_fd);
    tls_buffers_deinit(&loop->tls);
    tx_pool_deinit(&loop->tx_pool);
    free(loop);
}
