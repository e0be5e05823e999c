#include "gateway/inbound/report.h"

#include "gateway/base/log.h"
#include "gateway/inbound/authentication.h"
#include "gateway/inbound/policy.h"
#include "gateway/inbound/session.h"
#include "gateway/message/received.h"
#include "gateway/net/loop.h"

#include <assert.h>

static const char *const reason_names[SESSION_REASON_COUNT] = {
    [SESSION_LOST] = "lost",
    [SESSION_QUIT] = "quit",
    [SESSION_EOF] = "eof",
    [SESSION_TIMED_OUT] = "timeout",
    [SESSION_BROKEN_LINES] = "broken-lines",
    [SESSION_TOO_MANY_ERRORS] = "errors",
    [SESSION_REFUSED] = "refused",
    [SESSION_BAD_PROXY] = "bad-proxy-header",
    [SESSION_OUT_OF_STEP] = "out-of-step",
    [SESSION_SHUT_DOWN] = "shutdown",
};

static bool begin(const struct session *session, struct log_line *line, enum log_event event,
                  enum log_level level)
{
    return log_begin(session->inbound->options.log, line, event, level);
}

static void log_reply(struct log_line *line, struct smtp_slice reply, struct smtp_slice name)
{
    assert(reply.size > 2);
    log_str(line, "reply", reply.data, reply.size - 2); /* without CRLF */
    log_str(line, "reason", name.data, name.size);
}

static void log_helo(struct log_line *line, const struct session *session)
{
    if (session->helo_size > 0)
        log_str(line, "helo", session->helo, session->helo_size);
}

/* How the mail came, and from whom: what only some connections have. */
static void log_origin(struct log_line *line, struct session *session)
{
    char tls[RECEIVED_TLS_MAX];
    const struct smtp_slice text = session_tls_text(session, "/", tls, sizeof(tls));
    const char *user = authentication_user(session);
    if (text.size > 0)
        log_str(line, "tls", text.data, text.size);
    if (user != NULL)
        log_text(line, "auth", user);
    if (session->origin != NULL && session->origin->forwarded[0] != '\0')
        log_text(line, "forwarded_for", session->origin->forwarded);
}

void report_connect(const struct session *session)
{
    struct log_line line;
    if (!begin(session, &line, LOG_CONNECT, LOG_INFO))
        return;
    log_addr(&line, "client", &session->client.any);
    log_text(&line, "listener", session_listener(session)->name);
    log_end(&line);
}

void report_disconnect(struct session *session, int error)
{
    struct log_line line;
    if (!begin(session, &line, LOG_DISCONNECT, LOG_INFO))
        return;
    assert(session->reason < SESSION_REASON_COUNT);
    log_addr(&line, "client", &session->client.any);
    log_helo(&line, session);
    log_origin(&line, session);
    const char *tls_error = conn_tls_error(&session->conn);
    log_text(&line, "reason", tls_error[0] != '\0' ? "tls" : reason_names[session->reason]);
    if (tls_error[0] != '\0')
        log_text(&line, "tls_error", tls_error);
    else if (error != 0)
        log_errno(&line, "error", error);
    log_u64(&line, "messages", session->messages);
    log_u64(&line, "bytes", session->bytes);
    log_end(&line);
}

void report_reject(const struct session *session, struct smtp_slice reply, struct smtp_slice name,
                   const struct smtp_slice *from, const struct smtp_slice *to)
{
    struct log_line line;
    if (!begin(session, &line, LOG_REJECT, LOG_NOTICE))
        return;
    log_reply(&line, reply, name);
    if (from != NULL)
        log_path(&line, "from", from->data, from->size);
    if (to != NULL)
        log_path(&line, "to", to->data, to->size);
    log_addr(&line, "client", &session->client.any);
    log_helo(&line, session);
    log_end(&line);
}

void report_turned_away(const struct inbound *inbound, struct smtp_slice reply, struct smtp_slice name,
                        const struct sockaddr *client)
{
    struct log_line line;
    if (!log_begin(inbound->options.log, &line, LOG_REJECT, LOG_NOTICE))
        return;
    log_reply(&line, reply, name);
    log_addr(&line, "client", client);
    log_end(&line);
}

void report_accept(struct session *session, uint64_t id)
{
    struct log_line line;
    if (!begin(session, &line, LOG_ACCEPT, LOG_INFO))
        return;
    const struct transaction *transaction = &session->transaction;
    const struct smtp_slice sender = transaction_sender(transaction);
    const struct smtp_slice recipient = transaction_sole_recipient(transaction);
    log_id(&line, id);
    log_path(&line, "from", sender.data, sender.size);
    if (recipient.size > 0)
        log_path(&line, "to", recipient.data, recipient.size);
    log_u64(&line, "recipients", transaction->recipient_count);
    log_u64(&line, "size", session->message_size);
    log_addr(&line, "client", &session->client.any);
    log_helo(&line, session);
    log_origin(&line, session);
    const uint64_t now_us = loop_now_us(session->inbound->options.loop);
    assert(now_us >= session->content_end_us);
    log_u64(&line, "queue_ms", (now_us - session->content_end_us) / 1000);
    log_end(&line);
}

void report_login(struct session *session, const char *user, const char *mechanism, const char *result,
                  const char *reason)
{
    struct log_line line;
    if (!begin(session, &line, LOG_LOGIN, LOG_NOTICE))
        return;
    log_text(&line, "user", user);
    log_text(&line, "mechanism", mechanism);
    log_text(&line, "result", result);
    if (reason[0] != '\0')
        log_text(&line, "reason", reason);
    log_addr(&line, "client", &session->client.any);
    log_helo(&line, session);
    log_origin(&line, session);
    log_end(&line);
}

void report_dry_run(const struct session *session, enum config_rule rule, enum reply_id reply)
{
    struct log_line line;
    if (!begin(session, &line, LOG_REJECT, LOG_NOTICE))
        return;
    const struct reply *would = reply_get(reply);
    log_reply(&line, would->line, would->name);
    log_text(&line, "dry_run", config_rule_name(rule));
    log_addr(&line, "client", &session->client.any);
    log_helo(&line, session);
    log_end(&line);
}
