/* What is known about a secured connection, and its channel bindings. See tls.h. */

#include <assert.h>
#include <errno.h>
#include <string.h>

#include <openssl/x509v3.h>

#include "gateway/net/tls_inner.h"

/*
 * Takes over a name that a peer chose, unless it could do harm in a log line or a header: too long, or with
 * control characters (NUL, C0, DEL, and C1, which in UTF-8 is C2 80 to C2 9F).
 */
static void info_take_name(char into[TLS_NAME_MAX + 1], const uint8_t *bytes, size_t size)
{
    into[0] = '\0';
    if (size > TLS_NAME_MAX)
        return;
    for (size_t index = 0; index < size; index++) {
        if (bytes[index] < 0x20 || bytes[index] == 0x7f)
            return;
        if (bytes[index] == 0xc2 && index + 1 < size && bytes[index + 1] < 0xa0)
            return;
    }
    memcpy(into, bytes, size);
    into[size] = '\0';
}

static bool info_is_ascii(const uint8_t *bytes, size_t size)
{
    for (size_t index = 0; index < size; index++) {
        if (bytes[index] >= 0x80)
            return false;
    }
    return true;
}

typedef bool name_fits(const void *context, const char *name);

/* Shows every DNS name that is fit until one is taken. Returns whether the certificate has any, and whether
 * one was taken. */
static bool info_each_dns_name(X509 *certificate, name_fits *fits, const void *context, bool *is_taken)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    bool found = false;
    *is_taken = false;
    for (size_t index = 0; names != NULL && index < sk_GENERAL_NAME_num(names) && !*is_taken; index++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, index);
        if (name->type != GEN_DNS)
            continue;
        found = true;
        char text[TLS_NAME_MAX + 1] = "";
        const uint8_t *bytes = ASN1_STRING_get0_data(name->d.dNSName);
        size_t size = (size_t)ASN1_STRING_length(name->d.dNSName);
        if (info_is_ascii(bytes, size))
            info_take_name(text, bytes, size);
        *is_taken = fits(context, text);
    }
    GENERAL_NAMES_free(names);
    return found;
}

static bool info_copy_name(const void *context, const char *name)
{
    char *const *into = context;
    memcpy(*into, name, strlen(name) + 1);
    return true;
}

/* Whether the certificate has a DNS name; the first one is taken, if it is fit. */
static bool info_take_dns_name(char into[TLS_NAME_MAX + 1], X509 *certificate)
{
    bool is_taken = false;
    return info_each_dns_name(certificate, info_copy_name, &into, &is_taken);
}

static void info_take_common_name(char into[TLS_NAME_MAX + 1], X509 *certificate)
{
    X509_NAME *subject = X509_get_subject_name(certificate);
    int index = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (index < 0)
        return;
    uint8_t *text = NULL;
    int size = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index)));
    if (size >= 0)
        info_take_name(into, text, (size_t)size);
    OPENSSL_free(text);
}

/* What we think of the server: the library has judged its chain, and its name where we demanded one. */
static void info_judge_server(struct tls_info *info, const SSL *session, X509 *certificate)
{
    const struct tls_demand *demand = SSL_get_app_data(session);
    assert(demand != NULL && demand->client != NULL);
    const char *name = demand->verify_name != NULL ? demand->verify_name : info->server_name;
    long result = SSL_get_verify_result(session);
    info->is_trusted = result == X509_V_OK;
    info->distrust = info->is_trusted ? "" : X509_verify_cert_error_string(result);
    info->is_verified = info->is_trusted && tls_name_covered(name, certificate);
    assert(info->is_verified || demand->verify_name == NULL);
}

static void info_take_peer(struct tls_info *info, const SSL *session)
{
    X509 *certificate = SSL_get_peer_certificate(session);
    assert(certificate != NULL || SSL_is_server(session));
    if (certificate == NULL)
        return;
    if (!SSL_is_server(session)) {
        info_judge_server(info, session, certificate);
    } else {
        info->has_client_certificate = true;
        info->client_verified = SSL_get_verify_result(session) == X509_V_OK;
    }
    if (!info_take_dns_name(info->peer_name, certificate))
        info_take_common_name(info->peer_name, certificate);
    unsigned size = 0;
    int done = X509_digest(certificate, EVP_sha256(), info->peer_fingerprint, &size);
    assert(done == 1 && size == sizeof(info->peer_fingerprint));
    X509_free(certificate);
}

bool tls_session_any_name(const SSL *session, name_fits *fits, const void *context)
{
    X509 *certificate = SSL_get_peer_certificate(session);
    bool is_taken = false;
    if (certificate == NULL)
        return false;
    if (!info_each_dns_name(certificate, fits, context, &is_taken)) {
        char name[TLS_NAME_MAX + 1] = "";
        info_take_common_name(name, certificate);
        is_taken = fits(context, name);
    }
    X509_free(certificate);
    return is_taken;
}

void tls_info_fill(struct tls_info *info, const SSL *session)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(session);
    assert(cipher != NULL);
    *info = (struct tls_info){
        .version = SSL_get_version(session),
        .cipher = SSL_CIPHER_standard_name(cipher),
        .cipher_bits = (uint16_t)SSL_CIPHER_get_bits(cipher, NULL),
        .is_resumed = SSL_session_reused(session) == 1,
        .distrust = "",
    };
    const char *name = SSL_get_servername(session, TLSEXT_NAMETYPE_host_name);
    if (name != NULL)
        info_take_name(info->server_name, (const uint8_t *)name, strlen(name));
    info_take_peer(info, session);
}

static int binding_exporter(SSL *session, uint8_t into[TLS_BINDING_MAX])
{
    static const char label[] = "EXPORTER-Channel-Binding";
    enum { SIZE = 32 };
    if (SSL_get_extms_support(session) != 1)
        return -ENOTSUP; /* RFC 9266 section 4.2 */
    /* The context is there, and empty: in TLS 1.2 that is not the same as no context. */
    if (SSL_export_keying_material(session, into, SIZE, label, sizeof(label) - 1, NULL, 0, 1) != 1)
        return -ENOTSUP;
    return SIZE;
}

static int binding_unique(SSL *session, uint8_t into[TLS_BINDING_MAX])
{
    size_t size = 0;
    if (SSL_version(session) != TLS1_2_VERSION || SSL_get_extms_support(session) != 1)
        return -ENOTSUP;
    if (SSL_get_tls_unique(session, into, &size, TLS_BINDING_MAX) != 1)
        return -ENOTSUP;
    return (int)size;
}

/* As the client it is the certificate that we were shown; as the server, the one that we show. */
static int binding_end_point(SSL *session, uint8_t into[TLS_BINDING_MAX])
{
    if (!SSL_is_server(session)) {
        X509 *certificate = SSL_get_peer_certificate(session);
        uint32_t size = certificate != NULL ? tls_end_point(certificate, into) : 0;
        X509_free(certificate);
        return size > 0 ? (int)size : -ENOTSUP;
    }
    const struct tls_identity *identity = SSL_CTX_get_app_data(SSL_get_SSL_CTX(session));
    assert(identity != NULL);
    if (identity->end_point_size == 0)
        return -ENOTSUP;
    memcpy(into, identity->end_point, identity->end_point_size);
    return (int)identity->end_point_size;
}

int tls_session_binding(SSL *session, enum tls_binding type, uint8_t *into, size_t capacity)
{
    uint8_t binding[TLS_BINDING_MAX];
    int size = 0;
    switch (type) {
    case TLS_BINDING_EXPORTER:
        size = binding_exporter(session, binding);
        break;
    case TLS_BINDING_UNIQUE:
        size = binding_unique(session, binding);
        break;
    case TLS_BINDING_SERVER_END_POINT:
        size = binding_end_point(session, binding);
        break;
    default:
        assert(!"no such channel binding");
        return -ENOTSUP;
    }
    if (size < 0)
        return size;
    if ((size_t)size > capacity)
        return -ENOSPC;
    memcpy(into, binding, (size_t)size);
    return size;
}
