/* Taking over another configuration: sites that it names, limits, where each lane leads. */
#include "gateway/outbound/policy.h"

#include <assert.h>
#include <errno.h>

#include "gateway/base/panic.h"
#include "gateway/outbound/client.h"
#include "gateway/outbound/lane.h"
#include "gateway/outbound/outbound.h"
#include "gateway/outbound/rooms.h"
#include "gateway/outbound/site.h"

struct resolver_settings policy_resolver(const struct outbound_policy *policy,
                                         struct sockaddr_storage *addresses)
{
    const struct config *config = policy->config;
    size_t count = 0;

    for (size_t i = 0; i < config->listener_count; i++) {
        for (size_t j = 0; j < config->listeners[i].bind_count && count < POLICY_ADDRESSES_MAX; j++)
            addresses[count++] = config->listeners[i].binds[j];
    }
    return (struct resolver_settings){
        .servers = config->dns.servers,
        .server_count = config->dns.server_count,
        .trust_ad = config->dns.trust_ad,
        .own_names = &config->hostname,
        .own_name_count = 1,
        .own_addresses = addresses,
        .own_address_count = count,
    };
}

/* Until one of the new configuration's lists claims it. */
static void disown(struct site *site)
{
    site->is_disowned = site->index != SITE_NO_INDEX;
}

static void leave_if_disowned(struct site *site)
{
    if (site->is_disowned)
        site_leave(site);
    else
        site_configure(site);
    site->is_disowned = false;
}

/* The sites of the lists of hosts in the configuration are there from the beginning: they are few, and other
 * workers look for their room. */
static int claim_sites(struct outbound *outbound, const struct config *config)
{
    for (size_t i = 0; i < config->destination_count; i++) {
        const struct destination *destination = &config->destinations[i];
        if (destination->host_count == 0)
            continue;
        struct next_hop *hop = next_hop_of_destination(config, destination);
        struct site *site = hop != NULL ? site_of_listed(outbound, hop, (uint32_t)i) : NULL;
        next_hop_unref(hop);
        if (site == NULL)
            return -ENOMEM;
        site->is_disowned = false;
    }
    return 0;
}

static void return_jobs(struct site *site)
{
    site_return_jobs(site);
    site_touch(site);
}

static int take_config(struct outbound *outbound, const struct outbound_policy *policy)
{
    struct sockaddr_storage addresses[POLICY_ADDRESSES_MAX];
    const struct config *config = policy->config;
    const struct resolver_settings settings = policy_resolver(policy, addresses);

    if (rooms_reserve(outbound, (uint32_t)config->destination_count) < 0 ||
        resolver_configure(outbound->resolver, &settings) < 0)
        return -ENOMEM;
    outbound->config = config;
    outbound->policy = policy;
    site_each(outbound, disown);
    int result = claim_sites(outbound, config);
    site_each(outbound, leave_if_disowned);
    if (result == 0)
        result = claim_sites(outbound, config); /* those whose section changed have just left */
    if (result < 0)
        panic("no memory to take over a new configuration");
    return 0;
}

int outbound_set_policy(struct outbound *outbound, const struct outbound_policy *policy, bool is_new_config)
{
    assert(policy != NULL && policy->config != NULL && policy->tls != NULL && policy->classes != NULL);
    bool is_new_route =
        is_new_config || outbound->policy == NULL || outbound->policy->routes.file != policy->routes.file;
    const struct outbound_policy *old = outbound->policy;
    if (is_new_config && take_config(outbound, policy) < 0)
        return -ENOMEM;
    outbound->policy = policy;
    outbound->config = policy->config;
    if (old != NULL)
        client_heed_policy(outbound, old);
    if (!is_new_route)
        return 0;
    site_each(outbound, return_jobs);
    list_each(link, &outbound->links)
    {
        lane_route(outbound, list_entry(link, struct lane_link, all_link));
    }
    return 0;
}
