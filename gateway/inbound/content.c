#include "gateway/inbound/content.h"

#include "gateway/base/config.h"
#include "gateway/base/counters.h"
#include "gateway/base/id.h"
#include "gateway/inbound/authentication.h"
#include "gateway/inbound/commit.h"
#include "gateway/inbound/policy.h"
#include "gateway/inbound/session.h"
#include "gateway/message/received.h"
#include "gateway/net/loop.h"
#include "queue/queue.h"

#include <assert.h>
#include <errno.h>

/* --- Beginning --- */

static int write_trace(struct session *session)
{
    const struct inbound_options *options = &session->inbound->options;
    const char *hostname = options->policy->config->hostname;
    char id[ID_TEXT_SIZE];
    char tls[RECEIVED_TLS_MAX];
    id_format(queue_draft_id(session->draft), id);
    struct received received = {
        .helo = {session->helo, session->helo_size},
        .client = {session->client_text, session->client_text_size},
        .hostname = {hostname, (uint32_t)strlen(hostname)},
        .id = {id, ID_TEXT_SIZE},
        .date = received_date_text(&session->inbound->date, (int64_t)loop_now_wall_ms(options->loop)),
        .tls = session_tls_text(session, " with cipher ", tls, sizeof(tls)),
        .is_esmtp = session->is_esmtp,
        .is_authenticated = authentication_user(session) != NULL,
        .is_utf8 = session->transaction.is_smtputf8,
    };
    return transaction_trace(&session->transaction, options->pool, &received,
                             session_listener(session)->submission);
}

static void add_piece(struct content *content, enum content_piece_kind kind, const char *memory, size_t size)
{
    if (size == 0)
        return;
    assert(content->piece_count < CONTENT_PIECES_MAX);
    content->pieces[content->piece_count++] = (struct content_piece){kind, memory, size};
    if (kind != CONTENT_MEMORY)
        content->input_left += size;
}

static void forget_plan(struct content *content)
{
    content->piece_count = 0;
    content->piece_next = 0;
    content->input_left = 0;
}

static void init_scanner(struct session *session)
{
    struct content *content = &session->content;
    const bool normalises = session_listener(session)->normalise_newlines;
    if (!content->is_chunked)
        smtp_data_scanner_init(&content->data, normalises ? SMTP_DATA_NORMALISE : SMTP_DATA_STRICT);
    else if (content->is_binary)
        smtp_bdat_scanner_init(&content->chunks, SMTP_BDAT_BINARY);
    else
        smtp_bdat_scanner_init(&content->chunks, normalises ? SMTP_BDAT_TEXT_NORMALISE : SMTP_BDAT_TEXT);
}

bool content_begin(struct session *session, bool is_chunked)
{
    assert(session->state == SESSION_RCPT);
    struct queue *queue = session->inbound->options.queue;
    struct content *content = &session->content;

    content->space = NULL;
    content->space_left = 0;
    content->is_copied = false;
    session->draft = queue_draft_new(queue);
    if (session->draft == NULL || write_trace(session) != 0)
        return false;
    /* All but the pieces, which piece_count tells the validity of. */
    forget_plan(content);
    content->chunk_left = 0;
    content->is_chunked = is_chunked;
    content->is_binary = session->transaction.body == SMTP_BODY_BINARYMIME;
    content->is_last = false;
    content->is_begun = false;
    content->is_end = false;
    content->completes = session_listener(session)->submission;
    init_scanner(session);
    smtp_header_scan_init(&content->header);
    const struct smtp_slice trace = transaction_trace_text(&session->transaction);
    add_piece(content, CONTENT_MEMORY, trace.data, trace.size);
    return true;
}

void content_begin_chunk(struct session *session, uint64_t size, bool is_last)
{
    struct content *content = &session->content;
    assert(session->state == SESSION_CONTENT || session->state == SESSION_DISCARD);
    if (session->state == SESSION_DISCARD) { /* perhaps there never was a draft */
        content->is_chunked = true;
        content->is_end = false;
        forget_plan(content);
    }
    content->chunk_left = size;
    content->is_last = is_last;
}

/* --- What the queue takes --- */

void content_refuse(struct session *session, enum reply_id verdict)
{
    assert(session->draft != NULL && verdict != REPLY_NONE);
    assert(session->content.space == NULL);
    queue_draft_abort(session->draft);
    session->draft = NULL;
    session->verdict = verdict;
    session_enter(session, SESSION_DISCARD);
}

/* Returns how many octets were stored; when it is not all of them the state is no longer CONTENT. */
static size_t store(struct session *session, const char *bytes, size_t size)
{
    assert(session->state == SESSION_CONTENT && size > 0);
    session->content.space_left = 0; /* what is copied goes elsewhere */
    int64_t stored = queue_draft_append(session->draft, bytes, size);
    if (stored < 0 && stored != -EAGAIN) {
        content_refuse(session, commit_reply_to_error(stored));
        return 0;
    }
    const size_t taken = stored > 0 ? (size_t)stored : 0;
    assert(taken <= size);
    if (taken < size)
        session_wait_for_room(session, SESSION_STALLED);
    return taken;
}

/* How much of the piece is done with, given `size` octets of input. */
static size_t run_piece(struct session *session, const struct content_piece *piece, const char *bytes,
                        size_t size)
{
    if (piece->kind == CONTENT_MEMORY)
        return session->state == SESSION_CONTENT ? store(session, piece->memory, piece->left) : piece->left;
    const size_t wanted = piece->left < size ? piece->left : size;
    if (piece->kind == CONTENT_DROP || session->state == SESSION_DISCARD || wanted == 0)
        return wanted;
    const size_t stored = store(session, bytes, wanted);
    /* Refused in the middle: the rest is dropped at once. */
    return session->state == SESSION_DISCARD ? wanted : stored;
}

/* Works the plan off as far as the input and the queue let it; returns the octets of the input taken. */
static size_t run_plan(struct session *session, const char *bytes, size_t size)
{
    struct content *content = &session->content;
    size_t taken = 0;
    while (content->piece_next < content->piece_count) {
        struct content_piece *piece = &content->pieces[content->piece_next];
        const size_t done = run_piece(session, piece, bytes + taken, size - taken);
        assert(done <= piece->left);
        piece->left -= done;
        if (piece->kind == CONTENT_MEMORY) {
            piece->memory += done;
        } else {
            taken += done;
            content->input_left -= done;
        }
        if (piece->left == 0)
            content->piece_next++;
        else if (session->state == SESSION_STALLED || (piece->kind != CONTENT_MEMORY && taken == size))
            return taken;
    }
    assert(content->input_left == 0);
    forget_plan(content);
    return taken;
}

/* --- What the scanner says --- */

static uint64_t content_size(const struct content *content)
{
    return content->is_chunked ? content->chunks.size : content->data.size;
}

static bool has_nul(const struct content *content)
{
    return content->is_chunked ? content->chunks.has_nul : content->data.has_nul;
}

static void judge(struct session *session)
{
    const struct content *content = &session->content;
    if (session->state != SESSION_CONTENT)
        return;
    if (content_size(content) > session_listener(session)->max_message_size_bytes)
        content_refuse(session, REPLY_TOO_BIG);
    else if (content->header.received_count > INBOUND_HOPS_MAX)
        content_refuse(session, REPLY_TOO_MANY_HOPS);
    else if (has_nul(content) && !content->is_binary)
        content_refuse(session, REPLY_NUL_OCTET);
}

/* The fields that a submitted message lacks. Where a line that is no field ended the header there is no
 * header, and the message stays as it is. */
static void add_fields(struct session *session)
{
    struct content *content = &session->content;
    const struct smtp_header_scan *header = &content->header;
    assert(content->completes);
    content->completes = false;
    if (header->end == SMTP_HEADER_NO_FIELD)
        return;
    const struct smtp_slice fields =
        transaction_fields(&session->transaction, !header->has_date, !header->has_message_id);
    add_piece(content, CONTENT_MEMORY, fields.data, fields.size);
}

/* Plans octets of the content; where the header ends among them, what is to be added there goes between. */
static void plan_octets(struct session *session, enum content_piece_kind kind, const char *bytes, size_t size)
{
    struct content *content = &session->content;
    const char *memory = kind == CONTENT_MEMORY ? bytes : NULL;
    if (size == 0)
        return;
    /* White space at the very beginning would continue the field that we put in front: it is body then. */
    if (!content->is_begun && (bytes[0] == ' ' || bytes[0] == '\t'))
        add_piece(content, CONTENT_MEMORY, "\r\n", 2);
    content->is_begun = true;
    if (content->header.end != SMTP_HEADER_OPEN) {
        add_piece(content, kind, memory, size);
        return;
    }
    const size_t of_header = smtp_header_scan_feed(&content->header, bytes, size);
    assert(of_header <= size);
    add_piece(content, kind, memory, of_header);
    if (content->completes && content->header.end != SMTP_HEADER_OPEN)
        add_fields(session);
    add_piece(content, kind, memory != NULL ? memory + of_header : NULL, size - of_header);
}

static void plan_chunk(struct session *session, const char *bytes, const struct smtp_data_chunk *chunk)
{
    struct content *content = &session->content;
    const size_t skipped = chunk->body_size > 0 ? (size_t)(chunk->body - bytes) : 0;
    assert(skipped + chunk->body_size <= chunk->consumed);
    plan_octets(session, CONTENT_MEMORY, chunk->lead, chunk->lead_size);
    add_piece(content, CONTENT_DROP, NULL, skipped);
    plan_octets(session, CONTENT_STORE, chunk->body, chunk->body_size);
    add_piece(content, CONTENT_DROP, NULL, chunk->consumed - skipped - chunk->body_size);
}

/* The plan so far is worked off but for the trace field, perhaps. */
static bool scan_data(struct session *session, const char *bytes, size_t size)
{
    struct content *content = &session->content;
    struct smtp_data_chunk chunk;
    const enum smtp_data result = smtp_data_scan(&content->data, bytes, size, &chunk);
    if (result == SMTP_DATA_BARE_LF || result == SMTP_DATA_BARE_CR) {
        COUNTER_ADD(session->inbound->options.counters, messages_refused, 1);
        session_refuse_syntax(session,
                              result == SMTP_DATA_BARE_LF ? SMTP_REFUSAL_BARE_LF : SMTP_REFUSAL_BARE_CR);
        return false;
    }
    assert(chunk.consumed > 0 && chunk.consumed <= size);
    plan_chunk(session, bytes, &chunk);
    content->is_end = result == SMTP_DATA_END;
    if (content->is_end && content->completes)
        add_fields(session); /* a message without a body */
    return true;
}

/* The announced size tells where the message goes on: a bare newline is no reason to part. */
static void scan_chunk(struct session *session, const char *bytes, size_t size)
{
    struct content *content = &session->content;
    struct smtp_data_chunk chunk = {0};
    enum smtp_data result = SMTP_DATA_MORE;
    size = size < content->chunk_left ? size : (size_t)content->chunk_left;
    if (session->state == SESSION_DISCARD) {
        add_piece(content, CONTENT_DROP, NULL, size);
        content->chunk_left -= size;
        return;
    }
    if (size > 0) {
        result = smtp_bdat_scan(&content->chunks, bytes, size, &chunk);
        if (result != SMTP_DATA_MORE)
            chunk = (struct smtp_data_chunk){.consumed = size};
        assert(chunk.consumed > 0 && chunk.consumed <= size);
        content->chunk_left -= chunk.consumed;
        plan_chunk(session, bytes, &chunk);
    }
    if (result == SMTP_DATA_MORE && content->chunk_left == 0 && content->is_last) {
        result = smtp_bdat_end(&content->chunks, &chunk);
        plan_octets(session, CONTENT_MEMORY, chunk.lead, chunk.lead_size);
        if (content->completes)
            add_fields(session);
        content->is_end = result == SMTP_DATA_END;
    }
    if (result == SMTP_DATA_BARE_LF || result == SMTP_DATA_BARE_CR)
        content_refuse(session, REPLY_BARE_NEWLINE);
}

/* --- Taking --- */

static void end_content(struct session *session)
{
    session->content_end_us = loop_now_us(session->inbound->options.loop);
    if (session->state == SESSION_CONTENT) {
        commit_begin(session);
        return;
    }
    assert(session->state == SESSION_DISCARD);
    commit_refuse(session);
}

/* A chunk is complete, and others follow: it is answered at once (RFC 3030 §2). */
static void end_chunk(struct session *session)
{
    if (session->state == SESSION_CONTENT) {
        session_enter(session, SESSION_CHUNKS);
        session_reply(session, REPLY_CHUNK_OK);
        return;
    }
    assert(session->state == SESSION_DISCARD);
    session_refuse(session, session->verdict);
    session_enter(session, session->after);
}

/* Whether the message, or the chunk, is complete once the plan is. */
static bool is_complete(const struct content *content)
{
    return content->is_chunked ? content->chunk_left == 0 : content->is_end;
}

static size_t take(struct session *session, const char *bytes, size_t size)
{
    struct content *content = &session->content;
    assert(session->state == SESSION_CONTENT || session->state == SESSION_DISCARD);
    /* In the plan lies at most the trace field, or what is left of this input. */
    if (content->input_left == 0 && !content->is_end) {
        if (content->is_chunked)
            scan_chunk(session, bytes, size);
        else if (!scan_data(session, bytes, size))
            return size;
        judge(session);
    }
    const size_t taken = run_plan(session, bytes, size);
    if (session->state == SESSION_STALLED || content->piece_count > 0 || !is_complete(content))
        return taken;
    const bool is_answered_alone = session->state == SESSION_DISCARD && session->after != SESSION_CHUNKS;
    if (!content->is_chunked || (content->is_last && !is_answered_alone))
        end_content(session);
    else
        end_chunk(session);
    return taken;
}

size_t content_take(struct session *session, const char *bytes, size_t size)
{
    assert(size > 0);
    return take(session, bytes, size);
}

/* Passes over what is stored already; returns the octets. */
static size_t pass_over(struct content *content)
{
    size_t passed = 0;
    while (content->piece_next < content->piece_count &&
           content->pieces[content->piece_next].kind == CONTENT_STORE)
        passed += content->pieces[content->piece_next++].left;
    assert(passed <= content->input_left);
    content->input_left -= passed;
    if (content->piece_next == content->piece_count)
        forget_plan(content);
    return passed;
}

size_t content_take_in_place(struct session *session, const char *bytes, size_t size)
{
    struct content *content = &session->content;
    const uint64_t chunk_left = content->chunk_left;
    size_t stays = 0;
    assert(session->state == SESSION_CONTENT && content->is_chunked);
    assert(content->piece_count == 0 && size <= chunk_left);
    while (stays < size && content->piece_count == 0) {
        scan_chunk(session, bytes + stays, size - stays);
        judge(session);
        if (session->state == SESSION_DISCARD) {
            forget_plan(content);
            content->chunk_left = chunk_left - size;
            return size;
        }
        stays += pass_over(content);
    }
    return stays;
}

void content_go_on(struct session *session)
{
    if (session->content.input_left > 0 || !is_complete(&session->content))
        return;
    const size_t taken = take(session, "", 0);
    assert(taken == 0);
}
