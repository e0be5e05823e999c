/* From a name to what its password is checked by; and for a name that is nobody's, to something as good. */

#include "gateway/sasl/sasl_inner.h"

#include <assert.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/mem.h>
#include <string.h>

/* A stand-in's octets: the same for the same name and secret, and unlike a random salt to nobody without it.
 */
static void derive(const struct sasl_exchange *exchange, uint8_t purpose,
                   uint8_t octets[static SCRAM_KEY_SIZE])
{
    uint8_t message[1 + USER_NAME_MAX];
    assert(exchange->user_size <= USER_NAME_MAX);
    message[0] = purpose;
    memcpy(message + 1, exchange->user, exchange->user_size);
    const uint8_t *made = HMAC(EVP_sha256(), exchange->secret, sizeof(exchange->secret), message,
                               1 + exchange->user_size, octets, NULL);
    assert(made != NULL);
}

static uint32_t draw(const struct sasl_exchange *exchange)
{
    uint8_t octets[SCRAM_KEY_SIZE];
    derive(exchange, 0, octets);
    uint32_t number;
    memcpy(&number, octets, sizeof(number));
    return number;
}

static const struct user *find(struct sasl_exchange *exchange)
{
    assert(exchange->users != NULL);
    return users_find(exchange->users, exchange->user, exchange->user_size);
}

void lookup_password(struct sasl_exchange *exchange)
{
    const struct user *user = find(exchange);
    const struct user *decoy = users_decoy(exchange->users, draw(exchange));
    exchange->is_known = user != NULL && (user->crypt != NULL || user->has_scram);
    if (exchange->is_known)
        password_check_init(&exchange->check, user, true);
    else if (decoy != NULL)
        password_check_init(&exchange->check, decoy, false);
    else
        password_check_init_dummy(&exchange->check);
    exchange->reason = user == NULL ? "unknown user" : exchange->is_known ? "wrong password" : "locked user";
    exchange->users = NULL;
}

/* The salt and iterations of somebody who does not exist look like those of one who does. */
static void make_up_salt(const struct sasl_exchange *exchange, struct scram_salt *salt)
{
    const struct user *decoy = users_scram_decoy(exchange->users, draw(exchange));
    salt->size = decoy != NULL ? decoy->salt_size : SCRAM_SALT_DEFAULT;
    salt->iterations = decoy != NULL ? decoy->iterations : SCRAM_ITERATIONS_DEFAULT;
    _Static_assert(SCRAM_SALT_MAX == 2 * SCRAM_KEY_SIZE, "two derivations fill a salt");
    derive(exchange, 1, salt->octets);
    derive(exchange, 2, salt->octets + SCRAM_KEY_SIZE);
}

void lookup_scram(struct sasl_exchange *exchange, struct scram_salt *salt)
{
    const struct user *user = find(exchange);
    make_up_salt(exchange, salt);
    exchange->is_known = user != NULL && user->has_scram;
    if (exchange->is_known) {
        salt->size = user->salt_size;
        salt->iterations = user->iterations;
        memcpy(salt->octets, user->salt, user->salt_size);
        memcpy(exchange->scram.stored_key, user->stored_key, SCRAM_KEY_SIZE);
        memcpy(exchange->scram.server_key, user->server_key, SCRAM_KEY_SIZE);
    }
    exchange->reason = user == NULL         ? "unknown user"
                       : exchange->is_known ? "wrong password"
                                            : "no SCRAM keys";
    exchange->users = NULL;
    assert(salt->size >= 1 && salt->size <= SCRAM_SALT_MAX);
}
