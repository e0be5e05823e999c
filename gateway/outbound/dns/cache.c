#include "gateway/outbound/dns/cache.h"

#include <assert.h>
#include <string.h>

struct cache_entry {
    struct question question;
    struct list recent_link;
    const struct dns_records *records;
    size_t size;  /* of this block */
    size_t bytes; /* that it counts for */
    char name[];
};

int dns_cache_init(struct dns_cache *cache, struct pool *pool, const struct siphash_key *key,
                   size_t count_max, uint64_t bytes_max)
{
    assert(count_max > 0 && bytes_max > 0);
    *cache = (struct dns_cache){.pool = pool, .count_max = count_max, .bytes_max = bytes_max};
    list_init(&cache->recent);
    return question_table_init(&cache->table, count_max, key);
}

static void drop(struct dns_cache *cache, struct cache_entry *entry)
{
    assert(cache->count > 0 && cache->bytes >= entry->bytes);
    cache->count--;
    cache->bytes -= entry->bytes;
    question_remove(&entry->question);
    list_remove(&entry->recent_link);
    dns_records_release(cache->pool, entry->records);
    pool_free(cache->pool, entry, entry->size);
}

void dns_cache_flush(struct dns_cache *cache)
{
    list_each_safe(link, &cache->recent) drop(cache, list_entry(link, struct cache_entry, recent_link));
    assert(cache->count == 0 && cache->bytes == 0);
}

void dns_cache_deinit(struct dns_cache *cache)
{
    if (cache->pool == NULL)
        return;
    dns_cache_flush(cache);
    question_table_deinit(&cache->table);
    *cache = (struct dns_cache){0};
}

static struct cache_entry *find_entry(const struct dns_cache *cache, const char *name, enum dns_type type)
{
    struct question *question = question_find(&cache->table, name, type);
    return question != NULL ? list_entry(question, struct cache_entry, question) : NULL;
}

const struct dns_records *dns_cache_find(struct dns_cache *cache, const char *name, enum dns_type type,
                                         uint64_t now_us)
{
    struct cache_entry *entry = find_entry(cache, name, type);
    if (entry == NULL)
        return NULL;
    if (dns_records_ttl(entry->records, now_us) == 0) {
        if (entry->records->status != DNS_TEMPORARY)
            drop(cache, entry);
        return NULL;
    }
    list_remove(&entry->recent_link);
    list_push_front(&cache->recent, &entry->recent_link);
    return entry->records;
}

const struct dns_records *dns_cache_find_failure(struct dns_cache *cache, const char *name,
                                                 enum dns_type type)
{
    const struct cache_entry *entry = find_entry(cache, name, type);
    return entry != NULL && entry->records->status == DNS_TEMPORARY ? entry->records : NULL;
}

static void make_room(struct dns_cache *cache, size_t bytes)
{
    while (cache->count >= cache->count_max || cache->bytes + bytes > cache->bytes_max) {
        assert(!list_is_empty(&cache->recent));
        drop(cache, list_entry(cache->recent.prev, struct cache_entry, recent_link));
    }
}

void dns_cache_put(struct dns_cache *cache, const char *name, enum dns_type type,
                   const struct dns_records *records)
{
    struct cache_entry *old = find_entry(cache, name, type);
    if (old != NULL)
        drop(cache, old);
    size_t name_size = strlen(name) + 1;
    size_t size = sizeof(struct cache_entry) + name_size;
    size_t bytes = pool_block_size(size) + (records->size > 0 ? pool_block_size(records->size) : 0);
    if (bytes > cache->bytes_max)
        return;
    make_room(cache, bytes);
    struct cache_entry *entry = pool_alloc(cache->pool, size);
    if (entry == NULL)
        return;
    *entry = (struct cache_entry){.records = dns_records_ref(records), .size = size, .bytes = bytes};
    memcpy(entry->name, name, name_size);
    list_init(&entry->recent_link);
    question_insert(&cache->table, &entry->question, entry->name, type);
    list_push_front(&cache->recent, &entry->recent_link);
    cache->count++;
    cache->bytes += bytes;
}
