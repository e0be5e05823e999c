/*
 * A slice is a run of octets that somebody else owns.
 *
 * It is never terminated by a NUL, may hold any octet, and lives as long as the memory it points into:
 * each function that hands one out says how long that is. The helpers are pure and may be called from any
 * thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct smtp_slice {
    const char *data; /* may be NULL only when size is 0 */
    uint32_t size;    /* octets */
};

/* A slice of a string literal, without its terminating NUL. */
#define SMTP_SLICE(literal) ((struct smtp_slice){(literal), sizeof(literal) - 1})

/* The lower-case form of an ASCII letter; every other octet is returned as it is, whatever the locale. */
static inline char smtp_ascii_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static inline bool smtp_slice_equals(struct smtp_slice a, struct smtp_slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* Equality that takes ASCII letters of either case for the same (RFC 5321 §2.4). */
static inline bool smtp_slice_equals_nocase(struct smtp_slice a, struct smtp_slice b)
{
    if (a.size != b.size)
        return false;
    for (uint32_t i = 0; i < a.size; i++) {
        if (smtp_ascii_lower(a.data[i]) != smtp_ascii_lower(b.data[i]))
            return false;
    }
    return true;
}
