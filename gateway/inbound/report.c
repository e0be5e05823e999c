#include "gateway/inbound/report.h"

#include "gateway/base/config.h"
#include "gateway/base/log.h"
#include "gateway/inbound/session.h"
#include "gateway/net/loop.h"

#include <assert.h>

static const char *const reason_names[SESSION_REASON_COUNT] = {
    [SESSION_LOST] = "lost",
    [SESSION_QUIT] = "quit",
    [SESSION_EOF] = "eof",
    [SESSION_TIMED_OUT] = "timeout",
    [SESSION_BROKEN_LINES] = "broken-lines",
    [SESSION_TOO_MANY_ERRORS] = "errors",
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

void report_connect(const struct session *session)
{
    struct log_line line;
    if (!begin(session, &line, LOG_CONNECT, LOG_INFO))
        return;
    const struct config *config = session->inbound->options.config;
    log_addr(&line, "client", &session->client.any);
    log_text(&line, "listener", config->listeners[session->listener_index].name);
    log_end(&line);
}

void report_disconnect(const struct session *session, int error)
{
    struct log_line line;
    if (!begin(session, &line, LOG_DISCONNECT, LOG_INFO))
        return;
    assert(session->reason < SESSION_REASON_COUNT);
    log_addr(&line, "client", &session->client.any);
    log_helo(&line, session);
    log_text(&line, "reason", reason_names[session->reason]);
    if (error != 0)
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

void report_accept(const struct session *session, uint64_t id)
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
    const uint64_t now_us = loop_now_us(session->inbound->options.loop);
    assert(now_us >= session->content_end_us);
    log_u64(&line, "queue_ms", (now_us - session->content_end_us) / 1000);
    log_end(&line);
}
