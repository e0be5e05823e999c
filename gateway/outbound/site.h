/*
 * A site is a next hop seen from one worker: which lanes and deliveries wait for it, which sessions serve it,
 * whether it can be reached at all, and how fast it may be. Worker's thread only.
 *
 * Whose connections they are:
 * - Most sites belong to one worker, found by the hash of what their limits are named by: it alone connects,
 * so that the limits hold exactly. The others hand it what waits with them.
 * - A site of fixed hosts without limits on speed is spread: each worker has a part of its connections, and
 * so it has of those of all other sites in the same section.
 *
 * A site without hosts has a verdict: an outcome that all its mail gets at once.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "gateway/base/list.h"
#include "gateway/outbound/endpoint.h"
#include "gateway/outbound/next_hop.h"
#include "gateway/outbound/outbound.h"

struct job;
struct client;
struct group;
struct lane_link;
struct probe;

enum {
    SITE_REASON_SIZE = 256,
    SITE_NO_INDEX = UINT32_MAX,
    SITE_HANDED_MIN = 16,   /* deliveries of one site that its owner may hold for us, to begin with */
    SITE_HANDED_MAX = 1024, /* and when it delivers them well */
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

/* What the far side makes us feel; the site slows down. */
enum site_pressure {
    SITE_PRESSURE_CONNECTION, /* a connection was turned down while others are served */
    SITE_PRESSURE_RATE,       /* a message was refused because of our speed */
};

struct site {
    struct outbound *outbound;
    struct list bucket_link;  /* in outbound.buckets */
    struct list dirty_link;   /* in outbound.dirty */
    struct list alarm_link;   /* in outbound.alarms while alarm_us is set */
    struct list unused_link;  /* in outbound.unused while nobody uses it */
    struct list waiting_link; /* in group.waiting, .growing or .host_waiting */
    struct list spare_link;   /* in group.spare */
    struct list turn_link;    /* in group.turns */
    uint64_t hash;            /* of the key */
    const char *key;          /* the next hop's, or of the verdict */
    const char *name;         /* for the log; the same */

    /* of a site with a verdict: */
    uint16_t verdict_code; /* 250 (discard), 4xx or 5xx; 0: none */
    char *verdict_text;    /* begins with an enhanced status code, or with a reply's code before it */

    /* of a site with hosts: */
    struct next_hop *hop;
    struct group *group;
    struct config_limits limits; /* those of the group, a copy */
    struct list endpoints;       /* by preference; equals in random order */
    struct list old_endpoints;   /* whose addresses the hop no longer has, until their last session is gone */
    uint32_t index;              /* of its destination in the configuration, or SITE_NO_INDEX */
    uint64_t renewed_us;         /* when its addresses last changed */
    uint32_t owner;              /* the worker that it belongs to; if divided, of those with a part */
    bool is_divided;             /* each worker has a part of the connections, */
    bool is_spread;              /* and what waits goes to those with room */
    bool is_leaving;             /* the configuration no longer leads here */
    bool is_disowned;            /* while a configuration is taken over: not claimed by it yet */
    uint32_t share;     /* connections that this worker may have at a time; 0: the mail goes to others */
    struct list *line;  /* of the group, that waiting_link was put into last */
    bool stays_in_line; /* in this pump it found that it has to wait */

    enum site_state state;
    char reason[SITE_REASON_SIZE]; /* of the last failure, beginning with an enhanced status code */
    uint64_t down_until_us;
    uint32_t down_backoff_ms;  /* the last one; 0: none since the last success */
    struct probe *probe;       /* of a spread site, shared by all workers; NULL: this one decides alone */
    uint64_t claim_us;         /* of the probe, while this worker has it; 0: it has not */
    uint64_t waiting_since_us; /* something waits and could get a connection of its own; 0: nothing */
    uint64_t alarm_us;         /* pump it then; UINT64_MAX: not set */
    uint64_t unused_since_us;

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
    uint32_t taking;        /* queue_take calls whose taken() is still to come */
    uint32_t handed;        /* deliveries at other workers */
    uint32_t handed_max;    /* at the owner, at a time */
    uint64_t worked_us;     /* when the owner last delivered one, or the site was made */
    uint64_t returned_us;   /* when deliveries of others last went home because the site is down */
    uint64_t give_after_us; /* what was given away came home untried: wait so long */
    uint32_t users;  /* lanes, sessions, jobs, takes, handed deliveries: the site stays until they are gone */
    uint32_t end_us; /* smoothed time from the end of content to its reply */
};

/* The site of a next hop, made if it is not there; the hop's addresses replace those that it had. NULL
 * without memory. */
struct site *site_of_hop(struct outbound *outbound, struct next_hop *hop) __attribute__((warn_unused_result));

/* The same for the destination of this number in the configuration. */
struct site *site_of_listed(struct outbound *outbound, struct next_hop *hop, uint32_t index)
    __attribute__((warn_unused_result));

/* The site where all mail gets this outcome: 250, 4xx or 5xx, and a text that begins with an enhanced status
 * code, or with `code` before it where it is to read as a reply. NULL without memory. */
struct site *site_of_verdict(struct outbound *outbound, uint16_t code, const char *text)
    __attribute__((warn_unused_result));

void site_free(struct site *site);

/* All sites, those that leave too; `visit` may free the one that it gets. */
void site_each(struct outbound *outbound, void (*visit)(struct site *site));

/* New limits after a reload. */
void site_configure(struct site *site);

/* The configuration no longer leads here: what waits goes home untried, sessions end when they are done. */
void site_leave(struct site *site);

/* Notes that the site has to be pumped. */
void site_touch(struct site *site);
void site_set_alarm(struct site *site, uint64_t at_us);

void site_use(struct site *site);
void site_unuse(struct site *site);

/* Whether this worker opens connections to it. */
static inline bool site_is_ours(const struct site *site)
{
    return site->hop != NULL && site->share > 0;
}

/* Notes why the site fails; printf-like. */
void site_set_reason(struct site *site, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A session could not be set up, or broke without having concluded a message. `has_deferred`: a delivery
 * already paid for it. With site->reason. Where the endpoint serves other sessions it is not dead, only full,
 * and the site is pressed. */
void site_endpoint_failed(struct site *site, struct endpoint *endpoint, bool has_deferred);

/* All endpoints are left out although none has just failed: their list was renewed. With site->reason. */
void site_nothing_left(struct site *site);

/* A session concluded a message: whatever it was, the way there works. `was_pressed`: it was refused because
 * of our speed. */
void site_endpoint_worked(struct site *site, struct endpoint *endpoint, bool was_pressed);

/* It works, as was just seen, here or by another worker. Not when it is up. */
void site_come_up(struct site *site);

/* The far side asked us to slow down. Once for each message or connection at most. */
void site_pressed(struct site *site, struct endpoint *endpoint, enum site_pressure pressure);

/* A session begins to exist, or is wholly gone. From client.c. */
void site_session_opened(struct site *site, struct endpoint *endpoint);
void site_session_closed(struct site *site, struct endpoint *endpoint);

/* --- site_hosts.c: addresses --- */

/* Makes the endpoints those of site->hop; endpoints that stay keep what they learned. -ENOMEM: as before. */
int site_take_hosts(struct site *site) __attribute__((warn_unused_result));
void site_drop_hosts(struct site *site);

/* A session with it is gone: so is an endpoint that is no longer the site's, with its last one. */
void site_release_endpoint(struct endpoint *endpoint);

/* The endpoint that the next connection goes to: of the hosts that are not left out and have room, the best
 * preference; among equals the one with the fewest sessions for its weight; of its addresses the first family
 * that is not left out, and there the one with the fewest sessions. NULL: none. */
struct endpoint *site_endpoint(struct site *site);

/* Whether any endpoint is not left out. */
bool site_has_endpoint(const struct site *site);

/* By weights: the endpoint that the next message should go to; NULL where there are none. */
struct endpoint *site_weighted_endpoint(struct site *site);

/* Counts a message for the weights. */
void site_count_sent(struct site *site, struct endpoint *endpoint);

/* Whether something is still to be heeded: what an endpoint showed (a lower gear, no TLS, no EHLO), or what
 * was sent, by a limit that the site has for itself. */
bool site_remembers(const struct site *site, uint64_t now_us);

/* Forgets which endpoints are left out. */
void site_allow_all(struct site *site);

/* --- down.c: when a site that is down is tried again, and by whom --- */

/* It is down until down_until_us, as far as this worker knows: tells the others, and looks again in time. */
void site_went_down(struct site *site);

/* A session that was begun before became ready: it is the probe, unless another worker probes. */
void site_found_session(struct site *site);

/* Before all else in a pump: heeds what others found, begins a probe whose time has come, keeps it. */
void site_look_up(struct site *site);

/* Whether a probe could begin now; if not, the site is pumped when it may be. */
bool site_may_probe(struct site *site);

/* Another worker may probe. */
void site_stop_probing(struct site *site);

/* --- pump.c --- */

/* Starts what can be started. */
void site_pump(struct site *site);

/* hand.c: gives what waits to other workers. */
void site_hand_over(struct site *site);

/* --- take.c: what waits --- */

/* Takes one delivery from the lanes into site->jobs (perhaps later). False: nothing waits in them, or too
 * much waits to be reported: then the site is touched when that is over. */
bool site_take(struct site *site);
/* Gives what stands first its verdict, or defers it with site->reason. */
void site_defer_head(struct site *site);
/* Takes what stands first in the lane, and has waited for too long. Too old: it is deferred, and so expires;
 * else its sender is told that it is late, and it goes back, untried; both with site->reason. False: nothing
 * there, or no memory. */
bool site_take_late(struct site *site, struct lane_link *link);
/* What waits here or in the lanes, counted only up to `enough`. */
uint64_t site_waiting(struct site *site, uint64_t enough);
/* Puts a job among those that wait; takes the first. */
void site_push_job(struct site *site, struct job *job, bool first);
struct job *site_pop_job(struct site *site);
/* Sends all that waits here, or one of these, home, untried. */
void site_return_jobs(struct site *site);
void site_return_job(struct site *site, struct job *job);
/* Wraps an own delivery that came home, untried and late, and does as site_take_late. */
void site_judge_late(struct site *site, struct queue_delivery *delivery);

/* --- sweep.c --- */

/* A delivery that waits has done so for too long, since the site cannot be reached or takes too little:
 * site->reason says which. */
bool site_is_late(struct site *site, const struct queue_delivery *delivery);
/* Deliveries of other workers that wait here and are late go home; all, if the site is down. */
void site_send_late_home(struct site *site);
