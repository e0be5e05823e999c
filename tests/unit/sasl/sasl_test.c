#include "sasl_test.h"

#include "proto/base64.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const uint8_t test_secret[SASL_SECRET_SIZE] = "a secret of 32 octets, or so....";

static char path[64];

const char *make_file(const char *text, size_t size)
{
    remove_file();
    strcpy(path, "/tmp/sasl-test-XXXXXX");
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    assert_int_equal(write(descriptor, text, size), size);
    close(descriptor);
    return path;
}

void remove_file(void)
{
    if (path[0] != '\0')
        unlink(path);
    path[0] = '\0';
}

struct users *make_users(const char *text)
{
    char error[512] = "";
    struct users *users = NULL;
    int result = users_load(make_file(text, strlen(text)), &users, error, sizeof(error));
    assert_string_equal(error, "");
    assert_int_equal(result, 0);
    remove_file();
    return users;
}

void talk_begin_bound(struct talk *talk, enum sasl_mechanism mechanism, const struct users *users,
                      const struct sasl_binding *bindings, size_t count)
{
    memset(talk, 0xa5, sizeof(*talk));
    sasl_begin(&talk->exchange, mechanism, users, bindings, count, test_secret);
}

void talk_begin(struct talk *talk, enum sasl_mechanism mechanism, const struct users *users)
{
    talk_begin_bound(talk, mechanism, users, NULL, 0);
}

static enum sasl_result step(struct talk *talk, const char *line, size_t size)
{
    char out[SASL_CHALLENGE_MAX];
    size_t out_size = 12345;
    enum sasl_result result = sasl_step(&talk->exchange, line, size, out, sizeof(out), &out_size);
    if (result != SASL_CHALLENGE) {
        assert_int_equal(out_size, 12345);
        return result;
    }
    assert_true(out_size <= sizeof(out));
    struct smtp_slice slice = {out, (uint32_t)out_size};
    int answer_size = smtp_base64_decode(slice, talk->answer, sizeof(talk->answer) - 1);
    assert_true(answer_size >= 0);
    talk->answer_size = (size_t)answer_size;
    talk->answer[answer_size] = '\0';
    return result;
}

enum sasl_result talk_send(struct talk *talk, const void *octets, size_t size)
{
    size_t room = SMTP_BASE64_ENCODED_SIZE(size) + 1;
    char *line = malloc(room);
    assert_non_null(line);
    size_t line_size = smtp_base64_encode(octets, size, line, room);
    enum sasl_result result = step(talk, line, line_size);
    free(line);
    return result;
}

enum sasl_result talk_say(struct talk *talk, const char *text)
{
    return talk_send(talk, text, strlen(text));
}

enum sasl_result talk_raw(struct talk *talk, const char *line)
{
    return step(talk, line, line != NULL ? strlen(line) : 0);
}

enum sasl_result talk_check(struct talk *talk)
{
    struct hasher_job job = {0};
    sasl_prepare_check(&talk->exchange, &job);
    return sasl_password_checked(&talk->exchange, password_check_run(&job.check, job.password));
}

static void hmac(const void *key, const char *text, uint8_t out[32])
{
    unsigned size = 0;
    assert_non_null(HMAC(EVP_sha256(), key, 32, (const uint8_t *)text, strlen(text), out, &size));
    assert_int_equal(size, 32);
}

static void encode(const void *octets, size_t size, char *text, size_t capacity)
{
    size_t written = smtp_base64_encode(octets, size, text, capacity - 1);
    assert_true(written > 0);
    text[written] = '\0';
}

void client_final(char *message, size_t capacity, const char *gs2, const char *bare, const char *server_first,
                  const char *password, const void *binding, size_t binding_size)
{
    char nonce[256], salt_text[128], c[1024], input[768], p[64], without_proof[1400], auth[2600];
    unsigned iterations = 0;
    assert_int_equal(sscanf(server_first, "r=%255[^,],s=%127[^,],i=%u", nonce, salt_text, &iterations), 3);
    uint8_t salt[96], salted[32], client_key[32], stored_key[32], signature[32];
    struct smtp_slice slice = {salt_text, (uint32_t)strlen(salt_text)};
    int salt_size = smtp_base64_decode(slice, (char *)salt, sizeof(salt));
    assert_true(salt_size > 0);

    memcpy(input, gs2, strlen(gs2));
    memcpy(input + strlen(gs2), binding, binding_size);
    encode(input, strlen(gs2) + binding_size, c, sizeof(c));
    snprintf(without_proof, sizeof(without_proof), "c=%s,r=%s", c, nonce);
    snprintf(auth, sizeof(auth), "%s,%s,%s", bare, server_first, without_proof);
    assert_int_equal(PKCS5_PBKDF2_HMAC(password, strlen(password), salt, (size_t)salt_size, iterations,
                                       EVP_sha256(), sizeof(salted), salted),
                     1);
    hmac(salted, "Client Key", client_key);
    SHA256(client_key, sizeof(client_key), stored_key);
    hmac(stored_key, auth, signature);
    for (size_t index = 0; index < 32; index++)
        client_key[index] ^= signature[index];
    encode(client_key, 32, p, sizeof(p));
    assert_true((size_t)snprintf(message, capacity, "%s,p=%s", without_proof, p) < capacity);
}

enum sasl_result talk_scram(struct talk *talk, const char *gs2, const char *user, const char *password,
                            const void *binding, size_t binding_size)
{
    char bare[400], first[500], final[1500];
    snprintf(bare, sizeof(bare), "n=%s,r=cn", user);
    snprintf(first, sizeof(first), "%s%s", gs2, bare);
    enum sasl_result result = talk_say(talk, first);
    if (result != SASL_CHALLENGE)
        return result;
    client_final(final, sizeof(final), gs2, bare, talk->answer, password, binding, binding_size);
    return talk_say(talk, final);
}
