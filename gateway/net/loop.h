#pragma once

/*
 * The event loop of one worker thread: an io_uring, its timers, its receive buffers and what a turn does.
 *
 * A turn: reap every completion and run its callback; fire due timers; drain the mailboxes (the wake
 * function); hand held bytes to resumed connections; run the hooks; flush every connection with queued
 * output (one submission each); submit everything and wait, in one system call.
 *
 * Threads: loop_new may run in any thread. The first thread that calls loop_turn or loop_run adopts the loop;
 * from then on only that thread may call anything here, save loop_wake, loop_stop and loop_is_sleeping.
 */

#include <liburing.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/list.h"

struct loop;

/*
 * A pending kernel operation, embedded in its owner's struct. The owner keeps the memory until `fn` has run
 * (for a multishot operation: run without IORING_CQE_F_MORE in `flags`). `result` is the operation's result
 * or a negative errno.
 */
struct completion {
    void (*fn)(struct completion *completion, int32_t result, uint32_t flags);
};

/* Work for every turn, after the callbacks of the turn. Embedded in its owner's struct; never removed.
 * Connections are flushed behind the hooks, and their callbacks may then note further work: `late`, which is
 * called last and only looks, asks for another turn by loop_wake_within. NULL: none. */
struct loop_hook {
    struct list link;
    void (*fn)(struct loop_hook *hook);
    void (*late)(struct loop_hook *hook);
};

struct loop_options {
    uint32_t sq_entries;           /* submissions a turn before an extra system call; 0: 4096 */
    uint32_t cq_entries;           /* completions the kernel can post without overflow; 0: 16384 */
    uint32_t receive_buffer_count; /* a power of two; 0: 512 */
    uint32_t receive_buffer_size;  /* bytes; 0: 16384 */
};

/* Counted since loop_new, read by the owner thread. */
struct loop_stats {
    uint64_t turns;
    uint64_t enters;         /* system calls into the ring */
    uint64_t completions;    /* callbacks run */
    uint64_t sq_full;        /* extra submissions, because the submission ring was full */
    uint64_t overflows;      /* turns that found the completion ring overflown */
    uint64_t starved;        /* receives that found no buffer */
    uint64_t sends;          /* send operations of connections */
    uint64_t tls_handshakes; /* that ended well, resumed ones included */
    uint64_t tls_resumed;
    uint64_t tls_failed;  /* handshakes that failed, or were given up */
    uint64_t allocations; /* calls of malloc by this room (growth of free lists, copies of held bytes) */
};

/*
 * NULL options mean all defaults. Errors: -ENOSYS, -EPERM (io_uring is switched off), -EINVAL (kernel older
 * than 6.1, or bad options), -ENOMEM, -EMFILE. loop_error_text says it for a human.
 */
int loop_new(const struct loop_options *options, struct loop **out) __attribute__((warn_unused_result));
const char *loop_error_text(int error);

/* NULL is fine. Connections and listeners must be closed, and reported so, before. Owner thread. */
void loop_free(struct loop *loop);

/* Turns until loop_stop. */
void loop_run(struct loop *loop);

/* One turn; waits at most `max_wait_us` (UINT64_MAX: until something happens). */
void loop_turn(struct loop *loop, uint64_t max_wait_us);

/* Makes loop_run return after the current turn. Any thread. */
void loop_stop(struct loop *loop);

/* Time as it was when the turn began: monotonic microseconds, wall clock milliseconds. */
uint64_t loop_now_us(const struct loop *loop);
uint64_t loop_now_wall_ms(const struct loop *loop);

/*
 * A cleared submission whose user_data is already `completion`: prepare it with io_uring_prep_* and then set
 * nothing else but flags; the submission happens at the end of the turn. Never NULL: a full ring is submitted
 * first. The prepare functions of liburing 2.3 keep user_data, so the order does not matter.
 */
struct io_uring_sqe *loop_sqe(struct loop *loop, struct completion *completion)
    __attribute__((returns_nonnull, warn_unused_result));

/* Asks the kernel to cancel the operation of `completion`, whose callback then runs as always. */
void loop_cancel(struct loop *loop, struct completion *completion);

void loop_add_hook(struct loop *loop, struct loop_hook *hook);

/* `fn` is called first in each turn, when the turn's time is set: for what keeps a copy of it. */
void loop_set_begin_fn(struct loop *loop, void (*fn)(void *ctx), void *ctx);

/* This turn's wait ends after `us` at the latest (0: no wait). Holds for one turn; ask again in each. */
void loop_wake_within(struct loop *loop, uint64_t us);

/*
 * `fn` drains the mailboxes that other threads fill and returns whether it found anything. It runs in every
 * turn, and once more after the loop announced its sleep (see README.md for why that closes the race).
 */
void loop_set_wake_fn(struct loop *loop, bool (*fn)(void *ctx), void *ctx);

/*
 * To be called after putting something into a mailbox of `target`'s thread; costs one fence and one load
 * while the target is awake. `self` is the calling worker's own loop (the wake travels as IORING_OP_MSG_RING
 * with its next submission), or NULL in a thread without one (eventfd, at once). Any thread.
 */
void loop_wake(struct loop *target, struct loop *self);

/* Whether the loop is (about to be) asleep and nobody has sent it a wake yet. Any thread; a hint. */
bool loop_is_sleeping(const struct loop *loop);

const struct loop_stats *loop_stats(const struct loop *loop);
