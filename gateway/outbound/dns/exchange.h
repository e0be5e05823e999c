/*
 * One question on its way to one server: over UDP from a socket, and so a port, of its own, or over TCP.
 *
 * Made for a lookup, which may drop it at any time; it frees itself when the kernel holds nothing of it any
 * more. It calls the lookup at most once for its end, from the loop only. Worker's thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "gateway/net/conn.h"
#include "gateway/net/datagram.h"
#include "gateway/outbound/dns/packet.h"

struct lookup;
struct resolver;

enum {
    EXCHANGE_STRAYS_MAX = 32, /* wrong answers that are overlooked: of more, somebody is guessing our id */
};

enum exchange_end {
    EXCHANGE_SILENT,  /* no answer in time */
    EXCHANGE_GONE,    /* the server cannot be reached, or closed the connection */
    EXCHANGE_GUESSED, /* too many wrong answers: to be asked over TCP */
};

/*
 * The wires of an exchange. Both need the question and the timer; the union would save nothing, for the
 * buffer is the larger part.
 */
struct exchange {
    struct lookup *lookup; /* NULL: dropped */
    struct resolver *resolver;
    bool over_tcp;
    bool is_slow; /* counts as one of a slow lookup */
    uint32_t stray_count;
    struct list link; /* among all of the resolver */
    union {
        struct datagram datagram;
        struct conn conn;
    };
    uint32_t query_size; /* of `query`, with the length that TCP wants in front (RFC 1035 §4.2.2) */
    uint8_t query[2 + PACKET_QUERY_SIZE];
    uint8_t head[2]; /* TCP: the length of the answer */
    size_t got;      /* octets of head and answer */
    uint8_t *answer; /* TCP: a block of answer_size octets, when the length is known */
    size_t answer_size;
    uint8_t buffer[PACKET_UDP_SIZE];
};

/* Sends the lookup's question. NULL with a negative errno in `error`: nothing has begun. */
struct exchange *exchange_open(struct resolver *resolver, struct lookup *lookup,
                               const struct packet_question *question, const struct sockaddr *server,
                               bool over_tcp, uint64_t timeout_ms, int *error)
    __attribute__((warn_unused_result));

/* The lookup is not interested any more. NULL is ignored. */
void exchange_drop(struct exchange *exchange);

/* lookup.c: a packet from the server. True when it was the answer; then the exchange is dropped. */
bool lookup_on_packet(struct lookup *lookup, const uint8_t *bytes, size_t size);

/* lookup.c: no answer will come; the exchange is dropped. */
void lookup_on_end(struct lookup *lookup, enum exchange_end end);

/* resolver.c: an exchange is home, and its memory free. */
void resolver_on_home(struct resolver *resolver);
