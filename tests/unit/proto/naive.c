#include "tests/unit/proto/naive.h"

#include "proto/header.h"

#include <strings.h>

struct naive_fields {
    unsigned received;
    unsigned delivered_to;
    bool date;
    bool message_id;
    bool from;
    enum smtp_header_end end;
    size_t end_at;
};

static bool names(const char *line, size_t name_size, const char *name)
{
    return name_size == strlen(name) && strncasecmp(line, name, name_size) == 0;
}

/* A line with its LF, as far as it is there; tells whether the header ends with it. */
static enum smtp_header_end naive_field(struct naive_fields *fields, const char *line, size_t size,
                                        bool first)
{
    size_t name_size = 0;
    size_t at;

    if (line[0] == '\r')
        return SMTP_HEADER_EMPTY_LINE;
    if (!first && (line[0] == ' ' || line[0] == '\t'))
        return SMTP_HEADER_OPEN;
    while (name_size < size && line[name_size] > ' ' && line[name_size] < 127 && line[name_size] != ':')
        name_size++;
    at = name_size;
    while (name_size > 0 && at < size && (line[at] == ' ' || line[at] == '\t'))
        at++;
    if (at == size)
        return SMTP_HEADER_OPEN; /* the input ends in the middle of the name */
    if (name_size == 0 || line[at] != ':')
        return SMTP_HEADER_NO_FIELD;
    fields->received += names(line, name_size, "Received");
    fields->delivered_to += names(line, name_size, "Delivered-To");
    fields->date |= names(line, name_size, "Date");
    fields->message_id |= names(line, name_size, "Message-ID");
    fields->from |= names(line, name_size, "From");
    return SMTP_HEADER_OPEN;
}

static struct naive_fields naive_fields(const char *input, size_t size)
{
    struct naive_fields fields = {0};

    for (size_t start = 0, end; start < size && fields.end == SMTP_HEADER_OPEN; start = end) {
        const char *lf = memchr(input + start, '\n', size - start);

        /* The LF stays with the line: a name that runs into it is none. */
        end = lf != NULL ? (size_t)(lf - input) + 1 : size;
        fields.end = naive_field(&fields, input + start, end - start, start == 0);
        fields.end_at = start;
    }
    return fields;
}

void naive_header(struct transcript *transcript, const char *input, size_t size)
{
    struct naive_fields fields = naive_fields(input, size);

    if (fields.end == SMTP_HEADER_EMPTY_LINE)
        transcript_add(transcript, "empty line at %zu\n", fields.end_at);
    transcript_add(transcript, "received=%u delivered_to=%u%s%s%s end=%u\n", fields.received,
                   fields.delivered_to, fields.date ? " date" : "", fields.message_id ? " message_id" : "",
                   fields.from ? " from" : "", fields.end);
}

struct naive_flags naive_flags(const char *content, size_t size)
{
    struct naive_flags flags = {0};

    for (size_t i = 0; i < size; i++) {
        flags.dot_lines |= content[i] == '.' && (i == 0 || content[i - 1] == '\n');
        flags.has_8bit |= (unsigned char)content[i] > 127;
        flags.has_nul |= content[i] == '\0';
    }
    return flags;
}

static void add_content(struct transcript *transcript, const char *what, const char *content, size_t size)
{
    struct naive_fields fields = naive_fields(content, size);
    struct naive_flags flags = naive_flags(content, size);

    transcript_add(transcript, "%s size=%zu dots=%d high=%d received=%u delivered_to=%u header=%d%s\n", what,
                   size, flags.dot_lines, flags.has_8bit, fields.received, fields.delivered_to,
                   fields.end != SMTP_HEADER_OPEN, flags.has_nul ? " nul=1" : "");
    transcript_add_octets(transcript, content, size);
}

static bool is_newline(char octet)
{
    return octet == '\r' || octet == '\n';
}

/* One line without its CRLF, by the strict reading, so that each CR or LF in it is bare. */
static void add_normalised_line(struct transcript *content, const char *line, size_t size)
{
    bool is_only_stuffing = size >= 2 && line[0] == '.' && is_newline(line[1]);

    for (size_t i = is_only_stuffing; i < size; i++) {
        if (!is_newline(line[i])) {
            transcript_add_octets(content, line + i, 1);
            continue;
        }
        transcript_add_octets(content, "\r\n", 2);
        if (i + 1 < size && line[i + 1] == '.')
            transcript_add_octets(content, ".", 1);
    }
}

/* What is handed out of a line whose CRLF has not come. */
static void add_unfinished_line(struct transcript *content, const char *line, size_t size)
{
    bool is_held = (size == 1 && line[0] == '.') || (size == 2 && memcmp(line, ".\r", 2) == 0);
    bool ends_in_cr = size > 0 && line[size - 1] == '\r';

    if (is_held)
        return;
    add_normalised_line(content, line, size - ends_in_cr);
    if (ends_in_cr)
        transcript_add_octets(content, "\r", 1);
}

bool naive_normalise(struct transcript *content, const char *input, size_t size, size_t *consumed)
{
    size_t start = 0;

    *consumed = size;
    for (;;) {
        const char *crlf = start < size ? memmem(input + start, size - start, "\r\n", 2) : NULL;

        if (crlf == NULL)
            break;

        size_t line_size = (size_t)(crlf - input) - start;

        if (line_size == 1 && input[start] == '.') {
            *consumed = start + 3;
            return true;
        }
        add_normalised_line(content, input + start, line_size);
        transcript_add_octets(content, "\r\n", 2);
        start += line_size + 2;
    }
    add_unfinished_line(content, input + start, size - start);
    return false;
}

static void naive_data_normalised(struct transcript *transcript, const char *input, size_t size)
{
    struct transcript content;
    size_t consumed;

    transcript_init(&content);
    if (naive_normalise(&content, input, size, &consumed)) {
        transcript_add(transcript, "%zu ", consumed);
        add_content(transcript, "content", content.text, content.size);
    } else {
        add_content(transcript, "unfinished content", content.text, content.size);
    }
    transcript_deinit(&content);
}

/* True, with the line that tells of it, if there is a bare CR or LF; a CR at the very end is not yet one. */
static bool naive_bare(struct transcript *transcript, const char *input, size_t size, size_t i)
{
    bool after_cr = i > 0 && input[i - 1] == '\r';

    if (after_cr == (input[i] == '\n'))
        return false;
    transcript_add(transcript, "%zu bare %s in content\n", after_cr ? i : i + 1, after_cr ? "CR" : "LF");
    return true;
}

void naive_data(struct transcript *transcript, const char *input, size_t size)
{
    size_t line = 0;

    if (transcript_data_mode == SMTP_DATA_NORMALISE) {
        naive_data_normalised(transcript, input, size);
        return;
    }
    for (size_t i = 0; i < size; i++) {
        if (naive_bare(transcript, input, size, i))
            return;
        if (input[i] != '\n')
            continue;
        if (i == line + 2 && input[line] == '.') {
            transcript_add(transcript, "%zu ", i + 1);
            add_content(transcript, "content", input, line);
            return;
        }
        line = i + 1;
    }

    bool held = size - line >= 1 && size - line <= 2 && input[line] == '.' &&
                (size - line == 1 || input[line + 1] == '\r');

    add_content(transcript, "unfinished content", input, held ? line : size);
}

/* Text as BDAT brings it: every kind of newline becomes CRLF, every dot at the beginning of a line two. */
static void add_stuffed(struct transcript *content, const char *input, size_t size)
{
    bool is_line_start = true;

    for (size_t i = 0; i < size; i++) {
        if (is_newline(input[i])) {
            i += input[i] == '\r' && i + 1 < size && input[i + 1] == '\n';
            transcript_add_octets(content, "\r\n", 2);
            is_line_start = true;
            continue;
        }
        if (is_line_start && input[i] == '.')
            transcript_add_octets(content, ".", 1);
        transcript_add_octets(content, input + i, 1);
        is_line_start = false;
    }
    if (!is_line_start)
        transcript_add_octets(content, "\r\n", 2);
}

void naive_bdat(struct transcript *transcript, const char *input, size_t size)
{
    struct transcript content;
    bool is_text = transcript_bdat_mode != SMTP_BDAT_BINARY;

    for (size_t i = 0; transcript_bdat_mode == SMTP_BDAT_TEXT && i < size; i++) {
        if (naive_bare(transcript, input, size, i))
            return;
    }
    if (transcript_bdat_mode == SMTP_BDAT_TEXT && size > 0 && input[size - 1] == '\r') {
        transcript_add(transcript, "%zu bare CR in content\n", size);
        return;
    }
    transcript_init(&content);
    if (is_text)
        add_stuffed(&content, input, size);
    else
        transcript_add_octets(&content, input, size);

    struct naive_flags flags = naive_flags(content.text, content.size);

    transcript_add(transcript, "content size=%zu dots=%d high=%d nul=%d\n", content.size,
                   is_text && flags.dot_lines, flags.has_8bit, flags.has_nul);
    transcript_add_octets(transcript, content.text, content.size);
    transcript_deinit(&content);
}
