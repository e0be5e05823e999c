#include "gateway/net/tx.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What a block turns into while it carries the message header of a send over several blocks. */
struct tx_gather {
    struct tx_block *next;
    struct msghdr message;
    struct iovec pieces[TX_GATHER_MAX];
};

static_assert(sizeof(struct tx_gather) <= TX_BLOCK_SIZE, "a gathering fits into a block");

void tx_pool_init(struct tx_pool *pool)
{
    *pool = (struct tx_pool){0};
}

void tx_pool_deinit(struct tx_pool *pool)
{
    assert(pool->in_use == 0);
    while (pool->free != NULL) {
        struct tx_block *block = pool->free;
        pool->free = block->next;
        free(block);
    }
    pool->free_count = 0;
}

static struct tx_block *tx_block_take(struct tx_pool *pool)
{
    struct tx_block *block = pool->free;
    if (block != NULL) {
        assert(pool->free_count > 0);
        pool->free = block->next;
        pool->free_count--;
    } else {
        block = malloc(sizeof(*block));
        if (block == NULL)
            return NULL;
        pool->allocations++;
    }
    block->next = NULL;
    block->first = 0;
    block->count = 0;
    block->sealed = 0;
    block->used = 0;
    pool->in_use++;
    return block;
}

static void tx_block_give(struct tx_pool *pool, struct tx_block *block)
{
    assert(pool->in_use > 0);
    pool->in_use--;
    if (pool->free_count == TX_FREE_MAX) {
        free(block);
        return;
    }
    block->next = pool->free;
    pool->free = block;
    pool->free_count++;
}

static struct tx_block *tx_grow(struct tx_pool *pool, struct tx_queue *queue)
{
    struct tx_block *block = tx_block_take(pool);
    if (block == NULL)
        return NULL;
    if (queue->last != NULL)
        queue->last->next = block;
    else
        queue->first = block;
    queue->last = block;
    return block;
}

static void tx_add_piece(struct tx_block *block, const char *bytes, size_t size, struct conn_ref *ref)
{
    assert(block->count < TX_BLOCK_PIECES);
    assert(size > 0);
    union {
        const char *in;
        void *out;
    } base = {.in = bytes}; /* an iovec cannot say that its bytes are only read */
    block->pieces[block->count] = (struct iovec){.iov_base = base.out, .iov_len = size};
    block->refs[block->count] = ref;
    block->count++;
}

/* Whether the last piece is copied bytes that the next copied bytes follow in memory. */
static bool tx_can_extend(const struct tx_block *block)
{
    if (block->count == block->first || block->count <= block->sealed)
        return false;
    const struct iovec *last = &block->pieces[block->count - 1];
    return (const char *)last->iov_base + last->iov_len == block->bytes + block->used && block->used > 0;
}

static bool tx_has_room(const struct tx_block *block)
{
    if (block->used == sizeof(block->bytes))
        return false;
    return block->count < TX_BLOCK_PIECES || tx_can_extend(block);
}

int tx_copy(struct tx_pool *pool, struct tx_queue *queue, const char *bytes, size_t size)
{
    while (size > 0) {
        struct tx_block *block = queue->last;
        if (block == NULL || !tx_has_room(block))
            block = tx_grow(pool, queue);
        if (block == NULL)
            return -ENOMEM;
        size_t room = sizeof(block->bytes) - block->used;
        size_t part = size < room ? size : room;
        char *place = block->bytes + block->used;
        memcpy(place, bytes, part);
        if (tx_can_extend(block))
            block->pieces[block->count - 1].iov_len += part;
        else
            tx_add_piece(block, place, part, NULL);
        block->used = (uint16_t)(block->used + part);
        queue->bytes += part;
        bytes += part;
        size -= part;
    }
    return 0;
}

int tx_refer(struct tx_pool *pool, struct tx_queue *queue, const char *bytes, size_t size,
             struct conn_ref *ref)
{
    assert(size > 0);
    struct tx_block *block = queue->last;
    if (block == NULL || block->count == TX_BLOCK_PIECES)
        block = tx_grow(pool, queue);
    if (block == NULL)
        return -ENOMEM;
    tx_add_piece(block, bytes, size, ref);
    queue->bytes += size;
    return 0;
}

static void tx_message_init(struct msghdr *message, struct iovec *pieces, size_t count)
{
    *message = (struct msghdr){.msg_iov = pieces, .msg_iovlen = count};
}

/* How many of the block's pieces, from its first, fit into what one send may hold; *size counts them in. */
static size_t tx_fitting(const struct tx_block *block, size_t most, size_t *size)
{
    size_t count = 0;
    while (block->first + count < block->count && count < most && *size < TX_GATHER_BYTES)
        *size += block->pieces[block->first + count++].iov_len;
    return count;
}

/* Several blocks: their pieces are listed in a block of their own. NULL without memory. */
static struct msghdr *tx_gather(struct tx_pool *pool, struct tx_queue *queue)
{
    assert(queue->gather == NULL);
    queue->gather = tx_block_take(pool);
    if (queue->gather == NULL)
        return NULL;
    struct tx_gather *gather = (struct tx_gather *)(void *)queue->gather;
    size_t count = 0;
    size_t size = 0;
    for (struct tx_block *block = queue->first; block != NULL; block = block->next) {
        size_t pieces = tx_fitting(block, TX_GATHER_MAX - count, &size);
        if (pieces == 0)
            break;
        memcpy(gather->pieces + count, block->pieces + block->first, pieces * sizeof(struct iovec));
        count += pieces;
        block->sealed = (uint16_t)(block->first + pieces);
    }
    assert(count > 0);
    tx_message_init(&gather->message, gather->pieces, count);
    return &gather->message;
}

void tx_prepare(struct tx_pool *pool, struct tx_queue *queue, struct io_uring_sqe *sqe, int fd)
{
    assert(queue->bytes > 0);
    const int flags = MSG_NOSIGNAL | MSG_WAITALL;
    struct tx_block *block = queue->first;
    if (block->next != NULL) {
        struct msghdr *message = tx_gather(pool, queue);
        if (message != NULL) {
            io_uring_prep_sendmsg(sqe, fd, message, (unsigned)flags);
            return;
        }
    }
    size_t size_all = 0;
    size_t count = tx_fitting(block, TX_BLOCK_PIECES, &size_all);
    struct iovec *pieces = &block->pieces[block->first];
    assert(count > 0);
    block->sealed = (uint16_t)(block->first + count);
    if (count == 1) {
        size_t size = pieces->iov_len < TX_SEND_MAX ? pieces->iov_len : TX_SEND_MAX;
        io_uring_prep_send(sqe, fd, pieces->iov_base, size, flags);
        return;
    }
    tx_message_init(&block->message, pieces, count);
    io_uring_prep_sendmsg(sqe, fd, &block->message, (unsigned)flags);
}

/* Takes the first piece off the queue; its bytes are accounted for by the caller. */
static void tx_pop_piece(struct tx_pool *pool, struct tx_queue *queue)
{
    struct tx_block *block = queue->first;
    struct conn_ref *ref = block->refs[block->first];
    block->first++;
    if (block->first == block->count) {
        queue->first = block->next;
        if (queue->first == NULL)
            queue->last = NULL;
        tx_block_give(pool, block);
    }
    /* Last, because it may queue more. */
    if (ref != NULL)
        ref->release(ref);
}

static void tx_end_flight(struct tx_pool *pool, struct tx_queue *queue)
{
    if (queue->gather != NULL) {
        tx_block_give(pool, queue->gather);
        queue->gather = NULL;
    }
    for (struct tx_block *block = queue->first; block != NULL && block->sealed > 0; block = block->next)
        block->sealed = 0;
}

void tx_consume(struct tx_pool *pool, struct tx_queue *queue, size_t sent)
{
    assert(sent <= queue->bytes);
    tx_end_flight(pool, queue);
    while (sent > 0) {
        struct tx_block *block = queue->first;
        assert(block != NULL && block->first < block->count);
        struct iovec *piece = &block->pieces[block->first];
        if (sent < piece->iov_len) {
            piece->iov_base = (char *)piece->iov_base + sent;
            piece->iov_len -= sent;
            queue->bytes -= sent;
            return;
        }
        sent -= piece->iov_len;
        queue->bytes -= piece->iov_len;
        tx_pop_piece(pool, queue);
    }
}

const char *tx_front(const struct tx_queue *queue, size_t *size)
{
    assert(queue->bytes > 0);
    const struct tx_block *block = queue->first;
    assert(block->first < block->count);
    *size = block->pieces[block->first].iov_len;
    return block->pieces[block->first].iov_base;
}

size_t tx_peek(const struct tx_queue *queue, char *into, size_t size)
{
    size_t total = 0;
    for (const struct tx_block *block = queue->first; block != NULL; block = block->next) {
        for (uint32_t index = block->first; index < block->count && total < size; index++) {
            const struct iovec *piece = &block->pieces[index];
            size_t part = piece->iov_len < size - total ? piece->iov_len : size - total;
            memcpy(into + total, piece->iov_base, part);
            total += part;
        }
    }
    assert(total <= queue->bytes);
    return total;
}

void tx_drop(struct tx_pool *pool, struct tx_queue *queue)
{
    tx_end_flight(pool, queue);
    /* Detached first: a release that looks at the connection finds nothing pending. */
    struct tx_queue rest = *queue;
    *queue = (struct tx_queue){0};
    while (rest.first != NULL)
        tx_pop_piece(pool, &rest);
}
