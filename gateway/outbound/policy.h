#pragma once

/*
 * What the sending side looks things up in: the configuration and what was loaded because of it, as one
 * immutable snapshot.
 *
 * Made and freed by the control thread; workers adopt one at a loop turn (outbound_set_policy) and read it.
 * Nothing keeps a pointer into it between two turns, but for references that say so (tls_client).
 */

#include "gateway/base/routes.h"
#include "gateway/outbound/dns/resolver.h"

struct classes;
struct config;
struct table;
struct tls_client;

struct outbound_policy {
    const struct config *config;
    struct routes routes;          /* of the configuration and of its route file */
    struct tls_client *tls;        /* what we are to the next hop */
    const struct table *passwords; /* "host:port" or "host" to "user password"; NULL: none */
    const struct classes *classes; /* which class of failure a reply belongs to */
};

enum { POLICY_ADDRESSES_MAX = 256 };

/* Whom the resolver asks, and whose names and addresses mail must not come back to. `addresses`, with room
 * for POLICY_ADDRESSES_MAX, is part of the answer. Pure. */
struct resolver_settings policy_resolver(const struct outbound_policy *policy,
                                         struct sockaddr_storage *addresses);
