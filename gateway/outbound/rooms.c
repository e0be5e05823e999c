#include "gateway/outbound/rooms.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* Grows by a new table; the old ones stay until the end, since another thread may still look into one. */
struct room_table {
    struct room_table *older;
    uint32_t count;
    _Atomic uint32_t rooms[]; /* relaxed: hints that guard nothing */
};

int rooms_reserve(struct outbound *outbound, uint32_t count)
{
    struct room_table *old = atomic_load_explicit(&outbound->rooms, memory_order_relaxed);

    if (old != NULL && old->count >= count)
        return 0;
    uint32_t capacity = old != NULL ? old->count : 8;
    while (capacity < count)
        capacity *= 2;
    struct room_table *table = calloc(1, sizeof(*table) + capacity * sizeof(table->rooms[0]));
    if (table == NULL)
        return -ENOMEM;
    table->older = old;
    table->count = capacity;
    atomic_store_explicit(&outbound->rooms, table, memory_order_release); /* pairs with outbound_room */
    return 0;
}

void rooms_publish(struct outbound *outbound, uint32_t site_index, uint32_t room)
{
    struct room_table *table = atomic_load_explicit(&outbound->rooms, memory_order_relaxed);

    assert(table != NULL && site_index < table->count);
    atomic_store_explicit(&table->rooms[site_index], room, memory_order_relaxed);
}

void rooms_deinit(struct outbound *outbound)
{
    struct room_table *table = atomic_load_explicit(&outbound->rooms, memory_order_relaxed);

    while (table != NULL) {
        struct room_table *older = table->older;
        free(table);
        table = older;
    }
    atomic_store_explicit(&outbound->rooms, NULL, memory_order_relaxed);
}

uint32_t outbound_room(const struct outbound *outbound, uint32_t site_index)
{
    struct room_table *table = atomic_load_explicit(&outbound->rooms, memory_order_acquire);

    if (table == NULL || site_index >= table->count)
        return 0;
    return atomic_load_explicit(&table->rooms[site_index], memory_order_relaxed);
}
