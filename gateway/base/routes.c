#include "gateway/base/routes.h"

#include <assert.h>
#include <string.h>

#include "gateway/base/config_inner.h"

static const char sender_prefix[] = "from:";

enum { PREFIX_SIZE = sizeof(sender_prefix) - 1 };

_Static_assert((int)ROUTES_KEY_MAX == 2 * DOMAIN_SIZE_MAX + 1, "two domains and a NUL are a key");

static bool find_pattern(const struct routes *routes, const char *pattern, size_t size,
                         struct route_found *found)
{
    uint32_t index;
    *found = (struct route_found){0};
    if (routes->file != NULL && table_find(routes->file, pattern, size, &found->text, &found->text_size))
        return true;
    if (!domain_table_get(&routes->config->inner->routes, pattern, size, &index))
        return false;
    assert(index < routes->config->destination_count);
    found->destination = &routes->config->destinations[index];
    return true;
}

/* "*" and "from:example.com" are patterns, which a domain must not be taken for; "[IPv6:...]" has none. */
static bool may_be_domain(const char *text, size_t size)
{
    return (size != 1 || text[0] != '*') && memchr(text, ':', size) == NULL;
}

/* The domain, then its parents from the longest, each behind the prefix. In the buffer the prefix goes over
   what stands before the name: labels that have been asked for already. */
static bool find_domain(const struct routes *routes, const char *prefix, const char *domain, size_t size,
                        struct route_found *found)
{
    char buffer[PREFIX_SIZE + 1 + DOMAIN_SIZE_MAX];
    char *dotted = buffer + PREFIX_SIZE;
    size_t prefix_size = strlen(prefix);
    assert(prefix_size <= PREFIX_SIZE);
    if (size == 0 || size > DOMAIN_SIZE_MAX || !may_be_domain(domain, size))
        return false;
    memcpy(dotted + 1, domain, size);
    memcpy(dotted + 1 - prefix_size, prefix, prefix_size);
    if (find_pattern(routes, dotted + 1 - prefix_size, prefix_size + size, found))
        return true;
    dotted[0] = '.';
    for (size_t index = 0; index < size; index++) {
        if (dotted[index] != '.')
            continue;
        memcpy(dotted + index - prefix_size, prefix, prefix_size);
        if (find_pattern(routes, dotted + index - prefix_size, prefix_size + size + 1 - index, found))
            return true;
    }
    return false;
}

static bool find_sender(const struct routes *routes, const char *domain, size_t size,
                        struct route_found *found)
{
    bool may_have = routes->file != NULL || routes->config->inner->has_sender_routes;
    return may_have && find_domain(routes, sender_prefix, domain, size, found);
}

bool routes_find(const struct routes *routes, const char *domain, size_t size, const char *sender_domain,
                 size_t sender_size, struct route_found *found)
{
    return find_domain(routes, "", domain, size, found) ||
           find_sender(routes, sender_domain, sender_size, found) || find_pattern(routes, "*", 1, found);
}

size_t routes_lane_key(const struct routes *routes, const char *domain, size_t size,
                       const char *sender_domain, size_t sender_size, char key[static ROUTES_KEY_MAX])
{
    struct route_found found;
    assert(size > 0 && size <= DOMAIN_SIZE_MAX && sender_size <= DOMAIN_SIZE_MAX);
    memcpy(key, domain, size);
    if (!find_sender(routes, sender_domain, sender_size, &found))
        return size;
    key[size] = '\0';
    memcpy(key + size + 1, sender_domain, sender_size);
    return size + 1 + sender_size;
}

void routes_split_key(const char *key, size_t size, struct routes_key *parts)
{
    const char *end = size > 0 ? memchr(key, '\0', size) : NULL;
    if (end == NULL) {
        *parts = (struct routes_key){.domain = key, .domain_size = size, .sender = ""};
        return;
    }
    size_t domain_size = (size_t)(end - key);
    *parts = (struct routes_key){
        .domain = key, .domain_size = domain_size, .sender = end + 1, .sender_size = size - domain_size - 1};
}
