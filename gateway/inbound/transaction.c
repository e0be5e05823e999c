#include "gateway/inbound/transaction.h"

#include "gateway/base/pool.h"
#include "gateway/message/envelope.h"
#include "gateway/message/received.h"
#include "queue/queue.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum { TRANSACTION_SIZE = 1024 }; /* octets to begin with: a sender, a recipient or five, a trace field */

static uint32_t recipients_offset(const struct transaction *transaction)
{
    return transaction->sender_size + transaction->first_size;
}

static uint32_t trace_offset(const struct transaction *transaction)
{
    return recipients_offset(transaction) + transaction->recipients_size;
}

static uint32_t used_size(const struct transaction *transaction)
{
    uint32_t used = trace_offset(transaction) + transaction->trace_size;
    assert(used <= transaction->capacity);
    return used;
}

/* Makes room for `size` more octets. */
static int reserve(struct transaction *transaction, struct pool *pool, size_t size)
{
    const uint32_t used = used_size(transaction);
    uint32_t capacity = transaction->capacity > 0 ? transaction->capacity : TRANSACTION_SIZE;
    while (capacity - used < size)
        capacity *= 2;
    assert(capacity <= 4 * QUEUE_ENVELOPE_MAX);
    if (capacity == transaction->capacity)
        return 0;

    char *memory = pool_alloc(pool, capacity);
    if (memory == NULL)
        return -ENOMEM;
    if (used > 0)
        memcpy(memory, transaction->memory, used);
    pool_free(pool, transaction->memory, transaction->capacity);
    transaction->memory = memory;
    transaction->capacity = capacity;
    return 0;
}

int transaction_begin(struct transaction *transaction, struct pool *pool, struct smtp_slice sender)
{
    assert(transaction->memory == NULL);
    assert(sender.size <= SMTP_PATH_MAX);
    int error = reserve(transaction, pool, sender.size);
    if (error != 0)
        return error;
    if (sender.size > 0)
        memcpy(transaction->memory, sender.data, sender.size);
    transaction->sender_size = sender.size;
    return 0;
}

int transaction_add(struct transaction *transaction, struct pool *pool, struct smtp_slice address,
                    struct smtp_slice key)
{
    assert(transaction->memory != NULL && transaction->trace_size == 0);
    assert(address.size > 0 && address.size <= QUEUE_ADDRESS_MAX);
    assert(key.size > 0 && key.size <= QUEUE_KEY_MAX);
    const size_t encoded = queue_recipient_size(address.size, key.size);
    if (ENVELOPE_SIZE_MAX + transaction->recipients_size + encoded > QUEUE_ENVELOPE_MAX)
        return -ENOSPC;

    const bool is_first = transaction->recipient_count == 0;
    int error = reserve(transaction, pool, encoded + (is_first ? address.size : 0));
    if (error != 0)
        return error;
    if (is_first) {
        memcpy(transaction->memory + recipients_offset(transaction), address.data, address.size);
        transaction->first_size = address.size;
    }
    size_t written = queue_recipient_encode(transaction->memory + trace_offset(transaction), address.data,
                                            address.size, key.data, key.size);
    assert(written == encoded);
    transaction->recipients_size += (uint32_t)written;
    transaction->recipient_count++;
    return 0;
}

int transaction_trace(struct transaction *transaction, struct pool *pool, struct received *received)
{
    assert(transaction->recipient_count > 0 && transaction->trace_size == 0);
    received->recipient = transaction_sole_recipient(transaction);
    int error = reserve(transaction, pool, received_bound(received));
    if (error != 0)
        return error;
    received->recipient = transaction_sole_recipient(transaction); /* it may have moved */
    transaction->trace_size =
        (uint32_t)received_write(received, transaction->memory + trace_offset(transaction));
    assert(transaction->trace_size > 0);
    return 0;
}

struct smtp_slice transaction_sender(const struct transaction *transaction)
{
    return (struct smtp_slice){transaction->memory, transaction->sender_size};
}

struct smtp_slice transaction_sole_recipient(const struct transaction *transaction)
{
    if (transaction->recipient_count != 1)
        return (struct smtp_slice){NULL, 0};
    return (struct smtp_slice){transaction->memory + transaction->sender_size, transaction->first_size};
}

struct smtp_slice transaction_trace_rest(const struct transaction *transaction)
{
    assert(transaction->trace_stored <= transaction->trace_size);
    return (struct smtp_slice){transaction->memory + trace_offset(transaction) + transaction->trace_stored,
                               transaction->trace_size - transaction->trace_stored};
}

void transaction_recipients(const struct transaction *transaction, struct queue_envelope *envelope)
{
    assert(transaction->recipient_count > 0);
    envelope->recipients = transaction->memory + recipients_offset(transaction);
    envelope->recipients_size = transaction->recipients_size;
    envelope->recipient_count = transaction->recipient_count;
}

void transaction_reset(struct transaction *transaction, struct pool *pool)
{
    pool_free(pool, transaction->memory, transaction->capacity);
    *transaction = (struct transaction){0};
}
