#include "gateway/inbound/transaction.h"

#include "gateway/base/pool.h"
#include "gateway/message/envelope.h"
#include "gateway/message/received.h"
#include "gateway/message/recipient.h"
#include "gateway/message/submission.h"
#include "queue/queue.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum { TRANSACTION_SIZE = 1024 }; /* octets to begin with: a sender, a recipient or five, a trace field */

static uint32_t recipients_offset(const struct transaction *transaction)
{
    return transaction->sender_size + transaction->envid_size + transaction->first_size;
}

static uint32_t trace_offset(const struct transaction *transaction)
{
    return recipients_offset(transaction) + transaction->recipients_size;
}

static uint32_t fields_offset(const struct transaction *transaction)
{
    return trace_offset(transaction) + transaction->trace_size;
}

static uint32_t used_size(const struct transaction *transaction)
{
    uint32_t used = fields_offset(transaction) + transaction->date_size + transaction->id_size;
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

static char *put(char *to, struct smtp_slice text)
{
    if (text.size > 0)
        memcpy(to, text.data, text.size);
    return to + text.size;
}

int transaction_begin(struct transaction *transaction, struct pool *pool, const struct smtp_command *mail)
{
    const struct smtp_slice sender = mail->path.text;
    assert(transaction->memory == NULL);
    assert(sender.size <= SMTP_PATH_MAX && mail->envid.size <= ENVELOPE_ENVID_MAX);
    int error = reserve(transaction, pool, sender.size + mail->envid.size);
    if (error != 0)
        return error;
    put(put(transaction->memory, sender), mail->envid);
    transaction->sender_size = sender.size;
    transaction->envid_size = mail->envid.size;
    transaction->body = mail->body;
    transaction->ret = mail->ret;
    transaction->is_smtputf8 = mail->is_smtputf8;
    return 0;
}

int transaction_add(struct transaction *transaction, struct pool *pool, const struct recipient *recipient,
                    struct smtp_slice key)
{
    const struct smtp_slice address = recipient->address;
    char stored[RECIPIENT_SIZE_MAX];
    static_assert((int)RECIPIENT_SIZE_MAX <= (int)QUEUE_ADDRESS_MAX, "the queue takes every recipient");
    assert(transaction->memory != NULL && transaction->trace_size == 0);
    assert(key.size > 0 && key.size <= QUEUE_KEY_MAX);
    const size_t stored_size = recipient_encode(recipient, stored);
    const size_t encoded = queue_recipient_size(stored_size, key.size);
    if (ENVELOPE_SIZE_MAX + transaction->recipients_size + encoded > QUEUE_ENVELOPE_MAX)
        return -ENOSPC;

    const bool is_first = transaction->recipient_count == 0;
    int error = reserve(transaction, pool, encoded + (is_first ? address.size : 0));
    if (error != 0)
        return error;
    if (is_first) {
        put(transaction->memory + recipients_offset(transaction), address);
        transaction->first_size = address.size;
    }
    size_t written = queue_recipient_encode(transaction->memory + trace_offset(transaction), stored,
                                            stored_size, key.data, key.size);
    assert(written == encoded);
    transaction->recipients_size += (uint32_t)written;
    transaction->recipient_count++;
    return 0;
}

/* Both fields, one behind the other: so each can be stored alone. */
static void write_fields(struct transaction *transaction, const struct received *received)
{
    char *to = transaction->memory + fields_offset(transaction);
    char text[SUBMISSION_FIELDS_MAX];
    const struct submission_fields date = {.date = received->date};
    const struct submission_fields id = {.id = received->id, .hostname = received->hostname};
    const size_t date_size = submission_fields_write(&date, text);
    memcpy(to, text, date_size);
    const size_t id_size = submission_fields_write(&id, text);
    memcpy(to + date_size, text, id_size);
    transaction->date_size = (uint16_t)date_size;
    transaction->id_size = (uint16_t)id_size;
}

int transaction_trace(struct transaction *transaction, struct pool *pool, struct received *received,
                      bool completes)
{
    assert(transaction->recipient_count > 0 && transaction->trace_size == 0);
    received->recipient = transaction_sole_recipient(transaction);
    int error =
        reserve(transaction, pool, received_bound(received) + (completes ? SUBMISSION_FIELDS_MAX : 0));
    if (error != 0)
        return error;
    received->recipient = transaction_sole_recipient(transaction); /* it may have moved */
    transaction->trace_size =
        (uint32_t)received_write(received, transaction->memory + trace_offset(transaction));
    assert(transaction->trace_size > 0);
    if (completes)
        write_fields(transaction, received);
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
    return (struct smtp_slice){transaction->memory + transaction->sender_size + transaction->envid_size,
                               transaction->first_size};
}

struct smtp_slice transaction_envid(const struct transaction *transaction)
{
    return (struct smtp_slice){transaction->memory + transaction->sender_size, transaction->envid_size};
}

struct smtp_slice transaction_trace_text(const struct transaction *transaction)
{
    return (struct smtp_slice){transaction->memory + trace_offset(transaction), transaction->trace_size};
}

struct smtp_slice transaction_fields(const struct transaction *transaction, bool lacks_date, bool lacks_id)
{
    const uint32_t skipped = lacks_date ? 0 : transaction->date_size;
    const uint32_t size = (lacks_date ? transaction->date_size : 0u) + (lacks_id ? transaction->id_size : 0u);
    return (struct smtp_slice){transaction->memory + fields_offset(transaction) + skipped, size};
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
