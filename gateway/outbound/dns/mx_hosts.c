#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "gateway/outbound/dns/mx_inner.h"

/* Room for so many hosts. 0 or -ENOMEM. */
static int make_room(struct mx_lookup *lookup, uint32_t count)
{
    assert(lookup->host_room == 0 && count > 0);
    lookup->hosts = pool_alloc(lookup->resolver->options.pool, count * sizeof(*lookup->hosts));
    if (lookup->hosts == NULL)
        return -ENOMEM;
    lookup->host_room = count;
    return 0;
}

/* The name as an IP address; false: it is none. */
static bool read_address(const struct mx_lookup *lookup, const char *text, union mx_address *address)
{
    struct sockaddr_storage parsed;
    if (parse_ip(text, lookup->resolver->options.smtp_port, &parsed) < 0)
        return false;
    memcpy(address, &parsed, sizeof(*address));
    return true;
}

/* Adds a host with a name in the form of name.h (lent), unless it is there already with a better preference.
 */
static void add_host(struct mx_lookup *lookup, const char *name, uint16_t preference)
{
    for (uint32_t index = 0; index < lookup->host_count; index++) {
        if (strcmp(lookup->hosts[index].name, name) == 0)
            return;
    }
    assert(lookup->host_count < lookup->host_room && strlen(name) < DNS_NAME_SIZE);
    struct mx_candidate *host = &lookup->hosts[lookup->host_count++];
    *host = (struct mx_candidate){.lookup = lookup, .name = name, .preference = preference};
    host->is_literal = read_address(lookup, name, &host->literal);
}

int mx_take_literal(struct mx_lookup *lookup, const char *domain)
{
    static const char tag[] = "[ipv6:"; /* RFC 5321 §4.1.3; the key is in small letters */
    char text[ADDRESS_TEXT_SIZE];
    bool has_tag = strncmp(domain, tag, sizeof(tag) - 1) == 0;
    int size = has_tag ? snprintf(text, sizeof(text), "[%s", domain + sizeof(tag) - 1)
                       : snprintf(text, sizeof(text), "%s", domain + 1);
    if (size < 2 || (size_t)size >= sizeof(text) || text[size - 1] != ']')
        return 0;
    if (!has_tag)
        text[size - 1] = '\0';
    union mx_address address;
    if (!read_address(lookup, text, &address) || (address.any.sa_family == AF_INET6) != has_tag)
        return 0;
    if (make_room(lookup, 1) < 0)
        return -ENOMEM;
    lookup->is_literal = true;
    lookup->host_count = 1;
    lookup->hosts[0] =
        (struct mx_candidate){.lookup = lookup, .name = domain, .literal = address, .is_literal = true};
    return 0;
}

int mx_take_host(struct mx_lookup *lookup, const char *name)
{
    assert(lookup->host_count == 0 && lookup->is_host);
    if (strlen(name) >= DNS_NAME_SIZE)
        return 0;
    if (make_room(lookup, 1) < 0)
        return -ENOMEM;
    add_host(lookup, name, 0);
    return 0;
}

/* RFC 5321 §5.1: whoever stands where we stand, or behind us, would only give the mail back to us. */
static void find_own(struct mx_lookup *lookup)
{
    for (uint32_t index = 0; index < lookup->mx->count; index++) {
        const struct dns_record *record = &lookup->mx->records[index];
        if (!own_hosts_has_name(&lookup->resolver->own, record->mx.exchange))
            continue;
        lookup->has_own = true;
        lookup->own_preference = record->mx.preference;
        return; /* they are sorted: this is the best of ours */
    }
}

/* A random order among equals, so that they share the load. Nothing points to them yet. */
static void shuffle_equals(struct mx_lookup *lookup)
{
    struct mx_candidate *hosts = lookup->hosts;
    uint32_t start = 0;
    for (uint32_t index = 0; index < lookup->host_count; index++) {
        assert(index == 0 || hosts[index - 1].preference <= hosts[index].preference);
        if (hosts[index].preference != hosts[start].preference)
            start = index;
        uint32_t other = start + resolver_random(lookup->resolver, index - start + 1);
        struct mx_candidate moved = hosts[other];
        hosts[other] = hosts[index];
        hosts[index] = moved;
    }
}

/* The records are by preference and name, so it is always the same hosts that are left of too many. */
static int choose_exchanges(struct mx_lookup *lookup)
{
    const struct dns_records *mx = lookup->mx;
    assert(mx->count > 0 && mx->count <= DNS_RECORDS_MAX);
    if (make_room(lookup, mx->count < MX_HOSTS_MAX ? mx->count : MX_HOSTS_MAX) < 0)
        return -ENOMEM;
    find_own(lookup);
    lookup->is_null = true;
    for (uint32_t index = 0; index < mx->count && lookup->host_count < lookup->host_room; index++) {
        const struct dns_record *record = &mx->records[index];
        if (record->mx.exchange[0] == '\0')
            continue;
        lookup->is_null = false;
        bool is_cut = lookup->has_own && record->mx.preference >= lookup->own_preference;
        if (!is_cut && strcmp(record->mx.exchange, DNS_EXCHANGE_BAD) != 0)
            add_host(lookup, record->mx.exchange, record->mx.preference);
    }
    shuffle_equals(lookup);
    return 0;
}

int mx_choose_hosts(struct mx_lookup *lookup)
{
    assert(lookup->host_count == 0);
    if (lookup->mx->status == DNS_OK)
        return choose_exchanges(lookup);
    if (lookup->mx->status != DNS_NODATA)
        return 0;
    lookup->is_implicit = true;
    lookup->has_own = own_hosts_has_name(&lookup->resolver->own, lookup->mx->name);
    if (lookup->has_own)
        return 0;
    if (make_room(lookup, 1) < 0)
        return -ENOMEM;
    add_host(lookup, lookup->mx->name, 0);
    return 0;
}
