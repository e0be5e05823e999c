// What a session says to what it hears. See sink.h.
#include "bench/sink.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char end_of_data[] = "\r\n.\r\n";
enum { END_SIZE = sizeof(end_of_data) - 1, LINE_START = 2 };

static void say(struct sink_output *output, const char *words)
{
    size_t size = strlen(words);
    // A sender that asks for more in one read than fits is not answered for it, and so learns that it is too
    // fast.
    if (size > sizeof(output->bytes) - output->size)
        return;
    memcpy(output->bytes + output->size, words, size);
    output->size += size;
}

enum sink_verdict sink_session_begin(struct sink_session *session, struct sink_output *output)
{
    bool is_welcome = sink_group_enter(session);
    switch (sink_group_limits(session->host->group).mode) {
    case SINK_DEAD:
        session->is_silent = true;
        return SINK_GO_ON;
    case SINK_RESET:
        return SINK_ABORT;
    case SINK_OK:
    case SINK_BUSY:
        break;
    }
    say(output, is_welcome ? "220 sink.example ESMTP\r\n" : "421 4.7.0 Too many connections\r\n");
    return is_welcome ? SINK_GO_ON : SINK_CLOSE;
}

static void forget_message(struct sink_session *session)
{
    session->has_sender = false;
    session->number_count = 0;
    session->octets = 0;
}

// "u17@…" is 17; UINT32_MAX: another kind of address.
static uint32_t number_of(const char *path)
{
    const char *at = strchr(path, '<');
    if (at == NULL || (at[1] != 'u' && at[1] != 'U'))
        return UINT32_MAX;
    char *end;
    unsigned long number = strtoul(at + 2, &end, 10);
    return *end == '@' && number < UINT32_MAX ? (uint32_t)number : UINT32_MAX;
}

static void keep_number(struct sink_session *session, uint32_t number)
{
    if (session->number_count == session->number_capacity) {
        session->number_capacity = session->number_capacity == 0 ? 4 : session->number_capacity * 2;
        session->numbers = realloc(session->numbers, session->number_capacity * sizeof(*session->numbers));
        if (session->numbers == NULL)
            sink_die("memory");
    }
    session->numbers[session->number_count++] = number;
}

static void greet(struct sink_session *session, struct sink_output *output)
{
    struct sink_limits limits = sink_group_limits(session->host->group);
    forget_message(session);
    say(output, "250-sink.example\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n");
    if (limits.pipelining)
        say(output, "250-PIPELINING\r\n");
    if (limits.chunking)
        say(output, "250-CHUNKING\r\n");
    say(output, "250 SIZE 104857600\r\n");
}

static enum sink_verdict begin_message(struct sink_session *session, struct sink_output *output)
{
    if (session->has_sender) {
        say(output, "503 5.5.1 One at a time\r\n");
        return SINK_GO_ON;
    }
    switch (sink_group_mail(session)) {
    case SINK_MAIL_OK:
        session->has_sender = true;
        say(output, "250 2.1.0 Ok\r\n");
        break;
    case SINK_MAIL_RATE:
        say(output, "450 4.7.1 Rate limit exceeded, slow down\r\n");
        break;
    case SINK_MAIL_ENOUGH:
        say(output, "421 4.7.0 Enough messages on this connection\r\n");
        return SINK_CLOSE;
    }
    return SINK_GO_ON;
}

static void add_recipient(struct sink_session *session, const char *line, struct sink_output *output)
{
    uint32_t most = sink_group_limits(session->host->group).recipients;
    if (!session->has_sender) {
        say(output, "503 5.5.1 No sender\r\n");
    } else if ((most > 0 && session->number_count >= most) || session->number_count >= SINK_RECIPIENTS_MAX) {
        sink_group_recipient_refused(session);
        say(output, "452 4.5.3 Too many recipients\r\n");
    } else {
        keep_number(session, number_of(line));
        say(output, "250 2.1.5 Ok\r\n");
    }
}

static void begin_data(struct sink_session *session, struct sink_output *output)
{
    if (session->number_count == 0) {
        say(output, "503 5.5.1 No recipients\r\n");
        return;
    }
    say(output, "354 Go on\r\n");
    session->phase = SINK_DATA;
    session->matched = LINE_START;
}

static void begin_chunk(struct sink_session *session, const char *line)
{
    char *end;
    session->chunk_left = strtoull(line + strlen("BDAT"), &end, 10);
    session->last_chunk = strcasestr(end, "LAST") != NULL;
    session->phase = SINK_CHUNK;
}

static void end_message(struct sink_session *session, struct sink_output *output)
{
    sink_group_message(session);
    forget_message(session);
    say(output, "250 2.0.0 Ok: taken\r\n");
}

static void end_chunk(struct sink_session *session, struct sink_output *output)
{
    session->phase = SINK_COMMAND;
    if (session->number_count == 0)
        say(output, "503 5.5.1 No recipients\r\n");
    else if (session->last_chunk)
        end_message(session, output);
    else
        say(output, "250 2.0.0 Ok\r\n");
}

static bool is_command(const char *line, const char *name)
{
    return strncasecmp(line, name, strlen(name)) == 0;
}

static enum sink_verdict obey(struct sink_session *session, const char *line, struct sink_output *output)
{
    if (is_command(line, "MAIL FROM:"))
        return begin_message(session, output);
    if (is_command(line, "RCPT TO:")) {
        add_recipient(session, line, output);
    } else if (is_command(line, "BDAT ")) {
        begin_chunk(session, line);
    } else if (is_command(line, "DATA")) {
        begin_data(session, output);
    } else if (is_command(line, "EHLO ")) {
        greet(session, output);
    } else if (is_command(line, "RSET") || is_command(line, "HELO ") || is_command(line, "NOOP")) {
        if (!is_command(line, "NOOP"))
            forget_message(session);
        say(output, "250 2.0.0 Ok\r\n");
    } else if (is_command(line, "QUIT")) {
        say(output, "221 2.0.0 Bye\r\n");
        return SINK_CLOSE;
    } else {
        say(output, "500 5.5.2 What?\r\n");
    }
    return SINK_GO_ON;
}

// Takes a command, or the part of it that is here. Returns how much was taken.
static size_t take_command(struct sink_session *session, const char *bytes, size_t size,
                           struct sink_output *output, enum sink_verdict *verdict)
{
    const char *end = memchr(bytes, '\n', size);
    size_t part = end == NULL ? size : (size_t)(end - bytes) + 1;
    if (part >= sizeof(session->line) - session->line_size) {
        *verdict = SINK_ABORT;
        return part;
    }
    memcpy(session->line + session->line_size, bytes, part);
    session->line_size += (uint32_t)part;
    if (end != NULL) {
        session->line[session->line_size] = '\0';
        session->line_size = 0;
        *verdict = obey(session, session->line, output);
    }
    return part;
}

// Takes content up to its end. Returns how much.
static size_t take_data(struct sink_session *session, const char *bytes, size_t size,
                        struct sink_output *output, enum sink_verdict *verdict)
{
    size_t at = 0;
    while (at < size && session->matched < END_SIZE) {
        if (session->matched == 0) {
            const char *next = memchr(bytes + at, '\r', size - at);
            at = next == NULL ? size : (size_t)(next - bytes) + 1;
            session->matched = next != NULL;
        } else if (bytes[at] == end_of_data[session->matched]) {
            session->matched++;
            at++;
        } else {
            session->matched = 0; // the octet is looked at once more: it may be a CR
        }
    }
    session->octets += at;
    if (session->matched == END_SIZE) {
        session->phase = SINK_COMMAND;
        if (at < size && session->messages > 0 && !sink_group_limits(session->host->group).overlap) {
            sink_group_cut(session);
            *verdict = SINK_ABORT;
        } else {
            end_message(session, output);
        }
    }
    return at;
}

static size_t take_chunk(struct sink_session *session, size_t size)
{
    size_t part = size < session->chunk_left ? size : (size_t)session->chunk_left;
    session->chunk_left -= part;
    session->octets += part;
    return part;
}

enum sink_verdict sink_session_input(struct sink_session *session, const char *bytes, size_t size,
                                     struct sink_output *output)
{
    enum sink_verdict verdict = SINK_GO_ON;
    size_t at = 0;
    if (session->is_silent)
        return SINK_GO_ON;
    while (verdict == SINK_GO_ON && (at < size || session->phase == SINK_CHUNK)) {
        switch (session->phase) {
        case SINK_COMMAND:
            at += take_command(session, bytes + at, size - at, output, &verdict);
            break;
        case SINK_DATA:
            at += take_data(session, bytes + at, size - at, output, &verdict);
            break;
        case SINK_CHUNK:
            at += take_chunk(session, size - at);
            if (session->chunk_left > 0)
                return SINK_GO_ON;
            end_chunk(session, output);
            break;
        }
    }
    assert(at <= size);
    return verdict;
}
