#pragma once

/*
 * A queue in memory that does what a test tells it: stands in for the sources of queue/ behind queue/queue.h,
 * as far as the receiving side uses that. Single thread.
 */

#include <stdbool.h>

#include "queue/queue.h"

enum { FAKE_MESSAGES_MAX = 64 };

struct fake_message {
    uint64_t id;
    char *content;
    size_t size;
    size_t capacity;
    char meta[1024];
    size_t meta_size;
    char *recipients; /* fake_recipients_text */
    char *encoded;    /* as queue_recipient_encode wrote them */
    size_t encoded_size;
    uint32_t recipient_count;
};

struct queue {
    /* What the test sets. */
    enum queue_state state;
    bool is_full;          /* append and commit answer -EAGAIN */
    uint64_t room;         /* so many octets are taken before is_full sets itself; UINT64_MAX: no end */
    int append_error;      /* append and reserve answer this */
    uint64_t space;        /* reserve gives so many octets at most; 0: none, which it begins with */
    int commit_error;      /* commit answers this at once */
    int committed_error;   /* what committed() is told */
    bool holds_commits;    /* fake_queue_flush does nothing */
    bool is_out_of_memory; /* no draft can be had */
    void (*on_room)(void *context);
    void *context;

    /* What it did. */
    uint32_t drafts_open;
    uint32_t drafts_aborted;
    uint32_t eagain_count;
    uint64_t received; /* octets that were received in place */
    uint64_t next_id;
    struct queue_draft *pending; /* to be committed, in order */
    struct fake_message messages[FAKE_MESSAGES_MAX];
    size_t message_count;
};

void fake_queue_init(struct queue *queue);
void fake_queue_deinit(struct queue *queue);

/* What is encoded, a line each: the address and the key, for those with wishes also " notify=N" and "
 * orcpt=..."; the caller frees. */
char *fake_recipients_text(const void *encoded, size_t size);

/* The next of the encoded recipients, as the queue was given it; false behind the last. `at` begins at 0. */
struct fake_recipient {
    const char *stored;
    size_t stored_size;
    const char *key;
    size_t key_size;
};
bool fake_recipients_next(const void *encoded, size_t size, size_t *at, struct fake_recipient *recipient);

/* Completes the commits, unless they are held, as queue_flush would at the end of a turn. */
void fake_queue_flush(struct queue *queue);

/* `room` octets more may come. */
void fake_queue_give_room(struct queue *queue, uint64_t room);
