/* The inside of a queue shard, shared by the files that implement queue/queue.h. Owner thread. */
#pragma once

#include "queue/lane.h"
#include "queue/memory.h"
#include "queue/message.h"
#include "queue/queue.h"
#include "queue/schedule.h"
#include "queue/sweep.h"
#include "queue/wal.h"

struct mover;

struct queue {
    struct queue_options options;
    struct memory memory;
    struct wal wal;
    struct lane_table lanes;
    struct schedule schedule;
    struct sweep sweep;
    struct mover *mover; /* NULL: nothing is being copied forward */
    uint64_t mover_pause_us;
    bool announce; /* lanes that recovery filled are to be told */
    uint64_t next_id;
    uint64_t random;
    int64_t now_ms;

    uint32_t drafts;     /* open ones */
    uint32_t operations; /* reads under way */
    uint32_t deliveries; /* out */
    enum queue_state state;

    uint64_t commits;
    uint64_t moved;
    uint64_t messages;
    uint64_t recipients;
    uint64_t envelope_reads;
    uint64_t live_bytes; /* in the log, of messages in the queue */
};

/* A number from the shard's own generator. */
uint64_t queue_random(struct queue *queue);

/* A committed message joins the queue: it holds its segment, its ready entries go to their lanes and deferred
 * ones to the schedule. */
void queue_admit(struct queue *queue, struct message *message, struct segment *oldest);

/* Everything of the message is settled. */
void queue_dismiss(struct queue *queue, struct message *message);

/* An entry comes back: to its lane, to the schedule, or nowhere if nobody is pending. */
void entry_place(struct queue *queue, struct entry *entry, bool at_head);

/* Content and envelope of the message are not needed in memory any more. */
void message_unclaim(struct queue *queue, struct message *message, const struct commit_view *view);

/* A draft's holder: whether its commit is under way; and taking its hold away when the log cannot wait for it
 * any more. */
bool draft_is_committing(const struct segment_holder *holder);
void draft_outrun(struct segment_holder *holder);

/* Recovery (queue/recovery.c): fills a fresh queue from its storage. */
int queue_recover(struct queue *queue, struct queue_recovery *recovery) __attribute__((warn_unused_result));

/* Copying forward (queue/mover.c): one step, if there is something to do. */
void mover_step(struct queue *queue);
void mover_free(struct queue *queue);
