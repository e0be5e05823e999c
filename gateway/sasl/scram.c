/*
 * SCRAM-SHA-256 and -PLUS, the server's side (RFC 5802 §5 to §7, RFC 7677).
 *
 *     client-first   gs2-header client-first-message-bare      "n,," "n=user,r=abc"
 *     server-first   the nonce of both, salt, iterations       "r=abcXYZ,s=…,i=20000"
 *     client-final   binding, nonce, proof                     "c=biws,r=abcXYZ,p=…"
 *     server-final   the server's signature                    "v=…"
 *
 * The exchange keeps client-first and server-first as they were sent, since the proof is made over them.
 */

#include "gateway/sasl/sasl_inner.h"
#include "gateway/sasl/scram_parts.h"
#include "gateway/sasl/text.h"
#include "proto/base64.h"

#include <assert.h>
#include <openssl/evp.h>
#include <openssl/mem.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>

/* client-first in its parts; the slices point into the message. */
struct client_first {
    char flag;                 /* 'n', 'y' or 'p' */
    struct smtp_slice binding; /* with 'p': the name of the channel binding */
    bool has_authzid;
    struct smtp_slice authzid; /* still escaped, as is the name */
    struct smtp_slice name;
    struct smtp_slice nonce;
    uint32_t gs2_size;
};

struct client_final {
    struct smtp_slice binding; /* still in base64 */
    struct smtp_slice nonce;
    struct smtp_slice without_proof;
    uint8_t proof[SCRAM_KEY_SIZE];
};

/* gs2-cbind-flag = ("p=" cb-name) / "n" / "y" */
static bool take_flag(struct smtp_slice *rest, struct client_first *first)
{
    if (rest->size == 0)
        return false;
    first->flag = rest->data[0];
    if (first->flag == 'p')
        return scram_take_attribute(rest, 'p', &first->binding);
    rest->data++;
    rest->size--;
    return first->flag == 'n' || first->flag == 'y';
}

/* gs2-header = gs2-cbind-flag "," [ "a=" saslname ] "," */
static bool take_gs2_header(struct smtp_slice *rest, struct client_first *first)
{
    if (!take_flag(rest, first) || !scram_take_comma(rest))
        return false;
    first->has_authzid = rest->size > 0 && rest->data[0] == 'a';
    if (first->has_authzid && !scram_take_attribute(rest, 'a', &first->authzid))
        return false;
    return scram_take_comma(rest);
}

/* client-first-message-bare = "n=" saslname "," "r=" c-nonce ["," extensions] */
static bool parse_client_first(struct smtp_slice message, struct client_first *first)
{
    *first = (struct client_first){0};
    struct smtp_slice rest = message;
    if (!take_gs2_header(&rest, first))
        return false;
    first->gs2_size = message.size - rest.size;
    if (!scram_take_attribute(&rest, 'n', &first->name) || !scram_take_comma(&rest) ||
        !scram_take_attribute(&rest, 'r', &first->nonce) || !scram_nonce_is_valid(first->nonce))
        return false;
    while (rest.size > 0) {
        if (!scram_take_comma(&rest) || !scram_take_extension(&rest))
            return false;
    }
    return true;
}

/* True for a message that has "m=" where an extension would stand that the server must understand. */
static bool demands_extension(struct smtp_slice message)
{
    struct client_first first = {0};
    struct smtp_slice rest = message, ignored;
    return take_gs2_header(&rest, &first) && scram_take_attribute(&rest, 'm', &ignored);
}

/* saslname: "," is written "=2C" and "=" is written "=3D"; any other "=" is an error (RFC 5802 §5.1). */
static bool unescape(struct smtp_slice name, char *into, size_t capacity, uint32_t *size)
{
    uint32_t written = 0;
    for (uint32_t index = 0; index < name.size; index++) {
        char octet = name.data[index];
        if (octet == '=') {
            if (name.size - index < 3 || name.data[index + 1] < '2' || name.data[index + 1] > '3')
                return false;
            octet = name.data[index + 1] == '2' ? ',' : '=';
            if (name.data[index + 2] != (octet == ',' ? 'C' : 'D'))
                return false;
            index += 2;
        }
        if (written == capacity)
            return false;
        into[written++] = octet;
    }
    *size = written;
    return true;
}

/* Keeps the name, and refuses to act for anybody else. */
static enum sasl_result take_name(struct sasl_exchange *exchange, const struct client_first *first)
{
    char name[SASL_CLIENT_FIRST_MAX], authzid[SASL_CLIENT_FIRST_MAX];
    uint32_t name_size = 0, authzid_size = 0;
    if (!unescape(first->name, name, sizeof(name), &name_size) ||
        !unescape(first->authzid, authzid, sizeof(authzid), &authzid_size))
        return sasl_end(exchange, SASL_MALFORMED, "a name with a wrong escape");
    if (name_size > USER_NAME_MAX)
        return sasl_end(exchange, SASL_FAILED, "a name longer than any");
    sasl_claim(exchange, (struct smtp_slice){name, name_size});
    struct smtp_slice wanted = {authzid, authzid_size};
    if (first->has_authzid && !smtp_slice_equals(wanted, (struct smtp_slice){name, name_size}))
        return sasl_end(exchange, SASL_FAILED, "wants to act for another user");
    return SASL_CHALLENGE;
}

/* The table of RFC 5802 §6: what the client says of channel binding, against what we offered. */
static enum sasl_result take_binding(struct sasl_exchange *exchange, const struct client_first *first)
{
    struct sasl_scram *scram = &exchange->scram;
    bool is_plus = exchange->mechanism == SASL_SCRAM_SHA_256_PLUS;
    if (is_plus != (first->flag == 'p'))
        return sasl_end(exchange, SASL_FAILED, "the channel binding does not go with the mechanism");
    if (first->flag == 'y' && scram->binding_count > 0)
        return sasl_end(exchange, SASL_FAILED, "somebody took -PLUS out of the offer");
    if (first->flag != 'p')
        return SASL_CHALLENGE;
    for (uint32_t index = 0; index < scram->binding_count; index++) {
        const char *name = scram->bindings[index].name;
        if (smtp_slice_equals(first->binding, (struct smtp_slice){name, (uint32_t)strlen(name)})) {
            scram->binding_used = (uint8_t)index;
            return SASL_CHALLENGE;
        }
    }
    return sasl_end(exchange, SASL_FAILED, "an unknown channel binding");
}

/* Adds "," and server-first to the transcript, which holds client-first. */
static void write_server_first(struct sasl_exchange *exchange, struct smtp_slice client_nonce,
                               const struct scram_salt *salt, struct smtp_slice *answer)
{
    struct sasl_scram *scram = &exchange->scram;
    char text[SMTP_BASE64_ENCODED_SIZE(SCRAM_SALT_MAX)];
    size_t text_size = smtp_base64_encode(salt->octets, salt->size, text, sizeof(text));
    assert(text_size > 0);
    char *to = scram->transcript + scram->transcript_size;
    size_t room = sizeof(scram->transcript) - scram->transcript_size;
    int written = snprintf(to, room, ",r=%.*s%s,s=%.*s,i=%u", (int)client_nonce.size, client_nonce.data,
                           scram->server_nonce, (int)text_size, text, salt->iterations);
    assert(written > 0 && (size_t)written < room);
    scram->nonce_at = scram->transcript_size + 3;
    scram->nonce_size = client_nonce.size + (uint32_t)strlen(scram->server_nonce);
    scram->transcript_size += (uint32_t)written;
    *answer = (struct smtp_slice){to + 1, (uint32_t)written - 1};
}

enum sasl_result scram_client_first(struct sasl_exchange *exchange, struct smtp_slice message,
                                    struct smtp_slice *answer)
{
    struct sasl_scram *scram = &exchange->scram;
    struct client_first first;
    if (message.size > SASL_CLIENT_FIRST_MAX)
        return sasl_end(exchange, SASL_MALFORMED, "the first message is too long");
    if (!sasl_text_is_valid(message.data, message.size))
        return sasl_end(exchange, SASL_MALFORMED, "not UTF-8, or control characters");
    if (demands_extension(message))
        return sasl_end(exchange, SASL_FAILED, "demands an extension that we do not have");
    if (!parse_client_first(message, &first) || first.nonce.size > SASL_CLIENT_NONCE_MAX)
        return sasl_end(exchange, SASL_MALFORMED, "the first message is not SCRAM's");
    enum sasl_result result = take_name(exchange, &first);
    if (result == SASL_CHALLENGE)
        result = take_binding(exchange, &first);
    if (result != SASL_CHALLENGE)
        return result;

    struct scram_salt salt;
    lookup_scram(exchange, &salt);
    memcpy(scram->transcript, message.data, message.size);
    scram->transcript_size = message.size;
    scram->gs2_size = first.gs2_size;
    write_server_first(exchange, first.nonce, &salt, answer);
    return SASL_CHALLENGE;
}

/* client-final-message = "c=" base64 "," "r=" nonce ["," extensions] "," "p=" base64 */
static bool parse_client_final(struct smtp_slice message, struct client_final *final)
{
    struct smtp_slice rest = message, proof;
    if (!scram_take_attribute(&rest, 'c', &final->binding) || !scram_take_comma(&rest) ||
        !scram_take_attribute(&rest, 'r', &final->nonce))
        return false;
    while (true) {
        final->without_proof = (struct smtp_slice){message.data, message.size - rest.size};
        if (!scram_take_comma(&rest))
            return false;
        if (scram_take_attribute(&rest, 'p', &proof))
            break;
        if (!scram_take_extension(&rest))
            return false;
    }
    char octets[SCRAM_KEY_SIZE];
    if (rest.size > 0 || smtp_base64_decode(proof, octets, sizeof(octets)) != SCRAM_KEY_SIZE)
        return false;
    memcpy(final->proof, octets, sizeof(octets));
    return true;
}

/* cbind-input = gs2-header [ cbind-data ]: the header once more, now under the proof, and the binding. */
static bool binding_matches(const struct sasl_scram *scram, const char *octets, size_t size)
{
    const struct sasl_binding *binding = NULL;
    if (scram->binding_used < SASL_BINDING_MAX)
        binding = &scram->bindings[scram->binding_used];
    size_t data_size = binding != NULL ? binding->size : 0;
    if (size != scram->gs2_size + data_size || memcmp(octets, scram->transcript, scram->gs2_size) != 0)
        return false;
    return binding == NULL || CRYPTO_memcmp(octets + scram->gs2_size, binding->data, data_size) == 0;
}

/* HMAC(key, AuthMessage); the GS2 header is no part of that. */
static void sign(const struct sasl_scram *scram, const uint8_t key[static SCRAM_KEY_SIZE],
                 struct smtp_slice without_proof, uint8_t signature[static SCRAM_KEY_SIZE])
{
    struct smtp_slice openings = {scram->transcript + scram->gs2_size,
                                  scram->transcript_size - scram->gs2_size};
    scram_sign(key, openings, without_proof, signature);
}

/* Whether H(ClientProof XOR ClientSignature) is StoredKey. */
static bool proof_matches(const struct sasl_scram *scram, const struct client_final *final)
{
    uint8_t key[SCRAM_KEY_SIZE], hashed[SCRAM_KEY_SIZE];
    sign(scram, scram->stored_key, final->without_proof, key);
    for (size_t index = 0; index < sizeof(key); index++)
        key[index] ^= final->proof[index];
    SHA256(key, sizeof(key), hashed);
    bool matches = CRYPTO_memcmp(hashed, scram->stored_key, sizeof(hashed)) == 0;
    OPENSSL_cleanse(key, sizeof(key));
    return matches;
}

/* "v=" and the signature take the transcript's place, which has served. */
static void write_server_final(struct sasl_scram *scram, struct smtp_slice without_proof,
                               struct smtp_slice *answer)
{
    uint8_t signature[SCRAM_KEY_SIZE];
    sign(scram, scram->server_key, without_proof, signature);
    memcpy(scram->transcript, "v=", 2);
    size_t size = smtp_base64_encode(signature, sizeof(signature), scram->transcript + 2,
                                     sizeof(scram->transcript) - 2);
    assert(size > 0);
    *answer = (struct smtp_slice){scram->transcript, (uint32_t)size + 2};
}

enum sasl_result scram_client_final(struct sasl_exchange *exchange, struct smtp_slice message,
                                    struct smtp_slice *answer)
{
    struct sasl_scram *scram = &exchange->scram;
    struct client_final final;
    if (!sasl_text_is_valid(message.data, message.size) || !parse_client_final(message, &final))
        return sasl_end(exchange, SASL_MALFORMED, "the final message is not SCRAM's");
    char binding[SMTP_BASE64_DECODED_MAX(SASL_LINE_MAX)];
    int binding_size = smtp_base64_decode(final.binding, binding, sizeof(binding));
    if (binding_size < 0)
        return sasl_end(exchange, SASL_MALFORMED, "the channel binding is not base64");
    struct smtp_slice nonce = {scram->transcript + scram->nonce_at, scram->nonce_size};
    if (!smtp_slice_equals(final.nonce, nonce))
        return sasl_end(exchange, SASL_FAILED, "the nonce is of another exchange");
    if (!binding_matches(scram, binding, (size_t)binding_size))
        return sasl_end(exchange, SASL_FAILED, "the channel binding differs");
    /* The proof is checked in every case, that time does not tell who exists. */
    bool matches = proof_matches(scram, &final);
    if (!matches || !exchange->is_known)
        return sasl_end(exchange, SASL_FAILED, exchange->reason);
    write_server_final(scram, final.without_proof, answer);
    return SASL_CHALLENGE;
}
