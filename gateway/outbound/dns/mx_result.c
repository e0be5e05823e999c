#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/outbound/dns/mx_inner.h"

static uint32_t address_count_of(const struct mx_candidate *host, int family)
{
    const struct dns_records *answer = host->answers[family];
    return answer != NULL && answer->status == DNS_OK ? answer->count : 0;
}

static struct sockaddr_storage address_of(const struct mx_candidate *host, int family, uint32_t index)
{
    struct sockaddr_storage address = {0};
    const struct dns_record *record = &host->answers[family]->records[index];
    uint16_t port = htons(host->lookup->resolver->options.smtp_port);
    if (family == MX_V6) {
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&address;
        v6->sin6_family = AF_INET6;
        v6->sin6_addr = record->aaaa;
        v6->sin6_port = port;
    } else {
        struct sockaddr_in *v4 = (struct sockaddr_in *)&address;
        v4->sin_family = AF_INET;
        v4->sin_addr = record->a;
        v4->sin_port = port;
    }
    return address;
}

static bool is_own(const struct mx_candidate *host)
{
    const struct own_hosts *own = &host->lookup->resolver->own;
    if (host->is_literal)
        return own_hosts_has_address(own, &host->literal.any);
    for (int family = 0; family < MX_FAMILIES; family++) {
        for (uint32_t index = 0; index < address_count_of(host, family); index++) {
            struct sockaddr_storage address = address_of(host, family, index);
            if (own_hosts_has_address(own, (const struct sockaddr *)&address))
                return true;
        }
    }
    return false;
}

static bool has_address(const struct mx_candidate *host)
{
    return host->is_literal || address_count_of(host, MX_V6) + address_count_of(host, MX_V4) > 0;
}

/* How many hosts come before us: all, when none of them is us. */
static uint32_t count_before_us(const struct mx_lookup *lookup, bool *has_own)
{
    for (uint32_t index = 0; index < lookup->host_count && !lookup->is_host; index++) {
        if (!is_own(&lookup->hosts[index]))
            continue;
        *has_own = true;
        uint32_t before = index;
        while (before > 0 && lookup->hosts[before - 1].preference == lookup->hosts[index].preference)
            before--;
        return before;
    }
    return lookup->host_count;
}

/* Why a host has no address, if that may be otherwise later; else NULL. */
static const char *temporary_reason(const struct mx_lookup *lookup, uint32_t host_count)
{
    for (uint32_t index = 0; index < host_count; index++) {
        for (int family = 0; family < MX_FAMILIES; family++) {
            const struct dns_records *answer = lookup->hosts[index].answers[family];
            if (answer != NULL && answer->status == DNS_TEMPORARY)
                return answer->reason;
        }
    }
    return NULL;
}

/* What is said of a domain without a host that could be tried. */
static void judge_nothing(const struct mx_lookup *lookup, uint32_t host_count, bool has_own,
                          struct mx_result *result)
{
    const char *temporary = temporary_reason(lookup, host_count);
    if ((lookup->mx->status == DNS_TEMPORARY && !lookup->is_host) || temporary != NULL) {
        result->status = MX_TEMPORARY;
        result->reason = temporary != NULL ? temporary : lookup->mx->reason;
    } else if (lookup->mx->status == DNS_NXDOMAIN && !lookup->is_literal && !lookup->is_host) {
        result->status = MX_NXDOMAIN;
        result->reason = lookup->mx->reason;
    } else if (lookup->is_null) {
        result->status = MX_NULL;
        result->reason = "the domain takes no mail";
    } else if (has_own) {
        result->status = MX_LOOP;
        result->reason = "mail for the domain would come back to us";
    } else {
        result->status = MX_NONE;
        result->reason = "no mail host of the domain has an address";
    }
}

/* RFC 6724 §6 rule 1: is there any way to the address? Asks the kernel's routes; sends nothing. */
static bool is_reachable(const struct sockaddr_storage *address)
{
    int fd = socket(address->ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno != EAFNOSUPPORT;
    int result =
        connect(fd, (const struct sockaddr *)address, address_size((const struct sockaddr *)address));
    close(fd);
    return result == 0;
}

/* IPv6 goes first where it can go at all, and then in turn, so that a dead family costs one attempt. */
static void take_addresses(const struct mx_candidate *from, struct mx_host *host)
{
    if (from->is_literal) {
        memset(&host->addresses[0], 0, sizeof(host->addresses[0]));
        memcpy(&host->addresses[host->address_count++], &from->literal, sizeof(from->literal));
        return;
    }
    uint32_t left[MX_FAMILIES];
    uint32_t start[MX_FAMILIES];
    for (int family = 0; family < MX_FAMILIES; family++) {
        left[family] = address_count_of(from, family);
        start[family] = left[family] > 0 ? resolver_random(from->lookup->resolver, left[family]) : 0;
    }
    int family = MX_V6;
    if (left[MX_V6] > 0 && left[MX_V4] > 0) {
        struct sockaddr_storage first = address_of(from, MX_V6, start[MX_V6]);
        family = is_reachable(&first) ? MX_V6 : MX_V4;
    }
    while (host->address_count < MX_ADDRESSES_MAX && left[MX_V6] + left[MX_V4] > 0) {
        if (left[family] > 0) {
            uint32_t index = (start[family] + --left[family]) % address_count_of(from, family);
            host->addresses[host->address_count++] = address_of(from, family, index);
        }
        family = MX_FAMILIES - 1 - family;
    }
}

/* RFC 7672 §2.2.2: what the answers say, or that there are none, is signed. */
static bool is_authentic(const struct mx_candidate *host)
{
    for (int family = 0; family < MX_FAMILIES; family++) {
        if (host->answers[family] == NULL || !host->answers[family]->is_authentic)
            return false;
    }
    return true;
}

static void take_host(const struct mx_candidate *from, bool is_led_safely, struct mx_host *host)
{
    snprintf(host->name, sizeof(host->name), "%s", from->name);
    host->preference = from->preference;
    host->is_authentic = is_led_safely && is_authentic(from);
    host->address_count = 0;
    take_addresses(from, host);
}

/* The shortest time to live of all that led to the result. */
static uint32_t shortest_ttl(const struct mx_lookup *lookup)
{
    uint64_t now_us = resolver_now_us(lookup->resolver);
    uint32_t shortest_s = RESOLVER_TTL_MAX_S;
    uint32_t ttl_s = lookup->is_host ? shortest_s : dns_records_ttl(lookup->mx, now_us);
    shortest_s = ttl_s < shortest_s ? ttl_s : shortest_s;
    for (uint32_t index = 0; index < lookup->host_count; index++) {
        for (int family = 0; family < MX_FAMILIES; family++) {
            const struct dns_records *answer = lookup->hosts[index].answers[family];
            if (answer == NULL)
                continue;
            ttl_s = dns_records_ttl(answer, now_us);
            shortest_s = ttl_s < shortest_s ? ttl_s : shortest_s;
        }
    }
    return shortest_s > 0 ? shortest_s : 1;
}

struct mx_result *mx_conclude(const struct mx_lookup *lookup)
{
    assert(lookup->mx != NULL && lookup->pending == 0);
    bool has_own = lookup->has_own;
    uint32_t before_us = count_before_us(lookup, &has_own);
    uint32_t count = 0;
    for (uint32_t index = 0; index < before_us; index++)
        count += has_address(&lookup->hosts[index]);

    struct pool *pool = lookup->resolver->options.pool;
    uint32_t room = count > 0 ? before_us : 0;
    size_t size = sizeof(struct mx_result) + room * sizeof(struct mx_host);
    struct mx_result *result = pool_alloc(pool, size);
    if (result == NULL)
        return NULL;
    *result = (struct mx_result){
        .status = MX_OK,
        .reason = "",
        .is_implicit = lookup->is_implicit,
        .is_authentic = lookup->mx->is_authentic,
        .ttl_s = shortest_ttl(lookup),
        .pool = pool,
        .size = size,
    };
    for (uint32_t index = 0; index < room; index++) {
        const struct mx_candidate *host = &lookup->hosts[index];
        uint32_t at = has_address(host) ? result->host_count++ : count + result->absent_count++;
        take_host(host, result->is_authentic, &result->hosts[at]);
    }
    assert(result->host_count == count && count + result->absent_count == room);
    if (count == 0)
        judge_nothing(lookup, before_us, has_own, result);
    return result;
}
