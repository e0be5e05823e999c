#pragma once

/*
 * What a listener's TLS is made of, for gateway/net alone. See tls.h for the contract.
 */

#include <openssl/ssl.h>

#include "gateway/net/tls_tickets.h"

/* A certificate and the context that presents it. Immutable after tls_server_new; any thread. */
struct tls_identity {
    struct tls_server *server;
    SSL_CTX *context; /* its app data is this identity */
    X509 *certificate;
    uint8_t end_point[64];   /* the hash of RFC 5929 section 4.1 */
    uint32_t end_point_size; /* 0: the certificate's signature names no hash */
};

struct tls_server {
    /* Any thread (atomic). */
    _Atomic uint32_t references;

    /* Immutable after tls_server_new. */
    struct tls_tickets *tickets;
    uint8_t ticket_context[TLS_TICKET_CONTEXT];
    size_t count;
    struct tls_identity identities[];
};

/* One more owner, who calls tls_server_free. */
struct tls_server *tls_server_take(struct tls_server *server);

/* The server's end of a new session, or NULL without memory. The server must outlive it. */
SSL *tls_server_session(struct tls_server *server) __attribute__((warn_unused_result));

/* The CAs that client certificates are judged by; empty (all 0) when none are asked for. */
struct tls_trust {
    X509_STORE *store;
    STACK_OF(X509_NAME) * names; /* as the client is told them */
};

/*
 * Reading files: 0 or a negative errno with the file and the reason in `error`, as tls_server_new says. A key
 * is checked against the certificate that the context has; every CA's hash goes into `digest`.
 */
int tls_load_certificate(struct tls_identity *identity, const char *path, char *error, size_t error_size)
    __attribute__((warn_unused_result));
int tls_load_private_key(struct tls_identity *identity, const char *path, char *error, size_t error_size)
    __attribute__((warn_unused_result));
int tls_load_trust(struct tls_trust *trust, const char *path, EVP_MD_CTX *digest, char *error,
                   size_t error_size) __attribute__((warn_unused_result));
void tls_trust_deinit(struct tls_trust *trust);

/* What is known of a session whose handshake is done. */
void tls_info_fill(struct tls_info *info, const SSL *session);

/* See conn_tls_binding. */
int tls_session_binding(SSL *session, enum tls_binding type, uint8_t *into, size_t capacity)
    __attribute__((warn_unused_result));
