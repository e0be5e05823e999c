#pragma once

/*
 * The receiving side of one worker: SMTP sessions that turn what clients send into messages of the worker's
 * queue shard (RFC 5321, 1870, 2034, 2920, 6152).
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

struct config;
struct counters;
struct log_writer;
struct loop;
struct pool;
struct queue;
struct sockaddr;

enum {
    INBOUND_BAD_COMMANDS_MAX = 20,  /* in a row; then 421 4.7.0 */
    INBOUND_HOPS_MAX = 100,         /* Received: fields of a message (RFC 5321 §6.3) */
    INBOUND_UNREAD_MAX = 64 * 1024, /* octets of replies that a client may leave unread */
    INBOUND_DRAIN_MS = 10 * 1000,   /* for open transactions to end, after inbound_drain */
};

/* All pointers are borrowed and outlive the inbound; the config until inbound_set_config names the next one.
 */
struct inbound_options {
    struct loop *loop;
    struct queue *queue;
    const struct config *config;
    struct log_writer *log;
    struct counters *counters;
    struct pool *pool;
    /* any thread (atomic): the connections of all workers together, which limits.connections bounds; NULL:
     * those of this one alone count. */
    _Atomic uint32_t *connection_count;
};

struct inbound {
    struct inbound_options options;
    struct list sessions; /* all of them */
    struct list waiting;  /* those that wait for room in the queue, first come first served */
    uint32_t session_count;
    _Atomic uint32_t own_count; /* stands in for a missing options.connection_count */
    uint64_t drain_deadline_us; /* 0: not draining */
    struct received_date date;
};

/* In place; the struct may not move afterwards. Only connection_count may be missing. */
void inbound_init(struct inbound *inbound, const struct inbound_options *options);

/* Every session must have ended: inbound_session_count is 0. */
void inbound_deinit(struct inbound *inbound);

/*
 * Takes a connected socket that came in on config->listeners[listener_index]. `client` is who stands
 * behind it; NULL: its peer. A connection beyond the limit is told so and closed.
 */
void inbound_accept(struct inbound *inbound, int fd, uint32_t listener_index, const struct sockaddr *client);

/*
 * From now on this snapshot is in force, for open sessions from their next command on: none keeps a pointer
 * into a config between two turns. The listeners are the same, in the same order.
 */
void inbound_set_config(struct inbound *inbound, const struct config *config);

/* The queue's room() callback: sessions that wait for room go on. */
void inbound_room(struct inbound *inbound);

/*
 * Ends the sessions: idle ones read `421 4.3.2` now, those in a transaction when it is over or after
 * INBOUND_DRAIN_MS, whichever is first; a commit under way is always waited for and answered. New connections
 * are turned away.
 */
void inbound_drain(struct inbound *inbound);

/* Sessions that still hold memory, commits without a client among them. */
uint32_t inbound_session_count(const struct inbound *inbound);
