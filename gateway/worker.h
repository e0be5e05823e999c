/* A worker: one pinned thread with its own ring, listeners, sessions, queue shards and pools to next hops.
 *
 * Workers share nothing but what is marked so. They talk through mailboxes: bounded rings of tagged pointers,
 * see worker_post. The wiring of the rooms is here and in main.c.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "gateway/base/config.h"
#include "gateway/base/counters.h"
#include "gateway/base/log.h"
#include "gateway/base/pool.h"
#include "gateway/inbound/inbound.h"
#include "gateway/net/listener.h"
#include "gateway/net/loop.h"
#include "gateway/outbound/outbound.h"
#include "gateway/sasl/sasl.h"
#include "gateway/shard.h"
#include "gateway/snapshot.h"
#include "queue/queue.h"

struct gateway;

/* What a letter in a mailbox is: kept in the low bits of the pointer, which are zero in all that we send. */
enum letter {
    LETTER_DELIVER, /* struct queue_delivery: deliver it and send it home */
    LETTER_HOME,    /* struct queue_delivery: of this worker, with its outcomes */
    LETTER_ACCEPT,  /* a connected socket and its listener's number, no pointer */
    LETTER_CONFIG,  /* struct snapshot: adopt it */
    LETTER_ORDER,   /* an enum order, no pointer: see worker_order */
    LETTER_CHECKED, /* struct hasher_job: a password was checked */
    LETTER_ASK,     /* struct hop_query: ask the DNS */
    LETTER_ANSWER,  /* struct hop_query: what it said */
};

/* What the control thread wants. */
enum order {
    ORDER_PUBLISH, /* bring the counters up to date */
    ORDER_DRAIN,   /* take nothing new, end what is open */
    ORDER_STOP,    /* write what is pending, then leave the loop */
};

struct worker_listener {
    struct listener listener;
    struct worker *worker;
    uint32_t index; /* of the section in the configuration */
    int fd;         /* bound by the main thread */
    bool stopped;
};

struct worker {
    /* immutable after start */
    struct gateway *gateway;
    uint32_t index;
    int cpu; /* to be pinned to; -1: not */
    pthread_t thread;
    bool has_thread;
    struct loop *loop;
    struct log_writer *log;
    struct shard *shards; /* the first takes new messages; others are left by a run with more workers */
    uint32_t shard_count;
    struct worker_listener *listeners;
    uint32_t listener_count;

    /* any thread (atomic) */
    struct counters counters;
    struct ring mailbox;
    _Atomic uint32_t sessions;                /* open inbound ones; relaxed, a hint for balancing */
    _Atomic(const struct snapshot *) adopted; /* release; the control thread's acquire frees older ones */
    _Atomic uint32_t published;               /* ORDER_PUBLISH answered; release */
    _Atomic bool quiet;                       /* draining is over; release */
    _Atomic bool ready;                       /* takes connections; release */
    _Atomic int start_error;                  /* negative errno, before ready */

    /* owner thread */
    struct pool pool;
    struct inbound inbound;
    struct outbound outbound;
    struct loop_hook hook;
    const struct snapshot *snapshot;
    struct queue_delivery *homeless; /* deliveries whose home mailbox was full */
    struct hop_query *unsent;        /* queries, asked or answered, for which a mailbox was full */
    int64_t next_tick_ms;
    uint64_t swept_us;       /* when what waits was last looked through */
    uint64_t drain_until_us; /* 0: not draining */
    bool draining_out;       /* inbound is done, outbound is ending */
    bool stopping;
};

/* What the workers share. */
struct gateway {
    struct worker *workers;
    uint32_t worker_count;
    struct shard *shards; /* all of them, in order of number */
    uint32_t shard_count;
    struct log *log;
    _Atomic uint32_t connections; /* open inbound ones, over all workers */
    _Atomic bool given_up;        /* the start failed: threads end; relaxed */
    _Atomic bool parting;         /* the last letter is sent: rings may be freed; release */
    uint64_t start_wall_ms;
    struct rate_table *rates;        /* what clients did in the last minute */
    struct rate_table *notice_rates; /* notices sent in the last minute */
    struct probes *probes;           /* who tries a site that is down */
    struct hasher *hasher;           /* checks passwords */
    uint8_t server_secret[SASL_SECRET_SIZE];
};

/* Starts the thread. The fields up to `listener_count`, save loop, are set. 0 or a negative errno. */
int worker_start(struct worker *worker, const struct snapshot *snapshot) __attribute__((warn_unused_result));

/* Puts a letter into the worker's mailbox and wakes it. `self`: the sending worker, NULL for the control
 * thread. False: the mailbox is full. */
bool worker_post(struct worker *worker, struct worker *self, enum letter letter, void *content)
    __attribute__((warn_unused_result));

/* The same for an order. */
bool worker_order(struct worker *worker, enum order order) __attribute__((warn_unused_result));
