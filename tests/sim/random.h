/* The simulator's only source of chance: a seeded SplitMix64 stream. Each user has a stream of its own, so
 * that one more draw in one place does not change what happens in another. */
#pragma once

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

struct random {
    uint64_t state;
};

static inline uint64_t random_mix(uint64_t value)
{
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
    return value ^ (value >> 31);
}

static inline uint64_t random_next(struct random *random)
{
    random->state += 0x9e3779b97f4a7c15ULL;
    return random_mix(random->state);
}

/* 0 .. count-1 */
static inline uint64_t random_below(struct random *random, uint64_t count)
{
    assert(count > 0);
    return random_next(random) % count;
}

/* low .. high, both included */
static inline uint64_t random_between(struct random *random, uint64_t low, uint64_t high)
{
    assert(low <= high);
    return low + random_below(random, high - low + 1);
}

/* True once in `count` times. */
static inline bool random_one_in(struct random *random, uint64_t count)
{
    return random_below(random, count) == 0;
}

static inline bool random_percent(struct random *random, uint32_t percent)
{
    return random_below(random, 100) < percent;
}

/* low .. high, every order of magnitude as likely as the next: mostly small, sometimes large. */
static inline uint64_t random_skewed(struct random *random, uint64_t low, uint64_t high)
{
    assert(low <= high);
    uint32_t bits = 0;
    while (bits < 63 && (high - low) >> bits)
        bits++;
    uint64_t span = (1ULL << random_between(random, 0, bits)) - 1;
    uint64_t value = low + (span ? random_below(random, span + 1) : 0);
    return value > high ? high : value;
}

static inline struct random random_fork(struct random *random)
{
    return (struct random){.state = random_next(random)};
}
