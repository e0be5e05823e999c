/*
 * An endpoint is one address of one host of a site, with its back-off. Worker's thread only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "gateway/base/address.h"

enum {
    ENDPOINT_TEXT_SIZE = 256 + ADDRESS_TEXT_SIZE,
    ENDPOINT_BREAKS_MAX = 2, /* conversations that broke in gear 3 before gear 2 is taken */
};

/* How much of a conversation goes out in one flight; see README.md. */
enum gear {
    GEAR_LOCKSTEP = 1,
    GEAR_ENVELOPE = 2,
    GEAR_OVERLAP = 3,
};

struct endpoint {
    struct sockaddr_storage address;
    char text[ENDPOINT_TEXT_SIZE]; /* for the log: "192.0.2.1:25" or "mx.example.com[192.0.2.1:25]" */
    uint64_t left_out_until_us;    /* monotonic; 0: may be tried */
    uint32_t backoff_ms;           /* the last one; 0: none since the last success */
    uint32_t established;          /* sessions that got beyond the greeting */
    uint32_t breaks; /* while two messages were in flight, since a conversation that ended well */
    enum gear gear_max;
};

/* `name` is the host as it was configured. */
void endpoint_init(struct endpoint *endpoint, const char *name, const struct sockaddr_storage *address);

static inline bool endpoint_is_usable(const struct endpoint *endpoint, uint64_t now_us)
{
    return endpoint->left_out_until_us <= now_us;
}

/* It refused or broke: leave it out for `first_ms`, twice as long each time, at most ten times as long. */
void endpoint_fail(struct endpoint *endpoint, uint64_t now_us, uint32_t first_ms);

/* It took or refused a message in good order. */
void endpoint_succeed(struct endpoint *endpoint);

/* A conversation broke with two messages in flight: some peers cannot stand that. */
void endpoint_overlap_broke(struct endpoint *endpoint);
