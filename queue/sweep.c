#include "queue/sweep.h"

#include "queue/shard.h"

void sweep_leave(struct sweep *sweep)
{
    if (!sweep->lane)
        return;
    TAILQ_REMOVE(&sweep->lane->ready, &sweep->place, link);
    sweep->lane = NULL;
}

static void sweep_enter(struct sweep *sweep, struct queue_lane *lane)
{
    sweep->lane = lane;
    sweep->place.lane = lane;
    sweep->place.state = ENTRY_HELD;
    TAILQ_INSERT_HEAD(&lane->ready, &sweep->place, link);
}

/* Lanes that join meanwhile, or a table that grows, may be missed until the next round. False: this one is
 * over. */
static bool next_lane(struct queue *queue)
{
    struct sweep *sweep = &queue->sweep;
    struct queue_lane *lane = sweep->lane ? sweep->lane->hash_next : NULL;
    sweep_leave(sweep);
    while (!lane && sweep->bucket < queue->lanes.bucket_count)
        lane = queue->lanes.buckets[sweep->bucket++];
    if (!lane) {
        sweep->bucket = 0;
        return false;
    }
    sweep_enter(sweep, lane);
    return true;
}

/* The entry behind the place, which steps over it; NULL: the lane ends here. */
static struct entry *next_entry(struct sweep *sweep)
{
    struct entry *entry = sweep->lane ? TAILQ_NEXT(&sweep->place, link) : NULL;
    if (!entry)
        return NULL;
    TAILQ_REMOVE(&sweep->lane->ready, &sweep->place, link);
    TAILQ_INSERT_AFTER(&sweep->lane->ready, entry, &sweep->place, link);
    return entry;
}

struct queue_lane *queue_sweep(struct queue *queue, uint32_t *budget, int64_t old_ms, int64_t late_ms)
{
    struct sweep *sweep = &queue->sweep;
    while (*budget > 0) {
        --*budget;
        struct entry *entry = next_entry(sweep);
        if (!entry && !next_lane(queue))
            break;
        if (!entry || entry->state != ENTRY_READY)
            continue;
        int64_t arrival_ms = entry->message->arrival_ms;
        if (arrival_ms >= old_ms && (arrival_ms >= late_ms || (entry->pending & ~entry->marked) == 0))
            continue;
        TAILQ_REMOVE(&entry->lane->ready, entry, link);
        TAILQ_INSERT_HEAD(&entry->lane->ready, entry, link);
        return entry->lane;
    }
    *budget = 0;
    return NULL;
}
