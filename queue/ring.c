#include "queue/ring.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

static_assert(offsetof(struct ring, tail) >= RING_LINE,
              "the producers' line must not hold the consumer's field");
static_assert(offsetof(struct ring, cells) >= offsetof(struct ring, tail) + RING_LINE,
              "what never changes must not share a line with what always does");

int ring_init(struct ring *ring, uint32_t capacity)
{
    assert(capacity >= 2);
    assert((capacity & (capacity - 1)) == 0);

    size_t bytes = capacity * sizeof(struct ring_cell);
    bytes = (bytes + RING_LINE - 1) & ~(size_t)(RING_LINE - 1);
    struct ring_cell *cells = aligned_alloc(RING_LINE, bytes);
    if (cells == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < capacity; i++) {
        atomic_init(&cells[i].sequence, i);
        cells[i].value = NULL;
    }
    atomic_init(&ring->head, 0);
    ring->tail = 0;
    ring->cells = cells;
    ring->mask = capacity - 1;
    return 0;
}

void ring_deinit(struct ring *ring)
{
    free(ring->cells);
    ring->cells = NULL;
    ring->mask = 0;
}

/* A cell's sequence is `position` when the producer of that position may fill it, position + 1 when the
 * consumer may empty it, and position + capacity when it is free for the next round. */
bool ring_push(struct ring *ring, void *value)
{
    assert(value != NULL); /* NULL is how pop says "empty" */

    /* Relaxed: `head` only hands out numbers; what orders the data is the cell's sequence. */
    uint64_t position = atomic_load_explicit(&ring->head, memory_order_relaxed);
    struct ring_cell *cell;
    for (;;) {
        cell = &ring->cells[position & ring->mask];
        /* Acquire: pairs with the release in ring_pop, so that the consumer has read the old value before we
         * overwrite it. */
        uint64_t sequence = atomic_load_explicit(&cell->sequence, memory_order_acquire);
        int64_t ahead = (int64_t)(sequence - position);
        if (ahead < 0)
            return false; /* the consumer is a whole round behind */
        if (ahead > 0) {
            position = atomic_load_explicit(&ring->head, memory_order_relaxed);
            continue;
        }
        if (atomic_compare_exchange_weak_explicit(&ring->head, &position, position + 1, memory_order_relaxed,
                                                  memory_order_relaxed))
            break;
    }
    cell->value = value;
    /* Release: pairs with the acquire in ring_pop and ring_ready. */
    atomic_store_explicit(&cell->sequence, position + 1, memory_order_release);
    return true;
}

void *ring_pop(struct ring *ring)
{
    struct ring_cell *cell = &ring->cells[ring->tail & ring->mask];
    /* Acquire: pairs with the release in ring_push. */
    uint64_t sequence = atomic_load_explicit(&cell->sequence, memory_order_acquire);
    if (sequence != ring->tail + 1)
        return NULL;
    void *value = cell->value;
    assert(value != NULL);
    /* Release: pairs with the acquire in ring_push one round later. */
    atomic_store_explicit(&cell->sequence, ring->tail + ring->mask + 1, memory_order_release);
    ring->tail++;
    return value;
}

bool ring_ready(const struct ring *ring)
{
    const struct ring_cell *cell = &ring->cells[ring->tail & ring->mask];
    /* Acquire: pairs with the release in ring_push. */
    return atomic_load_explicit(&cell->sequence, memory_order_acquire) == ring->tail + 1;
}
