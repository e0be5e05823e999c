#include "gateway/net/buffers.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define BUFFERS_CALM_TURNS 4096 /* so long is the window watched before it shrinks */

static void *buffers_map(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static int buffers_allocate(struct buffers *buffers)
{
    buffers->posted_ring = buffers_map(buffers->count * sizeof(struct io_uring_buf));
    buffers->memory = buffers_map((size_t)buffers->count * buffers->size);
    buffers->pieces = calloc(buffers->count, sizeof(*buffers->pieces));
    buffers->stack = calloc(buffers->count, sizeof(*buffers->stack));
    if (buffers->posted_ring == NULL || buffers->memory == NULL)
        return -ENOMEM;
    if (buffers->pieces == NULL || buffers->stack == NULL)
        return -ENOMEM;
    return 0;
}

int buffers_init(struct buffers *buffers, struct io_uring *ring, uint32_t count, uint32_t size)
{
    *buffers = (struct buffers){.count = count, .size = size};
    list_init(&buffers->starved);
    if (count < 2 || count > 32768 || (count & (count - 1)) != 0 || size < 64)
        return -EINVAL;
    int result = buffers_allocate(buffers);
    if (result < 0)
        return result;
    struct io_uring_buf_reg registration = {
        .ring_addr = (uint64_t)(uintptr_t)buffers->posted_ring,
        .ring_entries = count,
        .bgid = BUFFERS_GROUP,
    };
    result = io_uring_register_buf_ring(ring, &registration, 0);
    if (result < 0)
        return result;
    buffers->ring = ring;
    io_uring_buf_ring_init(buffers->posted_ring);
    buffers->window = count < BUFFERS_WINDOW_MIN ? count : BUFFERS_WINDOW_MIN;
    for (uint32_t id = 0; id < count; id++)
        buffers->stack[id] = (uint16_t)(count - 1 - id);
    buffers->stack_size = count;
    buffers_replenish(buffers);
    return 0;
}

void buffers_deinit(struct buffers *buffers)
{
    assert(buffers->held == 0);
    assert(list_is_empty(&buffers->starved));
    if (buffers->ring != NULL)
        io_uring_unregister_buf_ring(buffers->ring, BUFFERS_GROUP);
    if (buffers->posted_ring != NULL)
        munmap(buffers->posted_ring, buffers->count * sizeof(struct io_uring_buf));
    if (buffers->memory != NULL)
        munmap(buffers->memory, (size_t)buffers->count * buffers->size);
    free(buffers->pieces);
    free(buffers->stack);
    *buffers = (struct buffers){0};
    list_init(&buffers->starved);
}

uint32_t buffers_take(struct buffers *buffers, uint32_t cqe_flags)
{
    assert(cqe_flags & IORING_CQE_F_BUFFER);
    uint32_t id = cqe_flags >> IORING_CQE_BUFFER_SHIFT;
    assert(id < buffers->count);
    assert(buffers->posted > 0);
    buffers->posted--;
    return id;
}

void buffers_put(struct buffers *buffers, uint32_t id)
{
    assert(id < buffers->count);
    assert(buffers->stack_size < buffers->count);
    buffers->stack[buffers->stack_size++] = (uint16_t)id;
}

struct buffer_piece *buffers_copy(struct buffers *buffers, const char *bytes, uint32_t size)
{
    if (buffers->copied_bytes + size > BUFFERS_COPIES_MAX)
        return NULL;
    struct buffer_piece *piece = malloc(sizeof(*piece) + size);
    if (piece == NULL)
        return NULL;
    buffers->copied_bytes += size;
    *piece = (struct buffer_piece){.bytes = (char *)(piece + 1), .size = size, .id = -1, .capacity = size};
    memcpy(piece->bytes, bytes, size);
    return piece;
}

struct buffer_piece *buffers_hold(struct buffers *buffers, uint32_t id, uint32_t offset, uint32_t size,
                                  uint64_t *copied)
{
    assert(size > 0 && offset + size <= buffers->size);
    char *bytes = buffers_data(buffers, id) + offset;
    if (buffers->held >= buffers->count / 4) {
        struct buffer_piece *copy = buffers_copy(buffers, bytes, size);
        buffers_put(buffers, id);
        *copied += copy != NULL;
        return copy;
    }
    buffers->held++;
    struct buffer_piece *piece = &buffers->pieces[id];
    *piece = (struct buffer_piece){.bytes = bytes, .size = size, .id = (int32_t)id};
    return piece;
}

void buffers_release(struct buffers *buffers, struct buffer_piece *piece)
{
    if (piece->id < 0) {
        assert(buffers->copied_bytes >= piece->capacity);
        buffers->copied_bytes -= piece->capacity;
        free(piece);
        return;
    }
    assert(buffers->held > 0);
    buffers->held--;
    buffers_put(buffers, (uint32_t)piece->id);
}

void buffers_starved(struct buffers *buffers)
{
    buffers->posted_low = 0;
    buffers->calm_turns = 0;
    if (buffers->grown)
        return;
    uint32_t doubled = buffers->window * 2;
    buffers->window = doubled < buffers->count ? doubled : buffers->count;
    buffers->grown = true;
}

/* After a calm time in which less than half of the window was ever used, it shrinks by a quarter. */
static void buffers_judge_window(struct buffers *buffers)
{
    if (buffers->posted < buffers->posted_low)
        buffers->posted_low = buffers->posted;
    if (++buffers->calm_turns < BUFFERS_CALM_TURNS)
        return;
    if (buffers->posted_low > buffers->window / 2 && buffers->window > BUFFERS_WINDOW_MIN)
        buffers->window -= buffers->window / 4;
    buffers->posted_low = buffers->window;
    buffers->calm_turns = 0;
}

uint32_t buffers_replenish(struct buffers *buffers)
{
    buffers_judge_window(buffers);
    buffers->grown = false;
    int added = 0;
    const int mask = io_uring_buf_ring_mask(buffers->count);
    while (buffers->posted < buffers->window && buffers->stack_size > 0) {
        uint16_t id = buffers->stack[--buffers->stack_size];
        io_uring_buf_ring_add(buffers->posted_ring, buffers_data(buffers, id), buffers->size, id, mask,
                              added);
        buffers->posted++;
        added++;
    }
    if (added > 0)
        io_uring_buf_ring_advance(buffers->posted_ring, added);
    return buffers->posted;
}
