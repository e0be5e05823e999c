/* Fields that tell of MIME's structure (RFC 2045 §5.1, §6.1). Strict where readers are known to differ. */
#include "gateway/message/recode_inner.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

struct cursor {
    const char *at;
    const char *end;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool is_space(char c)
{
    return is_blank(c) || c == '\r' || c == '\n';
}

static bool is_among(char c, const char *set)
{
    return c != '\0' && strchr(set, c) != NULL;
}

/* RFC 2045 §5.1. */
static bool is_token(char c)
{
    return c > ' ' && c < 127 && !is_among(c, "()<>@,;:\\\"/[]?=");
}

static bool is_of_boundary(char c)
{
    const char lower = smtp_ascii_lower(c);
    return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || is_among(c, "'()+_,-./:=? ");
}

static void skip_space(struct cursor *cursor)
{
    while (cursor->at < cursor->end && is_space(*cursor->at))
        cursor->at++;
}

static bool skip_char(struct cursor *cursor, char c)
{
    if (cursor->at == cursor->end || *cursor->at != c)
        return false;
    cursor->at++;
    return true;
}

static struct smtp_slice take_while(struct cursor *cursor, bool (*fits)(char c))
{
    const char *start = cursor->at;
    while (cursor->at < cursor->end && fits(*cursor->at))
        cursor->at++;
    return (struct smtp_slice){start, (uint32_t)(cursor->at - start)};
}

static bool begins_with(struct smtp_slice text, struct smtp_slice prefix)
{
    return text.size >= prefix.size &&
           smtp_slice_equals_nocase((struct smtp_slice){text.data, prefix.size}, prefix);
}

/* --- Names --- */

static bool is_of_name(char c)
{
    return c > ' ' && c < 127 && c != ':';
}

enum recode_field recode_field_name(struct smtp_slice line)
{
    static const struct {
        struct smtp_slice name;
        enum recode_field field;
    } names[] = {
        {{"mime-version", 12}, RECODE_FIELD_MIME_VERSION},
        {{"content-type", 12}, RECODE_FIELD_CONTENT_TYPE},
        {{"content-transfer-encoding", 25}, RECODE_FIELD_ENCODING},
    };
    struct cursor cursor = {line.data, line.data + line.size};
    const struct smtp_slice name = take_while(&cursor, is_of_name);
    const bool is_plain = cursor.at < cursor.end && *cursor.at == ':';

    while (cursor.at < cursor.end && is_blank(*cursor.at))
        cursor.at++;
    if (name.size == 0 || !skip_char(&cursor, ':'))
        return RECODE_FIELD_NONE;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        /* A blank before the colon (RFC 5322 §4.5.8): some take it for this field, some for none. */
        if (smtp_slice_equals_nocase(name, names[i].name))
            return is_plain ? names[i].field : RECODE_FIELD_NONE;
    }
    return RECODE_FIELD_OTHER;
}

static struct cursor value_of(struct smtp_slice text)
{
    const char *colon = memchr(text.data, ':', text.size);
    assert(colon != NULL);
    return (struct cursor){colon + 1, text.data + text.size};
}

/* --- Content-Transfer-Encoding --- */

enum recode_encoding recode_field_encoding(struct smtp_slice text)
{
    struct cursor cursor = value_of(text);

    skip_space(&cursor);
    const struct smtp_slice word = take_while(&cursor, is_token);
    skip_space(&cursor);
    if (cursor.at != cursor.end)
        return RECODE_ENCODING_DONE;
    if (smtp_slice_equals_nocase(word, SMTP_SLICE("7bit")))
        return RECODE_ENCODING_7BIT;
    if (smtp_slice_equals_nocase(word, SMTP_SLICE("8bit")) ||
        smtp_slice_equals_nocase(word, SMTP_SLICE("binary")))
        return RECODE_ENCODING_8BIT;
    return RECODE_ENCODING_DONE;
}

/* --- Content-Type --- */

/* Many write "boundary=----=_Part", which should stand in quotation marks; all read it as it is meant. */
static bool is_of_bare_value(char c)
{
    return c > ' ' && c < 127 && !is_among(c, "();\"\\<>,");
}

/* What stands between quotation marks, `cursor` behind the first of them. */
static int take_quoted(struct cursor *cursor, struct smtp_slice *value)
{
    const char *start = cursor->at;

    for (; cursor->at < cursor->end && *cursor->at != '"'; cursor->at++) {
        if (*cursor->at == '\\' && ++cursor->at == cursor->end)
            return -EBADMSG;
    }
    *value = (struct smtp_slice){start, (uint32_t)(cursor->at - start)};
    return skip_char(cursor, '"') ? 0 : -EBADMSG;
}

static int take_parameter(struct cursor *cursor, struct smtp_slice *name, struct smtp_slice *value)
{
    *name = take_while(cursor, is_token);
    skip_space(cursor);
    if (name->size == 0 || !skip_char(cursor, '='))
        return -EBADMSG;
    skip_space(cursor);
    if (skip_char(cursor, '"'))
        return take_quoted(cursor, value);
    *value = take_while(cursor, is_of_bare_value);
    return value->size > 0 ? 0 : -EBADMSG;
}

static int set_boundary(struct recode_level *level, struct smtp_slice value)
{
    if (level->boundary_size > 0 || value.size == 0 || value.size > RECODE_BOUNDARY_MAX)
        return -EBADMSG;
    for (uint32_t i = 0; i < value.size; i++) {
        if (!is_of_boundary(value.data[i]))
            return -EBADMSG;
    }
    if (value.data[0] == ' ' || value.data[value.size - 1] == ' ')
        return -EBADMSG;
    memcpy(level->boundary, value.data, value.size);
    level->boundary_size = (uint8_t)value.size;
    return 0;
}

static int read_boundary(struct cursor *cursor, struct recode_level *level)
{
    for (;;) {
        struct smtp_slice name;
        struct smtp_slice value;
        skip_space(cursor);
        if (cursor->at == cursor->end)
            return level->boundary_size > 0 ? 0 : -EBADMSG;
        if (!skip_char(cursor, ';'))
            return -EBADMSG;
        skip_space(cursor);
        if (cursor->at == cursor->end || *cursor->at == ';')
            continue;
        if (take_parameter(cursor, &name, &value) < 0)
            return -EBADMSG;
        /* "boundary*=", "boundary*0=": RFC 2231, which not all readers know. */
        if (begins_with(name, SMTP_SLICE("boundary*")))
            return -EBADMSG;
        if (smtp_slice_equals_nocase(name, SMTP_SLICE("boundary")) && set_boundary(level, value) < 0)
            return -EBADMSG;
    }
}

int recode_field_type(struct smtp_slice text, struct recode_level *level)
{
    struct cursor cursor = value_of(text);

    skip_space(&cursor);
    const struct smtp_slice type = take_while(&cursor, is_token);
    if (type.size == 0 || !skip_char(&cursor, '/'))
        return -EBADMSG;
    const struct smtp_slice subtype = take_while(&cursor, is_token);
    const bool has_end = cursor.at == cursor.end || is_space(*cursor.at) || is_among(*cursor.at, ";(");
    if (subtype.size == 0 || !has_end)
        return -EBADMSG;
    if (smtp_slice_equals_nocase(type, SMTP_SLICE("text")))
        return RECODE_TYPE_TEXT;
    if (smtp_slice_equals_nocase(type, SMTP_SLICE("message")))
        return smtp_slice_equals_nocase(subtype, SMTP_SLICE("rfc822")) ? RECODE_TYPE_MESSAGE
                                                                       : RECODE_TYPE_REPORT;
    if (!smtp_slice_equals_nocase(type, SMTP_SLICE("multipart")))
        return RECODE_TYPE_BINARY;
    *level = (struct recode_level){
        .is_digest = smtp_slice_equals_nocase(subtype, SMTP_SLICE("digest")),
        .is_sealed = smtp_slice_equals_nocase(subtype, SMTP_SLICE("signed")) ||
                     smtp_slice_equals_nocase(subtype, SMTP_SLICE("encrypted")),
    };
    return read_boundary(&cursor, level) < 0 ? -EBADMSG : RECODE_TYPE_MULTIPART;
}
