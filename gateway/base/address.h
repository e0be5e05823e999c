#pragma once

/*
 * IP addresses and networks as text, and what they are compared by.
 *
 * All functions are pure, may be called from any thread, and return 0 or -EINVAL (-ERANGE where the text is
 * well formed but the number does not fit); outputs are written only on success.
 */

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* An IP literal, "192.0.2.1" or "2001:db8::1" (with or without brackets), and `port` in host order. */
int parse_ip(const char *text, uint16_t port, struct sockaddr_storage *address)
    __attribute__((warn_unused_result));

/* "HOST", "HOST:PORT", "[V6]" or "[V6]:PORT": the host without brackets goes to `host` (`host_size` bytes
   with the terminating zero), the port (1…65535, `default_port` when absent; 0: a port must be given) to
   `port`. */
int parse_host_port(const char *text, uint16_t default_port, char *host, size_t host_size, uint16_t *port)
    __attribute__((warn_unused_result));

/* An IP network. IPv4 is kept in its mapped form (::ffff:a.b.c.d), so one comparison serves both. */
struct ip_network {
    uint64_t address[2]; /* host order, most significant half first, masked */
    uint64_t mask[2];
};

/* "192.0.2.0/24", "[2001:db8::]/32", "2001:db8::/32"; without "/N" a single address. Bits set beyond the
   prefix are -EINVAL: most likely the prefix is mistyped. */
int parse_network(const char *text, struct ip_network *network) __attribute__((warn_unused_result));

/* True when `address` (AF_INET, AF_INET6, also an IPv4-mapped one) lies in one of the networks. */
bool network_list_has(const struct ip_network *networks, size_t count, const struct sockaddr *address);

/* The size of the address structure by its family; 0 for other families than AF_INET, AF_INET6 and AF_UNIX
   (whose address is a path that ends with a zero). */
socklen_t address_size(const struct sockaddr *address);

/* True when both are the same family, address, port and scope; or the same path. */
bool address_equals(const struct sockaddr *a, const struct sockaddr *b);

enum { ADDRESS_TEXT_SIZE = 64 };

/* "192.0.2.1:25", "[2001:db8::1]:25" or "unknown", zero-terminated; returns its length. No allocation. */
size_t address_format(const struct sockaddr *address, char text[static ADDRESS_TEXT_SIZE]);
