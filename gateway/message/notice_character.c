#include "gateway/message/notice_character.h"

#include <assert.h>

/* How many octets a character has that begins with this one; 0: none begins with it. */
static uint32_t form_size(uint8_t first)
{
    if (first < 0x80)
        return 1;
    if (first >= 0xc2 && first < 0xe0)
        return 2;
    if (first >= 0xe0 && first < 0xf0)
        return 3;
    return first >= 0xf0 && first < 0xf5 ? 4 : 0;
}

struct character character_read(struct smtp_slice text)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000}; /* what is less has a shorter form */
    const struct character invalid = {CHARACTER_INVALID, 1};
    assert(text.size > 0);
    const uint8_t first = (uint8_t)text.data[0];
    const uint32_t size = form_size(first);
    if (size == 0 || size > text.size)
        return invalid;
    if (size == 1)
        return (struct character){first, 1};
    uint32_t code = first & (0x7fu >> size);
    for (uint32_t i = 1; i < size; i++) {
        const uint8_t octet = (uint8_t)text.data[i];
        if ((octet & 0xc0) != 0x80)
            return invalid;
        code = code << 6 | (octet & 0x3f);
    }
    if (code < least[size] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        return invalid;
    return (struct character){code, size};
}

uint32_t character_write(uint32_t code, char form[static CHARACTER_FORM_MAX])
{
    static const uint8_t marks[] = {0, 0, 0xc0, 0xe0, 0xf0};
    assert(character_is_safe(code));
    if (code < 0x80) {
        form[0] = (char)code;
        return 1;
    }
    const uint32_t size = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (uint32_t i = size - 1; i > 0; i--, code >>= 6)
        form[i] = (char)(0x80 | (code & 0x3f));
    form[0] = (char)(marks[size] | code);
    return size;
}

bool character_is_safe(uint32_t code)
{
    if (code < 0x20 || (code >= 0x7f && code < 0xa0) || code > 0x10ffff)
        return false;
    if (code >= 0xd800 && code < 0xe000)
        return false;
    const bool is_separator = code == 0x2028 || code == 0x2029 || code == 0xfeff;
    const bool is_direction = code == 0x61c || code == 0x200e || code == 0x200f ||
                              (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
    return !is_separator && !is_direction && (code & 0xfffe) != 0xfffe;
}
