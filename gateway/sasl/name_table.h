#pragma once

/*
 * A hash table from names, compared octet by octet, to small numbers.
 *
 * Filled by one thread, then read by any. It borrows the names, which outlive it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct name_slot {
    const char *name; /* NULL: free */
    uint32_t hash;
    uint32_t size;
    uint32_t value;
};

struct name_table {
    struct name_slot *slots;
    size_t slot_count; /* a power of two, at least twice the number of names */
    size_t name_count;
};

/* An empty table, which grows. 0 or -ENOMEM. */
int name_table_init(struct name_table *table) __attribute__((warn_unused_result));

void name_table_deinit(struct name_table *table);

/* 0; -EEXIST when the name is there, whose value then stays; -ENOMEM. */
int name_table_add(struct name_table *table, const char *name, size_t size, uint32_t value)
    __attribute__((warn_unused_result));

bool name_table_find(const struct name_table *table, const char *name, size_t size, uint32_t *value)
    __attribute__((warn_unused_result));
