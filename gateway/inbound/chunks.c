#include "gateway/inbound/chunks.h"

#include "gateway/inbound/commit.h"
#include "gateway/inbound/content.h"
#include "gateway/inbound/session.h"

#include <assert.h>

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
