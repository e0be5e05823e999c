#pragma once

/*
 * The two clocks of the gateway. Any thread may call.
 *
 * Time spans and deadlines are measured on the monotonic clock, in microseconds; what a human or a disk
 * reads is wall time, in milliseconds (or microseconds for the log) since 1970-01-01 UTC. The two are never
 * compared with each other.
 *
 * A worker reads the clock once a loop turn and passes the time on; these functions are for that one place.
 */

#include <assert.h>
#include <stdint.h>
#include <time.h>

static inline uint64_t clock_read_us(clockid_t clock)
{
    struct timespec now;
    int result = clock_gettime(clock, &now);
    assert(result == 0);
    assert(now.tv_sec >= 0);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* Monotonic time; never runs backwards, says nothing about the date. */
static inline uint64_t clock_monotonic_us(void)
{
    return clock_read_us(CLOCK_MONOTONIC);
}

/* Wall time; may jump when the system's clock is set. */
static inline uint64_t clock_wall_us(void)
{
    return clock_read_us(CLOCK_REALTIME);
}

static inline uint64_t clock_wall_ms(void)
{
    return clock_wall_us() / 1000;
}
