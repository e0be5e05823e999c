#pragma once

/*
 * The memory that all TLS connections of one loop share: a scratch of one record, and chunks that carry
 * ciphertext to the kernel. Belongs to the loop's thread.
 */

#include <stddef.h>
#include <stdint.h>

#include "gateway/net/tx.h"

#define TLS_RECORD_MAX     16384 /* bytes of plaintext in a record, RFC 8446 section 5.1 */
#define TLS_CHUNK_SIZE     17408 /* a chunk with its head: a full record and its overhead fit */
#define TLS_CHUNK_FREE_MAX 64    /* chunks that a loop keeps */

/* Ciphertext on its way; given back by its reference. */
struct tls_chunk {
    struct conn_ref ref;
    struct tls_buffers *owner;
    struct tls_chunk *next;
    char bytes[TLS_CHUNK_SIZE - 3 * sizeof(void *)];
};

static_assert(sizeof(struct tls_chunk) == TLS_CHUNK_SIZE, "no hidden padding");

struct tls_buffers {
    char *scratch; /* TLS_RECORD_MAX bytes for one record on its way in or out; nothing is kept there */
    struct tls_chunk *free;
    uint32_t free_count;
    uint32_t in_use;
    uint64_t allocations; /* calls of malloc */
};

/* Makes sure that there is a scratch; -ENOMEM. */
int tls_buffers_prepare(struct tls_buffers *buffers) __attribute__((warn_unused_result));
void tls_buffers_deinit(struct tls_buffers *buffers);

/* Queues ciphertext: little of it is copied behind what is there, much goes into chunks. 0 or -ENOMEM. */
int tls_buffers_send(struct tls_buffers *buffers, struct tx_pool *pool, struct tx_queue *queue,
                     const char *bytes, size_t size) __attribute__((warn_unused_result));
