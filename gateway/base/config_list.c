#include <assert.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "gateway/base/config_inner.h"
#include "gateway/base/quantity.h"

/* Lists, which are taken value by value. */

static int add_bind(struct config_loader *loader, const struct config_key *key, struct listener_draft *draft,
                    const char *text)
{
    char host[INET6_ADDRSTRLEN + 1];
    uint16_t port;
    struct sockaddr_storage address;
    int result = parse_host_port(text, 0, host, sizeof(host), &port);
    if (result < 0)
        return config_refuse(loader, key, text,
                             result == -ERANGE ? "has no port from 1 to 65535" : "cannot be read");
    if (parse_ip(host, port, &address) < 0 || (address.ss_family == AF_INET6) != (text[0] == '['))
        return config_refuse(loader, key, text, "is not an IP address");

    size_t count = draft->listener.bind_count;
    draft->binds = config_grow(loader->config, draft->binds, count, sizeof(*draft->binds));
    draft->bind_origins =
        config_grow(loader->config, draft->bind_origins, count, sizeof(*draft->bind_origins));
    draft->binds[count] = address;
    draft->bind_origins[count] = loader->place;
    draft->listener.bind_count++;
    return 0;
}

static bool network_covers(const struct ip_network *outer, const struct ip_network *inner)
{
    for (size_t half = 0; half < 2; half++) {
        if ((outer->mask[half] & ~inner->mask[half]) != 0 ||
            (inner->address[half] & outer->mask[half]) != outer->address[half])
            return false;
    }
    return true;
}

/* All of IPv4, also by an IPv6 network around its mapped form like "::/8"; or all of IPv6 that is in use on
   the Internet (RFC 4291 section 2.4). */
static bool covers_everyone(const struct ip_network *network)
{
    static const char *const everyone[] = {"0.0.0.0/0", "2000::/3"};
    for (size_t index = 0; index < sizeof(everyone) / sizeof(everyone[0]); index++) {
        struct ip_network all;
        int result = parse_network(everyone[index], &all);
        assert(result == 0);
        if (network_covers(network, &all))
            return true;
    }
    return false;
}

static int add_network(struct config_loader *loader, const struct config_key *key, const char *text)
{
    struct config_inner *inner = loader->config->inner;
    struct ip_network network;
    if (parse_network(text, &network) < 0)
        return config_refuse(loader, key, text, "is not a network");
    if (covers_everyone(&network))
        return config_loader_fail(
            loader, loader->place,
            "relay.networks \"%s\" would let everyone send to anyone; would be right: the "
            "networks of your own clients, like \"10.0.0.0/8\"",
            text);
    inner->networks = config_grow(loader->config, inner->networks, inner->network_count, sizeof(network));
    inner->networks[inner->network_count++] = network;
    return 0;
}

static int add_proxy_network(struct config_loader *loader, const struct config_key *key,
                             struct listener_draft *draft, const char *text)
{
    struct ip_network network;
    if (parse_network(text, &network) < 0)
        return config_refuse(loader, key, text, "is not a network");
    if (covers_everyone(&network))
        return config_loader_fail(
            loader, loader->place,
            "listener.proxy_networks \"%s\" would let anyone claim any address; would be "
            "right: the addresses of your proxies, like \"192.0.2.10\"",
            text);
    size_t count = draft->listener.proxy_network_count;
    draft->proxy_networks = config_grow(loader->config, draft->proxy_networks, count, sizeof(network));
    draft->proxy_networks[count] = network;
    draft->listener.proxy_network_count++;
    return 0;
}

static int add_domain(struct config_loader *loader, const struct config_key *key, const char *text)
{
    const char *name = config_copy_pattern(loader->config, text);
    if (name == NULL)
        return config_refuse(loader, key, text, "is not a domain");
    loader->domains =
        config_grow(loader->config, loader->domains, loader->domain_count, sizeof(*loader->domains));
    loader->domains[loader->domain_count++].name = name;
    return 0;
}

static int add_wait(struct config_loader *loader, const struct config_key *key, const char *text)
{
    struct config *config = loader->config;
    uint64_t span_us;
    int result = parse_span(text, &span_us);
    if (result == 0 && (span_us < key->minimum || span_us > key->maximum))
        result = -ERANGE;
    if (result < 0)
        return config_refuse(loader, key, text, result == -ERANGE ? "is out of range" : "cannot be read");
    size_t count = config->retry.schedule_count;
    loader->schedule_ms = config_grow(config, loader->schedule_ms, count, sizeof(*loader->schedule_ms));
    loader->schedule_ms[count] = span_us / 1000;
    config->retry.schedule_ms = loader->schedule_ms;
    config->retry.schedule_count++;
    return 0;
}

/* IPv6 may stand without brackets when no port follows. */
static int add_nameserver(struct config_loader *loader, const struct config_key *key, const char *text)
{
    enum { DNS_PORT = 53, NAMESERVERS_MAX = 8 };
    struct config *config = loader->config;
    struct sockaddr_storage address;
    if (parse_ip(text, DNS_PORT, &address) < 0) {
        char host[INET6_ADDRSTRLEN + 1];
        uint16_t port;
        if (parse_host_port(text, DNS_PORT, host, sizeof(host), &port) < 0 ||
            parse_ip(host, port, &address) < 0)
            return config_refuse(loader, key, text, "is not an IP address with a port from 1 to 65535");
    }
    size_t count = config->dns.server_count;
    if (count == NAMESERVERS_MAX)
        return config_refuse(loader, key, text, "is the 9th name server, 8 are allowed");
    struct sockaddr_storage *servers =
        config_grow(config, config->inner->nameservers, count, sizeof(*servers));
    servers[count] = address;
    config->inner->nameservers = servers;
    config->dns.servers = servers;
    config->dns.server_count++;
    return 0;
}

static int add_file(struct config_loader *loader, const struct config_key *key, struct named_files *list,
                    const char *text)
{
    if (text[0] != '/')
        return config_refuse(loader, key, text, "is not a full path");
    list->files = config_grow(loader->config, list->files, list->count, sizeof(*list->files));
    list->files[list->count++] = (struct named_file){
        .path = config_copy(loader->config, text, strlen(text)),
        .origin = loader->place,
    };
    return 0;
}

static int hex_value(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

/* Two digits a byte, with or without colons between the bytes. */
static bool read_fingerprint(const char *text, struct fingerprint *fingerprint)
{
    struct fingerprint read;
    for (size_t index = 0; index < sizeof(read.bytes); index++) {
        if (index > 0 && *text == ':')
            text++;
        int high = hex_value(text[0]);
        int low = high < 0 ? -1 : hex_value(text[1]);
        if (low < 0)
            return false;
        read.bytes[index] = (uint8_t)(high << 4 | low);
        text += 2;
    }
    if (*text != '\0')
        return false;
    *fingerprint = read;
    return true;
}

static int add_client_certificate(struct config_loader *loader, const struct config_key *key,
                                  const char *text)
{
    static const char prefix[] = "sha256:";
    struct config *config = loader->config;
    struct config_inner *inner = config->inner;
    if (strncasecmp(text, prefix, strlen(prefix)) == 0) {
        struct fingerprint fingerprint;
        if (!read_fingerprint(text + strlen(prefix), &fingerprint))
            return config_refuse(loader, key, text, "is not a SHA-256 fingerprint");
        inner->fingerprints =
            config_grow(config, inner->fingerprints, inner->fingerprint_count, sizeof(fingerprint));
        inner->fingerprints[inner->fingerprint_count++] = fingerprint;
        return 0;
    }
    if (!domain_is_valid(text, strlen(text)))
        return config_refuse(loader, key, text, "is not a host's name");
    inner->client_names =
        config_grow(config, inner->client_names, inner->client_name_count, sizeof(*inner->client_names));
    inner->client_names[inner->client_name_count++] = config_copy(config, text, strlen(text));
    return 0;
}

static int add_bit(struct config_loader *loader, const struct config_key *key, uint32_t *field,
                   const char *text)
{
    uint32_t bit;
    if (!config_word_find(key->kind, text, &bit))
        return config_refuse(loader, key, text, "is unknown");
    assert((bit & (bit - 1)) == 0);
    *field |= bit;
    return 0;
}

int config_add_value(struct config_loader *loader, const struct config_key *key, void *structure,
                     const char *text)
{
    struct config_inner *inner = loader->config->inner;
    switch (key->kind) {
    case KIND_BINDS:
        return add_bind(loader, key, structure, text);
    case KIND_NETWORKS:
        return add_network(loader, key, text);
    case KIND_PROXY_NETWORKS:
        return add_proxy_network(loader, key, structure, text);
    case KIND_DOMAINS:
        return add_domain(loader, key, text);
    case KIND_SCHEDULE:
        return add_wait(loader, key, text);
    case KIND_DESTINATIONS:
        return config_add_destination(loader, key, text);
    case KIND_WEIGHTS:
        return config_add_weight(loader, key, structure, text);
    case KIND_TLS_NAMES:
        return config_add_tls_name(loader, key, text);
    case KIND_NAMESERVERS:
        return add_nameserver(loader, key, text);
    case KIND_CERTIFICATES:
        return add_file(loader, key, &inner->certificates, text);
    case KIND_PRIVATE_KEYS:
        return add_file(loader, key, &inner->private_keys, text);
    case KIND_CLIENT_CERTIFICATES:
        return add_client_certificate(loader, key, text);
    case KIND_EXTENSIONS:
    case KIND_MECHANISMS:
    case KIND_RULES:
        return add_bit(loader, key, (uint32_t *)(void *)((char *)structure + key->offset), text);
    default:
        return -EINVAL;
    }
}

/* Only lists with a default hold something before their first value. */
void config_clear_list(struct config_loader *loader, const struct config_key *key, void *structure)
{
    assert(config_kind_is_list(key->kind));
    if (key->kind == KIND_NETWORKS)
        loader->config->inner->network_count = 0;
    else if (key->kind == KIND_SCHEDULE)
        loader->config->retry.schedule_count = 0;
    else if (key->kind == KIND_MECHANISMS)
        loader->config->auth.mechanisms = 0;
    else
        assert(key->default_text == NULL);
}
