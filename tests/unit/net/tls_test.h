#pragma once

/*
 * What the tests of TLS share: certificates made on the spot, servers made of them, and a client that speaks
 * TLS over a plain socket, as many bytes at a time as the test wants.
 */

#include "conn_test.h"

#include <openssl/ssl.h>

#include "gateway/net/tls.h"

/* PEM files in the test's own directory, and what is in them. */
struct tls_test_certificate {
    char certificate_path[128];
    char key_path[128];
    X509 *certificate;
    EVP_PKEY *key;
};

/* Certificates that every test may use. */
struct tls_test_files {
    char directory[64];
    struct tls_test_certificate authority;
    struct tls_test_certificate server;             /* mx.example.org, self-signed */
    struct tls_test_certificate wildcard;           /* *.example.net, self-signed */
    struct tls_test_certificate client;             /* by the authority: DNS client.example.com, CN ignored */
    struct tls_test_certificate named;              /* by the authority: CN "plain name", no DNS name */
    struct tls_test_certificate impostor_authority; /* has the authority's name and another key */
    struct tls_test_certificate impostor;           /* by that: DNS client.example.com */
    struct tls_test_certificate stranger;           /* self-signed */
};
extern struct tls_test_files tls_test_files;

/* cmocka fixtures of a group: makes and removes the files. */
int tls_test_files_make(void **state);
int tls_test_files_remove(void **state);

/*
 * Makes one more: signed by `issuer` or by itself (NULL), with one extension or none (NULL), valid from
 * `begin_s` to `end_s` seconds after now. The files go to the test's directory, so it must be unmade.
 */
void tls_test_make(struct tls_test_certificate *made, const char *name, const char *common_name,
                   const char *extra, int extra_nid, const struct tls_test_certificate *issuer, long begin_s,
                   long end_s);
void tls_test_unmake(struct tls_test_certificate *made);

/* A listener with the `server` certificate and then `wildcard`; adjust and hand to tls_test_server. */
struct tls_server_options tls_test_options(void);
struct tls_server *tls_test_server(const struct tls_server_options *options);

struct tls_peer {
    SSL_CTX *context;
    SSL *session;
    BIO *in;
    BIO *out;
    int fd;
    size_t cut; /* bytes moved to the socket before each turn */
    bool saw_fin;
    SSL_SESSION *ticket; /* the newest that the server gave */
};

/* A client of versions `min` to `max`, on the socket, not yet shaking. */
void tls_peer_open(struct tls_peer *peer, int fd, uint16_t min, uint16_t max);
void tls_peer_close(struct tls_peer *peer);

/* Shows this certificate when asked. */
void tls_peer_show(struct tls_peer *peer, const struct tls_test_certificate *certificate);

/* Moves bytes to the socket, `cut` at most (returns how many), and from it; no turn of the loop. */
size_t tls_peer_send(struct tls_peer *peer);
void tls_peer_receive(struct tls_peer *peer);

/* Moves bytes both ways and turns the loop once. */
void tls_peer_pump(struct tls_peer *peer, struct loop *loop);

/* Until the client's handshake is done or has failed: whether it is done. */
bool tls_peer_shake(struct tls_peer *peer, struct loop *loop);

/* All of it goes out. */
void tls_peer_write(struct tls_peer *peer, struct loop *loop, const void *bytes, size_t size);

/* Reads until `size` bytes have come; fewer when the stream ends first. */
size_t tls_peer_read(struct tls_peer *peer, struct loop *loop, char *bytes, size_t size);

/* The SSL_ERROR_* of a read that finds no bytes, once it is anything but "later". */
int tls_peer_read_end(struct tls_peer *peer, struct loop *loop);

/* A probe on which the server has started TLS, and its client; shaken hands on both sides. */
void tls_test_secured(struct probe *probe, struct tls_peer *peer, struct loop *loop,
                      struct tls_server *server, uint16_t version);
