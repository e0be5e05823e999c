/*
 * Outbound: what leaves. Takes deliveries from the lanes of the queue, sends them over SMTP to the hosts of
 * their site, and brings each home with an outcome for every recipient.
 *
 * One struct outbound for each worker; everything belongs to the worker's thread, save outbound_room. None of
 * the functions blocks. Work is done by outbound_pump and by the callbacks of the loop; the functions called
 * from the queue's callbacks only note what has to be done.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "gateway/base/counters.h"
#include "gateway/base/list.h"
#include "gateway/base/log.h"
#include "gateway/base/pool.h"
#include "gateway/net/loop.h"
#include "gateway/outbound/dns/resolver.h"
#include "gateway/outbound/policy.h"
#include "gateway/outbound/report.h"
#include "queue/queue.h"

struct hop_query;
struct probes;
struct rate_table;
struct site;

enum { OUTBOUND_BUCKETS = 4096 }; /* of the table of sites */

/* One read of a piece of content that is not in memory any more. */
struct outbound_read {
    /* the question: stays until done() */
    struct queue *shard; /* whose storage holds the piece; not to be called from another thread */
    const struct queue_piece *piece;
    struct queue_piece_range range; /* what to read of slot piece->slot */
    void *buffer;                   /* range.size bytes at a multiple of STORAGE_BLOCK */
    /* The answer: 0 or a negative errno. Called once, on this worker's thread, never from within read_piece.
     */
    void (*done)(struct outbound_read *read, int32_t result);
    /* the reader's own */
    struct storage_op op;
    void *reader;
};

struct outbound_options {
    struct loop *loop;
    const struct outbound_policy *policy; /* until outbound_set_policy replaces it */
    struct log_writer *log;
    struct counters *counters;
    struct pool *pool;
    uint32_t worker_index;
    uint32_t worker_count;
    void *context; /* passed to the functions below */

    /* A delivery of another worker's shard is finished: carry it to outbound_come_home there. Must not fail.
     */
    void (*send_home)(void *context, struct queue_delivery *delivery);

    /* Offers a delivery to another worker that has room for the site (see outbound_room); it gets it by
     * outbound_accept_handover. False: nobody has; the delivery stays here. NULL: never. */
    bool (*hand_over)(void *context, uint32_t site_index, struct queue_delivery *delivery);

    /* Gives a delivery to this worker, to which its site belongs; the same way. False: not now. NULL when
     * there is only one worker. */
    bool (*hand_to)(void *context, uint32_t worker, struct queue_delivery *delivery);

    /* Carries a query to hop_query_serve on query->worker; and its answer to hop_query_answered on the worker
     * that asked, query->asker. Must not fail. NULL when there is only one worker. */
    void (*ask)(void *context, struct hop_query *query);
    void (*answer)(void *context, struct hop_query *query);

    /* Whether the shard belongs to this worker. */
    bool (*is_local)(void *context, const struct queue *shard);

    void (*read_piece)(void *context, struct outbound_read *read);

    /* The first back-off of a host and of a site in milliseconds; 0: 30 s and 1 s. They double up to ten and
     * sixty times as much. */
    uint32_t host_backoff_ms;
    uint32_t site_backoff_ms;

    struct rate_table *notice_rates; /* of all workers; NULL: notices are not limited */
    struct probes *probes;           /* the same; NULL: each worker probes for itself, as when it is alone */
    const char *resolv_conf;         /* NULL: /etc/resolv.conf */
};

struct room_table;

/* All fields are private to gateway/outbound. */
struct outbound {
    /* immutable after init */
    struct outbound_options options;

    /* any thread (atomic): stores with release pair with the acquire load in outbound_room */
    _Atomic(struct room_table *) rooms;

    /* owner thread */
    const struct outbound_policy *policy;
    const struct config *config; /* the policy's */
    struct resolver *resolver;
    struct list *buckets;   /* OUTBOUND_BUCKETS: all sites, by the hash of their key */
    struct list *hosts;     /* OUTBOUND_BUCKETS, behind them: those of all groups, by their names */
    struct list groups;     /* those that several sites can share */
    struct site *no_memory; /* where mail goes that nothing better could be made for */
    struct list leaving; /* sites that the configuration no longer leads to, until their last user is gone */
    struct list unused;  /* sites without users, the longest first */
    uint64_t swept_us;   /* when those were last looked through */
    struct list links;   /* all lanes, see lane.h */
    struct list dirty;   /* sites to be pumped */
    struct list alarms;  /* sites to be pumped at a certain time */
    uint64_t alarm_us;   /* the earliest of their times, or earlier; UINT64_MAX: there is none */
    struct list feeding; /* sessions whose content can go on */
    struct reports reports;
    uint32_t session_count;
    uint32_t query_count; /* that lanes of ours wait for */
    bool is_draining;
    uint64_t began_us; /* monotonic */
    uint64_t random;
};

/* 0 or -ENOMEM. */
int outbound_init(struct outbound *outbound, const struct outbound_options *options)
    __attribute__((warn_unused_result));

/* Every session must have ended, every lane be gone or the queue be closed. Harmless on zeroed memory. */
void outbound_deinit(struct outbound *outbound);

/* From the queue's callbacks: a lane has something to take; a lane is about to go. */
void outbound_lane_ready(struct outbound *outbound, struct queue_lane *lane);
void outbound_lane_gone(struct outbound *outbound, struct queue_lane *lane);

/*
 * Takes over a new policy; nothing points into the old one afterwards, but what is in flight to other
 * workers. All lanes find their routes anew; what waits for a session goes back to them, untried. A site with
 * the same hosts and limits' section keeps its connections and what it learned; one that is gone finishes
 * what is in flight. `is_new_config`: it is more than files that changed. -ENOMEM: the old policy stays in
 * use.
 */
int outbound_set_policy(struct outbound *outbound, const struct outbound_policy *policy, bool is_new_config)
    __attribute__((warn_unused_result));

/* What delivery->user points to while a delivery is at another worker: immutable until it is home. */
struct outbound_gift {
    struct site *site;    /* the giver's own; of no meaning to the taker */
    struct next_hop *hop; /* where it is to go; a reference */
};

/* A delivery from another worker, with its gift; it goes back by send_home, whatever becomes of it. */
void outbound_accept_handover(struct outbound *outbound, struct queue_delivery *delivery);

/* A delivery of this worker's shard that another worker finished: settles and releases it. */
void outbound_come_home(struct outbound *outbound, struct queue_delivery *delivery);

/* Any thread: how many more deliveries for the site (by its index in the configuration) this worker would
 * start at once. A hint that is renewed with each pump. */
uint32_t outbound_room(const struct outbound *outbound, uint32_t site_index);

/*
 * Asks this worker's resolver whether a domain says of itself that it takes no mail (a null MX, RFC 7505),
 * for who judges a sender. `answer` is called once, from the loop, never from inside of this call, soon
 * after outbound_drain at the latest; a failure is no null MX. The domain is as idna_domain_key wrote it,
 * zero-terminated, and is copied. False: no memory, and `answer` is not called.
 */
bool outbound_ask_null_mx(struct outbound *outbound, const char *domain,
                          void (*answer)(void *asker, bool is_null), void *asker)
    __attribute__((warn_unused_result));

/* Every now and then, at least once a second while the shard holds mail: looks at what waits in its lanes for
 * messages that are late or too old. `since_us`: time since the last call for it. */
void outbound_sweep(struct outbound *outbound, struct queue *queue, uint64_t since_us);

/* Once a turn, as a hook of the loop: starts what can be started. */
void outbound_pump(struct outbound *outbound);

/* At the end of each turn, when connections have been flushed, too: makes the next turn come in time for what
 * is to be done then. */
void outbound_ask_for_turn(struct outbound *outbound);

/* Takes nothing more, lets what is in flight end, says QUIT. What waits here goes home untried. */
void outbound_drain(struct outbound *outbound);

/* Ends every session at once; what was in flight goes home as it would after a lost connection. For the end
 * of a drain that took too long. on_closed of the connections still has to come from the loop. */
void outbound_stop(struct outbound *outbound);

/* Sessions that are not wholly closed. */
uint32_t outbound_session_count(const struct outbound *outbound);

/* Nothing is under way: no session, no query, no notice that waits to be written. */
bool outbound_is_quiet(const struct outbound *outbound);

/* For jitter and for choices among equals. */
uint64_t outbound_random(struct outbound *outbound);
