#pragma once

/*
 * Memory in size classes: what is freed is kept for the next taker, so that steady traffic calls malloc
 * never.
 *
 * A pool belongs to one thread: what it gave out comes back to it on that thread. Sizes are rounded up to a
 * power of two between 64 B and 1 MiB; larger ones go straight to malloc and back. The caller remembers the
 * size that it asked for. A pool keeps at most `keep_bytes` of freed memory; what exceeds that is given back
 * to malloc. Under AddressSanitizer the freed blocks are poisoned, so a late use is found.
 */

#include <stddef.h>
#include <stdint.h>

enum {
    POOL_BLOCK_SIZE_MIN = 64,
    POOL_BLOCK_SIZE_MAX = 1 << 20,
    POOL_CLASS_COUNT = 15, /* 64 = 2^6 … 2^20 */
};

struct counters;
struct pool_block;

struct pool {
    struct pool_block *free_blocks[POOL_CLASS_COUNT];
    struct counters *counters; /* heap_allocations is counted here; may be NULL */
    size_t keep_bytes;         /* upper bound of kept_bytes */
    size_t kept_bytes;         /* freed and ready to be taken again */
    size_t used_bytes;         /* given out, in block sizes */
    uint64_t heap_allocations; /* calls of malloc so far */
};

/* `counters` is borrowed for the pool's life (NULL: none). `keep_bytes` SIZE_MAX: keep all. */
void pool_init(struct pool *pool, struct counters *counters, size_t keep_bytes);

/* Gives what is kept back to malloc; every block must have come home. Harmless on a zeroed pool. */
void pool_deinit(struct pool *pool);

/* A block of at least `size` bytes (size > 0), aligned to 64, its content undefined; NULL when malloc has no
 * more. */
void *pool_alloc(struct pool *pool, size_t size) __attribute__((warn_unused_result, malloc));

/* Takes back `block`, which pool_alloc gave for `size`; NULL is ignored. */
void pool_free(struct pool *pool, void *block, size_t size);

/* What pool_alloc really gives for `size`: use it to fill a block to its end. */
size_t pool_block_size(size_t size);
