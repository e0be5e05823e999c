#include "proto/xtext.h"

#include "proto/octet.h"

#include <assert.h>

static int hex_value(char octet)
{
    if (octet_is(octet, OCTET_DIGIT))
        return octet - '0';
    return octet >= 'A' && octet <= 'F' ? octet - 'A' + 10 : -1;
}

/* The octet that stands at *at, which moves behind it; -1 if none may stand there. */
static int take_octet(struct smtp_slice text, uint32_t *at)
{
    char octet = text.data[(*at)++];

    assert(*at <= text.size);
    if (octet == '=' || !octet_is_graphic(octet))
        return -1;
    if (octet != '+')
        return octet;
    if (text.size - *at < 2)
        return -1;

    int high = hex_value(text.data[*at]);
    int low = hex_value(text.data[*at + 1]);
    int value = high * 16 + low;

    *at += 2;
    return high < 0 || low < 0 || value < ' ' || value == 0x7f ? -1 : value;
}

bool smtp_xtext_check(struct smtp_slice text)
{
    for (uint32_t at = 0; at < text.size;) {
        if (take_octet(text, &at) < 0)
            return false;
    }
    return true;
}

int smtp_xtext_decode(struct smtp_slice text, char *into, size_t capacity)
{
    size_t size = 0;

    assert(text.size <= INT32_MAX);
    assert(into != NULL || capacity == 0);
    for (uint32_t at = 0; at < text.size;) {
        int octet = take_octet(text, &at);

        if (octet < 0 || size == capacity)
            return -1;
        into[size++] = (char)octet;
    }
    assert(size <= text.size);
    return (int)size;
}
