#pragma once

/*
 * One password against what is stored of it, and what to store of a new one.
 *
 * crypt(3) by libcrypt, PBKDF2 and HMAC by BoringSSL. Each of the functions that work on a password takes
 * milliseconds by design, so no worker calls them; any other thread may. Whatever they leave behind of the
 * password in their own memory is cleansed; the caller's copy is the caller's.
 */

#include "gateway/sasl/users.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum password_check_kind {
    PASSWORD_CHECK_CRYPT,
    PASSWORD_CHECK_SCRAM,
};

/* What a password is compared with: a copy, so that it does not matter when the users are loaded anew. */
struct password_check {
    enum password_check_kind kind;
    bool is_known; /* false: the work is done for the time that it takes; the password never matches */
    char crypt[USER_CRYPT_MAX + 1];
    uint32_t iterations;
    uint32_t salt_size;
    uint8_t salt[SCRAM_SALT_MAX];
    uint8_t stored_key[SCRAM_KEY_SIZE];
};

/* Fills in `check` from a user that has a crypt hash or SCRAM keys; of both, the hash serves. */
void password_check_init(struct password_check *check, const struct user *user, bool is_known);

/* The same where there is nobody to measure by: a fixed valid hash, and is_known is false. */
void password_check_init_dummy(struct password_check *check);

/* Does the work, here and now. False also when it could not be done (no memory): no login is the safe side.
 */
bool password_check_run(const struct password_check *check, const char *password)
    __attribute__((warn_unused_result));

/* The two keys of RFC 5802 §3 that a server stores. `salt_size` 1 … SCRAM_SALT_MAX. -ENOMEM when BoringSSL
   finds no memory. */
int scram_derive(const char *password, const uint8_t *salt, size_t salt_size, uint32_t iterations,
                 uint8_t stored_key[static SCRAM_KEY_SIZE], uint8_t server_key[static SCRAM_KEY_SIZE])
    __attribute__((warn_unused_result));

enum crypt_method {
    CRYPT_YESCRYPT,
    CRYPT_SHA512,
};

/* A new hash with a random salt, zero-terminated. A negative errno when libcrypt fails. */
int crypt_hash(const char *password, enum crypt_method method, char hash[static USER_CRYPT_MAX + 1])
    __attribute__((warn_unused_result));

/* Whether the text is a whole hash of one of the two methods, as far as its form tells. */
bool crypt_hash_is_valid(const char *hash, size_t size);
