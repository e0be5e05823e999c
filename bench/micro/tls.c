/* TLS records of the sizes that a mail session has: what the cipher takes, what the library takes around it,
 * and what moving the octets takes. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/aead.h>
#include <openssl/ec_key.h>
#include <openssl/nid.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "bench/micro/measure.h"

enum {
    COMMAND_SIZE = 30, /* a command or a reply, about */
    CONTENT_SIZE = 10 * 1024,
    RECORD_MAX = 16384,     /* RFC 8446 section 5.1 */
    ADDITIONAL = 5,         /* octets of a record's header, which the seal covers */
    WIRE_SIZE = 512 * 1024, /* records made ahead of their opening */
    PAGE = 4096,
    SLICES = 200,
    SLICE_US = 500,
};

static uint8_t plain[RECORD_MAX];

/* The best of many short slices: between two of a busy neighbour's turns there is always room for one. */
static void shortest(const char *name, void (*body)(void *context), void *context, uint64_t octets)
{
    double best = 0;
    for (int slice = 0; slice < SLICES; slice++) {
        uint64_t begin = measure_now_ns();
        uint64_t calls = 0;
        uint64_t spent;
        do {
            body(context);
            calls++;
            spent = measure_now_ns() - begin;
        } while (spent < SLICE_US * 1000ULL);
        double ns = (double)spent / (double)calls;
        best = slice == 0 || ns < best ? ns : best;
    }
    measure_print(name, best, octets);
}

struct cipher_scene {
    EVP_AEAD_CTX *cipher;
    size_t size;
    size_t sealed_size;
    uint8_t sealed[RECORD_MAX + EVP_AEAD_MAX_OVERHEAD];
    uint8_t out[RECORD_MAX + EVP_AEAD_MAX_OVERHEAD];
};

static const uint8_t nonce[12];

static void cipher_seal(void *context)
{
    struct cipher_scene *scene = context;
    if (EVP_AEAD_CTX_seal(scene->cipher, scene->sealed, &scene->sealed_size, sizeof(scene->sealed), nonce,
                          sizeof(nonce), plain, scene->size, nonce, ADDITIONAL) != 1)
        abort();
}

static void cipher_open(void *context)
{
    struct cipher_scene *scene = context;
    size_t size = 0;
    if (EVP_AEAD_CTX_open(scene->cipher, scene->out, &size, sizeof(scene->out), nonce, sizeof(nonce),
                          scene->sealed, scene->sealed_size, nonce, ADDITIONAL) != 1)
        abort();
}

static void measure_cipher(const char *name, const EVP_AEAD *aead)
{
    static const uint8_t key[EVP_AEAD_MAX_KEY_LENGTH];
    const size_t sizes[] = {COMMAND_SIZE, CONTENT_SIZE};
    struct cipher_scene scene = {.cipher = EVP_AEAD_CTX_new(aead, key, EVP_AEAD_key_length(aead), 0)};
    if (scene.cipher == NULL)
        abort();
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char line[64];
        scene.size = sizes[i];
        snprintf(line, sizeof(line), "%s seal %zu", name, scene.size);
        shortest(line, cipher_seal, &scene, scene.size);
        snprintf(line, sizeof(line), "%s open %zu", name, scene.size);
        shortest(line, cipher_open, &scene, scene.size);
    }
    EVP_AEAD_CTX_free(scene.cipher);
}

/* One direction of a connection in memory, as the gateway's BIO has it: a window that runs dry. */
struct wire {
    size_t read;
    size_t written;
    uint8_t bytes[WIRE_SIZE];
};

struct end {
    SSL *tls;
    struct wire *in;
    struct wire *out;
};

static int end_read(BIO *bio, char *into, int size)
{
    struct wire *wire = ((struct end *)bio->ptr)->in;
    size_t part = wire->written - wire->read;
    BIO_clear_retry_flags(bio);
    if (part == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    if (part > (size_t)size)
        part = (size_t)size;
    memcpy(into, wire->bytes + wire->read, part);
    wire->read += part;
    return (int)part;
}

static int end_write(BIO *bio, const char *bytes, int size)
{
    struct wire *wire = ((struct end *)bio->ptr)->out;
    BIO_clear_retry_flags(bio);
    if ((size_t)size > sizeof(wire->bytes) - wire->written)
        abort();
    memcpy(wire->bytes + wire->written, bytes, (size_t)size);
    wire->written += (size_t)size;
    return size;
}

static long end_control(BIO *bio, int command, long number, void *pointer)
{
    return command == BIO_CTRL_FLUSH;
}

static const BIO_METHOD end_bio = {
    .name = "memory", .bwrite = end_write, .bread = end_read, .ctrl = end_control};

struct pair {
    struct end client;
    struct end server;
    struct wire up;
    struct wire down;
    size_t size;
    char into[RECORD_MAX];
};

static void end_init(struct end *end, SSL_CTX *context, struct wire *in, struct wire *out)
{
    BIO *bio = BIO_new(&end_bio);
    end->tls = SSL_new(context);
    if (bio == NULL || end->tls == NULL)
        abort();
    bio->ptr = end;
    bio->init = 1;
    end->in = in;
    end->out = out;
    SSL_set_bio(end->tls, bio, bio);
}

static void pair_shake(struct pair *pair)
{
    SSL_set_connect_state(pair->client.tls);
    SSL_set_accept_state(pair->server.tls);
    for (bool done = false; !done;) {
        int client = SSL_do_handshake(pair->client.tls);
        int server = SSL_do_handshake(pair->server.tls);
        if (SSL_get_error(pair->client.tls, client) == SSL_ERROR_SSL ||
            SSL_get_error(pair->server.tls, server) == SSL_ERROR_SSL)
            abort();
        done = client == 1 && server == 1;
    }
    pair->up = (struct wire){0};
    pair->down = (struct wire){0};
}

/* A context with a key and a certificate that nobody looks at. */
static SSL_CTX *make_context(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_method());
    EC_KEY *curve = EC_KEY_new_by_curve_name(NID_X9_62_prime256v1);
    EVP_PKEY *key = EVP_PKEY_new();
    X509 *certificate = X509_new();
    if (context == NULL || curve == NULL || key == NULL || certificate == NULL)
        abort();
    if (EC_KEY_generate_key(curve) != 1 || EVP_PKEY_assign_EC_KEY(key, curve) != 1 ||
        X509_gmtime_adj(X509_getm_notBefore(certificate), 0) == NULL ||
        X509_gmtime_adj(X509_getm_notAfter(certificate), 3600) == NULL ||
        X509_set_pubkey(certificate, key) != 1 || X509_sign(certificate, key, EVP_sha256()) == 0)
        abort();
    if (SSL_CTX_use_certificate(context, certificate) != 1 || SSL_CTX_use_PrivateKey(context, key) != 1 ||
        SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1)
        abort();
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return context;
}

static void pair_write(void *context)
{
    struct pair *pair = context;
    if (SSL_write(pair->client.tls, plain, (int)pair->size) != (int)pair->size)
        abort();
    pair->up.written = 0;
}

static void pair_read_dry(void *context)
{
    struct pair *pair = context;
    if (SSL_read(pair->server.tls, pair->into, RECORD_MAX) != -1)
        abort();
}

/* A record opens once only, so a wire full of them is made first, and that is not timed. */
static void measure_read(struct pair *pair)
{
    const uint64_t count = WIRE_SIZE / 2 / (pair->size + 64);
    double best = 0;
    char line[64];
    for (int round = 0; round < SLICES; round++) {
        pair->up.written = 0;
        pair->up.read = 0;
        for (uint64_t i = 0; i < count; i++) {
            if (SSL_write(pair->client.tls, plain, (int)pair->size) != (int)pair->size)
                abort();
        }
        uint64_t begin = measure_now_ns();
        for (uint64_t i = 0; i < count; i++) {
            if (SSL_read(pair->server.tls, pair->into, RECORD_MAX) != (int)pair->size)
                abort();
        }
        double ns = (double)(measure_now_ns() - begin) / (double)count;
        best = round == 0 || ns < best ? ns : best;
    }
    pair->up = (struct wire){0};
    snprintf(line, sizeof(line), "SSL_read %zu", pair->size);
    measure_print(line, best, pair->size);
}

static void measure_library(void)
{
    const size_t sizes[] = {COMMAND_SIZE, CONTENT_SIZE};
    struct pair *pair = calloc(1, sizeof(*pair));
    SSL_CTX *context = make_context();
    if (pair == NULL)
        abort();
    end_init(&pair->client, context, &pair->down, &pair->up);
    end_init(&pair->server, context, &pair->up, &pair->down);
    pair_shake(pair);
    printf("(the library's records: %s)\n",
           SSL_CIPHER_standard_name(SSL_get_current_cipher(pair->client.tls)));
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        pair->size = sizes[i];
        measure_read(pair);
    }
    shortest("SSL_read, nothing there", pair_read_dry, pair, 0);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char line[64];
        /* The reader would miss these records: it is asked for nothing any more. */
        pair->size = sizes[i];
        snprintf(line, sizeof(line), "SSL_write %zu", pair->size);
        shortest(line, pair_write, pair, pair->size);
    }
    SSL_free(pair->client.tls);
    SSL_free(pair->server.tls);
    SSL_CTX_free(context);
    free(pair);
}

struct copy_scene {
    uint8_t *from;
    uint8_t *into;
    size_t piece;
};

static void copy(void *context)
{
    const struct copy_scene *scene = context;
    for (size_t at = 0; at < CONTENT_SIZE; at += scene->piece) {
        memcpy(scene->into + at, scene->from + at, scene->piece);
        measure_use((uintptr_t)scene->into);
    }
}

/*
 * A long memcpy is one `rep movsb` in glibc, and some CPUs are many times slower at it when the target lies a
 * few octets behind the source, pages left aside: as a record's body in a receive buffer and in the
 * library's.
 */
static void measure_copies(void)
{
    uint8_t *from = aligned_alloc(PAGE, 8 * PAGE);
    uint8_t *into = aligned_alloc(PAGE, 8 * PAGE);
    if (from == NULL || into == NULL)
        abort();
    memset(from, 1, 8 * PAGE);
    memset(into, 2, 8 * PAGE);
    struct copy_scene scene = {.from = from + 5, .into = into + 64 + 5, .piece = CONTENT_SIZE};
    shortest("copy, far in the page", copy, &scene, CONTENT_SIZE);
    scene.into = into + 8;
    shortest("copy, 3 octets on in the page", copy, &scene, CONTENT_SIZE);
    scene.piece = 2048;
    shortest("the same in pieces of 2048", copy, &scene, CONTENT_SIZE);
    free(from);
    free(into);
}

int main(void)
{
    measure_cipher("AES-128-GCM", EVP_aead_aes_128_gcm());
    measure_cipher("AES-256-GCM", EVP_aead_aes_256_gcm());
    measure_cipher("ChaCha20-Poly1305", EVP_aead_chacha20_poly1305());
    measure_library();
    measure_copies();
    return 0;
}
