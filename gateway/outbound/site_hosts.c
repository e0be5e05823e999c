/* The addresses of a site: which there are, and which one comes next. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "gateway/outbound/client.h"
#include "gateway/outbound/group.h"
#include "gateway/outbound/site.h"

static struct endpoint *endpoint_of(struct list *link)
{
    return list_entry(link, struct endpoint, link);
}

/* --- Which there are --- */

static struct endpoint *find_same(struct list *endpoints, const struct next_hop_host *host,
                                  const struct sockaddr_storage *address)
{
    list_each(link, endpoints)
    {
        struct endpoint *endpoint = endpoint_of(link);
        if (strcmp(endpoint->host, host->name) == 0 && endpoint->preference == host->preference &&
            address_equals((const struct sockaddr *)&endpoint->address, (const struct sockaddr *)address))
            return endpoint;
    }
    return NULL;
}

static void forget(struct endpoint *endpoint)
{
    group_host_release(endpoint->host_room);
    endpoint_free(endpoint);
}

/* Its sessions go on: answers of the DNS take turns, so most addresses that are gone are as good as before.
 */
static void drop(struct site *site, struct endpoint *endpoint)
{
    list_remove(&endpoint->link);
    if (endpoint->users == 0) {
        forget(endpoint);
        return;
    }
    endpoint->is_old = true;
    list_push_back(&site->old_endpoints, &endpoint->link);
}

void site_release_endpoint(struct endpoint *endpoint)
{
    if (endpoint->is_old && endpoint->users == 0)
        forget(endpoint);
}

static void drop_all(struct site *site, struct list *endpoints)
{
    struct list *link;
    while ((link = list_first(endpoints)) != NULL)
        drop(site, endpoint_of(link));
}

static struct endpoint *add(struct site *site, const struct next_hop_host *host,
                            const struct sockaddr_storage *address)
{
    struct endpoint *endpoint = endpoint_new(host, address);

    if (endpoint == NULL)
        return NULL;
    endpoint->host_room = group_host_find(site->group, host->name);
    if (endpoint->host_room != NULL)
        return endpoint;
    endpoint_free(endpoint);
    return NULL;
}

int site_take_hosts(struct site *site)
{
    const struct next_hop *hop = site->hop;
    struct list before;

    list_init(&before);
    list_splice_back(&before, &site->endpoints);
    for (uint32_t i = 0; i < hop->host_count; i++) {
        for (uint32_t j = 0; j < hop->hosts[i].address_count; j++) {
            const struct sockaddr_storage *address = &hop->hosts[i].addresses[j];
            struct endpoint *endpoint = find_same(&before, &hop->hosts[i], address);
            if (endpoint == NULL)
                endpoint = find_same(&site->old_endpoints, &hop->hosts[i], address);
            if (endpoint == NULL)
                endpoint = add(site, &hop->hosts[i], address);
            if (endpoint == NULL) { /* what is old is still good */
                list_splice_back(&site->endpoints, &before);
                return list_is_empty(&site->endpoints) ? -ENOMEM : 0;
            }
            list_remove(&endpoint->link);
            endpoint->is_old = false;
            list_push_back(&site->endpoints, &endpoint->link);
        }
    }
    drop_all(site, &before);
    assert(!list_is_empty(&site->endpoints));
    return 0;
}

void site_drop_hosts(struct site *site)
{
    drop_all(site, &site->endpoints);
    drop_all(site, &site->old_endpoints);
    assert(list_is_empty(&site->endpoints) && list_is_empty(&site->old_endpoints));
}

void site_allow_all(struct site *site)
{
    list_each(link, &site->endpoints)
    {
        endpoint_of(link)->left_out_until_us = 0;
    }
}

static bool endpoint_remembers(const struct endpoint *endpoint, uint64_t now_us)
{
    bool is_lowered = endpoint->gear_max < GEAR_STREAM && endpoint->rest_until_us > now_us;
    return is_lowered || endpoint->tls_bad_until_us > now_us || endpoint->helo_only_until_us > now_us;
}

bool site_remembers(const struct site *site, uint64_t now_us)
{
    /* Other groups are kept without sites. */
    if (site->group != NULL && site->group->key == NULL && !shaper_is_at_rest(&site->group->shaper, now_us))
        return true;
    list_each(link, &site->endpoints)
    {
        if (endpoint_remembers(endpoint_of(link), now_us))
            return true;
    }
    return false;
}

/* --- Which one comes next --- */

bool site_has_endpoint(const struct site *site)
{
    uint64_t now_us = loop_now_us(site->outbound->options.loop);

    list_each(link, &site->endpoints)
    {
        if (endpoint_is_usable(endpoint_of(link), now_us))
            return true;
    }
    return false;
}

/* How much busier its host is than the other's, for their weights: below 0, 0, above 0. */
static int compare_load(const struct endpoint *a, const struct endpoint *b)
{
    uint64_t weight_a = a->weight > 0 ? a->weight : 1;
    uint64_t weight_b = b->weight > 0 ? b->weight : 1;
    uint64_t load_a = a->host_room->sessions * weight_b;
    uint64_t load_b = b->host_room->sessions * weight_a;
    return load_a < load_b ? -1 : load_a > load_b;
}

/* Of one host and one family, so that one may stand for the other. */
static bool are_alike(const struct endpoint *a, const struct endpoint *b)
{
    return a->host_room == b->host_room && a->preference == b->preference &&
           a->address.ss_family == b->address.ss_family;
}

/* Of the usable addresses of this one's host and family, one with the fewest sessions. By weights messages
 * are dealt out to hosts, and the sessions of a host stand at one address. */
static struct endpoint *least_used(struct site *site, struct endpoint *first, uint64_t now_us)
{
    struct endpoint *best = first;
    uint32_t equals = 1;

    if (first->weight > 0)
        return first;
    for (struct list *link = first->link.next; link != &site->endpoints; link = link->next) {
        struct endpoint *endpoint = endpoint_of(link);
        if (endpoint->host_room != first->host_room)
            break;
        if (!are_alike(endpoint, first) || !endpoint_is_usable(endpoint, now_us) ||
            endpoint->users > best->users)
            continue;
        equals = endpoint->users < best->users ? 1 : equals + 1;
        if (outbound_random(site->outbound) % equals == 0)
            best = endpoint;
    }
    return best;
}

/* The addresses of a host stand together, in order: the first that is not left out counts for all of them. */
static struct endpoint *next_usable(struct list *endpoints, struct list **at, uint64_t now_us)
{
    const struct endpoint *last = *at == endpoints ? NULL : endpoint_of(*at);

    for (struct list *link = (*at)->next; link != endpoints; link = link->next) {
        struct endpoint *endpoint = endpoint_of(link);
        if (!endpoint_is_usable(endpoint, now_us) || (last != NULL && last->host_room == endpoint->host_room))
            continue;
        *at = link;
        return endpoint;
    }
    return NULL;
}

/* A host that is full is not a reason to go to one that is less preferred. */
struct endpoint *site_endpoint(struct site *site)
{
    uint64_t now_us = loop_now_us(site->outbound->options.loop);
    struct list *at = &site->endpoints;
    const struct endpoint *first = NULL;
    struct endpoint *best = NULL;
    struct endpoint *endpoint;
    uint32_t equals = 0;

    while ((endpoint = next_usable(&site->endpoints, &at, now_us)) != NULL) {
        if (first == NULL)
            first = endpoint;
        if (endpoint->preference > first->preference)
            break;
        if (!group_host_has_room(endpoint->host_room))
            continue;
        int load = best == NULL ? -1 : compare_load(endpoint, best);
        equals = load < 0 ? 1 : equals + (load == 0);
        if (load < 0 || (load == 0 && outbound_random(site->outbound) % equals == 0))
            best = endpoint;
    }
    return best != NULL ? least_used(site, best, now_us) : NULL;
}

/* A host that is left out must not get all the mail when it is back. */
static void keep_up(struct site *site, const struct endpoint *best, uint64_t now_us)
{
    list_each(link, &site->endpoints)
    {
        struct endpoint *endpoint = endpoint_of(link);
        uint64_t due = best->sent * endpoint->weight / best->weight;
        if (!endpoint_is_usable(endpoint, now_us) && endpoint->sent < due)
            endpoint->sent = due;
    }
}

struct endpoint *site_weighted_endpoint(struct site *site)
{
    uint64_t now_us = loop_now_us(site->outbound->options.loop);
    struct list *at = &site->endpoints;
    struct endpoint *best = NULL;
    struct endpoint *endpoint;

    while ((endpoint = next_usable(&site->endpoints, &at, now_us)) != NULL) {
        if (endpoint->weight == 0)
            return NULL;
        if (best == NULL || (endpoint->sent + 1) * best->weight < (best->sent + 1) * endpoint->weight)
            best = endpoint;
    }
    if (best != NULL)
        keep_up(site, best, now_us);
    return best;
}

/* All addresses of a host count together; and the counts stay small. */
void site_count_sent(struct site *site, struct endpoint *endpoint)
{
    enum { HALVE_AT = 1 << 10 };

    if (endpoint->weight == 0)
        return;
    bool is_large = endpoint->sent + 1 >= (uint64_t)HALVE_AT * endpoint->weight;
    list_each(link, &site->endpoints)
    {
        struct endpoint *other = endpoint_of(link);
        if (other->host_room == endpoint->host_room)
            other->sent++;
        if (is_large)
            other->sent /= 2;
    }
}
