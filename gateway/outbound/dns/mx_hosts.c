#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "gateway/outbound/dns/mx_inner.h"

/* Adds a host with a name in the form of name.h, unless it is there already with a better preference. */
static void add_host(struct mx_lookup *lookup, const char *name, uint16_t preference)
{
    assert(lookup->host_count < MX_HOSTS_MAX && strlen(name) < DNS_NAME_SIZE);
    for (uint32_t index = 0; index < lookup->host_count; index++) {
        if (strcmp(lookup->hosts[index].name, name) == 0)
            return;
    }
    struct mx_candidate *host = &lookup->hosts[lookup->host_count++];
    host->lookup = lookup;
    host->preference = preference;
    snprintf(host->name, sizeof(host->name), "%s", name);
    host->is_literal = parse_ip(name, lookup->resolver->options.smtp_port, &host->literal) == 0;
}

void mx_take_literal(struct mx_lookup *lookup, const char *domain)
{
    static const char tag[] = "[ipv6:"; /* RFC 5321 §4.1.3; the key is in small letters */
    char text[ADDRESS_TEXT_SIZE];
    bool has_tag = strncmp(domain, tag, sizeof(tag) - 1) == 0;
    int size = has_tag ? snprintf(text, sizeof(text), "[%s", domain + sizeof(tag) - 1)
                       : snprintf(text, sizeof(text), "%s", domain + 1);
    if (size < 2 || (size_t)size >= sizeof(text) || text[size - 1] != ']')
        return;
    if (!has_tag)
        text[size - 1] = '\0';
    struct sockaddr_storage address;
    if (parse_ip(text, lookup->resolver->options.smtp_port, &address) < 0 ||
        (address.ss_family == AF_INET6) != has_tag)
        return;
    lookup->is_literal = true;
    lookup->host_count = 1;
    struct mx_candidate *host = &lookup->hosts[0];
    *host = (struct mx_candidate){.lookup = lookup, .literal = address, .is_literal = true};
    snprintf(host->name, sizeof(host->name), "%.*s", DNS_NAME_SIZE - 1, domain);
}

void mx_take_host(struct mx_lookup *lookup, const char *name)
{
    assert(lookup->host_count == 0);
    lookup->is_host = true;
    if (strlen(name) < DNS_NAME_SIZE)
        add_host(lookup, name, 0);
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

/* A random order among equals, so that they share the load. */
static void shuffle_equals(struct mx_lookup *lookup, uint16_t order[static DNS_RECORDS_MAX])
{
    const struct dns_records *mx = lookup->mx;
    for (uint32_t index = 0; index < mx->count; index++)
        order[index] = (uint16_t)index;
    uint32_t start = 0;
    for (uint32_t index = 0; index < mx->count; index++) {
        assert(index == 0 || mx->records[index - 1].mx.preference <= mx->records[index].mx.preference);
        if (mx->records[index].mx.preference != mx->records[start].mx.preference)
            start = index;
        uint32_t other = start + resolver_random(lookup->resolver, index - start + 1);
        uint16_t moved = order[other];
        order[other] = order[index];
        order[index] = moved;
    }
}

static void choose_exchanges(struct mx_lookup *lookup)
{
    const struct dns_records *mx = lookup->mx;
    uint16_t order[DNS_RECORDS_MAX];
    assert(mx->count > 0 && mx->count <= DNS_RECORDS_MAX);
    find_own(lookup);
    shuffle_equals(lookup, order);
    lookup->is_null = true;
    for (uint32_t index = 0; index < mx->count && lookup->host_count < MX_HOSTS_MAX; index++) {
        const struct dns_record *record = &mx->records[order[index]];
        if (record->mx.exchange[0] == '\0')
            continue;
        lookup->is_null = false;
        bool is_cut = lookup->has_own && record->mx.preference >= lookup->own_preference;
        if (!is_cut && strcmp(record->mx.exchange, DNS_EXCHANGE_BAD) != 0)
            add_host(lookup, record->mx.exchange, record->mx.preference);
    }
}

void mx_choose_hosts(struct mx_lookup *lookup)
{
    assert(lookup->host_count == 0);
    if (lookup->mx->status == DNS_OK) {
        choose_exchanges(lookup);
    } else if (lookup->mx->status == DNS_NODATA) {
        lookup->is_implicit = true;
        lookup->has_own = own_hosts_has_name(&lookup->resolver->own, lookup->mx->name);
        if (!lookup->has_own)
            add_host(lookup, lookup->mx->name, 0);
    }
}
