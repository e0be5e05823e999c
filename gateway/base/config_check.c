#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "gateway/base/config_inner.h"

/* From the drafts of a file that was read to the end to the tables that the gateway works with. */

enum { SMTP_PORT = 25, CONNECTIONS_DEFAULT = 20, MESSAGES_DEFAULT = 100, RECIPIENTS_DEFAULT = 100 };

static struct origin whole_file(const struct config_loader *loader)
{
    return (struct origin){.file = loader->config->inner->file, .line = 1};
}

static int finish_hostname(struct config_loader *loader)
{
    struct config *config = loader->config;
    if (config->hostname != NULL)
        return 0;
    char name[DOMAIN_SIZE_MAX + 1] = "";
    if (gethostname(name, sizeof(name) - 1) < 0 || !domain_is_valid(name, strlen(name)))
        return config_loader_fail(
            loader, whole_file(loader),
            "hostname is not given, and the system's name \"%s\" is not a host's name; would "
            "be right: hostname = \"relay.example.com\"",
            name);
    config->hostname = config_copy(config, name, strlen(name));
    return 0;
}

/* One address cannot be bound twice; the origin of its first use, or NULL. */
static const struct origin *find_bind(const struct config_loader *loader, size_t listener, size_t bind)
{
    const struct sockaddr *wanted = (const struct sockaddr *)&loader->listeners[listener].binds[bind];
    for (size_t index = 0; index <= listener; index++) {
        const struct listener_draft *draft = &loader->listeners[index];
        size_t end = index == listener ? bind : draft->listener.bind_count;
        for (size_t other = 0; other < end; other++) {
            if (address_equals((const struct sockaddr *)&draft->binds[other], wanted))
                return &draft->bind_origins[other];
        }
    }
    return NULL;
}

static int check_binds(struct config_loader *loader, size_t listener)
{
    const struct listener_draft *draft = &loader->listeners[listener];
    for (size_t bind = 0; bind < draft->listener.bind_count; bind++) {
        const struct origin *first = find_bind(loader, listener, bind);
        if (first == NULL)
            continue;
        char text[ADDRESS_TEXT_SIZE];
        address_format((const struct sockaddr *)&draft->binds[bind], text);
        return config_loader_fail(loader, draft->bind_origins[bind],
                                  "listener.bind \"%s\" is given twice, first on line %u of %s", text,
                                  first->line, first->file);
    }
    return 0;
}

static int finish_listeners(struct config_loader *loader)
{
    struct config *config = loader->config;
    size_t count = loader->listener_count;
    if (count == 0)
        return config_loader_fail(loader, whole_file(loader),
                                  "no listener is given; would be right: listener \"smtp\" { bind = "
                                  "{\"0.0.0.0:25\", \"[::]:25\"} }");
    struct config_listener *listeners = config_memory(config, count * sizeof(*listeners));
    config->inner->listener_origins = config_memory(config, count * sizeof(struct origin));
    for (size_t index = 0; index < count; index++) {
        if (check_binds(loader, index) < 0 || config_finish_listener(loader, &loader->listeners[index]) < 0)
            return -EINVAL;
        listeners[index] = loader->listeners[index].listener;
        listeners[index].binds = loader->listeners[index].binds;
        config->inner->listener_origins[index] = loader->listeners[index].origin;
    }
    config->listeners = listeners;
    config->listener_count = count;
    return 0;
}

static bool is_same_host(const struct config_host *a, const struct config_host *b)
{
    return a->port == b->port && strcasecmp(a->name, b->name) == 0;
}

static bool has_hosts(const struct config_site *site, const struct route_draft *draft)
{
    if (site->host_count != draft->host_count)
        return false;
    for (size_t index = 0; index < site->host_count; index++) {
        if (!is_same_host(&site->hosts[index], &draft->hosts[index]))
            return false;
    }
    return true;
}

static const char *name_site(struct config *config, const struct config_host *host)
{
    char name[DOMAIN_SIZE_MAX + 16];
    bool is_v6 = strchr(host->name, ':') != NULL;
    int size = snprintf(name, sizeof(name), "%s%s%s", is_v6 ? "[" : "", host->name, is_v6 ? "]" : "");
    assert(size > 0);
    if (host->port != SMTP_PORT)
        size += snprintf(name + size, sizeof(name) - (size_t)size, ":%u", host->port);
    return config_copy(config, name, (size_t)size);
}

/* The site with the draft's hosts, made at their first use. `sites` has room for one for each route. */
static struct config_site *site_for(struct config *config, struct config_site *sites,
                                    const struct route_draft *draft)
{
    for (size_t index = 0; index < config->site_count; index++) {
        if (has_hosts(&sites[index], draft))
            return &sites[index];
    }
    struct config_site *site = &sites[config->site_count];
    *site = (struct config_site){
        .name = name_site(config, &draft->hosts[0]),
        .index = (uint32_t)config->site_count,
        .hosts = draft->hosts,
        .host_count = draft->host_count,
        .connections = CONNECTIONS_DEFAULT,
        .messages_per_connection = MESSAGES_DEFAULT,
        .recipients_per_message = RECIPIENTS_DEFAULT,
    };
    config->site_count++;
    return site;
}

static void apply_limits(struct config_site *site, const struct site_draft *draft)
{
    if (draft->connections != SITE_VALUE_UNSET)
        site->connections = draft->connections;
    if (draft->messages_per_connection != SITE_VALUE_UNSET)
        site->messages_per_connection = draft->messages_per_connection;
    if (draft->recipients_per_message != SITE_VALUE_UNSET)
        site->recipients_per_message = draft->recipients_per_message;
}

static bool is_default_site(const struct site_draft *draft)
{
    return strcmp(draft->name, "default") == 0;
}

/* Applies one `site` section and returns how many sites it is about. */
static size_t limit_sites(struct config *config, struct config_site *sites, const struct site_draft *draft)
{
    size_t matches = 0;
    for (size_t index = 0; index < config->site_count; index++) {
        if (!is_default_site(draft) && strcasecmp(sites[index].name, draft->name) != 0)
            continue;
        apply_limits(&sites[index], draft);
        matches++;
    }
    return matches;
}

/* "default" first, wherever it stands: the named sections override it. */
static int finish_sites(struct config_loader *loader, struct config_site *sites)
{
    for (size_t index = 0; index < loader->site_count; index++) {
        if (is_default_site(&loader->sites[index]))
            limit_sites(loader->config, sites, &loader->sites[index]);
    }
    for (size_t index = 0; index < loader->site_count; index++) {
        const struct site_draft *draft = &loader->sites[index];
        if (is_default_site(draft) || limit_sites(loader->config, sites, draft) > 0)
            continue;
        return config_loader_fail(
            loader, draft->origin, "site \"%s\" is no route's first host; would be right: \"default\"%s%s%s",
            draft->name, loader->config->site_count > 0 ? " or a name like \"" : "",
            loader->config->site_count > 0 ? sites[0].name : "", loader->config->site_count > 0 ? "\"" : "");
    }
    return 0;
}

struct domain_table config_domain_table(struct config *config, size_t name_count)
{
    struct domain_table table = {.slot_count = domain_table_slots(name_count)};
    if (table.slot_count > 0)
        table.slots = config_memory(config, table.slot_count * sizeof(*table.slots));
    return table;
}

/* The table sees "*" as any other name: nobody asks for it, but it is found when given twice. */
static int finish_routes(struct config_loader *loader)
{
    struct config *config = loader->config;
    size_t count = loader->route_count;
    struct config_route *routes = config_memory(config, (count + 1) * sizeof(*routes));
    struct config_site *sites = config_memory(config, (count + 1) * sizeof(*sites));
    config->inner->routes = config_domain_table(config, count);
    for (size_t index = 0; index < count; index++) {
        const struct route_draft *draft = &loader->routes[index];
        routes[index] =
            (struct config_route){.pattern = draft->pattern, .site = site_for(config, sites, draft)};
        if (!domain_table_add(&config->inner->routes, draft->pattern, (uint32_t)index))
            return config_loader_fail(loader, draft->origin, "route \"%s\" is given twice", draft->pattern);
        if (strcmp(draft->pattern, "*") == 0)
            config->inner->default_route = &routes[index];
    }
    config->routes = routes;
    config->route_count = count;
    config->sites = sites;
    return finish_sites(loader, sites);
}

/* A domain that is listed twice is as welcome as once. */
static void finish_relay_domains(struct config_loader *loader)
{
    struct domain_table *table = &loader->config->inner->relay_domains;
    *table = config_domain_table(loader->config, loader->domain_count);
    for (size_t index = 0; index < loader->domain_count; index++)
        domain_table_add(table, loader->domains[index].name, 0);
}

int config_finish(struct config_loader *loader)
{
    int result = finish_hostname(loader);
    if (result == 0)
        result = finish_listeners(loader);
    if (result == 0)
        result = finish_routes(loader);
    if (result == 0)
        finish_relay_domains(loader);
    return result == 0 ? config_finish_admission(loader) : result;
}
