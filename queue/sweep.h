/* The sweep goes round and round through all that waits in the lanes, a little at a time, so that mail which
 * is never taken does not grow old unseen. Its place is a held entry of its own in the lane that it is in, so
 * that others may come and go meanwhile. Owner thread; queue_sweep in queue/queue.h is the way in.
 */
#pragma once

#include <stdint.h>

#include "queue/message.h"

struct sweep {
    struct entry place;      /* in lane->ready, or in no list */
    struct queue_lane *lane; /* NULL: none now; its bucket is behind us */
    uint32_t bucket;         /* the next one to look into */
};

/* The lane is about to go. */
void sweep_leave(struct sweep *sweep);
