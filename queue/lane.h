/* Lanes: what waits, in order, for one lane key. A lane lives as long as an entry refers to it. Owner thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "queue/message.h"

struct queue;
struct memory;

struct queue_lane {
    struct queue *queue;
    struct queue_lane *hash_next;
    struct entry_list ready; /* and those held while their message is copied forward, in their places */
    uint64_t ready_count;    /* without the held ones */
    uint64_t refs;           /* entries that are not gone */
    void *user;
    uint32_t hash;
    uint32_t key_size;
    char key[];
};

struct lane_table {
    struct queue_lane **buckets;
    uint32_t bucket_count; /* a power of two */
    uint32_t count;
    uint64_t seed; /* against keys chosen to collide */
};

int lane_table_init(struct lane_table *table, uint64_t seed) __attribute__((warn_unused_result));
void lane_table_deinit(struct lane_table *table, struct memory *memory);

/* The lane of this key, made if there is none, with one more reference. NULL: out of memory. */
struct queue_lane *lane_ref(struct queue *queue, const char *key, uint32_t key_size);
/* The last reference takes the lane away, after lane_gone. */
void lane_unref(struct queue_lane *lane);

/* Puts an entry at the end (or the head) of what waits; calls lane_ready when it is the first. */
void lane_put(struct entry *entry, bool at_head);
/* The same at the end, for an entry whose message is being copied forward. */
void lane_put_held(struct entry *entry);
/* Takes an entry, ready or held, out of what waits. */
void lane_remove(struct entry *entry);
/* Keeps its place, but is not to be taken until it is let go; lane_let_go calls lane_ready when it is the
 * first. One message at a time. */
void lane_hold(struct entry *entry);
void lane_let_go(struct entry *entry);
/* The first entry that is ready, or NULL. */
struct entry *lane_first(const struct queue_lane *lane);
