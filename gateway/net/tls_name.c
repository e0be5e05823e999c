/* Host names as servers are asked for and certificates are judged by. See tls_inner.h. */

#include <assert.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "gateway/net/tls_inner.h"

static bool name_is_letter(char letter)
{
    return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') || letter == '-' ||
           letter == '_';
}

static bool name_is_digit(char letter)
{
    return letter >= '0' && letter <= '9';
}

size_t tls_name_fit(const char *name)
{
    size_t size = strnlen(name, TLS_NAME_MAX + 1);
    if (size > 1 && name[size - 1] == '.')
        size--; /* the DNS writes the root; RFC 6066 section 3 and certificates do not */
    if (size == 0 || size > TLS_NAME_MAX)
        return 0;
    size_t label = 0;
    bool has_letter = false; /* in the last label: what ends in a number is an address */
    for (size_t index = 0; index < size; index++) {
        if (name[index] == '.') {
            if (label == 0)
                return 0; /* relatives of X509_check_host read a leading dot as "any name below" */
            label = 0;
            has_letter = false;
            continue;
        }
        if (!name_is_letter(name[index]) && !name_is_digit(name[index]))
            return 0;
        label++;
        has_letter = has_letter || name_is_letter(name[index]);
    }
    return label > 0 && has_letter ? size : 0;
}

bool tls_name_covered(const char *name, X509 *certificate)
{
    assert(certificate != NULL);
    size_t size = tls_name_fit(name);
    if (size == 0)
        return false;
    int result = X509_check_host(certificate, name, size, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL);
    ERR_clear_error(); /* of certificates without names */
    return result == 1;
}
