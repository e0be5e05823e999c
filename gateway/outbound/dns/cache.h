/*
 * The answers that a resolver remembers: until their time is over, or until more recently used ones need the
 * room. Bounded in entries and in bytes. Worker's thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "gateway/base/pool.h"
#include "gateway/outbound/dns/question.h"

struct dns_cache {
    struct question_table table;
    struct list recent; /* entries, the one used last first */
    struct pool *pool;
    size_t count;
    size_t count_max;
    uint64_t bytes; /* of entries and their records */
    uint64_t bytes_max;
};

/* 0 or -ENOMEM. */
int dns_cache_init(struct dns_cache *cache, struct pool *pool, const struct siphash_key *key,
                   size_t count_max, uint64_t bytes_max) __attribute__((warn_unused_result));

/* Harmless on zeroed memory. */
void dns_cache_deinit(struct dns_cache *cache);

/* The answer, lent until the cache is next changed; NULL when it is not known (any more). */
const struct dns_records *dns_cache_find(struct dns_cache *cache, const char *name, enum dns_type type,
                                         uint64_t now_us);

/* As dns_cache_find, but how long ago its time was over does not matter: of a failure, which is kept until
   its room is needed or something better is known. */
const struct dns_records *dns_cache_find_failure(struct dns_cache *cache, const char *name,
                                                 enum dns_type type);

/* Keeps a reference of its own, instead of what it knew. What is larger than the whole cache, or finds no
   memory, is not kept. */
void dns_cache_put(struct dns_cache *cache, const char *name, enum dns_type type,
                   const struct dns_records *records);

void dns_cache_flush(struct dns_cache *cache);
