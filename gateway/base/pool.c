#include "gateway/base/pool.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/counters.h"

#if defined(__SANITIZE_ADDRESS__)
#define POOL_POISONS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POOL_POISONS 1
#endif
#endif

#ifdef POOL_POISONS
#include <sanitizer/asan_interface.h>
#define POISON(block, size)   ASAN_POISON_MEMORY_REGION((block), (size))
#define UNPOISON(block, size) ASAN_UNPOISON_MEMORY_REGION((block), (size))
#else
#define POISON(block, size)   ((void)(block), (void)(size))
#define UNPOISON(block, size) ((void)(block), (void)(size))
#endif

/* A freed block holds the link to the next one of its class. */
struct pool_block {
    struct pool_block *next;
};

_Static_assert(POOL_BLOCK_SIZE_MIN << (POOL_CLASS_COUNT - 1) == POOL_BLOCK_SIZE_MAX,
               "classes double in size");
_Static_assert(sizeof(struct pool_block) <= POOL_BLOCK_SIZE_MIN, "a link fits the smallest block");

static size_t class_of(size_t size)
{
    assert(size > 0);
    assert(size <= POOL_BLOCK_SIZE_MAX);
    if (size <= POOL_BLOCK_SIZE_MIN)
        return 0;
    size_t bits = 64 - (size_t)__builtin_clzl(size - 1); /* size rounded up is 2^bits */
    return bits - 6;
}

static size_t class_size(size_t size_class)
{
    assert(size_class < POOL_CLASS_COUNT);
    return (size_t)POOL_BLOCK_SIZE_MIN << size_class;
}

size_t pool_block_size(size_t size)
{
    if (size <= POOL_BLOCK_SIZE_MAX)
        return class_size(class_of(size));
    size_t rounded = (size + POOL_BLOCK_SIZE_MIN - 1) & ~(size_t)(POOL_BLOCK_SIZE_MIN - 1);
    assert(rounded >= size);
    return rounded;
}

void pool_init(struct pool *pool, struct counters *counters, size_t keep_bytes)
{
    memset(pool, 0, sizeof(*pool));
    pool->counters = counters;
    pool->keep_bytes = keep_bytes;
}

void pool_deinit(struct pool *pool)
{
    assert(pool->used_bytes == 0);
    for (size_t size_class = 0; size_class < POOL_CLASS_COUNT; size_class++) {
        while (pool->free_blocks[size_class] != NULL) {
            struct pool_block *block = pool->free_blocks[size_class];
            UNPOISON(block, class_size(size_class));
            pool->free_blocks[size_class] = block->next;
            pool->kept_bytes -= class_size(size_class);
            free(block);
        }
    }
    assert(pool->kept_bytes == 0);
}

static void *take_from_heap(struct pool *pool, size_t block_size)
{
    void *block = aligned_alloc(POOL_BLOCK_SIZE_MIN, block_size);
    if (block == NULL)
        return NULL;
    pool->heap_allocations++;
    if (pool->counters != NULL)
        COUNTER_ADD(pool->counters, heap_allocations, 1);
    pool->used_bytes += block_size;
    return block;
}

void *pool_alloc(struct pool *pool, size_t size)
{
    size_t block_size = pool_block_size(size);
    if (block_size > POOL_BLOCK_SIZE_MAX)
        return take_from_heap(pool, block_size);

    size_t size_class = class_of(size);
    struct pool_block *block = pool->free_blocks[size_class];
    if (block == NULL)
        return take_from_heap(pool, block_size);

    UNPOISON(block, block_size);
    pool->free_blocks[size_class] = block->next;
    assert(pool->kept_bytes >= block_size);
    pool->kept_bytes -= block_size;
    pool->used_bytes += block_size;
    return block;
}

void pool_free(struct pool *pool, void *memory, size_t size)
{
    if (memory == NULL)
        return;
    size_t block_size = pool_block_size(size);
    assert(pool->used_bytes >= block_size);
    pool->used_bytes -= block_size;

    bool is_kept = block_size <= POOL_BLOCK_SIZE_MAX && pool->kept_bytes <= pool->keep_bytes &&
                   block_size <= pool->keep_bytes - pool->kept_bytes;
    if (!is_kept) {
        free(memory);
        return;
    }
    struct pool_block *block = memory;
    size_t size_class = class_of(size);
    block->next = pool->free_blocks[size_class];
    pool->free_blocks[size_class] = block;
    pool->kept_bytes += block_size;
    POISON(block, block_size);
}
