#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/config_inner.h"
#include "gateway/base/quantity.h"

/* A `route` section: where mail goes, from its values to its place in the configuration. */

enum { ADDRESSES_MAX = 16 };

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
static int look_up(struct config *config, struct destination_host *host)
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

struct route_draft *config_begin_route(struct config_loader *loader, const char *pattern,
                                       struct origin origin)
{
    if (loader->destination == NULL)
        loader->destination = config_memory(loader->config, sizeof(*loader->destination));
    destination_init(loader->destination);
    loader->routes =
        config_grow(loader->config, loader->routes, loader->route_count, sizeof(*loader->routes));
    struct route_draft *draft = &loader->routes[loader->route_count++];
    *draft = (struct route_draft){.pattern = pattern, .origin = origin, .tls = CONFIG_SECURITY_UNSET};
    return draft;
}

int config_add_destination(struct config_loader *loader, const struct config_key *key, const char *text)
{
    struct destination_text *out = loader->destination;
    const char *problem = destination_add(out, text, strlen(text));
    if (problem != NULL)
        return config_refuse(loader, key, text, problem);
    if (out->destination.host_count == 0)
        return 0;
    struct destination_host *host = &out->hosts[out->destination.host_count - 1];
    int error = host->address_count > 0 ? 0 : look_up(loader->config, host);
    if (error == 0)
        return 0;
    return config_loader_fail(
        loader, loader->place,
        "route.to \"%s\": %s; would be right: a name that this machine can look up, or an IP address", text,
        gai_strerror(error));
}

int config_add_tls_name(struct config_loader *loader, const struct config_key *key, const char *text)
{
    const char *problem = destination_add_tls_name(loader->destination, text, strlen(text));
    return problem != NULL ? config_refuse(loader, key, text, problem) : 0;
}

int config_add_weight(struct config_loader *loader, const struct config_key *key, struct route_draft *draft,
                      const char *text)
{
    uint64_t weight;
    int result = parse_count(text, &weight);
    if (result == 0 && (weight < key->minimum || weight > key->maximum))
        result = -ERANGE;
    if (result < 0)
        return config_refuse(loader, key, text, result == -ERANGE ? "is out of range" : "cannot be read");
    if (draft->weight_count == DESTINATION_HOSTS_MAX)
        return config_refuse(loader, key, text, "is the 17th weight of this route, 16 are allowed");
    draft->weights[draft->weight_count++] = (uint16_t)weight;
    return 0;
}

/* --- The end of a section --- */

static const char *copy_text(struct config *config, const char *text)
{
    return config_copy(config, text, strlen(text));
}

static const struct destination_host *copy_hosts(struct config *config, const struct destination *from)
{
    struct destination_host *hosts = config_memory(config, (from->host_count + 1) * sizeof(*hosts));
    for (size_t index = 0; index < from->host_count; index++) {
        const struct destination_host *host = &from->hosts[index];
        size_t size = host->address_count * sizeof(*host->addresses);
        assert(host->address_count > 0);
        struct sockaddr_storage *addresses = config_memory(config, size);
        memcpy(addresses, host->addresses, size);
        hosts[index] = *host;
        hosts[index].name = copy_text(config, host->name);
        hosts[index].addresses = addresses;
    }
    return hosts;
}

static struct destination copy_destination(struct config *config, const struct destination *from)
{
    const char **tls_names = config_memory(config, (from->tls_name_count + 1) * sizeof(*tls_names));
    struct destination copy = *from;
    for (size_t index = 0; index < from->tls_name_count; index++)
        tls_names[index] = copy_text(config, from->tls_names[index]);
    copy.hosts = copy_hosts(config, from);
    copy.tls_names = tls_names;
    copy.name = copy_text(config, from->name);
    copy.text = copy_text(config, from->text);
    return copy;
}

static const struct origin *origin_of(const struct origin *origins, const char *name)
{
    const struct config_key *key = config_key_find(SECTION_ROUTE, name);
    assert(key != NULL);
    return &origins[key - config_keys];
}

int config_end_route(struct config_loader *loader, struct route_draft *draft, const struct origin *origins)
{
    if (origin_of(origins, "to")->line == 0)
        return config_loader_fail(loader, draft->origin,
                                  "route \"%s\" leads nowhere; would be right: to = \"smtp://HOST:PORT\"",
                                  draft->pattern);
    const char *problem = destination_set_weights(loader->destination, draft->weights, draft->weight_count);
    if (problem != NULL)
        return config_loader_fail(loader, *origin_of(origins, "weights"),
                                  "route.weights %s; would be right: a number for each host of to, or none",
                                  problem);
    problem = destination_set_tls(loader->destination, draft->tls);
    if (problem != NULL) {
        bool is_tls =
            draft->tls != CONFIG_SECURITY_UNSET && loader->destination->destination.kind != DESTINATION_MX;
        const char *name = is_tls ? "tls" : "tls_names";
        return config_loader_fail(loader, *origin_of(origins, name),
                                  "route.%s %s; would be right: to leave it out", name, problem);
    }
    draft->destination = copy_destination(loader->config, &loader->destination->destination);
    return 0;
}

/* --- The end of the file --- */

/* The place of the draft's destination among those that there are already; equal ones share it. */
static uint32_t place_destination(struct config *config, struct destination *destinations,
                                  const struct destination *wanted)
{
    size_t index = 0;
    while (index < config->destination_count && !destination_equals(&destinations[index], wanted))
        index++;
    if (index < config->destination_count)
        return (uint32_t)index;
    destinations[index] = *wanted;
    destinations[index].index = (uint32_t)index;
    config->destination_count++;
    return (uint32_t)index;
}

int config_finish_routes(struct config_loader *loader)
{
    struct config *config = loader->config;
    size_t count = loader->route_count;
    struct destination *destinations = config_memory(config, (count + 1) * sizeof(*destinations));
    config->inner->routes = config_domain_table(config, count);
    for (size_t index = 0; index < count; index++) {
        const struct route_draft *draft = &loader->routes[index];
        uint32_t place = place_destination(config, destinations, &draft->destination);
        if (!domain_table_add(&config->inner->routes, draft->pattern, place))
            return config_loader_fail(loader, draft->origin, "route \"%s\" is given twice", draft->pattern);
        if (strncmp(draft->pattern, "from:", 5) == 0)
            config->inner->has_sender_routes = true;
    }
    config->destinations = destinations;
    return 0;
}
