#pragma once

/*
 * A UDP socket that talks to one peer: a few datagrams out, the peer's datagrams in, one timeout.
 *
 * The socket is connected, so the kernel drops what comes from any other address or port, and reports a peer
 * that is not there as -ECONNREFUSED. Its local port is drawn by the kernel, at random, from
 * net.ipv4.ip_local_port_range; one socket for each question therefore asks from a port that nobody off the
 * path can know (RFC 5452 §9.2).
 *
 * Embedded in its owner's struct. Everything belongs to the thread of the loop. Callbacks come from loop_turn
 * only, never from inside a function of this header; every function may be called in every callback. The
 * memory, the buffer and the bytes of a send belong to the datagram from datagram_open until on_closed.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "gateway/net/loop.h"
#include "gateway/net/timer.h"

struct datagram;

/* All are required. */
struct datagram_handler {
    /* One datagram, valid during the call. One that is larger than the buffer is not shown. */
    void (*on_datagram)(struct datagram *datagram, const uint8_t *bytes, size_t size);

    /* The peer cannot be reached (-ECONNREFUSED, -EHOSTUNREACH, ...), or a send failed. Nothing is received
     * any more; datagram_close is due. Comes once at most. */
    void (*on_error)(struct datagram *datagram, int error);

    /* datagram_set_timeout's time is over; it is not set any more. */
    void (*on_timeout)(struct datagram *datagram);

    /* The kernel holds nothing of it any more: the last call ever. */
    void (*on_closed)(struct datagram *datagram);
};

/* All fields are private to gateway/net, save `ctx`. */
struct datagram {
    struct completion receive;
    struct completion send;
    struct loop *loop;
    const struct datagram_handler *handler;
    void *ctx;
    int fd;
    uint8_t *buffer;
    size_t capacity;
    bool is_receiving; /* the kernel holds a receive */
    bool is_sending;
    bool is_closing;
    bool has_failed;
    struct timer timer; /* the owner's timeout; then what brings on_closed when all is home already */
};

/*
 * Opens a socket to `peer` and receives into `buffer`, which holds `capacity` bytes (1 to 65535). On an error
 * nothing has begun: -EMFILE, -ENFILE, -ENETUNREACH, -EADDRNOTAVAIL, -EAFNOSUPPORT, ...
 */
int datagram_open(struct datagram *datagram, struct loop *loop, const struct datagram_handler *handler,
                  void *ctx, const struct sockaddr *peer, uint8_t *buffer, size_t capacity)
    __attribute__((warn_unused_result));

/* Sends once, at the end of the turn. One send at a time: the next one may follow the peer's answer. */
void datagram_send(struct datagram *datagram, const uint8_t *bytes, size_t size);

/* Sets or moves the one timeout. Up to one tick of the timer wheel (66 ms) late. */
void datagram_set_timeout(struct datagram *datagram, uint64_t ms);

/* Ends at once; on_closed follows from the loop, and no other callback. Harmless when already closing. */
void datagram_close(struct datagram *datagram);
