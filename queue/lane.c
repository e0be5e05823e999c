#include "queue/lane.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "queue/shard.h"

int lane_table_init(struct lane_table *table, uint64_t seed)
{
    *table = (struct lane_table){.bucket_count = 256, .seed = seed};
    table->buckets = calloc(table->bucket_count, sizeof(*table->buckets));
    return table->buckets ? 0 : -ENOMEM;
}

static size_t lane_size(const struct queue_lane *lane)
{
    return sizeof(*lane) + lane->key_size;
}

void lane_table_deinit(struct lane_table *table, struct memory *memory)
{
    for (uint32_t i = 0; table->buckets && i < table->bucket_count; i++) {
        struct queue_lane *lane;
        while ((lane = table->buckets[i])) {
            table->buckets[i] = lane->hash_next;
            memory_free(memory, lane, lane_size(lane));
        }
    }
    free(table->buckets);
}

/* Seeded multiply-and-fold over eight bytes at a time. */
static uint32_t lane_hash(uint64_t seed, const char *key, uint32_t size)
{
    uint64_t hash = seed ^ size;
    for (uint32_t at = 0; at < size; at += 8) {
        uint64_t word = 0;
        memcpy(&word, key + at, size - at < 8 ? size - at : 8);
        __uint128_t product = (__uint128_t)(hash ^ word) * UINT64_C(0x9fb21c651e98df25);
        hash = (uint64_t)product ^ (uint64_t)(product >> 64) ^ seed;
    }
    return (uint32_t)(hash ^ (hash >> 32));
}

static void lane_table_grow(struct lane_table *table)
{
    uint32_t more = 4 * table->bucket_count;
    struct queue_lane **buckets = calloc(more, sizeof(*buckets));
    if (!buckets)
        return; /* longer chains, nothing worse */
    for (uint32_t i = 0; i < table->bucket_count; i++) {
        struct queue_lane *lane;
        while ((lane = table->buckets[i])) {
            table->buckets[i] = lane->hash_next;
            lane->hash_next = buckets[lane->hash & (more - 1)];
            buckets[lane->hash & (more - 1)] = lane;
        }
    }
    free(table->buckets);
    table->buckets = buckets;
    table->bucket_count = more;
}

static struct queue_lane *lane_new(struct queue *queue, const char *key, uint32_t key_size, uint32_t hash)
{
    struct queue_lane *lane = memory_alloc(&queue->memory, sizeof(*lane) + key_size);
    if (!lane)
        return NULL;
    *lane = (struct queue_lane){.queue = queue, .hash = hash, .key_size = key_size};
    memcpy(lane->key, key, key_size);
    TAILQ_INIT(&lane->ready);
    struct queue_lane **bucket = &queue->lanes.buckets[hash & (queue->lanes.bucket_count - 1)];
    lane->hash_next = *bucket;
    *bucket = lane;
    if (++queue->lanes.count > queue->lanes.bucket_count)
        lane_table_grow(&queue->lanes);
    return lane;
}

struct queue_lane *lane_ref(struct queue *queue, const char *key, uint32_t key_size)
{
    uint32_t hash = lane_hash(queue->lanes.seed, key, key_size);
    struct queue_lane *lane = queue->lanes.buckets[hash & (queue->lanes.bucket_count - 1)];
    while (lane &&
           (lane->hash != hash || lane->key_size != key_size || memcmp(lane->key, key, key_size) != 0))
        lane = lane->hash_next;
    if (!lane)
        lane = lane_new(queue, key, key_size, hash);
    if (lane)
        lane->refs++;
    return lane;
}

void lane_unref(struct queue_lane *lane)
{
    assert(lane->refs > 0);
    if (--lane->refs > 0)
        return;
    struct queue *queue = lane->queue;
    assert(lane->ready_count == 0);
    if (queue->sweep.lane == lane)
        sweep_leave(&queue->sweep);
    if (queue->options.callbacks && queue->options.callbacks->lane_gone)
        queue->options.callbacks->lane_gone(queue->options.context, lane);
    struct queue_lane **at = &queue->lanes.buckets[lane->hash & (queue->lanes.bucket_count - 1)];
    while (*at != lane)
        at = &(*at)->hash_next;
    *at = lane->hash_next;
    queue->lanes.count--;
    memory_free(&queue->memory, lane, lane_size(lane));
}

static void count_ready(struct queue_lane *lane)
{
    const struct queue_callbacks *callbacks = lane->queue->options.callbacks;
    if (lane->ready_count++ == 0 && callbacks && callbacks->lane_ready)
        callbacks->lane_ready(lane->queue->options.context, lane);
}

void lane_put(struct entry *entry, bool at_head)
{
    struct queue_lane *lane = entry->lane;
    entry->state = ENTRY_READY;
    if (at_head)
        TAILQ_INSERT_HEAD(&lane->ready, entry, link);
    else
        TAILQ_INSERT_TAIL(&lane->ready, entry, link);
    count_ready(lane);
}

void lane_put_held(struct entry *entry)
{
    entry->state = ENTRY_HELD;
    TAILQ_INSERT_TAIL(&entry->lane->ready, entry, link);
}

void lane_remove(struct entry *entry)
{
    assert(entry->state == ENTRY_READY || entry->state == ENTRY_HELD);
    if (entry->state == ENTRY_READY)
        lane_hold(entry);
    TAILQ_REMOVE(&entry->lane->ready, entry, link);
}

void lane_hold(struct entry *entry)
{
    assert(entry->state == ENTRY_READY && entry->lane->ready_count > 0);
    entry->state = ENTRY_HELD;
    entry->lane->ready_count--;
}

void lane_let_go(struct entry *entry)
{
    assert(entry->state == ENTRY_HELD);
    entry->state = ENTRY_READY;
    count_ready(entry->lane);
}

struct entry *lane_first(const struct queue_lane *lane)
{
    struct entry *entry;
    TAILQ_FOREACH(entry, &lane->ready, link)
    {
        if (entry->state == ENTRY_READY)
            return entry;
    }
    return NULL;
}

const char *queue_lane_key(const struct queue_lane *lane, uint32_t *size)
{
    *size = lane->key_size;
    return lane->key;
}

void queue_lane_set_user(struct queue_lane *lane, void *user)
{
    lane->user = user;
}

void *queue_lane_user(const struct queue_lane *lane)
{
    return lane->user;
}

uint64_t queue_lane_ready_count(const struct queue_lane *lane)
{
    return lane->ready_count;
}

int64_t queue_lane_head_arrival_ms(const struct queue_lane *lane)
{
    const struct entry *head = lane_first(lane);
    return head ? head->message->arrival_ms : INT64_MAX;
}

void queue_each_lane(struct queue *queue, void (*each)(void *context, struct queue_lane *lane), void *context)
{
    for (uint32_t i = 0; i < queue->lanes.bucket_count; i++)
        for (struct queue_lane *lane = queue->lanes.buckets[i]; lane; lane = lane->hash_next)
            each(context, lane);
}
