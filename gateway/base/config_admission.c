#include <assert.h>
#include <errno.h>
#include <string.h>

#include "gateway/base/config_inner.h"

/* Who may use a listener, and how: what several keys mean together. A file that would quietly mean less
   protection than it seems to is refused. */

static bool is_given(const struct listener_draft *draft, const char *name)
{
    const struct config_key *key = config_key_find(SECTION_LISTENER, name);
    assert(key != NULL);
    return draft->key_origins[key - config_keys].line > 0;
}

/* Where the listener says it; its begin, when it does not. */
static struct origin place_of(const struct listener_draft *draft, const char *name)
{
    const struct config_key *key = config_key_find(SECTION_LISTENER, name);
    return is_given(draft, name) ? draft->key_origins[key - config_keys] : draft->origin;
}

static int check_tls(struct config_loader *loader, const struct listener_draft *draft)
{
    const struct config_listener *listener = &draft->listener;
    bool has_certificate = loader->config->inner->certificates.count > 0;
    if (listener->tls != CONFIG_TLS_OFF && !has_certificate)
        return config_loader_fail(
            loader, place_of(draft, "tls"),
            "listener.tls \"%s\" needs a certificate; would be right: tls { certificate = "
            "\"/etc/sluice/cert.pem\" private_key = \"/etc/sluice/key.pem\" }",
            config_word_name(KIND_TLS, listener->tls));
    if (listener->client_certificate == CONFIG_CERTIFICATE_OFF)
        return 0;
    if (listener->tls == CONFIG_TLS_OFF)
        return config_loader_fail(
            loader, place_of(draft, "client_certificate"),
            "listener.client_certificate needs TLS; would be right: tls = \"starttls\" or "
            "\"implicit\" in this listener");
    if (loader->config->tls.client_ca == NULL)
        return config_loader_fail(
            loader, place_of(draft, "client_certificate"),
            "listener.client_certificate needs to know who signs them; would be right: tls "
            "{ client_ca = \"/etc/sluice/clients.pem\" }");
    return 0;
}

/* A submission listener is one that asks for a login (RFC 6409 section 4.3), so that need not be said. */
static int finish_submission(struct config_loader *loader, struct listener_draft *draft)
{
    struct config_listener *listener = &draft->listener;
    if (!listener->submission || listener->auth == CONFIG_AUTH_REQUIRED)
        return 0;
    if (is_given(draft, "auth"))
        return config_loader_fail(loader, place_of(draft, "auth"),
                                  "listener.auth \"%s\" does not go with submission; would be right: auth = "
                                  "\"required\"",
                                  config_word_name(KIND_AUTH, listener->auth));
    listener->auth = CONFIG_AUTH_REQUIRED;
    return 0;
}

static int check_auth(struct config_loader *loader, const struct listener_draft *draft)
{
    const struct config_listener *listener = &draft->listener;
    const char *key = is_given(draft, "auth") ? "auth" : "submission";
    if (listener->auth == CONFIG_AUTH_OFF)
        return 0;
    if (loader->config->auth.users == NULL)
        return config_loader_fail(loader, place_of(draft, key),
                                  "listener.%s needs users; would be right: auth { users = "
                                  "\"/etc/sluice/users\" }",
                                  key);
    if (listener->tls == CONFIG_TLS_OFF && !listener->auth_without_tls)
        return config_loader_fail(
            loader, place_of(draft, key),
            "listener.%s without TLS would send passwords in the clear; would be right: "
            "tls = \"starttls\" or \"implicit\", or auth_without_tls = true for a network "
            "that nobody listens to",
            key);
    return 0;
}

static int check_proxies(struct config_loader *loader, const struct listener_draft *draft)
{
    const struct config_listener *listener = &draft->listener;
    const char *key = listener->proxy_protocol ? "proxy_protocol" : "xclient";
    bool has_proxies = listener->proxy_protocol || listener->xclient;
    if (has_proxies && listener->proxy_network_count == 0)
        return config_loader_fail(loader, place_of(draft, key),
                                  "listener.%s needs proxy_networks; would be right: proxy_networks = "
                                  "{\"192.0.2.10\"}, the addresses of your proxies",
                                  key);
    if (!has_proxies && listener->proxy_network_count > 0)
        return config_loader_fail(loader, place_of(draft, "proxy_networks"),
                                  "listener.proxy_networks means nothing without proxy_protocol or xclient; "
                                  "would be right: one of the two true, or no proxy_networks");
    return 0;
}

/* BINARYMIME comes by BDAT only (RFC 3030 section 3), its BODY is 8BITMIME's, and SMTPUTF8 cannot do without
   8BITMIME (RFC 6531 section 3.1). */
static uint32_t close_extensions(uint32_t off)
{
    if ((off & (CONFIG_EXT_CHUNKING | CONFIG_EXT_8BITMIME)) != 0)
        off |= CONFIG_EXT_BINARYMIME;
    if ((off & CONFIG_EXT_8BITMIME) != 0)
        off |= CONFIG_EXT_SMTPUTF8;
    return off;
}

int config_finish_listener(struct config_loader *loader, struct listener_draft *draft)
{
    draft->listener.proxy_networks = draft->proxy_networks;
    draft->listener.extensions_off = close_extensions(draft->listener.extensions_off);
    int result = check_tls(loader, draft);
    if (result == 0)
        result = finish_submission(loader, draft);
    if (result == 0)
        result = check_auth(loader, draft);
    return result == 0 ? check_proxies(loader, draft) : result;
}

static const char *const *paths_of(struct config *config, const struct named_files *list)
{
    const char **paths = config_memory(config, (list->count + 1) * sizeof(*paths));
    for (size_t index = 0; index < list->count; index++)
        paths[index] = list->files[index].path;
    return paths;
}

static int finish_certificates(struct config_loader *loader)
{
    struct config *config = loader->config;
    const struct named_files *certificates = &config->inner->certificates;
    const struct named_files *private_keys = &config->inner->private_keys;
    if (certificates->count != private_keys->count) {
        const struct named_files *place = private_keys->count > 0 ? private_keys : certificates;
        return config_loader_fail(
            loader, place->files[0].origin,
            "tls.certificate names %zu files and tls.private_key %zu; would be right: one "
            "key for each certificate, in the same order",
            certificates->count, private_keys->count);
    }
    config->tls.certificates = paths_of(config, certificates);
    config->tls.private_keys = paths_of(config, private_keys);
    config->tls.certificate_count = certificates->count;
    return 0;
}

static int check_client_certificates(struct config_loader *loader)
{
    const struct config *config = loader->config;
    if (config->inner->client_name_count + config->inner->fingerprint_count == 0)
        return 0;
    for (size_t index = 0; index < config->listener_count; index++) {
        const struct config_listener *listener = &config->listeners[index];
        if (listener->client_certificate != CONFIG_CERTIFICATE_OFF || listener->proxy_protocol)
            return 0; /* a PROXY header may tell of a certificate, too */
    }
    return config_loader_fail(loader, config_origin(config, SECTION_RELAY, "client_certificates"),
                              "relay.client_certificates, and no listener asks for one; would be right: "
                              "client_certificate = \"ask\" in a listener");
}

/* Is `name`, a domain or a ".parent", among what the pattern covers? */
static bool pattern_covers(const char *pattern, const char *name)
{
    size_t pattern_size = strlen(pattern);
    size_t name_size = strlen(name);
    if (strcmp(pattern, name) == 0)
        return true;
    if (pattern[0] != '.')
        return false;
    bool is_below = name_size > pattern_size && strcmp(name + name_size - pattern_size, pattern) == 0;
    return is_below || strcmp(pattern + 1, name) == 0;
}

static bool is_relayed(const struct config_loader *loader, const char *domain)
{
    for (size_t index = 0; index < loader->domain_count; index++) {
        const char *relayed = loader->domains[index].name;
        if (pattern_covers(relayed, domain) || pattern_covers(domain, relayed))
            return true;
    }
    return false;
}

static int finish_recipients(struct config_loader *loader)
{
    struct config *config = loader->config;
    size_t count = loader->recipients_count;
    struct config_recipients *lists = config_memory(config, (count + 1) * sizeof(*lists));
    config->inner->recipients = config_domain_table(config, count);
    config->inner->recipients_origins = config_memory(config, (count + 1) * sizeof(struct origin));
    for (size_t index = 0; index < count; index++) {
        const struct recipients_draft *draft = &loader->recipients[index];
        if (!domain_table_add(&config->inner->recipients, draft->list.domain, (uint32_t)index))
            return config_loader_fail(loader, draft->origin, "recipients \"%s\" is given twice",
                                      draft->list.domain);
        if (!is_relayed(loader, draft->list.domain))
            return config_loader_fail(
                loader, draft->origin,
                "recipients \"%s\" is for a domain that is not in relay.domains, and would "
                "never be asked; would be right: relay { domains = {\"%s\"} }",
                draft->list.domain, draft->list.domain);
        lists[index] = draft->list;
        config->inner->recipients_origins[index] = draft->origin;
    }
    config->recipients = lists;
    config->recipients_count = count;
    return 0;
}

int config_finish_admission(struct config_loader *loader)
{
    int result = finish_certificates(loader);
    if (result == 0)
        result = check_client_certificates(loader);
    return result == 0 ? finish_recipients(loader) : result;
}
