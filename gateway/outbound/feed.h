/*
 * Content on its way from the log to a connection: from memory where it lies, else through two windows that
 * are read from the disk ahead of the send. Worker's thread only.
 */
#pragma once

#include <stdint.h>

#include "gateway/outbound/job.h"

enum {
    FEED_WINDOWS = 2,           /* pieces of one message in memory for the send alone */
    FEED_SEND_MAX = 256 * 1024, /* bytes after which a slow peer's progress is noticed */
};

enum feed_state {
    FEED_MORE,          /* client_content_progress will be called, then feed again */
    FEED_ALL,           /* all of it is queued to the connection */
    FEED_AS_IT_IS,      /* of convert.h only: not converted after all */
    FEED_DAMAGED,       /* the bytes read back are not those that were written */
    FEED_UNREADABLE,    /* the disk or the memory fails; perhaps another time */
    FEED_INCONVERTIBLE, /* the peer takes 7 bits, and the content cannot be rewritten for it */
};

/* Queues to the client's connection what can be queued now. The job is in JOB_CONTENT. */
enum feed_state feed_more(struct job *job) __attribute__((warn_unused_result));

/* --- for convert.c --- */

/* The bytes of job->next_piece, when it is in memory: FEED_ALL, and they stay until feed_piece_done. */
enum feed_state feed_piece(struct job *job, const char **bytes) __attribute__((warn_unused_result));

/* On to the next piece. */
void feed_piece_done(struct job *job);

/* From the first piece again, when all are done. */
void feed_rewind(struct job *job);

/* --- */

/* Bytes were sent or read: tells the client, if there is one. */
void feed_progressed(struct job *job);

/* Frees the windows and what converts; nothing may hold the job. */
void feed_end(struct job *job);
