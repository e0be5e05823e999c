#pragma once

/*
 * A group is the sites that share one set of limits: all that one `site` section of the configuration covers,
 * or a single site that none but "default" does. Worker's thread only. A group belongs to one worker, so its
 * limits hold exactly; only a site that is spread over all workers has a group on each, with a part of the
 * limits.
 */

#include <stdbool.h>
#include <stdint.h>

#include "gateway/base/config.h"
#include "gateway/base/list.h"
#include "gateway/outbound/shaper.h"

struct client;
struct outbound;
struct site;

/* A host's connections, over all sites of the group. */
struct group_host {
    struct list link; /* in outbound.hosts */
    uint64_t hash;
    struct group *group;
    uint32_t users; /* endpoints */
    uint32_t sessions;
    char name[];
};

/*
 * Who wants a connection stands in line, and whoever is first gets the next one. Sites that have none at all
 * come before those that want another; for them, what others keep idle is closed, and what others have kept
 * busy for some time ends, too.
 */
struct group {
    struct list link;         /* in outbound.groups, if it has a key */
    struct list waiting;      /* sites that want their first connection, by site.waiting_link */
    struct list growing;      /* sites that want another, by the same */
    struct list host_waiting; /* sites whose hosts are full, by the same */
    struct list turns; /* sites that want to begin a message while that is limited, by site.turn_link */
    struct list spare; /* sites with idle sessions that nothing waits for, by site.spare_link */
    uint32_t yielding; /* sessions that make room for who waits, as far as their end is still to come */
    uint32_t host_count;
    struct outbound *outbound;
    char *key;      /* NULL: a single site's */
    uint32_t users; /* sites */
    struct config_limits limits;
    struct shaper shaper;
};

/* The group of this key, made if it is not there, with these limits; one user more. Without a key a new one,
 * which nobody else finds. NULL without memory. */
struct group *group_find(struct outbound *outbound, const char *key, const struct config_limits *limits)
    __attribute__((warn_unused_result));

/* One user less. A group with a key is kept without users for as long as what it sent counts for a limit. */
void group_release(struct group *group);

/* Frees groups without users that are kept for nothing any more; or all of them. */
void groups_sweep(struct outbound *outbound, bool all);

void group_set_limits(struct group *group, const struct config_limits *limits);

/* One endpoint more at a host; NULL without memory. */
struct group_host *group_host_find(struct group *group, const char *name) __attribute__((warn_unused_result));
void group_host_release(struct group_host *host);

/* Whether the limits let one more connection to this host be opened. */
bool group_host_has_room(const struct group_host *host);

/* Messages that are limited together are begun in turn. Whether it is the site's turn; else it is in line
 * now. */
bool group_has_turn(struct group *group, struct site *site);

/* No message may begin now: the site keeps its turn, or gets one. */
void group_keep_turn(struct group *group, struct site *site);

/* The site began a message, or wants none any more: it is pumped again when its next turn comes. */
void group_end_turn(struct group *group, struct site *site);

/* The site wants a connection: it is in line, and is pumped when it is first and there is room. `has_none`:
 * it would be its only one. */
void group_wait(struct group *group, struct site *site, bool has_none);

/* Nobody stands before it. */
bool group_is_next(const struct group *group, const struct site *site);

/* The site is pumped whenever a connection of the group has ended. */
void group_wait_for_host(struct group *group, struct site *site);

/* The site has what it wanted, or wants none any more; the next one's turn has come. */
void group_end_wait(struct group *group, struct site *site);

/* There may be room for one more: the first in line is pumped. */
void group_wake(struct group *group);

/* A connection has ended: so are those whose hosts were full. */
void group_connection_ended(struct group *group);

/* The site was pumped: sessions that it still keeps idle are there for those who wait. */
void group_offer_idle(struct group *group, struct site *site);

/* Whether this session, which could go on, should make room for who waits: it has had its turn. Then it is
 * to be retired. */
bool group_must_yield(struct group *group, const struct client *client);
