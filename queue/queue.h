/* The durable queue: one shard of it.
 *
 * A shard takes messages as drafts (opaque content, an opaque envelope, recipients with opaque lane keys),
 * acknowledges them when they are on disk, hands them out lane by lane, and records what became of each
 * recipient. It knows neither SMTP nor sockets; time is passed in; the disk is behind queue/storage.h.
 * Durability contract and format on disk: queue/README.md.
 *
 * Thread: everything here belongs to the shard's owner thread, but for the fields of struct queue_delivery
 * that say otherwise. Callbacks run on the owner thread, from within queue_flush, queue_tick, or a completion
 * of the storage; none is called from inside queue_draft_*; queue_take and queue_settle name theirs.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "queue/ring.h"
#include "queue/storage.h"

struct queue;
struct queue_draft;
struct queue_lane;

enum {
    QUEUE_KEY_MAX = 511,             /* octets of a lane key */
    QUEUE_ADDRESS_MAX = 1024,        /* octets of a recipient */
    QUEUE_ENVELOPE_MAX = 192 * 1024, /* octets of meta and encoded recipients together */
    QUEUE_RETRY_STEPS_MAX = 16,
    QUEUE_PAGE_SIZE = 1024 * 1024, /* default of queue_options.page_size */
    QUEUE_COMPANIONS_MAX = 3,      /* messages that are queued together with outcomes */
};

/* What the caller is told to do when a shard cannot take a message now. */
enum queue_state {
    QUEUE_OPEN,
    QUEUE_DISK_FULL,   /* no segment can be had: 452 4.3.1 */
    QUEUE_MEMORY_FULL, /* as many messages wait as memory may describe: 452 4.3.1 */
    QUEUE_FAILED,      /* the disk refuses writes: 451 4.3.0 */
};

struct queue_callbacks {
    /* A lane has something to take; called when it goes from nothing to something, and once more after a
     * start. Note it, and take later: not from within the call. */
    void (*lane_ready)(void *context, struct queue_lane *lane);
    /* A lane is about to go: nothing waits, is deferred or is out for delivery in it. */
    void (*lane_gone)(void *context, struct queue_lane *lane);
    /* A draft that was answered -EAGAIN may go on: append again. */
    void (*room)(void *context);
    /* The state changed. */
    void (*state)(void *context, enum queue_state state, int error);
};

struct queue_options {
    uint32_t shard; /* 0..255, part of every id */
    uint32_t
        page_size; /* bytes; a power of two, at least 4 blocks; the largest write and the unit of memory */
    uint64_t memory_limit; /* bytes for pages and waiting messages together */
    uint32_t writes_max;   /* log writes in flight, 1..8 */
    uint32_t
        commit_delay_us; /* at most this long a finished message waits for others that are being received */
    uint32_t retry_count;
    int64_t retry_ms[QUEUE_RETRY_STEPS_MAX]; /* delay before attempt 2, 3, …; the last one repeats */
    uint32_t retry_jitter_percent;           /* each delay is spread by so much either way */
    uint32_t entry_recipients;               /* so many recipients of a lane travel together at most: 1..64 */
    int64_t age_max_ms;                      /* after this a deferred recipient is expired */
    uint64_t seed; /* of the jitter and of identities on disk; another one at each start */
    const struct queue_callbacks *callbacks;
    void *context; /* passed to the callbacks */
    /* Where small objects come from; NULL: malloc. */
    void *(*alloc)(void *context, size_t size);
    void (*free)(void *context, void *memory, size_t size);
    void *alloc_context;
};

/* What recovery found; the labels are those of the table in queue/README.md. */
struct queue_recovery {
    uint64_t segments;   /* read */
    uint64_t bytes;      /* read */
    uint64_t batches;    /* valid */
    uint64_t messages;   /* waiting now */
    uint64_t recipients; /* waiting now */
    uint64_t torn_tails; /* writes that were cut short before they were acknowledged: dropped, nothing lost */
    uint64_t damaged_batches;  /* acknowledged batches that no longer check: salvaged record by record */
    uint64_t damaged_records;  /* records lost in them */
    uint64_t missing_segments; /* gaps in the sequence */
    uint64_t stale_segments;   /* older than the log's tail: ignored */
    uint64_t foreign_slots;    /* not of this log, or blank */
    uint64_t orphans;          /* outcomes of messages that are no longer there: ignored */
};

/* Opens the shard over `storage`, reading what is there (synchronously). `now_ms` is wall time since 1970. On
 * success *queue is set; lanes become ready by callbacks from the first queue_tick on. Errors: -ENOMEM, -EIO,
 * -EINVAL (options), -EPROTO (a newer format), or what the storage answered. */
int queue_open(struct storage *storage, const struct queue_options *options, int64_t now_ms,
               struct queue_recovery *recovery, struct queue **queue) __attribute__((warn_unused_result));

/* Frees the shard without writing anything. No operation of the storage may be under way: see queue_idle. */
void queue_close(struct queue *queue);

/* True when no storage operation is under way and nothing waits to be written. */
bool queue_idle(const struct queue *queue);

enum queue_state queue_state(const struct queue *queue);

/* Changes the retry schedule, jitter, age, and entry_recipients for messages to come, of a running shard. */
void queue_set_retry(struct queue *queue, const struct queue_options *options);

/* --- Accepting --- */

/* The envelope that goes with a message. The recipients are encoded by queue_recipient_encode, one after the
 * other. */
struct queue_envelope {
    const void *meta; /* the caller's own; handed back with every delivery */
    uint32_t meta_size;
    const void *recipients;
    uint32_t recipients_size;
    uint32_t recipient_count;
};

/* Called once for each committed draft: error 0 when the message is durable (say 250 now), else a negative
 * errno and the message is not in the queue. */
typedef void queue_committed(void *context, uint64_t id, int error);

/* Bytes that queue_recipient_encode writes. */
size_t queue_recipient_size(size_t address_size, size_t key_size);

/* Appends one recipient to a buffer that has room; returns the bytes written. */
size_t queue_recipient_encode(void *buffer, const char *address, size_t address_size, const char *key,
                              size_t key_size);

/* Begins a message. NULL: out of memory, or queue_state is not QUEUE_OPEN. */
struct queue_draft *queue_draft_new(struct queue *queue);

/* Copies content into the log's page (the one copy on the way in). Returns the bytes taken, which may be
 * fewer than asked only with more to come after room(); -EAGAIN: none taken, wait for room(); -ENOSPC, -EIO:
 * the draft is dead, abort it; -ETIMEDOUT: it has been open for so long that the log may not wait for it any
 * more. */
int64_t queue_draft_append(struct queue_draft *draft, const void *bytes, size_t size)
    __attribute__((warn_unused_result));

/* Room in the log's page for content to be received into, without a copy: *size asks for so many octets (at
 * least 1), and says how many may be written (at least 1, at most what was asked). NULL with *error:
 *   -ENOBUFS  none to be had this way now: receive elsewhere and append; asking again later is fine;
 *   -EAGAIN   wait for room(); the others as queue_draft_append.
 *
 * One reservation a draft; until queue_draft_filled neither append, reserve nor commit may be called for it.
 * Other drafts go on as always, and nobody's commit waits for it, however long it stays open. While it is
 * open its memory stays, even if the draft dies meanwhile (the call after queue_draft_filled says so), and
 * its page does not leave memory: whoever fills it needs a time-out. Giving the draft up is legal once
 * nothing can write to the memory any more: first end the receive, then abort.
 *
 * It costs a write of its own for every 256 KiB, and up to 4 KiB of padding: worth it from some 64 KiB on. A
 * reservation that asks for no more than what will come wastes nothing; what was reserved and is not filled
 * before the next append or commit is lost to the log. */
void *queue_draft_reserve(struct queue_draft *draft, size_t *size, int *error)
    __attribute__((warn_unused_result));

/* Ends the reservation: its first `size` octets, at most what was reserved, are content now, and must not be
 * written to any more. 0: nothing came. What stands behind them is lost: copy it first. The next reservation
 * goes on right behind, if that is the draft's next call. */
void queue_draft_filled(struct queue_draft *draft, size_t size);

/* Ends the message: 0 and the draft is the queue's, committed() will be called; -EAGAIN: wait for room() and
 * call again (received content is not on disk yet, or there is no room); -ENOSPC, -EIO, -ETIMEDOUT, -EMSGSIZE
 * (envelope or content in too many pieces), -ENOMEM: the draft is dead, abort it. The envelope is copied. */
int queue_draft_commit(struct queue_draft *draft, const struct queue_envelope *envelope, int64_t now_ms,
                       queue_committed *committed, void *context) __attribute__((warn_unused_result));

/* Gives up a message that was not committed. */
void queue_draft_abort(struct queue_draft *draft);

/* Content so far, in octets; the id that the message will have. Ids are unique over the life of the data
 * folder. */
uint64_t queue_draft_size(const struct queue_draft *draft);
uint64_t queue_draft_id(const struct queue_draft *draft);

/* --- Delivering --- */

enum queue_outcome {
    QUEUE_RETRY,   /* not attempted: goes back to the head of its lane, no attempt is counted */
    QUEUE_DONE,    /* delivered, or refused for good: leaves the queue */
    QUEUE_DEFER,   /* attempted in vain: waits for its next attempt */
    QUEUE_EXPIRED, /* set by queue_judge or queue_settle in place of QUEUE_DEFER: too old, leaves the queue */
    QUEUE_OWED,    /* delivered, and never to be sent again; but somebody is still to be told of it, which
                    * could not be done now: waits for its next attempt. See queue_delivery.is_owed. */
};

struct queue_target {
    const char *address;
    uint32_t size;
    uint32_t index;             /* the recipient's number in its message */
    enum queue_outcome outcome; /* written by the deliverer; begins as QUEUE_RETRY */
    /* The deliverer's own bit for this recipient: begins as false, is kept (on disk too) with the outcomes
     * QUEUE_DEFER and QUEUE_RETRY, and comes back with the next delivery. */
    bool marked;
};

/* A run of content: in memory when `data` is set, else to be read with
 * queue_piece_read_size/queue_piece_check. */
struct queue_piece {
    const void *data;
    uint32_t size;
    uint32_t slot;   /* of the storage */
    uint32_t offset; /* of the first content byte in the slot */
    uint32_t crc;    /* CRC32C of the content */
};

/* One message on its way out, with those of its recipients that go there. Immutable while it is out, but for
 * the targets' outcomes and marks, `user` and `told`; it may travel to another thread and must come home to
 * be settled. All memory that it points to stays until queue_release. */
struct queue_delivery {
    struct queue *queue;
    uint64_t id;
    int64_t arrival_ms;
    uint64_t content_size;
    uint32_t attempt; /* 1 for the first */
    uint32_t meta_size;
    /* All its targets were settled as QUEUE_OWED before: to be told of, not to be sent. Settle them with
     * QUEUE_DONE (told), QUEUE_OWED or QUEUE_RETRY; they never expire, and their mark says nothing. Such come
     * alone, and later than recipients of the same entry that are still to be served. */
    bool is_owed;
    const void *meta;
    struct queue_target *targets;
    uint32_t target_count;
    uint32_t piece_count;
    struct queue_piece *pieces;
    int64_t due_ms; /* after queue_judge or queue_settle: when the first deferred or owed one is due, or 0 */
    void *user;     /* the taker's own */
    void *told;     /* the taker's own, too */
    struct queue_delivery *next; /* the holder's own */
};

/* Called once for each queue_take that returned true: `delivery` is NULL when the envelope could not be read
 * back (logged by the state callback); it was then deferred. */
typedef void queue_taken(void *context, struct queue_delivery *delivery);

/* Whether recipients that wait in `lane` may ride with the delivery being taken. */
typedef bool queue_match(void *context, struct queue_lane *lane);

/* Takes the first waiting message of a lane, with up to `recipients_max` (at least entry_recipients) of its
 * recipients from this lane and from each other that `match` accepts (NULL: none). False: the lane is empty.
 * taken() is called before queue_take returns when the envelope is in memory, later when it has to be read.
 */
bool queue_take(struct queue_lane *lane, uint32_t recipients_max, queue_match *match, queue_taken *taken,
                void *context);

/* Before settling, for a deliverer that has to know first: puts QUEUE_EXPIRED in place of QUEUE_DEFER where
 * the recipient is too old, and says in due_ms when the others are due. Outcomes may still be changed
 * afterwards: settling then takes them as they stand, and expires nobody any more. May be called again.
 * Without it queue_settle and queue_settle_with judge themselves. */
void queue_judge(struct queue_delivery *delivery, int64_t now_ms);

/* Records the outcomes. In memory at once; on disk with the next write. May call lane_ready. Then the
 * deliverer reads the targets once more (QUEUE_EXPIRED) and gives the delivery back with queue_release. */
void queue_settle(struct queue_delivery *delivery, int64_t now_ms);

/* A message that is to be queued if and only if the outcomes of a delivery are recorded. */
struct queue_companion {
    struct queue_draft *draft; /* of the delivery's shard, its content complete */
    const struct queue_envelope *envelope;
};

/* Error 0: outcomes and companions are on disk and in force; read the targets, then queue_release. Else a
 * negative errno: none of it is, the companions are gone, and the delivery is as it was before the call, to
 * be settled anew, from within the call or later. -ECANCELED: within queue_close; settle with QUEUE_RETRY and
 * release before returning. */
typedef void queue_settled(void *context, struct queue_delivery *delivery, int error);

/* As queue_settle for the delivery and queue_draft_commit for each of its `count` (1 to QUEUE_COMPANIONS_MAX)
 * companions, all of it in one durable write: after a crash there is all of it or nothing. 0: the drafts are
 * the queue's and settled() will be called once; until then the delivery, which stays out, must not be
 * touched. The envelopes are copied. Unlike with queue_settle the outcomes are in force only when they are on
 * disk. Errors, after which nothing has happened (but for queue_judge) and settled() is not called: -EAGAIN:
 * wait for room() and call again with the same drafts; -EMSGSIZE: envelopes and outcomes exceed one write (a
 * page), or as queue_draft_commit; -ENOSPC, -EIO, -ETIMEDOUT, -ENOMEM: all drafts are to be aborted. */
int queue_settle_with(struct queue_delivery *delivery, const struct queue_companion *companions,
                      uint32_t count, int64_t now_ms, queue_settled *settled, void *context)
    __attribute__((warn_unused_result));

/* Gives a settled delivery back. */
void queue_release(struct queue_delivery *delivery);

/* A piece that is not in memory: the aligned range of its slot to read, and where the content begins in it.
 */
struct queue_piece_range {
    uint64_t offset;
    size_t size;
    size_t skip;
};
struct queue_piece_range queue_piece_range(const struct queue_piece *piece);

/* Any thread: whether the bytes read back are those that were written. */
bool queue_piece_check(const struct queue_piece *piece, const void *content);

/* Lanes: the key, the user's pointer (starts NULL), what waits (ready to take), and the age of what stands
 * first. */
const char *queue_lane_key(const struct queue_lane *lane, uint32_t *size);
void queue_lane_set_user(struct queue_lane *lane, void *user);
void *queue_lane_user(const struct queue_lane *lane);
uint64_t queue_lane_ready_count(const struct queue_lane *lane);
int64_t queue_lane_head_arrival_ms(const struct queue_lane *lane); /* INT64_MAX when empty */
void queue_each_lane(struct queue *queue, void (*each)(void *context, struct queue_lane *lane),
                     void *context);

/* Looks at some of what waits in the lanes, further with each call, round and round, for what arrived before
 * `old_ms`, or before `late_ms` with a recipient that is not marked. Such an entry is put at the head of its
 * lane, for the next queue_take, and the lane returned. `*budget`: how many entries to look at, and how many
 * are left of these. NULL: none among them, or a round is over; *budget is 0. */
struct queue_lane *queue_sweep(struct queue *queue, uint32_t *budget, int64_t old_ms, int64_t late_ms);

/* --- Driving --- */

/* Moves what is due into its lanes. Returns when to call again: wall ms, or INT64_MAX. */
int64_t queue_tick(struct queue *queue, int64_t now_ms);

/* Call once at the end of each loop turn: decides about the group commit and starts writes. `now_us` is
 * monotonic. Returns within how many µs it wants to be called again, or UINT64_MAX when only a completion or
 * a call matters. */
uint64_t queue_flush(struct queue *queue, uint64_t now_us);

/* Write all that is pending without waiting for company, from now on (drain before an exit). */
void queue_drain(struct queue *queue);

struct queue_stats {
    uint64_t log_writes;      /* completed */
    uint64_t log_write_bytes; /* including padding */
    uint64_t log_write_us;    /* sum of their times as seen by queue_flush's clock */
    uint64_t write_errors;
    uint64_t commits;    /* messages made durable */
    uint64_t settles;    /* outcome records */
    uint64_t moved;      /* messages copied forward */
    uint64_t messages;   /* in the queue now */
    uint64_t recipients; /* waiting, deferred or out, now */
    uint64_t deferred;   /* entries waiting for their time, now */
    uint32_t out;        /* deliveries taken and not yet released */
    uint64_t segments;   /* in use now */
    uint64_t segments_spare;
    uint64_t pages; /* in memory now */
    uint64_t pages_evicted;
    uint64_t envelope_reads; /* envelopes read back from disk */
};
/* In the queue now: stats.messages alone. */
uint64_t queue_message_count(const struct queue *queue);

struct queue_stats queue_stats(const struct queue *queue);
