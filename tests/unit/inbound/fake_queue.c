#include "tests/unit/inbound/fake_queue.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/message/recipient.h"

struct queue_draft {
    struct queue *queue;
    struct queue_draft *next;
    struct fake_message message;
    char *space; /* what was reserved: a block of its own, so that a touch too late is found out */
    size_t space_size;
    queue_committed *committed;
    void *context;
};

static void message_free(struct fake_message *message)
{
    free(message->content);
    free(message->recipients);
    free(message->encoded);
}

void fake_queue_init(struct queue *queue)
{
    *queue = (struct queue){.state = QUEUE_OPEN, .room = UINT64_MAX, .next_id = 1};
}

void fake_queue_deinit(struct queue *queue)
{
    assert(queue->pending == NULL && queue->drafts_open == 0);
    for (size_t i = 0; i < queue->message_count; i++)
        message_free(&queue->messages[i]);
}

enum queue_state queue_state(const struct queue *queue)
{
    return queue->state;
}

/* Two octets for the size of the stored form, one for that of the key, then both. */
size_t queue_recipient_size(size_t address_size, size_t key_size)
{
    return 3 + address_size + key_size;
}

size_t queue_recipient_encode(void *buffer, const char *address, size_t address_size, const char *key,
                              size_t key_size)
{
    uint8_t *to = buffer;
    assert(address_size <= QUEUE_ADDRESS_MAX && key_size > 0 && key_size <= QUEUE_KEY_MAX);
    to[0] = (uint8_t)address_size;
    to[1] = (uint8_t)(address_size >> 8);
    to[2] = (uint8_t)key_size;
    memcpy(to + 3, address, address_size);
    memcpy(to + 3 + address_size, key, key_size);
    return queue_recipient_size(address_size, key_size);
}

bool fake_recipients_next(const void *encoded, size_t size, size_t *at, struct fake_recipient *recipient)
{
    assert(*at <= size);
    if (*at == size)
        return false;
    const uint8_t *from = (const uint8_t *)encoded + *at;
    const size_t stored_size = from[0] | (size_t)from[1] << 8;
    *recipient = (struct fake_recipient){(const char *)from + 3, stored_size,
                                         (const char *)from + 3 + stored_size, from[2]};
    *at += queue_recipient_size(stored_size, from[2]);
    return true;
}

char *fake_recipients_text(const void *encoded, size_t size)
{
    struct fake_recipient each;
    char *text = NULL;
    size_t text_size = 0;
    FILE *file = open_memstream(&text, &text_size);
    assert(file != NULL);
    for (size_t at = 0; fake_recipients_next(encoded, size, &at, &each);) {
        const struct recipient recipient = recipient_decode(each.stored, each.stored_size);
        fprintf(file, "%.*s %.*s", (int)recipient.address.size, recipient.address.data, (int)each.key_size,
                each.key);
        if (recipient.notify != 0)
            fprintf(file, " notify=%u", recipient.notify);
        if (recipient.orcpt.size > 0)
            fprintf(file, " orcpt=%.*s", (int)recipient.orcpt.size, recipient.orcpt.data);
        fputc('\n', file);
    }
    fclose(file);
    return text;
}

struct queue_draft *queue_draft_new(struct queue *queue)
{
    if (queue->state != QUEUE_OPEN || queue->is_out_of_memory)
        return NULL;
    struct queue_draft *draft = calloc(1, sizeof(*draft));
    assert(draft != NULL);
    draft->queue = queue;
    draft->message.id = queue->next_id++;
    queue->drafts_open++;
    return draft;
}

static void content_add(struct fake_message *message, const void *bytes, size_t size)
{
    if (size == 0)
        return;
    if (message->size + size > message->capacity) {
        message->capacity = 2 * (message->size + size);
        message->content = realloc(message->content, message->capacity);
        assert(message->content != NULL);
    }
    memcpy(message->content + message->size, bytes, size);
    message->size += size;
}

int64_t queue_draft_append(struct queue_draft *draft, const void *bytes, size_t size)
{
    struct queue *queue = draft->queue;
    assert(size > 0 && draft->space == NULL);
    if (queue->append_error != 0)
        return queue->append_error;
    if (queue->is_full || queue->room == 0) {
        queue->eagain_count++;
        return -EAGAIN;
    }
    const size_t taken = size < queue->room ? size : (size_t)queue->room;
    if (queue->room != UINT64_MAX)
        queue->room -= taken;
    content_add(&draft->message, bytes, taken);
    return (int64_t)taken;
}

static int reserve_error(struct queue *queue)
{
    if (queue->append_error != 0)
        return queue->append_error;
    if (queue->space == 0)
        return -ENOBUFS;
    if (queue->is_full || queue->room == 0) {
        queue->eagain_count++;
        return -EAGAIN;
    }
    return 0;
}

void *queue_draft_reserve(struct queue_draft *draft, size_t *size, int *error)
{
    struct queue *queue = draft->queue;
    assert(*size > 0 && draft->space == NULL);
    *error = reserve_error(queue);
    if (*error != 0)
        return NULL;
    if (*size > queue->space)
        *size = (size_t)queue->space;
    if (*size > queue->room)
        *size = (size_t)queue->room;
    draft->space = malloc(*size);
    draft->space_size = *size;
    assert(draft->space != NULL);
    return draft->space;
}

void queue_draft_filled(struct queue_draft *draft, size_t size)
{
    struct queue *queue = draft->queue;
    assert(draft->space != NULL && size <= draft->space_size);
    content_add(&draft->message, draft->space, size);
    queue->received += size;
    if (queue->room != UINT64_MAX)
        queue->room -= size < queue->room ? size : queue->room;
    free(draft->space);
    draft->space = NULL;
}

static void envelope_copy(struct fake_message *message, const struct queue_envelope *envelope)
{
    assert(envelope->meta_size <= sizeof(message->meta));
    assert(envelope->recipient_count > 0);
    assert(envelope->meta_size + envelope->recipients_size <= QUEUE_ENVELOPE_MAX);
    memcpy(message->meta, envelope->meta, envelope->meta_size);
    message->meta_size = envelope->meta_size;
    message->encoded_size = envelope->recipients_size;
    message->encoded = malloc(message->encoded_size);
    assert(message->encoded != NULL);
    memcpy(message->encoded, envelope->recipients, message->encoded_size);
    message->recipients = fake_recipients_text(message->encoded, message->encoded_size);
    message->recipient_count = envelope->recipient_count;
}

int queue_draft_commit(struct queue_draft *draft, const struct queue_envelope *envelope, int64_t now_ms,
                       queue_committed *committed, void *context)
{
    struct queue *queue = draft->queue;
    assert(now_ms > 0 && draft->space == NULL);
    if (queue->commit_error != 0)
        return queue->commit_error;
    if (queue->is_full) {
        queue->eagain_count++;
        return -EAGAIN;
    }
    envelope_copy(&draft->message, envelope);
    draft->committed = committed;
    draft->context = context;
    struct queue_draft **last = &queue->pending;
    while (*last != NULL)
        last = &(*last)->next;
    *last = draft;
    return 0;
}

void queue_draft_abort(struct queue_draft *draft)
{
    assert(draft->committed == NULL && draft->queue->drafts_open > 0);
    draft->queue->drafts_open--;
    draft->queue->drafts_aborted++;
    message_free(&draft->message);
    free(draft->space);
    free(draft);
}

uint64_t queue_draft_size(const struct queue_draft *draft)
{
    return draft->message.size;
}

uint64_t queue_draft_id(const struct queue_draft *draft)
{
    return draft->message.id;
}

void fake_queue_flush(struct queue *queue)
{
    while (!queue->holds_commits && queue->pending != NULL) {
        struct queue_draft *draft = queue->pending;
        queue->pending = draft->next;
        queue->drafts_open--;
        if (queue->committed_error == 0) {
            assert(queue->message_count < FAKE_MESSAGES_MAX);
            queue->messages[queue->message_count++] = draft->message;
        } else {
            message_free(&draft->message);
        }
        draft->committed(draft->context, draft->message.id, queue->committed_error);
        free(draft);
    }
}

void fake_queue_give_room(struct queue *queue, uint64_t room)
{
    queue->is_full = false;
    queue->room = room;
    queue->on_room(queue->context);
}
