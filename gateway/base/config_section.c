#include <assert.h>
#include <errno.h>
#include <string.h>

#include "gateway/base/config_inner.h"
#include "gateway/base/idna.h"
#include "gateway/base/panic.h"

/* The titled sections, from their first value to their closing brace. */

/* In the form under which domains are looked up; NULL when it is no domain. */
const char *config_copy_pattern(struct config *config, const char *text)
{
    size_t dot_size = text[0] == '.' ? 1 : 0;
    const char *bare = text + dot_size;
    char pattern[1 + IDNA_KEY_SIZE] = ".";
    if (!domain_is_valid(bare, strlen(bare)))
        return NULL;
    int size = idna_domain_key(bare, strlen(bare), pattern + 1);
    if (size < 0 || !domain_is_valid(pattern + 1, (size_t)size))
        return NULL;
    return config_copy(config, pattern + 1 - dot_size, (size_t)size + dot_size);
}

static void *begin_listener(struct config_loader *loader, const char *title, struct origin origin)
{
    loader->listeners =
        config_grow(loader->config, loader->listeners, loader->listener_count, sizeof(*loader->listeners));
    struct listener_draft *draft = &loader->listeners[loader->listener_count++];
    *draft = (struct listener_draft){.origin = origin};
    draft->listener.name = config_copy(loader->config, title, strlen(title));
    config_set_defaults(loader, SECTION_LISTENER, draft);
    return draft;
}

static void *begin_recipients(struct config_loader *loader, const char *title, struct origin origin)
{
    const char *domain = config_copy_pattern(loader->config, title);
    if (domain == NULL) {
        config_loader_fail(loader, origin,
                           "recipients \"%s\" is not a domain; would be right: \"example.com\", or "
                           "\".example.com\" for it and all below it",
                           title);
        return NULL;
    }
    loader->recipients = config_grow(loader->config, loader->recipients, loader->recipients_count,
                                     sizeof(*loader->recipients));
    struct recipients_draft *draft = &loader->recipients[loader->recipients_count++];
    *draft = (struct recipients_draft){.list = {.domain = domain}, .origin = origin};
    return draft;
}

/* The section's values go straight to their place, over the defaults. */
static void *begin_rate(struct config_loader *loader, const char *title, struct origin origin)
{
    static const char *const titles[CONFIG_RATE_COUNT] = {
        [CONFIG_RATE_CLIENT] = "client",
        [CONFIG_RATE_NETWORK] = "network",
        [CONFIG_RATE_LOGIN] = "login",
    };
    for (int of = 0; of < CONFIG_RATE_COUNT; of++) {
        if (strcmp(titles[of], title) == 0)
            return &loader->config->rates[of];
    }
    config_loader_fail(loader, origin,
                       "rate \"%s\" is unknown; would be right: \"client\", \"network\" or \"login\"", title);
    return NULL;
}

/* "example.com", ".example.com", either after "from:", or "*"; NULL when it is none of them. */
static const char *copy_route_pattern(struct config *config, const char *title)
{
    static const char prefix[] = "from:";
    if (strcmp(title, "*") == 0)
        return "*";
    if (strncmp(title, prefix, strlen(prefix)) != 0)
        return config_copy_pattern(config, title);
    const char *domain = config_copy_pattern(config, title + strlen(prefix));
    if (domain == NULL)
        return NULL;
    char *pattern = config_memory(config, strlen(prefix) + strlen(domain) + 1);
    strcpy(stpcpy(pattern, prefix), domain);
    return pattern;
}

static void *begin_route(struct config_loader *loader, const char *title, struct origin origin)
{
    const char *pattern = copy_route_pattern(loader->config, title);
    if (pattern != NULL)
        return config_begin_route(loader, pattern, origin);
    config_loader_fail(
        loader, origin,
        "route \"%s\" is not a domain; would be right: \"example.com\", \".example.com\" for it "
        "and all below it, the same after \"from:\" for the sender's domain, or \"*\"",
        title);
    return NULL;
}

void *config_begin_section(struct config_loader *loader, enum config_section section, const char *title,
                           struct origin origin)
{
    switch (section) {
    case SECTION_LISTENER:
        return begin_listener(loader, title, origin);
    case SECTION_RECIPIENTS:
        return begin_recipients(loader, title, origin);
    case SECTION_RATE:
        return begin_rate(loader, title, origin);
    case SECTION_ROUTE:
        return begin_route(loader, title, origin);
    case SECTION_SITE:
        return config_begin_site(loader, title, origin);
    default:
        panic("section '%s' has no draft", config_section_name(section));
    }
}

static int end_listener(struct config_loader *loader, struct listener_draft *draft,
                        const struct origin *origins)
{
    if (draft->listener.bind_count == 0)
        return config_loader_fail(
            loader, draft->origin,
            "listener \"%s\" has no bind; would be right: bind = {\"0.0.0.0:25\", \"[::]:25\"}",
            draft->listener.name);
    struct origin *copy = config_memory(loader->config, CONFIG_KEYS_MAX * sizeof(*copy));
    memcpy(copy, origins, CONFIG_KEYS_MAX * sizeof(*copy));
    draft->key_origins = copy;
    return 0;
}

/* Who logs in has shaken hands already, as somebody unknown. */
static int end_rate(struct config_loader *loader, const struct config_rate *rate,
                    const struct origin *origins)
{
    const struct config_key *key = config_key_find(SECTION_RATE, "handshakes_per_minute");
    assert(key != NULL);
    const struct origin *origin = &origins[key - config_keys];
    if (rate != &loader->config->rates[CONFIG_RATE_LOGIN] || origin->line == 0)
        return 0;
    return config_loader_fail(
        loader, *origin,
        "rate.handshakes_per_minute cannot limit a login, which comes after the handshake; "
        "would be right: this key in rate \"client\" or \"network\"");
}

int config_end_section(struct config_loader *loader, enum config_section section, void *draft,
                       const struct origin *origins)
{
    assert(draft != NULL);
    if (section == SECTION_LISTENER)
        return end_listener(loader, draft, origins);
    if (section == SECTION_RATE)
        return end_rate(loader, draft, origins);
    if (section == SECTION_ROUTE)
        return config_end_route(loader, draft, origins);
    if (section == SECTION_SITE)
        config_end_site(draft, origins);
    const struct recipients_draft *recipients = draft;
    if (section == SECTION_RECIPIENTS && recipients->list.file == NULL)
        return config_loader_fail(loader, recipients->origin,
                                  "recipients \"%s\" names no file; would be right: file = "
                                  "\"/etc/sluice/recipients\"",
                                  recipients->list.domain);
    return 0;
}
