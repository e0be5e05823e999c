#include "gateway/base/config.h"

#include <string.h>

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

const struct config_route *config_route_find(const struct config *config, const char *domain, size_t size)
{
    bool is_star = size == 1 && domain[0] == '*'; /* a pattern, not a domain */
    uint32_t index;
    if (!is_star && domain_table_find(&config->inner->routes, domain, size, &index))
        return &config->routes[index];
    return config->inner->default_route;
}
