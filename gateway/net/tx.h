#pragma once

/*
 * The output of a connection on its way to the kernel: pieces (copied bytes, static bytes, references) in the
 * order of their sending, kept in blocks that exist only while output is pending.
 *
 * A queue and its pool belong to one loop's thread. While a send is in flight, pieces may be added, but
 * nothing that the kernel looks at moves or changes.
 */

#include <assert.h>
#include <liburing.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define TX_BLOCK_SIZE   2048
#define TX_BLOCK_PIECES 24
#define TX_GATHER_MAX   120 /* pieces in one send */
#define TX_GATHER_BYTES                                                                                      \
    ((size_t)1 << 20)                 /* and beyond so many bytes none: each send's end is a sign of life */
#define TX_COPY_MAX 256               /* static bytes up to this are copied: one piece is cheaper than two */
#define TX_FREE_MAX 1024              /* blocks that a pool keeps */
#define TX_SEND_MAX ((size_t)1 << 30) /* bytes in one send; the result has 31 bits */

/* Bytes that are sent where they lie; `release` is called exactly once when they are needed no more. */
struct conn_ref {
    void (*release)(struct conn_ref *ref);
};

struct tx_block {
    struct tx_block *next;
    uint16_t first;  /* pieces before this one are sent */
    uint16_t count;  /* of pieces, sent ones included */
    uint16_t sealed; /* pieces before this one are in flight: they must not grow */
    uint16_t used;   /* bytes of `bytes` */
    struct msghdr message;
    struct iovec pieces[TX_BLOCK_PIECES];
    struct conn_ref *refs[TX_BLOCK_PIECES]; /* NULL for copied and static bytes */
    char bytes[TX_BLOCK_SIZE - 16 - sizeof(struct msghdr) -
               TX_BLOCK_PIECES * (sizeof(struct iovec) + sizeof(struct conn_ref *))];
};

static_assert(sizeof(struct tx_block) == TX_BLOCK_SIZE, "no hidden padding");

struct tx_pool {
    struct tx_block *free;
    uint32_t free_count;
    uint32_t in_use;
    uint64_t allocations; /* calls of malloc */
};

struct tx_queue {
    struct tx_block *first;
    struct tx_block *last;
    struct tx_block *gather; /* holds the message header of a send that spans blocks */
    size_t bytes;            /* not taken by the kernel yet */
};

void tx_pool_init(struct tx_pool *pool);
void tx_pool_deinit(struct tx_pool *pool);

/* 0 or -ENOMEM; then a part of the bytes may be queued, and the queue is fit only for tx_drop. */
int tx_copy(struct tx_pool *pool, struct tx_queue *queue, const char *bytes, size_t size)
    __attribute__((warn_unused_result));

/* Queues bytes by address; `ref` may be NULL. -ENOMEM: nothing is queued, the caller keeps the reference. */
int tx_refer(struct tx_pool *pool, struct tx_queue *queue, const char *bytes, size_t size,
             struct conn_ref *ref) __attribute__((warn_unused_result));

/*
 * Makes `sqe` send as much of the queue as one operation can. The queue must not be empty and no send of it
 * in flight. Without memory for the gathering of several blocks it sends the first block.
 */
void tx_prepare(struct tx_pool *pool, struct tx_queue *queue, struct io_uring_sqe *sqe, int fd);

/*
 * The send came home with `sent` bytes: takes them off and releases what is done with. A release may queue
 * more, but must not drop the queue.
 */
void tx_consume(struct tx_pool *pool, struct tx_queue *queue, size_t sent);

/* Where the queue's first bytes lie, and in `size` how many of them in a run. It must not be empty. */
const char *tx_front(const struct tx_queue *queue, size_t *size);

/* Copies the queue's first bytes, `size` at most, and leaves them there; returns how many. */
size_t tx_peek(const struct tx_queue *queue, char *into, size_t size);

/* Forgets all output and releases all references; no send may be in flight. */
void tx_drop(struct tx_pool *pool, struct tx_queue *queue);
