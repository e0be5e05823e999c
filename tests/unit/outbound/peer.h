/*
 * A scripted SMTP or LMTP server on a loopback port, in a thread of its own. A script is an array of lines
 * that ends with NULL; each connection takes the next script, and when there is none left the port is closed.
 *
 *     "S: text"   says text CRLF                  "A: text"  the same, and counts a message as taken
 *     "R: text"   says text without CRLF          "C: text"  must hear exactly this line
 *     "C~ text"   must hear a line that begins so "D"        hears content up to its lone dot, keeps it
 *     "B: n"      hears a chunk of n octets, keeps it "W"    reads nothing for a while
 *     "="         all that was said is read, and what comes next arrives in one flight
 *     "*"         from here on it may arrive in any number of flights
 *     "Q"         hears nothing for a while       "E"        reads and drops until the client has closed
 *     "X"         closes                          "Z"        closes with a reset
 *     "T"         shakes hands for TLS; all after it goes through that
 *     "T+" "T-"   the same, and it must be a session resumed, or must not
 *     "t"         shakes hands, which must fail
 *     "L: NAME"   hears AUTH with this mechanism, and all that belongs to it, and says what sasl.h says of it
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PEER_BUFFER = 1 << 16, PEER_CONTENT_MAX = 1 << 24 };

struct ssl_ctx_st; /* BoringSSL's SSL_CTX and SSL */
struct ssl_st;
struct users;

/* What all peers have; the test's. */
struct peer_means {
    struct ssl_ctx_st *tls;    /* for "T" and "t" */
    const struct users *users; /* for "L" */
    const char *path;          /* a Unix socket instead of a port; NULL: a port */
    int window;                /* octets that the kernel takes for it ahead; 0: as many as it likes */
    bool is_open;              /* the port is there for other machines, too */
};
extern struct peer_means peer_means;

struct peer {
    const char *const *const *scripts; /* ends with NULL */
    size_t cut_after;                  /* closes after so many octets said; SIZE_MAX: never */
    uint16_t port;

    pthread_t thread;
    int listener;
    int fd;
    struct ssl_st *session; /* NULL: in the clear */
    size_t said;
    bool is_cut;
    bool one_flight; /* since "=" */
    bool flight_taken;
    size_t heard_size;
    size_t heard_at;
    char heard[PEER_BUFFER];
    char *content; /* of all messages, with their lone dots if they have one */
    size_t content_size;
    char failure[512]; /* "": none; read it after peer_stop */
    _Atomic uint32_t taken;
    _Atomic uint32_t connections;
};

/* On any free port, known when it returns; or on a given one. */
void peer_start(struct peer *peer, const char *const *const *scripts, size_t cut_after);
void peer_start_at(struct peer *peer, uint16_t port, const char *const *const *scripts, size_t cut_after);

/* A port where nobody listens. */
uint16_t peer_dead_port(void);

/* Waits until the scripts are played. */
void peer_stop(struct peer *peer);
