#include "gateway/inbound/commit.h"

#include "gateway/base/config.h"
#include "gateway/base/counters.h"
#include "gateway/inbound/admission.h"
#include "gateway/inbound/policy.h"
#include "gateway/inbound/report.h"
#include "gateway/inbound/session.h"
#include "gateway/message/envelope.h"
#include "gateway/net/loop.h"
#include "queue/queue.h"

#include <assert.h>
#include <errno.h>

enum reply_id commit_reply_to_error(int64_t error)
{
    assert(error < 0 && error != -EAGAIN);
    switch (error) {
    case -ENOSPC:
    case -ENOMEM:
    case -EMSGSIZE: /* a log that is this torn up has no room for this message now */
        return REPLY_STORAGE_FULL;
    case -ETIMEDOUT:
        return REPLY_TOO_SLOW;
    default:
        return REPLY_STORAGE_FAILED;
    }
}

enum reply_id commit_reply_to_no_draft(const struct session *session)
{
    const bool has_failed = queue_state(session->inbound->options.queue) == QUEUE_FAILED;
    return has_failed ? REPLY_STORAGE_FAILED : REPLY_STORAGE_FULL;
}

void commit_refuse(struct session *session)
{
    COUNTER_ADD(session->inbound->options.counters, messages_refused, 1);
    session_refuse(session, session->verdict);
    session_end_transaction(session);
}

/* The queue's callback: the message is durable, or it never will be. */
static void on_committed(void *context, uint64_t id, int error)
{
    struct session *session = context;
    struct counters *counters = session->inbound->options.counters;
    const bool has_client = session->state == SESSION_COMMITTING;
    assert(has_client || session->state == SESSION_ORPHAN);

    if (error == 0) {
        session->messages++;
        COUNTER_ADD(counters, messages_accepted, 1);
        report_accept(session, id);
        if (has_client)
            session_reply_queued(session, id);
    } else {
        COUNTER_ADD(counters, messages_refused, 1);
        session_refuse(session, commit_reply_to_error(error));
    }
    session_end_transaction(session);
}

static uint32_t flags_of(struct session *session)
{
    const struct content *content = &session->content;
    const struct transaction *transaction = &session->transaction;
    const bool has_8bit = content->is_chunked ? content->chunks.has_8bit : content->data.has_8bit;
    const bool dot_lines = content->is_chunked ? content->chunks.dot_lines : content->data.dot_lines;
    return (has_8bit ? (uint32_t)ENVELOPE_HAS_8BIT : 0) | (dot_lines ? (uint32_t)ENVELOPE_DOT_LINES : 0) |
           (transaction->body == SMTP_BODY_8BITMIME ? (uint32_t)ENVELOPE_8BITMIME : 0) |
           (content->is_binary ? (uint32_t)ENVELOPE_BINARYMIME : 0) |
           (transaction->is_smtputf8 ? (uint32_t)ENVELOPE_SMTPUTF8 : 0) |
           (transaction->ret == SMTP_RET_FULL ? (uint32_t)ENVELOPE_RET_FULL : 0) |
           (transaction->ret == SMTP_RET_HDRS ? (uint32_t)ENVELOPE_RET_HDRS : 0) |
           (admission_may_relay(session) ? (uint32_t)ENVELOPE_TRUSTED : 0);
}

void commit_begin(struct session *session)
{
    assert(session->state == SESSION_CONTENT || session->state == SESSION_UNCOMMITTED);
    const struct inbound_options *options = &session->inbound->options;
    const struct envelope meta = {
        .sender = transaction_sender(&session->transaction),
        .client = {session->client_text, session->client_text_size},
        .envid = transaction_envid(&session->transaction),
        .flags = flags_of(session),
    };
    char meta_bytes[ENVELOPE_SIZE_MAX];
    struct queue_envelope envelope = {.meta = meta_bytes};
    envelope.meta_size = (uint32_t)envelope_encode(&meta, meta_bytes);
    transaction_recipients(&session->transaction, &envelope);

    session->message_size = queue_draft_size(session->draft);
    const int error = queue_draft_commit(session->draft, &envelope, (int64_t)loop_now_wall_ms(options->loop),
                                         on_committed, session);
    if (error == 0) {
        session->draft = NULL;
        session_enter(session, SESSION_COMMITTING);
    } else if (error == -EAGAIN) {
        session_wait_for_room(session, SESSION_UNCOMMITTED);
    } else {
        content_refuse(session, commit_reply_to_error(error));
        commit_refuse(session);
    }
}
