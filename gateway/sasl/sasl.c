#include "gateway/sasl/sasl.h"

#include "gateway/sasl/sasl_inner.h"
#include "gateway/sasl/text.h"
#include "proto/base64.h"

#include <assert.h>
#include <openssl/mem.h>
#include <openssl/rand.h>
#include <string.h>

/*
 *              line             PLAIN: message             checked
 *     BEGIN ─────────▶ FIRST ───────────────▶ CHECK ─────────────────▶ DONE
 *       │ AUTH without   │ LOGIN: name          ▲                        ▲
 *       │ initial        ├──────────▶ PASSWORD ─┘ password               │
 *       │ response:      │ SCRAM: client-first       client-final        │ empty line
 *       └─▶ FIRST        └──────────▶ PROOF ──────────────────▶ CONFIRM ─┘
 *
 * A line in BEGIN is taken as in FIRST. Every state but DONE may become FAILED, which is for good.
 */
enum sasl_state {
    STATE_BEGIN,
    STATE_FIRST,    /* the client's first message is due */
    STATE_PASSWORD, /* LOGIN's password is due */
    STATE_PROOF,    /* SCRAM's client-final is due */
    STATE_CONFIRM,  /* the client has our signature; its empty line is due */
    STATE_CHECK,    /* a hasher works on the password */
    STATE_DONE,
    STATE_FAILED,
    STATE_COUNT,
};

static const uint16_t successors[STATE_COUNT] = {
    [STATE_BEGIN] = 1 << STATE_FIRST | 1 << STATE_FAILED,
    [STATE_FIRST] = 1 << STATE_PASSWORD | 1 << STATE_PROOF | 1 << STATE_CHECK | 1 << STATE_FAILED,
    [STATE_PASSWORD] = 1 << STATE_CHECK | 1 << STATE_FAILED,
    [STATE_PROOF] = 1 << STATE_CONFIRM | 1 << STATE_FAILED,
    [STATE_CONFIRM] = 1 << STATE_DONE | 1 << STATE_FAILED,
    [STATE_CHECK] = 1 << STATE_DONE | 1 << STATE_FAILED,
};

static const char *const mechanism_names[SASL_MECHANISM_COUNT] = {
    [SASL_PLAIN] = "PLAIN",
    [SASL_LOGIN] = "LOGIN",
    [SASL_SCRAM_SHA_256] = "SCRAM-SHA-256",
    [SASL_SCRAM_SHA_256_PLUS] = "SCRAM-SHA-256-PLUS",
};

static void enter_state(struct sasl_exchange *exchange, enum sasl_state state)
{
    assert(exchange->state < STATE_COUNT);
    assert((successors[exchange->state] & 1 << state) != 0);
    exchange->state = (uint8_t)state;
}

const char *sasl_mechanism_name(enum sasl_mechanism mechanism)
{
    assert(mechanism < SASL_MECHANISM_COUNT);
    return mechanism_names[mechanism];
}

bool sasl_mechanism_parse(const char *name, size_t size, enum sasl_mechanism *mechanism)
{
    if (size > strlen("SCRAM-SHA-256-PLUS"))
        return false;
    struct smtp_slice wanted = {name, (uint32_t)size};
    for (int index = 0; index < SASL_MECHANISM_COUNT; index++) {
        struct smtp_slice ours = {mechanism_names[index], (uint32_t)strlen(mechanism_names[index])};
        if (smtp_slice_equals_nocase(wanted, ours)) {
            *mechanism = (enum sasl_mechanism)index;
            return true;
        }
    }
    return false;
}

static bool is_scram(const struct sasl_exchange *exchange)
{
    return exchange->mechanism == SASL_SCRAM_SHA_256 || exchange->mechanism == SASL_SCRAM_SHA_256_PLUS;
}

/* 18 random octets; base64 keeps them printable and free of commas. */
static void make_nonce(struct sasl_scram *scram)
{
    uint8_t octets[18];
    RAND_bytes(octets, sizeof(octets)); /* BoringSSL's ends the process rather than fail */
    size_t size = smtp_base64_encode(octets, sizeof(octets), scram->server_nonce, SASL_SERVER_NONCE_MAX);
    assert(size == 24);
    scram->server_nonce[size] = '\0';
}

void sasl_begin(struct sasl_exchange *exchange, enum sasl_mechanism mechanism, const struct users *users,
                const struct sasl_binding *bindings, size_t binding_count, const uint8_t *server_secret)
{
    assert(mechanism < SASL_MECHANISM_COUNT);
    assert(users != NULL);
    assert(binding_count <= SASL_BINDING_MAX);
    assert(mechanism != SASL_SCRAM_SHA_256_PLUS || binding_count > 0);
    memset(exchange, 0, sizeof(*exchange));
    exchange->mechanism = (uint8_t)mechanism;
    exchange->state = STATE_BEGIN;
    exchange->reason = "";
    exchange->users = users;
    memcpy(exchange->secret, server_secret, sizeof(exchange->secret));
    if (!is_scram(exchange))
        return;
    for (size_t index = 0; index < binding_count; index++) {
        assert(bindings[index].size > 0 && bindings[index].size <= SASL_BINDING_DATA_MAX);
        exchange->scram.bindings[index] = bindings[index];
    }
    exchange->scram.binding_count = (uint32_t)binding_count;
    exchange->scram.binding_used = SASL_BINDING_MAX;
    make_nonce(&exchange->scram);
}

void sasl_set_users(struct sasl_exchange *exchange, const struct users *users)
{
    assert(users != NULL);
    if (exchange->users != NULL)
        exchange->users = users;
}

enum sasl_result sasl_end(struct sasl_exchange *exchange, enum sasl_result result, const char *reason)
{
    assert(result == SASL_FAILED || result == SASL_MALFORMED || result == SASL_CANCELLED);
    enter_state(exchange, STATE_FAILED);
    exchange->users = NULL;
    exchange->reason = reason;
    return result;
}

void sasl_claim(struct sasl_exchange *exchange, struct smtp_slice name)
{
    assert(name.size > 0 && name.size <= USER_NAME_MAX);
    memcpy(exchange->user, name.data, name.size);
    exchange->user[name.size] = '\0';
    exchange->user_size = name.size;
}

static enum sasl_result take_name(struct sasl_exchange *exchange, struct smtp_slice name)
{
    if (!sasl_text_is_valid(name.data, name.size))
        return sasl_end(exchange, SASL_MALFORMED, "a name that is empty or not clean UTF-8");
    if (name.size > USER_NAME_MAX)
        return sasl_end(exchange, SASL_FAILED, "a name longer than any");
    sasl_claim(exchange, name);
    return SASL_CHALLENGE;
}

static enum sasl_result take_password(struct sasl_exchange *exchange, struct smtp_slice password)
{
    if (!sasl_text_is_valid(password.data, password.size))
        return sasl_end(exchange, SASL_MALFORMED, "a password that is empty or not clean UTF-8");
    if (password.size > USER_PASSWORD_MAX)
        return sasl_end(exchange, SASL_FAILED, "a password longer than any");
    memcpy(exchange->password, password.data, password.size);
    exchange->password[password.size] = '\0';
    lookup_password(exchange);
    enter_state(exchange, STATE_CHECK);
    return SASL_CHECK_PASSWORD;
}

/* message = [authzid] NUL authcid NUL passwd (RFC 4616 §2); each without NUL, which the text check sees to.
 */
static enum sasl_result step_plain(struct sasl_exchange *exchange, struct smtp_slice message)
{
    const char *end = message.data + message.size;
    const char *first = message.size > 0 ? memchr(message.data, '\0', message.size) : NULL;
    const char *second = first != NULL ? memchr(first + 1, '\0', (size_t)(end - first - 1)) : NULL;
    if (second == NULL)
        return sasl_end(exchange, SASL_MALFORMED, "not the message of PLAIN");
    struct smtp_slice authzid = {message.data, (uint32_t)(first - message.data)};
    struct smtp_slice name = {first + 1, (uint32_t)(second - first - 1)};
    struct smtp_slice password = {second + 1, (uint32_t)(end - second - 1)};
    enum sasl_result result = take_name(exchange, name);
    if (result != SASL_CHALLENGE)
        return result;
    if (authzid.size > 0 && !smtp_slice_equals(authzid, name))
        return sasl_end(exchange, SASL_FAILED, "wants to act for another user");
    return take_password(exchange, password);
}

static enum sasl_result step_login_name(struct sasl_exchange *exchange, struct smtp_slice name,
                                        struct smtp_slice *answer)
{
    enum sasl_result result = take_name(exchange, name);
    if (result != SASL_CHALLENGE)
        return result;
    enter_state(exchange, STATE_PASSWORD);
    *answer = SMTP_SLICE("Password:");
    return SASL_CHALLENGE;
}

static enum sasl_result step_first(struct sasl_exchange *exchange, struct smtp_slice message,
                                   struct smtp_slice *answer)
{
    if (exchange->mechanism == SASL_PLAIN)
        return step_plain(exchange, message);
    if (exchange->mechanism == SASL_LOGIN)
        return step_login_name(exchange, message, answer);
    enum sasl_result result = scram_client_first(exchange, message, answer);
    if (result == SASL_CHALLENGE)
        enter_state(exchange, STATE_PROOF);
    return result;
}

static enum sasl_result step_proof(struct sasl_exchange *exchange, struct smtp_slice message,
                                   struct smtp_slice *answer)
{
    enum sasl_result result = scram_client_final(exchange, message, answer);
    if (result == SASL_CHALLENGE)
        enter_state(exchange, STATE_CONFIRM);
    return result;
}

/* 235 carries no data in SMTP (RFC 4954 §4), so the signature went as a challenge, to which "" is the answer.
 */
static enum sasl_result step_confirm(struct sasl_exchange *exchange, struct smtp_slice message)
{
    if (message.size > 0)
        return sasl_end(exchange, SASL_MALFORMED, "something more after the proof");
    enter_state(exchange, STATE_DONE);
    exchange->reason = "";
    return SASL_OK;
}

static enum sasl_result step_message(struct sasl_exchange *exchange, struct smtp_slice message,
                                     struct smtp_slice *answer)
{
    switch (exchange->state) {
    case STATE_FIRST:
        return step_first(exchange, message, answer);
    case STATE_PASSWORD:
        return take_password(exchange, message);
    case STATE_PROOF:
        return step_proof(exchange, message, answer);
    default:
        assert(exchange->state == STATE_CONFIRM);
        return step_confirm(exchange, message);
    }
}

/* What stands in the line is a password more often than not: its copy does not outlive the step. */
static enum sasl_result step_line(struct sasl_exchange *exchange, const char *line, size_t size,
                                  struct smtp_slice *answer)
{
    char message[SMTP_BASE64_DECODED_MAX(SASL_LINE_MAX)];
    if (size == 1 && line[0] == '*')
        return sasl_end(exchange, SASL_CANCELLED, "the client gave up");
    if (size > SASL_LINE_MAX)
        return sasl_end(exchange, SASL_MALFORMED, "a line too long");
    int decoded = smtp_base64_decode((struct smtp_slice){line, (uint32_t)size}, message, sizeof(message));
    enum sasl_result result =
        decoded < 0 ? sasl_end(exchange, SASL_MALFORMED, "not base64")
                    : step_message(exchange, (struct smtp_slice){message, (uint32_t)decoded}, answer);
    OPENSSL_cleanse(message, sizeof(message));
    return result;
}

enum sasl_result sasl_step(struct sasl_exchange *exchange, const char *line, size_t size, char *out,
                           size_t out_capacity, size_t *out_size)
{
    assert(out_capacity >= SASL_CHALLENGE_MAX);
    assert(exchange->state <= STATE_CONFIRM); /* one that waits for the client */
    assert(line != NULL || (size == 0 && exchange->state == STATE_BEGIN));
    struct smtp_slice answer = SMTP_SLICE("");
    enum sasl_result result = SASL_CHALLENGE;
    if (exchange->state == STATE_BEGIN)
        enter_state(exchange, STATE_FIRST);
    if (line != NULL)
        result = step_line(exchange, line, size, &answer);
    else if (exchange->mechanism == SASL_LOGIN)
        answer = SMTP_SLICE("Username:");
    if (result != SASL_CHALLENGE)
        return result;
    *out_size = smtp_base64_encode(answer.data, answer.size, out, out_capacity);
    assert(*out_size == SMTP_BASE64_ENCODED_SIZE(answer.size));
    return SASL_CHALLENGE;
}

void sasl_prepare_check(struct sasl_exchange *exchange, struct hasher_job *job)
{
    assert(exchange->state == STATE_CHECK);
    assert(exchange->password[0] != '\0'); /* once only */
    job->check = exchange->check;
    memcpy(job->password, exchange->password, sizeof(job->password));
    OPENSSL_cleanse(exchange->password, sizeof(exchange->password));
    OPENSSL_cleanse(&exchange->check, sizeof(exchange->check));
}

enum sasl_result sasl_password_checked(struct sasl_exchange *exchange, bool matches)
{
    assert(exchange->state == STATE_CHECK);
    if (!matches || !exchange->is_known)
        return sasl_end(exchange, SASL_FAILED, exchange->reason);
    enter_state(exchange, STATE_DONE);
    exchange->reason = "";
    return SASL_OK;
}

const char *sasl_user(const struct sasl_exchange *exchange)
{
    assert(exchange->state == STATE_DONE);
    return exchange->user;
}

const char *sasl_claimed_user(const struct sasl_exchange *exchange)
{
    return exchange->user;
}

const char *sasl_reason(const struct sasl_exchange *exchange)
{
    bool is_over = exchange->state == STATE_FAILED;
    return is_over ? exchange->reason : "";
}

void sasl_exchange_wipe(struct sasl_exchange *exchange)
{
    OPENSSL_cleanse(exchange, sizeof(*exchange));
}
