#include "gateway/outbound/dns/resolver.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "gateway/outbound/dns/resolver_inner.h"

enum { SMTP_PORT = 25, LOOKUP_BUCKETS = 4096 };

/* 0 or a negative errno. */
static int fill_random(void *into, size_t size)
{
    ssize_t got;
    do
        got = getrandom(into, size, 0);
    while (got < 0 && errno == EINTR);
    return got == (ssize_t)size ? 0 : -(got < 0 ? errno : EIO);
}

uint16_t resolver_id(struct resolver *resolver)
{
    if (resolver->secrets_left < sizeof(uint16_t)) {
        /* Up to 256 bytes come whole and at once (getrandom(2)), after the first time. */
        int result = fill_random(resolver->secrets, sizeof(resolver->secrets));
        assert(result == 0);
        resolver->secrets_left = sizeof(resolver->secrets);
    }
    uint16_t id;
    resolver->secrets_left -= (uint32_t)sizeof(id);
    memcpy(&id, resolver->secrets + resolver->secrets_left, sizeof(id));
    return id;
}

uint32_t resolver_random(struct resolver *resolver, uint32_t limit)
{
    assert(limit > 0 && resolver->random != 0);
    resolver->random ^= resolver->random << 13;
    resolver->random ^= resolver->random >> 7;
    resolver->random ^= resolver->random << 17;
    return (uint32_t)((resolver->random >> 32) * limit >> 32);
}

void resolver_answer(struct resolver *resolver, struct resolver_query *query,
                     const struct dns_records *records)
{
    assert(query->records == NULL && query->resolver == resolver);
    query->records = dns_records_ref(records);
    list_push_back(&resolver->ready, &query->link);
    /* The hook of this turn may have run. */
    loop_wake_within(resolver->options.loop, 0);
}

/* Once a turn: whoever has an answer is called. Who asks from inside waits for the next turn. */
static void deliver(struct loop_hook *hook)
{
    struct resolver *resolver = list_entry(hook, struct resolver, hook);
    struct list answered;
    list_init(&answered);
    list_splice_back(&answered, &resolver->ready);
    for (struct list *link = list_pop_front(&answered); link != NULL; link = list_pop_front(&answered)) {
        struct resolver_query *query = list_entry(link, struct resolver_query, link);
        const struct dns_records *records = query->records;
        query->records = NULL;
        query->resolver = NULL;
        query->fn(query, records);
        dns_records_release(resolver->options.pool, records);
    }
}

static struct lookup *first_of(const struct list *waiting)
{
    return list_entry(list_first(waiting), struct lookup, waiting_link);
}

static bool has_room(const struct resolver *resolver)
{
    assert(resolver->slow_count <= resolver->socket_count);
    return resolver->socket_count - resolver->slow_count < resolver->options.sockets_max;
}

static bool has_room_for_slow(const struct resolver *resolver)
{
    return resolver->slow_count < (resolver->options.sockets_max + 1) / 2;
}

void resolver_start_waiting(struct resolver *resolver)
{
    while (has_room(resolver) && !list_is_empty(&resolver->waiting))
        lookup_begin(first_of(&resolver->waiting));
    while (!list_is_empty(&resolver->slow) &&
           (has_room_for_slow(resolver) || lookup_is_overdue(first_of(&resolver->slow))))
        lookup_begin(first_of(&resolver->slow));
}

bool resolver_is_crowded(const struct resolver *resolver)
{
    return !list_is_empty(&resolver->waiting) || resolver->mx_count > resolver->options.mx_max / 2;
}

void resolver_on_home(struct resolver *resolver)
{
    assert(resolver->socket_count > 0);
    resolver->socket_count--;
    resolver_start_waiting(resolver);
}

/* The lookup that asks this, new or under way; NULL without memory. */
static struct lookup *find_lookup(struct resolver *resolver, const char *name, enum dns_type type)
{
    struct question *question = question_find(&resolver->lookups, name, type);
    return question != NULL ? list_entry(question, struct lookup, question)
                            : lookup_new(resolver, name, type);
}

void resolver_ask(struct resolver *resolver, struct resolver_query *query, const char *name,
                  enum dns_type type,
                  void (*fn)(struct resolver_query *query, const struct dns_records *records))
{
    assert(fn != NULL);
    list_init(&query->link);
    query->fn = fn;
    query->resolver = resolver;
    query->records = NULL;
    char key[DNS_NAME_SIZE];
    if (dns_name_from_text(name, key) < 0) {
        resolver_answer(resolver, query, dns_records_bad_name());
        return;
    }
    if (resolver->is_stopped) {
        resolver_answer(resolver, query, dns_records_stopped());
        return;
    }
    const struct dns_records *known = dns_cache_find(&resolver->cache, key, type, resolver_now_us(resolver));
    if (known != NULL) {
        COUNTER_ADD(resolver->options.counters, dns_cache_hits, 1);
        resolver_answer(resolver, query, known);
        return;
    }
    struct lookup *lookup = find_lookup(resolver, key, type);
    if (lookup == NULL) {
        resolver_answer(resolver, query, dns_records_no_memory());
        return;
    }
    list_push_back(&lookup->queries, &query->link);
    resolver_start_waiting(resolver);
}

void resolver_cancel(struct resolver_query *query)
{
    struct resolver *resolver = query->resolver;
    if (resolver == NULL)
        return;
    list_remove(&query->link);
    dns_records_release(resolver->options.pool, query->records);
    query->records = NULL;
    query->resolver = NULL;
}

void resolver_drop_pending(struct resolver *resolver)
{
    resolver->is_stopped = true;
    list_each(link, &resolver->exchanges)
    {
        struct exchange *exchange = list_entry(link, struct exchange, link);
        struct lookup *lookup = exchange->lookup;
        if (lookup == NULL)
            continue;
        exchange_drop(exchange);
        lookup->exchange = NULL;
        lookup_finish(lookup, dns_records_stopped(), false);
    }
    while (!list_is_empty(&resolver->waiting))
        lookup_finish(first_of(&resolver->waiting), dns_records_stopped(), false);
    while (!list_is_empty(&resolver->slow))
        lookup_finish(first_of(&resolver->slow), dns_records_stopped(), false);
    assert(resolver->lookup_count == 0);
}

bool resolver_is_idle(const struct resolver *resolver)
{
    return resolver->lookup_count == 0 && resolver->socket_count == 0 && resolver->mx_count == 0 &&
           list_is_empty(&resolver->mx_waiting) && list_is_empty(&resolver->ready);
}

void resolver_flush(struct resolver *resolver)
{
    dns_cache_flush(&resolver->cache);
}

struct resolver_load resolver_load(const struct resolver *resolver)
{
    return (struct resolver_load){
        .cache_entries = resolver->cache.count,
        .cache_bytes = resolver->cache.bytes,
        .lookups = resolver->lookup_count,
        .mx_lookups = resolver->mx_count,
    };
}

int resolver_configure(struct resolver *resolver, const struct resolver_settings *settings)
{
    struct own_hosts own;
    int result = own_hosts_init(&own, settings, resolver->options.smtp_port);
    if (result < 0)
        return result;
    own_hosts_deinit(&resolver->own);
    resolver->own = own;
    uint32_t generation = resolver->servers.generation;
    servers_set(&resolver->servers, settings->servers, settings->server_count, resolver->options.resolv_conf,
                resolver_now_us(resolver));
    if (generation != resolver->servers.generation || resolver->trust_ad != settings->trust_ad)
        dns_cache_flush(&resolver->cache);
    resolver->trust_ad = settings->trust_ad;
    return 0;
}

static void set_defaults(struct resolver_options *options)
{
    if (options->resolv_conf == NULL)
        options->resolv_conf = "/etc/resolv.conf";
    if (options->attempt_ms == 0)
        options->attempt_ms = RESOLVER_ATTEMPT_MS;
    if (options->total_ms == 0)
        options->total_ms = RESOLVER_TOTAL_MS;
    if (options->sockets_max == 0)
        options->sockets_max = RESOLVER_SOCKETS_MAX;
    if (options->mx_max == 0)
        options->mx_max = RESOLVER_MX_MAX;
    if (options->cache_entries == 0)
        options->cache_entries = RESOLVER_CACHE_ENTRIES;
    if (options->cache_bytes == 0)
        options->cache_bytes = RESOLVER_CACHE_BYTES;
    if (options->smtp_port == 0)
        options->smtp_port = SMTP_PORT;
}

/* All that may fail. */
static int prepare(struct resolver *resolver)
{
    const struct resolver_options *options = &resolver->options;
    struct siphash_key key;
    int result = fill_random(&key, sizeof(key));
    if (result == 0)
        result = fill_random(&resolver->random, sizeof(resolver->random));
    resolver->random |= 1;
    if (result == 0)
        result = question_table_init(&resolver->lookups, LOOKUP_BUCKETS, &key);
    if (result == 0)
        result = dns_cache_init(&resolver->cache, options->pool, &key, options->cache_entries,
                                options->cache_bytes);
    return result == 0 ? resolver_configure(resolver, &options->settings) : result;
}

int resolver_new(const struct resolver_options *options, struct resolver **out)
{
    assert(options->loop != NULL && options->pool != NULL && options->counters != NULL);
    struct resolver *resolver = calloc(1, sizeof(*resolver));
    if (resolver == NULL)
        return -ENOMEM;
    resolver->options = *options;
    set_defaults(&resolver->options);
    resolver->servers.log = options->log;
    list_init(&resolver->waiting);
    list_init(&resolver->slow);
    list_init(&resolver->mx_waiting);
    list_init(&resolver->ready);
    list_init(&resolver->exchanges);
    int result = prepare(resolver);
    if (result < 0) {
        resolver_free(resolver);
        return result;
    }
    resolver->hook.fn = deliver;
    loop_add_hook(options->loop, &resolver->hook);
    *out = resolver;
    return 0;
}

void resolver_free(struct resolver *resolver)
{
    if (resolver == NULL)
        return;
    assert(resolver_is_idle(resolver) && list_is_empty(&resolver->waiting) && list_is_empty(&resolver->slow));
    dns_cache_deinit(&resolver->cache);
    question_table_deinit(&resolver->lookups);
    own_hosts_deinit(&resolver->own);
    free(resolver);
}
