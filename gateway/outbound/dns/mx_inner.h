/*
 * What an MX question is made of while it is under way: for mx*.c alone.
 */
#pragma once

#include <netinet/in.h>

#include "gateway/outbound/dns/mx.h"
#include "gateway/outbound/dns/resolver_inner.h"

enum { MX_V6, MX_V4, MX_FAMILIES };

union mx_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* A host that may get the mail. */
struct mx_candidate {
    struct mx_lookup *lookup;
    const char *name; /* lent: the MX records', or the query's */
    uint16_t preference;
    bool is_literal;
    union mx_address literal; /* its one address, when is_literal */
    struct resolver_query queries[MX_FAMILIES];
    const struct dns_records *answers[MX_FAMILIES]; /* references; NULL: not there yet, or not asked */
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
    uint32_t host_room;         /* of `hosts`; 0: not known yet how many there are */
    struct mx_candidate *hosts; /* by preference, equals in random order */
};

/*
 * mx_hosts.c: what needs no MX records becomes the only host: the name, or the address in brackets, if it is
 * one. 0 or -ENOMEM.
 */
int mx_take_literal(struct mx_lookup *lookup, const char *domain) __attribute__((warn_unused_result));
int mx_take_host(struct mx_lookup *lookup, const char *name) __attribute__((warn_unused_result));

/* mx_hosts.c: the hosts that are worth asking about, out of the MX records or their absence. 0 or -ENOMEM. */
int mx_choose_hosts(struct mx_lookup *lookup) __attribute__((warn_unused_result));

/* mx_result.c: everything is answered. NULL without memory. */
struct mx_result *mx_conclude(const struct mx_lookup *lookup) __attribute__((warn_unused_result));
