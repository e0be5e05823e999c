/*
 * What a resolver and its lookups are made of: for the files of this folder alone.
 */
#pragma once

#include "gateway/base/address.h"
#include "gateway/outbound/dns/cache.h"
#include "gateway/outbound/dns/exchange.h"
#include "gateway/outbound/dns/own.h"
#include "gateway/outbound/dns/question.h"
#include "gateway/outbound/dns/resolver.h"
#include "gateway/outbound/dns/servers.h"

struct resolver {
    struct resolver_options options; /* with the defaults filled in; `settings` is not kept */
    bool trust_ad;
    bool is_stopped;
    struct server_list servers;
    struct own_hosts own;
    struct dns_cache cache;
    struct question_table lookups; /* under way, on the wire or not */
    size_t lookup_count;
    struct list waiting; /* lookups that wait for a socket, first come first served */
    struct list slow;    /* lookups that have met silence and wait to ask again */
    struct list ready;   /* queries whose answer is there, until the hook of this turn */
    struct list exchanges;
    uint32_t socket_count;
    uint32_t slow_count;    /* of the sockets: those of slow lookups */
    struct list mx_waiting; /* struct mx_query: mx.c's */
    uint32_t mx_count;      /* struct mx_lookup: mx.c's */
    struct loop_hook hook;
    uint64_t random;      /* xorshift, for choices that nobody gains from guessing */
    uint8_t secrets[256]; /* from getrandom, for ids */
    uint32_t secrets_left;
};

/*
 *             no socket free
 *   (asked) ────────────────▶ WAITING
 *      │                        │ a socket came home
 *      │                        ▼      silence
 *      └───────────────────▶ ASKING ─────────────▶ SLOW
 *                            │ │ ▲ ◀───────────────┘ a socket came home
 *                            │ └─┘ another server, TCP, without EDNS, or where an alias leads
 *                            └──answer──▶ (gone: its queries are ready)
 *
 * A lookup without an exchange waits. Those who have met silence have sockets of their own: so who asks for
 * the first time does not wait until a dead zone was asked for the third, and who was answered too late has
 * another chance in any crowd.
 */
struct lookup {
    struct question question; /* its name is `name` */
    struct list waiting_link; /* among `waiting` or `slow` */
    struct list queries;      /* who waits */
    struct resolver *resolver;
    struct exchange *exchange; /* NULL: none on the wire */
    uint64_t begun_us;         /* 0: not begun */
    uint32_t generation;       /* of the servers, that the bits below mean */
    uint32_t refused;          /* servers that said they cannot tell */
    uint32_t tried;            /* servers asked in this round */
    uint32_t round;
    uint32_t server; /* that is being asked */
    uint16_t id;
    bool over_tcp;
    bool without_edns;
    bool wants_ad;
    bool is_slow;
    bool is_authentic;    /* all aliases so far */
    uint32_t alias_count; /* that were followed */
    uint32_t ttl_s;       /* the least of them */
    const char *reason;   /* why the last attempt failed */
    char *target;         /* what is asked now: `name`, or a block with what that is an alias of */
    char name[];
};

/* resolver.c */

/* An id that nobody can guess. */
uint16_t resolver_id(struct resolver *resolver);

/* A number below `limit` (not 0) that need not be secret. */
uint32_t resolver_random(struct resolver *resolver, uint32_t limit);

/* Hands the query its answer in this turn, or the next when the turn's hooks have run. Takes a reference. */
void resolver_answer(struct resolver *resolver, struct resolver_query *query,
                     const struct dns_records *records);

static inline uint64_t resolver_now_us(const struct resolver *resolver)
{
    return loop_now_us(resolver->options.loop);
}

/* Lets begin who waits for a socket. */
void resolver_start_waiting(struct resolver *resolver);

/* So many wait that nobody may take long. */
bool resolver_is_crowded(const struct resolver *resolver);

/* lookup.c */

/* Makes a lookup and begins it when a socket is free. NULL without memory. */
struct lookup *lookup_new(struct resolver *resolver, const char *name, enum dns_type type)
    __attribute__((warn_unused_result));

/* Begins, or goes on with, one that has waited. */
void lookup_begin(struct lookup *lookup);

/* It may ask no more: lookup_begin will end it. */
bool lookup_is_overdue(const struct lookup *lookup);

/* Ends it: the records (lent) go to all who wait, and into the cache when `is_kept`. */
void lookup_finish(struct lookup *lookup, const struct dns_records *records, bool is_kept);
