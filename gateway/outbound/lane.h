/*
 * A lane link ties a lane of the queue to the site that serves it; it is the lane's user pointer. Worker's
 * thread.
 */
#pragma once

#include "gateway/base/list.h"
#include "queue/queue.h"

struct site;

struct lane_link {
    struct list all_link;   /* in outbound.links */
    struct list ready_link; /* in site.ready while the lane may have something to take */
    struct queue_lane *lane;
    struct site *site;
};
