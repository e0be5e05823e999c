#include "gateway/outbound/hop_query.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/outbound/lane.h"
#include "gateway/outbound/outbound.h"
#include "gateway/outbound/site.h"

enum {
    FAILURE_TTL_S = 10, /* as the resolver remembers failures */
    FIXED_TTL_S = 3600, /* of what needs no answer of the DNS */
    TTL_MIN_S = 5,      /* a lane is asked for no more often */
};

/* --- Asking --- */

bool hop_query_begin(struct outbound *outbound, struct lane_link *link, const char *domain,
                     struct destination_text *hosts, enum config_security tls)
{
    const struct outbound_options *options = &outbound->options;
    struct hop_query *query = calloc(1, sizeof(*query));

    assert(link->query == NULL && strlen(domain) < sizeof(query->domain));
    if (query == NULL) {
        free(hosts);
        return false;
    }
    query->asker = outbound;
    query->link = link;
    query->hosts = hosts;
    query->tls = tls;
    query->worker = (uint32_t)(next_hop_hash(domain) % options->worker_count);
    memcpy(query->domain, domain, strlen(domain) + 1);
    link->query = query;
    outbound->query_count++;
    if (query->worker == options->worker_index)
        hop_query_serve(outbound, query);
    else
        options->ask(options->context, query);
    return true;
}

/* --- Serving --- */

static void send_answer(struct hop_query *query)
{
    struct outbound *outbound = query->server;

    for (uint32_t i = 0; i < query->result_count; i++) {
        mx_result_free(query->results[i]);
        query->results[i] = NULL;
    }
    free(query->hosts);
    query->hosts = NULL;
    if (query->asker == outbound)
        hop_query_answered(query);
    else
        outbound->options.answer(outbound->options.context, query);
}

static void refuse(struct hop_query *query, uint16_t code, const char *status, const char *reason)
{
    query->code = code;
    snprintf(query->reason, sizeof(query->reason), "%s %.160s", status, reason);
}

static void refuse_by(struct hop_query *query, const struct mx_result *result)
{
    query->ttl_s = result != NULL ? result->ttl_s : FAILURE_TTL_S;
    if (result == NULL) {
        refuse(query, 451, "4.3.0", "no memory for the answer of the DNS");
        return;
    }
    switch (result->status) {
    case MX_NULL: /* RFC 7505 §4.1 and §4.3 */
        refuse(query, 556, "556 5.1.10", result->reason);
        break;
    case MX_NONE:
        refuse(query, 550, "5.4.4", result->reason);
        break;
    case MX_NXDOMAIN:
        refuse(query, 550, "5.1.2", result->reason);
        break;
    case MX_LOOP:
        refuse(query, 550, "5.4.6", result->reason);
        break;
    case MX_OK:
    case MX_TEMPORARY:
        refuse(query, 451, "4.4.3", result->reason);
        break;
    }
}

static void answer_with(struct hop_query *query, struct next_hop *draft)
{
    draft->tls = next_hop_security(query->server->config, draft, query->tls);
    query->hop = next_hop_new(draft);
    if (query->hop == NULL)
        refuse(query, 451, "4.3.0", "no memory for the next hop");
}

/* Into its place by preference. */
static void insert_host(struct next_hop *draft, struct next_hop_host *hosts, const struct mx_host *host)
{
    uint32_t at = draft->host_count++;

    for (; at > 0 && hosts[at - 1].preference > host->preference; at--)
        hosts[at] = hosts[at - 1];
    hosts[at] = (struct next_hop_host){
        .name = host->name,
        .preference = host->preference,
        .port = 25,
        .is_authentic = host->is_authentic,
        .address_count = host->address_count,
        .addresses = host->addresses,
    };
}

/* Only the order of the preferences counts, so that 10 and 20 are the same site as 5 and 50. */
static void rank_hosts(struct next_hop_host *hosts, uint32_t count)
{
    uint16_t last = hosts[0].preference;
    uint16_t rank = 0;

    for (uint32_t i = 0; i < count; i++) {
        rank += hosts[i].preference != last;
        last = hosts[i].preference;
        hosts[i].preference = rank;
    }
}

/* A host without an address now is one of the site's, too: were it left out, there would be another site,
 * with limits of its own, for as long as its name cannot be looked up. */
static void conclude_mx(struct hop_query *query)
{
    const struct mx_result *result = query->results[0];
    struct next_hop_host hosts[NEXT_HOP_HOSTS_MAX];
    struct next_hop draft = {.hosts = hosts, .is_mx = true};

    if (result == NULL || result->status != MX_OK) {
        refuse_by(query, result);
        return;
    }
    uint32_t count = result->host_count + result->absent_count;
    assert(result->host_count > 0 && count <= NEXT_HOP_HOSTS_MAX);
    for (uint32_t i = 0; i < count; i++)
        insert_host(&draft, hosts, &result->hosts[i]);
    rank_hosts(hosts, count);
    draft.name = next_hop_shared_name(&draft);
    query->ttl_s = result->ttl_s;
    answer_with(query, &draft);
}

static void set_port(struct sockaddr_storage *address, uint16_t port)
{
    if (address->ss_family == AF_INET)
        ((struct sockaddr_in *)(void *)address)->sin_port = htons(port);
    else
        ((struct sockaddr_in6 *)(void *)address)->sin6_port = htons(port);
}

/* False: the host has no address now; it is one of the site's nevertheless. */
static bool take_host(struct hop_query *query, uint32_t index, struct next_hop_host *out)
{
    const struct destination *destination = &query->hosts->destination;
    const struct destination_host *host = &destination->hosts[index];
    struct mx_result *result = query->results[index];

    *out = (struct next_hop_host){
        .name = host->name,
        .preference = host->weight > 0 ? 0 : (uint16_t)index,
        .weight = host->weight,
        .port = host->port,
        .address_count = (uint32_t)host->address_count,
        .addresses = host->addresses,
    };
    if (host->address_count > 0)
        return true;
    if (result == NULL || result->status != MX_OK)
        return false;
    for (uint32_t i = 0; i < result->hosts[0].address_count; i++)
        set_port(&result->hosts[0].addresses[i], host->port);
    out->address_count = result->hosts[0].address_count;
    out->addresses = result->hosts[0].addresses;
    if (result->ttl_s < query->ttl_s)
        query->ttl_s = result->ttl_s;
    return true;
}

/* A smarthost whose name leads nowhere is the operator's mistake, or the DNS's: mail waits. */
static void conclude_hosts(struct hop_query *query)
{
    const struct destination *destination = &query->hosts->destination;
    struct next_hop_host hosts[NEXT_HOP_HOSTS_MAX];
    struct next_hop draft = {
        .name = destination->name,
        .hosts = hosts,
        .is_lmtp = destination->kind == DESTINATION_LMTP,
        .tls_names = destination->tls_names,
        .tls_name_count = (uint32_t)destination->tls_name_count,
    };
    uint32_t present = 0;

    query->ttl_s = FIXED_TTL_S;
    draft.host_count = (uint32_t)destination->host_count;
    for (uint32_t i = 0; i < draft.host_count; i++)
        present += take_host(query, i, &hosts[i]);
    if (present < draft.host_count)
        query->ttl_s = FAILURE_TTL_S; /* those that are missing may soon be there */
    if (present > 0) {
        answer_with(query, &draft);
        return;
    }
    query->ttl_s = FAILURE_TTL_S;
    refuse(query, 451, "4.4.3", "no host of the route has an address");
}

static void ask_next_host(struct hop_query *query);

static void on_host(struct mx_query *mx, struct mx_result *result)
{
    struct hop_query *query = mx->ctx;

    query->results[query->result_count++] = result;
    ask_next_host(query);
}

static void ask_next_host(struct hop_query *query)
{
    const struct destination *destination = &query->hosts->destination;

    assert(destination->host_count <= NEXT_HOP_HOSTS_MAX);
    while (query->result_count < destination->host_count) {
        const struct destination_host *host = &destination->hosts[query->result_count];
        if (host->address_count == 0) {
            mx_ask_host(query->server->resolver, &query->mx, host->name, on_host);
            return;
        }
        query->results[query->result_count++] = NULL;
    }
    conclude_hosts(query);
    send_answer(query);
}

static void on_mx(struct mx_query *mx, struct mx_result *result)
{
    struct hop_query *query = mx->ctx;

    query->results[query->result_count++] = result;
    conclude_mx(query);
    send_answer(query);
}

void hop_query_serve(struct outbound *outbound, struct hop_query *query)
{
    query->server = outbound;
    query->mx.ctx = query;
    if (query->hosts != NULL)
        ask_next_host(query);
    else
        mx_ask(outbound->resolver, &query->mx, query->domain, on_mx);
}

/* --- The answer --- */

/* The worker that was asked may still have, or have already, another configuration: how we speak with the
 * hosts is for this worker's to say. */
static bool secure_by_own(struct hop_query *query)
{
    struct next_hop *hop = query->hop;
    enum config_security tls = next_hop_security(query->asker->config, hop, query->tls);

    if (tls == hop->tls)
        return true;
    struct next_hop draft = *hop;
    draft.tls = tls;
    query->hop = next_hop_new(&draft);
    next_hop_unref(hop);
    return query->hop != NULL;
}

static struct site *site_of_answer(struct outbound *outbound, struct hop_query *query)
{
    struct site *site = NULL;

    if (query->hop != NULL)
        site = secure_by_own(query) ? site_of_hop(outbound, query->hop) : NULL;
    else
        site = site_of_verdict(outbound, query->code, query->reason);
    return site != NULL ? site : outbound->no_memory;
}

void hop_query_answered(struct hop_query *query)
{
    struct outbound *outbound = query->asker;
    struct lane_link *link = query->link;

    assert(outbound->query_count > 0);
    outbound->query_count--;
    if (link != NULL) {
        assert(link->query == query);
        link->query = NULL;
        if (!outbound->is_draining) {
            uint64_t ttl_s = query->ttl_s > TTL_MIN_S ? query->ttl_s : TTL_MIN_S;
            link->expires_us = loop_now_us(outbound->options.loop) + ttl_s * 1000000;
            lane_set_site(link, site_of_answer(outbound, query));
        }
    }
    next_hop_unref(query->hop);
    free(query);
}
