#include "gateway/inbound/chunks.h"

#include "gateway/inbound/commit.h"
#include "gateway/inbound/content.h"
#include "gateway/inbound/session.h"
#include "queue/queue.h"

#include <assert.h>
#include <errno.h>

/* Where a chunk cannot come now; NO_VALID_RECIPIENTS when all were refused and BDAT was on its way with them.
 */
static enum reply_id judge_turn(const struct session *session)
{
    switch (session->state) {
    case SESSION_GREETED:
        return REPLY_HELLO_FIRST;
    case SESSION_READY:
        return REPLY_MAIL_FIRST;
    case SESSION_MAIL:
        return session->transaction.refused_count > 0 ? REPLY_NO_VALID_RECIPIENTS : REPLY_RCPT_FIRST;
    default:
        assert(session->state == SESSION_RCPT || session->state == SESSION_CHUNKS);
        return REPLY_NONE;
    }
}

/* The first chunk of a message opens its draft; what stands against it is the message's verdict. */
static void begin_message(struct session *session)
{
    session->verdict = REPLY_NONE;
    if (!content_begin(session, true))
        session->verdict = commit_reply_to_no_draft(session);
}

void chunks_begin(struct session *session, const struct smtp_command *command)
{
    const enum reply_id refusal = judge_turn(session);
    session->after = SESSION_CHUNKS;
    if (refusal != REPLY_NONE) {
        session->verdict = refusal;
        session->after = session->state;
    } else if (session->state == SESSION_RCPT) {
        begin_message(session);
    }
    session_enter(session, session->verdict != REPLY_NONE ? SESSION_DISCARD : SESSION_CONTENT);
    content_begin_chunk(session, command->chunk_size, command->is_last);
    content_go_on(session);
}

/* --- Straight into the page --- */

/* What fields may still be put into is not received in place: behind them all would have to move. */
bool chunks_go_direct(const struct session *session)
{
    const struct content *content = &session->content;
    if (session->state != SESSION_CONTENT || !content->is_chunked || content->is_copied || content->completes)
        return false;
    const uint32_t least = session->inbound->options.direct_min;
    const bool pays = content->chunk_left >= least || content->space_left > 0;
    return pays && content->chunk_left > 0 && content->piece_count == 0;
}

void *chunks_space(struct session *session, size_t *size)
{
    struct content *content = &session->content;
    int error = 0;
    if (!chunks_go_direct(session))
        return NULL;
    assert(content->space == NULL && session->draft != NULL);
    *size = (size_t)content->chunk_left;
    content->space = queue_draft_reserve(session->draft, size, &error);
    content->space_left = content->space != NULL ? *size : 0;
    if (content->space != NULL)
        return content->space;
    if (error == -ENOBUFS)
        content->is_copied = true;
    else if (error == -EAGAIN)
        session_wait_for_room(session, SESSION_STALLED);
    else
        content_refuse(session, commit_reply_to_error(error));
    return NULL;
}

/* The first of these octets stay where they are, the others come again. */
static size_t settle(struct session *session, const char *bytes, size_t size)
{
    struct content *content = &session->content;
    const size_t stays = content_take_in_place(session, bytes, size);
    if (session->state != SESSION_CONTENT)
        return stays; /* refused: there is no page any more */
    assert(size <= content->space_left);
    content->space_left -= size;
    if (stays < size) {
        conn_put_back(&session->conn, bytes + stays, size - stays);
        content->is_copied = true;
    }
    queue_draft_filled(session->draft, stays);
    return stays;
}

size_t chunks_filled(struct session *session, size_t size)
{
    struct content *content = &session->content;
    const char *bytes = content->space;
    size_t taken = 0;
    assert(bytes != NULL && session->draft != NULL);
    content->space = NULL;
    if (session->state == SESSION_ENDING) { /* the end had to wait for the memory */
        queue_draft_abort(session->draft);
        session->draft = NULL;
        return 0;
    }
    assert(session->state == SESSION_CONTENT);
    if (size > 0)
        taken = settle(session, bytes, size);
    else
        queue_draft_filled(session->draft, 0);
    content_go_on(session);
    return taken;
}
