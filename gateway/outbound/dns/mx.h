/*
 * Where mail for a domain goes: the whole of RFC 5321 §5.1, from a domain to addresses in the order in which
 * they are to be tried.
 *
 * Worker's thread; the callback comes from loop_turn only. What was decided where the RFCs leave room:
 * - An exchange whose name reads as an IPv4 address is taken as that address, and one that is an alias is
 *   followed: both are forbidden to publish and common.
 * - A "." among other exchanges is not a null MX (RFC 7505 §3); it is left out.
 * - Of more than MX_HOSTS_MAX exchanges those with the best preference are asked for, and of equals those
 * that come first by name: a thousand cost no more than twenty, and always the same twenty.
 * - Whoever publishes an address that leads every machine to itself (127.0.0.0/8, ::1, 0.0.0.0, ::, also
 *   mapped) means us, wherever we listen: whatever else listens there may trust us as it trusts nobody else.
 * - A domain in brackets is an address literal (RFC 5321 §4.1.3) and is its own host.
 * - When some hosts have addresses and others could not be looked up, mail goes to those that have.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "gateway/outbound/dns/name.h"
#include "gateway/outbound/dns/resolver.h"

enum {
    MX_HOSTS_MAX = 20,
    MX_ADDRESSES_MAX = 16, /* of one host, both families */
};

enum mx_status {
    MX_OK,        /* one host with one address at least */
    MX_NULL,      /* the domain takes no mail (RFC 7505): 556 5.1.10 */
    MX_NONE,      /* it exists, but no host of it has an address: permanent, 5.1.2 or 5.4.4 */
    MX_NXDOMAIN,  /* it does not exist: permanent, 5.1.2 */
    MX_LOOP,      /* nobody is preferred to us: 5.4.6 */
    MX_TEMPORARY, /* cannot be told now: 4.4.3; `reason` says why */
};

struct mx_host {
    char name[DNS_NAME_SIZE]; /* as the MX record says, not what that is an alias of */
    uint16_t preference;
    bool is_authentic;                                   /* its addresses are, and what led to it */
    uint8_t address_count;                               /* at least 1; 0 of one that is absent */
    struct sockaddr_storage addresses[MX_ADDRESSES_MAX]; /* with smtp_port; families take turns */
};

struct mx_result {
    enum mx_status status;
    const char *reason;    /* static text, for the log and the sender; "" for MX_OK */
    bool is_implicit;      /* there is no MX: the domain is its own host */
    bool is_authentic;     /* the MX records, or their absence, are (RFC 7672 §2.2.1) */
    uint32_t ttl_s;        /* how long all this may be believed; at least 1 */
    uint32_t host_count;   /* by preference, equals in random order; 0 unless MX_OK */
    uint32_t absent_count; /* behind those in `hosts`: hosts that have no address now; 0 unless MX_OK */

    /* private */
    struct pool *pool;
    size_t size;
    struct mx_host hosts[];
};

struct mx_lookup;

/*
 * A question, embedded in the caller's struct and the resolver's from mx_ask until `fn` is called or
 * mx_cancel has returned. All fields are private, save `ctx`.
 */
struct mx_query {
    struct list link; /* among those who wait for their turn */
    void (*fn)(struct mx_query *query, struct mx_result *result);
    void *ctx; /* the caller's own; mx_ask leaves it alone */
    struct resolver *resolver;
    const char *domain; /* lent */
    bool is_host;
    struct mx_lookup *lookup; /* NULL: waits for its turn, or found no memory */
    struct resolver_query question;
};

/*
 * Asks where mail for `domain` goes; it comes as idna_domain_key wrote it, zero-terminated, and is lent until
 * `fn` is called or the query cancelled. `fn` is called exactly once unless the query is cancelled, and gets
 * the result for its own: mx_result_free. NULL there means that memory ran out: as MX_TEMPORARY.
 *
 * So many as resolver_options.mx_max are worked at; further ones wait for their turn, and cost no more than
 * the query itself.
 */
void mx_ask(struct resolver *resolver, struct mx_query *query, const char *domain,
            void (*fn)(struct mx_query *query, struct mx_result *result));

/* Asks for the addresses of one host, whatever its MX records say: a smarthost. As mx_ask; that it might be
 * us is not looked at. */
void mx_ask_host(struct resolver *resolver, struct mx_query *query, const char *name,
                 void (*fn)(struct mx_query *query, struct mx_result *result));

/* `fn` is not called. Harmless when it has been, or when the query was zeroed and never asked. */
void mx_cancel(struct mx_query *query);

/* NULL is ignored. */
void mx_result_free(struct mx_result *result);
