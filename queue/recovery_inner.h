/* What the files of recovery share: recovery.c (which segments there are), recovery_read.c (their batches),
 * replay.c (their records). The cases and what is decided in each stand in the table of queue/README.md; the
 * labels there (R1 …) are those of the comments.
 */
#pragma once

#include "queue/shard.h"

struct candidate {
    uint32_t slot;
    bool known;    /* `first` is a valid header, though perhaps not of the slot's first batch */
    bool searched; /* so it is not: the first block does not check */
    struct format_batch first;
};

struct recovery {
    struct queue *queue;
    struct queue_recovery *found;
    struct candidate *candidates; /* in order of sequence, those of this log only, after sorting */
    uint32_t candidate_count;
    uint8_t *page; /* one page of the segment being read */
    uint32_t page_slot;
    uint64_t page_offset;   /* UINT64_MAX: none */
    uint32_t page_valid;    /* bytes */
    struct message **table; /* by id; open addressing */
    uint64_t table_size;
    uint64_t table_used;
    uint32_t tail;
    uint64_t last_number; /* highest batch number seen */
    uint64_t highest_id;
};

/* Makes sure that the page of the slot that holds `offset` is in r->page. */
int recovery_load_page(struct recovery *r, uint32_t slot, uint64_t offset)
    __attribute__((warn_unused_result));

/* The batch header at this offset, if it checks and is of this log. The page is loaded. */
const struct format_batch *recovery_batch_here(struct recovery *r, uint64_t offset);

/* A slot that is used again may hold batches of a segment with the same number, begun in a life whose first
 * write to it did not survive. */
bool recovery_batch_is_of(const struct format_batch *batch, const struct segment *segment);

/* Replays all batches of a segment. `known`: batches up to this number were acknowledged, the next segment
 * says; 0: no word. `last`: the log went on behind this one; 0: no word. */
int recovery_read_segment(struct recovery *r, const struct segment *segment, uint64_t known, uint64_t last)
    __attribute__((warn_unused_result));

/* Applies one record that checks; `offset` is its place in the segment. */
int recovery_replay(struct recovery *r, const struct format_record *record, uint32_t sequence,
                    uint64_t offset) __attribute__((warn_unused_result));
