#include "gateway/outbound/lane.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/panic.h"
#include "gateway/outbound/hop_query.h"
#include "gateway/outbound/outbound.h"
#include "gateway/outbound/site.h"

void lane_forget_query(struct lane_link *link)
{
    if (link->query == NULL)
        return;
    link->query->link = NULL;
    link->query = NULL;
}

/* What waits there stays in the queue until the lane has a site again. */
static void leave_site(struct lane_link *link)
{
    struct site *site = link->site;

    list_remove(&link->ready_link);
    link->site = NULL;
    site_unuse(site);
}

bool lane_is_stale(const struct lane_link *link, uint64_t now_us)
{
    return link->query == NULL && link->expires_us <= now_us;
}

void lane_set_site(struct lane_link *link, struct site *site)
{
    struct site *old = link->site;

    site_use(site);
    link->site = site;
    list_remove(&link->ready_link);
    if (old != NULL)
        site_unuse(old);
    if (queue_lane_ready_count(link->lane) == 0)
        return;
    list_push_back(&site->ready, &link->ready_link);
    site_touch(site);
}

static void set_verdict(struct outbound *outbound, struct lane_link *link, uint16_t code, const char *text)
{
    struct site *site = site_of_verdict(outbound, code, text);
    lane_set_site(link, site != NULL ? site : outbound->no_memory);
}

/* It reads as the reply of a far side. */
static void set_error(struct outbound *outbound, struct lane_link *link,
                      const struct destination *destination)
{
    char text[DESTINATION_ERROR_TEXT_MAX + 8];

    snprintf(text, sizeof(text), "%u %s", destination->code, destination->text);
    set_verdict(outbound, link, destination->code, text);
}

/* A fixed list of hosts; the site is there since the configuration was taken over, if it is in it. */
static void set_hosts(struct outbound *outbound, struct lane_link *link,
                      const struct destination *destination)
{
    struct next_hop *hop = next_hop_of_destination(outbound->config, destination);
    struct site *site = hop != NULL ? site_of_hop(outbound, hop) : NULL;

    next_hop_unref(hop);
    lane_set_site(link, site != NULL ? site : outbound->no_memory);
}

static bool has_all_addresses(const struct destination *destination)
{
    for (size_t i = 0; i < destination->host_count; i++) {
        if (destination->hosts[i].address_count == 0)
            return false;
    }
    return true;
}

static void look_up(struct outbound *outbound, struct lane_link *link, const char *domain,
                    struct destination_text *hosts, enum config_security tls)
{
    link->expires_us = 0;
    if (!hop_query_begin(outbound, link, domain, hosts, tls))
        lane_set_site(link, outbound->no_memory);
    else if (link->query != NULL && link->site != NULL && link->site->hop == NULL)
        leave_site(link); /* an old verdict must not judge what came after it */
}

/* `text` is of a line of the route file, or NULL; the call takes it. */
static void go_to(struct outbound *outbound, struct lane_link *link, const char *domain,
                  const struct destination *destination, struct destination_text *text)
{
    switch (destination->kind) {
    case DESTINATION_SMTP:
    case DESTINATION_LMTP:
        if (has_all_addresses(destination)) {
            set_hosts(outbound, link, destination);
            break;
        }
        assert(text != NULL);
        look_up(outbound, link, domain, text, destination->tls);
        return;
    case DESTINATION_MX:
        look_up(outbound, link, domain, NULL, destination->tls);
        break;
    case DESTINATION_DISCARD:
        set_verdict(outbound, link, 250, "250 2.0.0 discarded");
        break;
    case DESTINATION_ERROR:
        set_error(outbound, link, destination);
        break;
    }
    free(text);
}

static void go_by_line(struct outbound *outbound, struct lane_link *link, const char *domain,
                       const struct route_found *found)
{
    char error[256];
    struct destination_text *text = malloc(sizeof(*text));

    if (text == NULL)
        lane_set_site(link, outbound->no_memory);
    else if (destination_parse(found->text, found->text_size, text, error, sizeof(error)) < 0)
        panic("a route file that was found good is not");
    else
        go_to(outbound, link, domain, &text->destination, text);
}

void lane_route(struct outbound *outbound, struct lane_link *link)
{
    struct route_found found;
    struct routes_key parts;
    char domain[DNS_NAME_SIZE];
    uint32_t size;
    const char *key = queue_lane_key(link->lane, &size);

    lane_forget_query(link);
    link->expires_us = UINT64_MAX;
    routes_split_key(key, size, &parts);
    if (parts.domain_size == 0) { /* <postmaster>, who is ours */
        parts.domain = outbound->config->hostname;
        parts.domain_size = strlen(outbound->config->hostname);
    }
    if (parts.domain_size >= sizeof(domain)) {
        set_verdict(outbound, link, 550, "5.1.2 the domain's name is too long");
        return;
    }
    memcpy(domain, parts.domain, parts.domain_size);
    domain[parts.domain_size] = '\0';
    if (!routes_find(&outbound->policy->routes, parts.domain, parts.domain_size, parts.sender,
                     parts.sender_size, &found))
        set_verdict(outbound, link, 451, "4.4.4 no route to the domain");
    else if (found.destination != NULL)
        go_to(outbound, link, domain, found.destination, NULL);
    else
        go_by_line(outbound, link, domain, &found);
}
