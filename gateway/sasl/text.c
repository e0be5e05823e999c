#include "gateway/sasl/text.h"

#include "gateway/sasl/users.h"

#include <stdint.h>

struct range {
    uint32_t first;
    uint32_t last;
};

/* Spaces (RFC 3454 C.1.2), and characters without a shape of their own (B.1, C.8, C.9). */
static const struct range hidden_ranges[] = {
    {0x20, 0x20},     {0xa0, 0xa0},     {0xad, 0xad},     {0x34f, 0x34f},
    {0x61c, 0x61c},   {0x1680, 0x1680}, {0x1806, 0x1806}, {0x180b, 0x180e},
    {0x2000, 0x200f}, {0x2028, 0x202f}, {0x205f, 0x206f}, {0x3000, 0x3000},
    {0xfe00, 0xfe0f}, {0xfeff, 0xfeff}, {0xfff9, 0xfffd}, {0xe0000, 0xe0fff},
};

static bool is_hidden(uint32_t character)
{
    for (size_t index = 0; index < sizeof(hidden_ranges) / sizeof(hidden_ranges[0]); index++) {
        if (character >= hidden_ranges[index].first && character <= hidden_ranges[index].last)
            return true;
    }
    return false;
}

static bool is_control(uint32_t character)
{
    return character < 0x20 || (character >= 0x7f && character <= 0x9f);
}

static bool is_noncharacter(uint32_t character)
{
    return (character & 0xfffe) == 0xfffe || (character >= 0xfdd0 && character <= 0xfdef);
}

/* The octets of the sequence that `lead` begins, by RFC 3629 §4; 0: none begins so. */
static size_t sequence_size(unsigned char lead)
{
    if (lead < 0x80)
        return 1;
    if (lead >= 0xc2 && lead <= 0xdf)
        return 2;
    if (lead >= 0xe0 && lead <= 0xef)
        return 3;
    return lead >= 0xf0 && lead <= 0xf4 ? 4 : 0;
}

/* Reads one character; returns its octets, or 0 when they are not UTF-8. */
static size_t read_character(const char *text, size_t size, uint32_t *character)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char lead = (unsigned char)text[0];
    size_t length = sequence_size(lead);
    if (length == 0 || length > size)
        return 0;
    uint32_t value = length == 1 ? lead : lead & (0x7fU >> length);
    for (size_t index = 1; index < length; index++) {
        unsigned char next = (unsigned char)text[index];
        if ((next & 0xc0) != 0x80)
            return 0;
        value = value << 6 | (next & 0x3f);
    }
    bool is_surrogate = value >= 0xd800 && value <= 0xdfff;
    if (value < smallest[length] || value > 0x10ffff || is_surrogate)
        return 0;
    *character = value;
    return length;
}

bool sasl_text_is_valid(const char *text, size_t size)
{
    if (size == 0)
        return false;
    while (size > 0) {
        uint32_t character;
        size_t length = read_character(text, size, &character);
        if (length == 0 || is_control(character) || is_noncharacter(character))
            return false;
        text += length;
        size -= length;
    }
    return true;
}

bool sasl_name_is_valid(const char *name, size_t size)
{
    if (size > USER_NAME_MAX || !sasl_text_is_valid(name, size))
        return false;
    if (name[0] == '#' || (size == 1 && name[0] == '*'))
        return false;
    while (size > 0) {
        uint32_t character = 0;
        size_t length = read_character(name, size, &character);
        if (character == ':' || is_hidden(character))
            return false;
        name += length;
        size -= length;
    }
    return true;
}
