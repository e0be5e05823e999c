#pragma once

/*
 * The routes of the configuration and of its route file together: from a recipient's domain, or its sender's,
 * to a destination.
 *
 * A pattern is "example.com" for exactly this domain, ".example.com" for it and all below it, the same after
 * "from:" for the domain of the sender, or "*". Of those that cover a recipient, the first counts in this
 * order: its domain, its parents from the longest, the sender's domain, its parents, "*". A pattern that both
 * the file and the configuration give is the file's.
 *
 * Immutable; any thread may ask, nothing allocates or waits. Domains are given as their keys (base/idna.h).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/config.h"
#include "gateway/base/destination.h"
#include "gateway/base/table.h"

struct routes {
    const struct config *config;
    const struct table
        *file; /* config.route_file, loaded as TABLE_PAIRS and found good by routes_check; NULL: none */
};

/* One of the two is there. Lives as long as the configuration and the table. */
struct route_found {
    const struct destination *destination; /* of the configuration; NULL: `text` */
    const char *text; /* of a line of the file: for destination_parse; not zero-terminated */
    size_t text_size;
};

/* The route for mail from `sender_domain` (of no size for the empty reverse-path) to `domain`; false: none. A
   few probes of a hash table for each label. */
bool routes_find(const struct routes *routes, const char *domain, size_t size, const char *sender_domain,
                 size_t sender_size, struct route_found *found);

enum { ROUTES_KEY_MAX = 511 }; /* two domains of 255 octets, and what stands between them */

/* The key under which a recipient waits together with others that go the same way: its domain, and if a
   "from:" pattern covers the sender's domain, a NUL and that domain. Returns its size. `size` is 1 ... 255,
   `sender_size` 0 ... 255; neither holds a NUL. */
size_t routes_lane_key(const struct routes *routes, const char *domain, size_t size,
                       const char *sender_domain, size_t sender_size, char key[static ROUTES_KEY_MAX]);

/* A lane's key, taken apart; points into it. */
struct routes_key {
    const char *domain;
    size_t domain_size;
    const char *sender; /* "" without one */
    size_t sender_size;
};

void routes_split_key(const char *key, size_t size, struct routes_key *parts);

/* Judges a route file that was loaded from `path`: every pattern and every destination. About a microsecond a
   line. 0, or -EINVAL with one sentence about the first bad line, named by its pattern, in `error` (cut to
   `error_size`, zero-terminated, free of control characters). */
int routes_check(const struct table *file, const char *path, char *error, size_t error_size)
    __attribute__((warn_unused_result));
