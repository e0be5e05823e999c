/* The TLS side of a listener: contexts, the choice of a certificate, tickets. See tls.h. */

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "gateway/net/tls_inner.h"

#define SERVER_CIPHERS                                                                                       \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"                                             \
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"                                             \
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
#define SERVER_CURVES "X25519:P-256:P-384"

/* One a connection: mail clients keep the last one only, and each costs the wire a packet's third. */
#define SERVER_TICKETS 1

static struct tls_identity *server_identity(const SSL *session)
{
    struct tls_identity *identity = SSL_CTX_get_app_data(SSL_get_SSL_CTX(session));
    assert(identity != NULL);
    return identity;
}

static size_t server_ticket_overhead(SSL *session)
{
    return TLS_TICKET_OVERHEAD;
}

static int server_seal_ticket(SSL *session, uint8_t *out, size_t *out_size, size_t capacity,
                              const uint8_t *in, size_t size)
{
    const struct tls_server *server = server_identity(session)->server;
    assert(server->tickets != NULL);
    return tls_ticket_seal(server->tickets, server->ticket_context, out, out_size, capacity, in, size);
}

static enum ssl_ticket_aead_result_t server_open_ticket(SSL *session, uint8_t *out, size_t *out_size,
                                                        size_t capacity, const uint8_t *in, size_t size)
{
    const struct tls_server *server = server_identity(session)->server;
    assert(server->tickets != NULL);
    if (tls_ticket_open(server->tickets, server->ticket_context, out, out_size, capacity, in, size))
        return ssl_ticket_aead_success;
    return ssl_ticket_aead_ignore_ticket; /* a full handshake, then */
}

static const SSL_TICKET_AEAD_METHOD server_ticket_method = {
    .max_overhead = server_ticket_overhead,
    .seal = server_seal_ticket,
    .open = server_open_ticket,
};

/* The certificate for the name that the client asked for; the first covers every other. */
static int server_choose_certificate(SSL *session, int *alert, void *ctx)
{
    struct tls_server *server = ctx;
    const char *name = SSL_get_servername(session, TLSEXT_NAMETYPE_host_name);
    if (name == NULL)
        return SSL_TLSEXT_ERR_NOACK;
    for (size_t index = 0; index < server->count; index++) {
        const struct tls_identity *identity = &server->identities[index];
        if (X509_check_host(identity->certificate, name, strlen(name), X509_CHECK_FLAG_NEVER_CHECK_SUBJECT,
                            NULL) != 1)
            continue;
        if (index > 0 && SSL_set_SSL_CTX(session, identity->context) == NULL)
            return SSL_TLSEXT_ERR_ALERT_FATAL;
        return SSL_TLSEXT_ERR_OK;
    }
    ERR_clear_error(); /* of certificates without names */
    return SSL_TLSEXT_ERR_NOACK;
}

/* Who need not show a certificate may also show one that we cannot verify: tls_info tells. */
static int server_accept_any(int verified, X509_STORE_CTX *chain)
{
    ERR_clear_error();
    return 1;
}

static bool server_configure_trust(SSL_CTX *context, const struct tls_server_options *options,
                                   const struct tls_trust *trust)
{
    if (trust->store == NULL) {
        SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
        return true;
    }
    STACK_OF(X509_NAME) *names = SSL_dup_CA_list(trust->names);
    if (names == NULL)
        return false;
    SSL_CTX_set_client_CA_list(context, names);
    if (options->client_required)
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    else
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, server_accept_any);
    return SSL_CTX_set1_verify_cert_store(context, trust->store) == 1;
}

static void server_configure_tickets(SSL_CTX *context, const struct tls_server *server)
{
    const uint32_t lifetime_s = TLS_TICKET_GRACE_MS / 1000;
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_timeout(context, lifetime_s);
    SSL_CTX_set_session_psk_dhe_timeout(context, lifetime_s);
    SSL_CTX_set_num_tickets(context, SERVER_TICKETS);
    if (server->tickets == NULL)
        SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
    else
        SSL_CTX_set_ticket_aead_method(context, &server_ticket_method);
}

static bool server_configure(SSL_CTX *context, struct tls_server *server,
                             const struct tls_server_options *options, const struct tls_trust *trust)
{
    server_configure_tickets(context, server);
    SSL_CTX_set_early_data_enabled(context, 0);
    SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_tlsext_servername_callback(context, server_choose_certificate);
    SSL_CTX_set_tlsext_servername_arg(context, server);
    return SSL_CTX_set_min_proto_version(context, options->version_min) == 1 &&
           SSL_CTX_set_strict_cipher_list(context, SERVER_CIPHERS) == 1 &&
           SSL_CTX_set1_curves_list(context, SERVER_CURVES) == 1 &&
           SSL_CTX_set_session_id_context(context, server->ticket_context, sizeof(server->ticket_context)) ==
               1 &&
           server_configure_trust(context, options, trust);
}

static int server_no_memory(char *error, size_t error_size)
{
    (void)snprintf(error, error_size, "not enough memory for TLS");
    ERR_clear_error();
    return -ENOMEM;
}

static int server_add_identity(struct tls_server *server, const struct tls_server_options *options,
                               const struct tls_trust *trust, char *error, size_t error_size)
{
    size_t index = server->count;
    struct tls_identity *identity = &server->identities[index];
    *identity = (struct tls_identity){.server = server, .context = SSL_CTX_new(TLS_method())};
    server->count++;
    if (identity->context == NULL)
        return server_no_memory(error, error_size);
    SSL_CTX_set_app_data(identity->context, identity);
    if (!server_configure(identity->context, server, options, trust))
        return server_no_memory(error, error_size);
    int result = tls_load_certificate(identity, options->certificates[index], error, error_size);
    if (result < 0)
        return result;
    return tls_load_private_key(identity, options->private_keys[index], error, error_size);
}

/*
 * What a ticket is bound to: the listener's name and by what rule clients are verified there. A session that
 * counts as verified must not come back after its CA was taken off the list.
 */
static int server_read_trust(struct tls_server *server, const struct tls_server_options *options,
                             struct tls_trust *trust, char *error, size_t error_size)
{
    const uint8_t required = options->client_required;
    int result = 0;
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    if (digest == NULL || EVP_DigestInit_ex(digest, EVP_sha256(), NULL) != 1)
        result = server_no_memory(error, error_size);
    if (result == 0) {
        EVP_DigestUpdate(digest, options->name, strlen(options->name) + 1);
        EVP_DigestUpdate(digest, &required, sizeof(required));
        if (options->client_ca != NULL)
            result = tls_load_trust(trust, options->client_ca, digest, error, error_size);
    }
    if (result == 0)
        EVP_DigestFinal_ex(digest, server->ticket_context, NULL);
    EVP_MD_CTX_free(digest);
    return result;
}

int tls_server_new(const struct tls_server_options *options, struct tls_server **out, char *error,
                   size_t error_size)
{
    assert(options->name != NULL && options->certificate_count > 0);
    assert(error_size >= TLS_ERROR_MIN);
    assert(options->version_min == TLS1_2_VERSION || options->version_min == TLS1_3_VERSION);
    assert(options->client_ca != NULL || !options->client_required);
    struct tls_server *server =
        calloc(1, sizeof(*server) + options->certificate_count * sizeof(struct tls_identity));
    if (server == NULL)
        return server_no_memory(error, error_size);
    struct tls_trust trust = {0};
    atomic_init(&server->references, 1);
    server->tickets = options->tickets;
    int result = server_read_trust(server, options, &trust, error, error_size);
    while (result == 0 && server->count < options->certificate_count)
        result = server_add_identity(server, options, &trust, error, error_size);
    tls_trust_deinit(&trust);
    if (result < 0) {
        tls_server_free(server);
        return result;
    }
    *out = server;
    return 0;
}

struct tls_server *tls_server_take(struct tls_server *server)
{
    /* Relaxed: the caller has a reference already, nothing is published by one more. */
    uint32_t before = atomic_fetch_add_explicit(&server->references, 1, memory_order_relaxed);
    assert(before > 0);
    return server;
}

void tls_server_free(struct tls_server *server)
{
    if (server == NULL)
        return;
    /* Release pairs with acquire in the last call: all that others did with the server is over before. */
    uint32_t before = atomic_fetch_sub_explicit(&server->references, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before > 1)
        return;
    for (size_t index = 0; index < server->count; index++) {
        X509_free(server->identities[index].certificate);
        SSL_CTX_free(server->identities[index].context);
    }
    free(server);
}

SSL *tls_server_session(struct tls_server *server)
{
    SSL *session = SSL_new(server->identities[0].context);
    if (session == NULL)
        return NULL;
    SSL_set_accept_state(session);
    SSL_set_shed_handshake_config(session, 1);
    return session;
}
