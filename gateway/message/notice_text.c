#include "gateway/message/notice_text.h"

#include "gateway/message/notice.h"
#include "gateway/message/notice_character.h"
#include "gateway/message/received.h"

#include <assert.h>

enum {
    COLUMN_SOFT = 76,  /* where a line is folded if it can be */
    COLUMN_HARD = 900, /* where it is broken even inside a word; RFC 5322 §2.1.1 allows 998 */
};

static void put_octets(struct notice_text *text, const char *octets, size_t size)
{
    assert(size <= (size_t)(text->end - text->at));
    if (size > 0)
        memcpy(text->at, octets, size);
    text->at += size;
}

void notice_put_slice(struct notice_text *text, struct smtp_slice ours)
{
    put_octets(text, ours.data, ours.size);
    const char *feed = ours.size > 0 ? memrchr(ours.data, '\n', ours.size) : NULL;
    if (feed != NULL)
        text->column = (uint32_t)(ours.data + ours.size - feed - 1);
    else
        text->column += ours.size;
}

void notice_text_cut(struct notice_text *text, char *at)
{
    assert(at <= text->at);
    text->at = at;
    text->column = 0;
}

void notice_put(struct notice_text *text, const char *literal)
{
    notice_put_slice(text, (struct smtp_slice){literal, (uint32_t)strlen(literal)});
}

void notice_put_number(struct notice_text *text, uint64_t number)
{
    char digits[20];
    uint32_t size = 0;
    do {
        digits[sizeof(digits) - ++size] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    notice_put_slice(text, (struct smtp_slice){digits + sizeof(digits) - size, size});
}

bool notice_is_time(int64_t time_ms)
{
    return time_ms > 0 && time_ms < INT64_C(253402300800000);
}

void notice_put_date(struct notice_text *text, int64_t time_ms)
{
    struct received_date date = {0};
    notice_put_slice(text, received_date_text(&date, time_ms));
}

static bool is_blank(char octet)
{
    return octet == ' ' || octet == '\t' || octet == '\r' || octet == '\n';
}

/* Writes the character that `foreign` begins with; returns how many octets it has there. */
static uint32_t put_character(struct notice_text *text, struct smtp_slice foreign)
{
    char form[CHARACTER_FORM_MAX];
    const struct character character = character_read(foreign);
    uint32_t code = character.code;
    if (is_blank(foreign.data[0]))
        code = ' ';
    else if (!character_is_safe(code) || (code > 127 && !text->is_utf8))
        code = '?';
    const uint32_t size = character_write(code, form);
    put_octets(text, form, size);
    text->column += size;
    return character.size;
}

static struct smtp_slice cut(struct smtp_slice slice, uint32_t most)
{
    return (struct smtp_slice){slice.data, slice.size < most ? slice.size : most};
}

static struct smtp_slice skip(struct smtp_slice slice, uint32_t count)
{
    assert(count <= slice.size);
    return (struct smtp_slice){slice.data + count, slice.size - count};
}

void notice_put_harmless(struct notice_text *text, struct smtp_slice foreign, uint32_t most)
{
    struct smtp_slice rest = cut(foreign, most);
    while (rest.size > 0)
        rest = skip(rest, put_character(text, rest));
}

static void put_word(struct notice_text *text, struct smtp_slice word, const char *indent)
{
    while (word.size > 0) {
        if (text->column >= COLUMN_HARD) {
            notice_put(text, "\r\n");
            notice_put(text, indent);
        }
        word = skip(word, put_character(text, word));
    }
}

void notice_put_folded(struct notice_text *text, struct smtp_slice foreign, uint32_t most, const char *indent)
{
    struct smtp_slice rest = cut(foreign, most);
    bool is_first = true;
    while (rest.size > 0) {
        uint32_t size = 0;
        while (size < rest.size && !is_blank(rest.data[size]))
            size++;
        if (size > 0 && !is_first) {
            if (text->column + 1 + size > COLUMN_SOFT) {
                notice_put(text, "\r\n");
                notice_put(text, indent);
            } else {
                notice_put(text, " ");
            }
        }
        put_word(text, cut(rest, size), indent);
        is_first = is_first && size == 0;
        rest = skip(rest, size < rest.size ? size + 1 : size);
    }
}

static bool is_name_octet(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '_' || c == ':' || c == '[' || c == ']';
}

void notice_put_name(struct notice_text *text, struct smtp_slice name)
{
    const struct smtp_slice kept = cut(name, NOTICE_NAME_MAX);
    for (uint32_t i = 0; i < kept.size; i++)
        put_octets(text, is_name_octet(kept.data[i]) ? &kept.data[i] : "?", 1);
    text->column += kept.size;
}

bool notice_is_socket(struct smtp_slice host)
{
    return host.size > 0 && host.data[0] == '/';
}

/* No domain consists of digits only: its last label does not. */
static bool is_ipv4(struct smtp_slice host)
{
    for (uint32_t i = 0; i < host.size; i++) {
        if (host.data[i] != '.' && (host.data[i] < '0' || host.data[i] > '9'))
            return false;
    }
    return host.size > 0;
}

void notice_put_host(struct notice_text *text, struct smtp_slice host)
{
    const bool is_literal = host.size > 0 && host.data[0] == '[';
    const bool is_ipv6 = !is_literal && host.size > 0 && memchr(host.data, ':', host.size) != NULL;

    if (notice_is_socket(host)) {
        notice_put_harmless(text, host, NOTICE_NAME_MAX);
        return;
    }
    if (is_ipv6)
        notice_put(text, "[IPv6:");
    else if (is_ipv4(host))
        notice_put(text, "[");
    notice_put_name(text, host);
    if (is_ipv6 || is_ipv4(host))
        notice_put(text, "]");
}
