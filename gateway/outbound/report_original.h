/*
 * The original message, piece by piece, for a notice that returns it: from memory where it lies there, else
 * read back, one piece at a time, and checked. Only report*.c include this. Worker's thread only.
 */
#pragma once

#include "gateway/outbound/outbound.h"

enum original_state {
    ORIGINAL_IDLE,
    ORIGINAL_READING,
    ORIGINAL_READY, /* the next piece was read */
    ORIGINAL_GONE,  /* it cannot be read, is damaged, or there is no memory for it */
};

enum original_step {
    ORIGINAL_PIECE, /* there it is */
    ORIGINAL_WAIT,  /* it is being read; the loop wakes when it is there */
    ORIGINAL_LOST,  /* it and what follows cannot be had */
    ORIGINAL_END,   /* there is no further one */
};

struct original {
    struct outbound *outbound;
    const struct queue_delivery *delivery;
    uint32_t next; /* piece */
    enum original_state state;
    struct outbound_read read;
    void *block; /* of the pool; read.buffer is its aligned part */
    size_t block_size;
};

void original_init(struct original *original, struct outbound *outbound,
                   const struct queue_delivery *delivery);

/* Not while it is ORIGINAL_READING. Harmless on zeroed memory. */
void original_deinit(struct original *original);

/* The next piece; *piece is written for ORIGINAL_PIECE and good until original_pass. */
enum original_step original_look(struct original *original, struct smtp_slice *piece)
    __attribute__((warn_unused_result));

/* Done with that piece. */
void original_pass(struct original *original);

/* Begins again with the first piece. */
void original_rewind(struct original *original);
