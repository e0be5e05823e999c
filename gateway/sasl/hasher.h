#pragma once

/*
 * Checks passwords on threads of its own, since one check takes milliseconds by design and a worker has none
 * to spare.
 *
 * The threads run at nice +5, so that mail goes first when the processors are busy. The queue is bounded:
 * when it is full the client is told to come back (454 4.7.0), and no flood of logins takes memory or delays
 * the honest ones for minutes.
 */

#include "gateway/sasl/password.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hasher;

/*
 * The memory is the caller's, who leaves it alone between hasher_submit and `done`.
 */
struct hasher_job {
    /* set by the caller */
    struct password_check check;
    char password[USER_PASSWORD_MAX + 1]; /* zero-terminated; cleansed before `done` */
    void (*done)(struct hasher_job *job); /* on a hasher thread; may free the job; must not block */
    void *context;
    /* set by the hasher */
    bool matches;
    struct hasher_job *next;
};

/* Starts `threads` (1 … 64) threads that share one queue of at most `queue_max` (1 or more) waiting jobs.
   0, and the caller owns *hasher; or a negative errno, and nothing has been started. */
int hasher_new(uint32_t threads, uint32_t queue_max, struct hasher **hasher)
    __attribute__((warn_unused_result));

/* Finishes what is queued (each job's `done` is called), ends the threads, frees. NULL is fine. Nobody may
   submit any more; not from a hasher thread. */
void hasher_free(struct hasher *hasher);

/* Any thread. False: the queue is full, the job was not taken, `done` will not be called. */
bool hasher_submit(struct hasher *hasher, struct hasher_job *job) __attribute__((warn_unused_result));
