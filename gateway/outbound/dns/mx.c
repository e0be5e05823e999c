#include "gateway/outbound/dns/mx.h"

#include <assert.h>

#include "gateway/outbound/dns/mx_inner.h"

/*
 *                        MX asked for                                  A and AAAA of each host asked for
 *   mx_ask ──▶ WAITING ──────────────▶ ASKING ──▶ the hosts are known ──────────────▶ concluded
 *               its turn                  │                                              ▲
 *                                         └── null MX, no such domain, failure ──────────┘
 *
 * A query that waits has no lookup, and so no memory of ours. What needs no MX records goes the same way.
 */

static void free_lookup(struct mx_lookup *lookup)
{
    struct resolver *resolver = lookup->resolver;
    struct pool *pool = resolver->options.pool;
    dns_records_release(pool, lookup->mx);
    for (uint32_t index = 0; index < lookup->host_count; index++) {
        for (int family = 0; family < MX_FAMILIES; family++) {
            resolver_cancel(&lookup->hosts[index].queries[family]);
            dns_records_release(pool, lookup->hosts[index].answers[family]);
        }
    }
    pool_free(pool, lookup->hosts, lookup->host_room * sizeof(*lookup->hosts));
    pool_free(pool, lookup, sizeof(*lookup));
    assert(resolver->mx_count > 0);
    resolver->mx_count--;
}

static void begin(struct mx_query *query);

/* Whose turn it is. */
static void begin_waiting(struct resolver *resolver)
{
    while (resolver->mx_count < resolver->options.mx_max && !list_is_empty(&resolver->mx_waiting))
        begin(list_entry(list_pop_front(&resolver->mx_waiting), struct mx_query, link));
}

/* The lookup is over; the query is its caller's again. */
static void finish(struct mx_lookup *lookup, struct mx_result *result)
{
    struct resolver *resolver = lookup->resolver;
    struct mx_query *query = lookup->query;
    query->lookup = NULL;
    query->resolver = NULL;
    free_lookup(lookup);
    begin_waiting(resolver);
    query->fn(query, result);
}

static void conclude(struct mx_lookup *lookup)
{
    finish(lookup, mx_conclude(lookup));
}

static void on_address(struct resolver_query *query, const struct dns_records *records)
{
    struct mx_candidate *host = query->ctx;
    struct mx_lookup *lookup = host->lookup;
    int family = query == &host->queries[MX_V6] ? MX_V6 : MX_V4;
    assert(query == &host->queries[family] && host->answers[family] == NULL && lookup->pending > 0);
    host->answers[family] = dns_records_ref(records);
    if (--lookup->pending == 0)
        conclude(lookup);
}

static void ask_addresses(struct mx_lookup *lookup)
{
    static const enum dns_type types[] = {[MX_V6] = DNS_AAAA, [MX_V4] = DNS_A};
    for (uint32_t index = 0; index < lookup->host_count; index++) {
        struct mx_candidate *host = &lookup->hosts[index];
        for (int family = 0; family < MX_FAMILIES && !host->is_literal; family++) {
            host->queries[family].ctx = host;
            lookup->pending++;
            resolver_ask(lookup->resolver, &host->queries[family], host->name, types[family], on_address);
        }
    }
    if (lookup->pending == 0)
        conclude(lookup);
}

static void on_mx(struct resolver_query *question, const struct dns_records *records)
{
    struct mx_query *query = question->ctx;
    struct mx_lookup *lookup = query->lookup;
    assert(question == &query->question);
    if (lookup == NULL) {
        query->resolver = NULL;
        query->fn(query, NULL);
        return;
    }
    lookup->mx = dns_records_ref(records);
    if (!lookup->is_literal && !lookup->is_host && mx_choose_hosts(lookup) < 0)
        finish(lookup, NULL);
    else
        ask_addresses(lookup);
}

static struct mx_lookup *new_lookup(struct mx_query *query)
{
    struct resolver *resolver = query->resolver;
    struct mx_lookup *lookup = pool_alloc(resolver->options.pool, sizeof(*lookup));
    if (lookup == NULL)
        return NULL;
    *lookup = (struct mx_lookup){.resolver = resolver, .query = query, .is_host = query->is_host};
    resolver->mx_count++;
    int result = 0;
    if (query->domain[0] == '[')
        result = mx_take_literal(lookup, query->domain);
    else if (query->is_host)
        result = mx_take_host(lookup, query->domain);
    if (result == 0)
        return lookup;
    free_lookup(lookup);
    return NULL;
}

static void begin(struct mx_query *query)
{
    struct mx_lookup *lookup = new_lookup(query);
    query->lookup = lookup;
    /* What needs no MX records, and a lack of memory, have their callback from the loop too: what is no name
     * is answered there, and no server is asked. */
    bool is_asked = lookup != NULL && !lookup->is_literal && !lookup->is_host;
    resolver_ask(query->resolver, &query->question, is_asked ? query->domain : "", DNS_MX, on_mx);
}

static void ask(struct resolver *resolver, struct mx_query *query, const char *domain, bool is_host,
                void (*fn)(struct mx_query *query, struct mx_result *result))
{
    assert(fn != NULL);
    list_init(&query->link);
    query->fn = fn;
    query->resolver = resolver;
    query->domain = domain;
    query->is_host = is_host;
    query->lookup = NULL;
    query->question = (struct resolver_query){.ctx = query};
    list_push_back(&resolver->mx_waiting, &query->link);
    begin_waiting(resolver);
}

void mx_ask(struct resolver *resolver, struct mx_query *query, const char *domain,
            void (*fn)(struct mx_query *query, struct mx_result *result))
{
    ask(resolver, query, domain, false, fn);
}

void mx_ask_host(struct resolver *resolver, struct mx_query *query, const char *name,
                 void (*fn)(struct mx_query *query, struct mx_result *result))
{
    ask(resolver, query, name, true, fn);
}

void mx_cancel(struct mx_query *query)
{
    struct resolver *resolver = query->resolver;
    if (resolver == NULL)
        return;
    list_remove(&query->link);
    resolver_cancel(&query->question);
    if (query->lookup != NULL)
        free_lookup(query->lookup);
    query->lookup = NULL;
    query->resolver = NULL;
    begin_waiting(resolver);
}

void mx_result_free(struct mx_result *result)
{
    if (result != NULL)
        pool_free(result->pool, result, result->size);
}
