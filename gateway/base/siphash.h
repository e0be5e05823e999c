#pragma once

/*
 * A hash with a secret key (SipHash-2-4: Aumasson and Bernstein, 2012), for tables whose keys strangers
 * choose: without the key nobody can find inputs that collide. Pure; any thread may call.
 */

#include <stddef.h>
#include <stdint.h>

struct siphash_key {
    uint64_t words[2];
};

/* Every bit of the result is as good as any other. */
uint64_t siphash(const struct siphash_key *key, const void *bytes, size_t size);
