#pragma once

/*
 * One mail transaction's envelope, as it grows from MAIL to the end of the content, in one block of memory:
 *
 *     | sender | first recipient | recipients, as the queue encodes them | trace field |
 *
 * The block comes from the pool, doubles when it is full, and goes back at RSET or at the end. Zeroed, a
 * transaction is empty. It belongs to its session.
 */

#include "proto/slice.h"

#include <stdbool.h>
#include <stdint.h>

struct pool;
struct queue_envelope;
struct received;

struct transaction {
    char *memory; /* NULL: empty */
    uint32_t capacity;
    uint32_t sender_size;
    uint32_t first_size; /* the first recipient's address, plain, for the trace field and the log */
    uint32_t recipients_size;
    uint32_t recipient_count;
    uint32_t refused_count; /* recipients that were refused */
    uint32_t trace_size;
    uint32_t trace_stored; /* octets of the trace field that the queue has taken */
    bool is_8bitmime;      /* BODY=8BITMIME was declared */
    bool may_relay;        /* the client may send to any domain that has a route */
};

/* Starts an empty transaction; `sender` is copied. 0 or -ENOMEM. */
int transaction_begin(struct transaction *transaction, struct pool *pool, struct smtp_slice sender)
    __attribute__((warn_unused_result));

/* Adds a recipient that is queued under `key`; both are copied. 0, -ENOMEM, or -ENOSPC: an envelope holds no
 * more. */
int transaction_add(struct transaction *transaction, struct pool *pool, struct smtp_slice address,
                    struct smtp_slice key) __attribute__((warn_unused_result));

/* Writes the trace field, whose `recipient` is filled in here; no recipient can be added after it. 0 or
 * -ENOMEM. */
int transaction_trace(struct transaction *transaction, struct pool *pool, struct received *received)
    __attribute__((warn_unused_result));

/* Valid until the transaction is next changed. */
struct smtp_slice transaction_sender(const struct transaction *transaction);
struct smtp_slice
transaction_sole_recipient(const struct transaction *transaction); /* empty unless there is one */
struct smtp_slice transaction_trace_rest(const struct transaction *transaction); /* not stored yet */

/* Fills in the recipients; the slices of the meta are the caller's. */
void transaction_recipients(const struct transaction *transaction, struct queue_envelope *envelope);

/* Empties the transaction and gives its memory back. Harmless on an empty one. */
void transaction_reset(struct transaction *transaction, struct pool *pool);
