#include "queue/message.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "queue/lane.h"
#include "queue/shard.h"

bool recipient_next(const uint8_t *recipients, uint32_t size, uint32_t *at, struct recipient_view *view)
{
    struct format_recipient head;
    if (*at > size || size - *at < sizeof(head))
        return false;
    memcpy(&head, recipients + *at, sizeof(head));
    uint32_t need = (uint32_t)sizeof(head) + head.address_size + head.key_size;
    if (size - *at < need || head.address_size > QUEUE_ADDRESS_MAX || head.key_size > QUEUE_KEY_MAX)
        return false;
    view->address = (const char *)recipients + *at + sizeof(head);
    view->address_size = head.address_size;
    view->key = view->address + head.address_size;
    view->key_size = head.key_size;
    *at += need;
    return true;
}

static bool same_key(const struct recipient_view *a, const struct recipient_view *b)
{
    return a->key_size == b->key_size && memcmp(a->key, b->key, a->key_size) == 0;
}

/* Entries are runs of recipients with the same key, of at most `most`. Calls each() for the
 * first recipient of a run and its length; returns the number of runs, or -EBADMSG. */
static int64_t each_run(const struct queue_envelope *envelope, uint32_t most,
                        int (*each)(void *context, uint32_t first, uint16_t count,
                                    const struct recipient_view *view),
                        void *context)
{
    struct recipient_view run = {0};
    struct recipient_view view;
    uint32_t at = 0;
    uint32_t run_first = 0;
    int64_t runs = 0;
    for (uint32_t i = 0; i < envelope->recipient_count; i++) {
        if (!recipient_next(envelope->recipients, envelope->recipients_size, &at, &view))
            return -EBADMSG;
        bool goes_on = i > run_first && i - run_first < most && same_key(&run, &view);
        if (i > 0 && !goes_on) {
            int error = each ? each(context, run_first, (uint16_t)(i - run_first), &run) : 0;
            if (error)
                return error;
            run_first = i;
            runs++;
        }
        if (run_first == i)
            run = view;
    }
    if (envelope->recipient_count == 0 || at != envelope->recipients_size)
        return -EBADMSG;
    int error = each ? each(context, run_first, (uint16_t)(envelope->recipient_count - run_first), &run) : 0;
    return error ? error : runs + 1;
}

struct entry_maker {
    struct queue *queue;
    struct message *message;
};

static int entry_make(void *context, uint32_t first, uint16_t count, const struct recipient_view *view)
{
    struct entry_maker *maker = context;
    struct message *message = maker->message;
    struct entry *entry = &message->entries[message->entry_count];
    *entry = (struct entry){
        .message = message,
        .first = first,
        .count = (uint8_t)count,
        .pending = entry_mask(count),
        .state = ENTRY_HELD,
    };
    entry->lane = lane_ref(maker->queue, view->key, view->key_size);
    if (!entry->lane)
        return -ENOMEM;
    message->entry_count++;
    message->active++;
    message->left++;
    return 0;
}

static size_t message_size(uint32_t entry_count)
{
    return sizeof(struct message) + entry_count * sizeof(struct entry);
}

struct message *message_new(struct queue *queue, uint64_t id, const struct queue_envelope *envelope,
                            int *error)
{
    int64_t runs = each_run(envelope, queue->options.entry_recipients, NULL, NULL);
    if (runs < 0) {
        *error = (int)runs;
        return NULL;
    }
    struct message *message = memory_alloc(&queue->memory, message_size((uint32_t)runs));
    *error = -ENOMEM;
    if (!message)
        return NULL;
    *message = (struct message){.id = id};
    struct entry_maker maker = {queue, message};
    if (each_run(envelope, queue->options.entry_recipients, entry_make, &maker) < 0) {
        for (uint32_t i = 0; i < message->entry_count; i++)
            lane_unref(message->entries[i].lane);
        memory_free(&queue->memory, message, message_size((uint32_t)runs));
        return NULL;
    }
    assert(message->entry_count == runs);
    *error = 0;
    return message;
}

void message_free(struct queue *queue, struct message *message)
{
    if (!message)
        return;
    segment_unhold(&message->holder);
    for (uint32_t i = 0; i < message->entry_count; i++) {
        uint8_t state = message->entries[i].state;
        if (state == ENTRY_READY || (state == ENTRY_HELD && message->moving))
            lane_remove(&message->entries[i]);
    }
    for (uint32_t i = 0; i < message->entry_count; i++)
        if (message->entries[i].state != ENTRY_GONE)
            lane_unref(message->entries[i].lane);
    memory_free(&queue->memory, message, message_size(message->entry_count));
}

bool commit_parse(const void *payload, uint32_t size, struct commit_view *view)
{
    if (size < sizeof(view->head))
        return false;
    memcpy(&view->head, payload, sizeof(view->head));
    uint64_t pieces = (uint64_t)view->head.piece_count * sizeof(struct format_piece);
    uint64_t need = sizeof(view->head) + pieces + view->head.meta_size + view->head.recipients_size;
    if (need != size)
        return false;
    view->pieces = (const struct format_piece *)(const void *)((const uint8_t *)payload + sizeof(view->head));
    view->meta = (const uint8_t *)(view->pieces + view->head.piece_count);
    view->recipients = view->meta + view->head.meta_size;
    return true;
}

uint64_t commit_log_bytes(const struct commit_view *view, uint32_t payload_size)
{
    return view->head.content_size + view->head.piece_count * sizeof(struct format_record) +
           format_record_size(payload_size);
}

uint32_t commit_oldest_segment(const struct commit_view *view, uint32_t commit_segment)
{
    uint32_t oldest = commit_segment;
    for (uint32_t i = 0; i < view->head.piece_count; i++)
        if ((int32_t)(view->pieces[i].segment - oldest) < 0)
            oldest = view->pieces[i].segment;
    return oldest;
}
