#include "gateway/base/idna.h"

#include <assert.h>
#include <errno.h>
#include <idn2.h>
#include <stdbool.h>
#include <string.h>

#include "gateway/base/domain_table.h"

_Static_assert((int)IDNA_KEY_SIZE == DOMAIN_SIZE_MAX + 1, "a key is a domain and its terminating zero");

static bool is_ascii(const char *text, size_t size)
{
    for (size_t index = 0; index < size; index++) {
        if ((unsigned char)text[index] >= 0x80)
            return false;
    }
    return true;
}

static void put_lower(const char *text, size_t size, char into[static IDNA_KEY_SIZE])
{
    assert(size < IDNA_KEY_SIZE);
    for (size_t index = 0; index < size; index++) {
        char byte = text[index];
        into[index] = byte >= 'A' && byte <= 'Z' ? (char)(byte - 'A' + 'a') : byte;
    }
    into[size] = '\0';
}

static int translate_error(int result)
{
    assert(result != IDN2_OK);
    if (result == IDN2_MALLOC)
        return -ENOMEM;
    return result == IDN2_TOO_BIG_DOMAIN ? -ENAMETOOLONG : -EINVAL;
}

static int put_looked_up(const char *domain, size_t size, char into[static IDNA_KEY_SIZE])
{
    char text[DOMAIN_SIZE_MAX + 1];
    uint8_t *found = NULL;
    assert(size <= DOMAIN_SIZE_MAX);
    memcpy(text, domain, size);
    text[size] = '\0';
    int result = idn2_lookup_u8((const uint8_t *)text, &found, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
    if (result != IDN2_OK)
        return translate_error(result);

    /* UTS 46 maps some characters to ASCII that has a meaning in an address, such as a wide "@". */
    size_t found_size = strlen((const char *)found);
    if (found_size > DOMAIN_SIZE_MAX)
        result = -ENAMETOOLONG;
    else if (!domain_is_valid((const char *)found, found_size))
        result = -EINVAL;
    else
        put_lower((const char *)found, found_size, into);
    idn2_free(found);
    return result < 0 ? result : (int)found_size;
}

int idna_domain_key(const char *domain, size_t size, char into[static IDNA_KEY_SIZE])
{
    if (size == 0)
        return -EINVAL;
    if (size > DOMAIN_SIZE_MAX)
        return -ENAMETOOLONG;
    if (!is_ascii(domain, size)) {
        /* libidn2 would read only up to it. */
        if (memchr(domain, '\0', size) != NULL)
            return -EINVAL;
        return put_looked_up(domain, size, into);
    }
    put_lower(domain, size, into);
    return (int)size;
}
