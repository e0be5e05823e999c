#include "gateway/net/tls_buffers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/list.h"

#define TLS_COPY_MAX 1024 /* ciphertext up to this is copied into the output's own blocks */

int tls_buffers_prepare(struct tls_buffers *buffers)
{
    if (buffers->scratch != NULL)
        return 0;
    buffers->scratch = malloc(TLS_RECORD_MAX);
    buffers->allocations++;
    return buffers->scratch != NULL ? 0 : -ENOMEM;
}

void tls_buffers_deinit(struct tls_buffers *buffers)
{
    assert(buffers->in_use == 0);
    while (buffers->free != NULL) {
        struct tls_chunk *chunk = buffers->free;
        buffers->free = chunk->next;
        free(chunk);
    }
    free(buffers->scratch);
    *buffers = (struct tls_buffers){0};
}

static void tls_chunk_release(struct conn_ref *ref)
{
    struct tls_chunk *chunk = list_entry(ref, struct tls_chunk, ref);
    struct tls_buffers *buffers = chunk->owner;
    assert(buffers->in_use > 0);
    buffers->in_use--;
    if (buffers->free_count == TLS_CHUNK_FREE_MAX) {
        free(chunk);
        return;
    }
    chunk->next = buffers->free;
    buffers->free = chunk;
    buffers->free_count++;
}

static struct tls_chunk *tls_chunk_take(struct tls_buffers *buffers)
{
    struct tls_chunk *chunk = buffers->free;
    if (chunk != NULL) {
        assert(buffers->free_count > 0);
        buffers->free = chunk->next;
        buffers->free_count--;
    } else {
        chunk = malloc(sizeof(*chunk));
        if (chunk == NULL)
            return NULL;
        buffers->allocations++;
    }
    chunk->ref.release = tls_chunk_release;
    chunk->owner = buffers;
    chunk->next = NULL;
    buffers->in_use++;
    return chunk;
}

int tls_buffers_send(struct tls_buffers *buffers, struct tx_pool *pool, struct tx_queue *queue,
                     const char *bytes, size_t size)
{
    if (size <= TLS_COPY_MAX)
        return tx_copy(pool, queue, bytes, size);
    while (size > 0) {
        struct tls_chunk *chunk = tls_chunk_take(buffers);
        if (chunk == NULL)
            return -ENOMEM;
        size_t part = size < sizeof(chunk->bytes) ? size : sizeof(chunk->bytes);
        memcpy(chunk->bytes, bytes, part);
        if (tx_refer(pool, queue, chunk->bytes, part, &chunk->ref) < 0) {
            tls_chunk_release(&chunk->ref);
            return -ENOMEM;
        }
        bytes += part;
        size -= part;
    }
    return 0;
}
