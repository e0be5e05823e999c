#include "gateway/inbound/content.h"

#include "gateway/base/config.h"
#include "gateway/base/counters.h"
#include "gateway/base/id.h"
#include "gateway/inbound/report.h"
#include "gateway/inbound/session.h"
#include "gateway/message/envelope.h"
#include "gateway/net/loop.h"
#include "queue/queue.h"

#include <assert.h>
#include <errno.h>

static enum reply_id reply_to_error(int64_t error)
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

/* --- DATA --- */

static int write_trace(struct session *session)
{
    const struct inbound_options *options = &session->inbound->options;
    char id[ID_TEXT_SIZE];
    id_format(queue_draft_id(session->draft), id);
    struct received received = {
        .helo = {session->helo, session->helo_size},
        .client = {session->client_text, session->client_text_size},
        .hostname = {options->config->hostname, (uint32_t)strlen(options->config->hostname)},
        .id = {id, ID_TEXT_SIZE},
        .date = received_date_text(&session->inbound->date, (int64_t)loop_now_wall_ms(options->loop)),
        .is_esmtp = session->is_esmtp,
    };
    return transaction_trace(&session->transaction, options->pool, &received);
}

void content_begin(struct session *session)
{
    assert(session->state == SESSION_RCPT);
    struct queue *queue = session->inbound->options.queue;
    struct content *content = &session->content;

    session->draft = queue_draft_new(queue);
    if (session->draft == NULL || write_trace(session) != 0) {
        session_refuse(session,
                       queue_state(queue) == QUEUE_FAILED ? REPLY_STORAGE_FAILED : REPLY_STORAGE_FULL);
        session_end_transaction(session);
        return;
    }
    *content = (struct content){0};
    smtp_data_scanner_init(&content->scanner);
    smtp_header_scan_init(&content->header);
    session_enter(session, SESSION_CONTENT);
    session_reply(session, REPLY_START_CONTENT);
}

/* --- Content --- */

/* The message will not be taken: what still comes of it is dropped, then the client reads why. */
static void refuse_content(struct session *session, enum reply_id verdict)
{
    assert(session->draft != NULL);
    queue_draft_abort(session->draft);
    session->draft = NULL;
    session->verdict = verdict;
    session_enter(session, SESSION_DISCARD);
}

static void wait_for_room(struct session *session, enum session_state state)
{
    session_enter(session, state);
    list_push_back(&session->inbound->waiting, &session->waiting_link);
}

/* Returns how many octets were stored; when it is not all of them the state is no longer CONTENT. */
static size_t store(struct session *session, const char *bytes, size_t size)
{
    assert(session->state == SESSION_CONTENT && size > 0);
    int64_t stored = queue_draft_append(session->draft, bytes, size);
    if (stored < 0 && stored != -EAGAIN) {
        refuse_content(session, reply_to_error(stored));
        return 0;
    }
    const size_t taken = stored > 0 ? (size_t)stored : 0;
    assert(taken <= size);
    if (taken < size)
        wait_for_room(session, SESSION_STALLED);
    return taken;
}

/* What goes before the octets at hand: our trace field before all, an octet that the scanner had held back.
 */
static void store_front(struct session *session)
{
    const struct smtp_slice trace = transaction_trace_rest(&session->transaction);
    if (trace.size > 0)
        session->transaction.trace_stored += (uint32_t)store(session, trace.data, trace.size);
    struct content *content = &session->content;
    if (session->state == SESSION_CONTENT && content->lead_left > 0)
        content->lead_left -= store(session, content->lead, content->lead_left);
}

static void judge(struct session *session)
{
    const struct config *config = session->inbound->options.config;
    const uint64_t size_max = config->listeners[session->listener_index].max_message_size_bytes;
    if (session->content.scanner.size > size_max)
        refuse_content(session, REPLY_TOO_BIG);
    else if (session->content.header.received_count > INBOUND_HOPS_MAX)
        refuse_content(session, REPLY_TOO_MANY_HOPS);
}

/* False: the content is unacceptable and the session is over. */
static bool scan(struct session *session, const char *bytes, size_t size)
{
    struct content *content = &session->content;
    struct smtp_data_chunk chunk;
    const enum smtp_data result = smtp_data_scan(&content->scanner, bytes, size, &chunk);
    if (result == SMTP_DATA_BARE_LF || result == SMTP_DATA_BARE_CR) {
        COUNTER_ADD(session->inbound->options.counters, messages_refused, 1);
        session_refuse_syntax(session,
                              result == SMTP_DATA_BARE_LF ? SMTP_REFUSAL_BARE_LF : SMTP_REFUSAL_BARE_CR);
        return false;
    }
    if (chunk.lead_size > 0)
        smtp_header_scan_feed(&content->header, chunk.lead, chunk.lead_size);
    if (chunk.body_size > 0)
        smtp_header_scan_feed(&content->header, chunk.body, chunk.body_size);

    content->lead = chunk.lead;
    content->lead_left = chunk.lead_size;
    content->skip = chunk.body_size > 0 ? (size_t)(chunk.body - bytes) : 0;
    content->body_left = chunk.body_size;
    content->tail_left = chunk.consumed - content->skip - content->body_left;
    content->is_end = result == SMTP_DATA_END;
    assert(chunk.consumed > 0 && chunk.consumed <= size);
    assert(content->skip + content->body_left <= chunk.consumed);
    if (session->state == SESSION_CONTENT)
        judge(session);
    return true;
}

static size_t drop(size_t *left, size_t available)
{
    const size_t dropped = *left < available ? *left : available;
    *left -= dropped;
    return dropped;
}

static size_t take_body(struct session *session, const char *bytes, size_t size)
{
    struct content *content = &session->content;
    if (session->state == SESSION_DISCARD)
        return drop(&content->body_left, size);
    const size_t wanted = content->body_left < size ? content->body_left : size;
    const size_t stored = wanted > 0 ? store(session, bytes, wanted) : 0;
    content->body_left -= stored;
    if (session->state == SESSION_DISCARD)
        return stored + drop(&content->body_left, size - stored);
    return stored;
}

static void end_content(struct session *session)
{
    struct inbound *inbound = session->inbound;
    session->content_end_us = loop_now_us(inbound->options.loop);
    if (session->state == SESSION_CONTENT) {
        content_commit(session);
        return;
    }
    COUNTER_ADD(inbound->options.counters, messages_refused, 1);
    session_refuse(session, session->verdict);
    session_end_transaction(session);
}

size_t content_take(struct session *session, const char *bytes, size_t size)
{
    struct content *content = &session->content;
    assert(session->state == SESSION_CONTENT || session->state == SESSION_DISCARD);
    assert(size > 0);
    if (content->skip + content->body_left + content->tail_left == 0 && !scan(session, bytes, size))
        return size;

    if (session->state == SESSION_CONTENT)
        store_front(session);
    if (session->state == SESSION_STALLED)
        return 0;
    size_t taken = drop(&content->skip, size);
    taken += take_body(session, bytes + taken, size - taken);
    if (session->state == SESSION_STALLED)
        return taken;
    taken += drop(&content->tail_left, size - taken);
    if (content->is_end && content->body_left + content->tail_left == 0)
        end_content(session);
    return taken;
}

/* --- Commit --- */

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
        session_refuse(session, reply_to_error(error));
    }
    session_end_transaction(session);
}

void content_commit(struct session *session)
{
    assert(session->state == SESSION_CONTENT || session->state == SESSION_UNCOMMITTED);
    const struct inbound_options *options = &session->inbound->options;
    const struct smtp_data_scanner *scanner = &session->content.scanner;
    const struct envelope meta = {
        .sender = transaction_sender(&session->transaction),
        .client = {session->client_text, session->client_text_size},
        .flags = (scanner->has_8bit ? (uint32_t)ENVELOPE_HAS_8BIT : 0) |
                 (session->transaction.is_8bitmime ? (uint32_t)ENVELOPE_8BITMIME : 0) |
                 (scanner->dot_lines ? (uint32_t)ENVELOPE_DOT_LINES : 0),
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
        wait_for_room(session, SESSION_UNCOMMITTED);
    } else {
        refuse_content(session, reply_to_error(error));
        end_content(session);
    }
}
