/*
 * The resolver of one worker: asks recursive name servers over the worker's loop, and remembers what they
 * said.
 *
 * UDP with EDNS0 (RFC 6891) from a fresh socket, and so a random port, for each question; TCP when the answer
 * is truncated (RFC 7766); the next server when one is silent or broken; equal questions asked once; a cache
 * that is bounded in entries and bytes (RFC 2308 for what does not exist). DNSSEC is the AD bit of a server
 * that the operator trusts.
 *
 * Everything belongs to the worker's thread. No function blocks, but for reading /etc/resolv.conf again when
 * that has changed. Callbacks come from loop_turn only, never from inside a call of this header.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "gateway/base/counters.h"
#include "gateway/base/list.h"
#include "gateway/base/log.h"
#include "gateway/base/pool.h"
#include "gateway/net/loop.h"
#include "gateway/outbound/dns/records.h"

struct resolver;
struct lookup;

enum {
    RESOLVER_SERVERS_MAX = 8,
    RESOLVER_ATTEMPT_MS = 2000, /* what the first attempt at each server may take; doubled each round */
    RESOLVER_TOTAL_MS = 20000,  /* what a question may take, all attempts and aliases included */
    RESOLVER_SOCKETS_MAX = 256, /* questions on the wire at a time, as many as wait in the usual buffer of a
                                   name server's socket without loss; others wait for their turn. Half as many
                                   more for those that have met silence */
    RESOLVER_MX_MAX = 2048,    /* domains whose hosts are looked for at a time (mx.h); others wait likewise */
    RESOLVER_HASTE = 4,        /* while there is a crowd, an attempt and a question may take this part of the
                                  times above */
    RESOLVER_ALIASES_MAX = 16, /* CNAME records that are followed in one question */
    RESOLVER_TTL_MIN_S = 5,
    RESOLVER_TTL_MAX_S = 86400,
    RESOLVER_TTL_NEGATIVE_MAX_S = 10800, /* RFC 2308 §5 */
    RESOLVER_TTL_FAILURE_S = 10,         /* RFC 9520 §3.2: a failure too is remembered, but briefly; */
    RESOLVER_TTL_FAILURE_MAX_S = 300,    /* doubled each time it comes again, up to this (RFC 2308 §7) */
    RESOLVER_CACHE_ENTRIES = 32768,
    RESOLVER_CACHE_BYTES = 16 << 20,
};

/* What a new configuration may change. All of it is copied. */
struct resolver_settings {
    const struct sockaddr_storage *servers; /* with ports, in the order in which they are preferred */
    size_t server_count;                    /* 0: those of `resolv_conf`; more than RESOLVER_SERVERS_MAX are
                                               not used */
    bool trust_ad; /* the AD bit counts: the servers validate, and the way to them is safe */

    /* Who we are, so that mail never comes back to us: see mx.h. Names in any case; addresses with ports. A
       wildcard address stands for all addresses that the machine has now. */
    const char *const *own_names;
    size_t own_name_count;
    const struct sockaddr_storage *own_addresses;
    size_t own_address_count;
};

/* 0 in a number means the default above. */
struct resolver_options {
    struct loop *loop;
    struct log_writer *log; /* NULL: nothing is logged */
    struct counters *counters;
    struct pool *pool;
    struct resolver_settings settings;
    const char *resolv_conf; /* NULL: /etc/resolv.conf; must outlive the resolver */
    uint32_t attempt_ms;
    uint32_t total_ms;
    uint32_t sockets_max;
    uint32_t mx_max;
    uint32_t cache_entries;
    uint64_t cache_bytes;
    uint16_t smtp_port; /* of the addresses that mx.h returns, and of the own addresses that count; 0: 25 */
};

/*
 * A question of a caller, embedded in its struct and the resolver's from resolver_ask until `fn` is called or
 * resolver_cancel has returned. All fields are private to the resolver, save `ctx`.
 */
struct resolver_query {
    struct list link; /* among those who wait for one lookup, or whose answer is there */
    void (*fn)(struct resolver_query *query, const struct dns_records *records);
    void *ctx; /* the caller's own; resolver_ask leaves it alone */
    struct resolver *resolver;
    const struct dns_records *records; /* the answer, when it is there */
};

/*
 * Makes a resolver; it has a hook in the loop, so it must live until the loop's last turn. 0, -ENOMEM, or the
 * negative errno of getrandom. A resolv.conf that cannot be read means 127.0.0.1, as it does for libc.
 */
int resolver_new(const struct resolver_options *options, struct resolver **out)
    __attribute__((warn_unused_result));

/* After the loop's last turn and before the pool's end; nothing may be pending (resolver_is_idle). NULL is
   ignored. */
void resolver_free(struct resolver *resolver);

/* New settings. What is under way goes on; when the servers or trust_ad changed, the cache is emptied.
   -ENOMEM: the old ones stay. */
int resolver_configure(struct resolver *resolver, const struct resolver_settings *settings)
    __attribute__((warn_unused_result));

/*
 * Asks for the records of `name` (zero-terminated, as idna_domain_key writes it; always absolute, no search
 * list). `fn` is called exactly once, later in this turn at the earliest, unless the query is cancelled; the
 * records are lent to it for the call (dns_records_ref keeps them). Every failure is a set of records with
 * its status, a name that cannot exist is DNS_NXDOMAIN.
 */
void resolver_ask(struct resolver *resolver, struct resolver_query *query, const char *name,
                  enum dns_type type,
                  void (*fn)(struct resolver_query *query, const struct dns_records *records));

/* The caller does not wait any more: `fn` is not called. Harmless when it has been, or when the query was
   zeroed and never asked. The answer is still waited for, for the cache. */
void resolver_cancel(struct resolver_query *query);

/* For the end: whoever waits gets DNS_TEMPORARY from the loop, nothing more is sent, and every question
   from now on gets the same. The sockets come home within the next turns: see resolver_is_idle. */
void resolver_drop_pending(struct resolver *resolver);

/* Nobody waits, and the kernel holds nothing of ours. */
bool resolver_is_idle(const struct resolver *resolver);

/* Forgets all answers. */
void resolver_flush(struct resolver *resolver);

/* For tests and for who looks: entries and bytes in the cache, questions that wait for an answer, domains
   that are worked at. */
struct resolver_load {
    size_t cache_entries;
    size_t cache_bytes;
    size_t lookups;
    size_t mx_lookups;
};
struct resolver_load resolver_load(const struct resolver *resolver);
