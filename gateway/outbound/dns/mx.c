#include "gateway/outbound/dns/mx.h"

#include <assert.h>
#include <string.h>

#include "gateway/outbound/dns/mx_inner.h"

/*
 *   mx_ask ──▶ asking for MX ──▶ asking for A and AAAA of each host ──▶ concluded
 *                   │                                                       ▲
 *                   └── null MX, no such domain, failure, address literal ──┘
 */

static void conclude(struct mx_lookup *lookup)
{
    struct mx_query *query = lookup->query;
    struct mx_result *result = mx_conclude(lookup);
    query->lookup = NULL;
    mx_lookup_free(lookup);
    query->fn(query, result);
}

void mx_lookup_free(struct mx_lookup *lookup)
{
    struct pool *pool = lookup->resolver->options.pool;
    dns_records_release(pool, lookup->mx);
    for (uint32_t index = 0; index < lookup->host_count; index++) {
        for (int family = 0; family < MX_FAMILIES; family++) {
            resolver_cancel(&lookup->hosts[index].queries[family]);
            dns_records_release(pool, lookup->hosts[index].answers[family]);
        }
    }
    pool_free(pool, lookup, sizeof(*lookup));
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
        query->fn(query, NULL);
        return;
    }
    lookup->mx = dns_records_ref(records);
    if (!lookup->is_literal && !lookup->is_host)
        mx_choose_hosts(lookup);
    ask_addresses(lookup);
}

static struct mx_lookup *new_lookup(struct resolver *resolver, struct mx_query *query, const char *domain)
{
    struct mx_lookup *lookup = pool_alloc(resolver->options.pool, sizeof(*lookup));
    if (lookup == NULL)
        return NULL;
    memset(lookup, 0, sizeof(*lookup));
    lookup->resolver = resolver;
    lookup->query = query;
    if (domain[0] == '[')
        mx_take_literal(lookup, domain);
    return lookup;
}

static void ask(struct resolver *resolver, struct mx_query *query, const char *domain,
                void (*fn)(struct mx_query *query, struct mx_result *result))
{
    assert(fn != NULL);
    query->fn = fn;
    query->question.ctx = query;
    /* What needs no MX records, and a lack of memory, have their callback from the loop too: what is no name
     * is answered there, and no server is asked. */
    bool is_asked = query->lookup != NULL && !query->lookup->is_literal && !query->lookup->is_host;
    resolver_ask(resolver, &query->question, is_asked ? domain : "", DNS_MX, on_mx);
}

void mx_ask(struct resolver *resolver, struct mx_query *query, const char *domain,
            void (*fn)(struct mx_query *query, struct mx_result *result))
{
    query->lookup = new_lookup(resolver, query, domain);
    ask(resolver, query, domain, fn);
}

void mx_ask_host(struct resolver *resolver, struct mx_query *query, const char *name,
                 void (*fn)(struct mx_query *query, struct mx_result *result))
{
    query->lookup = new_lookup(resolver, query, name);
    if (query->lookup != NULL)
        mx_take_host(query->lookup, name);
    ask(resolver, query, name, fn);
}

void mx_cancel(struct mx_query *query)
{
    resolver_cancel(&query->question);
    if (query->lookup != NULL)
        mx_lookup_free(query->lookup);
    query->lookup = NULL;
}

void mx_result_free(struct mx_result *result)
{
    if (result != NULL)
        pool_free(result->pool, result, result->size);
}
