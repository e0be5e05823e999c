/*
 * A job is one delivery on its way through this worker: from queue_take (or another worker) until every
 * recipient has an outcome, no send and no read uses its memory any more, and it goes home. It is the
 * delivery's user pointer. Worker's thread only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "gateway/base/list.h"
#include "gateway/message/envelope.h"
#include "gateway/net/conn.h"
#include "gateway/outbound/outbound.h"

struct feed_window;
struct client;
struct convert;
struct site;

/*
 *                          354,
 *     WAITING ──▶ ENVELOPE ─or BDAT─▶ CONTENT ─all queued─▶ ENDED ──reply──▶ OVER
 *        │            │                │                                      ▲
 *        └────────────┴────────────────┴──refused, lost, given up─────────────┘
 */
enum job_state {
    JOB_WAITING,  /* for a session */
    JOB_ENVELOPE, /* MAIL, RCPT, DATA or BDAT */
    JOB_CONTENT,  /* content is being queued to the connection */
    JOB_ENDED,    /* its last octet is queued */
    JOB_OVER,     /* every target has its outcome; waits for its memory to come back */
    JOB_STATE_COUNT,
};

/* How the content travels. */
enum job_carrier {
    CARRIER_DATA,       /* after a 354, up to the lone dot */
    CARRIER_CHUNK,      /* BDAT and all octets in one flight with the recipients */
    CARRIER_LATE_CHUNK, /* BDAT and all octets once the recipients are answered */
};

struct job {
    struct list link; /* in site.jobs, then in client.jobs */
    struct queue_delivery *delivery;
    struct site *site;
    struct client *client; /* NULL: none, or no more */
    const char *host;      /* endpoint's text once a session has it; NULL before */
    void *owner_user;      /* of a guest: what delivery->user was */
    struct conn_ref ref;   /* of the content that is sent from where it lies */
    struct envelope envelope;
    struct feed_window *windows; /* FEED_WINDOWS of them, once a piece has to be read */
    struct convert *convert;     /* 8-bit content for a peer that takes 7 bits; else NULL */
    uint64_t began_ms;           /* wall: when a session took it */
    uint64_t ended_us;           /* monotonic: when the last octet was queued */
    uint64_t end_at;             /* client.queued_bytes then */
    uint64_t size;               /* for SIZE=; of what is not converted, once it is screened */
    uint32_t holds;              /* sends and reads that use its memory */
    uint32_t accepted;           /* recipients */
    uint32_t answered;           /* RCPT commands */
    uint32_t next_target;        /* lock-step: the next one to ask for */
    uint32_t next_piece;         /* to be sent */
    uint32_t next_read;          /* to be read, if it is not in memory */
    enum job_state state;
    enum job_carrier carrier;
    bool is_guest; /* another worker's */
    bool mail_refused;
    bool has_pressed;   /* the site was told of a refusal because of our speed */
    bool is_for_nobody; /* the dot only ends a DATA that should not have been accepted */
};

/* NULL: there is nothing to send (queue_delivery.is_owed), or no memory; the delivery is then already on its
 * way home, told or deferred. */
struct job *job_new(struct site *site, struct queue_delivery *delivery) __attribute__((warn_unused_result));

/* Changes the state; asserts that the diagram allows it. */
void job_enter(struct job *job, enum job_state state);

/* Every target has its outcome: out of its list; home as soon as nothing holds it. The job may be gone
 * afterwards. */
void job_over(struct job *job);

/* One hold less; the job may be gone afterwards. */
void job_unhold(struct job *job);

/* Gives a waiting job's delivery up to somebody else; the job is gone. delivery->user is the caller's. */
struct queue_delivery *job_unwrap(struct job *job);

/* Since it was accepted; 0 where the clock was set back meanwhile. */
uint64_t delivery_age_ms(const struct outbound *outbound, const struct queue_delivery *delivery);
