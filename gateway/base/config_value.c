#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/config_inner.h"
#include "gateway/base/quantity.h"

/* From the text of one value to its place in the configuration. */

enum { HOSTS_MAX = 16, ADDRESSES_MAX = 16, SMTP_PORT = 25, HOST_TEXT_SIZE = DOMAIN_SIZE_MAX + 1 };

static int refuse(struct config_loader *loader, const struct config_key *key, const char *text,
                  const char *what)
{
    const char *section = config_section_name(key->section);
    return config_loader_fail(loader, loader->place, "%s%s%s \"%s\" %s; would be right: %s", section,
                              *section != '\0' ? "." : "", key->name, text, what, key->right);
}

static int refuse_number(struct config_loader *loader, const struct config_key *key, const char *text,
                         int error)
{
    return refuse(loader, key, text, error == -ERANGE ? "is out of range" : "cannot be read");
}

/* Numbers of all kinds, in the units of the table. */
static int parse_number(const struct config_key *key, const char *text, uint64_t *number)
{
    unsigned percent = 0;
    int result;
    switch (key->kind) {
    case KIND_COUNT:
        result = parse_count(text, number);
        break;
    case KIND_SIZE:
    case KIND_SEGMENT_SIZE:
        result = parse_size(text, number);
        break;
    case KIND_PERCENT:
        result = parse_percent(text, &percent);
        if (result == 0)
            *number = percent;
        break;
    default:
        result = parse_span(text, number);
        break;
    }
    if (result < 0)
        return result;
    return *number < key->minimum || *number > key->maximum ? -ERANGE : 0;
}

static int set_number(struct config_loader *loader, const struct config_key *key, void *field,
                      const char *text)
{
    enum { PAGE_SIZE_BYTES = 4096 };
    uint64_t number = 0;
    int result = parse_number(key, text, &number);
    if (result == 0 && key->kind == KIND_SEGMENT_SIZE && number % PAGE_SIZE_BYTES != 0)
        result = -ERANGE;
    bool is_in_ms = key->kind == KIND_SPAN_MS32 || key->kind == KIND_SPAN_MS64;
    if (result == 0 && is_in_ms && number % 1000 != 0)
        result = -EINVAL;
    if (result < 0)
        return refuse_number(loader, key, text, result);

    if (is_in_ms)
        number /= 1000;
    if (key->kind == KIND_SIZE || key->kind == KIND_SEGMENT_SIZE || key->kind == KIND_SPAN_MS64) {
        *(uint64_t *)field = number;
    } else {
        assert(number <= UINT32_MAX);
        *(uint32_t *)field = (uint32_t)number;
    }
    return 0;
}

static int set_hostname(struct config_loader *loader, const struct config_key *key, const char **field,
                        const char *text)
{
    if (!domain_is_valid(text, strlen(text)))
        return refuse(loader, key, text, "is not a host's name");
    *field = config_copy(loader->config, text, strlen(text));
    return 0;
}

static int set_path(struct config_loader *loader, const struct config_key *key, const char **field,
                    const char *text)
{
    bool is_stderr = key->kind == KIND_LOG_DESTINATION && strcmp(text, "stderr") == 0;
    if (text[0] != '/' && !is_stderr)
        return refuse(loader, key, text, "is not a full path");
    *field = config_copy(loader->config, text, strlen(text));
    return 0;
}

static int set_free_disk(struct config_loader *loader, const struct config_key *key, const char *text)
{
    struct config *config = loader->config;
    unsigned percent = 0;
    uint64_t bytes = 0;
    if (strchr(text, '%') != NULL) {
        int result = parse_percent(text, &percent);
        if (result == 0 && percent > key->maximum)
            result = -ERANGE;
        if (result < 0)
            return refuse_number(loader, key, text, result);
    } else {
        int result = parse_size(text, &bytes);
        if (result < 0)
            return refuse_number(loader, key, text, result);
    }
    config->limits.min_free_disk_percent = percent;
    config->limits.min_free_disk_bytes = bytes;
    return 0;
}

static int set_log_format(struct config_loader *loader, const struct config_key *key, const char *text)
{
    if (strcmp(text, "text") != 0 && strcmp(text, "json") != 0)
        return refuse(loader, key, text, "is unknown");
    loader->config->log.format = strcmp(text, "json") == 0 ? LOG_JSON : LOG_TEXT;
    return 0;
}

static int set_log_level(struct config_loader *loader, const struct config_key *key, const char *text)
{
    for (int level = 0; level < LOG_LEVEL_COUNT; level++) {
        if (strcmp(text, log_level_name((enum log_level)level)) == 0) {
            loader->config->log.level = (enum log_level)level;
            return 0;
        }
    }
    return refuse(loader, key, text, "is unknown");
}

static int check_off(struct config_loader *loader, const struct config_key *key, const char *text)
{
    static const char *const planned[] = {"starttls", "implicit", "optional", "required"};
    for (size_t index = 0; index < sizeof(planned) / sizeof(planned[0]); index++) {
        if (strcmp(text, planned[index]) == 0)
            return refuse(loader, key, text, "is not available yet in this version");
    }
    return strcmp(text, "off") == 0 ? 0 : refuse(loader, key, text, "is unknown");
}

static int add_bind(struct config_loader *loader, const struct config_key *key, struct listener_draft *draft,
                    const char *text)
{
    char host[INET6_ADDRSTRLEN + 1];
    uint16_t port;
    struct sockaddr_storage address;
    int result = parse_host_port(text, 0, host, sizeof(host), &port);
    if (result < 0)
        return refuse(loader, key, text,
                      result == -ERANGE ? "has no port from 1 to 65535" : "cannot be read");
    if (parse_ip(host, port, &address) < 0 || (address.ss_family == AF_INET6) != (text[0] == '['))
        return refuse(loader, key, text, "is not an IP address");

    size_t count = draft->listener.bind_count;
    draft->binds = config_grow(loader->config, draft->binds, count, sizeof(*draft->binds));
    draft->bind_origins =
        config_grow(loader->config, draft->bind_origins, count, sizeof(*draft->bind_origins));
    draft->binds[count] = address;
    draft->bind_origins[count] = loader->place;
    draft->listener.bind_count++;
    return 0;
}

static int add_network(struct config_loader *loader, const struct config_key *key, const char *text)
{
    struct config_inner *inner = loader->config->inner;
    struct ip_network network;
    if (parse_network(text, &network) < 0)
        return refuse(loader, key, text, "is not a network");
    inner->networks = config_grow(loader->config, inner->networks, inner->network_count, sizeof(network));
    inner->networks[inner->network_count++] = network;
    return 0;
}

static int add_domain(struct config_loader *loader, const struct config_key *key, const char *text)
{
    const char *bare = text[0] == '.' ? text + 1 : text;
    if (!domain_is_valid(bare, strlen(bare)))
        return refuse(loader, key, text, "is not a domain");
    char *name = config_copy(loader->config, text, strlen(text));
    for (char *cursor = name; *cursor != '\0'; cursor++)
        *cursor = *cursor >= 'A' && *cursor <= 'Z' ? (char)(*cursor - 'A' + 'a') : *cursor;
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
        return refuse_number(loader, key, text, result);
    size_t count = config->retry.schedule_count;
    loader->schedule_ms = config_grow(config, loader->schedule_ms, count, sizeof(*loader->schedule_ms));
    loader->schedule_ms[count] = span_us / 1000;
    config->retry.schedule_ms = loader->schedule_ms;
    config->retry.schedule_count++;
    return 0;
}

static bool list_has(const struct sockaddr_storage *list, size_t count,
                     const struct sockaddr_storage *address)
{
    for (size_t index = 0; index < count; index++) {
        if (address_equals((const struct sockaddr *)&list[index], (const struct sockaddr *)address))
            return true;
    }
    return false;
}

/* All addresses of a name, in the order of the name service (RFC 6724). Returns 0 or getaddrinfo's error. */
static int look_up(struct config *config, struct config_host *host)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    char port[8];
    snprintf(port, sizeof(port), "%u", host->port);
    struct addrinfo *found = NULL;
    int result = getaddrinfo(host->name, port, &hints, &found);
    if (result != 0)
        return result;

    struct sockaddr_storage *addresses = config_memory(config, ADDRESSES_MAX * sizeof(*addresses));
    for (struct addrinfo *entry = found; entry != NULL && host->address_count < ADDRESSES_MAX;
         entry = entry->ai_next) {
        struct sockaddr_storage address = {0};
        if (address_size(entry->ai_addr) == 0)
            continue;
        memcpy(&address, entry->ai_addr, address_size(entry->ai_addr));
        if (!list_has(addresses, host->address_count, &address))
            addresses[host->address_count++] = address;
    }
    freeaddrinfo(found);
    host->addresses = addresses;
    return host->address_count > 0 ? 0 : EAI_NONAME;
}

static int add_host(struct config_loader *loader, const struct config_key *key, struct route_draft *draft,
                    const char *text)
{
    static const char scheme[] = "smtp://";
    if (strcmp(text, "mx") == 0 || strncmp(text, "lmtp://", 7) == 0)
        return refuse(loader, key, text, "is not available yet in this version");
    if (strncmp(text, scheme, strlen(scheme)) != 0)
        return refuse(loader, key, text, "is not a next hop");
    if (draft->host_count == HOSTS_MAX)
        return refuse(loader, key, text, "is the 17th host of this route, 16 are allowed");

    char name[HOST_TEXT_SIZE];
    struct config_host host = {0};
    const char *target = text + strlen(scheme);
    if (parse_host_port(target, SMTP_PORT, name, sizeof(name), &host.port) < 0)
        return refuse(loader, key, text, "has no host, or no port from 1 to 65535");
    host.name = config_copy(loader->config, name, strlen(name));

    struct sockaddr_storage *literal = config_memory(loader->config, sizeof(*literal));
    if (parse_ip(name, host.port, literal) == 0) {
        host.addresses = literal;
        host.address_count = 1;
    } else if (target[0] == '[' || !domain_is_valid(name, strlen(name))) {
        return refuse(loader, key, text, "has no host's name or IP address");
    } else {
        int error = look_up(loader->config, &host);
        if (error != 0)
            return config_loader_fail(
                loader, loader->place,
                "route.to \"%s\": %s; would be right: a name that this machine can look up, or an "
                "IP address",
                text, gai_strerror(error));
    }
    draft->hosts = config_grow(loader->config, draft->hosts, draft->host_count, sizeof(host));
    draft->hosts[draft->host_count++] = host;
    return 0;
}

int config_set_value(struct config_loader *loader, const struct config_key *key, void *structure,
                     const char *text)
{
    void *field = (char *)structure + key->offset;
    switch (key->kind) {
    case KIND_TEXT:
        *(const char **)field = config_copy(loader->config, text, strlen(text));
        return 0;
    case KIND_HOSTNAME:
        return set_hostname(loader, key, field, text);
    case KIND_PATH:
    case KIND_LOG_DESTINATION:
        return set_path(loader, key, field, text);
    case KIND_LOG_FORMAT:
        return set_log_format(loader, key, text);
    case KIND_LOG_LEVEL:
        return set_log_level(loader, key, text);
    case KIND_OFF:
        return check_off(loader, key, text);
    case KIND_COUNT:
    case KIND_PERCENT:
    case KIND_SIZE:
    case KIND_SEGMENT_SIZE:
    case KIND_SPAN_US32:
    case KIND_SPAN_MS32:
    case KIND_SPAN_MS64:
        return set_number(loader, key, field, text);
    case KIND_FREE_DISK:
        return set_free_disk(loader, key, text);
    case KIND_BINDS:
        return add_bind(loader, key, structure, text);
    case KIND_NETWORKS:
        return add_network(loader, key, text);
    case KIND_DOMAINS:
        return add_domain(loader, key, text);
    case KIND_SCHEDULE:
        return add_wait(loader, key, text);
    case KIND_HOSTS:
        return add_host(loader, key, structure, text);
    }
    return -EINVAL;
}

void config_clear_list(struct config_loader *loader, const struct config_key *key, void *structure)
{
    assert(config_kind_is_list(key->kind));
    if (key->kind == KIND_NETWORKS)
        loader->config->inner->network_count = 0;
    else if (key->kind == KIND_DOMAINS)
        loader->domain_count = 0;
    else if (key->kind == KIND_SCHEDULE)
        loader->config->retry.schedule_count = 0;
}

static void set_default_list(struct config_loader *loader, const struct config_key *key, void *structure)
{
    char *rest = config_copy(loader->config, key->default_text, strlen(key->default_text));
    char *text;
    while ((text = strsep(&rest, " ")) != NULL) {
        int result = config_set_value(loader, key, structure, text);
        assert(result == 0);
    }
}

void config_set_defaults(struct config_loader *loader, enum config_section section, void *structure)
{
    for (size_t index = 0; index < config_key_count; index++) {
        const struct config_key *key = &config_keys[index];
        if (key->section != section || key->default_text == NULL)
            continue;
        if (config_kind_is_list(key->kind)) {
            set_default_list(loader, key, structure);
        } else {
            int result = config_set_value(loader, key, structure, key->default_text);
            assert(result == 0);
        }
    }
}
