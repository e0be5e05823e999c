#pragma once

/*
 * A hash table from domain patterns to small numbers: "example.com" for exactly this domain, ".example.com"
 * for it and all below it.
 *
 * Built once, then read by any thread. It borrows the names and the slots. Names are in lower case.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DOMAIN_SIZE_MAX = 255 }; /* RFC 5321 §4.5.3.1.2 */

struct domain_slot {
    const char *name; /* NULL: free */
    uint32_t hash;
    uint32_t size;
    uint32_t value;
};

struct domain_table {
    struct domain_slot *slots;
    size_t slot_count; /* a power of two, at least twice the number of names; 0: an empty table */
};

/* The number of slots that a table of `name_count` names needs; the caller brings them zeroed. */
size_t domain_table_slots(size_t name_count);

/* False when the name is in the table already; then the older value stays. `name` outlives the table. */
bool domain_table_add(struct domain_table *table, const char *name, uint32_t value);

/* The value of exactly this name, in lower case; it may be any text, not only a domain. */
bool domain_table_get(const struct domain_table *table, const char *name, size_t size, uint32_t *value);

/* The pattern that covers `domain` best: the exact name, else the longest parent. One probe for each label.
   False when there is none, or the domain is empty or longer than DOMAIN_SIZE_MAX. */
bool domain_table_find(const struct domain_table *table, const char *domain, size_t size, uint32_t *value);

/* Letters, digits, hyphens (not at a label's ends) and underscores in labels of at most 63 (RFC 1035 §2.3.4),
   or bytes beyond ASCII (RFC 6531 §3.3); no dot at the ends. */
bool domain_is_valid(const char *domain, size_t size);
