#pragma once

/*
 * One mail transaction's envelope, as it grows from MAIL to the end of the content, in one block of memory:
 *
 *     | sender | envelope identifier | first recipient | recipients, as the queue encodes them | trace field
 * | | fields that a submitted message may lack |
 *
 * The block comes from the pool, doubles when it is full, and goes back at RSET or at the end. Zeroed, a
 * transaction is empty. It belongs to its session.
 */

#include "proto/command.h"
#include "proto/slice.h"

#include <stdbool.h>
#include <stdint.h>

struct pool;
struct queue_envelope;
struct received;
struct recipient;

struct transaction {
    char *memory; /* NULL: empty */
    uint32_t capacity;
    uint32_t sender_size;
    uint32_t envid_size;
    uint32_t first_size; /* the first recipient's address, plain, for the trace field and the log */
    uint32_t recipients_size;
    uint32_t recipient_count;
    uint32_t refused_count; /* recipients that were refused */
    uint32_t trace_size;
    uint16_t date_size; /* of the Date field, with CRLF; 0: the message is not completed */
    uint16_t id_size;   /* of the Message-ID field behind it */
    enum smtp_body body : 8;
    enum smtp_ret ret : 8;
    bool is_smtputf8; /* SMTPUTF8 was declared */
};

/* Starts an empty transaction with what MAIL said, which is copied. 0 or -ENOMEM. */
int transaction_begin(struct transaction *transaction, struct pool *pool, const struct smtp_command *mail)
    __attribute__((warn_unused_result));

/* Adds a recipient that is queued under `key`; both are copied. 0, -ENOMEM, or -ENOSPC: an envelope holds no
 * more. */
int transaction_add(struct transaction *transaction, struct pool *pool, const struct recipient *recipient,
                    struct smtp_slice key) __attribute__((warn_unused_result));

/*
 * Writes the trace field, whose `recipient` is filled in here, and, `completes`, the fields that a submitted
 * message may lack; no recipient can be added after it. 0 or -ENOMEM.
 */
int transaction_trace(struct transaction *transaction, struct pool *pool, struct received *received,
                      bool completes) __attribute__((warn_unused_result));

/* Valid until the transaction is next changed. */
struct smtp_slice transaction_sender(const struct transaction *transaction);
struct smtp_slice
transaction_sole_recipient(const struct transaction *transaction); /* empty unless there is one */
struct smtp_slice transaction_envid(const struct transaction *transaction);
struct smtp_slice transaction_trace_text(const struct transaction *transaction);

/* The fields to add to a message without them; empty unless the message is to be completed. */
struct smtp_slice transaction_fields(const struct transaction *transaction, bool lacks_date, bool lacks_id);

/* Fills in the recipients; the slices of the meta are the caller's. */
void transaction_recipients(const struct transaction *transaction, struct queue_envelope *envelope);

/* Empties the transaction and gives its memory back. Harmless on an empty one. */
void transaction_reset(struct transaction *transaction, struct pool *pool);
