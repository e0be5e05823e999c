/* Host names as servers are asked for and certificates are judged by. See tls_inner.h. */

#include <arpa/inet.h>
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

/* RFC 6125 section 1.7.2 leaves addresses out; RFC 9525 section 6.5 does not: byte by byte, as iPAddress
 * only. */
static bool name_is_covered_address(const char *name, X509 *certificate)
{
    char bare[INET6_ADDRSTRLEN];
    uint8_t address[sizeof(struct in6_addr)];
    size_t size = strnlen(name, sizeof(bare) + 2);
    bool has_brackets = size > 2 && name[0] == '[' && name[size - 1] == ']';
    if (has_brackets) {
        name++;
        size -= 2;
    }
    if (size >= sizeof(bare))
        return false;
    memcpy(bare, name, size);
    bare[size] = '\0';
    size_t address_size = 0;
    if (inet_pton(AF_INET, bare, address) == 1)
        address_size = sizeof(struct in_addr);
    else if (inet_pton(AF_INET6, bare, address) == 1)
        address_size = sizeof(struct in6_addr);
    int result = address_size > 0 ? X509_check_ip(certificate, address, address_size, 0) : 0;
    ERR_clear_error();
    return result == 1;
}

bool tls_name_covered(const char *name, X509 *certificate)
{
    assert(certificate != NULL);
    size_t size = tls_name_fit(name);
    if (size == 0)
        return name_is_covered_address(name, certificate);
    int result = X509_check_host(certificate, name, size, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL);
    ERR_clear_error(); /* of certificates without names */
    return result == 1;
}
