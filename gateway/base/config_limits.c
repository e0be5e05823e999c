#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/config_inner.h"
#include "gateway/base/idna.h"

/* The `site` sections: what they cover, what they take from "default", and which of them is a site's. */

enum { SMTP_PORT = 25 };

static const char default_pattern[] = "default";

/* --- Titles --- */

/* "HOST[:PORT]" as a site is called (base/destination.h); NULL: it is no such thing. */
static const char *copy_site_name(struct config *config, const char *title)
{
    char host[DOMAIN_SIZE_MAX + 1];
    char key[IDNA_KEY_SIZE];
    char port_text[8] = "";
    uint16_t port;
    struct sockaddr_storage address;
    if (parse_host_port(title, SMTP_PORT, host, sizeof(host), &port) < 0)
        return NULL;
    if (parse_ip(host, 0, &address) == 0) {
        size_t used = address_format((const struct sockaddr *)&address, key);
        assert(used > 2 && strcmp(key + used - 2, ":0") == 0);
        key[used - 2] = '\0';
    } else {
        int used = domain_is_valid(host, strlen(host)) ? idna_domain_key(host, strlen(host), key) : -1;
        if (used < 0 || title[0] == '[')
            return NULL;
    }
    if (port != SMTP_PORT)
        snprintf(port_text, sizeof(port_text), ":%u", port);
    char *name = config_memory(config, strlen(key) + sizeof(port_text));
    strcpy(stpcpy(name, key), port_text);
    return name;
}

/* The title in the form in which sites and hosts are looked up; NULL: it can be neither. */
static const char *copy_pattern(struct config *config, const char *title)
{
    if (strcmp(title, default_pattern) == 0 || title[0] == '/')
        return config_copy(config, title, strlen(title));
    if (title[0] == '.')
        return config_copy_pattern(config, title);
    const char *name = copy_site_name(config, title);
    return name != NULL && strcmp(name, default_pattern) != 0 ? name : NULL;
}

/* --- Sections --- */

struct site_draft *config_begin_site(struct config_loader *loader, const char *title, struct origin origin)
{
    const char *pattern = copy_pattern(loader->config, title);
    if (pattern == NULL) {
        config_loader_fail(
            loader, origin,
            "site \"%s\" is no name of a site or host; would be right: \"default\", a name like "
            "\"google.com\" or \"relay.example.net:587\", or \".example.com\" for all hosts below it",
            title);
        return NULL;
    }
    loader->sites = config_grow(loader->config, loader->sites, loader->site_count, sizeof(*loader->sites));
    struct site_draft *draft = &loader->sites[loader->site_count++];
    *draft =
        (struct site_draft){.origin = origin, .limits = {.pattern = pattern, .tls = CONFIG_SECURITY_UNSET}};
    return draft;
}

/* All limits are numbers of one size, so that one piece of code can hand them down. */
static uint32_t *field_of(struct config_limits *limits, const struct config_key *key)
{
    _Static_assert(sizeof(limits->tls) == sizeof(uint32_t), "a limit has another size");
    _Static_assert(offsetof(struct site_draft, limits) == 0, "a key's offset is not that in the limits");
    assert(key->section == SECTION_SITE && key->offset < sizeof(*limits));
    return (uint32_t *)(void *)((char *)limits + key->offset);
}

void config_end_site(struct site_draft *draft, const struct origin *origins)
{
    for (size_t index = 0; index < config_key_count; index++)
        draft->is_given[index] = config_keys[index].section == SECTION_SITE && origins[index].line > 0;
}

/* --- The end of the file --- */

static void inherit(struct site_draft *draft, struct config_limits *from)
{
    for (size_t index = 0; index < config_key_count; index++) {
        const struct config_key *key = &config_keys[index];
        if (key->section == SECTION_SITE && !draft->is_given[index])
            *field_of(&draft->limits, key) = *field_of(from, key);
    }
}

static bool is_default(const struct site_draft *draft)
{
    return strcmp(draft->limits.pattern, default_pattern) == 0;
}

/* What "default" says, whether it is given or not. */
static struct config_limits default_limits(struct config_loader *loader)
{
    struct site_draft defaults = {.limits = {.pattern = default_pattern, .tls = CONFIG_SECURITY_UNSET}};
    config_set_defaults(loader, SECTION_SITE, &defaults);
    for (size_t index = 0; index < loader->site_count; index++) {
        struct site_draft *draft = &loader->sites[index];
        if (!is_default(draft))
            continue;
        inherit(draft, &defaults.limits);
        return draft->limits;
    }
    return defaults.limits;
}

static void note_lists(struct config *config, struct config_limits *limits)
{
    const char *names[DESTINATION_HOSTS_MAX];
    for (size_t index = 0; index < config->destination_count; index++) {
        const struct destination *destination = &config->destinations[index];
        assert(destination->host_count <= DESTINATION_HOSTS_MAX);
        if (destination->host_count == 0)
            continue;
        for (size_t host = 0; host < destination->host_count; host++)
            names[host] = destination->hosts[host].name;
        limits[config_limits_find(config, destination->name, names, destination->host_count)->index]
            .has_list = true;
    }
}

int config_finish_sites(struct config_loader *loader)
{
    struct config *config = loader->config;
    struct config_limits *limits = config_memory(config, (loader->site_count + 1) * sizeof(*limits));
    size_t count = 0;
    config->inner->sites = config_domain_table(config, loader->site_count);
    limits[count++] = default_limits(loader);
    for (size_t index = 0; index < loader->site_count; index++) {
        struct site_draft *draft = &loader->sites[index];
        if (is_default(draft))
            continue; /* not in the table, where a host of that name would find it */
        if (!domain_table_add(&config->inner->sites, draft->limits.pattern, (uint32_t)count))
            return config_loader_fail(loader, draft->origin, "site \"%s\" is given twice",
                                      draft->limits.pattern);
        inherit(draft, &limits[0]);
        draft->limits.index = (uint32_t)count;
        limits[count++] = draft->limits;
    }
    config->site_limits = limits;
    config->site_limits_count = count;
    note_lists(config, limits);
    return 0;
}

/* --- The question that workers ask --- */

static const struct config_limits *find_pattern(const struct config *config, const char *pattern, size_t size)
{
    uint32_t index;
    if (!domain_table_get(&config->inner->sites, pattern, size, &index))
        return NULL;
    assert(index < config->site_limits_count);
    return &config->site_limits[index];
}

static bool covers_all(const char *pattern, size_t size, const char *const *hosts, size_t host_count)
{
    for (size_t index = 0; index < host_count; index++) {
        size_t host_size = strlen(hosts[index]);
        bool is_below = pattern[0] == '.' && host_size > size &&
                        memcmp(hosts[index] + host_size - size, pattern, size) == 0;
        bool is_parent =
            pattern[0] == '.' && host_size == size - 1 && memcmp(hosts[index], pattern + 1, host_size) == 0;
        bool is_same = host_size == size && memcmp(hosts[index], pattern, size) == 0;
        if (!is_below && !is_parent && !is_same)
            return false;
    }
    return true;
}

/* Only what covers the first host can cover all of them; its patterns from the longest. */
static const struct config_limits *find_by_hosts(const struct config *config, const char *const *hosts,
                                                 size_t host_count)
{
    char dotted[1 + DOMAIN_SIZE_MAX + 1] = ".";
    size_t size = strlen(hosts[0]);
    const struct config_limits *found = NULL;
    if (size == 0 || size > DOMAIN_SIZE_MAX)
        return NULL;
    memcpy(dotted + 1, hosts[0], size);
    if (covers_all(dotted + 1, size, hosts, host_count))
        found = find_pattern(config, dotted + 1, size);
    for (size_t index = 0; found == NULL && index < size; index++) {
        bool is_candidate =
            dotted[index] == '.' && covers_all(dotted + index, size + 1 - index, hosts, host_count);
        if (is_candidate)
            found = find_pattern(config, dotted + index, size + 1 - index);
    }
    return found;
}

/* An IPv6 address is one host; in titles it stands in brackets. */
static const struct config_limits *find_by_v6(const struct config *config, const char *const *hosts,
                                              size_t host_count)
{
    char name[ADDRESS_TEXT_SIZE];
    if (!covers_all(hosts[0], strlen(hosts[0]), hosts, host_count) || strlen(hosts[0]) > sizeof(name) - 3)
        return NULL;
    int size = snprintf(name, sizeof(name), "[%s]", hosts[0]);
    return find_pattern(config, name, (size_t)size);
}

const struct config_limits *config_limits_find(const struct config *config, const char *site_name,
                                               const char *const *hosts, size_t host_count)
{
    const struct config_limits *found = find_pattern(config, site_name, strlen(site_name));
    if (found == NULL && host_count > 0)
        found = strchr(hosts[0], ':') != NULL ? find_by_v6(config, hosts, host_count)
                                              : find_by_hosts(config, hosts, host_count);
    return found != NULL ? found : &config->site_limits[0];
}
