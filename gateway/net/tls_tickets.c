#include "gateway/net/tls_tickets.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/aead.h>
#include <openssl/digest.h>
#include <openssl/err.h>
#include <openssl/hkdf.h>
#include <openssl/mem.h>
#include <openssl/rand.h>

#define TICKET_NAME  16
#define TICKET_NONCE 12
#define TICKET_KEYS  3 /* one that seals; two more retire in the time in which a retired one still opens */

static_assert((TICKET_KEYS - 1) * TLS_TICKET_KEY_MS >= TLS_TICKET_GRACE_MS, "no key is lost before its time");

struct ticket_key {
    uint8_t name[TICKET_NAME];
    uint8_t secret[32];
};

/* The newest first. A key that is not counted must never open anything: its secret would be known, zeros. */
struct ticket_keys {
    uint64_t count;
    struct ticket_key keys[TICKET_KEYS];
};

#define TICKET_WORDS (sizeof(struct ticket_keys) / sizeof(uint64_t))
static_assert(sizeof(struct ticket_keys) % sizeof(uint64_t) == 0, "copied by words");

struct tls_tickets {
    /* Control thread. */
    struct ticket_keys keys;
    uint64_t retired_ms[TICKET_KEYS]; /* [0]: when the newest was made */
    bool is_started;

    /* Any thread (atomic): a copy of `keys` for the readers. The version is odd while the copy is written. */
    _Alignas(64) atomic_uint version;
    _Atomic uint64_t words[TICKET_WORDS];
};

/* A sequence lock: what a reader copied counts only when the version did not move meanwhile. */
static void tickets_publish(struct tls_tickets *tickets)
{
    uint64_t words[TICKET_WORDS];
    memcpy(words, &tickets->keys, sizeof(words));
    unsigned version = atomic_load_explicit(&tickets->version, memory_order_relaxed); /* only we write it */
    assert(version % 2 == 0);
    atomic_store_explicit(&tickets->version, version + 1, memory_order_relaxed);
    /* Pairs with the acquire fence in tickets_read: who sees one of our words sees the odd version too. */
    atomic_thread_fence(memory_order_release);
    for (size_t index = 0; index < TICKET_WORDS; index++)
        atomic_store_explicit(&tickets->words[index], words[index], memory_order_relaxed);
    /* Pairs with the acquire load in tickets_read: who sees this version sees all its words. */
    atomic_store_explicit(&tickets->version, version + 2, memory_order_release);
    OPENSSL_cleanse(words, sizeof(words));
}

static void tickets_read(const struct tls_tickets *tickets, struct ticket_keys *keys)
{
    uint64_t words[TICKET_WORDS];
    unsigned before = 0;
    unsigned after = 0;
    do {
        before = atomic_load_explicit(&tickets->version, memory_order_acquire);
        for (size_t index = 0; index < TICKET_WORDS; index++)
            words[index] = atomic_load_explicit(&tickets->words[index], memory_order_relaxed);
        atomic_thread_fence(memory_order_acquire);
        after = atomic_load_explicit(&tickets->version, memory_order_relaxed);
    } while (before != after || before % 2 != 0);
    memcpy(keys, words, sizeof(words));
    OPENSSL_cleanse(words, sizeof(words));
    assert(keys->count >= 1 && keys->count <= TICKET_KEYS);
}

static void tickets_add_key(struct tls_tickets *tickets, uint64_t now_ms)
{
    struct ticket_keys *keys = &tickets->keys;
    if (keys->count == TICKET_KEYS)
        keys->count--;
    memmove(&keys->keys[1], &keys->keys[0], keys->count * sizeof(keys->keys[0]));
    memmove(&tickets->retired_ms[1], &tickets->retired_ms[0], keys->count * sizeof(uint64_t));
    keys->count++;
    RAND_bytes((uint8_t *)&keys->keys[0], sizeof(keys->keys[0]));
    tickets->retired_ms[0] = now_ms;
    if (keys->count > 1)
        tickets->retired_ms[1] = now_ms;
}

struct tls_tickets *tls_tickets_new(void)
{
    struct tls_tickets *tickets = aligned_alloc(_Alignof(struct tls_tickets), sizeof(*tickets));
    if (tickets == NULL)
        return NULL;
    memset(tickets, 0, sizeof(*tickets));
    tickets_add_key(tickets, 0);
    tickets_publish(tickets);
    return tickets;
}

void tls_tickets_free(struct tls_tickets *tickets)
{
    if (tickets == NULL)
        return;
    OPENSSL_cleanse(tickets, sizeof(*tickets));
    free(tickets);
}

void tls_tickets_rotate(struct tls_tickets *tickets, uint64_t now_ms)
{
    struct ticket_keys *keys = &tickets->keys;
    if (!tickets->is_started) {
        tickets->is_started = true;
        tickets->retired_ms[0] = now_ms;
        return;
    }
    uint64_t count = keys->count;
    bool is_due = now_ms >= tickets->retired_ms[0] + TLS_TICKET_KEY_MS;
    if (is_due)
        tickets_add_key(tickets, now_ms);
    while (keys->count > 1 && now_ms >= tickets->retired_ms[keys->count - 1] + TLS_TICKET_GRACE_MS) {
        keys->count--;
        OPENSSL_cleanse(&keys->keys[keys->count], sizeof(keys->keys[0]));
    }
    if (is_due || keys->count != count)
        tickets_publish(tickets);
}

/* The AEAD of one context under one secret. The caller cleans it up when this returns true. */
static bool ticket_cipher(EVP_AEAD_CTX *cipher, const struct ticket_key *key, const uint8_t *context)
{
    uint8_t derived[32];
    bool done = HKDF(derived, sizeof(derived), EVP_sha256(), key->secret, sizeof(key->secret), NULL, 0,
                     context, TLS_TICKET_CONTEXT) == 1 &&
                EVP_AEAD_CTX_init(cipher, EVP_aead_aes_256_gcm(), derived, sizeof(derived),
                                  EVP_AEAD_DEFAULT_TAG_LENGTH, NULL) == 1;
    OPENSSL_cleanse(derived, sizeof(derived));
    return done;
}

bool tls_ticket_seal(const struct tls_tickets *tickets, const uint8_t *context, uint8_t *out,
                     size_t *out_size, size_t capacity, const uint8_t *in, size_t size)
{
    assert(capacity >= size + TLS_TICKET_OVERHEAD);
    struct ticket_keys keys;
    EVP_AEAD_CTX cipher;
    uint8_t nonce[TICKET_NONCE];
    size_t sealed = 0;
    tickets_read(tickets, &keys);
    const struct ticket_key *key = &keys.keys[0];
    RAND_bytes(nonce, sizeof(nonce));
    bool done = ticket_cipher(&cipher, key, context);
    if (done) {
        done = EVP_AEAD_CTX_seal(&cipher, out, &sealed, capacity, nonce, sizeof(nonce), in, size, key->name,
                                 TICKET_NAME) == 1;
        EVP_AEAD_CTX_cleanup(&cipher);
    }
    if (done) {
        assert(sealed + TICKET_NAME + TICKET_NONCE == size + TLS_TICKET_OVERHEAD);
        memcpy(out + sealed, key->name, TICKET_NAME);
        memcpy(out + sealed + TICKET_NAME, nonce, TICKET_NONCE);
        *out_size = size + TLS_TICKET_OVERHEAD;
    }
    OPENSSL_cleanse(&keys, sizeof(keys));
    return done;
}

static const struct ticket_key *ticket_find(const struct ticket_keys *keys, const uint8_t *name)
{
    for (size_t index = 0; index < keys->count; index++) {
        if (memcmp(keys->keys[index].name, name, TICKET_NAME) == 0)
            return &keys->keys[index];
    }
    return NULL;
}

bool tls_ticket_open(const struct tls_tickets *tickets, const uint8_t *context, uint8_t *out,
                     size_t *out_size, size_t capacity, const uint8_t *in, size_t size)
{
    if (size < TLS_TICKET_OVERHEAD)
        return false;
    size_t sealed = size - TICKET_NAME - TICKET_NONCE;
    const uint8_t *name = in + sealed;
    struct ticket_keys keys;
    EVP_AEAD_CTX cipher;
    tickets_read(tickets, &keys);
    const struct ticket_key *key = ticket_find(&keys, name);
    bool done = key != NULL && ticket_cipher(&cipher, key, context);
    if (done) {
        done = EVP_AEAD_CTX_open(&cipher, out, out_size, capacity, name + TICKET_NAME, TICKET_NONCE, in,
                                 sealed, name, TICKET_NAME) == 1;
        EVP_AEAD_CTX_cleanup(&cipher);
        /* A foreign ticket is no error; one left in the queue would make the handshake look failed. */
        ERR_clear_error();
    }
    OPENSSL_cleanse(&keys, sizeof(keys));
    return done;
}
