#include "tests/sim/content.h"

#include <assert.h>
#include <string.h>

#include "tests/sim/random.h"

/* All streams are windows into one table of noise, which makes comparing as cheap as memcmp. Two streams
 * begin at different places, so a shifted, swapped or foreign run of more than a few octets never compares
 * equal. */
enum { TABLE_SIZE = 1 << 20 };

static uint8_t table[2 * TABLE_SIZE];

void content_init(void)
{
    struct random random = {.state = 20260101};

    for (size_t i = 0; i < TABLE_SIZE; i += 8) {
        uint64_t word = random_next(&random);
        memcpy(table + i, &word, 8);
    }
    memcpy(table + TABLE_SIZE, table, TABLE_SIZE);
}

static const uint8_t *window(uint64_t seed, uint64_t offset)
{
    return table + (random_mix(seed ^ 0x5bd1e9955bd1e995ULL) + offset) % TABLE_SIZE;
}

void content_fill(uint64_t seed, uint64_t offset, void *bytes, size_t size)
{
    uint8_t *to = bytes;

    while (size > 0) {
        size_t part = size < TABLE_SIZE ? size : TABLE_SIZE;
        memcpy(to, window(seed, offset), part);
        to += part;
        offset += part;
        size -= part;
    }
}

bool content_equal(uint64_t seed, uint64_t offset, const void *bytes, size_t size)
{
    const uint8_t *at = bytes;

    while (size > 0) {
        size_t part = size < TABLE_SIZE ? size : TABLE_SIZE;
        if (memcmp(at, window(seed, offset), part) != 0)
            return false;
        at += part;
        offset += part;
        size -= part;
    }
    return true;
}
