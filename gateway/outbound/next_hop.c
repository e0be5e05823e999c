#include "gateway/outbound/next_hop.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libpsl.h>

#include "gateway/base/address.h"

/* --- The name of a site of MX hosts --- */

/* How many hosts are tried first. */
static uint32_t count_best(const struct next_hop *draft)
{
    uint32_t count = 1;

    while (count < draft->host_count && draft->hosts[count].preference == draft->hosts[0].preference)
        count++;
    return count;
}

static bool best_end_in(const struct next_hop *draft, const char *end)
{
    size_t end_size = strlen(end);

    for (uint32_t i = 0; i < count_best(draft); i++) {
        const char *name = draft->hosts[i].name;
        size_t size = strlen(name);
        if (size < end_size || strcmp(name + size - end_size, end) != 0)
            return false;
        if (size > end_size && name[size - end_size - 1] != '.')
            return false;
    }
    return true;
}

static const char *first_name(const struct next_hop *draft)
{
    const char *first = draft->hosts[0].name;

    for (uint32_t i = 1; i < count_best(draft); i++) {
        if (strcmp(draft->hosts[i].name, first) < 0)
            first = draft->hosts[i].name;
    }
    return first;
}

/* Addresses end in nothing that would name anybody. */
static bool is_any_address(const struct next_hop *draft)
{
    for (uint32_t i = 0; i < count_best(draft); i++) {
        struct sockaddr_storage address;
        if (draft->hosts[i].name[0] == '[' || parse_ip(draft->hosts[i].name, 25, &address) == 0)
            return true;
    }
    return false;
}

/* Under "co.uk" live strangers, under "google.com" does not: the list of public suffixes knows the
 * difference. */
const char *next_hop_shared_name(const struct next_hop *draft)
{
    if (is_any_address(draft))
        return first_name(draft);
    const char *domain = psl_registrable_domain(psl_builtin(), draft->hosts[0].name);
    return domain != NULL && best_end_in(draft, domain) ? domain : first_name(draft);
}

/* --- Identity --- */

/* What tells one site from another, one item after the other. */
static void write_key(FILE *out, const struct next_hop *hop)
{
    fprintf(out, "%s %d", hop->is_lmtp ? "lmtp" : "smtp", (int)hop->tls);
    for (uint32_t i = 0; i < hop->tls_name_count; i++)
        fprintf(out, " =%s", hop->tls_names[i]);
    for (uint32_t i = 0; i < hop->host_count; i++) {
        const struct next_hop_host *host = &hop->hosts[i];
        fprintf(out, " %u/%u %s:%u", host->preference, host->weight, host->name, host->port);
    }
}

uint64_t next_hop_hash(const char *text)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (; *text != '\0'; text++)
        hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return hash ^ hash >> 32;
}

static int compare_hosts(const void *a, const void *b)
{
    const struct next_hop_host *left = a;
    const struct next_hop_host *right = b;

    if (left->preference != right->preference)
        return left->preference < right->preference ? -1 : 1;
    int by_name = strcmp(left->name, right->name);
    return by_name != 0 ? by_name : (int)left->port - (int)right->port;
}

/* --- Life --- */

static size_t bytes_of(const struct next_hop *draft)
{
    size_t size = sizeof(*draft) + draft->host_count * sizeof(struct next_hop_host) +
                  draft->tls_name_count * sizeof(char *) + strlen(draft->name) + 1;

    for (uint32_t i = 0; i < draft->host_count; i++)
        size += strlen(draft->hosts[i].name) + 1 +
                draft->hosts[i].address_count * sizeof(struct sockaddr_storage);
    for (uint32_t i = 0; i < draft->tls_name_count; i++)
        size += strlen(draft->tls_names[i]) + 1;
    return size;
}

static char *copy_text(char **at, const char *text)
{
    char *copy = *at;
    size_t size = strlen(text) + 1;

    memcpy(copy, text, size);
    *at += size;
    return copy;
}

/* All arrays first, then all texts, behind the struct itself. */
static void fill(struct next_hop *hop, const struct next_hop *draft)
{
    struct sockaddr_storage *addresses = (void *)(hop + 1);
    uint32_t address_count = 0;

    for (uint32_t i = 0; i < draft->host_count; i++)
        address_count += draft->hosts[i].address_count;
    struct next_hop_host *hosts = (void *)(addresses + address_count);
    const char **tls_names = (void *)(hosts + draft->host_count);
    char *text = (void *)(tls_names + draft->tls_name_count);

    for (uint32_t i = 0; i < draft->host_count; i++) {
        hosts[i] = draft->hosts[i];
        hosts[i].name = copy_text(&text, draft->hosts[i].name);
        hosts[i].addresses = addresses;
        if (hosts[i].address_count > 0)
            memcpy(addresses, draft->hosts[i].addresses, hosts[i].address_count * sizeof(*addresses));
        addresses += hosts[i].address_count;
    }
    for (uint32_t i = 0; i < draft->tls_name_count; i++)
        tls_names[i] = copy_text(&text, draft->tls_names[i]);
    hop->name = copy_text(&text, draft->name);
    hop->hosts = hosts;
    hop->tls_names = tls_names;
    if (hop->is_mx) /* the order among equals says nothing: the same set is the same site */
        qsort(hosts, hop->host_count, sizeof(*hosts), compare_hosts);
}

struct next_hop *next_hop_new(const struct next_hop *draft)
{
    char *key = NULL;
    size_t key_size = 0;

    assert(draft->host_count > 0 && draft->tls != CONFIG_SECURITY_UNSET);
    struct next_hop *hop = malloc(bytes_of(draft));
    FILE *out = open_memstream(&key, &key_size);
    if (hop == NULL || out == NULL) {
        free(hop);
        if (out != NULL)
            fclose(out);
        free(key);
        return NULL;
    }
    *hop = *draft;
    atomic_init(&hop->references, 1);
    fill(hop, draft);
    write_key(out, hop);
    if (fclose(out) != 0) {
        free(key);
        free(hop);
        return NULL;
    }
    hop->key = key;
    hop->hash = next_hop_hash(key);
    return hop;
}

/* --- Sections --- */

/* Backups elsewhere do not take a site out of its section: a domain at Google counts there as all others do,
 * whatever it has for the day when Google is away. */
const struct config_limits *next_hop_limits(const struct config *config, const struct next_hop *hop)
{
    const char *names[NEXT_HOP_HOSTS_MAX];
    uint32_t count = hop->is_mx ? count_best(hop) : hop->host_count;

    assert(count <= NEXT_HOP_HOSTS_MAX);
    for (uint32_t i = 0; i < count; i++)
        names[i] = hop->hosts[i].name;
    return config_limits_find(config, hop->name, names, count);
}

static enum config_security security_of(const struct config *config, const struct next_hop *hop)
{
    enum config_security tls = next_hop_limits(config, hop)->tls;
    return tls != CONFIG_SECURITY_UNSET ? tls : CONFIG_SECURITY_MAY;
}

static enum config_security security_of_host(const struct config *config, const struct next_hop_host *host)
{
    struct next_hop alone = {.is_mx = true, .hosts = host, .host_count = 1};

    alone.name = next_hop_shared_name(&alone);
    return security_of(config, &alone);
}

enum config_security next_hop_security(const struct config *config, const struct next_hop *draft,
                                       enum config_security wanted)
{
    static_assert(CONFIG_SECURITY_NONE < CONFIG_SECURITY_MAY &&
                      CONFIG_SECURITY_MAY < CONFIG_SECURITY_ENCRYPT &&
                      CONFIG_SECURITY_ENCRYPT < CONFIG_SECURITY_VERIFY,
                  "the greater, the more is asked for");
    if (wanted != CONFIG_SECURITY_UNSET)
        return wanted;
    enum config_security most = security_of(config, draft);
    for (uint32_t i = 0; draft->is_mx && i < draft->host_count; i++) {
        enum config_security tls = security_of_host(config, &draft->hosts[i]);
        most = tls > most ? tls : most;
    }
    return most;
}

struct next_hop *next_hop_of_destination(const struct config *config, const struct destination *destination)
{
    struct next_hop_host hosts[NEXT_HOP_HOSTS_MAX];
    struct next_hop draft = {
        .name = destination->name,
        .hosts = hosts,
        .host_count = (uint32_t)destination->host_count,
        .is_lmtp = destination->kind == DESTINATION_LMTP,
        .tls_names = destination->tls_names,
        .tls_name_count = (uint32_t)destination->tls_name_count,
    };

    assert(destination->host_count > 0 && destination->host_count <= NEXT_HOP_HOSTS_MAX);
    for (uint32_t i = 0; i < draft.host_count; i++) {
        const struct destination_host *host = &destination->hosts[i];
        assert(host->address_count > 0);
        hosts[i] = (struct next_hop_host){
            .name = host->name,
            .preference = host->weight > 0 ? 0 : (uint16_t)i,
            .weight = host->weight,
            .port = host->port,
            .address_count = (uint32_t)host->address_count,
            .addresses = host->addresses,
        };
    }
    draft.tls = next_hop_security(config, &draft, destination->tls);
    return next_hop_new(&draft);
}

struct next_hop *next_hop_ref(struct next_hop *hop)
{
    uint32_t before = atomic_fetch_add_explicit(&hop->references, 1, memory_order_relaxed);
    assert(before > 0);
    return hop;
}

void next_hop_unref(struct next_hop *hop)
{
    if (hop == NULL)
        return;
    if (atomic_fetch_sub_explicit(&hop->references, 1, memory_order_acq_rel) != 1)
        return;
    free((void *)(uintptr_t)hop->key);
    free(hop);
}
