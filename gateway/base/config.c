#include "gateway/base/config.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

#include "gateway/base/config_inner.h"

/* The questions that workers ask of a snapshot. */

bool config_relay_allows_client(const struct config *config, const struct sockaddr *client)
{
    return network_list_has(config->inner->networks, config->inner->network_count, client);
}

bool config_relay_domain(const struct config *config, const char *domain, size_t size)
{
    uint32_t value;
    return domain_table_find(&config->inner->relay_domains, domain, size, &value);
}

bool config_relay_allows_certificate(const struct config *config, const char *name,
                                     const uint8_t fingerprint[32])
{
    const struct config_inner *inner = config->inner;
    for (size_t index = 0; index < inner->fingerprint_count; index++) {
        if (memcmp(inner->fingerprints[index].bytes, fingerprint, sizeof(inner->fingerprints[index].bytes)) ==
            0)
            return true;
    }
    for (size_t index = 0; index < inner->client_name_count; index++) {
        assert(inner->client_names[index][0] != '\0');
        if (strcasecmp(inner->client_names[index], name) == 0)
            return true;
    }
    return false;
}

bool config_proxy_allows(const struct config_listener *listener, const struct sockaddr *peer)
{
    return network_list_has(listener->proxy_networks, listener->proxy_network_count, peer);
}

ptrdiff_t config_recipients_find(const struct config *config, const char *domain, size_t size)
{
    uint32_t index;
    if (!domain_table_find(&config->inner->recipients, domain, size, &index))
        return -1;
    assert(index < config->recipients_count);
    return (ptrdiff_t)index;
}
