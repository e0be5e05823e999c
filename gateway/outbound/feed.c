#include "gateway/outbound/feed.h"

#include <assert.h>

#include "gateway/outbound/client.h"
#include "gateway/outbound/convert.h"
#include "gateway/outbound/site.h"

enum window_state {
    WINDOW_FREE,
    WINDOW_READING,
    WINDOW_READY,
    WINDOW_DAMAGED,
    WINDOW_UNREADABLE,
    WINDOW_SENDING,
};

struct feed_window {
    struct job *job;
    struct outbound_read read;
    struct conn_ref ref;
    void *block; /* of the pool; read.buffer is its aligned part */
    size_t block_size;
    uint32_t piece;
    enum window_state state;
};

static struct pool *job_pool(const struct job *job)
{
    return job->site->outbound->options.pool;
}

static void window_free(struct feed_window *window)
{
    assert(window->state != WINDOW_READING && window->state != WINDOW_FREE);
    pool_free(job_pool(window->job), window->block, window->block_size);
    window->block = NULL;
    window->state = WINDOW_FREE;
}

static void window_sent(struct conn_ref *ref)
{
    struct feed_window *window = list_entry(ref, struct feed_window, ref);
    struct job *job = window->job;

    window_free(window);
    feed_progressed(job);
    job_unhold(job);
}

static void window_read(struct outbound_read *read, int32_t result)
{
    struct feed_window *window = list_entry(read, struct feed_window, read);
    struct job *job = window->job;

    assert(window->state == WINDOW_READING);
    if (result < 0)
        window->state = WINDOW_UNREADABLE;
    else if (!queue_piece_check(read->piece, (const char *)read->buffer + read->range.skip))
        window->state = WINDOW_DAMAGED;
    else
        window->state = WINDOW_READY;
    feed_progressed(job);
    job_unhold(job);
}

static struct feed_window *windows_of(struct job *job)
{
    if (job->windows == NULL) {
        job->windows = pool_alloc(job_pool(job), FEED_WINDOWS * sizeof(*job->windows));
        if (job->windows == NULL)
            return NULL;
        for (uint32_t i = 0; i < FEED_WINDOWS; i++)
            job->windows[i] = (struct feed_window){.job = job, .ref = {window_sent}};
    }
    return job->windows;
}

static struct feed_window *window_find(struct job *job, enum window_state state, uint32_t piece)
{
    for (uint32_t i = 0; job->windows != NULL && i < FEED_WINDOWS; i++) {
        struct feed_window *window = &job->windows[i];
        if (state == WINDOW_FREE
                ? window->state == WINDOW_FREE
                : window->state != WINDOW_FREE && window->state != WINDOW_SENDING && window->piece == piece)
            return window;
    }
    return NULL;
}

/* False: no memory. */
static bool window_start(struct feed_window *window, uint32_t index)
{
    struct job *job = window->job;
    struct outbound *outbound = job->site->outbound;
    const struct queue_piece *piece = &job->delivery->pieces[index];
    struct queue_piece_range range = queue_piece_range(piece);

    assert(piece->data == NULL && window->state == WINDOW_FREE);
    window->block_size = range.size + STORAGE_BLOCK;
    window->block = pool_alloc(outbound->options.pool, window->block_size);
    if (window->block == NULL)
        return false;
    uintptr_t start = ((uintptr_t)window->block + STORAGE_BLOCK - 1) & ~(uintptr_t)(STORAGE_BLOCK - 1);
    window->piece = index;
    window->state = WINDOW_READING;
    window->read = (struct outbound_read){
        .shard = job->delivery->queue,
        .piece = piece,
        .range = range,
        .buffer = (void *)start,
        .done = window_read,
    };
    job->holds++;
    outbound->options.read_piece(outbound->options.context, &window->read);
    return true;
}

/* Reads ahead as far as the windows go. False: no memory for even one. */
static bool read_ahead(struct job *job)
{
    if (job->next_read < job->next_piece)
        job->next_read = job->next_piece;
    for (; job->next_read < job->delivery->piece_count; job->next_read++) {
        if (job->delivery->pieces[job->next_read].data != NULL)
            continue;
        if (windows_of(job) == NULL)
            return false;
        struct feed_window *window = window_find(job, WINDOW_FREE, 0);
        if (window == NULL)
            return true;
        if (!window_start(window, job->next_read))
            return window_find(job, WINDOW_READING, job->next_piece) != NULL;
    }
    return true;
}

static void send_from_memory(struct job *job, const struct queue_piece *piece)
{
    const char *bytes = piece->data;

    for (uint32_t sent = 0; sent < piece->size;) {
        uint32_t size = piece->size - sent < FEED_SEND_MAX ? piece->size - sent : FEED_SEND_MAX;
        job->holds++;
        client_count_queued(job->client, size);
        conn_send_ref(&job->client->conn, bytes + sent, size, &job->ref);
        sent += size;
    }
}

/* FEED_ALL: *window holds the next piece. */
static enum feed_state find_next(struct job *job, struct feed_window **window)
{
    struct feed_window *found = window_find(job, WINDOW_READY, job->next_piece);

    if (found == NULL || found->state == WINDOW_READING)
        return FEED_MORE;
    if (found->state != WINDOW_READY)
        return found->state == WINDOW_DAMAGED ? FEED_DAMAGED : FEED_UNREADABLE;
    *window = found;
    return FEED_ALL;
}

static const char *window_content(const struct feed_window *window)
{
    return (const char *)window->read.buffer + window->read.range.skip;
}

static enum feed_state send_from_window(struct job *job)
{
    struct feed_window *window = NULL;
    enum feed_state state = find_next(job, &window);

    if (state != FEED_ALL)
        return state;
    window->state = WINDOW_SENDING;
    job->holds++;
    client_count_queued(job->client, window->read.piece->size);
    conn_send_ref(&job->client->conn, window_content(window), window->read.piece->size, &window->ref);
    return FEED_ALL;
}

enum feed_state feed_piece(struct job *job, const char **bytes)
{
    struct feed_window *window = NULL;
    const struct queue_piece *piece = &job->delivery->pieces[job->next_piece];

    assert(job->convert != NULL && job->next_piece < job->delivery->piece_count);
    if (!read_ahead(job))
        return FEED_UNREADABLE;
    if (piece->data != NULL) {
        *bytes = piece->data;
        return FEED_ALL;
    }
    enum feed_state state = find_next(job, &window);
    if (state == FEED_ALL)
        *bytes = window_content(window);
    return state;
}

void feed_piece_done(struct job *job)
{
    struct feed_window *window = NULL;

    assert(job->next_piece < job->delivery->piece_count);
    if (job->delivery->pieces[job->next_piece].data == NULL) {
        enum feed_state state = find_next(job, &window);
        assert(state == FEED_ALL);
        window_free(window);
    }
    job->next_piece++;
}

void feed_rewind(struct job *job)
{
    assert(job->next_piece == job->delivery->piece_count && job->next_read == job->next_piece);
    job->next_piece = 0;
    job->next_read = 0;
}

enum feed_state feed_more(struct job *job)
{
    const struct queue_delivery *delivery = job->delivery;

    assert(job->state == JOB_CONTENT && job->client != NULL);
    if (job->convert != NULL) {
        enum feed_state state = convert_more(job);
        if (state != FEED_AS_IT_IS)
            return state;
    }
    if (!read_ahead(job))
        return FEED_UNREADABLE;
    for (; job->next_piece < delivery->piece_count; job->next_piece++) {
        const struct queue_piece *piece = &delivery->pieces[job->next_piece];
        if (piece->data != NULL) {
            send_from_memory(job, piece);
            continue;
        }
        enum feed_state state = send_from_window(job);
        if (state != FEED_ALL)
            return state;
    }
    return FEED_ALL;
}

void feed_progressed(struct job *job)
{
    if (job->client != NULL)
        client_content_progress(job->client, job);
}

void feed_end(struct job *job)
{
    assert(job->holds == 0);
    convert_end(job);
    if (job->windows == NULL)
        return;
    for (uint32_t i = 0; i < FEED_WINDOWS; i++) {
        if (job->windows[i].state != WINDOW_FREE)
            window_free(&job->windows[i]);
    }
    pool_free(job_pool(job), job->windows, FEED_WINDOWS * sizeof(*job->windows));
    job->windows = NULL;
}
