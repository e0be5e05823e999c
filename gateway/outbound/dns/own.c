#include "gateway/outbound/dns/own.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/address.h"

static const struct in_addr *v4_of(const struct sockaddr *address)
{
    return &((const struct sockaddr_in *)(const void *)address)->sin_addr;
}

static const struct in6_addr *v6_of(const struct sockaddr *address)
{
    return &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
}

static uint16_t port_of(const struct sockaddr *address)
{
    const struct sockaddr_in *v4 = (const void *)address;
    const struct sockaddr_in6 *v6 = (const void *)address;
    return ntohs(address->sa_family == AF_INET6 ? v6->sin6_port : v4->sin_port);
}

static bool is_wildcard(const struct sockaddr *address)
{
    return address->sa_family == AF_INET6 ? IN6_IS_ADDR_UNSPECIFIED(v6_of(address))
                                          : v4_of(address)->s_addr == htonl(INADDR_ANY);
}

/* The IPv4 address as IPv6 writes it (RFC 4291 §2.5.5.2), any other as it is: the kernel takes both the same
 * way. */
static struct in6_addr mapped(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET6)
        return *v6_of(address);
    struct in6_addr result = {.s6_addr = {[10] = 0xff, [11] = 0xff}};
    memcpy(&result.s6_addr[12], v4_of(address), sizeof(struct in_addr));
    return result;
}

/* What leads to this very machine, whatever its interfaces are called: 127.0.0.0/8, 0.0.0.0 (which Linux
 * connects to as if it were 127.0.0.1), ::1 and ::. */
static bool is_loopback(const struct sockaddr *address)
{
    static const uint8_t none[4];
    struct in6_addr ip = mapped(address);
    if (!IN6_IS_ADDR_V4MAPPED(&ip))
        return IN6_IS_ADDR_LOOPBACK(&ip) || IN6_IS_ADDR_UNSPECIFIED(&ip);
    return ip.s6_addr[12] == IN_LOOPBACKNET || memcmp(&ip.s6_addr[12], none, sizeof(none)) == 0;
}

static bool is_same_host(const struct sockaddr *a, const struct sockaddr *b)
{
    struct in6_addr left = mapped(a);
    struct in6_addr right = mapped(b);
    return IN6_ARE_ADDR_EQUAL(&left, &right);
}

static int add_address(struct own_hosts *own, const struct sockaddr *address)
{
    void *grown = realloc(own->addresses, (own->address_count + 1) * sizeof(*own->addresses));
    if (grown == NULL)
        return -ENOMEM;
    own->addresses = grown;
    memset(&own->addresses[own->address_count], 0, sizeof(*own->addresses));
    memcpy(&own->addresses[own->address_count++], address, address_size(address));
    return 0;
}

static int add_interfaces(struct own_hosts *own, bool with_v4, bool with_v6)
{
    struct ifaddrs *interfaces = NULL;
    if (getifaddrs(&interfaces) < 0)
        return -errno;
    int result = 0;
    for (const struct ifaddrs *entry = interfaces; entry != NULL && result == 0; entry = entry->ifa_next) {
        const struct sockaddr *address = entry->ifa_addr;
        if (address == NULL)
            continue;
        if ((with_v4 && address->sa_family == AF_INET) || (with_v6 && address->sa_family == AF_INET6))
            result = add_address(own, address);
    }
    freeifaddrs(interfaces);
    return result;
}

static int add_addresses(struct own_hosts *own, const struct resolver_settings *settings, uint16_t port)
{
    bool with_v4 = false;
    bool with_v6 = false;
    for (size_t index = 0; index < settings->own_address_count; index++) {
        const struct sockaddr *address = (const struct sockaddr *)&settings->own_addresses[index];
        if (address_size(address) == 0 || port_of(address) != port)
            continue;
        bool is_v6 = address->sa_family == AF_INET6;
        if (is_wildcard(address)) {
            with_v6 |= is_v6;
            with_v4 |= !is_v6;
        } else {
            int result = add_address(own, address);
            if (result < 0)
                return result;
        }
    }
    return with_v4 || with_v6 ? add_interfaces(own, with_v4, with_v6) : 0;
}

static int add_names(struct own_hosts *own, const struct resolver_settings *settings)
{
    if (settings->own_name_count == 0)
        return 0;
    own->names = calloc(settings->own_name_count, sizeof(*own->names));
    if (own->names == NULL)
        return -ENOMEM;
    for (size_t index = 0; index < settings->own_name_count; index++) {
        if (dns_name_from_text(settings->own_names[index], own->names[own->name_count]) > 0)
            own->name_count++;
    }
    return 0;
}

int own_hosts_init(struct own_hosts *own, const struct resolver_settings *settings, uint16_t port)
{
    assert(port > 0);
    struct own_hosts made = {0};
    int result = add_names(&made, settings);
    if (result == 0)
        result = add_addresses(&made, settings, port);
    if (result < 0) {
        own_hosts_deinit(&made);
        return result;
    }
    *own = made;
    return 0;
}

void own_hosts_deinit(struct own_hosts *own)
{
    free(own->names);
    free(own->addresses);
    *own = (struct own_hosts){0};
}

bool own_hosts_has_name(const struct own_hosts *own, const char *name)
{
    for (size_t index = 0; index < own->name_count; index++) {
        if (strcmp(own->names[index], name) == 0)
            return true;
    }
    return false;
}

bool own_hosts_has_address(const struct own_hosts *own, const struct sockaddr *address)
{
    if (is_loopback(address))
        return true;
    for (size_t index = 0; index < own->address_count; index++) {
        if (is_same_host((const struct sockaddr *)&own->addresses[index], address))
            return true;
    }
    return false;
}
