#pragma once

/*
 * Two of our own connections, a client and a server, and between them a wire in the test's hands: it carries
 * as many bytes at a time as the test wants, may be cut, and may lie.
 */

#include "tls_test.h"

/* A server's options with this certificate alone. */
struct tls_server *tls_wire_server(const struct tls_test_certificate *certificate,
                                   struct tls_tickets *tickets);

/* A client that trusts the CAs of this file, TLS 1.2 at least. */
struct tls_client *tls_wire_client(const char *ca_file);
struct tls_client *tls_wire_client_of(const struct tls_client_options *options);

struct tls_wire {
    struct loop *loop;
    struct probe client;
    struct probe server;
    int client_end; /* plain sockets: what the client sends comes out here */
    int server_end;
    size_t cut;           /* bytes moved each way before each turn */
    size_t carried;       /* bytes that the client was sent */
    size_t carry_max;     /* ... and after so many of them, FIN */
    uint16_t version_max; /* the client's hello is changed to offer no more, by the wire; 0: it is not */
    const char *error;    /* the client's conn_tls_error, when it has ended */
};

/* What the client asks for; all may be NULL. */
struct tls_wire_names {
    const char *server_name;
    const char *verify_name;
    struct tls_session_slot *slot;
};

/* Both ends stand, nothing was started. */
void tls_wire_open(struct tls_wire *wire, struct loop *loop);

/* Starts TLS on both sides; the server speaks `version` at most. */
void tls_wire_start(struct tls_wire *wire, struct tls_server *server, struct tls_client *client,
                    uint16_t version, struct tls_wire_names names);

/* Moves bytes both ways and turns the loop once. */
void tls_wire_pump(struct tls_wire *wire);

/* Until the client is secured (true) or has ended (false). */
bool tls_wire_shake(struct tls_wire *wire);

/* Ends both, and waits for that. */
void tls_wire_close(struct tls_wire *wire);

#define pump_until(wire, condition)                                                                          \
    do {                                                                                                     \
        uint64_t pump_deadline_us = net_test_now_us() + 10000000;                                            \
        while (!(condition)) {                                                                               \
            if (net_test_now_us() > pump_deadline_us)                                                        \
                fail_msg("ten seconds are over, still not: %s", #condition);                                 \
            tls_wire_pump(wire);                                                                             \
        }                                                                                                    \
    } while (0)
