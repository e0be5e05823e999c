#include "gateway/outbound/report_original.h"

#include <assert.h>

void original_init(struct original *original, struct outbound *outbound,
                   const struct queue_delivery *delivery)
{
    *original = (struct original){.outbound = outbound, .delivery = delivery};
}

static void drop_block(struct original *original)
{
    assert(original->state != ORIGINAL_READING);
    if (original->block != NULL)
        pool_free(original->outbound->options.pool, original->block, original->block_size);
    original->block = NULL;
    original->state = ORIGINAL_IDLE;
}

void original_deinit(struct original *original)
{
    drop_block(original);
}

static void was_read(struct outbound_read *read, int32_t result)
{
    struct original *original = list_entry(read, struct original, read);
    const char *content = (const char *)read->buffer + read->range.skip;

    assert(original->state == ORIGINAL_READING);
    original->state = result >= 0 && queue_piece_check(read->piece, content) ? ORIGINAL_READY : ORIGINAL_GONE;
    loop_wake_within(original->outbound->options.loop, 0);
}

static enum original_step start_read(struct original *original, const struct queue_piece *piece)
{
    const struct outbound_options *options = &original->outbound->options;
    const struct queue_piece_range range = queue_piece_range(piece);

    assert(original->block == NULL);
    original->block_size = range.size + STORAGE_BLOCK;
    original->block = pool_alloc(options->pool, original->block_size);
    if (original->block == NULL) {
        original->state = ORIGINAL_GONE;
        return ORIGINAL_LOST;
    }
    const uintptr_t start =
        ((uintptr_t)original->block + STORAGE_BLOCK - 1) & ~(uintptr_t)(STORAGE_BLOCK - 1);
    original->state = ORIGINAL_READING;
    original->read = (struct outbound_read){
        .shard = original->delivery->queue,
        .piece = piece,
        .range = range,
        .buffer = (void *)start,
        .done = was_read,
    };
    options->read_piece(options->context, &original->read);
    return ORIGINAL_WAIT;
}

enum original_step original_look(struct original *original, struct smtp_slice *piece)
{
    const struct queue_delivery *delivery = original->delivery;

    assert(original->next <= delivery->piece_count);
    if (original->next == delivery->piece_count)
        return ORIGINAL_END;
    const struct queue_piece *next = &delivery->pieces[original->next];
    if (next->data != NULL) {
        *piece = (struct smtp_slice){next->data, next->size};
        return ORIGINAL_PIECE;
    }
    switch (original->state) {
    case ORIGINAL_IDLE:
        return start_read(original, next);
    case ORIGINAL_READING:
        return ORIGINAL_WAIT;
    case ORIGINAL_GONE:
        return ORIGINAL_LOST;
    case ORIGINAL_READY:
        break;
    }
    *piece = (struct smtp_slice){(const char *)original->read.buffer + original->read.range.skip, next->size};
    return ORIGINAL_PIECE;
}

void original_pass(struct original *original)
{
    assert(original->next < original->delivery->piece_count);
    drop_block(original);
    original->next++;
}

void original_rewind(struct original *original)
{
    drop_block(original);
    original->next = 0;
}
