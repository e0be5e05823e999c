/*
 * A lane link ties a lane of the queue to the site that serves it; it is the lane's user pointer. Worker's
 * thread.
 *
 *     no site ──asked──▶ looking up ──answered──▶ site ──ttl over, mail──▶ looking up
 *
 * While it is looked up, a lane keeps the hosts that it had, and mail goes there; a verdict that it had holds
 * no longer, so mail waits for the answer.
 */
#pragma once

#include "gateway/base/list.h"
#include "queue/queue.h"

struct hop_query;
struct outbound;
struct site;

struct lane_link {
    struct list all_link;   /* in outbound.links */
    struct list ready_link; /* in site.ready while the lane may have something to take */
    struct queue_lane *lane;
    struct site *site;       /* NULL: not known yet; one of its users */
    struct hop_query *query; /* under way; NULL: none */
    uint64_t expires_us;     /* monotonic: what the DNS said holds so long; UINT64_MAX: it was not asked */
};

/* Finds the site of a lane by the routes as they are now, or asks for it; what waits is taken as soon as it
 * is known. */
void lane_route(struct outbound *outbound, struct lane_link *link);

/* What the DNS said about it holds no more. */
bool lane_is_stale(const struct lane_link *link, uint64_t now_us);

/* The lane goes, or its route is found anew: no answer is waited for. */
void lane_forget_query(struct lane_link *link);

/* The link belongs to this site from now on. */
void lane_set_site(struct lane_link *link, struct site *site);
