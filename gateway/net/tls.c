#include "gateway/net/tls.h"

#include <errno.h>

#include <openssl/crypto.h>
#include <openssl/ssl.h>

#ifndef OPENSSL_IS_BORINGSSL
#error "these are not BoringSSL's headers"
#endif

const char *tls_library_version(void)
{
    return OpenSSL_version(OPENSSL_VERSION);
}

int tls_self_check(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_method());
    if (context == NULL)
        return -ENOMEM;
    /* OpenSSL has no such function: had its library been loaded instead, the process would not have started.
     */
    SSL_CTX_set_grease_enabled(context, 1);
    SSL_CTX_free(context);
    return 0;
}
