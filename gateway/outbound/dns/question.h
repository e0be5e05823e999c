/*
 * What is asked, a name and a type, and a hash table of those who can be found by it: lookups under way,
 * answers in the cache.
 *
 * A question is embedded in what is found by it. The table is keyed (SipHash), for the names come from
 * strangers; its size is fixed. Worker's thread.
 */
#pragma once

#include <stdint.h>

#include "gateway/base/list.h"
#include "gateway/base/siphash.h"
#include "gateway/outbound/dns/records.h"

struct question {
    struct list link; /* in its bucket */
    const char *name; /* in the form of name.h; lives as long as the question */
    enum dns_type type;
    uint64_t hash;
};

struct question_table {
    struct list *buckets;
    size_t mask; /* one less than their number, a power of two */
    struct siphash_key key;
};

/* `size` buckets, rounded up to a power of two. 0 or -ENOMEM. */
int question_table_init(struct question_table *table, size_t size, const struct siphash_key *key)
    __attribute__((warn_unused_result));

/* It must be empty. Harmless on zeroed memory. */
void question_table_deinit(struct question_table *table);

/* The question that asks the same, or NULL. */
struct question *question_find(const struct question_table *table, const char *name, enum dns_type type);

/* Nothing in the table may ask the same. */
void question_insert(struct question_table *table, struct question *question, const char *name,
                     enum dns_type type);
void question_remove(struct question *question);
