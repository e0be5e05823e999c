/* Reading certificates, keys and CAs from PEM files, with errors that an operator can act on. */

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include "gateway/net/tls_inner.h"

static int load_refuse(int result, const char *path, const char *reason, char *error, size_t error_size)
{
    assert(result < 0);
    (void)snprintf(error, error_size, "%s: %s", path, reason);
    ERR_clear_error();
    return result;
}

static int load_open(const char *path, FILE **out, char *error, size_t error_size)
{
    ERR_clear_error();
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        int result = -errno;
        return load_refuse(result, path, strerror(-result), error, error_size);
    }
    *out = file;
    return 0;
}

/* Whether the last read failed only because there is nothing more in the file. */
static bool load_at_end(void)
{
    uint32_t code = ERR_peek_last_error();
    bool at_end = ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
    if (at_end)
        ERR_clear_error();
    return at_end;
}

/* A gateway starts with nobody at the keyboard. */
static int load_no_passphrase(char *buffer, int size, int writing, void *ctx)
{
    return -1;
}

static const char *load_certificates(SSL_CTX *context, FILE *file)
{
    X509 *certificate = PEM_read_X509(file, NULL, load_no_passphrase, NULL);
    if (certificate == NULL)
        return load_at_end() ? "holds no certificate (PEM)" : "holds a certificate that is damaged";
    bool taken = SSL_CTX_use_certificate(context, certificate) == 1;
    X509_free(certificate);
    if (!taken)
        return "holds a certificate of a kind that TLS cannot use";
    for (;;) {
        certificate = PEM_read_X509(file, NULL, load_no_passphrase, NULL);
        if (certificate == NULL)
            return load_at_end() ? NULL : "holds a certificate that is damaged";
        if (SSL_CTX_add0_chain_cert(context, certificate) != 1) {
            X509_free(certificate);
            return "holds a chain that TLS cannot use";
        }
    }
}

/* RFC 5929 section 4.1: the hash of the certificate's own signature, but nothing weaker than SHA-256. */
uint32_t tls_end_point(X509 *certificate, uint8_t into[TLS_BINDING_MAX])
{
    int digest_nid = NID_undef;
    int key_nid = NID_undef;
    unsigned size = 0;
    if (OBJ_find_sigid_algs(X509_get_signature_nid(certificate), &digest_nid, &key_nid) != 1)
        return 0;
    if (digest_nid == NID_md5 || digest_nid == NID_sha1)
        digest_nid = NID_sha256;
    const EVP_MD *digest = digest_nid == NID_undef ? NULL : EVP_get_digestbynid(digest_nid);
    if (digest == NULL || EVP_MD_size(digest) > TLS_BINDING_MAX)
        return 0;
    return X509_digest(certificate, digest, into, &size) == 1 ? size : 0;
}

int tls_load_certificate(struct tls_identity *identity, const char *path, char *error, size_t error_size)
{
    FILE *file = NULL;
    int result = load_open(path, &file, error, error_size);
    if (result < 0)
        return result;
    const char *reason = load_certificates(identity->context, file);
    (void)fclose(file);
    if (reason != NULL)
        return load_refuse(-EINVAL, path, reason, error, error_size);
    identity->certificate = SSL_CTX_get0_certificate(identity->context);
    assert(identity->certificate != NULL);
    X509_up_ref(identity->certificate);
    identity->end_point_size = tls_end_point(identity->certificate, identity->end_point);
    return 0;
}

static const char *load_key(struct tls_identity *identity, EVP_PKEY *key)
{
    if (key == NULL) {
        if (load_at_end())
            return "holds no private key (PEM)";
        if (ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_BAD_PASSWORD_READ)
            return "the private key has a passphrase, which nobody could type";
        return "holds a private key that is damaged";
    }
    if (X509_check_private_key(identity->certificate, key) != 1)
        return "the private key does not belong to the certificate";
    return SSL_CTX_use_PrivateKey(identity->context, key) == 1 ? NULL : "TLS cannot use this kind of key";
}

int tls_load_private_key(struct tls_identity *identity, const char *path, char *error, size_t error_size)
{
    assert(identity->certificate != NULL);
    FILE *file = NULL;
    int result = load_open(path, &file, error, error_size);
    if (result < 0)
        return result;
    EVP_PKEY *key = PEM_read_PrivateKey(file, NULL, load_no_passphrase, NULL);
    (void)fclose(file);
    const char *reason = load_key(identity, key);
    EVP_PKEY_free(key);
    return reason == NULL ? 0 : load_refuse(-EINVAL, path, reason, error, error_size);
}

static bool load_authority(struct tls_trust *trust, X509 *authority, EVP_MD_CTX *digest)
{
    uint8_t hash[32];
    unsigned size = 0;
    if (X509_digest(authority, EVP_sha256(), hash, &size) != 1 || EVP_DigestUpdate(digest, hash, size) != 1)
        return false;
    X509_NAME *name = X509_NAME_dup(X509_get_subject_name(authority));
    if (name == NULL || sk_X509_NAME_push(trust->names, name) == 0) {
        X509_NAME_free(name);
        return false;
    }
    return X509_STORE_add_cert(trust->store, authority) == 1;
}

static const char *load_authorities(struct tls_trust *trust, FILE *file, EVP_MD_CTX *digest)
{
    size_t count = 0;
    for (;; count++) {
        X509 *authority = PEM_read_X509(file, NULL, load_no_passphrase, NULL);
        if (authority == NULL)
            break;
        bool taken = load_authority(trust, authority, digest);
        X509_free(authority);
        if (!taken)
            return "holds a certificate that TLS cannot use";
    }
    if (!load_at_end())
        return "holds a certificate that is damaged";
    return count > 0 ? NULL : "holds no certificate (PEM)";
}

int tls_load_trust(struct tls_trust *trust, const char *path, EVP_MD_CTX *digest, char *error,
                   size_t error_size)
{
    FILE *file = NULL;
    int result = load_open(path, &file, error, error_size);
    if (result < 0)
        return result;
    trust->store = X509_STORE_new();
    trust->names = sk_X509_NAME_new_null();
    const char *reason = trust->store == NULL || trust->names == NULL ? "no memory to read it"
                                                                      : load_authorities(trust, file, digest);
    (void)fclose(file);
    return reason == NULL ? 0 : load_refuse(-EINVAL, path, reason, error, error_size);
}

void tls_trust_deinit(struct tls_trust *trust)
{
    X509_STORE_free(trust->store);
    sk_X509_NAME_pop_free(trust->names, X509_NAME_free);
    *trust = (struct tls_trust){0};
}
