/* Whether a domain says that it takes no mail: see outbound_ask_null_mx. */

#include "gateway/outbound/outbound.h"

#include "gateway/outbound/dns/resolver.h"

struct null_mx_query {
    struct resolver_query question;
    struct pool *pool;
    void (*answer)(void *asker, bool is_null);
    void *asker;
};

/* One MX record, which names the root; a root among other exchanges means nothing (RFC 7505 §3). */
static bool is_null_mx(const struct dns_records *records)
{
    if (records->status != DNS_OK)
        return false;
    for (uint32_t i = 0; i < records->count; i++) {
        if (records->records[i].mx.exchange[0] != '\0')
            return false;
    }
    return records->count > 0;
}

static void on_mx(struct resolver_query *question, const struct dns_records *records)
{
    struct null_mx_query *query = question->ctx;
    struct null_mx_query asked = *query;

    pool_free(asked.pool, query, sizeof(*query));
    asked.answer(asked.asker, is_null_mx(records));
}

bool outbound_ask_null_mx(struct outbound *outbound, const char *domain,
                          void (*answer)(void *asker, bool is_null), void *asker)
{
    struct pool *pool = outbound->options.pool;
    struct null_mx_query *query = pool_alloc(pool, sizeof(*query));

    if (query == NULL)
        return false;
    *query = (struct null_mx_query){.pool = pool, .answer = answer, .asker = asker};
    query->question.ctx = query;
    resolver_ask(outbound->resolver, &query->question, domain, DNS_MX, on_mx);
    return true;
}
