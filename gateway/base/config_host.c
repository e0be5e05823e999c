#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/config_inner.h"

/* The hosts that a route leads to. */

enum { HOSTS_MAX = 16, ADDRESSES_MAX = 16, SMTP_PORT = 25, HOST_TEXT_SIZE = DOMAIN_SIZE_MAX + 1 };

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

int config_add_host(struct config_loader *loader, const struct config_key *key, struct route_draft *draft,
                    const char *text)
{
    static const char scheme[] = "smtp://";
    if (strcmp(text, "mx") == 0 || strncmp(text, "lmtp://", 7) == 0)
        return config_refuse(loader, key, text, "is not available yet in this version");
    if (strncmp(text, scheme, strlen(scheme)) != 0)
        return config_refuse(loader, key, text, "is not a next hop");
    if (draft->host_count == HOSTS_MAX)
        return config_refuse(loader, key, text, "is the 17th host of this route, 16 are allowed");

    char name[HOST_TEXT_SIZE];
    struct config_host host = {0};
    const char *target = text + strlen(scheme);
    if (parse_host_port(target, SMTP_PORT, name, sizeof(name), &host.port) < 0)
        return config_refuse(loader, key, text, "has no host, or no port from 1 to 65535");
    host.name = config_copy(loader->config, name, strlen(name));

    struct sockaddr_storage *literal = config_memory(loader->config, sizeof(*literal));
    if (parse_ip(name, host.port, literal) == 0) {
        host.addresses = literal;
        host.address_count = 1;
    } else if (target[0] == '[' || !domain_is_valid(name, strlen(name))) {
        return config_refuse(loader, key, text, "has no host's name or IP address");
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
