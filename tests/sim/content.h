/* What every message consists of, made from its number, so that the oracle needs no copy to compare with. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Call once before anything else. */
void content_init(void);

/* Writes octets offset .. offset+size-1 of the stream named `seed`. */
void content_fill(uint64_t seed, uint64_t offset, void *bytes, size_t size);

/* Whether the bytes are octets offset .. offset+size-1 of the stream. */
bool content_equal(uint64_t seed, uint64_t offset, const void *bytes, size_t size);
