#pragma once

/*
 * Message ids as text: 64 bits as 13 characters of Crockford's base32 in lower case (0-9 a-z without i l o
 * u).
 *
 * Every number has one text of fixed length, and the texts sort as the numbers do. Any thread may call.
 */

#include <stddef.h>
#include <stdint.h>

enum { ID_TEXT_SIZE = 13 };

/* Writes exactly ID_TEXT_SIZE characters, without a terminating zero. */
void id_format(uint64_t id, char text[static ID_TEXT_SIZE]);

/* Reads exactly ID_TEXT_SIZE characters; capitals are read as small letters.
   -EINVAL for any other length or character, and for a number beyond 64 bits. */
int id_parse(const char *text, size_t size, uint64_t *id) __attribute__((warn_unused_result));
