/*
 * Who we are, as seen in the DNS: the names and addresses at which mail for others would come back to us.
 * Worker's thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "gateway/outbound/dns/name.h"
#include "gateway/outbound/dns/resolver.h"

struct own_hosts {
    char (*names)[DNS_NAME_SIZE];
    size_t name_count;
    struct sockaddr_storage *addresses;
    size_t address_count;
};

/*
 * Names that are none are left out, and so are addresses with another port than `port`. A wildcard stands for
 * the addresses that the machine's interfaces have now. 0 or -ENOMEM.
 */
int own_hosts_init(struct own_hosts *own, const struct resolver_settings *settings, uint16_t port)
    __attribute__((warn_unused_result));

/* Harmless on zeroed memory. */
void own_hosts_deinit(struct own_hosts *own);

/* `name` in the form of name.h. */
bool own_hosts_has_name(const struct own_hosts *own, const char *name);

/* The port of `address` does not count. True of every loopback and wildcard address, whatever the settings
   say: to send mail there is to send it to this machine. */
bool own_hosts_has_address(const struct own_hosts *own, const struct sockaddr *address);
