/* Copying forward: a message that keeps the log's tail from moving on is written again at its head, so that a
 * few deferred messages never pin the disk. One message at a time.
 *
 * The copy becomes the message when its commit record is durable; until then the old one is. Copies of
 * damaged content keep the checksum of the original, so that the damage is still found at delivery.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "queue/crc32c.h"
#include "queue/shard.h"

enum {
    SLACK_SEGMENTS = 4,      /* dead space that is not worth copying for */
    DRAFT_SEGMENTS_MAX = 64, /* how far the log may run ahead of an open draft */
    PAUSE_US = 1000000,      /* after a failure */
};

struct mover {
    struct storage_op read;
    struct wal_waiter waiter;
    struct queue *queue;
    struct message *message;
    uint8_t *payload; /* copy of the old commit record's payload; its pieces become the new ones */
    uint8_t *buffer;  /* a piece being copied, or the commit record being read */
    struct queue_piece_range range;
    uint32_t piece;      /* being copied */
    uint32_t piece_done; /* bytes of it */
    struct format_piece *copies;
    uint32_t copy_count;
    uint32_t copy_capacity;
    struct format_piece commit;
    struct segment_holder holder; /* of the oldest segment with a byte of the copy */
    bool reading;
    bool committing;
    uint64_t epoch;
};

static struct commit_view mover_view(const struct mover *mover)
{
    struct commit_view view;
    bool whole = commit_parse(mover->payload, mover->message->commit.size, &view);
    assert(whole);
    return view;
}

void mover_free(struct queue *queue)
{
    struct mover *mover = queue->mover;
    if (!mover)
        return;
    assert(!mover->reading);
    segment_unhold(&mover->holder);
    free(mover->payload);
    free(mover->buffer);
    free(mover->copies);
    free(mover);
    queue->mover = NULL;
}

/* The message may be taken again. */
static void mover_let_go(struct mover *mover)
{
    struct queue *queue = mover->queue;
    struct message *message = mover->message;
    mover_free(queue);
    message->moving = false;
    for (uint32_t i = 0; i < message->entry_count; i++)
        if (message->entries[i].state == ENTRY_HELD)
            lane_let_go(&message->entries[i]);
}

static void mover_give_up(struct mover *mover)
{
    struct queue *queue = mover->queue;
    queue->mover_pause_us = queue->wal.now_us + PAUSE_US;
    mover_let_go(mover);
}

/* --- What to move --- */

static bool worthwhile(const struct queue *queue)
{
    const struct segment_table *segments = &queue->wal.segments;
    uint64_t size = queue->wal.storage->segment_size;
    uint64_t used = (segments->count - segments->released) * size;
    bool short_of_space = segments->prepare_error != 0;
    uint64_t slack = short_of_space ? 2 : SLACK_SEGMENTS;
    uint64_t live = short_of_space ? queue->live_bytes : 2 * queue->live_bytes;
    return used > live + slack * size;
}

/* A draft that is still open when the log has gone so far ahead is given up, and told so at its next append.
 */
static void drop_slow_drafts(struct queue *queue, struct segment *tail)
{
    const struct segment_table *segments = &queue->wal.segments;
    if (segments->count - segments->released < DRAFT_SEGMENTS_MAX && !segments->prepare_error)
        return;
    struct segment_holder *holder;
    struct segment_holder *next;
    for (holder = TAILQ_FIRST(&tail->holders); holder; holder = next) {
        next = TAILQ_NEXT(holder, link);
        if (holder->is_draft && !draft_is_committing(holder))
            draft_outrun(holder);
    }
}

static struct message *choose(struct segment *tail)
{
    struct segment_holder *holder;
    TAILQ_FOREACH(holder, &tail->holders, link)
    {
        struct message *message = (struct message *)(void *)holder;
        if (!holder->is_draft && message->out == 0)
            return message;
    }
    return NULL;
}

/* --- Moving --- */

static void mover_read_done(struct storage_op *op, int32_t result);

static void mover_read(struct mover *mover, const struct format_piece *piece)
{
    struct queue *queue = mover->queue;
    const struct segment *segment = segment_find(&queue->wal.segments, piece->segment);
    struct queue_piece where = {.offset = piece->offset, .size = piece->size};
    mover->range = queue_piece_range(&where);
    mover->buffer = segment ? aligned_alloc(STORAGE_BLOCK, mover->range.size) : NULL;
    if (!mover->buffer) {
        mover_give_up(mover);
        return;
    }
    mover->reading = true;
    mover->read.done = mover_read_done;
    queue->operations++;
    queue->wal.storage->methods->read(queue->wal.storage, &mover->read, segment->slot, mover->range.offset,
                                      mover->buffer, mover->range.size);
}

static bool mover_take_payload(struct mover *mover, const uint8_t *payload)
{
    const struct format_piece *commit = &mover->message->commit;
    struct commit_view view;
    if (crc32c(0, payload, commit->size) != commit->crc || !commit_parse(payload, commit->size, &view))
        return false;
    mover->payload = malloc(commit->size);
    if (mover->payload)
        memcpy(mover->payload, payload, commit->size);
    return mover->payload != NULL;
}

static void mover_read_done(struct storage_op *op, int32_t result)
{
    struct mover *mover = (struct mover *)(void *)((char *)op - offsetof(struct mover, read));
    mover->queue->operations--;
    mover->reading = false;
    bool good = result == 0;
    if (good && !mover->payload) {
        good = mover_take_payload(mover, mover->buffer + mover->range.skip);
        free(mover->buffer);
        mover->buffer = NULL;
    }
    if (!good)
        mover_give_up(mover);
}

static int copies_reserve(struct mover *mover)
{
    if (mover->copy_count < mover->copy_capacity)
        return 0;
    uint32_t more = mover->copy_capacity ? 2 * mover->copy_capacity : 16;
    struct format_piece *grown = realloc(mover->copies, more * sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    mover->copies = grown;
    mover->copy_capacity = more;
    return 0;
}

static void mover_hold(struct mover *mover, const struct format_piece *piece)
{
    if (!mover->holder.segment)
        segment_hold(segment_find(&mover->queue->wal.segments, piece->segment), &mover->holder, true);
}

/* Content that no longer checks must go on failing its check: the copy's sum is made wrong by as much. */
static uint32_t copy_crc(const struct format_piece *original, const uint8_t *content,
                         const struct format_piece *copy)
{
    uint32_t found = crc32c(0, content, original->size);
    return copy->crc ^ (found ^ original->crc);
}

/* Appends what fits of the current piece. 0: go on; else a negative errno. */
static int mover_copy(struct mover *mover, const struct format_piece *piece, const uint8_t *content)
{
    int error = copies_reserve(mover);
    if (error)
        return error;
    struct format_piece none = {0};
    bool is_new = false;
    int64_t taken = wal_append_body(&mover->queue->wal, mover->message->id, content + mover->piece_done,
                                    piece->size - mover->piece_done, true, &none, &is_new);
    if (taken < 0)
        return (int)taken;
    assert(is_new);
    uint32_t crc = copy_crc(piece, content, &none);
    mover->message->damaged |= crc != none.crc;
    none.crc = crc;
    mover->copies[mover->copy_count++] = none;
    mover_hold(mover, &none);
    mover->piece_done += (uint32_t)taken;
    if (mover->piece_done == piece->size) {
        mover->piece++;
        mover->piece_done = 0;
        free(mover->buffer);
        mover->buffer = NULL;
    }
    return 0;
}

static void mover_adopt(struct mover *mover)
{
    struct queue *queue = mover->queue;
    struct message *message = mover->message;
    struct commit_view view = mover_view(mover);
    message_unclaim(queue, message, &view);
    struct segment *oldest = mover->holder.segment;
    segment_unhold(&mover->holder);
    segment_unhold(&message->holder);
    segment_hold(oldest, &message->holder, false);
    queue->live_bytes -= message->log_bytes;
    message->log_bytes = view.head.content_size + mover->copy_count * sizeof(struct format_record) +
                         format_record_size(mover->commit.size);
    queue->live_bytes += message->log_bytes;
    message->commit = mover->commit;
    queue->moved++;
}

static void mover_durable(struct wal_waiter *waiter, int error)
{
    struct mover *mover = (struct mover *)(void *)((char *)waiter - offsetof(struct mover, waiter));
    if (error) {
        mover_give_up(mover);
        return;
    }
    mover_adopt(mover);
    mover_let_go(mover);
}

static uint32_t state_records(const struct message *message)
{
    return message->entry_count * format_record_size(sizeof(struct format_settle));
}

/* The commit record and the state of each entry go into one batch, so that recovery sees all of it or
 * nothing. */
static int mover_commit(struct mover *mover)
{
    struct wal *wal = &mover->queue->wal;
    struct message *message = mover->message;
    struct commit_view view = mover_view(mover);
    view.head.piece_count = mover->copy_count;
    struct wal_part parts[] = {
        {&view.head, sizeof(view.head)},
        {mover->copies, mover->copy_count * (uint32_t)sizeof(*mover->copies)},
        {view.meta, view.head.meta_size},
        {view.recipients, view.head.recipients_size},
    };
    uint32_t payload = parts[0].size + parts[1].size + parts[2].size + parts[3].size;
    int error = wal_reserve(wal, format_record_size(payload) + state_records(message), true);
    if (!error)
        error = wal_append(wal, FORMAT_COMMIT, message->id, parts, 4, WAL_PRIVILEGED, &mover->commit);
    if (error)
        return error;
    mover_hold(mover, &mover->commit);
    for (uint32_t i = 0; i < message->entry_count; i++) {
        struct format_settle settle = entry_outcome(&message->entries[i]);
        struct wal_part part = {&settle, format_settle_size(&settle)};
        struct format_piece ignored;
        error = wal_append(wal, FORMAT_SETTLE, message->id, &part, 1, WAL_PRIVILEGED, &ignored);
        assert(!error); /* reserved above */
    }
    mover->committing = true;
    mover->waiter.done = mover_durable;
    wal_await(wal, &mover->waiter);
    return 0;
}

static int mover_advance(struct mover *mover)
{
    struct commit_view view = mover_view(mover);
    if (mover->piece == view.head.piece_count)
        return mover_commit(mover);
    const struct format_piece *piece = &view.pieces[mover->piece];
    struct wal *wal = &mover->queue->wal;
    const struct format_piece source = *piece;
    const uint8_t *content = wal_resident(wal, &source);
    if (mover->buffer)
        return mover_copy(mover, &source, mover->buffer + mover->range.skip);
    if (!content) {
        mover_read(mover, &source);
        return 1;
    }
    /* The append may need a page, and take this one. */
    wal_pin(wal, &source);
    int error = mover_copy(mover, &source, content);
    wal_unpin(wal, &source);
    return error;
}

static void mover_begin(struct queue *queue, struct message *message)
{
    struct mover *mover = calloc(1, sizeof(*mover));
    if (!mover)
        return;
    mover->queue = queue;
    mover->message = message;
    mover->epoch = queue->wal.epoch;
    queue->mover = mover;
    message->moving = true;
    for (uint32_t i = 0; i < message->entry_count; i++)
        if (message->entries[i].state == ENTRY_READY)
            lane_hold(&message->entries[i]);
    const void *payload = wal_resident(&queue->wal, &message->commit);
    if (!payload)
        mover_read(mover, &message->commit);
    else if (!mover_take_payload(mover, payload))
        mover_give_up(mover);
}

static void mover_choose(struct queue *queue)
{
    struct segment *tail = segment_tail(&queue->wal.segments);
    if (!tail || !tail->sealed || queue->wal.now_us < queue->mover_pause_us || !worthwhile(queue))
        return;
    drop_slow_drafts(queue, tail);
    struct message *message = choose(tail);
    if (message)
        mover_begin(queue, message);
}

void mover_step(struct queue *queue)
{
    if (!queue->mover)
        mover_choose(queue);
    struct mover *mover = queue->mover;
    if (!mover || mover->reading || mover->committing || !mover->payload)
        return;
    int error = mover->epoch == queue->wal.epoch ? 0 : -EIO;
    while (!error && !mover->committing)
        error = mover_advance(mover);
    if (error < 0 && error != -EAGAIN)
        mover_give_up(mover);
}
