/* What we are as a client: CAs, versions, ciphers, our certificate; the judgement of the server's. See tls.h.
 */

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509.h>

#include "gateway/net/tls_inner.h"

/* The last two lines are for servers that would otherwise get their mail in the clear. */
#define CLIENT_CIPHERS                                                                                       \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"                                             \
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"                                             \
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"                                             \
    "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA:"               \
    "AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-SHA:AES256-SHA"
#define CLIENT_CURVES "X25519:P-256:P-384:P-521"

struct tls_client {
    /* Any thread (atomic). */
    _Atomic uint32_t references;

    /* Immutable after tls_client_new. */
    bool can_verify;
    struct tls_identity identity; /* of no server; its certificate is NULL when we have none to show */
    uint8_t digest[TLS_POLICY];
};

/*
 * Judges the server's chain, and its name where one is demanded. The library ends the handshake on 0 only
 * under SSL_VERIFY_PEER, and keeps the error in the session either way.
 */
static int client_judge(X509_STORE_CTX *chain, void *ctx)
{
    const struct tls_client *client = ctx;
    const SSL *session = X509_STORE_CTX_get_ex_data(chain, SSL_get_ex_data_X509_STORE_CTX_idx());
    const struct tls_demand *demand = SSL_get_app_data(session);
    assert(demand != NULL && demand->client == client);
    if (!client->can_verify) {
        X509_STORE_CTX_set_error(chain, X509_V_ERR_APPLICATION_VERIFICATION);
        return 0;
    }
    if (X509_verify_cert(chain) != 1) {
        ERR_clear_error(); /* the chain's own error says it better */
        return 0;
    }
    if (demand->verify_name == NULL || tls_name_covered(demand->verify_name, X509_STORE_CTX_get0_cert(chain)))
        return 1;
    X509_STORE_CTX_set_error(chain, X509_V_ERR_HOSTNAME_MISMATCH);
    return 0;
}

/* The server made a session that can be resumed. 1: it is ours now. */
static int client_keep_session(SSL *session, SSL_SESSION *made)
{
    struct tls_demand *demand = SSL_get_app_data(session);
    assert(demand != NULL);
    if (demand->slot == NULL)
        return 0;
    tls_demand_remember(demand, made);
    return 1;
}

static bool client_configure(struct tls_client *client, const struct tls_client_options *options)
{
    SSL_CTX *context = client->identity.context;
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT);
    SSL_CTX_sess_set_new_cb(context, client_keep_session);
    SSL_CTX_set_early_data_enabled(context, 0);
    SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_cert_verify_callback(context, client_judge, client);
    return SSL_CTX_set_min_proto_version(context, options->version_min) == 1 &&
           SSL_CTX_set_strict_cipher_list(context, CLIENT_CIPHERS) == 1 &&
           SSL_CTX_set1_curves_list(context, CLIENT_CURVES) == 1;
}

static int client_no_memory(char *error, size_t error_size)
{
    (void)snprintf(error, error_size, "not enough memory for TLS");
    ERR_clear_error();
    return -ENOMEM;
}

static int client_load_trust(struct tls_client *client, const struct tls_client_options *options,
                             EVP_MD_CTX *digest, char *error, size_t error_size)
{
    struct tls_trust trust = {0};
    const char *path = options->ca_file != NULL ? options->ca_file : TLS_SYSTEM_CA_FILE;
    int result = tls_load_trust(&trust, path, digest, error, error_size);
    if (result == 0 && SSL_CTX_set1_verify_cert_store(client->identity.context, trust.store) != 1)
        result = client_no_memory(error, error_size);
    tls_trust_deinit(&trust);
    return result;
}

static int client_load_certificate(struct tls_client *client, const struct tls_client_options *options,
                                   EVP_MD_CTX *digest, char *error, size_t error_size)
{
    uint8_t hash[32];
    unsigned size = 0;
    int result = tls_load_certificate(&client->identity, options->certificate, error, error_size);
    if (result == 0)
        result = tls_load_private_key(&client->identity, options->private_key, error, error_size);
    if (result < 0)
        return result;
    if (X509_digest(client->identity.certificate, EVP_sha256(), hash, &size) != 1)
        return client_no_memory(error, error_size);
    EVP_DigestUpdate(digest, hash, size);
    return 0;
}

/* The digest says by which rules sessions are made: those that other rules made are not resumed. */
static int client_load(struct tls_client *client, const struct tls_client_options *options,
                       EVP_MD_CTX *digest, char *error, size_t error_size)
{
    const uint8_t rules[] = {options->verify_possible, options->certificate != NULL,
                             (uint8_t)(options->version_min >> 8), (uint8_t)options->version_min};
    int result = 0;
    if (EVP_DigestInit_ex(digest, EVP_sha256(), NULL) != 1 || !client_configure(client, options))
        return client_no_memory(error, error_size);
    EVP_DigestUpdate(digest, rules, sizeof(rules));
    if (options->certificate != NULL)
        result = client_load_certificate(client, options, digest, error, error_size);
    if (result == 0 && options->verify_possible)
        result = client_load_trust(client, options, digest, error, error_size);
    if (result == 0)
        EVP_DigestFinal_ex(digest, client->digest, NULL);
    return result;
}

int tls_client_new(const struct tls_client_options *options, struct tls_client **out, char *error,
                   size_t error_size)
{
    assert(error_size >= TLS_ERROR_MIN);
    assert(options->version_min >= TLS1_VERSION && options->version_min <= TLS1_3_VERSION);
    assert((options->certificate == NULL) == (options->private_key == NULL));
    struct tls_client *client = calloc(1, sizeof(*client));
    if (client == NULL)
        return client_no_memory(error, error_size);
    atomic_init(&client->references, 1);
    client->can_verify = options->verify_possible;
    client->identity.context = SSL_CTX_new(TLS_method());
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    int result = client->identity.context != NULL && digest != NULL
                     ? client_load(client, options, digest, error, error_size)
                     : client_no_memory(error, error_size);
    EVP_MD_CTX_free(digest);
    if (result < 0) {
        tls_client_free(client);
        return result;
    }
    *out = client;
    return 0;
}

struct tls_client *tls_client_take(struct tls_client *client)
{
    /* Relaxed: the caller has a reference already, nothing is published by one more. */
    uint32_t before = atomic_fetch_add_explicit(&client->references, 1, memory_order_relaxed);
    assert(before > 0);
    return client;
}

void tls_client_free(struct tls_client *client)
{
    if (client == NULL)
        return;
    /* Release pairs with acquire in the last call: all that others did with the client is over before. */
    uint32_t before = atomic_fetch_sub_explicit(&client->references, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before > 1)
        return;
    X509_free(client->identity.certificate);
    SSL_CTX_free(client->identity.context);
    free(client);
}

bool tls_client_equals(const struct tls_client *a, const struct tls_client *b)
{
    return a == b || memcmp(a->digest, b->digest, sizeof(a->digest)) == 0;
}

const uint8_t *tls_client_digest(const struct tls_client *client)
{
    return client->digest;
}

/* Says whom we want to reach; a name that cannot be one is left out. False without memory. */
static bool client_tell_name(SSL *session, const char *server_name)
{
    char name[TLS_NAME_MAX + 1];
    size_t size = server_name != NULL ? tls_name_fit(server_name) : 0;
    if (size == 0)
        return true;
    assert(size <= TLS_NAME_MAX);
    memcpy(name, server_name, size);
    name[size] = '\0';
    return SSL_set_tlsext_host_name(session, name) == 1;
}

SSL *tls_client_session(struct tls_demand *demand, const char *server_name)
{
    SSL *session = SSL_new(demand->client->identity.context);
    if (session == NULL)
        return NULL;
    SSL_set_app_data(session, demand);
    SSL_set_connect_state(session);
    SSL_set_shed_handshake_config(session, 1);
    SSL_set_verify(session, demand->verify_name != NULL ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    bool done = client_tell_name(session, server_name) &&
                (demand->offered == NULL || SSL_set_session(session, demand->offered) == 1);
    if (done)
        return session;
    SSL_free(session);
    ERR_clear_error();
    return NULL;
}
