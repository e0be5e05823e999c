#include "gateway/sasl/scram_parts.h"

#include <assert.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

static void skip(struct smtp_slice *rest, uint32_t size)
{
    assert(size <= rest->size);
    rest->data += size;
    rest->size -= size;
}

bool scram_take_comma(struct smtp_slice *rest)
{
    if (rest->size == 0 || rest->data[0] != ',')
        return false;
    skip(rest, 1);
    return true;
}

bool scram_take_attribute(struct smtp_slice *rest, char name, struct smtp_slice *value)
{
    if (rest->size < 3 || rest->data[0] != name || rest->data[1] != '=')
        return false;
    skip(rest, 2);
    const char *comma = memchr(rest->data, ',', rest->size);
    *value = (struct smtp_slice){rest->data, comma != NULL ? (uint32_t)(comma - rest->data) : rest->size};
    skip(rest, value->size);
    return value->size > 0;
}

bool scram_take_extension(struct smtp_slice *rest)
{
    char name = rest->size > 0 ? rest->data[0] : '\0';
    bool is_letter = (name >= 'a' && name <= 'z') || (name >= 'A' && name <= 'Z');
    struct smtp_slice ignored;
    return is_letter && scram_take_attribute(rest, name, &ignored);
}

bool scram_nonce_is_valid(struct smtp_slice nonce)
{
    for (uint32_t index = 0; index < nonce.size; index++) {
        if (nonce.data[index] < 0x21 || nonce.data[index] > 0x7e || nonce.data[index] == ',')
            return false;
    }
    return nonce.size > 0;
}

void scram_sign(const uint8_t key[static SCRAM_KEY_SIZE], struct smtp_slice openings,
                struct smtp_slice final_without_proof, uint8_t signature[static SCRAM_KEY_SIZE])
{
    HMAC_CTX context;
    HMAC_CTX_init(&context);
    unsigned size = 0;
    int good = HMAC_Init_ex(&context, key, SCRAM_KEY_SIZE, EVP_sha256(), NULL);
    good &= HMAC_Update(&context, (const uint8_t *)openings.data, openings.size);
    good &= HMAC_Update(&context, (const uint8_t *)",", 1);
    good &= HMAC_Update(&context, (const uint8_t *)final_without_proof.data, final_without_proof.size);
    good &= HMAC_Final(&context, signature, &size);
    assert(good == 1 && size == SCRAM_KEY_SIZE);
    HMAC_CTX_cleanup(&context);
}
