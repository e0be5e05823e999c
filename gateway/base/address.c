#include "gateway/base/address.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/un.h>

#include "gateway/base/quantity.h"

enum { PORT_DIGITS_MAX = 5 };

int parse_ip(const char *text, uint16_t port, struct sockaddr_storage *address)
{
    char bare[INET6_ADDRSTRLEN];
    size_t size = strlen(text);
    bool has_brackets = size > 2 && text[0] == '[' && text[size - 1] == ']';
    if (has_brackets) {
        text++;
        size -= 2;
    }
    if (size == 0 || size >= sizeof(bare))
        return -EINVAL;
    memcpy(bare, text, size);
    bare[size] = '\0';

    struct sockaddr_storage result = {0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&result;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&result;
    if (!has_brackets && inet_pton(AF_INET, bare, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
    } else if (inet_pton(AF_INET6, bare, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
    } else {
        return -EINVAL;
    }
    *address = result;
    return 0;
}

static int parse_port(const char *text, uint16_t *port)
{
    uint64_t number;
    if (strlen(text) > PORT_DIGITS_MAX || parse_count(text, &number) < 0)
        return -EINVAL;
    if (number == 0 || number > UINT16_MAX)
        return -ERANGE;
    *port = (uint16_t)number;
    return 0;
}

/* Where the host begins and ends, and where its port begins (NULL: none is given). */
struct host_port_parts {
    const char *host;
    size_t host_size;
    const char *port;
};

static int split_host_port(const char *text, struct host_port_parts *parts)
{
    if (text[0] == '[') {
        const char *end = strchr(text, ']');
        if (end == NULL || (end[1] != '\0' && end[1] != ':'))
            return -EINVAL;
        parts->host = text + 1;
        parts->host_size = (size_t)(end - parts->host);
        parts->port = end[1] == ':' ? end + 2 : NULL;
        return 0;
    }
    const char *colon = strchr(text, ':');
    if (colon != NULL && strchr(colon + 1, ':') != NULL)
        return -EINVAL; /* an IPv6 address must stand in brackets: its last group looks like a port */
    parts->host = text;
    parts->host_size = colon != NULL ? (size_t)(colon - text) : strlen(text);
    parts->port = colon != NULL ? colon + 1 : NULL;
    return 0;
}

int parse_host_port(const char *text, uint16_t default_port, char *host, size_t host_size, uint16_t *port)
{
    struct host_port_parts parts;
    int result = split_host_port(text, &parts);
    if (result < 0)
        return result;
    if (parts.host_size == 0 || parts.host_size >= host_size)
        return -EINVAL;

    uint16_t number = default_port;
    if (parts.port != NULL)
        result = parse_port(parts.port, &number);
    else if (default_port == 0)
        result = -EINVAL;
    if (result < 0)
        return result;

    memcpy(host, parts.host, parts.host_size);
    host[parts.host_size] = '\0';
    *port = number;
    return 0;
}

/* Both families in one 128-bit space, so that a single comparison serves them. False: neither family. */
static bool map_address(const struct sockaddr *address, uint64_t mapped[static 2])
{
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;
        mapped[0] = 0;
        mapped[1] = 0xffff00000000ULL | ntohl(v4->sin_addr.s_addr);
        return true;
    }
    if (address->sa_family != AF_INET6)
        return false;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)address;
    for (size_t half = 0; half < 2; half++) {
        mapped[half] = 0;
        for (size_t index = 0; index < 8; index++)
            mapped[half] = mapped[half] << 8 | v6->sin6_addr.s6_addr[half * 8 + index];
    }
    return true;
}

static uint64_t half_mask(unsigned bits)
{
    assert(bits <= 64);
    return bits == 0 ? 0 : UINT64_MAX << (64 - bits);
}

int parse_network(const char *text, struct ip_network *network)
{
    char host[INET6_ADDRSTRLEN + 2];
    const char *slash = strchr(text, '/');
    size_t host_size = slash != NULL ? (size_t)(slash - text) : strlen(text);
    if (host_size == 0 || host_size >= sizeof(host))
        return -EINVAL;
    memcpy(host, text, host_size);
    host[host_size] = '\0';

    struct sockaddr_storage address;
    if (parse_ip(host, 0, &address) < 0)
        return -EINVAL;
    unsigned width = address.ss_family == AF_INET ? 32 : 128;
    uint64_t prefix = width;
    if (slash != NULL && parse_count(slash + 1, &prefix) < 0)
        return -EINVAL;
    if (prefix > width)
        return -ERANGE;

    struct ip_network result;
    bool is_mapped = map_address((const struct sockaddr *)&address, result.address);
    assert(is_mapped);
    unsigned bits = 128 - width + (unsigned)prefix;
    result.mask[0] = half_mask(bits < 64 ? bits : 64);
    result.mask[1] = half_mask(bits < 64 ? 0 : bits - 64);
    if ((result.address[0] & ~result.mask[0]) != 0 || (result.address[1] & ~result.mask[1]) != 0)
        return -EINVAL;
    *network = result;
    return 0;
}

bool network_list_has(const struct ip_network *networks, size_t count, const struct sockaddr *address)
{
    uint64_t mapped[2];
    if (!map_address(address, mapped))
        return false;
    for (size_t index = 0; index < count; index++) {
        const struct ip_network *network = &networks[index];
        if ((mapped[0] & network->mask[0]) == network->address[0] &&
            (mapped[1] & network->mask[1]) == network->address[1])
            return true;
    }
    return false;
}

socklen_t address_size(const struct sockaddr *address)
{
    switch (address->sa_family) {
    case AF_INET:
        return sizeof(struct sockaddr_in);
    case AF_INET6:
        return sizeof(struct sockaddr_in6);
    case AF_UNIX:
        return sizeof(struct sockaddr_un);
    default:
        return 0;
    }
}

bool address_equals(const struct sockaddr *a, const struct sockaddr *b)
{
    if (a->sa_family != b->sa_family)
        return false;
    if (a->sa_family == AF_INET) {
        const struct sockaddr_in *v4_a = (const struct sockaddr_in *)(const void *)a;
        const struct sockaddr_in *v4_b = (const struct sockaddr_in *)(const void *)b;
        return v4_a->sin_port == v4_b->sin_port && v4_a->sin_addr.s_addr == v4_b->sin_addr.s_addr;
    }
    if (a->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6_a = (const struct sockaddr_in6 *)(const void *)a;
        const struct sockaddr_in6 *v6_b = (const struct sockaddr_in6 *)(const void *)b;
        return v6_a->sin6_port == v6_b->sin6_port && v6_a->sin6_scope_id == v6_b->sin6_scope_id &&
               memcmp(&v6_a->sin6_addr, &v6_b->sin6_addr, sizeof(v6_a->sin6_addr)) == 0;
    }
    if (a->sa_family == AF_UNIX) {
        const struct sockaddr_un *unix_a = (const struct sockaddr_un *)(const void *)a;
        const struct sockaddr_un *unix_b = (const struct sockaddr_un *)(const void *)b;
        return strncmp(unix_a->sun_path, unix_b->sun_path, sizeof(unix_a->sun_path)) == 0;
    }
    return false;
}

static char *put_number(char *cursor, unsigned number)
{
    char digits[10];
    size_t count = 0;
    do {
        digits[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    while (count > 0)
        *cursor++ = digits[--count];
    return cursor;
}

/* By hand, because inet_ntop costs more than the rest of a log line. */
static char *put_v4(char *cursor, uint32_t address)
{
    for (int shift = 24; shift >= 0; shift -= 8) {
        cursor = put_number(cursor, address >> shift & 0xff);
        if (shift > 0)
            *cursor++ = '.';
    }
    return cursor;
}

size_t address_format(const struct sockaddr *address, char text[static ADDRESS_TEXT_SIZE])
{
    char *cursor = text;
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;
        cursor = put_v4(cursor, ntohl(v4->sin_addr.s_addr));
        *cursor++ = ':';
        cursor = put_number(cursor, ntohs(v4->sin_port));
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)address;
        *cursor++ = '[';
        const char *done = inet_ntop(AF_INET6, &v6->sin6_addr, cursor, INET6_ADDRSTRLEN);
        assert(done != NULL);
        cursor += strlen(cursor);
        *cursor++ = ']';
        *cursor++ = ':';
        cursor = put_number(cursor, ntohs(v6->sin6_port));
    } else {
        cursor = stpcpy(cursor, "unknown");
    }
    assert(cursor < text + ADDRESS_TEXT_SIZE);
    *cursor = '\0';
    return (size_t)(cursor - text);
}
