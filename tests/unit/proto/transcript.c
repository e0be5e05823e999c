#include "tests/unit/proto/transcript.h"

#include "proto/command.h"
#include "proto/header.h"
#include "proto/reply.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

smtp_data_kernel *transcript_data_kernel;

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
    bool over;
};

typedef size_t feed_function(struct peer *peer, const char *piece, size_t size);

static void feed_pieces(struct peer *peer, feed_function *feed, const char *input, size_t size,
                        const size_t *cuts, size_t cut_count)
{
    size_t start = 0;

    for (size_t i = 0; i <= cut_count; i++) {
        size_t end = i < cut_count ? cuts[i] : size;
        size_t piece_size = end - start;
        char *piece = malloc(piece_size > 0 ? piece_size : 1);
        size_t taken = 0;

        assert(end >= start && end <= size && piece != NULL);
        if (piece_size > 0)
            memcpy(piece, input + start, piece_size);
        do {
            peer->offset = start + taken;
            taken += feed(peer, piece + taken, piece_size - taken);
            assert(taken <= piece_size);
        } while (taken < piece_size && !peer->over);
        free(piece);
        start = end;
        if (peer->over)
            return;
    }
}

static void add_command(struct transcript *transcript, const struct smtp_command *command)
{
    static const char *const verbs[SMTP_VERB_COUNT] = {"?",    "HELO", "EHLO", "MAIL", "RCPT", "DATA",
                                                       "RSET", "NOOP", "VRFY", "HELP", "QUIT", "!"};

    transcript_add(transcript, "%s", verbs[command->verb]);
    if (command->verb == SMTP_VERB_MAIL || command->verb == SMTP_VERB_RCPT) {
        add_slice(transcript, "path", command->path.text);
        add_slice(transcript, "local", command->path.local);
        add_slice(transcript, "domain", command->path.domain);
    } else if (command->argument.size > 0) {
        add_slice(transcript, "argument", command->argument);
    }
    if (command->has_size)
        transcript_add(transcript, " size=%llu", (unsigned long long)command->size);
    if (command->body != SMTP_BODY_UNSTATED)
        transcript_add(transcript, " body=%s", command->body == SMTP_BODY_7BIT ? "7BIT" : "8BITMIME");
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
            smtp_data_scanner_init(&peer->data);
            smtp_header_scan_init(&peer->header);
            transcript_clear(&peer->content);
        }
        return consumed;
    }

    const struct smtp_refusal_reply *reply = smtp_refusal_reply(command.refusal);

    transcript_add_octets(peer->transcript, reply->line.data, reply->line.size);
    peer->over = reply->fatal;
    return consumed;
}

static void add_content(struct peer *peer, const char *what)
{
    transcript_add(peer->transcript, "%s size=%llu dots=%d high=%d received=%u delivered_to=%u header=%d\n",
                   what, (unsigned long long)peer->data.size, peer->data.dot_lines, peer->data.has_8bit,
                   peer->header.received_count, peer->header.delivered_to_count, peer->header.done);
    transcript_add_octets(peer->transcript, peer->content.text, peer->content.size);
}

static size_t feed_data(struct peer *peer, const char *piece, size_t size)
{
    struct smtp_data_chunk chunk;
    enum smtp_data result = smtp_data_scan(&peer->data, piece, size, &chunk);

    assert(chunk.consumed <= size);
    assert(chunk.lead_size <= 1);
    assert(chunk.body_size == 0 || chunk.body == piece);
    assert(chunk.body_size <= chunk.consumed);
    transcript_add_octets(&peer->content, chunk.lead, chunk.lead_size);
    transcript_add_octets(&peer->content, chunk.body, chunk.body_size);
    smtp_header_scan_feed(&peer->header, chunk.lead, chunk.lead_size);
    smtp_header_scan_feed(&peer->header, chunk.body, chunk.body_size);
    if (result == SMTP_DATA_MORE) {
        assert(chunk.consumed == size);
        assert(peer->content.size == peer->data.size);
        return size;
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
    return peer->in_data ? feed_data(peer, piece, size) : feed_command(peer, piece, size);
}

static void run_server(struct transcript *transcript, bool takes_data, const char *input, size_t size,
                       const size_t *cuts, size_t cut_count)
{
    struct peer peer = {.transcript = transcript, .takes_data = takes_data};

    transcript_init(&peer.content);
    smtp_command_parser_init(&peer.commands);
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
    smtp_data_scanner_init(&peer.data);
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

static size_t feed_header(struct peer *peer, const char *piece, size_t size)
{
    bool done = peer->header.done;

    smtp_header_scan_feed(&peer->header, piece, size);
    assert(peer->header.done || !done);
    return size;
}

void transcript_run_header(struct transcript *transcript, const char *input, size_t size, const size_t *cuts,
                           size_t cut_count)
{
    struct peer peer = {.transcript = transcript};

    smtp_header_scan_init(&peer.header);
    feed_pieces(&peer, feed_header, input, size, cuts, cut_count);
    transcript_add(transcript, "received=%u delivered_to=%u done=%d\n", peer.header.received_count,
                   peer.header.delivered_to_count, peer.header.done);
}
