/* Where a shard's small objects come from, and how much of them there is. Owner thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

struct memory {
    void *(*alloc)(void *context, size_t size);
    void (*free)(void *context, void *memory, size_t size);
    void *context;
    uint64_t used; /* bytes handed out */
};

/* NULL when there is none. Not cleared. */
static inline void *memory_alloc(struct memory *memory, size_t size)
{
    void *object = memory->alloc ? memory->alloc(memory->context, size) : malloc(size);
    if (object)
        memory->used += size;
    return object;
}

/* `size` is the one that was asked for. NULL is fine. */
static inline void memory_free(struct memory *memory, void *object, size_t size)
{
    if (!object)
        return;
    memory->used -= size;
    if (memory->free)
        memory->free(memory->context, object, size);
    else
        free(object);
}
