/* Addresses in the machine-readable part of a notice (RFC 3464 §2.1.2; beyond ASCII, RFC 6533 §3). */

#include "gateway/message/notice_character.h"
#include "gateway/message/notice_text.h"

#include "gateway/message/recipient.h"
#include "proto/xtext.h"

#include <assert.h>

static bool is_ascii(struct smtp_slice text)
{
    for (uint32_t i = 0; i < text.size; i++) {
        if ((uint8_t)text.data[i] > 127)
            return false;
    }
    return true;
}

/* "\x{E9}", the only way to write what is not ASCII where no other octets may be. */
static void put_embedded(struct notice_text *text, uint32_t code)
{
    char digits[6];
    uint32_t size = 0;
    do {
        digits[sizeof(digits) - ++size] = "0123456789ABCDEF"[code & 0xf];
        code >>= 4;
    } while (code > 0);
    notice_put(text, "\\x{");
    notice_put_slice(text, (struct smtp_slice){digits + sizeof(digits) - size, size});
    notice_put(text, "}");
}

static bool is_qchar(uint32_t code)
{
    return code > 0x20 && code < 0x7f && code != '+' && code != '=' && code != '\\';
}

enum { COLUMN_MAX = 900 };

/* utf-8-addr-xtext, which can be longer than a line may be: then it is cut. */
static void put_embedding(struct notice_text *text, struct smtp_slice address)
{
    for (uint32_t i = 0; i < address.size && text->column < COLUMN_MAX;) {
        const struct smtp_slice rest = {address.data + i, address.size - i};
        const struct character character = character_read(rest);
        if (!character_is_safe(character.code))
            notice_put(text, "?");
        else if (is_qchar(character.code))
            notice_put_slice(text, (struct smtp_slice){rest.data, 1});
        else
            put_embedded(text, character.code);
        i += character.size;
    }
}

static void put_international(struct notice_text *text, struct smtp_slice address)
{
    notice_put(text, "utf-8; ");
    if (text->is_utf8)
        notice_put_harmless(text, address, UINT32_MAX);
    else
        put_embedding(text, address);
}

void notice_put_typed_address(struct notice_text *text, struct smtp_slice address)
{
    const struct smtp_slice kept = {address.data,
                                    address.size < SMTP_PATH_MAX ? address.size : SMTP_PATH_MAX};
    if (!is_ascii(kept)) {
        put_international(text, kept);
        return;
    }
    notice_put(text, "rfc822; ");
    notice_put_harmless(text, kept, SMTP_PATH_MAX);
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* What `text` begins with, if that is "\x{…}" and stands for a character that may be written. */
static struct character read_embedded(struct smtp_slice text)
{
    const struct character none = {CHARACTER_INVALID, 1};
    uint32_t code = 0;
    uint32_t at = 3;
    if (text.size < 5 || memcmp(text.data, "\\x{", 3) != 0)
        return none;
    for (; at < text.size && at < 9 && hex_value(text.data[at]) >= 0; at++)
        code = code << 4 | (uint32_t)hex_value(text.data[at]);
    if (at == 3 || at == text.size || text.data[at] != '}' || !character_is_safe(code))
        return none;
    return (struct character){code, at + 1};
}

/* Both forms of RFC 6533 §3 become UTF-8, which is never longer; returns the size. */
static uint32_t decode_embedded(struct smtp_slice address, char into[static RECIPIENT_ORCPT_MAX])
{
    uint32_t size = 0;
    for (uint32_t i = 0; i < address.size;) {
        const struct character found = read_embedded((struct smtp_slice){address.data + i, address.size - i});
        if (found.code == CHARACTER_INVALID) {
            into[size++] = address.data[i++];
            continue;
        }
        char form[CHARACTER_FORM_MAX];
        const uint32_t form_size = character_write(found.code, form);
        memcpy(into + size, form, form_size);
        size += form_size;
        i += found.size;
    }
    assert(size <= address.size);
    return size;
}

static bool is_type(struct smtp_slice type)
{
    for (uint32_t i = 0; i < type.size; i++) {
        const char c = smtp_ascii_lower(type.data[i]);
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
            return false;
    }
    return type.size > 0;
}

bool notice_put_orcpt(struct notice_text *text, struct smtp_slice orcpt)
{
    char decoded[RECIPIENT_ORCPT_MAX];
    const char *semicolon = orcpt.size > 0 ? memchr(orcpt.data, ';', orcpt.size) : NULL;
    if (semicolon == NULL || orcpt.size > RECIPIENT_ORCPT_MAX)
        return false;
    const struct smtp_slice type = {orcpt.data, (uint32_t)(semicolon - orcpt.data)};
    const struct smtp_slice address = {semicolon + 1, orcpt.size - type.size - 1};
    if (!is_type(type) || address.size == 0)
        return false;
    if (smtp_slice_equals_nocase(type, SMTP_SLICE("utf-8"))) {
        const uint32_t size = decode_embedded(address, decoded);
        put_international(text, (struct smtp_slice){decoded, size});
        return true;
    }
    const int size = smtp_xtext_decode(address, decoded, sizeof(decoded));
    if (size <= 0)
        return false;
    notice_put_slice(text, type);
    notice_put(text, "; ");
    notice_put_harmless(text, (struct smtp_slice){decoded, (uint32_t)size}, RECIPIENT_ORCPT_MAX);
    return true;
}
