/*
 * Content on its way to a connection that takes 7 bits (gateway/message/recode.h): surveyed, then converted
 * piece by piece into a buffer that is sent and filled anew. Worker's thread only.
 */
#pragma once

#include <stdint.h>

#include "gateway/message/recode.h"
#include "gateway/net/conn.h"
#include "gateway/outbound/feed.h"

enum {
    CONVERT_AT_ONCE_MAX = 256 * 1024, /* octets in memory that are surveyed before anything is said */
    CONVERT_TURN_MAX = 1024 * 1024,   /* and in one turn, so that the worker serves others in between */
    CONVERT_BUFFER_SIZE = 48 * 1024,
};

static_assert(CONVERT_BUFFER_SIZE >= 2 * RECODE_STEP_MAX, "there is room to get on, and to end");

struct job;

/* The fields are private to convert.c. */
struct convert {
    struct recode recode;
    struct conn_ref ref;
    struct job *job;
    enum recode_verdict verdict; /* RECODE_NOTHING: not surveyed yet */
    uint32_t done;               /* octets of the piece */
    uint32_t filled;             /* of the buffer */
    bool is_sending;             /* the buffer is the connection's */
    char buffer[CONVERT_BUFFER_SIZE];
};

/*
 * Prepares the job, of which nothing has been said yet. RECODE_POSSIBLE: job->convert is set, and feed_more
 * will convert; or it will find that it cannot, when the content was too large, or too far away, to be looked
 * at now. Other verdicts (recode.h): job->convert is NULL. -ENOMEM.
 */
int convert_begin(struct job *job) __attribute__((warn_unused_result));

/*
 * Goes on as feed_more does. FEED_AS_IT_IS: job->convert is NULL and nothing is sent yet, for the content
 * needs no conversion, or it was never declared and may as well go as it came.
 */
enum feed_state convert_more(struct job *job) __attribute__((warn_unused_result));

/* Frees job->convert, if there is one; the buffer must not be on its way. */
void convert_end(struct job *job);
