/*
 * SCRAM as the client sees it (RFC 5802 §3 and §5):
 *
 *     we say    "n,,"  "n=user,r=NONCE"            client-first-message-bare, behind the GS2 header
 *     it says   "r=NONCEMORE,s=SALT,i=4096"        server-first-message
 *     we say    "c=biws,r=NONCEMORE"  ",p=PROOF"   client-final-message-without-proof, and the proof
 *     it says   "v=SIGNATURE"                      server-final-message
 */

#include "gateway/sasl/sasl_client.h"
#include "gateway/sasl/scram_parts.h"
#include "gateway/sasl/text.h"
#include "proto/base64.h"

#include <assert.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/mem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <string.h>

#define GS2_HEADER "n,," /* no channel binding; nobody but ourselves */

/* --- Mechanisms --- */

uint32_t sasl_client_offered(struct smtp_slice names)
{
    uint32_t offered = 0;

    while (names.size > 0) {
        const char *space = memchr(names.data, ' ', names.size);
        uint32_t size = space != NULL ? (uint32_t)(space - names.data) : names.size;
        enum sasl_mechanism mechanism;
        if (sasl_mechanism_parse(names.data, size, &mechanism))
            offered |= UINT32_C(1) << mechanism;
        uint32_t step = size < names.size ? size + 1 : size;
        names.data += step;
        names.size -= step;
    }
    return offered;
}

bool sasl_client_choose(uint32_t offered, enum sasl_mechanism *best)
{
    static const enum sasl_mechanism order[] = {SASL_SCRAM_SHA_256, SASL_PLAIN, SASL_LOGIN};

    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        if (!(offered & UINT32_C(1) << order[i]))
            continue;
        *best = order[i];
        return true;
    }
    return false;
}

/* --- Life --- */

static void make_nonce(struct sasl_client *login)
{
    uint8_t octets[SASL_CLIENT_NONCE_SIZE / 4 * 3];

    RAND_bytes(octets, sizeof(octets)); /* BoringSSL's ends the process rather than fail */
    size_t size = smtp_base64_encode(octets, sizeof(octets), login->nonce, SASL_CLIENT_NONCE_SIZE);
    assert(size == SASL_CLIENT_NONCE_SIZE);
}

static bool is_fit(struct smtp_slice text, size_t most)
{
    return text.size <= most && sasl_text_is_valid(text.data, text.size);
}

int sasl_client_begin(struct sasl_client *login, enum sasl_mechanism mechanism, struct smtp_slice user,
                      struct smtp_slice password)
{
    assert(mechanism == SASL_PLAIN || mechanism == SASL_LOGIN || mechanism == SASL_SCRAM_SHA_256);
    if (!is_fit(user, USER_NAME_MAX) || !is_fit(password, USER_PASSWORD_MAX))
        return -EINVAL;
    *login = (struct sasl_client){
        .mechanism = mechanism, .user_size = user.size, .password_size = password.size, .reason = ""};
    memcpy(login->user, user.data, user.size);
    memcpy(login->password, password.data, password.size);
    make_nonce(login);
    return 0;
}

void sasl_client_wipe(struct sasl_client *login)
{
    OPENSSL_cleanse(login, sizeof(*login));
}

const char *sasl_client_reason(const struct sasl_client *login)
{
    return login->reason;
}

bool sasl_client_accepts(const struct sasl_client *login)
{
    return login->mechanism == SASL_SCRAM_SHA_256 ? login->is_proven : login->steps > 0;
}

static enum sasl_client_result end(struct sasl_client *login, enum sasl_client_result result,
                                   const char *reason)
{
    login->reason = reason;
    return result;
}

/* --- First messages --- */

/* "\0user\0password": RFC 4616 §2, without an identity to act for. Returns the size. */
static size_t write_plain(const struct sasl_client *login, char *to)
{
    to[0] = '\0';
    memcpy(to + 1, login->user, login->user_size);
    to[1 + login->user_size] = '\0';
    memcpy(to + 2 + login->user_size, login->password, login->password_size);
    return 2 + login->user_size + login->password_size;
}

/* saslname: "," is written "=2C" and "=" is written "=3D". */
static size_t write_escaped(const struct sasl_client *login, char *to)
{
    size_t size = 0;

    for (uint32_t i = 0; i < login->user_size; i++) {
        char octet = login->user[i];
        if (octet != ',' && octet != '=') {
            to[size++] = octet;
            continue;
        }
        memcpy(to + size, octet == ',' ? "=2C" : "=3D", 3);
        size += 3;
    }
    return size;
}

/* Begins the transcript with client-first-message-bare; writes that with the GS2 header. Returns the size. */
static size_t write_client_first(struct sasl_client *login, char *to)
{
    char *bare = login->transcript;
    size_t nonce_size = strlen(login->nonce);
    size_t size = 2;

    memcpy(bare, "n=", 2);
    size += write_escaped(login, bare + size);
    memcpy(bare + size, ",r=", 3);
    size += 3;
    memcpy(bare + size, login->nonce, nonce_size);
    size += nonce_size;
    assert(size < SASL_CLIENT_TEXT_MAX);
    login->transcript_size = (uint32_t)size;
    memcpy(to, GS2_HEADER, sizeof(GS2_HEADER) - 1);
    memcpy(to + sizeof(GS2_HEADER) - 1, bare, size);
    return size + sizeof(GS2_HEADER) - 1;
}

static size_t encode(const char *message, size_t size, char *text)
{
    size_t text_size = smtp_base64_encode(message, size, text, SASL_CLIENT_TEXT_MAX);
    assert(text_size > 0);
    return text_size;
}

size_t sasl_client_first(struct sasl_client *login, size_t room, char *text)
{
    char message[SMTP_BASE64_DECODED_MAX(SASL_CLIENT_TEXT_MAX)];

    assert(login->steps == 0);
    if (login->mechanism == SASL_LOGIN)
        return 0;
    size_t size =
        login->mechanism == SASL_PLAIN ? write_plain(login, message) : write_client_first(login, message);
    size_t text_size = SMTP_BASE64_ENCODED_SIZE(size) <= room ? encode(message, size, text) : 0;
    OPENSSL_cleanse(message, sizeof(message));
    login->steps = text_size > 0;
    return text_size;
}

/* --- SCRAM's second message --- */

struct server_first {
    struct smtp_slice nonce;
    uint32_t iterations;
    uint32_t salt_size;
    uint8_t salt[SASL_CLIENT_SALT_MAX];
};

static bool parse_number(struct smtp_slice text, uint32_t *number)
{
    uint32_t value = 0;

    if (text.size == 0 || text.size > 9)
        return false;
    for (uint32_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        value = value * 10 + (uint32_t)(text.data[i] - '0');
    }
    *number = value;
    return true;
}

/* server-first-message = nonce "," salt "," iteration-count ["," extensions] */
static bool parse_server_first(struct smtp_slice message, struct server_first *first)
{
    struct smtp_slice salt, iterations;

    if (!scram_take_attribute(&message, 'r', &first->nonce) || !scram_nonce_is_valid(first->nonce) ||
        !scram_take_comma(&message) || !scram_take_attribute(&message, 's', &salt) ||
        !scram_take_comma(&message) || !scram_take_attribute(&message, 'i', &iterations))
        return false;
    while (message.size > 0) {
        if (!scram_take_comma(&message) || !scram_take_extension(&message))
            return false;
    }
    int salt_size = smtp_base64_decode(salt, (char *)first->salt, sizeof(first->salt));
    first->salt_size = salt_size > 0 ? (uint32_t)salt_size : 0;
    return first->salt_size > 0 && parse_number(iterations, &first->iterations);
}

/* The nonce must go on from ours, so that the answer is to this login and no other. */
static const char *fault_of(const struct sasl_client *login, const struct server_first *first)
{
    size_t own_size = strlen(login->nonce);

    if (first->nonce.size <= own_size || memcmp(first->nonce.data, login->nonce, own_size) != 0)
        return "the server's nonce is of another login";
    if (first->iterations < SCRAM_ITERATIONS_MIN)
        return "the server asks for so few rounds that the password could be guessed from our answer";
    if (first->iterations > SASL_CLIENT_ITERATIONS_MAX)
        return "the server asks for too many rounds";
    return NULL;
}

/* SaltedPassword, from what was kept or anew. False: no memory. */
static bool salt_password(const struct sasl_client *login, const struct server_first *first,
                          struct sasl_client_salted *salted)
{
    uint8_t digest[SCRAM_KEY_SIZE];
    SHA256_CTX context;

    SHA256_Init(&context);
    SHA256_Update(&context, &first->iterations, sizeof(first->iterations));
    SHA256_Update(&context, &first->salt_size, sizeof(first->salt_size));
    SHA256_Update(&context, first->salt, first->salt_size);
    SHA256_Update(&context, login->password, login->password_size);
    SHA256_Final(digest, &context);
    if (CRYPTO_memcmp(digest, salted->digest, sizeof(digest)) == 0)
        return true;
    memcpy(salted->digest, digest, sizeof(digest));
    bool good = PKCS5_PBKDF2_HMAC(login->password, login->password_size, first->salt, first->salt_size,
                                  first->iterations, EVP_sha256(), SCRAM_KEY_SIZE, salted->password) == 1;
    if (!good)
        OPENSSL_cleanse(salted, sizeof(*salted));
    return good;
}

static bool derive(const struct sasl_client_salted *salted, const char *name,
                   uint8_t key[static SCRAM_KEY_SIZE])
{
    unsigned size = 0;
    return HMAC(EVP_sha256(), salted->password, SCRAM_KEY_SIZE, (const uint8_t *)name, strlen(name), key,
                &size) != NULL;
}

/* ClientProof = ClientKey XOR HMAC(H(ClientKey), AuthMessage); what the server will have to say is computed
 * with it. False: no memory. */
static bool prove(struct sasl_client *login, const struct sasl_client_salted *salted,
                  struct smtp_slice without_proof, uint8_t proof[static SCRAM_KEY_SIZE])
{
    uint8_t client_key[SCRAM_KEY_SIZE], server_key[SCRAM_KEY_SIZE], stored_key[SCRAM_KEY_SIZE];
    struct smtp_slice openings = {login->transcript, login->transcript_size};

    bool good = derive(salted, "Client Key", client_key) && derive(salted, "Server Key", server_key);
    if (good) {
        SHA256(client_key, sizeof(client_key), stored_key);
        scram_sign(stored_key, openings, without_proof, proof);
        for (size_t i = 0; i < SCRAM_KEY_SIZE; i++)
            proof[i] ^= client_key[i];
        scram_sign(server_key, openings, without_proof, login->server_signature);
    }
    OPENSSL_cleanse(client_key, sizeof(client_key));
    OPENSSL_cleanse(server_key, sizeof(server_key));
    return good;
}

/* Adds "," and server-first-message to the transcript. False: too long. */
static bool note_server_first(struct sasl_client *login, struct smtp_slice message)
{
    if (message.size + 1 > sizeof(login->transcript) - login->transcript_size)
        return false;
    login->transcript[login->transcript_size] = ',';
    memcpy(login->transcript + login->transcript_size + 1, message.data, message.size);
    login->transcript_size += message.size + 1;
    return true;
}

static enum sasl_client_result write_client_final(struct sasl_client *login, const struct server_first *first,
                                                  struct sasl_client_salted *salted, char *text, size_t *size)
{
    static const char head[] = "c=biws,r="; /* the GS2 header in base64, and the nonce of both */
    static const char middle[] = ",p=";
    char message[SMTP_BASE64_DECODED_MAX(SASL_CLIENT_TEXT_MAX)];
    uint8_t proof[SCRAM_KEY_SIZE];
    uint32_t at = sizeof(head) - 1;

    if (first->nonce.size >
        sizeof(message) - sizeof(head) - sizeof(middle) - SMTP_BASE64_ENCODED_SIZE(sizeof(proof)))
        return end(login, SASL_CLIENT_STRANGE, "the server's nonce is too long");
    memcpy(message, head, at);
    memcpy(message + at, first->nonce.data, first->nonce.size);
    at += first->nonce.size;
    if (!salt_password(login, first, salted) ||
        !prove(login, salted, (struct smtp_slice){message, at}, proof))
        return end(login, SASL_CLIENT_NO_MEMORY, "out of memory");
    memcpy(message + at, middle, sizeof(middle) - 1);
    at += sizeof(middle) - 1;
    at += (uint32_t)smtp_base64_encode(proof, sizeof(proof), message + at, sizeof(message) - at);
    *size = encode(message, at, text);
    return SASL_CLIENT_SAY;
}

static enum sasl_client_result answer_server_first(struct sasl_client *login, struct smtp_slice message,
                                                   struct sasl_client_salted *salted, char *text,
                                                   size_t *size)
{
    struct sasl_client_salted own = {0};
    struct server_first first;

    if (!parse_server_first(message, &first))
        return end(login, SASL_CLIENT_STRANGE, "the server's first message is not SCRAM's");
    const char *fault = fault_of(login, &first);
    if (fault != NULL)
        return end(login, SASL_CLIENT_STRANGE, fault);
    if (!note_server_first(login, message))
        return end(login, SASL_CLIENT_STRANGE, "the server's first message is too long");
    enum sasl_client_result result =
        write_client_final(login, &first, salted != NULL ? salted : &own, text, size);
    OPENSSL_cleanse(&own, sizeof(own));
    return result;
}

/* server-final-message = (server-error / verifier) ["," extensions] */
static enum sasl_client_result answer_server_final(struct sasl_client *login, struct smtp_slice message,
                                                   size_t *size)
{
    struct smtp_slice verifier;
    char signature[SCRAM_KEY_SIZE];

    if (message.size >= 2 && memcmp(message.data, "e=", 2) == 0)
        return end(login, SASL_CLIENT_FALSE, "the server ended SCRAM with an error");
    if (!scram_take_attribute(&message, 'v', &verifier) ||
        smtp_base64_decode(verifier, signature, sizeof(signature)) != SCRAM_KEY_SIZE)
        return end(login, SASL_CLIENT_STRANGE, "the server's final message is not SCRAM's");
    if (CRYPTO_memcmp(signature, login->server_signature, SCRAM_KEY_SIZE) != 0)
        return end(login, SASL_CLIENT_FALSE, "the server does not know the password");
    login->is_proven = true;
    *size = 0;
    return SASL_CLIENT_SAY;
}

/* --- Steps --- */

/* The server asks for name and password in words that nobody has fixed; their order is. */
static enum sasl_client_result answer_login(struct sasl_client *login, char *text, size_t *size)
{
    *size = login->steps == 0 ? encode(login->user, login->user_size, text)
                              : encode(login->password, login->password_size, text);
    return SASL_CLIENT_SAY;
}

static enum sasl_client_result answer(struct sasl_client *login, struct smtp_slice message,
                                      struct sasl_client_salted *salted, char *text, size_t *size)
{
    const uint8_t challenges = login->mechanism == SASL_SCRAM_SHA_256 ? 3
                               : login->mechanism == SASL_LOGIN       ? 2
                                                                      : 1;

    if (login->steps >= challenges)
        return end(login, SASL_CLIENT_STRANGE, "the server asks for more than the mechanism has");
    if (login->mechanism == SASL_LOGIN)
        return answer_login(login, text, size);
    if (login->steps == 0) {
        if (message.size > 0)
            return end(login, SASL_CLIENT_STRANGE, "the server speaks first");
        *size = sasl_client_first(login, SASL_CLIENT_TEXT_MAX, text);
        login->steps = 0; /* counted when it is sent */
        return SASL_CLIENT_SAY;
    }
    if (login->steps == 1)
        return answer_server_first(login, message, salted, text, size);
    return answer_server_final(login, message, size);
}

enum sasl_client_result sasl_client_step(struct sasl_client *login, struct smtp_slice challenge,
                                         struct sasl_client_salted *salted, char *text, size_t *size)
{
    char message[SMTP_BASE64_DECODED_MAX(SASL_CLIENT_TEXT_MAX)];
    int message_size = smtp_base64_decode(challenge, message, sizeof(message));

    /* LOGIN's questions are for people, so it does not matter what they are. */
    if (message_size < 0 && login->mechanism != SASL_LOGIN)
        return end(login, SASL_CLIENT_STRANGE, "the challenge is not base64");
    struct smtp_slice clear = {message, message_size > 0 ? (uint32_t)message_size : 0};
    enum sasl_client_result result = answer(login, clear, salted, text, size);
    if (result == SASL_CLIENT_SAY)
        login->steps++;
    return result;
}
