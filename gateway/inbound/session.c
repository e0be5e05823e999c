#include "gateway/inbound/session.h"

#include "gateway/base/config.h"
#include "gateway/base/counters.h"
#include "gateway/base/id.h"
#include "gateway/base/pool.h"
#include "gateway/inbound/admission.h"
#include "gateway/inbound/authentication.h"
#include "gateway/inbound/chunks.h"
#include "gateway/inbound/commands.h"
#include "gateway/inbound/commit.h"
#include "gateway/inbound/origin.h"
#include "gateway/inbound/policy.h"
#include "gateway/inbound/report.h"
#include "gateway/inbound/sender_check.h"
#include "gateway/net/loop.h"
#include "queue/queue.h"

#include <string.h>

/* --- States --- */

#define TO(state) (1u << SESSION_##state)
#define END       (TO(ENDING) | TO(GONE))

/* The arrows of the diagram in session.h. */
static const uint32_t next_states[SESSION_STATE_COUNT] = {
    [SESSION_PROXY] = TO(SECURING) | TO(SILENT) | TO(GREETED) | END,
    [SESSION_SILENT] = TO(GREETED) | END,
    [SESSION_GREETED] = TO(READY) | TO(DISCARD) | TO(GREETED) | END,
    [SESSION_READY] = TO(MAIL) | TO(ASKING) | TO(AUTH) | TO(CHECKING) | TO(PENALTY) | TO(SECURING) |
                      TO(DISCARD) | TO(GREETED) | END,
    [SESSION_MAIL] = TO(RCPT) | TO(READY) | TO(DISCARD) | END,
    [SESSION_RCPT] = TO(CONTENT) | TO(DISCARD) | TO(READY) | END,
    [SESSION_CHUNKS] = TO(CONTENT) | TO(DISCARD) | TO(READY) | END,
    [SESSION_AUTH] = TO(READY) | TO(CHECKING) | TO(PENALTY) | END,
    [SESSION_SECURING] = TO(SILENT) | TO(GREETED) | END,
    [SESSION_ASKING] = TO(MAIL) | TO(READY) | END,
    [SESSION_CHECKING] = TO(READY) | TO(PENALTY) | END,
    [SESSION_PENALTY] = TO(READY) | END,
    [SESSION_CONTENT] = TO(CHUNKS) | TO(STALLED) | TO(DISCARD) | TO(UNCOMMITTED) | TO(COMMITTING) | END,
    [SESSION_DISCARD] = TO(GREETED) | TO(READY) | TO(MAIL) | TO(CHUNKS) | END,
    [SESSION_STALLED] = TO(CONTENT) | END,
    [SESSION_UNCOMMITTED] = TO(UNCOMMITTED) | TO(COMMITTING) | TO(DISCARD) | END,
    [SESSION_COMMITTING] = TO(READY) | TO(ORPHAN),
    [SESSION_ORPHAN] = TO(GONE),
    [SESSION_ENDING] = TO(GONE),
    [SESSION_GONE] = 0,
};

const struct config_listener *session_listener(const struct session *session)
{
    return &session_policy(session)->config->listeners[session->listener_index];
}

bool session_is_stranger(const struct session *session)
{
    return !session->is_listed && authentication_user(session) == NULL;
}

void session_enter(struct session *session, enum session_state state)
{
    assert(session->state < SESSION_STATE_COUNT && state < SESSION_STATE_COUNT);
    assert((next_states[session->state] & (UINT32_C(1) << state)) != 0);
    session->state = state;
    session_arm_timeout(session);
}

static bool is_draining(const struct session *session)
{
    return session->inbound->drain_deadline_us != 0;
}

static uint64_t drain_left_ms(const struct session *session)
{
    const uint64_t now_us = loop_now_us(session->inbound->options.loop);
    const uint64_t deadline_us = session->inbound->drain_deadline_us;
    assert(deadline_us != 0);
    return deadline_us > now_us ? (deadline_us - now_us) / 1000 + 1 : 0;
}

/* What the client may take its time for; UINT64_MAX where it is not the client that is waited for. */
static uint64_t configured_ms(const struct session *session)
{
    const struct config *config = session_policy(session)->config;
    switch (session->state) {
    case SESSION_PROXY:
        return config->timeouts.inbound_proxy_ms;
    case SESSION_SILENT:
        return session_listener(session)->greeting_delay_ms;
    case SESSION_SECURING:
        return config->timeouts.inbound_handshake_ms;
    case SESSION_ASKING:
        return session->inbound->options.question_ms;
    case SESSION_PENALTY:
        return config->auth.failure_delay_ms;
    case SESSION_GREETED:
    case SESSION_READY:
    case SESSION_MAIL:
    case SESSION_RCPT:
    case SESSION_CHUNKS:
    case SESSION_AUTH:
        return config->timeouts.inbound_command_ms;
    case SESSION_CONTENT:
    case SESSION_DISCARD:
        return config->timeouts.inbound_data_ms;
    default:
        return UINT64_MAX;
    }
}

static uint64_t timeout_ms(const struct session *session)
{
    const uint64_t ms = configured_ms(session);
    if (ms != UINT64_MAX && ms > INBOUND_STRESSED_MS && admission_is_stressed(session))
        return INBOUND_STRESSED_MS;
    return ms;
}

void session_arm_timeout(struct session *session)
{
    if (session->state == SESSION_ORPHAN || session->state == SESSION_GONE)
        return; /* there is no connection */
    uint64_t ms = timeout_ms(session);
    const bool is_bounded = session->state < SESSION_COMMITTING && session->state != SESSION_CHECKING;
    if (is_draining(session) && is_bounded && drain_left_ms(session) < ms)
        ms = drain_left_ms(session);
    if (ms == UINT64_MAX)
        conn_clear_timeout(&session->conn);
    else
        conn_set_timeout(&session->conn, ms);
}

/* --- Replies --- */

void session_reply(struct session *session, enum reply_id id)
{
    const struct smtp_slice line = reply_get(id)->line;
    conn_send_static(&session->conn, line.data, line.size);
}

void session_reply_queued(struct session *session, uint64_t id)
{
    static const char frame[] = "250 2.0.0 Ok: queued as .............\r\n";
    char line[sizeof(frame)];
    memcpy(line, frame, sizeof(frame));
    id_format(id, line + sizeof(frame) - 1 - 2 - ID_TEXT_SIZE);
    conn_send_copy(&session->conn, line, sizeof(frame) - 1);
}

static void refuse(struct session *session, enum reply_id id, const struct smtp_slice *from,
                   const struct smtp_slice *to)
{
    const struct reply *reply = reply_get(id);
    report_reject(session, reply->line, reply->name, from, to);
    if (session->state == SESSION_ORPHAN)
        return;
    session_reply(session, id);
    admission_error(session);
}

static void refuse_in_transaction(struct session *session, enum reply_id id, const struct smtp_slice *to)
{
    const struct smtp_slice sender = transaction_sender(&session->transaction);
    refuse(session, id, session->transaction.memory != NULL ? &sender : NULL, to);
}

void session_refuse(struct session *session, enum reply_id id)
{
    const struct smtp_slice recipient = transaction_sole_recipient(&session->transaction);
    refuse_in_transaction(session, id, recipient.size > 0 ? &recipient : NULL);
}

void session_refuse_sender(struct session *session, enum reply_id id, struct smtp_slice sender)
{
    assert(session->transaction.memory == NULL);
    refuse(session, id, &sender, NULL);
}

void session_refuse_recipient(struct session *session, enum reply_id id, struct smtp_slice recipient)
{
    assert(session->transaction.memory != NULL);
    refuse_in_transaction(session, id, &recipient);
}

void session_refuse_recipient_by(struct session *session, struct smtp_slice line, struct smtp_slice name,
                                 struct smtp_slice recipient)
{
    const struct smtp_slice sender = transaction_sender(&session->transaction);
    assert(session->transaction.memory != NULL && session->state != SESSION_ORPHAN);
    report_reject(session, line, name, &sender, &recipient);
    conn_send_copy(&session->conn, line.data, line.size);
    admission_error(session);
}

/* The client comes no further. A TLS client would not understand what it read before the handshake. */
void session_refuse_connection(struct session *session, enum reply_id id, bool silently)
{
    const struct reply *reply = reply_get(id);
    COUNTER_ADD(session->inbound->options.counters, connections_refused, 1);
    report_reject(session, reply->line, reply->name, NULL, NULL);
    if (!silently)
        session_reply(session, id);
    session_end(session, SESSION_REFUSED);
}

void session_refuse_syntax(struct session *session, enum smtp_refusal refusal)
{
    const struct smtp_refusal_reply *reply = smtp_refusal_reply(refusal);
    const struct smtp_slice sender = transaction_sender(&session->transaction);
    report_reject(session, reply->line, reply->name, session->transaction.memory != NULL ? &sender : NULL,
                  NULL);
    conn_send_static(&session->conn, reply->line.data, reply->line.size);
    admission_error(session);
    if (reply->fatal)
        session_end(session, SESSION_BROKEN_LINES);
}

/* --- The end of things --- */

/* As long as the kernel may write to its page the draft stays: chunks_filled gives it up. */
static void drop_draft(struct session *session)
{
    if (session->draft == NULL || session->content.space != NULL)
        return;
    queue_draft_abort(session->draft);
    session->draft = NULL;
}

static void drop_transaction(struct session *session)
{
    drop_draft(session);
    sender_check_drop(session);
    session->verdict = REPLY_NONE;
    list_remove(&session->waiting_link);
    transaction_reset(&session->transaction, session->inbound->options.pool);
}

static void session_free(struct session *session)
{
    struct inbound *inbound = session->inbound;
    drop_transaction(session);
    assert(session->draft == NULL);
    admission_leave(session);
    authentication_drop(session);
    origin_drop(session);
    session_enter(session, SESSION_GONE);
    list_remove(&session->link);
    assert(inbound->session_count > 0);
    inbound->session_count--;
    pool_free(inbound->options.pool, session, sizeof(*session));
}

void session_end_transaction(struct session *session)
{
    if (session->state == SESSION_ORPHAN) {
        session_free(session);
        return;
    }
    drop_transaction(session);
    session_enter(session, SESSION_READY);
    if (session->at_eof)
        session_end(session, SESSION_EOF);
    else if (is_draining(session))
        session_end_with(session, REPLY_SHUTTING_DOWN, SESSION_SHUT_DOWN);
    else
        session_resume(session);
}

void session_end(struct session *session, enum session_reason reason)
{
    drop_transaction(session);
    session->reason = reason;
    session_enter(session, SESSION_ENDING);
    conn_finish(&session->conn);
}

void session_end_with(struct session *session, enum reply_id id, enum session_reason reason)
{
    session_reply(session, id);
    session_end(session, reason);
}

void session_drain(struct session *session)
{
    assert(is_draining(session));
    switch (session->state) {
    case SESSION_PROXY:
    case SESSION_SECURING:
        session_end(session, SESSION_SHUT_DOWN);
        break;
    case SESSION_SILENT:
    case SESSION_GREETED:
    case SESSION_READY:
        session_end_with(session, REPLY_SHUTTING_DOWN, SESSION_SHUT_DOWN);
        break;
    default:
        if (session->state < SESSION_COMMITTING)
            session_arm_timeout(session);
    }
}

/* --- Reading --- */

/* Nothing is read while somebody else has the word. */
static bool is_waiting(const struct session *session)
{
    switch (session->state) {
    case SESSION_ASKING:
    case SESSION_CHECKING:
    case SESSION_PENALTY:
    case SESSION_STALLED:
    case SESSION_UNCOMMITTED:
    case SESSION_COMMITTING:
        return true;
    case SESSION_SECURING: /* what comes is the handshake's */
        return true;
    case SESSION_SILENT:
        return session->is_early;
    default:
        return false;
    }
}

/* A client that sends on without reading its replies must not grow them without bound. */
static bool may_read(const struct session *session)
{
    return !is_waiting(session) && conn_pending_bytes(&session->conn) <= INBOUND_UNREAD_MAX;
}

void session_resume(struct session *session)
{
    if (may_read(session))
        conn_resume(&session->conn);
}

void session_wait_for_room(struct session *session, enum session_state state)
{
    session_enter(session, state);
    list_push_back(&session->inbound->waiting, &session->waiting_link);
}

void session_room(struct session *session)
{
    assert(list_is_empty(&session->waiting_link));
    if (session->state == SESSION_UNCOMMITTED) {
        commit_begin(session);
        return;
    }
    assert(session->state == SESSION_STALLED);
    session_enter(session, SESSION_CONTENT);
    content_go_on(session);
    session_resume(session);
}

/* Who speaks before it is spoken to does not speak SMTP (RFC 5321 §4.3.1). */
static size_t take_early(struct session *session)
{
    const enum reply_id refusal = admission_early_talker(session);
    if (refusal == REPLY_NONE) {
        session->is_early = true; /* a dry run: it is heard when the time has come */
        return 0;
    }
    session_refuse(session, refusal);
    session_end(session, SESSION_REFUSED);
    return 0;
}

static size_t take(struct session *session, const char *bytes, size_t size)
{
    switch (session->state) {
    case SESSION_PROXY:
        return origin_take_proxy(session, bytes, size);
    case SESSION_SILENT:
        return take_early(session);
    case SESSION_GREETED:
    case SESSION_READY:
    case SESSION_MAIL:
    case SESSION_RCPT:
    case SESSION_CHUNKS:
        return commands_take(session, bytes, size);
    case SESSION_AUTH:
        return authentication_take(session, bytes, size);
    case SESSION_CONTENT:
    case SESSION_DISCARD:
        return content_take(session, bytes, size);
    default:
        assert(session->state == SESSION_ENDING);
        return size;
    }
}

static void count_taken(struct session *session, size_t size)
{
    if (session->state == SESSION_CONTENT || session->state == SESSION_DISCARD)
        session_arm_timeout(session);
    session->bytes += size;
    COUNTER_ADD(session->inbound->options.counters, bytes_received, size);
}

static size_t on_data(struct conn *conn, const char *bytes, size_t size)
{
    struct session *session = conn->ctx;
    size_t taken = 0;
    while (taken < size && may_read(session))
        taken += take(session, bytes + taken, size - taken);
    assert(taken <= size);
    count_taken(session, taken);
    if (taken < size && session->state != SESSION_ENDING && session->state != SESSION_SECURING)
        conn_pause(conn);
    else if (chunks_go_direct(session))
        conn_receive_direct(conn);
    return taken;
}

static void *on_space(struct conn *conn, size_t *size)
{
    struct session *session = conn->ctx;
    return may_read(session) ? chunks_space(session, size) : NULL;
}

static void on_filled(struct conn *conn, size_t size)
{
    struct session *session = conn->ctx;
    const size_t taken = chunks_filled(session, size);
    if (taken > 0)
        count_taken(session, taken);
}

static void on_drained(struct conn *conn)
{
    session_resume(conn->ctx);
}

static void on_timeout(struct conn *conn)
{
    struct session *session = conn->ctx;
    assert(session->state < SESSION_COMMITTING);
    if (is_draining(session) && drain_left_ms(session) == 0)
        session_end_with(session, REPLY_SHUTTING_DOWN, SESSION_SHUT_DOWN);
    else if (session->state == SESSION_SILENT)
        session_greet(session);
    else if (session->state == SESSION_PENALTY)
        authentication_penalty_over(session);
    else if (session->state == SESSION_ASKING)
        sender_check_late(session);
    else if (session->state == SESSION_SECURING || session->state == SESSION_PROXY)
        session_end(session, SESSION_TIMED_OUT);
    else
        session_end_with(session, REPLY_TIMEOUT, SESSION_TIMED_OUT);
}

/* The client closed its side. A message that is complete is brought to its end and answered; nothing else is.
 */
static void on_eof(struct conn *conn)
{
    struct session *session = conn->ctx;
    if (session->state == SESSION_UNCOMMITTED || session->state == SESSION_COMMITTING ||
        session->state == SESSION_CHECKING)
        session->at_eof = true;
    else
        session_end(session, SESSION_EOF);
}

static void on_closed(struct conn *conn, int error)
{
    struct session *session = conn->ctx;
    const struct inbound_options *options = &session->inbound->options;
    assert(session->state != SESSION_ORPHAN && session->state != SESSION_GONE);
    report_disconnect(session, error);
    COUNTER_SUB(options->counters, connections_open, 1);
    inbound_connection_closed(session->inbound);
    if (session->state == SESSION_COMMITTING) {
        admission_leave(session);
        session_enter(session, SESSION_ORPHAN);
    } else {
        session_free(session);
    }
}

const struct conn_handler session_handler = {
    .on_data = on_data,
    .on_space = on_space,
    .on_filled = on_filled,
    .on_eof = on_eof,
    .on_timeout = on_timeout,
    .on_drained = on_drained,
    .on_secured = session_secured,
    .on_closed = on_closed,
};
