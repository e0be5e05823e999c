/* The walk through the structure, which survey and conversion share. */
#include "gateway/message/recode_inner.h"

#include <assert.h>
#include <string.h>

enum {
    LINE_TEXT_MAX = 998,  /* octets without CRLF (RFC 5322 §2.1.1) */
    NO_LEVEL = UINT8_MAX, /* the line is no delimiter */
};

static_assert(RECODE_STEP_MAX >= RECODE_FIELD_MAX + 3 * RECODE_LINE_MAX + RECODE_LINE_MAX / 8 + 256,
              "a field that was held, what is added to a header, and a line that is encoded");
static_assert(RECODE_LINE_MAX > LINE_TEXT_MAX + 3, "what is no longer than allowed is seen whole");

static bool is_above_127(struct smtp_slice text)
{
    uint8_t all = 0;
    for (uint32_t i = 0; i < text.size; i++)
        all |= (uint8_t)text.data[i];
    return all > 127;
}

static bool is_equal(struct smtp_slice text, const char *other)
{
    return smtp_slice_equals(text, (struct smtp_slice){other, (uint32_t)strlen(other)});
}

static bool begins_with(struct smtp_slice text, const char *prefix, size_t size)
{
    return text.size >= size && memcmp(text.data, prefix, size) == 0;
}

static void fail(struct recode *recode, enum recode_verdict fault)
{
    if (recode->fault == RECODE_NOTHING)
        recode->fault = fault;
}

static void set_action(struct recode *recode, uint16_t entity, enum recode_action action)
{
    assert(entity < recode->count);
    if (!recode->is_converting)
        recode->actions[entity] |= (uint8_t)action;
}

static bool has_action(const struct recode *recode, enum recode_action action)
{
    return recode->is_converting && (recode->actions[recode->entity] & action) != 0;
}

/* --- Header --- */

static void begin_entity(struct recode *recode, bool is_message, bool is_digest_part)
{
    if (recode->count == RECODE_ENTITIES_MAX) {
        fail(recode, RECODE_BEYOND);
        return;
    }
    recode->entity = recode->count++;
    if (is_message)
        recode->message = recode->entity;
    recode->state = RECODE_HEADER;
    recode->type = is_digest_part ? RECODE_TYPE_MESSAGE : RECODE_TYPE_TEXT;
    recode->encoding = RECODE_ENCODING_7BIT;
    recode->field = RECODE_FIELD_NONE;
    recode->seen = 0;
    assert(recode->field_size == 0);
}

static void end_type(struct recode *recode, struct smtp_slice text)
{
    const int type = recode_field_type(text, &recode->levels[recode->depth]);
    if (type < 0)
        fail(recode, RECODE_UNSURE);
    else
        recode->type = (uint8_t)type;
    recode_write(recode, text);
}

static void write_encoding(struct recode *recode)
{
    if (has_action(recode, RECODE_ACTION_QUOTED))
        recode_write(recode, SMTP_SLICE("Content-Transfer-Encoding: quoted-printable\r\n"));
    else if (has_action(recode, RECODE_ACTION_BASE64))
        recode_write(recode, SMTP_SLICE("Content-Transfer-Encoding: base64\r\n"));
    else
        recode_write(recode, SMTP_SLICE("Content-Transfer-Encoding: 7bit\r\n"));
}

static void end_encoding(struct recode *recode, struct smtp_slice text)
{
    recode->encoding = (uint8_t)recode_field_encoding(text);
    if (has_action(recode, RECODE_ACTION_ENCODED | RECODE_ACTION_SEVEN))
        write_encoding(recode);
    else
        recode_write(recode, text);
}

/* The field is complete: its text was held if it tells of the structure. */
static void end_field(struct recode *recode)
{
    const struct smtp_slice text = {recode->field_text, recode->field_size};

    if (recode->field_size == 0)
        return;
    if (recode->field == RECODE_FIELD_CONTENT_TYPE)
        end_type(recode, text);
    else if (recode->field == RECODE_FIELD_ENCODING)
        end_encoding(recode, text);
    recode->field_size = 0;
}

static void go_on_with_field(struct recode *recode, struct smtp_slice text)
{
    if (recode->field != RECODE_FIELD_CONTENT_TYPE && recode->field != RECODE_FIELD_ENCODING) {
        recode_write(recode, text);
        return;
    }
    if (text.size > (size_t)RECODE_FIELD_MAX - recode->field_size) {
        fail(recode, RECODE_BEYOND);
        return;
    }
    memcpy(recode->field_text + recode->field_size, text.data, text.size);
    recode->field_size = (uint16_t)(recode->field_size + text.size);
}

static void begin_field(struct recode *recode, struct smtp_slice text)
{
    end_field(recode);
    recode->field = (uint8_t)recode_field_name(text);
    const uint8_t bit = (uint8_t)(1u << recode->field);
    const bool is_twice = recode->field != RECODE_FIELD_OTHER && (recode->seen & bit) != 0;
    if (recode->field == RECODE_FIELD_NONE || is_twice) {
        fail(recode, RECODE_UNSURE);
        return;
    }
    recode->seen |= bit;
    go_on_with_field(recode, text);
}

/* RFC 1428 §3 for mail that knows nothing of MIME. */
static void complete_header(struct recode *recode)
{
    const bool is_mime = recode->seen & 1u << RECODE_FIELD_MIME_VERSION;

    if (has_action(recode, RECODE_ACTION_MIME) && !is_mime) {
        recode_write(recode, SMTP_SLICE("MIME-Version: 1.0\r\n"));
        if (!(recode->seen & 1u << RECODE_FIELD_CONTENT_TYPE))
            recode_write(recode, SMTP_SLICE("Content-Type: text/plain; charset=unknown-8bit\r\n"));
    }
    if (has_action(recode, RECODE_ACTION_ENCODED) && !(recode->seen & 1u << RECODE_FIELD_ENCODING))
        write_encoding(recode);
}

static void open_multipart(struct recode *recode)
{
    struct recode_level *level = &recode->levels[recode->depth];

    if (recode->depth == RECODE_DEPTH_MAX) {
        fail(recode, RECODE_BEYOND);
    } else if (recode->encoding == RECODE_ENCODING_DONE) {
        fail(recode, RECODE_UNSURE); /* RFC 2045 §6.4 */
    } else {
        assert(level->boundary_size > 0);
        level->message = recode->message;
        level->is_sealed |= recode->is_sealed;
        recode->depth++;
        recode->state = RECODE_AROUND;
    }
}

static void open_body(struct recode *recode)
{
    recode->state = RECODE_BODY;
    recode->body_has_8bit = false;
    recode->body_has_long = false;
    assert(recode->column == 0 && recode->triple_size == 0 && recode->blank == 0 && !recode->holds_crlf);
}

static void end_header(struct recode *recode, struct smtp_slice blank_line)
{
    const bool is_composite = recode->type == RECODE_TYPE_MULTIPART || recode->type == RECODE_TYPE_MESSAGE;

    end_field(recode);
    complete_header(recode);
    recode_write(recode, blank_line);
    if (is_composite && recode->encoding == RECODE_ENCODING_8BIT && !recode->is_sealed)
        set_action(recode, recode->entity, RECODE_ACTION_SEVEN);
    if (recode->type == RECODE_TYPE_MULTIPART)
        open_multipart(recode);
    else if (recode->type == RECODE_TYPE_MESSAGE && recode->encoding != RECODE_ENCODING_DONE)
        begin_entity(recode, true, false);
    else
        open_body(recode);
}

static bool is_fold(struct smtp_slice line)
{
    return line.data[0] == ' ' || line.data[0] == '\t';
}

/* Some take a line of blanks for the end of the header. */
static bool is_all_blank(struct smtp_slice line)
{
    for (uint32_t i = 0; i < line.size; i++) {
        if (memchr(" \t\r\n", line.data[i], 4) == NULL)
            return false;
    }
    return true;
}

static void read_header(struct recode *recode, struct smtp_slice text, bool begins)
{
    const bool goes_on = !begins || is_fold(text);

    if (is_above_127(text))
        fail(recode, RECODE_IN_HEADER);
    else if (is_equal(text, "\r\n") && begins)
        end_header(recode, text);
    else if (!goes_on)
        begin_field(recode, text);
    else if (recode->field == RECODE_FIELD_NONE || (begins && is_all_blank(text)))
        fail(recode, RECODE_UNSURE);
    else
        go_on_with_field(recode, text);
}

/* --- Body --- */

static void decide_body(struct recode *recode)
{
    const bool is_free = !recode->is_sealed && recode->encoding != RECODE_ENCODING_DONE &&
                         recode->type != RECODE_TYPE_REPORT && recode->type != RECODE_TYPE_MESSAGE;

    if (recode->body_has_8bit && !is_free) {
        fail(recode, recode->is_sealed ? RECODE_IN_SEALED : RECODE_IN_STRANGE);
    } else if (is_free && (recode->body_has_8bit || recode->body_has_long)) {
        const bool is_text = recode->type == RECODE_TYPE_TEXT;
        set_action(recode, recode->entity, is_text ? RECODE_ACTION_QUOTED : RECODE_ACTION_BASE64);
        set_action(recode, recode->message, RECODE_ACTION_MIME);
    } else if (!recode->is_sealed && recode->encoding == RECODE_ENCODING_8BIT) {
        set_action(recode, recode->entity, RECODE_ACTION_SEVEN);
    }
}

/* At a boundary the last line's end belongs to that (RFC 2046 §5.1.1). */
static void end_body(struct recode *recode, bool at_boundary)
{
    decide_body(recode);
    if (has_action(recode, RECODE_ACTION_BASE64))
        recode_write_base64_end(recode, at_boundary);
}

static void read_body(struct recode *recode, struct smtp_slice text, bool begins, bool ends)
{
    const bool is_stuffed = begins && text.data[0] == '.';
    const struct smtp_slice plain = {text.data + is_stuffed, text.size - is_stuffed};
    const bool is_high = is_above_127(text);

    recode->body_has_8bit |= is_high;
    recode->body_has_long |= !ends || plain.size > LINE_TEXT_MAX + 2;
    if (has_action(recode, RECODE_ACTION_QUOTED))
        recode_write_quoted(recode, plain, ends);
    else if (has_action(recode, RECODE_ACTION_BASE64))
        recode_write_base64(recode, plain, ends);
    else if (recode->is_converting && is_high)
        fail(recode, RECODE_UNSURE);
    else
        recode_write(recode, text);
}

static void read_around(struct recode *recode, struct smtp_slice text)
{
    if (is_above_127(text))
        fail(recode, RECODE_IN_STRANGE);
    else
        recode_write(recode, text);
}

/* --- Delimiters (RFC 2046 §5.1.1) --- */

/* What stands behind the boundary leaves no doubt. */
static bool is_delimiter_end(struct smtp_slice rest, bool *is_last)
{
    *is_last = begins_with(rest, "--", 2);
    uint32_t at = *is_last ? 2 : 0;
    while (at < rest.size && (rest.data[at] == ' ' || rest.data[at] == '\t'))
        at++;
    return is_equal((struct smtp_slice){rest.data + at, rest.size - at}, "\r\n");
}

/*
 * The level whose delimiter the line is, or NO_LEVEL. Where one boundary begins another, or has something
 * behind it, readers differ: some compare the whole line, some its beginning.
 */
static uint8_t find_level(struct recode *recode, struct smtp_slice line, bool *is_last)
{
    uint8_t found = NO_LEVEL;

    for (uint8_t i = 0; i < recode->depth && begins_with(line, "--", 2); i++) {
        const struct recode_level *level = &recode->levels[i];
        const struct smtp_slice name = {line.data + 2, line.size - 2};
        if (!begins_with(name, level->boundary, level->boundary_size))
            continue;
        const struct smtp_slice rest = {name.data + level->boundary_size, name.size - level->boundary_size};
        if (found != NO_LEVEL || !is_delimiter_end(rest, is_last)) {
            fail(recode, RECODE_UNSURE);
            return NO_LEVEL;
        }
        found = i;
    }
    return found;
}

/* What was open within the level is closed, whether it said so or not. */
static void close_entity(struct recode *recode, bool at_boundary)
{
    if (recode->state == RECODE_HEADER)
        end_header(recode, SMTP_SLICE(""));
    if (recode->state == RECODE_BODY)
        end_body(recode, at_boundary);
}

static void read_delimiter(struct recode *recode, uint8_t index, bool is_last, struct smtp_slice line)
{
    const struct recode_level *level = &recode->levels[index];

    close_entity(recode, true);
    recode_write(recode, line);
    recode->depth = is_last ? index : index + 1;
    recode->message = level->message;
    recode->is_sealed = level->is_sealed;
    recode->state = RECODE_AROUND;
    if (!is_last)
        begin_entity(recode, false, level->is_digest);
}

/* --- Lines --- */

/* A CR or LF that is no part of CRLF. */
static bool has_bare_newline(struct smtp_slice text, bool ends)
{
    if (ends && (text.size < 2 || text.data[text.size - 2] != '\r'))
        return true;
    const uint32_t size = ends ? text.size - 2 : text.size;
    return size > 0 && memchr(text.data, '\r', size) != NULL;
}

/* A line, or a fragment of a long one: which octets are together does not depend on how the input is cut. */
static void read_line(struct recode *recode, struct smtp_slice text, bool ends)
{
    const bool begins = !recode->is_in_line;
    bool is_last = false;

    assert(text.size > 0 && text.size <= RECODE_LINE_MAX);
    recode->is_in_line = !ends;
    recode->has_8bit |= is_above_127(text);
    if (has_bare_newline(text, ends))
        fail(recode, RECODE_UNSURE);
    const uint8_t level = begins ? find_level(recode, text, &is_last) : NO_LEVEL;
    if (recode->fault != RECODE_NOTHING)
        return;
    if (level != NO_LEVEL)
        read_delimiter(recode, level, is_last, text);
    else if (recode->state == RECODE_HEADER)
        read_header(recode, text, begins);
    else if (recode->state == RECODE_BODY)
        read_body(recode, text, begins, ends);
    else
        read_around(recode, text);
}

/* As much of a line as there is; the last octet of a fragment waits, for it may be the CR of CRLF. */
static size_t gather(struct recode *recode, const char *octets, size_t size)
{
    const size_t room = RECODE_LINE_MAX - recode->line_size;
    const size_t taken = size < room ? size : room;

    memcpy(recode->line + recode->line_size, octets, taken);
    recode->line_size = (uint16_t)(recode->line_size + taken);
    const char last = recode->line[recode->line_size - 1];
    if (last == '\n') {
        read_line(recode, (struct smtp_slice){recode->line, recode->line_size}, true);
        recode->line_size = 0;
    } else if (recode->line_size == RECODE_LINE_MAX) {
        read_line(recode, (struct smtp_slice){recode->line, RECODE_LINE_MAX - 1}, false);
        recode->line[0] = last;
        recode->line_size = 1;
    }
    return taken;
}

static size_t read_some(struct recode *recode, const char *octets, size_t size)
{
    const char *feed = memchr(octets, '\n', size);
    const size_t line_size = feed != NULL ? (size_t)(feed - octets) + 1 : size;

    assert(size > 0);
    if (feed == NULL || recode->line_size > 0 || line_size > RECODE_LINE_MAX)
        return gather(recode, octets, line_size);
    read_line(recode, (struct smtp_slice){octets, (uint32_t)line_size}, true);
    return line_size;
}

static void begin(struct recode *recode)
{
    recode->depth = 0;
    recode->count = 0;
    recode->message = 0;
    recode->is_sealed = false;
    recode->is_in_line = false;
    recode->has_8bit = false;
    recode->line_size = 0;
    recode->field_size = 0;
    begin_entity(recode, true, false);
}

static void end(struct recode *recode)
{
    if (recode->line_size > 0 || recode->is_in_line)
        fail(recode, RECODE_UNSURE); /* does not end with CRLF */
    /* The last line of a part without its delimiter: readers take its end for that of the part, too. */
    if (recode->fault == RECODE_NOTHING)
        close_entity(recode, recode->depth > 0);
}

/* --- Survey and conversion --- */

void recode_init(struct recode *recode)
{
    recode->fault = RECODE_NOTHING;
    recode->is_converting = false;
    recode->out = NULL;
    recode->out_end = NULL;
    recode->blank = 0;
    recode->column = 0;
    recode->triple_size = 0;
    recode->holds_crlf = false;
    memset(recode->actions, 0, sizeof(recode->actions));
    begin(recode);
}

void recode_survey(struct recode *recode, const char *octets, size_t size)
{
    assert(!recode->is_converting);
    while (size > 0 && recode->fault == RECODE_NOTHING) {
        const size_t done = read_some(recode, octets, size);
        octets += done;
        size -= done;
    }
    /* What is wrong matters only if there is something to convert. */
    if (size > 0 && !recode->has_8bit)
        recode->has_8bit = is_above_127((struct smtp_slice){octets, (uint32_t)size});
}

enum recode_verdict recode_survey_end(struct recode *recode)
{
    assert(!recode->is_converting);
    recode->has_8bit |= is_above_127((struct smtp_slice){recode->line, recode->line_size});
    end(recode);
    if (!recode->has_8bit)
        return RECODE_NOTHING;
    if (recode->fault != RECODE_NOTHING)
        return recode->fault;
    begin(recode);
    recode->is_converting = true;
    return RECODE_POSSIBLE;
}

size_t recode_convert(struct recode *recode, const char *octets, size_t size, size_t *consumed, char *out,
                      size_t out_size)
{
    size_t done = 0;

    assert(recode->is_converting);
    recode->out = out;
    recode->out_end = out + out_size;
    while (done < size && (size_t)(recode->out_end - recode->out) >= RECODE_STEP_MAX) {
        if (recode->fault != RECODE_NOTHING)
            done = size;
        else
            done += read_some(recode, octets + done, size - done);
    }
    *consumed = done;
    return (size_t)(recode->out - out);
}

bool recode_convert_end(struct recode *recode, char out[static RECODE_STEP_MAX], size_t *written)
{
    assert(recode->is_converting);
    recode->out = out;
    recode->out_end = out + RECODE_STEP_MAX;
    end(recode);
    *written = (size_t)(recode->out - out);
    return recode->fault == RECODE_NOTHING;
}

const char *recode_verdict_text(enum recode_verdict verdict)
{
    switch (verdict) {
    case RECODE_IN_HEADER:
        return "its header is not ASCII";
    case RECODE_IN_SEALED:
        return "a part is signed or encrypted";
    case RECODE_IN_STRANGE:
        return "not all of it may be encoded";
    case RECODE_UNSURE:
        return "its structure is ambiguous";
    case RECODE_BEYOND:
        return "its structure is too large";
    case RECODE_NOTHING:
    case RECODE_POSSIBLE:
        break;
    }
    assert(!"a verdict that stands in the way");
    return "";
}
