#pragma once

/*
 * The client's side of one login at another server: SCRAM-SHA-256 (RFC 5802, RFC 7677), PLAIN (RFC 4616) and
 * LOGIN (draft-murchison-sasl-login), as SMTP carries them (RFC 4954).
 *
 *     sasl_client_begin ──▶ sasl_client_first     what goes behind the mechanism in AUTH, if it has anything
 *                           sasl_client_step      for each 334: what to answer
 *                           sasl_client_accepts   at 235: whether the server has done its part, too
 *
 * sasl_client_wipe is due in every case.
 *
 * With SCRAM the password is not shown to the server, and the server must prove that it knows it: the login
 * counts only when its signature is right, whatever it says. There is no channel binding.
 *
 * No I/O and no clock; a login belongs to one thread at a time. A step of SCRAM may compute PBKDF2 with up to
 * SASL_CLIENT_ITERATIONS_MAX rounds, some 15 ms of that thread, unless `salted` has the result already.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/sasl/sasl.h"
#include "proto/slice.h"

enum {
    SASL_CLIENT_ITERATIONS_MAX = 100000, /* a server that asks for more would hold up all our other mail */
    SASL_CLIENT_TEXT_MAX = 1536,         /* octets of base64 of the longest answer */
    SASL_CLIENT_NONCE_SIZE = 24,
    SASL_CLIENT_SALT_MAX = 256,
    SASL_CLIENT_TRANSCRIPT_MAX = 2 * SASL_CLIENT_TEXT_MAX,
};

/* What PBKDF2 made of a password, to be kept for the next login at the same server: salt and rounds stay the
 * same there. All zero: nothing. It is as good as the password, so it needs the same care. */
struct sasl_client_salted {
    uint8_t digest[SCRAM_KEY_SIZE]; /* of password, salt and rounds */
    uint8_t password[SCRAM_KEY_SIZE];
};

enum sasl_client_result {
    SASL_CLIENT_SAY,     /* send the text, which may be empty */
    SASL_CLIENT_STRANGE, /* the challenge is not one of the mechanism, or asks for too much: cancel */
    SASL_CLIENT_FALSE,   /* the server does not know the password: cancel */
    SASL_CLIENT_NO_MEMORY,
};

/* In place; its fields are for sasl_client.c and its test. */
struct sasl_client {
    uint8_t mechanism; /* enum sasl_mechanism */
    uint8_t steps;     /* answers given */
    bool is_proven;    /* SCRAM: the server's signature was right */
    uint32_t user_size;
    uint32_t password_size;
    uint32_t transcript_size;
    const char *reason; /* static */
    char user[USER_NAME_MAX];
    char password[USER_PASSWORD_MAX];
    char nonce[SASL_CLIENT_NONCE_SIZE + 1];
    uint8_t server_signature[SCRAM_KEY_SIZE];
    char transcript[SASL_CLIENT_TRANSCRIPT_MAX]; /* client-first-message-bare "," server-first-message */
};

/* Which mechanisms a server names behind AUTH in its reply to EHLO: 1 << enum sasl_mechanism for each. */
uint32_t sasl_client_offered(struct smtp_slice names);

/* The best one that we can speak of those: SCRAM-SHA-256, PLAIN, LOGIN. False: none. */
bool sasl_client_choose(uint32_t offered, enum sasl_mechanism *best) __attribute__((warn_unused_result));

/*
 * Begins. Name and password are copied. 0, or -EINVAL: one of them is empty, too long (USER_NAME_MAX,
 * USER_PASSWORD_MAX), or is no text (text.h). The mechanism is one that sasl_client_choose gives.
 */
int sasl_client_begin(struct sasl_client *login, enum sasl_mechanism mechanism, struct smtp_slice user,
                      struct smtp_slice password) __attribute__((warn_unused_result));

/*
 * The initial response in base64: writes it to `text` (SASL_CLIENT_TEXT_MAX octets), without a zero, and
 * returns its size. 0: the mechanism has none (LOGIN), or it has more than `room` octets; it is then the
 * answer to the empty challenge that follows.
 */
size_t sasl_client_first(struct sasl_client *login, size_t room, char *text);

/*
 * The answer to one challenge, both in base64: the text of a 334. `text` and *size as above, written only
 * with SASL_CLIENT_SAY. `salted` is read and written; NULL: nothing is kept.
 */
enum sasl_client_result sasl_client_step(struct sasl_client *login, struct smtp_slice challenge,
                                         struct sasl_client_salted *salted, char *text, size_t *size)
    __attribute__((warn_unused_result));

/* The server says that we are in: whether that is to be believed. */
bool sasl_client_accepts(const struct sasl_client *login);

/* Why the last step was not SASL_CLIENT_SAY; static. */
const char *sasl_client_reason(const struct sasl_client *login);

/* Cleanses what is secret. */
void sasl_client_wipe(struct sasl_client *login);
