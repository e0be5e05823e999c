/*
 * A site is the hosts that take the mail of some domains, seen from one worker: which lanes and deliveries
 * wait for it, which sessions serve it, and whether it can be reached at all. Worker's thread only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "gateway/base/list.h"
#include "gateway/outbound/endpoint.h"
#include "gateway/outbound/outbound.h"

struct job;
struct client;

enum {
    SITE_REASON_SIZE = 256,
    SITE_NO_INDEX = UINT32_MAX, /* the configuration does not know it (any more) */
};

/*
 *            a session concluded a message
 *      ┌────────────────────────────────────┐
 *      ▼                                    │
 *     UP ──every host failed──▶ DOWN ──back-off over──▶ PROBING
 *                                ▲                          │
 *                                └─────every host failed────┘
 */
enum site_state {
    SITE_UP,
    SITE_DOWN,    /* nothing is tried until down_until_us */
    SITE_PROBING, /* one session, one delivery */
};

struct site {
    struct outbound *outbound;
    struct list dirty_link;   /* in outbound.dirty */
    struct list alarm_link;   /* in outbound.alarms while alarm_us is set */
    struct list leaving_link; /* in outbound.leaving */
    char *name;
    uint32_t index; /* in the configuration, or SITE_NO_INDEX */
    bool is_leaving;

    struct endpoint *endpoints;       /* in the order of preference */
    uint32_t endpoint_count;          /* 0: the site of domains without a route */
    uint32_t limit;                   /* connections of all workers together */
    uint32_t share;                   /* of them, those of this worker */
    uint32_t messages_per_connection; /* 0: no limit */
    uint32_t recipients_per_message;

    enum site_state state;
    char reason[SITE_REASON_SIZE]; /* of the last failure, beginning with an enhanced status code */
    uint64_t down_until_us;
    uint32_t down_backoff_ms; /* the last one; 0: none since the last success */
    uint64_t open_after_us;   /* no further connection before: the last try was turned down */
    uint32_t open_backoff_ms;
    uint64_t waiting_since_us; /* something waits and could get a connection of its own; 0: nothing */
    uint64_t refused_since_us; /* share is 0 and nobody takes what waits; 0: not so */
    uint64_t alarm_us;         /* pump it then; UINT64_MAX: not set */

    struct list ready;    /* lanes that may have something, by lane_link.ready_link; taken in turn */
    struct list jobs;     /* deliveries that wait here for a session */
    struct list sessions; /* all */
    struct list idle;     /* sessions that can start a message at once, last used first */
    struct list half;     /* sessions that can put an envelope behind the message in flight */
    uint32_t job_count;   /* in jobs */
    uint32_t session_count;
    uint32_t connecting; /* sessions that are not ready yet */
    uint32_t closing;    /* sessions whose connection is about to be gone */
    uint32_t idle_count;
    uint32_t half_count;
    uint32_t taking; /* queue_take calls whose taken() is still to come */
    uint32_t handed; /* deliveries at other workers */
    uint32_t users;  /* sessions, jobs, takes, handed deliveries: the site stays until they are gone */
    uint32_t end_us; /* smoothed time from the end of content to its reply */
};

/* NULL: no memory. Without `config`: the site of domains without a route. */
struct site *site_new(struct outbound *outbound, const struct config_site *config)
    __attribute__((warn_unused_result));
void site_free(struct site *site);

/* Same name, same hosts, same addresses in the same order. */
bool site_is_same(const struct site *site, const struct config_site *config);

/* Takes over limits and index. */
void site_configure(struct site *site, const struct config_site *config);

/* The configuration no longer knows the site: what waits goes home untried, sessions end when they are done.
 */
void site_leave(struct site *site);

/* Notes that the site has to be pumped. */
void site_touch(struct site *site);
void site_set_alarm(struct site *site, uint64_t at_us);

void site_use(struct site *site);
void site_unuse(struct site *site);

/* The first usable endpoint, or NULL. */
struct endpoint *site_endpoint(struct site *site);

/* Notes why the site fails; printf-like. */
void site_set_reason(struct site *site, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A session could not be set up, or broke without having concluded a message. `has_deferred`: a delivery
 * already paid for it. With site->reason. */
void site_endpoint_failed(struct site *site, struct endpoint *endpoint, bool has_deferred);

/* A session concluded a message: whatever it was, the way there works. */
void site_endpoint_worked(struct site *site, struct endpoint *endpoint);

/* pump.c: starts what can be started. */
void site_pump(struct site *site);

/* take.c: takes one delivery from the lanes into site->jobs (perhaps later). False: nothing waits in them. */
bool site_take(struct site *site);
/* Defers what stands first, with site->reason. */
void site_defer_head(struct site *site);
/* Defers, and so expires, what stands first in its lane for longer than mail is kept; at most 100 deliveries.
 */
void site_defer_old(struct site *site);
/* What waits here or in the lanes, counted only up to `enough`. */
uint64_t site_waiting(struct site *site, uint64_t enough);
/* Puts a job among those that wait; takes the first. */
void site_push_job(struct site *site, struct job *job, bool first);
struct job *site_pop_job(struct site *site);
/* Sends all that waits here home, untried. */
void site_return_jobs(struct site *site);
