#pragma once

/*
 * What a listener's TLS and a client's are made of, for gateway/net alone. See tls.h for the contract.
 */

#include <openssl/ssl.h>

#include "gateway/net/tls_tickets.h"

/* A certificate and the context that presents it. Immutable after tls_server_new; any thread. */
struct tls_identity {
    struct tls_server *server; /* NULL: a client's */
    SSL_CTX *context;          /* a server's has this identity as its app data */
    X509 *certificate;
    uint8_t end_point[TLS_BINDING_MAX]; /* see tls_end_point */
    uint32_t end_point_size;
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

#define TLS_POLICY 32 /* bytes that say by which rules a session was made */

/* What one connection asks of its server, and the slot that remembers the answer. Its owner's thread. */
struct tls_demand {
    struct tls_client *client;     /* a reference of its own */
    struct tls_session_slot *slot; /* NULL: none, or the connection is over */
    SSL_SESSION *offered;          /* a reference of its own; NULL: the slot had none that fits */
    char *verify_name;             /* on the heap; NULL: any certificate will do */
    uint8_t policy[TLS_POLICY];    /* unless there is no slot */
};

/* One more owner, who calls tls_client_free. */
struct tls_client *tls_client_take(struct tls_client *client);

/* By which rules this client makes sessions: TLS_POLICY bytes, equal for two clients with equal rules. */
const uint8_t *tls_client_digest(const struct tls_client *client);

/* 0 or -ENOMEM; in both cases tls_demand_end and tls_demand_deinit take it back. */
int tls_demand_init(struct tls_demand *demand, struct tls_client *client, const char *server_name,
                    const char *verify_name, struct tls_session_slot *slot)
    __attribute__((warn_unused_result));

/* Puts a session that this demand has led to into the slot. Takes over the reference. */
void tls_demand_remember(struct tls_demand *demand, SSL_SESSION *session);

/* The connection is over: lets go of the slot, and of its session when the handshake with it failed. */
void tls_demand_end(struct tls_demand *demand, bool succeeded);
void tls_demand_deinit(struct tls_demand *demand);

/* Our end of a new session, or NULL without memory. The demand must outlive it. */
SSL *tls_client_session(struct tls_demand *demand, const char *server_name)
    __attribute__((warn_unused_result));

/*
 * Bytes of a host name without its final dot; 0 when it is none: an address, an empty label, letters that no
 * host name has, too long.
 */
size_t tls_name_fit(const char *name);

/* Whether a DNS name of the certificate covers this host name (RFC 6125 section 6.4), or an address of it is
 * this address (RFC 9525 section 6.5); an unfit name: never. */
bool tls_name_covered(const char *name, X509 *certificate);

/*
 * The CAs that certificates of the other side are judged by; empty (all 0) when a server asks for none.
 */
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

/* The bytes of RFC 5929 section 4.1, and how many; 0 when the certificate's signature names no hash. */
uint32_t tls_end_point(X509 *certificate, uint8_t into[TLS_BINDING_MAX]);

/* What is known of a session whose handshake is done. */
void tls_info_fill(struct tls_info *info, const SSL *session);

/* See conn_tls_any_name. */
bool tls_session_any_name(const SSL *session, bool (*fits)(const void *context, const char *name),
                          const void *context);

/* See conn_tls_binding. */
int tls_session_binding(SSL *session, enum tls_binding type, uint8_t *into, size_t capacity)
    __attribute__((warn_unused_result));
