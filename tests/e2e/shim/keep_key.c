/* Preloaded into OpenSMTPD 6.8 by tests: without it no TLS handshake of Debian 12's package succeeds.
 *
 * The process of OpenSMTPD that speaks TLS holds no private keys. It takes the public key out of a
 * certificate, marks the RSA structure in it with the key's name, and signs by methods of its own, which find
 * the mark and ask the process that has the key. OpenSSL 3 keeps no such structure in a key: it hands out a
 * copy, and neither the mark nor the methods on it count when the key is used. A key into which a structure
 * was put works by that structure, as before OpenSSL 3. So the marked copy is put into its key, just before
 * the key is used. (The same would hold for EC keys; the tests have RSA.)
 *
 * OpenSSL's headers would have the names of BoringSSL's; what is needed of them is declared here. */
#include <assert.h>
#include <dlfcn.h>
#include <stddef.h>

struct ssl_ctx_st;
struct evp_pkey_st;
struct rsa_st;

int EVP_PKEY_is_a(const struct evp_pkey_st *key, const char *type);
struct rsa_st *EVP_PKEY_get1_RSA(struct evp_pkey_st *key);
int EVP_PKEY_set1_RSA(struct evp_pkey_st *key, struct rsa_st *rsa);
void RSA_free(struct rsa_st *rsa);
int SSL_CTX_use_PrivateKey(struct ssl_ctx_st *context, struct evp_pkey_st *key);

typedef int user(struct ssl_ctx_st *context, struct evp_pkey_st *key);

static void keep_mark(struct evp_pkey_st *key)
{
    struct rsa_st *marked = EVP_PKEY_get1_RSA(key);

    assert(marked != NULL);
    const int was_set = EVP_PKEY_set1_RSA(key, marked);
    assert(was_set == 1);
    RSA_free(marked);
}

int SSL_CTX_use_PrivateKey(struct ssl_ctx_st *context, struct evp_pkey_st *key)
{
    user *real = (user *)dlsym(RTLD_NEXT, "SSL_CTX_use_PrivateKey");

    assert(real != NULL);
    if (EVP_PKEY_is_a(key, "RSA"))
        keep_mark(key);
    return real(context, key);
}
