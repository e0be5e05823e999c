#include "gateway/sasl/password.h"

#include <assert.h>
#include <crypt.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/mem.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

/* A yescrypt hash, by libcrypt's default cost, of something random that nobody kept. */
static const char dummy_hash[] = "$y$j9T$21Ght3jK1WwU1jvIKk55h1$nEGsB7LxgMruCz.fZO2oCyO3qlzawbF/J1bTLrMEVj9";

/* "./0-9A-Za-z", the alphabet of crypt(5). */
static bool is_crypt_octet(char octet)
{
    bool is_letter = (octet >= 'A' && octet <= 'Z') || (octet >= 'a' && octet <= 'z');
    return is_letter || (octet >= '.' && octet <= '9');
}

/* The characters of the alphabet at the beginning of the text. */
static size_t alphabet_span(const char *text, size_t size)
{
    size_t span = 0;
    while (span < size && is_crypt_octet(text[span]))
        span++;
    return span;
}

/* "PARAMETERS$SALT$HASH", the hash of so many characters; sha512crypt's parameters may be missing. */
static bool has_parts(const char *text, size_t size, size_t hash_size)
{
    if (size < hash_size + 1 || text[size - hash_size - 1] != '$')
        return false;
    if (alphabet_span(text + size - hash_size, hash_size) != hash_size)
        return false;
    size_t salt_size = alphabet_span(text, size);
    return salt_size > 0 && salt_size == size - hash_size - 1;
}

bool crypt_hash_is_valid(const char *hash, size_t size)
{
    enum { YESCRYPT_HASH_SIZE = 43, SHA512_HASH_SIZE = 86 };
    static const char rounds[] = "rounds=";
    if (size > USER_CRYPT_MAX || size < 4 || hash[0] != '$' || hash[2] != '$')
        return false;
    const char *rest = hash + 3;
    size_t rest_size = size - 3;
    bool is_yescrypt = hash[1] == 'y';
    bool has_rounds =
        hash[1] == '6' && rest_size > strlen(rounds) && memcmp(rest, rounds, strlen(rounds)) == 0;
    if (has_rounds) {
        rest += strlen(rounds);
        rest_size -= strlen(rounds);
    }
    if (is_yescrypt || has_rounds) {
        size_t parameters = alphabet_span(rest, rest_size);
        if (parameters == 0 || parameters == rest_size || rest[parameters] != '$')
            return false;
        rest += parameters + 1;
        rest_size -= parameters + 1;
    }
    if (is_yescrypt)
        return has_parts(rest, rest_size, YESCRYPT_HASH_SIZE);
    return hash[1] == '6' && has_parts(rest, rest_size, SHA512_HASH_SIZE);
}

void password_check_init(struct password_check *check, const struct user *user, bool is_known)
{
    assert(user->crypt != NULL || user->has_scram);
    *check = (struct password_check){.is_known = is_known};
    if (user->crypt != NULL) {
        check->kind = PASSWORD_CHECK_CRYPT;
        size_t size = strlen(user->crypt);
        assert(size <= USER_CRYPT_MAX);
        memcpy(check->crypt, user->crypt, size + 1);
        return;
    }
    assert(user->salt_size >= 1 && user->salt_size <= SCRAM_SALT_MAX);
    check->kind = PASSWORD_CHECK_SCRAM;
    check->iterations = user->iterations;
    check->salt_size = user->salt_size;
    memcpy(check->salt, user->salt, user->salt_size);
    memcpy(check->stored_key, user->stored_key, SCRAM_KEY_SIZE);
}

void password_check_init_dummy(struct password_check *check)
{
    *check = (struct password_check){.kind = PASSWORD_CHECK_CRYPT, .is_known = false};
    _Static_assert(sizeof(dummy_hash) <= sizeof(check->crypt), "the dummy is a hash");
    memcpy(check->crypt, dummy_hash, sizeof(dummy_hash));
}

static bool crypt_matches(const char *hash, const char *password)
{
    struct crypt_data *data = calloc(1, sizeof(*data));
    if (data == NULL)
        return false;
    const char *made = crypt_rn(password, hash, data, sizeof(*data));
    size_t size = strlen(hash);
    bool matches = made != NULL && strlen(made) == size && CRYPTO_memcmp(made, hash, size) == 0;
    OPENSSL_cleanse(data, sizeof(*data));
    free(data);
    return matches;
}

static bool scram_matches(const struct password_check *check, const char *password)
{
    uint8_t stored_key[SCRAM_KEY_SIZE], server_key[SCRAM_KEY_SIZE];
    if (scram_derive(password, check->salt, check->salt_size, check->iterations, stored_key, server_key) < 0)
        return false;
    bool matches = CRYPTO_memcmp(stored_key, check->stored_key, SCRAM_KEY_SIZE) == 0;
    OPENSSL_cleanse(stored_key, sizeof(stored_key));
    OPENSSL_cleanse(server_key, sizeof(server_key));
    return matches;
}

bool password_check_run(const struct password_check *check, const char *password)
{
    bool matches = check->kind == PASSWORD_CHECK_CRYPT ? crypt_matches(check->crypt, password)
                                                       : scram_matches(check, password);
    return matches && check->is_known;
}

int scram_derive(const char *password, const uint8_t *salt, size_t salt_size, uint32_t iterations,
                 uint8_t stored_key[static SCRAM_KEY_SIZE], uint8_t server_key[static SCRAM_KEY_SIZE])
{
    assert(salt_size >= 1 && salt_size <= SCRAM_SALT_MAX);
    assert(iterations > 0);
    uint8_t salted[SCRAM_KEY_SIZE], client_key[SCRAM_KEY_SIZE];
    bool good = PKCS5_PBKDF2_HMAC(password, strlen(password), salt, salt_size, iterations, EVP_sha256(),
                                  sizeof(salted), salted) == 1;
    good = good && HMAC(EVP_sha256(), salted, sizeof(salted), (const uint8_t *)"Client Key", 10, client_key,
                        NULL) != NULL;
    good = good && HMAC(EVP_sha256(), salted, sizeof(salted), (const uint8_t *)"Server Key", 10, server_key,
                        NULL) != NULL;
    if (good)
        SHA256(client_key, sizeof(client_key), stored_key);
    OPENSSL_cleanse(salted, sizeof(salted));
    OPENSSL_cleanse(client_key, sizeof(client_key));
    return good ? 0 : -ENOMEM;
}

int crypt_hash(const char *password, enum crypt_method method, char hash[static USER_CRYPT_MAX + 1])
{
    char setting[CRYPT_GENSALT_OUTPUT_SIZE];
    const char *prefix = method == CRYPT_YESCRYPT ? "$y$" : "$6$";
    /* sha512crypt's default of 5,000 rounds is of another time. */
    unsigned long cost = method == CRYPT_YESCRYPT ? 0 : 100000;
    if (crypt_gensalt_rn(prefix, cost, NULL, 0, setting, sizeof(setting)) == NULL)
        return -errno;
    struct crypt_data *data = calloc(1, sizeof(*data));
    if (data == NULL)
        return -ENOMEM;
    errno = EINVAL;
    const char *made = crypt_rn(password, setting, data, sizeof(*data));
    int result = made != NULL ? 0 : -errno;
    size_t size = made != NULL ? strlen(made) : 0;
    if (size > USER_CRYPT_MAX)
        result = -EOVERFLOW;
    if (result == 0)
        memcpy(hash, made, size + 1);
    OPENSSL_cleanse(data, sizeof(*data));
    free(data);
    return result;
}
