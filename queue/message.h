/* Messages that wait, and their entries: the recipients of one message that share a lane. What is kept in
 * memory of a message with one recipient is under 200 bytes; its envelope and content are in the log. Owner
 * thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "queue/format.h"
#include "queue/segment.h"

enum { ENTRY_RECIPIENTS_MAX = FORMAT_SETTLE_RECIPIENTS };

struct queue;
struct queue_lane;
struct queue_envelope;

/*            lane_put              queue_take
 *   (new) ──────────────▶ READY ───────────────▶ OUT ──▶ GONE
 *                          ▲ │ ▲                  │
 *              move is done │ │ └── QUEUE_RETRY ───┤
 *                          │ ▼                    │ QUEUE_DEFER
 *                          HELD ◀── due ──┐        ▼
 *                (its message is copied    └─ DEFERRED ── due ──▶ READY
 *                 forward: it keeps its place)
 */
enum entry_state { ENTRY_READY, ENTRY_OUT, ENTRY_DEFERRED, ENTRY_HELD, ENTRY_GONE };

struct entry {
    TAILQ_ENTRY(entry) link; /* in the lane while READY */
    struct message *message;
    struct queue_lane *lane;
    uint64_t pending; /* bit n: recipient first+n is still to be served */
    uint64_t marked;  /* bit n: the deliverer's, of recipient first+n; of one not pending: it is owed */
    int64_t due_ms;
    uint32_t first;
    uint16_t attempts;
    uint8_t count;
    uint8_t state;
};
_Static_assert(sizeof(struct entry) == 64, "there may be ten million of them");

TAILQ_HEAD(entry_list, entry);

struct message {
    struct segment_holder holder;
    uint64_t id;
    int64_t arrival_ms;
    uint64_t log_bytes;         /* in the log, of its records */
    struct format_piece commit; /* payload of its commit record */
    uint32_t entry_count;
    uint32_t out;    /* entries OUT */
    uint32_t active; /* entries READY, OUT or HELD */
    uint32_t left;   /* entries not GONE */
    bool claimed;    /* its pieces count as live in their pages */
    bool moving;
    bool damaged; /* a copy of content that failed its check is in memory: it must be read back, to fail again
                   */
    struct entry entries[];
};

/* A message for an encoded envelope, each entry with its lane and all recipients pending, not yet in any
 * lane's order. `error`: 0, -ENOMEM, or -EBADMSG when the recipients are not well formed. */
struct message *message_new(struct queue *queue, uint64_t id, const struct queue_envelope *envelope,
                            int *error);

/* A bit for each of `count` recipients. */
static inline uint64_t entry_mask(uint32_t count)
{
    return count == ENTRY_RECIPIENTS_MAX ? UINT64_MAX : (UINT64_C(1) << count) - 1;
}

/* Recipients that are still in the queue: to be served, or owed (QUEUE_OWED). */
static inline uint64_t entry_left(const struct entry *entry)
{
    return entry->pending | entry->marked;
}

/* Those that go out with the next delivery: the owed ones once nobody else is left. */
static inline uint64_t entry_next(const struct entry *entry)
{
    return entry->pending ? entry->pending : entry->marked;
}

/* The entry's state as an outcome record says it. */
static inline struct format_settle entry_outcome(const struct entry *entry)
{
    return (struct format_settle){
        .done = entry_mask(entry->count) & ~entry->pending,
        .due_ms = entry->due_ms,
        .first = entry->first,
        .count = entry->count,
        .attempt = entry->attempts,
        .marked = entry->marked,
    };
}

/* Gives its lanes back and frees it. */
void message_free(struct queue *queue, struct message *message);

/* Reads the recipient at *at, moving on. False: malformed, or the end. */
struct recipient_view {
    const char *address;
    const char *key;
    uint32_t address_size;
    uint32_t key_size;
};
bool recipient_next(const uint8_t *recipients, uint32_t size, uint32_t *at, struct recipient_view *view);

/* A commit record's payload, taken apart. */
struct commit_view {
    struct format_commit head;
    const struct format_piece *pieces;
    const uint8_t *meta;
    const uint8_t *recipients;
};
bool commit_parse(const void *payload, uint32_t size, struct commit_view *view);

/* Bytes of the message's records in the log. */
uint64_t commit_log_bytes(const struct commit_view *view, uint32_t payload_size);
/* The oldest segment that has a byte of it. */
uint32_t commit_oldest_segment(const struct commit_view *view, uint32_t commit_segment);
