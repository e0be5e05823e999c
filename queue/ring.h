/* A bounded lock-free ring of pointers: many producer threads, one consumer thread.
 *
 * Each cell carries a sequence number that says whose turn it is (after D. Vyukov's bounded queue, 2011). A
 * producer claims a cell by advancing `head`, stores the pointer, and publishes it with a release store of
 * the cell's sequence; the consumer's acquire load of that sequence pairs with it. Full is an answer, never a
 * wait.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RING_LINE = 64 };

struct ring_cell {
    _Atomic uint64_t sequence;
    void *value;
};

struct ring {
    /* any thread (atomic) */
    _Alignas(RING_LINE) _Atomic uint64_t head;
    /* consumer thread */
    _Alignas(RING_LINE) uint64_t tail;
    /* immutable after init */
    _Alignas(RING_LINE) struct ring_cell *cells;
    uint64_t mask;
};

/* `capacity` is a power of two, at least 2. 0 or -ENOMEM. */
int ring_init(struct ring *ring, uint32_t capacity) __attribute__((warn_unused_result));
void ring_deinit(struct ring *ring);

/* Any thread. False: the ring is full and nothing was stored. What the producer wrote before is visible to
 * the consumer once it popped the value. */
bool ring_push(struct ring *ring, void *value) __attribute__((warn_unused_result));

/* Consumer thread. NULL: empty, or the next producer has claimed its cell but not yet filled it. */
void *ring_pop(struct ring *ring);

/* Consumer thread: whether a pop would find something. */
bool ring_ready(const struct ring *ring);
