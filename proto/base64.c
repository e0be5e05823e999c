#include "proto/base64.h"

#include <assert.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* The six bits that an octet stands for, or -1. */
static int bits_of(char octet)
{
    if (octet >= 'A' && octet <= 'Z')
        return octet - 'A';
    if (octet >= 'a' && octet <= 'z')
        return octet - 'a' + 26;
    if (octet >= '0' && octet <= '9')
        return octet - '0' + 52;
    if (octet == '+')
        return 62;
    return octet == '/' ? 63 : -1;
}

/* The 24 bits of a group of which the last `padding` octets are "=", or -1. */
static int32_t group_bits(const char *group, unsigned padding)
{
    int32_t bits = 0;

    assert(padding <= 2);
    for (unsigned i = 0; i < 4; i++) {
        int six = i < 4 - padding ? bits_of(group[i]) : 0;

        if (six < 0)
            return -1;
        bits = bits << 6 | six;
    }
    /* What padding leaves over must be nothing, or one value could be written in several ways. */
    return (bits & ((1 << 8 * padding) - 1)) == 0 ? bits : -1;
}

static unsigned padding_of(struct smtp_slice text)
{
    if (text.size == 0 || text.data[text.size - 1] != '=')
        return 0;
    return text.data[text.size - 2] == '=' ? 2 : 1;
}

int smtp_base64_decode(struct smtp_slice text, char *into, size_t capacity)
{
    size_t size = 0;

    assert(text.size <= INT32_MAX);
    assert(into != NULL || capacity == 0);
    if (text.size % 4 != 0)
        return -1;

    unsigned padding_last = padding_of(text);

    for (uint32_t at = 0; at < text.size; at += 4) {
        unsigned padding = at + 4 == text.size ? padding_last : 0;
        int32_t bits = group_bits(text.data + at, padding);

        if (bits < 0 || capacity - size < 3 - padding)
            return -1;
        for (unsigned i = 0; i < 3 - padding; i++)
            into[size++] = (char)(uint8_t)(bits >> (16 - 8 * i));
    }
    assert(size <= SMTP_BASE64_DECODED_MAX(text.size));
    return (int)size;
}

/* Writes the four octets for one to three. */
static void encode_group(const uint8_t *octets, size_t size, char *into)
{
    uint32_t bits = 0;

    assert(size >= 1 && size <= 3);
    for (size_t i = 0; i < 3; i++)
        bits = bits << 8 | (i < size ? octets[i] : 0);
    for (size_t i = 0; i < 4; i++)
        into[i] = i <= size ? alphabet[bits >> (18 - 6 * i) & 63] : '=';
}

size_t smtp_base64_encode(const void *octets, size_t size, char *into, size_t capacity)
{
    const uint8_t *bytes = octets;
    size_t written = 0;

    assert(octets != NULL || size == 0);
    if (size > capacity || SMTP_BASE64_ENCODED_SIZE(size) > capacity)
        return 0;
    for (size_t at = 0; at < size; at += 3, written += 4)
        encode_group(bytes + at, size - at < 3 ? size - at : 3, into + written);
    assert(written == SMTP_BASE64_ENCODED_SIZE(size));
    return written;
}
