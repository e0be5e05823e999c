#include "gateway/inbound/session.h"

#include "gateway/base/config.h"
#include "gateway/base/counters.h"
#include "gateway/base/id.h"
#include "gateway/base/pool.h"
#include "gateway/inbound/commands.h"
#include "gateway/inbound/report.h"
#include "gateway/net/loop.h"
#include "queue/queue.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* --- States --- */

#define TO(state) (1u << SESSION_##state)

/* The arrows of the diagram in session.h. */
static const uint16_t next_states[SESSION_STATE_COUNT] = {
    [SESSION_GREETED] = TO(READY) | TO(ENDING) | TO(GONE),
    [SESSION_READY] = TO(MAIL) | TO(ENDING) | TO(GONE),
    [SESSION_MAIL] = TO(RCPT) | TO(READY) | TO(ENDING) | TO(GONE),
    [SESSION_RCPT] = TO(CONTENT) | TO(READY) | TO(ENDING) | TO(GONE),
    [SESSION_CONTENT] = TO(STALLED) | TO(DISCARD) | TO(UNCOMMITTED) | TO(COMMITTING) | TO(ENDING) | TO(GONE),
    [SESSION_DISCARD] = TO(READY) | TO(ENDING) | TO(GONE),
    [SESSION_STALLED] = TO(CONTENT) | TO(ENDING) | TO(GONE),
    [SESSION_UNCOMMITTED] = TO(UNCOMMITTED) | TO(COMMITTING) | TO(DISCARD) | TO(ENDING) | TO(GONE),
    [SESSION_COMMITTING] = TO(READY) | TO(ORPHAN),
    [SESSION_ORPHAN] = TO(GONE),
    [SESSION_ENDING] = TO(GONE),
    [SESSION_GONE] = 0,
};

void session_enter(struct session *session, enum session_state state)
{
    assert(session->state < SESSION_STATE_COUNT && state < SESSION_STATE_COUNT);
    assert((next_states[session->state] & 1u << state) != 0);
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
static uint64_t timeout_ms(const struct session *session)
{
    const struct config_timeouts *timeouts = &session->inbound->options.config->timeouts;
    switch (session->state) {
    case SESSION_GREETED:
    case SESSION_READY:
    case SESSION_MAIL:
    case SESSION_RCPT:
        return timeouts->inbound_command_ms;
    case SESSION_CONTENT:
    case SESSION_DISCARD:
        return timeouts->inbound_data_ms;
    default:
        return UINT64_MAX;
    }
}

void session_arm_timeout(struct session *session)
{
    if (session->state == SESSION_ORPHAN || session->state == SESSION_GONE)
        return; /* there is no connection */
    uint64_t ms = timeout_ms(session);
    const bool is_bounded = session->state < SESSION_COMMITTING;
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

enum { HOSTNAME_SHOWN_MAX = 255 };

void session_reply_greeting(struct session *session)
{
    char text[HOSTNAME_SHOWN_MAX + 32];
    const int size = snprintf(text, sizeof(text), "220 %.*s ESMTP Sluice\r\n", HOSTNAME_SHOWN_MAX,
                              session->inbound->options.config->hostname);
    assert(size > 0 && (size_t)size < sizeof(text));
    conn_send_copy(&session->conn, text, (size_t)size);
}

void session_reply_hello(struct session *session)
{
    const struct config *config = session->inbound->options.config;
    const uint64_t size_max = config->listeners[session->listener_index].max_message_size_bytes;
    char text[HOSTNAME_SHOWN_MAX + 128];
    int size = 0;
    if (session->is_esmtp)
        size = snprintf(
            text, sizeof(text),
            "250-%.*s\r\n250-PIPELINING\r\n250-SIZE %ju\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n",
            HOSTNAME_SHOWN_MAX, config->hostname, (uintmax_t)size_max);
    else
        size = snprintf(text, sizeof(text), "250 %.*s\r\n", HOSTNAME_SHOWN_MAX, config->hostname);
    assert(size > 0 && (size_t)size < sizeof(text));
    conn_send_copy(&session->conn, text, (size_t)size);
}

static void refuse(struct session *session, enum reply_id id, const struct smtp_slice *from,
                   const struct smtp_slice *to)
{
    const struct reply *reply = reply_get(id);
    report_reject(session, reply->line, reply->name, from, to);
    if (session->state != SESSION_ORPHAN)
        session_reply(session, id);
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

void session_refuse_syntax(struct session *session, enum smtp_refusal refusal)
{
    const struct smtp_refusal_reply *reply = smtp_refusal_reply(refusal);
    const struct smtp_slice sender = transaction_sender(&session->transaction);
    report_reject(session, reply->line, reply->name, session->transaction.memory != NULL ? &sender : NULL,
                  NULL);
    conn_send_static(&session->conn, reply->line.data, reply->line.size);
    if (reply->fatal)
        session_end(session, SESSION_BROKEN_LINES);
}

/* --- The end of things --- */

static void drop_transaction(struct session *session)
{
    if (session->draft != NULL)
        queue_draft_abort(session->draft);
    session->draft = NULL;
    list_remove(&session->waiting_link);
    transaction_reset(&session->transaction, session->inbound->options.pool);
}

static void session_free(struct session *session)
{
    struct inbound *inbound = session->inbound;
    drop_transaction(session);
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
    if (session->state == SESSION_GREETED || session->state == SESSION_READY)
        session_end_with(session, REPLY_SHUTTING_DOWN, SESSION_SHUT_DOWN);
    else if (session->state < SESSION_COMMITTING)
        session_arm_timeout(session);
}

/* --- Reading --- */

static bool waits_for_queue(const struct session *session)
{
    return session->state == SESSION_STALLED || session->state == SESSION_UNCOMMITTED ||
           session->state == SESSION_COMMITTING;
}

/* A client that sends on without reading its replies must not grow them without bound. */
static bool may_read(const struct session *session)
{
    return !waits_for_queue(session) && conn_pending_bytes(&session->conn) <= INBOUND_UNREAD_MAX;
}

void session_resume(struct session *session)
{
    if (may_read(session))
        conn_resume(&session->conn);
}

void session_room(struct session *session)
{
    assert(list_is_empty(&session->waiting_link));
    if (session->state == SESSION_UNCOMMITTED) {
        content_commit(session);
        return;
    }
    assert(session->state == SESSION_STALLED);
    session_enter(session, SESSION_CONTENT);
    session_resume(session);
}

static size_t take(struct session *session, const char *bytes, size_t size)
{
    switch (session->state) {
    case SESSION_GREETED:
    case SESSION_READY:
    case SESSION_MAIL:
    case SESSION_RCPT:
        return commands_take(session, bytes, size);
    case SESSION_CONTENT:
    case SESSION_DISCARD:
        return content_take(session, bytes, size);
    default:
        assert(session->state == SESSION_ENDING);
        return size;
    }
}

static size_t on_data(struct conn *conn, const char *bytes, size_t size)
{
    struct session *session = conn->ctx;
    size_t taken = 0;
    while (taken < size && may_read(session))
        taken += take(session, bytes + taken, size - taken);
    assert(taken <= size);
    if (session->state == SESSION_CONTENT || session->state == SESSION_DISCARD)
        session_arm_timeout(session);
    if (taken < size && session->state != SESSION_ENDING)
        conn_pause(conn);
    session->bytes += taken;
    COUNTER_ADD(session->inbound->options.counters, bytes_received, taken);
    return taken;
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
    else
        session_end_with(session, REPLY_TIMEOUT, SESSION_TIMED_OUT);
}

/* The client closed its side. A message that is complete is brought to its end and answered; nothing else is.
 */
static void on_eof(struct conn *conn)
{
    struct session *session = conn->ctx;
    if (session->state == SESSION_UNCOMMITTED || session->state == SESSION_COMMITTING)
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
    if (session->state == SESSION_COMMITTING)
        session_enter(session, SESSION_ORPHAN);
    else
        session_free(session);
}

static const struct conn_handler handler = {
    .on_data = on_data,
    .on_eof = on_eof,
    .on_timeout = on_timeout,
    .on_drained = on_drained,
    .on_closed = on_closed,
};

/* --- Beginning --- */

static void remember_client(struct session *session, const struct sockaddr *client)
{
    const char *text = NULL;
    if (client->sa_family == AF_INET) {
        memcpy(&session->client.v4, client, sizeof(session->client.v4));
        text =
            inet_ntop(AF_INET, &session->client.v4.sin_addr, session->client_text, SESSION_CLIENT_TEXT_MAX);
    } else if (client->sa_family == AF_INET6) {
        memcpy(&session->client.v6, client, sizeof(session->client.v6));
        text =
            inet_ntop(AF_INET6, &session->client.v6.sin6_addr, session->client_text, SESSION_CLIENT_TEXT_MAX);
    }
    session->client_text_size = text != NULL ? (uint8_t)strlen(text) : 0;
}

int session_new(struct inbound *inbound, int fd, uint32_t listener_index, const struct sockaddr *client)
{
    const struct inbound_options *options = &inbound->options;
    assert(fd >= 0 && listener_index < options->config->listener_count);
    struct session *session = pool_alloc(options->pool, sizeof(*session));
    if (session == NULL)
        return -ENOMEM;
    /* The parser and its line of 2 KiB are last and are not worth clearing for each connection. */
    memset(session, 0, offsetof(struct session, parser));
    session->inbound = inbound;
    session->listener_index = listener_index;
    list_init(&session->link);
    list_init(&session->waiting_link);
    smtp_command_parser_init(&session->parser);
    conn_init(&session->conn, options->loop, &handler, session);
    conn_attach(&session->conn, fd);
    remember_client(session, client != NULL ? client : conn_peer(&session->conn));

    list_push_back(&inbound->sessions, &session->link);
    inbound->session_count++;
    COUNTER_ADD(options->counters, connections_accepted, 1);
    COUNTER_ADD(options->counters, connections_open, 1);
    report_connect(session);
    session_reply_greeting(session);
    session_arm_timeout(session);
    conn_start_reading(&session->conn, true);
    return 0;
}
