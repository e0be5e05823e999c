#pragma once

/*
 * Counters: what the gateway did, for `stats` in the log.
 *
 * Each worker owns one `struct counters` and is the only writer of it; any thread may read at any time. The
 * accesses are relaxed: a reader sees each counter at some recent value, not all of them at one instant.
 * A gauge (its help says "now") goes down too; a worker's share of a gauge never falls below zero, because
 * what a worker opened it closes.
 */

#include <assert.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum counter {
#define COUNTER(name, help) COUNTER_##name,
#include "gateway/base/counters.def"
    COUNTER_COUNT
};

/* Begins and ends on cache lines of its own, so that workers do not slow each other down. */
struct counters {
    alignas(64) _Atomic uint64_t values[COUNTER_COUNT];
};

_Static_assert(sizeof(struct counters) % 64 == 0, "two workers would share a cache line");

/* Sets every counter to zero; owner thread, before others read. */
void counters_init(struct counters *counters);

/* Name as in the log, and one sentence of help. Any thread. */
const char *counter_name(enum counter counter);
const char *counter_help(enum counter counter);

/* Owner thread. A plain load and store instead of a locked add: there is no other writer. */
static inline void counter_add(struct counters *counters, enum counter counter, uint64_t amount)
{
    _Atomic uint64_t *value = &counters->values[counter];
    uint64_t old = atomic_load_explicit(value, memory_order_relaxed);
    atomic_store_explicit(value, old + amount, memory_order_relaxed);
}

/* Owner thread; for gauges. */
static inline void counter_subtract(struct counters *counters, enum counter counter, uint64_t amount)
{
    _Atomic uint64_t *value = &counters->values[counter];
    uint64_t old = atomic_load_explicit(value, memory_order_relaxed);
    assert(old >= amount);
    atomic_store_explicit(value, old - amount, memory_order_relaxed);
}

/* Owner thread; for a value that somebody else counts and that is copied here. */
static inline void counter_set(struct counters *counters, enum counter counter, uint64_t value)
{
    atomic_store_explicit(&counters->values[counter], value, memory_order_relaxed);
}

/* Any thread. */
static inline uint64_t counter_get(const struct counters *counters, enum counter counter)
{
    return atomic_load_explicit(&counters->values[counter], memory_order_relaxed);
}

/* COUNTER_ADD(counters, messages_accepted, 1) */
#define COUNTER_ADD(counters, name, amount) counter_add((counters), COUNTER_##name, (amount))
#define COUNTER_SUB(counters, name, amount) counter_subtract((counters), COUNTER_##name, (amount))

/* Adds every counter of `from` to the plain numbers in `sums`. Any thread. */
void counters_sum(uint64_t sums[static COUNTER_COUNT], const struct counters *from);
