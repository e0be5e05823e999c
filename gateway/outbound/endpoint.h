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

enum { ENDPOINT_TEXT_SIZE = 256 + ADDRESS_TEXT_SIZE };

/* How much of a conversation goes out in one flight; see README.md. */
enum gear {
    GEAR_LOCKSTEP = 1,
    GEAR_ENVELOPE = 2,
    GEAR_OVERLAP = 3,
    GEAR_STREAM = 4,
};

/* How long a gear that was given up rests before it is tried anew: at first, and at most. */
#define ENDPOINT_REST_MIN_US UINT64_C(60000000)
#define ENDPOINT_REST_MAX_US UINT64_C(3600000000)

/* So long a peer that has shown that it counts its replies is trusted in that. */
#define ENDPOINT_PROVEN_US UINT64_C(3600000000)

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
    enum gear gear_max;
    enum gear gear_failed;    /* the last that was given up; 0: none was */
    uint64_t lowered_us;      /* monotonic: when that was; 0: never */
    uint64_t rest_us;         /* how long it rests; 0: it has proved itself since */
    uint64_t rest_until_us;   /* monotonic: gear_max goes up by one then */
    uint64_t proven_until_us; /* it gives one reply to each command; 0: nobody knows */
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

/* The highest gear for a new conversation: one more after each rest. */
enum gear endpoint_gear(struct endpoint *endpoint, uint64_t now_us);

/*
 * A conversation in this gear, ready since `ready_us`, broke with several messages in flight: the gear goes
 * down by one. Whatever began before the last such moment counts no more, as a peer that restarts breaks all
 * its conversations. Each rest is twice as long as the one before, unless the gear has held in between: in a
 * conversation to its end, or for an hour.
 */
void endpoint_broke(struct endpoint *endpoint, enum gear gear, uint64_t ready_us, uint64_t now_us);

/* The peer lost its way among what was sent in this gear: down by one. */
void endpoint_confused(struct endpoint *endpoint, enum gear gear, uint64_t now_us);

/* Replies in the stream were in step with the commands; or they were not: gear 4 rests for the longest time.
 */
void endpoint_counted(struct endpoint *endpoint, uint64_t now_us);
void endpoint_miscounted(struct endpoint *endpoint, uint64_t now_us);

/* A conversation that used what this gear is for, ready since `ready_us`, ended well. */
void endpoint_held(struct endpoint *endpoint, enum gear gear, uint64_t ready_us);
