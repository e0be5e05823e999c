#pragma once

/*
 * Characters of UTF-8 (RFC 3629), one at a time, and which of them may stand in a line that a person reads.
 * Only gateway/message/notice*.c include this. Pure.
 */

#include "proto/slice.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    CHARACTER_FORM_MAX = 4, /* octets of UTF-8 */
    CHARACTER_INVALID = 0xffffff,
};

struct character {
    uint32_t code; /* CHARACTER_INVALID: the first octet begins no character */
    uint32_t size; /* octets; 1 if there is no character */
};

/* The character that `text`, which is not empty, begins with. */
struct character character_read(struct smtp_slice text);

/* Writes the UTF-8 of a code point that character_is_safe; returns its size. */
uint32_t character_write(uint32_t code, char form[static CHARACTER_FORM_MAX]);

/* False for what is no character, for controls, and for what parts lines or turns the direction of what
 * follows it, which makes an address look like another. */
bool character_is_safe(uint32_t code);
