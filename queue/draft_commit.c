/* How drafts become messages. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "queue/draft.h"

/* --- Commit --- */

static void draft_durable(struct wal_waiter *waiter, int error)
{
    struct queue_draft *draft =
        (struct queue_draft *)(void *)((char *)waiter - offsetof(struct queue_draft, waiter));
    struct queue *queue = draft->queue;
    struct message *message = draft->message;
    queue_committed *committed = draft->committed;
    void *context = draft->context;
    uint64_t id = draft->id;
    if (error) {
        wal_unclaim(&queue->wal, &draft->commit);
        draft_unclaim(draft);
        draft_free(draft);
        message_free(queue, message);
        if (committed)
            committed(context, id, error);
        return;
    }
    queue->commits++;
    struct segment *oldest = draft->holder.segment;
    draft_free(draft);
    if (committed)
        committed(context, id, 0);
    queue_admit(queue, message, oldest);
}

static uint32_t payload_size(const struct queue_draft *draft, const struct queue_envelope *envelope)
{
    return (uint32_t)sizeof(struct format_commit) + draft->piece_count * (uint32_t)sizeof(*draft->pieces) +
           envelope->meta_size + envelope->recipients_size;
}

int draft_finish(struct queue_draft *draft, const struct queue_envelope *envelope)
{
    assert(envelope->recipient_count > 0 && !draft->message);
    int error = draft_check(draft);
    if (!error && envelope->meta_size + envelope->recipients_size > QUEUE_ENVELOPE_MAX)
        error = -EMSGSIZE;
    if (!error)
        error = draft_flush(draft);
    if (error && error != -EAGAIN)
        draft->error = error;
    return error;
}

uint32_t draft_commit_size(const struct queue_draft *draft, const struct queue_envelope *envelope)
{
    return format_record_size(payload_size(draft, envelope));
}

int draft_append_commit(struct queue_draft *draft, const struct queue_envelope *envelope, int64_t now_ms,
                        unsigned flags)
{
    struct format_commit head = {
        .arrival_ms = now_ms,
        .content_size = draft->size,
        .piece_count = draft->piece_count,
        .meta_size = envelope->meta_size,
        .recipients_size = envelope->recipients_size,
        .recipient_count = envelope->recipient_count,
    };
    struct wal_part parts[] = {
        {&head, sizeof(head)},
        {draft->pieces, draft->piece_count * (uint32_t)sizeof(*draft->pieces)},
        {envelope->meta, envelope->meta_size},
        {envelope->recipients, envelope->recipients_size},
    };
    return wal_append(&draft->queue->wal, FORMAT_COMMIT, draft->id, parts, 4, flags, &draft->commit);
}

void draft_offer(struct queue_draft *draft, struct message *message, int64_t now_ms,
                 queue_committed *committed, void *context)
{
    message->arrival_ms = now_ms;
    message->commit = draft->commit;
    message->claimed = true;
    message->log_bytes = draft->size + draft->piece_count * sizeof(struct format_record) +
                         format_record_size(draft->commit.size);
    draft->message = message;
    draft->committed = committed;
    draft->context = context;
    draft->waiter.done = draft_durable;
    draft_hold(draft, draft->commit.segment);
    wal_claim(&draft->queue->wal, &draft->commit);
    draft->queue->drafts--;
    wal_await(&draft->queue->wal, &draft->waiter);
}

int queue_draft_commit(struct queue_draft *draft, const struct queue_envelope *envelope, int64_t now_ms,
                       queue_committed *committed, void *context)
{
    int error = draft_finish(draft, envelope);
    if (error)
        return error;
    struct message *message = message_new(draft->queue, draft->id, envelope, &error);
    if (message)
        error = draft_append_commit(draft, envelope, now_ms, 0);
    if (error) {
        message_free(draft->queue, message);
        if (error != -EAGAIN)
            draft->error = error;
        return error;
    }
    draft_offer(draft, message, now_ms, committed, context);
    return 0;
}
