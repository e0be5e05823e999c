#include "tests/fuzz/strict_reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { LINE_TEXT_MAX = 2046 };

struct reader {
    struct strict_reading *reading;
    const struct strict_rules *rules;
    const char *input;
    size_t size;
    size_t at;
    const char *replies; /* what is left of them; ends with NUL, and holds no other */
    const char *reply;   /* the last one that was read, its last line */
    bool has_chunking;   /* at this moment */
    bool is_logged_in;
    bool is_refused;          /* a chunk of the message was */
    unsigned recipient_count; /* that were accepted */
    struct transcript chunks; /* the octets of the message's chunks */
    strict_is_binary *is_binary;
    void *context;
};

static void demand(const struct reader *reader, bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr,
            "a strict reader disagrees at octet %zu of %zu: %s\nlast reply: %.40s\nreplies left:\n%s\n",
            reader->at, reader->size, what, reader->reply != NULL ? reader->reply : "", reader->replies);
    abort();
}

/* The code of the next reply, whose lines are all taken. */
static int take_reply(struct reader *reader)
{
    for (;;) {
        const char *end = strstr(reader->replies, "\r\n");
        demand(reader, end != NULL, "a reply is missing");
        const char *line = reader->replies;
        demand(reader, end - line >= 4, "that is no reply");
        reader->replies = end + 2;
        reader->reply = line;
        if (line[3] == ' ')
            return atoi(line);
        demand(reader, line[3] == '-', "that is no reply");
    }
}

/* What closes a connection. "Too many errors" comes behind the reply to the last of them. */
static void take_end(struct reader *reader, int code)
{
    if (code == 221 || code == 421 || code == 521)
        reader->reading->is_closed = true;
    else if (strncmp(reader->replies, "421 4.7.0 Too many errors", 25) == 0)
        reader->reading->is_closed = take_reply(reader) == 421;
}

static int take_answer(struct reader *reader)
{
    const int code = take_reply(reader);
    take_end(reader, code);
    return code;
}

/* --- Lines --- */

/* The next line of commands; false when the input has no more, or when it is broken, which is then answered.
 */
static bool take_line(struct reader *reader, struct smtp_slice *line)
{
    const char *start = reader->input + reader->at;
    const size_t left = reader->size - reader->at;
    size_t i = 0;
    while (i < left && start[i] != '\r' && start[i] != '\n')
        i++;
    if (i == left || (start[i] == '\r' && i + 1 == left))
        return false;
    const bool is_crlf = start[i] == '\r' && start[i + 1] == '\n';
    if (!is_crlf && (start[i] == '\r' || !reader->rules->normalises)) {
        demand(reader, take_answer(reader) == 521, "a bare CR or LF is fatal");
        return false;
    }
    reader->at += i + (is_crlf ? 2 : 1);
    *line = (struct smtp_slice){start, (uint32_t)i};
    return true;
}

static bool begins(struct smtp_slice line, const char *verb)
{
    const size_t size = strlen(verb);
    return line.size >= size && strncasecmp(line.data, verb, size) == 0 &&
           (line.size == size || line.data[size] == ' ');
}

/* --- Messages --- */

static void end_message(struct reader *reader)
{
    reader->recipient_count = 0;
    reader->is_refused = false;
    transcript_clear(&reader->chunks);
}

static void accept_message(struct reader *reader, const char *content, size_t size, bool is_known)
{
    struct strict_reading *reading = reader->reading;
    demand(reader, reading->message_count < STRICT_MESSAGES_MAX, "so many messages");
    demand(reader, strstr(reader->reply, " queued as ") != NULL, "a message that is taken has an id");
    struct transcript *kept = &reading->contents[reading->message_count];
    transcript_init(kept);
    transcript_add_octets(kept, content, size);
    reading->content_is_known[reading->message_count] = is_known && !reader->rules->is_completed;
    reading->message_count++;
    if (!reader->is_logged_in)
        reading->before_login = reading->message_count;
}

/* Behind a 354. */
static void read_data(struct reader *reader)
{
    const char *content = reader->input + reader->at;
    const size_t left = reader->size - reader->at;
    bool begins_line = true;
    for (size_t i = 0; i < left;) {
        if (begins_line && left - i >= 3 && memcmp(content + i, ".\r\n", 3) == 0) {
            reader->at += i + 3;
            if (take_answer(reader) == 250)
                accept_message(reader, content, i, !reader->rules->normalises);
            end_message(reader);
            return;
        }
        const bool is_crlf = left - i >= 2 && content[i] == '\r' && content[i + 1] == '\n';
        if (content[i] == '\r' && i + 1 == left)
            break;
        if (!is_crlf && (content[i] == '\r' || content[i] == '\n') && !reader->rules->normalises) {
            demand(reader, take_answer(reader) == 521, "a bare CR or LF is fatal");
            return;
        }
        begins_line = is_crlf;
        i += is_crlf ? 2 : 1;
    }
    reader->at = reader->size; /* the end is missing */
}

/* Chunks in the form that has come by DATA. */
static void stuff(struct transcript *into, const struct transcript *chunks)
{
    bool begins_line = true;
    for (size_t i = 0; i < chunks->size; i++) {
        if (begins_line && chunks->text[i] == '.')
            transcript_add_octets(into, ".", 1);
        transcript_add_octets(into, chunks->text + i, 1);
        begins_line = chunks->text[i] == '\n';
    }
    if (chunks->size > 0 && !begins_line)
        transcript_add_octets(into, "\r\n", 2);
}

static void accept_chunks(struct reader *reader)
{
    const bool is_binary = reader->is_binary(reader->context, reader->reading->message_count);
    struct transcript stuffed;
    transcript_init(&stuffed);
    stuff(&stuffed, &reader->chunks);
    const struct transcript *content = is_binary ? &reader->chunks : &stuffed;
    accept_message(reader, content->text, content->size, is_binary || !reader->rules->normalises);
    transcript_deinit(&stuffed);
}

/* "BDAT" SP 1*DIGIT [SP "LAST"]; false: it cannot be read, which is fatal. */
static bool parse_bdat(struct smtp_slice line, size_t *size, bool *is_last)
{
    char text[LINE_TEXT_MAX + 1], word[LINE_TEXT_MAX + 1] = "", last[8] = "", more = 0;
    memcpy(text, line.data, line.size);
    text[line.size] = '\0';
    for (uint32_t i = 0; i < line.size; i++)
        if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
            return false;
    const int found =
        sscanf(text + 4, " %s %7s %c", word, last, &more); /* a word is not longer than its line */
    const char *digits = word + strspn(word, "0");
    if (digits > word && *digits == '\0')
        digits--;
    const size_t digit_count = strlen(digits);
    if (found < 1 || found > 2 || strspn(digits, "0123456789") != digit_count || digit_count > 20)
        return false;
    *is_last = found == 2;
    *size = strtoull(digits, NULL, 10);
    return (found == 1 || strcasecmp(last, "LAST") == 0) &&
           (digit_count < 20 || strcmp(digits, "18446744073709551615") <= 0);
}

static void read_bdat(struct reader *reader, struct smtp_slice line)
{
    size_t size = 0;
    bool is_last = false;
    if (!parse_bdat(line, &size, &is_last)) {
        demand(reader, take_reply(reader) == 501, "a chunk without an end is fatal");
        reader->reading->is_closed = true;
        return;
    }
    if (reader->size - reader->at < size) {
        reader->at = reader->size;
        return;
    }
    transcript_add_octets(&reader->chunks, reader->input + reader->at, size);
    reader->at += size;
    const bool is_accepted = take_answer(reader) == 250;
    demand(reader, !is_accepted || (reader->recipient_count > 0 && !reader->is_refused),
           "half a message was taken");
    if (is_accepted && is_last)
        accept_chunks(reader);
    else if (reader->recipient_count == 0)
        transcript_clear(&reader->chunks); /* out of turn */
    reader->is_refused |= !is_accepted && reader->recipient_count > 0;
    if (is_last && reader->recipient_count > 0)
        end_message(reader);
}

/* --- Commands --- */

static void read_login(struct reader *reader, int code)
{
    struct smtp_slice line;
    while (code == 334) {
        if (!take_line(reader, &line)) {
            if (!reader->reading->is_closed)
                reader->at = reader->size;
            return;
        }
        code = take_answer(reader);
    }
    reader->is_logged_in |= code == 235;
}

static void read_command(struct reader *reader, struct smtp_slice line)
{
    if (line.size > LINE_TEXT_MAX) {
        demand(reader, take_answer(reader) == 500, "a line that is too long is no command");
        return;
    }
    while (line.size > 0 && (line.data[line.size - 1] == ' ' || line.data[line.size - 1] == '\t'))
        line.size--; /* white space behind the last word is let pass */
    if (begins(line, "BDAT") && reader->has_chunking) {
        read_bdat(reader, line);
        return;
    }
    const int code = take_answer(reader);
    if (begins(line, "DATA") && code == 354) {
        read_data(reader);
    } else if (begins(line, "AUTH")) {
        read_login(reader, code);
    } else if (begins(line, "RCPT")) {
        reader->recipient_count += code == 250;
    } else if ((begins(line, "RSET") || begins(line, "HELO") || begins(line, "EHLO")) && code == 250) {
        end_message(reader);
        if (!begins(line, "RSET"))
            reader->has_chunking = reader->rules->has_chunking && begins(line, "EHLO");
    } else if (begins(line, "XCLIENT") && code == 220) {
        reader->has_chunking = reader->rules->has_chunking;
    }
}

void strict_read(struct strict_reading *reading, const struct strict_rules *rules, const char *input,
                 size_t size, const struct transcript *replies, strict_is_binary *is_binary, void *context)
{
    struct smtp_slice line;
    struct reader reader = {.reading = reading,
                            .rules = rules,
                            .input = input,
                            .size = size,
                            .replies = replies->text,
                            .has_chunking = rules->has_chunking,
                            .is_binary = is_binary,
                            .context = context};
    memset(reading, 0, sizeof(*reading));
    transcript_init(&reader.chunks);
    demand(&reader, strlen(replies->text) == replies->size, "a reply holds a NUL");
    demand(&reader, take_reply(&reader) == 220, "the server greets");
    while (!reading->is_closed && take_line(&reader, &line))
        read_command(&reader, line);
    demand(&reader, *reader.replies == '\0', "there is a reply too many");
    transcript_deinit(&reader.chunks);
}

void strict_reading_free(struct strict_reading *reading)
{
    for (size_t i = 0; i < reading->message_count; i++)
        transcript_deinit(&reading->contents[i]);
}
