/* Next hops out of a line of text, and a port behind which nobody ever says anything. */
#pragma once

#include <stdint.h>

#include "gateway/outbound/next_hop.h"

struct endpoint;
struct site;
struct world;

/* MX hosts, "PREFERENCE[/WEIGHT] NAME ADDRESS...", separated by "; "; all at this port, called as MX hosts
 * are, TLS "none". One reference, the caller's. */
struct next_hop *hop_of(const char *text, uint16_t port) __attribute__((returns_nonnull));

/* The site of such a hop in this world. */
struct site *site_at(struct world *world, const char *text, uint16_t port) __attribute__((returns_nonnull));

/* The site's endpoint at this address; fails if there is none. */
struct endpoint *endpoint_at(struct site *site, const char *address) __attribute__((returns_nonnull));

/* Listens on all addresses of this machine, and takes connections without ever speaking on them. */
int mute_open(uint16_t *port);
void mute_close(int listener);
