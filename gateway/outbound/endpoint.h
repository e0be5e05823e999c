/*
 * An endpoint is one address of one host of a site, with its back-off. Worker's thread only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "gateway/base/address.h"
#include "gateway/base/list.h"
#include "gateway/net/tls.h"
#include "gateway/sasl/sasl_client.h"

struct group_host;
struct next_hop_host;

enum {
    ENDPOINT_TEXT_SIZE = 256 + ADDRESS_TEXT_SIZE,
    ENDPOINT_BREAKS_MAX = 2, /* conversations that broke in a gear before the one below is taken */
};

/* How much of a conversation goes out in one flight; see README.md. */
enum gear {
    GEAR_LOCKSTEP = 1,
    GEAR_ENVELOPE = 2,
    GEAR_OVERLAP = 3,
    GEAR_STREAM = 4,
};

#define ENDPOINT_GEAR_REST_US UINT64_C(3600000000) /* after which a gear that was given up is tried again */

struct endpoint {
    struct list link; /* in site.endpoints, in the order in which they are tried; or in site.old_endpoints,
                         when it is no longer an address of the site, but still somebody's peer */
    struct group_host *host_room;
    struct sockaddr_storage address;
    char *host;          /* its name in the DNS, an address, or the path of a socket */
    uint16_t port;       /* 0: a Unix socket */
    uint16_t preference; /* the lowest first; equals share the load */
    uint16_t weight;     /* 0: none; else its host's part of the mail */
    bool is_authentic;   /* DNSSEC says so */
    uint32_t users;      /* clients */
    bool is_old;         /* in site.old_endpoints */
    uint64_t sent;       /* messages begun here, for the weights */
    struct tls_session_slot slot;
    uint64_t tls_bad_until_us;   /* under `may`: TLS failed here, so it is not tried before; 0: it did not */
    uint64_t helo_only_until_us; /* it could not stand EHLO; 0: it could */
    struct sasl_client_salted salted; /* of the last login with SCRAM, since salting costs milliseconds */
    char text[ENDPOINT_TEXT_SIZE];    /* for the log: "192.0.2.1:25" or "mx.example.com[192.0.2.1:25]" */
    uint64_t left_out_until_us;       /* monotonic; 0: may be tried */
    uint32_t backoff_ms;              /* the last one; 0: none since the last success */
    uint32_t established;             /* sessions that got beyond the greeting */
    uint32_t breaks;     /* while several messages were in flight, since a conversation that ended well */
    uint64_t broke_us;   /* monotonic: the last of them; 0: none */
    uint64_t lowered_us; /* monotonic: when gear_max was last lowered */
    enum gear gear_max;
};

/* One address of a host. NULL without memory. Nobody may use it any more when it is freed. */
struct endpoint *endpoint_new(const struct next_hop_host *host, const struct sockaddr_storage *address)
    __attribute__((warn_unused_result));
void endpoint_free(struct endpoint *endpoint);

/* A client that knows it: it stays until the client is gone. */
void endpoint_use(struct endpoint *endpoint);
void endpoint_unuse(struct endpoint *endpoint);

static inline bool endpoint_is_usable(const struct endpoint *endpoint, uint64_t now_us)
{
    return endpoint->left_out_until_us <= now_us;
}

/* It refused or broke: leave it out for `first_ms`, twice as long each time, at most ten times as long. */
void endpoint_fail(struct endpoint *endpoint, uint64_t now_us, uint32_t first_ms);

/* It took or refused a message in good order. */
void endpoint_succeed(struct endpoint *endpoint);

/* The highest gear for a new conversation. */
enum gear endpoint_gear(struct endpoint *endpoint, uint64_t now_us);

/*
 * A conversation in this gear, ready since `ready_us`, broke with several messages in flight: some peers
 * cannot stand that. All that broke at one moment count as one, as a peer that restarts breaks them all.
 */
void endpoint_broke(struct endpoint *endpoint, enum gear gear, uint64_t ready_us, uint64_t now_us);

/* The peer lost its way among what was sent in this gear. */
void endpoint_confused(struct endpoint *endpoint, enum gear gear, uint64_t now_us);
