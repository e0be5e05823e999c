#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/config_inner.h"

/* From the drafts of a file that was read to the end to the tables that the gateway works with. */

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

struct domain_table config_domain_table(struct config *config, size_t name_count)
{
    struct domain_table table = {.slot_count = domain_table_slots(name_count)};
    if (table.slot_count > 0)
        table.slots = config_memory(config, table.slot_count * sizeof(*table.slots));
    return table;
}

/* A domain that is listed twice is as welcome as once. */
static void finish_relay_domains(struct config_loader *loader)
{
    struct domain_table *table = &loader->config->inner->relay_domains;
    *table = config_domain_table(loader->config, loader->domain_count);
    for (size_t index = 0; index < loader->domain_count; index++)
        domain_table_add(table, loader->domains[index].name, 0);
}

/* What the sections outbound and notices mean together with the rest. */
static int finish_outbound(struct config_loader *loader)
{
    struct config *config = loader->config;
    const char *certificate = config->outbound.certificate;
    if ((certificate == NULL) != (config->outbound.private_key == NULL)) {
        const char *given = certificate != NULL ? "certificate" : "private_key";
        const char *missing = certificate != NULL ? "private_key" : "certificate";
        return config_loader_fail(
            loader, config_origin(config, SECTION_OUTBOUND, given),
            "outbound.%s is of no use without outbound.%s; would be right: both, or none", given, missing);
    }
    if (config->notices.postmaster == NULL) {
        static const char local[] = "postmaster@";
        char *address = config_memory(config, sizeof(local) + strlen(config->hostname));
        strcpy(stpcpy(address, local), config->hostname);
        config->notices.postmaster = address;
    }
    return 0;
}

int config_finish(struct config_loader *loader)
{
    int result = finish_hostname(loader);
    if (result == 0)
        result = finish_listeners(loader);
    if (result == 0)
        result = config_finish_routes(loader);
    if (result == 0)
        result = config_finish_sites(loader);
    if (result == 0)
        result = finish_outbound(loader);
    if (result < 0)
        return result;
    finish_relay_domains(loader);
    return config_finish_admission(loader);
}
