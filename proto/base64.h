/*
 * Base64 with the standard alphabet, taken strictly (RFC 4648 §4), as SASL exchanges over SMTP use it.
 *
 * One text stands for one run of octets and no other text does: padding must be there and complete, unused
 * bits must be zero, and nothing is skipped. Pure; any thread may call it.
 */
#pragma once

#include "proto/slice.h"

#include <stddef.h>

/* Octets that so many octets become; and the most that a text of so many octets can stand for. */
#define SMTP_BASE64_ENCODED_SIZE(size) (((size) + 2) / 3 * 4)
#define SMTP_BASE64_DECODED_MAX(size)  ((size) / 4 * 3)

/*
 * Writes what `text` stands for to `into`. Returns its size in octets (no NUL is added; 0 for the empty
 * text), or -1 for an octet outside the alphabet, bad padding, unused bits that are not zero, or no room in
 * `capacity`; then what `into` holds is of no use. `into` may be the memory of the text itself.
 */
int smtp_base64_decode(struct smtp_slice text, char *into, size_t capacity)
    __attribute__((warn_unused_result));

/*
 * Writes the text for `size` octets to `into`. Returns its size in octets (no NUL is added), or 0 if it does
 * not fit into `capacity` or `size` is 0. `octets` may be NULL only if size is 0; the two must not overlap.
 */
size_t smtp_base64_encode(const void *octets, size_t size, char *into, size_t capacity)
    __attribute__((warn_unused_result));
