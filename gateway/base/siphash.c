#include "gateway/base/siphash.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

struct sip {
    uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotate_left(uint64_t word, unsigned bits)
{
    return word << bits | word >> (64 - bits);
}

static inline void mix(struct sip *sip)
{
    sip->v0 += sip->v1;
    sip->v2 += sip->v3;
    sip->v1 = rotate_left(sip->v1, 13) ^ sip->v0;
    sip->v3 = rotate_left(sip->v3, 16) ^ sip->v2;
    sip->v0 = rotate_left(sip->v0, 32) + sip->v3;
    sip->v2 += sip->v1;
    sip->v3 = rotate_left(sip->v3, 21) ^ sip->v0;
    sip->v1 = rotate_left(sip->v1, 17) ^ sip->v2;
    sip->v2 = rotate_left(sip->v2, 32);
}

static inline void absorb(struct sip *sip, uint64_t word)
{
    sip->v3 ^= word;
    mix(sip);
    mix(sip);
    sip->v0 ^= word;
}

static inline uint64_t little_endian(const unsigned char *bytes, size_t size)
{
    assert(size < 8);
    uint64_t word = 0;
    for (size_t index = 0; index < size; index++)
        word |= (uint64_t)bytes[index] << (8 * index);
    return word;
}

uint64_t siphash(const struct siphash_key *key, const void *bytes, size_t size)
{
    struct sip sip = {
        .v0 = key->words[0] ^ 0x736f6d6570736575ULL,
        .v1 = key->words[1] ^ 0x646f72616e646f6dULL,
        .v2 = key->words[0] ^ 0x6c7967656e657261ULL,
        .v3 = key->words[1] ^ 0x7465646279746573ULL,
    };
    const unsigned char *cursor = bytes;
    size_t left = size;
    for (; left >= sizeof(uint64_t); left -= sizeof(uint64_t), cursor += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, cursor, sizeof(word));
        absorb(&sip, le64toh(word));
    }
    absorb(&sip, little_endian(cursor, left) | (uint64_t)size << 56);
    sip.v2 ^= 0xff;
    for (unsigned round = 0; round < 4; round++)
        mix(&sip);
    return sip.v0 ^ sip.v1 ^ sip.v2 ^ sip.v3;
}
