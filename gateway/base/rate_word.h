#pragma once

/*
 * The two 64-bit words of an entry of the rate table, taken apart and put together. Pure functions; only
 * rate_table.c and its tests include this.
 *
 *     state   generation 22 | used 20 | open 20 | status 2
 *     event   generation  6 | window 14 | count of the window before 22 | count of the window 22
 *
 * `used` counts quarters of a second and wraps in three days, `window` counts minutes and wraps in eleven: an
 * entry that nobody touched for just that long looks as if it had been used just now, which costs nothing
 * but one wrong guess.
 */

#include <assert.h>
#include <stdint.h>

#include "gateway/base/rate_table.h"

enum rate_status { RATE_FREE, RATE_FILLING, RATE_TENTATIVE, RATE_COMMITTED };

enum {
    STATUS_BITS = 2,
    OPEN_BITS = 20,
    USED_BITS = 20,
    GENERATION_BITS = 22,
    OPEN_SHIFT = STATUS_BITS,
    USED_SHIFT = OPEN_SHIFT + OPEN_BITS,
    GENERATION_SHIFT = USED_SHIFT + USED_BITS,
    USED_MASK = (1 << USED_BITS) - 1,
    GENERATION_MASK = (1 << GENERATION_BITS) - 1,
    USED_UNIT_MS = 256,
    USED_SKEW = 64, /* a use by a thread whose clock is at most this far ahead is not an old one */
};

_Static_assert(GENERATION_SHIFT + GENERATION_BITS == 64, "a state fills its word");
_Static_assert(RATE_OPEN_MAX == (1 << OPEN_BITS) - 1, "the greatest count of what is open");

static inline uint64_t state_pack(enum rate_status status, uint32_t open, uint32_t used, uint32_t generation)
{
    assert(open <= RATE_OPEN_MAX && used <= USED_MASK);
    return (uint64_t)status | (uint64_t)open << OPEN_SHIFT | (uint64_t)used << USED_SHIFT |
           (uint64_t)(generation & GENERATION_MASK) << GENERATION_SHIFT;
}

static inline enum rate_status state_status(uint64_t state)
{
    return (enum rate_status)(state & ((1 << STATUS_BITS) - 1));
}

static inline uint32_t state_open(uint64_t state)
{
    return state >> OPEN_SHIFT & RATE_OPEN_MAX;
}

static inline uint32_t state_used(uint64_t state)
{
    return state >> USED_SHIFT & USED_MASK;
}

static inline uint32_t state_generation(uint64_t state)
{
    return (uint32_t)(state >> GENERATION_SHIFT);
}

static inline uint64_t state_with_status(uint64_t state, enum rate_status status)
{
    return state_pack(status, state_open(state), state_used(state), state_generation(state));
}

static inline uint64_t state_with_open(uint64_t state, uint32_t open)
{
    return state_pack(state_status(state), open, state_used(state), state_generation(state));
}

static inline uint64_t state_with_used(uint64_t state, uint32_t used)
{
    return state_pack(state_status(state), state_open(state), used, state_generation(state));
}

/* The time as `used` holds it. */
static inline uint32_t used_time(uint64_t now_ms)
{
    return now_ms / USED_UNIT_MS & USED_MASK;
}

/* How long ago the last use was, in units of `used`. */
static inline uint32_t state_age(uint64_t state, uint32_t now)
{
    uint32_t age = (now - state_used(state)) & USED_MASK;
    return age > USED_MASK - USED_SKEW ? 0 : age;
}

enum {
    COUNT_BITS = 22,
    WINDOW_BITS = 14,
    EVENT_GENERATION_BITS = 6,
    PREVIOUS_SHIFT = COUNT_BITS,
    WINDOW_SHIFT = PREVIOUS_SHIFT + COUNT_BITS,
    EVENT_GENERATION_SHIFT = WINDOW_SHIFT + WINDOW_BITS,
    WINDOW_MASK = (1 << WINDOW_BITS) - 1,
    WINDOW_MS = 60000,
};

_Static_assert(EVENT_GENERATION_SHIFT + EVENT_GENERATION_BITS == 64, "an event fills its word");
_Static_assert(RATE_COUNT_MAX == (1 << COUNT_BITS) - 1, "the greatest count of events");

/* Nothing has happened yet. */
static inline uint64_t event_new(uint32_t generation)
{
    return (uint64_t)generation << EVENT_GENERATION_SHIFT;
}

static inline uint32_t event_generation(uint64_t event)
{
    return (uint32_t)(event >> EVENT_GENERATION_SHIFT);
}

/* An event's counts as they stand at some time. */
struct event_counts {
    uint32_t window;
    uint32_t elapsed_ms; /* of the window */
    uint32_t previous;
    uint32_t current;
};

static inline struct event_counts event_counts_at(uint64_t event, uint64_t now_ms)
{
    uint32_t current = event & RATE_COUNT_MAX;
    uint32_t window = event >> WINDOW_SHIFT & WINDOW_MASK;
    struct event_counts counts = {
        .window = now_ms / WINDOW_MS & WINDOW_MASK,
        .elapsed_ms = now_ms % WINDOW_MS,
    };
    uint32_t passed = (counts.window - window) & WINDOW_MASK;
    if (passed == 0 || passed == WINDOW_MASK) {
        counts.previous = event >> PREVIOUS_SHIFT & RATE_COUNT_MAX;
        counts.current = current;
    } else if (passed == 1) {
        counts.previous = current;
    }
    /* Another thread's clock is ahead and has begun the window already. */
    if (passed == WINDOW_MASK) {
        counts.window = window;
        counts.elapsed_ms = 0;
    }
    return counts;
}

static inline uint64_t event_add(uint64_t event, uint32_t n, uint64_t now_ms)
{
    struct event_counts counts = event_counts_at(event, now_ms);
    uint64_t current = (uint64_t)counts.current + n;
    if (current > RATE_COUNT_MAX)
        current = RATE_COUNT_MAX;
    return event_new(event_generation(event)) | (uint64_t)counts.window << WINDOW_SHIFT |
           (uint64_t)counts.previous << PREVIOUS_SHIFT | current;
}

/* The events of the last 60 s: see rate_add. */
static inline uint32_t event_sum(uint64_t event, uint64_t now_ms)
{
    struct event_counts counts = event_counts_at(event, now_ms);
    uint64_t covered_ms = WINDOW_MS - counts.elapsed_ms;
    uint64_t sum = counts.current + (counts.previous * covered_ms + WINDOW_MS - 1) / WINDOW_MS;
    return sum < RATE_COUNT_MAX ? (uint32_t)sum : RATE_COUNT_MAX;
}
