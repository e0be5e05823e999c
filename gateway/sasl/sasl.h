#pragma once

/*
 * The server's side of one login: a SASL exchange (RFC 4422) as SMTP carries it (RFC 4954).
 *
 *     PLAIN                RFC 4616
 *     LOGIN                draft-murchison-sasl-login
 *     SCRAM-SHA-256        RFC 5802, RFC 7677
 *     SCRAM-SHA-256-PLUS   the same bound to the TLS connection: "tls-exporter" (RFC 9266),
 *                          "tls-server-end-point", and under TLS 1.2 "tls-unique" (RFC 5929)
 *
 * The caller feeds what the client sends, line by line and still in base64, and does what each result says:
 *
 *     sasl_begin ──▶ sasl_step ──▶ SASL_CHALLENGE        send "334 " and the text, step with the next line
 *                                  SASL_CHECK_PASSWORD   sasl_prepare_check, have a hasher run it, then
 *                                                        sasl_password_checked gives SASL_OK or SASL_FAILED
 *                                  SASL_OK               235 2.7.0; sasl_user says who it is
 *                                  SASL_FAILED           535 5.7.8
 *                                  SASL_MALFORMED        501 5.5.2
 *                                  SASL_CANCELLED        501 5.7.0; the client gave up with "*"
 *
 * What is not SASL_CHALLENGE or SASL_CHECK_PASSWORD ends the exchange; sasl_exchange_wipe is due in every
 * case.
 *
 * Nothing tells a client who exists: a user who is unknown, locked, or (for SCRAM) without SCRAM keys goes
 * the same way as one with a wrong password, at the same cost, to the same failure. A SCRAM challenge for
 * such a user is made from a secret of the server and is the same each time.
 *
 * No I/O, no allocation, no clock; an exchange belongs to one thread at a time.
 */

#include "gateway/sasl/hasher.h"
#include "gateway/sasl/users.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sasl_mechanism {
    SASL_PLAIN,
    SASL_LOGIN,
    SASL_SCRAM_SHA_256,
    SASL_SCRAM_SHA_256_PLUS,
    SASL_MECHANISM_COUNT,
};

/* "PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS": as EHLO announces them. */
const char *sasl_mechanism_name(enum sasl_mechanism mechanism);

/* The mechanism of that name in letters of either case; false (504 5.5.4) when it is none of ours. */
bool sasl_mechanism_parse(const char *name, size_t size, enum sasl_mechanism *mechanism)
    __attribute__((warn_unused_result));

enum sasl_result {
    SASL_CHALLENGE,
    SASL_CHECK_PASSWORD,
    SASL_OK,
    SASL_FAILED,
    SASL_MALFORMED,
    SASL_CANCELLED,
};

enum {
    SASL_BINDING_MAX = 3,
    SASL_BINDING_DATA_MAX = 64,
    SASL_SECRET_SIZE = 32,
    SASL_LINE_MAX = 1536, /* octets of base64 that a line of a client may have; a longer one is malformed */
    SASL_CHALLENGE_MAX = 400, /* octets that `out` of sasl_step must have room for */
    SASL_CLIENT_FIRST_MAX = 560,
    SASL_CLIENT_NONCE_MAX = 128,
    SASL_SERVER_NONCE_MAX = 31,
    SASL_TRANSCRIPT_MAX = SASL_CLIENT_FIRST_MAX + SASL_CHALLENGE_MAX * 3 / 4,
};

/* Channel-binding data of the TLS connection under the login. */
struct sasl_binding {
    const char *name; /* "tls-exporter"; a static string */
    uint8_t data[SASL_BINDING_DATA_MAX];
    size_t size;
};

/* What SCRAM has to remember between its messages. */
struct sasl_scram {
    struct sasl_binding bindings[SASL_BINDING_MAX];
    uint32_t binding_count;
    uint32_t gs2_size;        /* the transcript begins with the GS2 header … */
    uint32_t transcript_size; /* … then client-first-message-bare "," server-first-message */
    uint32_t nonce_at;        /* where the nonce of both stands in the transcript */
    uint32_t nonce_size;
    uint8_t binding_used; /* an index into bindings; SASL_BINDING_MAX: none */
    char server_nonce[SASL_SERVER_NONCE_MAX + 1];
    uint8_t stored_key[SCRAM_KEY_SIZE];
    uint8_t server_key[SCRAM_KEY_SIZE];
    char transcript[SASL_TRANSCRIPT_MAX];
};

/* In place; its fields are for sasl.c, scram.c and their tests. */
struct sasl_exchange {
    uint8_t mechanism; /* enum sasl_mechanism */
    uint8_t state;     /* enum sasl_state, in sasl.c */
    bool is_known;     /* the user exists and can use this mechanism */
    uint32_t user_size;
    const char *reason;        /* static; see sasl_reason */
    const struct users *users; /* NULL as soon as the user has been looked up */
    uint8_t secret[SASL_SECRET_SIZE];
    char user[USER_NAME_MAX + 1];
    union {
        struct {
            char password[USER_PASSWORD_MAX + 1];
            struct password_check check;
        };
        struct sasl_scram scram;
    };
};

_Static_assert(sizeof(struct sasl_exchange) <= 1536, "an exchange stays small");

/*
 * Begins an exchange. `bindings` (up to SASL_BINDING_MAX, copied) are those that the connection has. Give
 * them to SCRAM-SHA-256 as well whenever -PLUS was announced: a client that says it would have bound itself,
 * had the server only offered it, has then met somebody who edits the announcement (RFC 5802 §6), and fails.
 * -PLUS needs at least one. `server_secret` is SASL_SECRET_SIZE octets, copied: the same for all workers,
 * best also for all runs.
 *
 * `users` is read until the client has named itself, and never after; who replaces the users meanwhile calls
 * sasl_set_users before the next step.
 */
void sasl_begin(struct sasl_exchange *exchange, enum sasl_mechanism mechanism, const struct users *users,
                const struct sasl_binding *bindings, size_t binding_count, const uint8_t *server_secret);

void sasl_set_users(struct sasl_exchange *exchange, const struct users *users);

/*
 * One step. `line` is what the client sent without CRLF; at first the initial response of AUTH: NULL when it
 * had none, size 0 (and not NULL) when it was "=". Writes the challenge, in base64 and without a zero, to
 * `out`
 * (`out_capacity` at least SASL_CHALLENGE_MAX); *out_size is written only with SASL_CHALLENGE, and may be 0.
 */
enum sasl_result sasl_step(struct sasl_exchange *exchange, const char *line, size_t size, char *out,
                           size_t out_capacity, size_t *out_size) __attribute__((warn_unused_result));

/* After SASL_CHECK_PASSWORD: copies check and password into the job, and cleanses the exchange's own. The
   job's other fields are the caller's. */
void sasl_prepare_check(struct sasl_exchange *exchange, struct hasher_job *job);

/* After the job is done: SASL_OK or SASL_FAILED. */
enum sasl_result sasl_password_checked(struct sasl_exchange *exchange, bool matches)
    __attribute__((warn_unused_result));

/* Who it is, zero-terminated UTF-8 without controls or spaces; only after SASL_OK. It lives in the exchange.
 */
const char *sasl_user(const struct sasl_exchange *exchange);

/* The name that the client gave, for the log and for limits, whether it exists or not; "" before it gave one.
 */
const char *sasl_claimed_user(const struct sasl_exchange *exchange);

/* Why it ended, for the operator's log and never for the client: "unknown user", "wrong password", "the
   channel binding differs" …; "" while there is nothing to say. Static. */
const char *sasl_reason(const struct sasl_exchange *exchange);

/* Cleanses the secrets and the name; due once, and harmless twice. */
void sasl_exchange_wipe(struct sasl_exchange *exchange);
