/*
 * Classes of octets that the grammars are made of. Constant data, private to proto/; any thread may read it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum octet_class {
    OCTET_ATEXT = 1 << 0,  /* an atom of a local part (RFC 5322 §3.2.3) */
    OCTET_LETDIG = 1 << 1, /* ALPHA, DIGIT and, as hosts do have it, "_" */
    OCTET_DIGIT = 1 << 2,  /* "0" to "9" */
    OCTET_HEX = 1 << 3,    /* a digit of an IPv6 address */
    OCTET_QTEXT = 1 << 4,  /* stands for itself in a quoted string (RFC 5321 §4.1.2) */
    OCTET_HELLO = 1 << 5,  /* may be in the argument of EHLO: nothing that a header field would misread */
    OCTET_VALUE = 1 << 6,  /* may be in the value of a parameter (RFC 5321 §4.1.2, esmtp-value) */
    OCTET_FIELD = 1 << 7,  /* may be in the name of a header field (RFC 5322 §3.6.8, ftext) */
};

extern const uint8_t smtp_octet_classes[256];

static inline bool octet_is(char octet, enum octet_class class)
{
    return (smtp_octet_classes[(uint8_t)octet] & class) != 0;
}

static inline bool octet_is_ascii(char octet)
{
    return (uint8_t)octet < 0x80;
}
