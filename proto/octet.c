#include "proto/octet.h"

/* Each row of the table is worked out by the compiler from these rules, so that no row can be mistyped. */
#define UPPER(c)   ((c) >= 'A' && (c) <= 'Z')
#define LOWER(c)   ((c) >= 'a' && (c) <= 'z')
#define DIGIT(c)   ((c) >= '0' && (c) <= '9')
#define ALNUM(c)   (UPPER(c) || LOWER(c) || DIGIT(c))
#define GRAPHIC(c) ((c) > ' ' && (c) < 0x7f)
#define SPECIAL(c)                                                                                           \
    ((c) == '(' || (c) == ')' || (c) == '<' || (c) == '>' || (c) == ',' || (c) == ';' || (c) == '"' ||       \
     (c) == '\\')

#define ATEXT(c)                                                                                             \
    (GRAPHIC(c) && !SPECIAL(c) && (c) != '[' && (c) != ']' && (c) != ':' && (c) != '@' && (c) != '.')
#define HEX(c)   (DIGIT(c) || ((c) >= 'A' && (c) <= 'F') || ((c) >= 'a' && (c) <= 'f'))
#define QTEXT(c) ((GRAPHIC(c) || (c) == ' ') && (c) != '"' && (c) != '\\')

#define ROW(c)                                                                                               \
    (uint16_t)((ATEXT(c) ? OCTET_ATEXT : 0) | (ALNUM(c) || (c) == '_' ? OCTET_LETDIG : 0) |                  \
               (DIGIT(c) ? OCTET_DIGIT : 0) | (HEX(c) ? OCTET_HEX : 0) | (QTEXT(c) ? OCTET_QTEXT : 0) |      \
               (GRAPHIC(c) && !SPECIAL(c) ? OCTET_HELLO : 0) |                                               \
               (GRAPHIC(c) && (c) != '=' ? OCTET_VALUE : 0) | (GRAPHIC(c) && (c) != ':' ? OCTET_FIELD : 0) | \
               (ALNUM(c) || (c) == '_' || (c) == '-' ? OCTET_LABEL : 0))
#define ROWS_4(c)  ROW(c), ROW((c) + 1), ROW((c) + 2), ROW((c) + 3)
#define ROWS_16(c) ROWS_4(c), ROWS_4((c) + 4), ROWS_4((c) + 8), ROWS_4((c) + 12)

/* Octets above 127 are in no class. */
const uint16_t smtp_octet_classes[256] = {
    ROWS_16(0x00), ROWS_16(0x10), ROWS_16(0x20), ROWS_16(0x30),
    ROWS_16(0x40), ROWS_16(0x50), ROWS_16(0x60), ROWS_16(0x70),
};

/* U+D800 to U+DFFF are surrogates; below `least` a shorter form would do; the last character is U+10FFFF. */
unsigned octet_utf8(const char *octets, size_t size)
{
    uint8_t first = size > 0 ? (uint8_t)octets[0] : 0;
    unsigned length = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
    uint32_t least = length == 2 ? 0xa0 : length == 3 ? 0x800 : 0x10000;
    uint32_t character = first & (0x7fu >> length);

    if (length == 0 || length > size)
        return 0;
    for (unsigned i = 1; i < length; i++) {
        if (((uint8_t)octets[i] & 0xc0) != 0x80)
            return 0;
        character = character << 6 | ((uint8_t)octets[i] & 0x3f);
    }
    return character < least || character > 0x10ffff || (character & ~0x7ffu) == 0xd800 ? 0 : length;
}
