/* A queue on a healthy disk in memory, for tests that read as a story: send, take, settle, wait, start again.
 *
 * Time stands still but for stage_wait and the time that writes take. Everything aborts the test when the
 * queue does what the story does not expect.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "queue/queue.h"
#include "tests/sim/disk.h"

enum { STAGE_PAGE = 64 * 1024, STAGE_SEGMENT = 256 * 1024, STAGE_READY_MAX = 512 };

struct stage {
    struct disk disk;
    struct disk_options disk_options;
    struct queue_options options;
    struct queue *queue;
    struct queue_recovery recovery;
    int64_t tick_ms; /* what queue_tick answered */
    /* what the callbacks said */
    struct queue_lane *ready[STAGE_READY_MAX]; /* lanes that are ready and not gone */
    uint32_t ready_count;
    uint32_t lanes_gone;
    uint32_t rooms;
    uint32_t states;
    enum queue_state state;
    int state_error;
};

/* What became of one commit. */
struct stage_answer {
    bool called;
    uint64_t id;
    int error;
};

struct stage_recipient {
    const char *address;
    const char *key;
};

/* A new disk and a queue on it. stage_begin may be followed by changes to stage->options and stage_open. */
void stage_begin(struct stage *stage);
void stage_open(struct stage *stage);
/* Comes to rest and closes. */
void stage_close(struct stage *stage);
/* Closes and opens in order. */
void stage_restart(struct stage *stage);
/* The power goes at once, and comes back. */
void stage_crash(struct stage *stage);
/* Closes and frees the disk. */
void stage_end(struct stage *stage);

int64_t stage_now_ms(const struct stage *stage);
/* One turn: tick, flush, and what the disk completes by then. */
void stage_turn(struct stage *stage);
/* Turns until nothing is under way. */
void stage_rest(struct stage *stage);
/* Lets time pass, in one leap. */
void stage_wait(struct stage *stage, int64_t ms);

/* A draft with `size` octets of the content `seed`. */
struct queue_draft *stage_draft(struct stage *stage, uint64_t seed, size_t size);
/* Commits it; the answer is filled in by some turn. */
void stage_commit(struct stage *stage, struct queue_draft *draft, const struct stage_recipient *recipients,
                  uint32_t count, struct stage_answer *answer);
/* All of it, until it is acknowledged; returns the id. */
uint64_t stage_send(struct stage *stage, uint64_t seed, size_t size, const struct stage_recipient *recipients,
                    uint32_t count);
/* To one recipient. */
uint64_t stage_send_one(struct stage *stage, uint64_t seed, size_t size, const char *address,
                        const char *key);

/* The lane with this key that is ready, or NULL. */
struct queue_lane *stage_lane(struct stage *stage, const char *key);
/* Takes from it; NULL when the lane is empty. */
struct queue_delivery *stage_take(struct stage *stage, const char *key, uint32_t recipients_max,
                                  queue_match *match);
/* Fails the test unless the delivery's content is `size` octets of `seed`. */
void stage_check(struct stage *stage, const struct queue_delivery *delivery, uint64_t seed, size_t size);
/* All targets have the outcome; then it is released. Returns due_ms. */
int64_t stage_settle(struct stage *stage, struct queue_delivery *delivery, enum queue_outcome outcome);
/* Other mail comes and goes until the mover has copied a straggler forward. */
void stage_fill_until_moved(struct stage *stage);
