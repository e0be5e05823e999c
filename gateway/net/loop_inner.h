#pragma once

/*
 * What a loop is made of, for gateway/net alone. See loop.h for the contract.
 */

#include <stdatomic.h>

#include "gateway/net/buffers.h"
#include "gateway/net/loop.h"
#include "gateway/net/timer.h"
#include "gateway/net/tls_buffers.h"
#include "gateway/net/tx.h"

#define LOOP_SMALL_SEND 16384 /* bytes that a socket with room takes at once */

struct loop {
    /* Immutable after loop_new; any thread. */
    int ring_fd;
    int event_fd;

    /* Owner thread. */
    struct io_uring ring;
    uint32_t enter_flags;
    uint32_t small_sends; /* in this turn */
    uint32_t sent_before; /* in the last turn: completions that are no news */
    uint32_t load;        /* events a turn, a moving average in LOOP_LOAD_UNIT-ths */
    bool adopted;
    bool event_armed;
    uint64_t now_us;
    uint64_t now_wall_ms;
    uint64_t wait_us; /* the least that loop_wake_within asked for in this turn */
    struct list hooks;
    struct list ready; /* connections with held bytes to deliver, by ready_link */
    struct list flush; /* connections with something to submit or to finalise, by flush_link */
    bool (*wake_fn)(void *ctx);
    void *wake_ctx;
    void (*begin_fn)(void *ctx);
    void *begin_ctx;
    struct completion ignored; /* of operations whose success says nothing and whose failure is harmless */
    struct completion woken;   /* posted here by another worker */
    struct completion event;
    uint64_t event_value;
    struct tx_pool tx_pool;
    struct buffers buffers;
    struct tls_buffers tls;
    uint64_t held_copies; /* of bytes that paused connections hold on the heap */
    struct loop_stats stats;
    struct timer_wheel wheel;

    /* Any thread (atomic). In a cache line of their own: others look at them for each thing they hand over.
     */
    _Alignas(64) atomic_bool sleeping;
    atomic_bool stopping;
    char padding[62];
};

static_assert(sizeof(struct loop) % 64 == 0, "the shared flags share their line with nothing");

/* Submits an operation that nobody waits for: only its failure makes a completion, which is ignored. */
struct io_uring_sqe *loop_sqe_ignored(struct loop *loop) __attribute__((returns_nonnull));

/* Implemented in conn_*.c; the loop calls them in a turn. */
void conn_deliver_ready(struct loop *loop);
void conn_flush_all(struct loop *loop);
void conn_feed_starved(struct loop *loop, uint32_t posted);
