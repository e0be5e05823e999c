#include "gateway/sasl/name_table.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SLOT_COUNT_MIN = 16 };

int name_table_init(struct name_table *table)
{
    struct name_slot *slots = calloc(SLOT_COUNT_MIN, sizeof(*slots));
    if (slots == NULL)
        return -ENOMEM;
    *table = (struct name_table){.slots = slots, .slot_count = SLOT_COUNT_MIN};
    return 0;
}

void name_table_deinit(struct name_table *table)
{
    free(table->slots);
    *table = (struct name_table){0};
}

static uint32_t hash_name(const char *name, size_t size)
{
    uint64_t hash = 0xcbf29ce484222325ULL;
    for (size_t index = 0; index < size; index++)
        hash = (hash ^ (unsigned char)name[index]) * 0x100000001b3ULL;
    return (uint32_t)(hash ^ hash >> 32);
}

/* The slot that holds the name, or the free one where it would go. */
static struct name_slot *probe(const struct name_table *table, const char *name, size_t size, uint32_t hash)
{
    assert((table->slot_count & (table->slot_count - 1)) == 0);
    assert(table->name_count < table->slot_count);
    size_t index = hash & (table->slot_count - 1);
    while (true) {
        struct name_slot *slot = &table->slots[index];
        if (slot->name == NULL ||
            (slot->hash == hash && slot->size == size && memcmp(slot->name, name, size) == 0))
            return slot;
        index = (index + 1) & (table->slot_count - 1);
    }
}

static int grow(struct name_table *table)
{
    struct name_table larger = {.slot_count = table->slot_count * 2, .name_count = table->name_count};
    larger.slots = calloc(larger.slot_count, sizeof(*larger.slots));
    if (larger.slots == NULL)
        return -ENOMEM;
    for (size_t index = 0; index < table->slot_count; index++) {
        const struct name_slot *slot = &table->slots[index];
        if (slot->name != NULL)
            *probe(&larger, slot->name, slot->size, slot->hash) = *slot;
    }
    free(table->slots);
    *table = larger;
    return 0;
}

int name_table_add(struct name_table *table, const char *name, size_t size, uint32_t value)
{
    assert(name != NULL && size <= UINT32_MAX);
    uint32_t hash = hash_name(name, size);
    if (probe(table, name, size, hash)->name != NULL)
        return -EEXIST;
    if ((table->name_count + 1) * 2 > table->slot_count && grow(table) < 0)
        return -ENOMEM;
    *probe(table, name, size, hash) =
        (struct name_slot){.name = name, .hash = hash, .size = (uint32_t)size, .value = value};
    table->name_count++;
    return 0;
}

bool name_table_find(const struct name_table *table, const char *name, size_t size, uint32_t *value)
{
    const struct name_slot *slot = probe(table, name, size, hash_name(name, size));
    if (slot->name == NULL)
        return false;
    *value = slot->value;
    return true;
}
