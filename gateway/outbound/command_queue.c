#include "gateway/outbound/command_queue.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>

#include "gateway/base/pool.h"

void command_queue_init(struct command_queue *queue)
{
    queue->slots = queue->own;
    queue->capacity = COMMAND_QUEUE_INLINE;
    queue->first = 0;
    queue->count = 0;
}

void command_queue_deinit(struct command_queue *queue, struct pool *pool)
{
    if (queue->slots != queue->own)
        pool_free(pool, queue->slots, queue->capacity * sizeof(queue->slots[0]));
    command_queue_init(queue);
}

int command_queue_reserve(struct command_queue *queue, struct pool *pool, uint32_t more)
{
    uint32_t capacity = queue->capacity;

    while (capacity - queue->count < more)
        capacity *= 2;
    if (capacity == queue->capacity)
        return 0;
    struct client_command *slots = pool_alloc(pool, capacity * sizeof(slots[0]));
    if (slots == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < queue->count; i++)
        slots[i] = queue->slots[(queue->first + i) & (queue->capacity - 1)];
    if (queue->slots != queue->own)
        pool_free(pool, queue->slots, queue->capacity * sizeof(slots[0]));
    queue->slots = slots;
    queue->capacity = capacity;
    queue->first = 0;
    return 0;
}

void command_queue_push(struct command_queue *queue, struct client_command command)
{
    assert(queue->count < queue->capacity);
    queue->slots[(queue->first + queue->count) & (queue->capacity - 1)] = command;
    queue->count++;
}

const struct client_command *command_queue_head(const struct command_queue *queue)
{
    return queue->count == 0 ? NULL : &queue->slots[queue->first];
}

void command_queue_pop(struct command_queue *queue)
{
    assert(queue->count > 0);
    queue->first = (queue->first + 1) & (queue->capacity - 1);
    queue->count--;
}

const char *client_command_name(enum client_command_kind kind)
{
    static const char *const names[] = {
#define COMMAND_NAME(kind, name, timeout) [COMMAND_##kind] = name,
        COMMANDS(COMMAND_NAME)
#undef COMMAND_NAME
    };
    assert(kind < sizeof(names) / sizeof(names[0]));
    return names[kind];
}
