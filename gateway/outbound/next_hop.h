#pragma once

/*
 * A next hop: the hosts that take the mail of some domains, in the order in which they are to be tried, and
 * how we speak with them. What RFC 5321 §5.1 makes of MX records, or what the configuration names.
 *
 * Immutable and counted: workers share one, and it is gone with its last holder. Two next hops with the same
 * key are one site: the addresses behind the names may differ, as answers of the DNS do.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "gateway/base/config.h"
#include "gateway/base/destination.h"

enum {
    NEXT_HOP_HOSTS_MAX = 20,
    NEXT_HOP_NAME_SIZE = 512, /* with the terminating zero */
};

struct next_hop_host {
    const char *name;       /* in the DNS, an address, or the path of a socket; lower case */
    uint16_t preference;    /* the lowest first; equals share the load */
    uint16_t weight;        /* 0: none; else the part of the mail that it gets among its equals */
    uint16_t port;          /* 0: a Unix socket */
    bool is_authentic;      /* DNSSEC says so, from the MX to the address */
    uint32_t address_count; /* 0: none just now, but some other host has */
    const struct sockaddr_storage *addresses; /* with ports; tried in this order */
};

struct next_hop {
    _Atomic uint32_t references;
    uint64_t hash;    /* of the key */
    const char *key;  /* all of it but the addresses, as text */
    const char *name; /* of the site, for the log and for `site` sections */
    bool is_lmtp;
    bool is_mx;               /* the hosts come from the DNS */
    enum config_security tls; /* never UNSET */
    uint32_t tls_name_count;
    uint32_t host_count; /* at least 1 */
    const char *const *tls_names;
    const struct next_hop_host *hosts; /* by preference */
};

/* What a site of MX hosts is called: the registrable domain that all hosts of the best preference are in
 * ("google.com", "example.co.uk"; by the Public Suffix List as the library brings it), else the first of
 * these in the alphabet. Points into a name of draft->hosts, which are by preference. */
const char *next_hop_shared_name(const struct next_hop *draft) __attribute__((returns_nonnull));

/* The limits of a draft or next hop: those that cover it by its name, or its hosts; of MX hosts those of the
 * best preference. Points into the configuration. */
const struct config_limits *next_hop_limits(const struct config *config, const struct next_hop *hop)
    __attribute__((returns_nonnull));

/* How the hosts of a draft are to be spoken with: as `wanted` by the route, else as its limits say, else TLS
 * where it can be had. MX hosts are never asked for less than any of them would be asked for as a site of its
 * own. */
enum config_security next_hop_security(const struct config *config, const struct next_hop *draft,
                                       enum config_security wanted);

/* The next hop of a list of hosts that all have addresses; NULL without memory. */
struct next_hop *next_hop_of_destination(const struct config *config, const struct destination *destination)
    __attribute__((warn_unused_result));

/* A copy of `draft` (its references, hash and key are not read) with one reference, or NULL without memory.
 */
struct next_hop *next_hop_new(const struct next_hop *draft) __attribute__((warn_unused_result));

/* Of a key, a domain, a verdict's text: by which sites are found and shared out among the workers, the same
 * on all of them. FNV-1a: nobody gains by a collision, since keys are compared. Pure. */
uint64_t next_hop_hash(const char *text);

/* Any thread. The first returns its argument. */
struct next_hop *next_hop_ref(struct next_hop *hop);
void next_hop_unref(struct next_hop *hop); /* NULL is fine */
