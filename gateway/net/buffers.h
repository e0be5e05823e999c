#pragma once

/*
 * The receive buffers of one loop: a ring from which the kernel takes a buffer only when bytes have come, so
 * that ten thousand idle connections share a few.
 *
 * Only a window of them is posted to the kernel; the rest lie on a stack, last used first, so that a quiet
 * worker keeps touching the same few pages. Starvation doubles the window, calm shrinks it. Memory is
 * bounded: count * size, mapped at start and touched as needed. Belongs to the loop's thread.
 */

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>

#include "gateway/base/list.h"

#define BUFFERS_GROUP      1
#define BUFFERS_WINDOW_MIN 64
#define BUFFERS_COPIES_MAX                                                                                   \
    ((size_t)64 << 20) /* octets of copies of one loop: what a crowd of deaf peers can cost */

/* Bytes that a connection could not deliver yet: a part of a receive buffer, or a copy on the heap. */
struct buffer_piece {
    struct buffer_piece *next;
    char *bytes; /* not delivered yet */
    uint32_t size;
    int32_t id;        /* of the receive buffer, or -1: the bytes stand after this struct */
    uint32_t capacity; /* octets of a copy, delivered ones included */
};

struct buffers {
    struct io_uring *ring;
    struct io_uring_buf_ring *posted_ring;
    char *memory;
    struct buffer_piece *pieces; /* one for each buffer, so that holding bytes cannot fail */
    uint16_t *stack;             /* the ids that are neither posted nor in use */
    uint32_t stack_size;
    uint32_t count;
    uint32_t size; /* bytes of each */
    uint32_t posted;
    uint32_t window;
    uint32_t posted_low; /* the least that was posted since the window was last judged */
    uint32_t held;       /* by paused connections */
    size_t copied_bytes; /* the same, on the heap */
    uint32_t calm_turns;
    bool grown;          /* the window was doubled in this turn: many starve at once for one lack */
    struct list starved; /* connections, by starved_link, first come first served */
};

int buffers_init(struct buffers *buffers, struct io_uring *ring, uint32_t count, uint32_t size)
    __attribute__((warn_unused_result));
void buffers_deinit(struct buffers *buffers);

/* The kernel filled the buffer named in `cqe_flags`; returns its id. Give it back with buffers_put. */
uint32_t buffers_take(struct buffers *buffers, uint32_t cqe_flags);
void buffers_put(struct buffers *buffers, uint32_t id);

static inline char *buffers_data(const struct buffers *buffers, uint32_t id)
{
    return buffers->memory + (size_t)id * buffers->size;
}

/*
 * Keeps bytes for later: the buffer itself, or a copy once a quarter of all buffers is held, so that paused
 * connections cannot starve the others (then the buffer is put back). NULL without memory, or at
 * BUFFERS_COPIES_MAX: the buffer is put back, the bytes are lost. `copied` counts the copies.
 */
struct buffer_piece *buffers_hold(struct buffers *buffers, uint32_t id, uint32_t offset, uint32_t size,
                                  uint64_t *copied) __attribute__((warn_unused_result));

/* A piece of its own with a copy of the bytes, or NULL without memory or at BUFFERS_COPIES_MAX. */
struct buffer_piece *buffers_copy(struct buffers *buffers, const char *bytes, uint32_t size)
    __attribute__((warn_unused_result));

void buffers_release(struct buffers *buffers, struct buffer_piece *piece);

/* A receive found nothing posted: post more from now on. */
void buffers_starved(struct buffers *buffers);

/* Once a turn, before submitting: posts free buffers up to the window. Returns how many are posted. */
uint32_t buffers_replenish(struct buffers *buffers);
