/*
 * A meter lets no more than so many of something begin in any span of time, and spreads them evenly: the
 * generic cell rate algorithm (ITU-T I.371, annex A), which needs no history. Pure; who holds it calls it.
 */
#pragma once

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#define METER_NS_PER_US UINT64_C(1000)

/* All in nanoseconds of the caller's clock. */
struct meter {
    uint64_t interval_ns;  /* from one to the next; 0: no limit */
    uint64_t tolerance_ns; /* by how much one may come before it is due */
    uint64_t due_ns;       /* when the next one is due, if they keep their distance */
};

/*
 * Of what conforms, n begin within a span only if n - 1 intervals are no longer than span and tolerance
 * together. So `limit` intervals longer than both keep the limit in every span. They are a hundredth longer
 * still, because the far side sees the beginnings with the jitter of the network. `limit` 0: none. What has
 * begun counts on when the limit rises; a limit that falls, or is new, holds in spans that start now.
 */
static inline void meter_set(struct meter *meter, uint32_t limit, uint64_t span_us, uint64_t now_us)
{
    uint64_t old_interval_ns = meter->interval_ns;
    uint64_t now_ns = now_us * METER_NS_PER_US;
    if (limit == 0) {
        *meter = (struct meter){0};
        return;
    }
    uint64_t span_ns = span_us * METER_NS_PER_US;
    meter->tolerance_ns = span_ns / 50;
    meter->interval_ns = (span_ns + span_ns / 100 + meter->tolerance_ns) / limit + 1;
    if (old_interval_ns == 0 || meter->due_ns < now_ns) {
        meter->due_ns = now_ns;
    } else if (meter->interval_ns < old_interval_ns) {
        /* What is ahead of time shrinks with the interval, or a limit that rose would be felt late. */
        double part = (double)meter->interval_ns / (double)old_interval_ns;
        meter->due_ns = now_ns + (uint64_t)((double)(meter->due_ns - now_ns) * part) + 1;
    }
    assert(span_ns + meter->tolerance_ns < meter->interval_ns * limit);
}

/* When the next one may begin, in microseconds. */
static inline uint64_t meter_at(const struct meter *meter)
{
    if (meter->interval_ns == 0 || meter->due_ns <= meter->tolerance_ns)
        return 0;
    return (meter->due_ns - meter->tolerance_ns + METER_NS_PER_US - 1) / METER_NS_PER_US;
}

/* It is as good as new: nothing that began is remembered. */
static inline bool meter_is_at_rest(const struct meter *meter, uint64_t now_us)
{
    return meter->interval_ns == 0 || meter->due_ns <= now_us * METER_NS_PER_US;
}

/* One begins now. */
static inline void meter_take(struct meter *meter, uint64_t now_us)
{
    if (meter->interval_ns == 0)
        return;
    uint64_t now_ns = now_us * METER_NS_PER_US;
    meter->due_ns = (meter->due_ns > now_ns ? meter->due_ns : now_ns) + meter->interval_ns;
}
