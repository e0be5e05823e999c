#include "tests/unit/proto/transcript.h"

#include "proto/command.h"
#include "proto/header.h"
#include "proto/reply.h"

#include "tests/unit/proto/pieces.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

smtp_data_kernel *transcript_data_kernel;
uint32_t transcript_extensions = SMTP_EXT_SIZE | SMTP_EXT_8BITMIME;
bool transcript_lenient;
enum smtp_data_mode transcript_data_mode;

void transcript_init(struct transcript *transcript)
{
    *transcript = (struct transcript){.text = calloc(1, 256), .capacity = 256};
    assert(transcript->text != NULL);
}

void transcript_deinit(struct transcript *transcript)
{
    free(transcript->text);
    *transcript = (struct transcript){0};
}

void transcript_clear(struct transcript *transcript)
{
    transcript->size = 0;
    transcript->text[0] = '\0';
}

void transcript_add_octets(struct transcript *transcript, const char *octets, size_t size)
{
    while (transcript->capacity - transcript->size <= size) {
        transcript->capacity *= 2;
        transcript->text = realloc(transcript->text, transcript->capacity);
        assert(transcript->text != NULL);
    }
    if (size > 0)
        memcpy(transcript->text + transcript->size, octets, size);
    transcript->size += size;
    transcript->text[transcript->size] = '\0';
}

void transcript_add(struct transcript *transcript, const char *format, ...)
{
    char line[512];
    va_list arguments;

    va_start(arguments, format);
    int size = vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    assert(size >= 0 && (size_t)size < sizeof(line));
    transcript_add_octets(transcript, line, (size_t)size);
}

bool transcript_equal(const struct transcript *a, const struct transcript *b)
{
    return a->size == b->size && memcmp(a->text, b->text, a->size) == 0;
}

uint64_t transcript_random(uint64_t *seed)
{
    uint64_t mixed = (*seed += UINT64_C(0x9e3779b97f4a7c15));

    mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ mixed >> 31;
}

static void add_slice(struct transcript *transcript, const char *name, struct smtp_slice slice)
{
    transcript_add(transcript, " %s=[", name);
    transcript_add_octets(transcript, slice.data, slice.size);
    transcript_add(transcript, "]");
}

/* Everything that a run may need; each kind of run uses its part. */
struct peer {
    struct transcript *transcript;
    struct smtp_command_parser commands;
    struct smtp_data_scanner data;
    struct smtp_header_scan header;
    struct smtp_reply_parser replies;
    struct transcript content;
    size_t offset; /* in the stream, of the piece under way */
    bool takes_data;
    bool in_data;
    bool in_auth;
    bool over;
};

typedef size_t feed_function(struct peer *peer, const char *piece, size_t size);

struct feeding {
    struct peer *peer;
    feed_function *feed;
};

static size_t take_piece(void *context, const char *piece, size_t size, size_t offset, bool *is_over)
{
    const struct feeding *feeding = context;

    feeding->peer->offset = offset;

    size_t taken = feeding->feed(feeding->peer, piece, size);

    *is_over = feeding->peer->over;
    return taken;
}

static void feed_pieces(struct peer *peer, feed_function *feed, const char *input, size_t size,
                        const size_t *cuts, size_t cut_count)
{
    struct feeding feeding = {.peer = peer, .feed = feed};

    pieces_feed(take_piece, &feeding, input, size, cuts, cut_count);
}

static void add_path(struct transcript *transcript, const struct smtp_path *path)
{
    add_slice(transcript, "path", path->text);
    add_slice(transcript, "local", path->local);
    add_slice(transcript, "domain", path->domain);
    if (path->is_utf8)
        transcript_add(transcript, " utf8");
}

static void add_parameters(struct transcript *transcript, const struct smtp_command *command)
{
    static const char *const bodies[] = {"", " body=7BIT", " body=8BITMIME", " body=BINARYMIME"};
    static const char *const rets[] = {"", " ret=FULL", " ret=HDRS"};

    if (command->has_size)
        transcript_add(transcript, " size=%llu", (unsigned long long)command->size);
    transcript_add(transcript, "%s%s%s", bodies[command->body], rets[command->ret],
                   command->is_smtputf8 ? " smtputf8" : "");
    if (command->envid.size > 0)
        add_slice(transcript, "envid", command->envid);
    if (command->has_auth)
        add_slice(transcript, "auth", command->auth);
    if (command->notify != 0)
        transcript_add(transcript, " notify=%u", command->notify);
    if (command->orcpt.size > 0)
        add_slice(transcript, "orcpt", command->orcpt);
}

static void add_command(struct transcript *transcript, const struct smtp_command *command)
{
    static const char *const verbs[SMTP_VERB_COUNT] = {
        "?",    "HELO", "EHLO",     "MAIL", "RCPT", "DATA",    "RSET",     "NOOP", "VRFY",
        "HELP", "QUIT", "STARTTLS", "AUTH", "BDAT", "XCLIENT", "XFORWARD", "!"};

    transcript_add(transcript, "%s", verbs[command->verb]);
    if (command->verb == SMTP_VERB_MAIL || command->verb == SMTP_VERB_RCPT)
        add_path(transcript, &command->path);
    if (command->argument.size > 0)
        add_slice(transcript, "argument", command->argument);
    if (command->verb == SMTP_VERB_BDAT)
        transcript_add(transcript, " chunk=%llu%s", (unsigned long long)command->chunk_size,
                       command->is_last ? " last" : "");
    if (command->mechanism.size > 0)
        add_slice(transcript, "mechanism", command->mechanism);
    if (command->has_initial)
        add_slice(transcript, "initial", command->initial);
    add_parameters(transcript, command);
}

static size_t add_refusal(struct peer *peer, enum smtp_refusal refusal, size_t consumed)
{
    const struct smtp_refusal_reply *reply = smtp_refusal_reply(refusal);

    transcript_add_octets(peer->transcript, reply->line.data, reply->line.size);
    peer->over = reply->fatal;
    return consumed;
}

/* One line of an AUTH exchange. */
static size_t feed_auth(struct peer *peer, const char *piece, size_t size)
{
    struct smtp_slice text;
    enum smtp_refusal refusal = SMTP_REFUSAL_NONE;
    size_t consumed = SIZE_MAX;
    enum smtp_parse result = smtp_command_line(&peer->commands, piece, size, &consumed, &text, &refusal);

    assert(consumed <= size);
    if (result == SMTP_PARSE_MORE) {
        assert(consumed == size);
        return consumed;
    }
    peer->in_auth = false;
    transcript_add(peer->transcript, "%zu ", peer->offset + consumed);
    if (result == SMTP_PARSE_REJECT)
        return add_refusal(peer, refusal, consumed);
    transcript_add(peer->transcript, "line");
    add_slice(peer->transcript, "text", text);
    transcript_add(peer->transcript, "\n");
    return consumed;
}

static size_t feed_command(struct peer *peer, const char *piece, size_t size)
{
    struct smtp_command command;
    size_t consumed = SIZE_MAX;
    enum smtp_parse result = smtp_command_parse(&peer->commands, piece, size, &consumed, &command);

    assert(consumed <= size);
    if (result == SMTP_PARSE_MORE) {
        assert(consumed == size);
        return consumed;
    }
    transcript_add(peer->transcript, "%zu ", peer->offset + consumed);
    if (result == SMTP_PARSE_DONE) {
        add_command(peer->transcript, &command);
        transcript_add(peer->transcript, "\n");
        if (command.verb == SMTP_VERB_DATA && peer->takes_data) {
            peer->in_data = true;
            smtp_data_scanner_init(&peer->data, SMTP_DATA_STRICT);
            smtp_header_scan_init(&peer->header);
            transcript_clear(&peer->content);
        }
        peer->in_auth = command.verb == SMTP_VERB_AUTH;
        return consumed;
    }
    return add_refusal(peer, command.refusal, consumed);
}

static void add_content(struct peer *peer, const char *what)
{
    transcript_add(peer->transcript, "%s size=%llu dots=%d high=%d received=%u delivered_to=%u header=%d%s\n",
                   what, (unsigned long long)peer->data.size, peer->data.dot_lines, peer->data.has_8bit,
                   peer->header.received_count, peer->header.delivered_to_count,
                   peer->header.end != SMTP_HEADER_OPEN, peer->data.has_nul ? " nul=1" : "");
    transcript_add_octets(peer->transcript, peer->content.text, peer->content.size);
}

static void take_content(struct peer *peer, const char *octets, size_t size)
{
    transcript_add_octets(&peer->content, octets, size);

    size_t in_header = smtp_header_scan_feed(&peer->header, octets, size);

    assert(in_header <= size && (peer->header.end != SMTP_HEADER_OPEN || in_header == size));
}

static size_t feed_data(struct peer *peer, const char *piece, size_t size)
{
    struct smtp_data_chunk chunk;
    enum smtp_data result = smtp_data_scan(&peer->data, piece, size, &chunk);

    assert(chunk.consumed <= size);
    assert(chunk.lead_size <= (peer->data.mode == SMTP_DATA_STRICT ? 1 : SMTP_DATA_LEAD_MAX));
    assert(chunk.body_size == 0 ||
           (chunk.body >= piece && chunk.body + chunk.body_size <= piece + chunk.consumed));
    take_content(peer, chunk.lead, chunk.lead_size);
    take_content(peer, chunk.body, chunk.body_size);
    if (result == SMTP_DATA_MORE) {
        assert(chunk.consumed == size || (peer->data.mode == SMTP_DATA_NORMALISE && chunk.consumed > 0));
        assert(peer->content.size == peer->data.size);
        return chunk.consumed;
    }
    transcript_add(peer->transcript, "%zu ", peer->offset + chunk.consumed);
    peer->in_data = false;
    if (result == SMTP_DATA_END) {
        assert(peer->content.size == peer->data.size);
        add_content(peer, "content");
    } else {
        assert(chunk.lead_size == 0 && chunk.body_size == 0);
        transcript_add(peer->transcript, "bare %s in content\n", result == SMTP_DATA_BARE_LF ? "LF" : "CR");
        peer->over = true;
    }
    return chunk.consumed;
}

static size_t feed_server(struct peer *peer, const char *piece, size_t size)
{
    if (peer->in_auth)
        return feed_auth(peer, piece, size);
    return peer->in_data ? feed_data(peer, piece, size) : feed_command(peer, piece, size);
}

static void run_server(struct transcript *transcript, bool takes_data, const char *input, size_t size,
                       const size_t *cuts, size_t cut_count)
{
    struct peer peer = {.transcript = transcript, .takes_data = takes_data};

    transcript_init(&peer.content);
    smtp_command_parser_init(&peer.commands, transcript_extensions);
    peer.commands.lenient = transcript_lenient;
    feed_pieces(&peer, feed_server, input, size, cuts, cut_count);
    if (peer.in_data)
        add_content(&peer, "unfinished content");
    transcript_deinit(&peer.content);
}

void transcript_run_server(struct transcript *transcript, const char *input, size_t size, const size_t *cuts,
                           size_t cut_count)
{
    run_server(transcript, true, input, size, cuts, cut_count);
}

void transcript_run_commands(struct transcript *transcript, const char *input, size_t size,
                             const size_t *cuts, size_t cut_count)
{
    run_server(transcript, false, input, size, cuts, cut_count);
}

static size_t feed_one_content(struct peer *peer, const char *piece, size_t size)
{
    size_t consumed = feed_data(peer, piece, size);

    peer->over = !peer->in_data;
    return consumed;
}

void transcript_run_data(struct transcript *transcript, const char *input, size_t size, const size_t *cuts,
                         size_t cut_count)
{
    struct peer peer = {.transcript = transcript, .in_data = true};

    transcript_init(&peer.content);
    smtp_data_scanner_init(&peer.data, transcript_data_mode);
    smtp_header_scan_init(&peer.header);
    if (transcript_data_kernel != NULL)
        peer.data.kernel = transcript_data_kernel;
    feed_pieces(&peer, feed_one_content, input, size, cuts, cut_count);
    if (peer.in_data)
        add_content(&peer, "unfinished content");
    transcript_deinit(&peer.content);
}

static size_t feed_reply(struct peer *peer, const char *piece, size_t size)
{
    struct smtp_reply_line line;
    size_t consumed = SIZE_MAX;
    enum smtp_parse result = smtp_reply_parse(&peer->replies, piece, size, &consumed, &line);

    assert(consumed <= size);
    if (result == SMTP_PARSE_MORE) {
        assert(consumed == size);
        return consumed;
    }
    transcript_add(peer->transcript, "%zu ", peer->offset + consumed);
    if (result == SMTP_PARSE_REJECT) {
        transcript_add(peer->transcript, "%s\n", smtp_reply_fault_text(peer->replies.fault));
        peer->over = true;
        return consumed;
    }
    assert(line.code >= 200 && line.code <= 599);
    assert(line.text.size <= line.line.size);
    transcript_add(peer->transcript, "%u%s %u.%u.%u", line.code, line.last ? "" : "-", line.status.class,
                   line.status.subject, line.status.detail);
    add_slice(peer->transcript, "text", line.text);
    add_slice(peer->transcript, "line", line.line);

    uint64_t limit = 0;
    uint32_t extension = smtp_ehlo_keyword(line.text, &limit);

    transcript_add(peer->transcript, " extension=%x limit=%llu\n", extension, (unsigned long long)limit);
    return consumed;
}

void transcript_run_replies(struct transcript *transcript, const char *input, size_t size, const size_t *cuts,
                            size_t cut_count)
{
    struct peer peer = {.transcript = transcript};

    smtp_reply_parser_init(&peer.replies);
    feed_pieces(&peer, feed_reply, input, size, cuts, cut_count);
}

/* The place of an empty line is told; that of a line that is no field depends on the cuts. */
static size_t feed_header(struct peer *peer, const char *piece, size_t size)
{
    enum smtp_header_end before = peer->header.end;
    size_t in_header = smtp_header_scan_feed(&peer->header, piece, size);

    assert(in_header <= size);
    if (before != SMTP_HEADER_OPEN)
        assert(peer->header.end == before && in_header == 0);
    else if (peer->header.end == SMTP_HEADER_OPEN)
        assert(in_header == size);
    else if (peer->header.end == SMTP_HEADER_EMPTY_LINE)
        transcript_add(peer->transcript, "empty line at %zu\n", peer->offset + in_header);
    return size;
}

void transcript_run_header(struct transcript *transcript, const char *input, size_t size, const size_t *cuts,
                           size_t cut_count)
{
    struct peer peer = {.transcript = transcript};
    const struct smtp_header_scan *header = &peer.header;

    smtp_header_scan_init(&peer.header);
    feed_pieces(&peer, feed_header, input, size, cuts, cut_count);
    transcript_add(transcript, "received=%u delivered_to=%u%s%s%s end=%u\n", header->received_count,
                   header->delivered_to_count, header->has_date ? " date" : "",
                   header->has_message_id ? " message_id" : "", header->has_from ? " from" : "", header->end);
}
