#pragma once

/*
 * The receiving side of one worker: SMTP sessions that turn what clients send into messages of the worker's
 * queue shard (RFC 5321, 1870, 2034, 2920, 3030, 3207, 3461, 4954, 6152, 6409, 6531).
 *
 * Everything here belongs to the worker's thread. A client reads `250` for a message only after the queue has
 * called it durable. Steady traffic takes all its memory from the pool.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/list.h"
#include "gateway/message/received.h"

struct counters;
struct hasher;
struct hasher_job;
struct log_writer;
struct loop;
struct policy;
struct pool;
struct queue;
struct rate_table;
struct sockaddr;

enum {
    INBOUND_BAD_COMMANDS_MAX = 20,     /* in a row; then 421 4.7.0 */
    INBOUND_BAD_COMMANDS_STRESSED = 3, /* the same for a stranger when the house is nearly full */
    INBOUND_FAILED_LOGINS_MAX = 5,     /* of a connection; then 421 4.7.0 */
    INBOUND_STRESSED_MS = 10 * 1000,   /* no timeout of a stranger is longer when the house is nearly full */
    INBOUND_LISTED_PERCENT = 10,       /* of limits.connections is kept for clients in relay.networks */
    INBOUND_HOPS_MAX = 100,            /* Received: fields of a message (RFC 5321 §6.3) */
    INBOUND_UNREAD_MAX = 64 * 1024,    /* octets of replies that a client may leave unread */
    INBOUND_DIRECT_MIN = 64 * 1024,    /* see inbound_options.direct_min */
    INBOUND_DRAIN_MS = 10 * 1000,      /* for open transactions to end, after inbound_drain */
    INBOUND_QUESTION_MS = 5 * 1000,    /* so long a client waits for the DNS; then it passes for unknown */
    INBOUND_QUESTIONS_MAX = 256,       /* with the DNS at a time; beyond, senders pass unasked */
};

/* All pointers are borrowed and outlive the inbound; the policy until inbound_set_policy names the next one.
 */
struct inbound_options {
    struct loop *loop;
    struct queue *queue;
    const struct policy *policy;
    struct log_writer *log;
    struct counters *counters;
    struct pool *pool;
    /* any thread (atomic): the connections of all workers together, which limits.connections bounds; NULL:
     * those of this one alone count. */
    _Atomic uint32_t *connection_count;
    struct rate_table *rates;     /* shared by all workers */
    struct hasher *hasher;        /* shared by all workers; NULL where no listener offers a login */
    const uint8_t *server_secret; /* SASL_SECRET_SIZE octets, the same for all workers */
    /* On a thread of the hasher: carries the job to the worker, which calls inbound_password_checked. The
     * context is the job's. */
    void (*password_checked)(struct hasher_job *job);
    void *password_context;
    /* Octets still to come of a chunk from which on they are received straight into the log's page: below,
     * the queue's write of its own costs more than the copy. 0: INBOUND_DIRECT_MIN. */
    uint32_t direct_min;
    /*
     * Asks the DNS whether a domain says of itself that it takes no mail (a null MX, RFC 7505): `answer` is
     * called once, from the loop, never from inside of this call; whatever is no clear answer is false. The
     * domain comes as idna_domain_key wrote it, zero-terminated, and is copied. False: it cannot be asked
     * now. NULL: nobody is asked, whatever admission.reject_null_mx_sender says.
     */
    bool (*ask_null_mx)(void *context, const char *domain, void (*answer)(void *asker, bool is_null),
                        void *asker);
    void *dns_context;
    uint32_t question_ms; /* so long a client waits for the answer; 0: INBOUND_QUESTION_MS */
};

struct inbound {
    struct inbound_options options;
    struct list sessions; /* all of them */
    struct list waiting;  /* those that wait for room in the queue, first come first served */
    uint32_t session_count;
    uint32_t check_count;       /* passwords that are with the hasher */
    uint32_t question_count;    /* with the DNS, of sessions that are gone among them */
    uint32_t config_number;     /* counts the snapshots that were adopted */
    _Atomic uint32_t own_count; /* stands in for a missing options.connection_count */
    uint64_t drain_deadline_us; /* 0: not draining */
    struct received_date date;
};

/* In place; the struct may not move afterwards. Only connection_count, direct_min,
 * ask_null_mx and question_ms may be missing. */
void inbound_init(struct inbound *inbound, const struct inbound_options *options);

/* Every session must have ended: inbound_session_count is 0; and every question be answered. */
void inbound_deinit(struct inbound *inbound);

/*
 * Takes a connected socket that came in on listener `listener_index` of the configuration. `client` is who
 * stands behind it; NULL: its peer. A connection beyond the limit is told so and closed.
 */
void inbound_accept(struct inbound *inbound, int fd, uint32_t listener_index, const struct sockaddr *client);

/*
 * From now on this snapshot is in force, for open sessions from their next command on: none keeps a pointer
 * into a config between two turns. The listeners are the same, in the same order.
 */
void inbound_set_policy(struct inbound *inbound, const struct policy *policy);

/* A password was checked: the job that options.password_checked was given. */
void inbound_password_checked(struct inbound *inbound, struct hasher_job *job);

/* The queue's room() callback: sessions that wait for room go on. */
void inbound_room(struct inbound *inbound);

/*
 * Ends the sessions: idle ones read `421 4.3.2` now, those in a transaction when it is over or after
 * INBOUND_DRAIN_MS, whichever is first; a commit under way is always waited for and answered. New connections
 * are turned away.
 */
void inbound_drain(struct inbound *inbound);

/* Sessions that still hold memory, commits and checks of passwords without a client among them. */
uint32_t inbound_session_count(const struct inbound *inbound);
