#include "proto/ip.h"

#include "proto/octet.h"

#include <assert.h>

bool smtp_decimal_parse(struct smtp_slice text, uint32_t most, uint32_t *number)
{
    uint64_t value = 0;

    if (text.size == 0 || text.size > 10 || (text.data[0] == '0' && text.size > 1))
        return false;
    for (uint32_t i = 0; i < text.size; i++) {
        if (!octet_is(text.data[i], OCTET_DIGIT))
            return false;
        value = value * 10 + (uint64_t)(text.data[i] - '0');
    }
    if (value > most)
        return false;
    *number = (uint32_t)value;
    return true;
}

/* Takes the octets in front of the next `mark`, or all, off the front of *rest; true if the mark was there.
 */
static bool split(struct smtp_slice *rest, char mark, struct smtp_slice *part)
{
    const char *found = rest->size > 0 ? memchr(rest->data, mark, rest->size) : NULL;

    if (found == NULL) {
        *part = *rest;
        *rest = (struct smtp_slice){0};
        return false;
    }
    *part = (struct smtp_slice){rest->data, (uint32_t)(found - rest->data)};
    *rest = (struct smtp_slice){found + 1, rest->size - part->size - 1};
    return true;
}

bool smtp_ipv4_parse(struct smtp_slice text, uint8_t octets[4])
{
    uint8_t parsed[4];

    for (unsigned i = 0; i < 4; i++) {
        struct smtp_slice part;
        uint32_t number = 0;

        if (split(&text, '.', &part) != (i < 3) || !smtp_decimal_parse(part, 255, &number))
            return false;
        parsed[i] = (uint8_t)number;
    }
    memcpy(octets, parsed, sizeof(parsed));
    return true;
}

/* What was read of an IPv6 address: octets on both sides of the "::", if there was one. */
struct groups {
    uint8_t octets[16];
    unsigned size;
    unsigned gap; /* octets in front of the "::" */
    bool has_gap;
};

static bool add_group(struct groups *groups, struct smtp_slice text)
{
    unsigned value = 0;

    if (text.size == 0 || text.size > 4 || groups->size > 14)
        return false;
    for (uint32_t i = 0; i < text.size; i++) {
        char digit = smtp_ascii_lower(text.data[i]);

        if (!octet_is(digit, OCTET_HEX))
            return false;
        value = value << 4 | (unsigned)(octet_is(digit, OCTET_DIGIT) ? digit - '0' : digit - 'a' + 10);
    }
    groups->octets[groups->size++] = (uint8_t)(value >> 8);
    groups->octets[groups->size++] = (uint8_t)value;
    return true;
}

/* The last group, or the IPv4 address in place of the last two. */
static bool add_last(struct groups *groups, struct smtp_slice text)
{
    if (text.size == 0 || memchr(text.data, '.', text.size) == NULL)
        return add_group(groups, text);
    if (groups->size > 12 || !smtp_ipv4_parse(text, groups->octets + groups->size))
        return false;
    groups->size += 4;
    return true;
}

static bool take_gap(struct groups *groups)
{
    if (groups->has_gap)
        return false;
    groups->has_gap = true;
    groups->gap = groups->size;
    return true;
}

static bool read_groups(struct groups *groups, struct smtp_slice text)
{
    struct smtp_slice part;

    if (text.size >= 2 && text.data[0] == ':' && text.data[1] == ':') {
        text = (struct smtp_slice){text.data + 2, text.size - 2};
        take_gap(groups);
        if (text.size == 0)
            return true;
    }
    while (split(&text, ':', &part)) {
        if (!add_group(groups, part))
            return false;
        if (text.size == 0 || text.data[0] != ':')
            continue;
        text = (struct smtp_slice){text.data + 1, text.size - 1};
        if (!take_gap(groups))
            return false;
        if (text.size == 0)
            return true;
    }
    return add_last(groups, part);
}

bool smtp_ipv6_parse(struct smtp_slice text, uint8_t octets[16])
{
    struct groups groups = {0};

    if (!read_groups(&groups, text))
        return false;
    assert(groups.size <= 16 && groups.gap <= groups.size);
    if (groups.has_gap ? groups.size > 14 : groups.size < 16)
        return false;
    if (!groups.has_gap)
        groups.gap = 16;

    unsigned behind = groups.size - groups.gap;

    memset(octets, 0, 16);
    memcpy(octets, groups.octets, groups.gap);
    memcpy(octets + 16 - behind, groups.octets + groups.gap, behind);
    return true;
}
