#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/config_inner.h"
#include "gateway/base/panic.h"

/* Each piece is a block of its own in one chain: a snapshot is small, and freeing it is one walk. */
struct memory_block {
    struct memory_block *next;
    _Alignas(16) char bytes[];
};

void *config_memory(struct config *config, size_t size)
{
    struct memory_block *block = calloc(1, sizeof(*block) + size);
    if (block == NULL)
        panic("out of memory while reading the configuration");
    block->next = config->inner->blocks;
    config->inner->blocks = block;
    return block->bytes;
}

char *config_copy(struct config *config, const char *text, size_t size)
{
    char *copy = config_memory(config, size + 1);
    memcpy(copy, text, size);
    return copy;
}

void *config_grow(struct config *config, void *array, size_t count, size_t element_size)
{
    bool is_full = (count & (count - 1)) == 0; /* capacities are 1, 2, 4, … */
    if (!is_full) {
        assert(array != NULL);
        return array;
    }
    void *larger = config_memory(config, (count == 0 ? 1 : 2 * count) * element_size);
    if (count > 0)
        memcpy(larger, array, count * element_size);
    return larger;
}

void config_free(struct config *config)
{
    if (config == NULL)
        return;
    struct memory_block *block = config->inner->blocks;
    while (block != NULL) {
        struct memory_block *next = block->next;
        free(block);
        block = next;
    }
    free(config->inner);
    free(config);
}
