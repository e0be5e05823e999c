/* The inside of a draft, shared by draft.c (content) and draft_commit.c (its end). Owner thread. */
#pragma once

#include "queue/shard.h"

enum { DRAFT_PIECES_INLINE = 6 };

/*            reserve                       append, commit, or full
 *   (none) ──────────▶ RESERVED ──▶ open ────────────────────────▶ being written ──▶ on disk
 *                       │  ▲ filled  │                              (`writing` counts)
 *                       │  └─ reserve┘
 *                       └── abort ──▶ given back
 */
struct queue_draft {
    struct segment_holder holder;
    struct wal_waiter waiter;
    struct queue *queue;
    uint64_t id;
    uint64_t size;
    uint64_t epoch; /* of the log when the first piece was appended */
    int error;      /* the draft is dead */
    struct format_piece *pieces;
    uint32_t piece_count;
    uint32_t piece_capacity;
    /* A sender that sends a few bytes at a time must not make millions of pieces: past the first ones, small
     * appends are gathered here. */
    uint8_t *stage;
    uint32_t stage_used;
    struct wal_extent *extent; /* that content is received into, or NULL */
    uint32_t reserved;         /* bytes of it that the caller may write to now */
    uint32_t writing;          /* extents on their way to disk */
    bool waits;                /* for them, to commit */
    uint32_t commit_size;      /* payload of the commit record */
    struct format_piece commit;
    struct message *message;
    queue_committed *committed; /* NULL: a companion */
    void *context;
    struct format_piece inline_pieces[DRAFT_PIECES_INLINE];
};

/* The draft's error, if it has died. */
int draft_check(struct queue_draft *draft);

/* All content is in the log. Errors as queue_draft_commit. */
int draft_flush(struct queue_draft *draft) __attribute__((warn_unused_result));

void draft_free(struct queue_draft *draft);
void draft_unclaim(struct queue_draft *draft);
/* The draft needs this segment, and with it all that come after. */
void draft_hold(struct queue_draft *draft, uint32_t sequence);

/* A commit in steps, for those who must append several together: first whatever may take time (errors as
 * queue_draft_commit); how much room the commit record takes; the record; and the draft, of which the message
 * now waits for the open batch. `committed` may be NULL. */
int draft_finish(struct queue_draft *draft, const struct queue_envelope *envelope)
    __attribute__((warn_unused_result));
uint32_t draft_commit_size(const struct queue_draft *draft, const struct queue_envelope *envelope);
int draft_append_commit(struct queue_draft *draft, const struct queue_envelope *envelope, int64_t now_ms,
                        unsigned flags) __attribute__((warn_unused_result));
void draft_offer(struct queue_draft *draft, struct message *message, int64_t now_ms,
                 queue_committed *committed, void *context);
