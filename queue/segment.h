/* Segments: the log as a sequence of fixed-size parts, and the slots of the storage that they lie in.
 *
 * The live log runs from the tail segment to the head; sequence numbers have no gaps in memory (a segment
 * found missing at recovery is an empty one). A segment whose holders are gone leaves from the tail end only,
 * so that an outcome never leaves before the message that it is about. Its slot may be written again once a
 * durable batch names a tail beyond it. Owner thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "queue/storage.h"

enum { SEGMENT_NO_SLOT = UINT32_MAX };

/* Who needs a segment: a message, or a draft, is linked into the list of the oldest segment that has a byte
 * of it. */
struct segment_holder {
    TAILQ_ENTRY(segment_holder) link;
    struct segment *segment; /* NULL: none yet */
    bool is_draft;
};

TAILQ_HEAD(segment_holders, segment_holder);

struct segment {
    struct segment_holders holders;
    uint32_t sequence;
    uint32_t slot;
    uint32_t life;     /* in its batches */
    uint64_t previous; /* last good batch number before this segment */
    bool sealed;
    bool bad; /* a write failed: its slot is not used again */
    uint32_t page_count;
    struct page *pages[]; /* NULL: not in memory */
};

struct segment_table {
    struct storage *storage;
    uint32_t pages_per_segment;
    /* The live log: entry i has sequence first_sequence + i. The first `released` of them are before the tail
     * and wait for a durable batch that says so. */
    struct segment **segments;
    uint32_t count;
    uint32_t capacity;
    uint32_t released;
    /* Prepared slots that hold nothing. */
    uint32_t *spare;
    uint32_t spare_count;
    uint32_t spare_capacity;
    /* Slot numbers that were given back; below slot_count. */
    uint32_t *hole;
    uint32_t hole_count;
    uint32_t hole_capacity;
    uint32_t slot_count;
    /* At most one slot is being prepared. */
    struct storage_op prepare;
    uint32_t preparing; /* slot, or SEGMENT_NO_SLOT */
    int prepare_error;  /* of the last attempt */
    uint32_t next_sequence;
};

int segment_table_init(struct segment_table *table, struct storage *storage, uint32_t page_size)
    __attribute__((warn_unused_result));
/* Pages must have been dropped. */
void segment_table_deinit(struct segment_table *table);

/* Adds the next segment at the head, in a spare slot (or in `slot` at recovery). NULL: out of memory. */
struct segment *segment_push(struct segment_table *table, uint32_t slot);

/* The segment with this sequence, or NULL when it is not part of the log. */
struct segment *segment_find(const struct segment_table *table, uint32_t sequence);
struct segment *segment_head(const struct segment_table *table);
/* The first segment that is still needed, or NULL. */
struct segment *segment_tail(const struct segment_table *table);
/* Its sequence, or the one that the next segment will have. */
uint32_t segment_tail_sequence(const struct segment_table *table);

void segment_hold(struct segment *segment, struct segment_holder *holder, bool is_draft);
void segment_unhold(struct segment_holder *holder);

/* Releases sealed segments without holders from the tail end. */
void segment_release(struct segment_table *table);

/* A durable batch said that segments before `tail` are not needed: their slots become spare, or go if there
 * are more than `spare_max`. Pages of them must not be in memory any more. */
void segment_recycle(struct segment_table *table, uint32_t tail, uint32_t spare_max);

/* The disk is full: takes the slot of a segment that is not needed before a durable batch says so. Nothing is
 * lost if the power goes then: what it held was settled or copied, and outcomes in it are about messages that
 * went before it. False: there is none. */
bool segment_steal(struct segment_table *table);

/* Adds a slot to the spare ones / to the numbers to use again. 0 or -ENOMEM. */
int segment_add_spare(struct segment_table *table, uint32_t slot) __attribute__((warn_unused_result));
int segment_add_hole(struct segment_table *table, uint32_t slot) __attribute__((warn_unused_result));

/* Starts to prepare one more slot unless one is being prepared. */
void segment_prepare(struct segment_table *table);
