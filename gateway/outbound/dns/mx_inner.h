/*
 * What an MX question is made of while it is under way: for mx*.c alone.
 */
#pragma once

#include "gateway/outbound/dns/mx.h"
#include "gateway/outbound/dns/resolver_inner.h"

enum { MX_V6, MX_V4, MX_FAMILIES };

/* A host that may get the mail. */
struct mx_candidate {
    struct mx_lookup *lookup;
    struct resolver_query queries[MX_FAMILIES];
    const struct dns_records *answers[MX_FAMILIES]; /* references; NULL: not there yet, or not asked */
    struct sockaddr_storage literal;                /* its one address, when is_literal */
    bool is_literal;
    uint16_t preference;
    char name[DNS_NAME_SIZE];
};

struct mx_lookup {
    struct resolver *resolver;
    struct mx_query *query;
    const struct dns_records *mx; /* a reference */
    bool is_literal;              /* the domain is an address */
    bool is_host;                 /* not a domain: only its addresses are asked for */
    bool is_null;                 /* RFC 7505 */
    bool is_implicit;
    bool has_own; /* we are among the exchanges, at best with own_preference */
    uint16_t own_preference;
    uint32_t pending; /* address questions without an answer */
    uint32_t host_count;
    struct mx_candidate hosts[MX_HOSTS_MAX]; /* by preference, equals in random order */
};

/* mx.c: cancels what is under way. */
void mx_lookup_free(struct mx_lookup *lookup);

/* mx_hosts.c: the address in brackets becomes the only host, if it is one. */
void mx_take_literal(struct mx_lookup *lookup, const char *domain);

/* mx_hosts.c: the name becomes the only host. */
void mx_take_host(struct mx_lookup *lookup, const char *name);

/* mx_hosts.c: the hosts that are worth asking about, out of the MX records or their absence. */
void mx_choose_hosts(struct mx_lookup *lookup);

/* mx_result.c: everything is answered. NULL without memory. */
struct mx_result *mx_conclude(const struct mx_lookup *lookup) __attribute__((warn_unused_result));
