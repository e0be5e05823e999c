/*
 * A far side in simulated time, with limits that it does not tell, and a sender that goes by a shaper.
 * Connections and messages take half a round trip there and half back, give or take a tenth; timers are up to
 * a millisecond late.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "gateway/outbound/shaper.h"

#define SECOND UINT64_C(1000000)
#define START  (UINT64_C(86400) * SECOND)

enum counting {
    COUNTING_SLIDING, /* no more than so many in the second before */
    COUNTING_FIXED,   /* in each second of its clock */
    COUNTING_BUCKET,  /* tokens, of which it saves up a second's worth */
    COUNTING_COUNT
};

enum event_kind {
    EVENT_GREET,       /* the far side sees a connection */
    EVENT_GREETED,     /* we see its greeting */
    EVENT_TURNED_AWAY, /* we see its 421 */
    EVENT_MAIL,        /* the far side sees a message */
    EVENT_TAKEN,       /* we see its 250 */
    EVENT_REFUSED,     /* we see its 450 */
    EVENT_QUIT,        /* the far side sees QUIT */
    EVENT_CLOSED,      /* we see the end */
    EVENT_WAKE,
};

struct event {
    uint64_t at;
    enum event_kind kind;
    uint32_t connection;
};

enum {
    EVENTS_MAX = 4096,
    CONNECTIONS_MAX = 512,
    RATE_MAX = 16384,
    SECONDS_MAX = 4000,
    CONNECTING_MAX = 2,
    MESSAGES_PER_CONNECTION = 100,
};

struct far_side {
    uint32_t connections; /* its limits */
    uint32_t per_second;  /* 0: none */
    enum counting counting;
    uint32_t latency_us; /* of a round trip */
    uint32_t open;
    uint64_t seen[RATE_MAX]; /* ring of what it took, for COUNTING_SLIDING */
    uint32_t seen_count;
    uint64_t second;
    uint32_t in_second;
    double tokens;
    uint64_t tokens_at;
};

struct second {
    uint32_t taken, refused, turned_away;
    uint32_t window, pace;
};

struct world {
    struct shaper shaper;
    struct far_side far;
    struct event events[EVENTS_MAX]; /* a heap */
    uint32_t event_count;
    uint64_t now;
    uint64_t wake_at;
    uint32_t idle[CONNECTIONS_MAX];
    uint32_t idle_count;
    uint32_t free[CONNECTIONS_MAX];
    uint32_t free_count;
    uint32_t sent[CONNECTIONS_MAX]; /* messages on this connection */
    uint32_t connecting;
    uint64_t backlog; /* messages that wait */
    struct second seconds[SECONDS_MAX];
};

/* The same each time: what is random begins anew. */
void random_begin(uint64_t seed);
uint32_t random_below(uint32_t count);

/* A sender with mail without end. `per_second` 0: the far side takes as much as comes. The caller frees. */
struct world *world_new(uint32_t connections, uint32_t per_second, uint32_t latency_ms);

void run_until(struct world *world, uint64_t end);
void run_for(struct world *world, uint32_t seconds);

/* Whole seconds since START. */
uint32_t world_second(const struct world *world);

/* What the far side would take if it was used to the full, in messages a second. */
double capacity(const struct world *world);

/* What it took, in messages a second, from one second to another. */
double taken_rate(const struct world *world, uint32_t from, uint32_t to);

/* What it refused, of all that was tried. */
double refused_part(const struct world *world, uint32_t from, uint32_t to);

/* Seconds from `from` until nine tenths of the capacity are used, over five seconds. */
uint32_t seconds_to_use(const struct world *world, uint32_t from, uint32_t end);
