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

struct outbound;
struct site;

/* A host's connections, over all sites of the group. */
struct group_host {
    struct list link; /* in group.hosts */
    struct group *group;
    uint32_t users; /* endpoints */
    uint32_t sessions;
    char name[];
};

struct group {
    struct list link;         /* in outbound.groups, if it has a key */
    struct list waiting;      /* sites that want a connection, by site.waiting_link */
    struct list host_waiting; /* sites whose hosts are full, by the same */
    struct list turns;   /* sites that want to begin a message while that is limited, by site.turn_link */
    struct list members; /* sites, by site.member_link */
    struct list hosts;
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

/* One user less. */
void group_release(struct group *group);

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

/* The site is pumped when its turn for a connection comes. */
void group_wait(struct group *group, struct site *site);

/* The site is pumped whenever a connection of the group has ended. */
void group_wait_for_host(struct group *group, struct site *site);

/* Room for one more: the next that waits is pumped. */
void group_wake(struct group *group);

/* A connection has ended: so are those whose hosts were full. */
void group_wake_all(struct group *group);

/* All connections are taken: an idle one of another site of the group makes room. */
void group_steal_idle(struct group *group, const struct site *thief);
