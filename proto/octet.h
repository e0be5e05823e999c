/*
 * Classes of octets that the grammars are made of. Constant data, private to proto/; any thread may read it.
 */
#pragma once

#include "proto/slice.h"

#include <assert.h>
#include <stddef.h>

enum octet_class {
    OCTET_ATEXT = 1 << 0,  /* an atom of a local part (RFC 5322 §3.2.3) */
    OCTET_LETDIG = 1 << 1, /* ALPHA, DIGIT and, as hosts do have it, "_" */
    OCTET_DIGIT = 1 << 2,  /* "0" to "9" */
    OCTET_HEX = 1 << 3,    /* a digit of an IPv6 address */
    OCTET_QTEXT = 1 << 4,  /* stands for itself in a quoted string (RFC 5321 §4.1.2) */
    OCTET_HELLO = 1 << 5,  /* may be in the argument of EHLO: nothing that a header field would misread */
    OCTET_VALUE = 1 << 6,  /* may be in the value of a parameter (RFC 5321 §4.1.2, esmtp-value) */
    OCTET_FIELD = 1 << 7,  /* may be in the name of a header field (RFC 5322 §3.6.8, ftext) */
    OCTET_LABEL = 1 << 8,  /* OCTET_LETDIG and "-" */
};

extern const uint16_t smtp_octet_classes[256];

static inline bool octet_is(char octet, enum octet_class class)
{
    return (smtp_octet_classes[(uint8_t)octet] & class) != 0;
}

static inline bool octet_is_ascii(char octet)
{
    return (uint8_t)octet < 0x80;
}

/* ASCII, visible, and no space. */
static inline bool octet_is_graphic(char octet)
{
    return octet > ' ' && octet < 0x7f;
}

static inline bool octet_all_are(struct smtp_slice text, enum octet_class class)
{
    for (uint32_t i = 0; i < text.size; i++) {
        if (!octet_is(text.data[i], class))
            return false;
    }
    return true;
}

/* The place of the first `octet`, or the size of the text if there is none. */
static inline uint32_t octet_find(struct smtp_slice text, char octet)
{
    const char *found = text.size > 0 ? memchr(text.data, octet, text.size) : NULL;

    return found != NULL ? (uint32_t)(found - text.data) : text.size;
}

/* The text without its first `size` octets, which must be there. */
static inline struct smtp_slice octet_skip(struct smtp_slice text, uint32_t size)
{
    assert(size <= text.size);
    return (struct smtp_slice){text.data + size, text.size - size};
}

/*
 * The size of the UTF-8 form of one character beyond ASCII at the beginning of the `size` octets (RFC 3629
 * §4); 0 if there is none, or a surrogate, an overlong form, or a C1 control, which some terminals obey.
 */
unsigned octet_utf8(const char *octets, size_t size);
