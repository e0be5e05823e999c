#include <assert.h>
#include <string.h>

#include "gateway/base/log_inner.h"

/*
 * Values come from strangers. A reader of the log, human or program, must be able to tell where a value ends,
 * and a terminal must not act on it: so control characters, line separators and direction marks are escaped
 * even where they are well-formed UTF-8.
 */

enum { UTF8_SIZE_MAX = 4, ESCAPE_SIZE_MAX = UTF8_SIZE_MAX * 4 }; /* \xNN for each byte of a character */

static const char hex_digits[] = "0123456789abcdef";

/* May stand in a text value without quotes: printable ASCII but for space, '"', '=' and '\'. */
static inline bool is_bare(unsigned char byte)
{
    return byte > ' ' && byte < 0x7f && byte != '"' && byte != '=' && byte != '\\';
}

/* May stand between quotes as it is, in text and in JSON. */
static inline bool is_plain_quoted(unsigned char byte)
{
    return byte >= ' ' && byte < 0x7f && byte != '"' && byte != '\\';
}

static inline bool is_continuation(unsigned char byte)
{
    return (byte & 0xc0) == 0x80;
}

/* One UTF-8 character (RFC 3629 §4) at the start of `bytes`: its size, or 0 if there is none; no surrogates,
   no overlong forms. */
static size_t utf8_decode(const char *bytes, size_t size, uint32_t *code)
{
    static const uint32_t smallest[UTF8_SIZE_MAX + 1] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char first = (unsigned char)bytes[0];
    size_t length = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (length == 1) {
        *code = first;
        return 1;
    }
    if (first < 0xc2 || first > 0xf4 || length > size)
        return 0;
    uint32_t value = first & (0x7fU >> length);
    for (size_t index = 1; index < length; index++) {
        if (!is_continuation((unsigned char)bytes[index]))
            return 0;
        value = value << 6 | ((unsigned char)bytes[index] & 0x3f);
    }
    if (value < smallest[length] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
        return 0;
    *code = value;
    return length;
}

/* Well formed, but a terminal or an editor would act on it. */
static bool is_active(uint32_t code)
{
    return code < ' ' || (code >= 0x7f && code <= 0x9f) || (code >= 0x200e && code <= 0x200f) ||
           (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) || code == 0x61c ||
           code == 0xfeff;
}

/* How much of a long value is shown: not more than the limit, and no character cut in two. */
static size_t shown_size(const char *bytes, size_t size)
{
    if (size <= LOG_VALUE_SIZE)
        return size;
    size_t shown = LOG_VALUE_SIZE;
    for (size_t back = 0; back < UTF8_SIZE_MAX && is_continuation((unsigned char)bytes[shown]); back++)
        shown--;
    return shown;
}

static char *put_hex(char *cursor, unsigned char byte)
{
    *cursor++ = '\\';
    *cursor++ = 'x';
    *cursor++ = hex_digits[byte >> 4];
    *cursor++ = hex_digits[byte & 15];
    return cursor;
}

static char *put_unicode(char *cursor, uint32_t code)
{
    assert(code <= 0xffff);
    *cursor++ = '\\';
    *cursor++ = 'u';
    for (int shift = 12; shift >= 0; shift -= 4)
        *cursor++ = hex_digits[code >> shift & 15];
    return cursor;
}

/* The letter of a two-character escape that text and JSON share, or 0. */
static char short_escape(unsigned char byte)
{
    switch (byte) {
    case '"':
    case '\\':
        return (char)byte;
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return '\0';
    }
}

/* What stands for the character that does not speak for itself; at most ESCAPE_SIZE_MAX bytes. `length` 0:
   the first byte of `bytes` begins no character. */
static char *put_escape(char *cursor, const char *bytes, size_t length, uint32_t code, bool is_json)
{
    char letter = length == 1 ? short_escape((unsigned char)bytes[0]) : '\0';
    if (letter != '\0') {
        *cursor++ = '\\';
        *cursor++ = letter;
        return cursor;
    }
    if (is_json)
        return put_unicode(cursor, length == 0 ? 0xfffd : code);
    for (size_t index = 0; index < (length == 0 ? 1 : length); index++)
        cursor = put_hex(cursor, (unsigned char)bytes[index]);
    return cursor;
}

/* The inside of a quoted value. */
static char *put_quoted(char *cursor, const char *limit, const char *bytes, size_t size, bool is_json)
{
    while (size > 0) {
        if (limit - cursor < ESCAPE_SIZE_MAX)
            return NULL;
        uint32_t code = 0;
        size_t length = utf8_decode(bytes, size, &code);
        bool is_ascii = length == 1;
        if (is_ascii && is_plain_quoted((unsigned char)*bytes)) {
            *cursor++ = *bytes;
        } else if (length > 1 && !is_active(code)) {
            memcpy(cursor, bytes, length);
            cursor += length;
        } else {
            cursor = put_escape(cursor, bytes, length, code, is_json);
        }
        bytes += length == 0 ? 1 : length;
        size -= length == 0 ? 1 : length;
    }
    return cursor;
}

static bool is_bare_value(const char *bytes, size_t size)
{
    for (size_t index = 0; index < size; index++) {
        if (!is_bare((unsigned char)bytes[index]))
            return false;
    }
    return size <= LOG_VALUE_SIZE;
}

/* Fixed text around a value: quotes and brackets. */
static char *put_fixed(char *cursor, const char *limit, const char *text)
{
    size_t size = strlen(text);
    if (cursor == NULL || limit - cursor < (ptrdiff_t)size)
        return NULL;
    memcpy(cursor, text, size);
    return cursor + size;
}

static char *put_value(char *cursor, const char *limit, const char *bytes, size_t size, bool is_json)
{
    size_t shown = shown_size(bytes, size);
    cursor = put_quoted(cursor, limit, bytes, shown, is_json);
    return shown < size ? put_fixed(cursor, limit, "...") : cursor;
}

static char *put_bare(char *cursor, const char *limit, const char *bytes, size_t size)
{
    assert(size <= LOG_VALUE_SIZE);
    if (limit - cursor < (ptrdiff_t)size)
        return NULL;
    memcpy(cursor, bytes, size);
    return cursor + size;
}

char *log_escape_text(char *cursor, const char *limit, const char *bytes, size_t size)
{
    assert(cursor <= limit);
    if (size > 0 && is_bare_value(bytes, size))
        return put_bare(cursor, limit, bytes, size);
    cursor = put_fixed(cursor, limit, "\"");
    if (cursor != NULL)
        cursor = put_value(cursor, limit, bytes, size, false);
    return put_fixed(cursor, limit, "\"");
}

char *log_escape_json(char *cursor, const char *limit, const char *bytes, size_t size)
{
    assert(cursor <= limit);
    cursor = put_fixed(cursor, limit, "\"");
    if (cursor != NULL)
        cursor = put_value(cursor, limit, bytes, size, true);
    return put_fixed(cursor, limit, "\"");
}

char *log_escape_path(char *cursor, const char *limit, const char *bytes, size_t size)
{
    assert(cursor <= limit);
    bool is_bare_path = is_bare_value(bytes, size);
    cursor = put_fixed(cursor, limit, is_bare_path ? "<" : "\"<");
    if (cursor != NULL && is_bare_path)
        cursor = put_bare(cursor, limit, bytes, size);
    else if (cursor != NULL)
        cursor = put_value(cursor, limit, bytes, size, false);
    return put_fixed(cursor, limit, is_bare_path ? ">" : ">\"");
}
