/* Two workers in one thread, each with a loop, a queue on the simulator's disk and a struct outbound; what
 * one sends to the other lies in a mailbox until the other's next turn. A name server with a zone beside
 * them. For tests of what workers give to each other, told as a story: accept mail here, let turns pass, look
 * at who delivered. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/outbound/outbound.h"
#include "tests/sim/disk.h"

struct hop_query;
struct pair;
struct probes;
struct pair_policy;

enum { PAIR_MAIL_MAX = 1024, PAIR_READS_MAX = 64, PAIR_LOG_MAX = 1 << 20 };

enum pair_letter_kind { PAIR_ASK, PAIR_ANSWER, PAIR_GIFT, PAIR_HOME };

struct pair_letter {
    enum pair_letter_kind kind;
    void *content;
};

struct pair_worker {
    struct pair *pair;
    uint32_t index;
    struct loop *loop;
    struct loop_hook hook;
    struct disk disk;
    struct disk_options disk_options;
    struct queue *queue;
    struct log *log;
    struct log_writer *writer;
    struct counters counters;
    struct pool pool;
    struct pair_policy *policy;
    struct outbound outbound;
    struct outbound_read *reads[PAIR_READS_MAX]; /* asked for, to be answered in the next turn */
    uint32_t read_count;
    struct pair_letter letters[PAIR_MAIL_MAX];
    uint32_t letter_count;
    bool is_deaf;       /* its letters stay where they are */
    bool is_unwilling;  /* takes no gifts */
    uint32_t gifts;     /* that it was given */
    uint32_t asked;     /* queries that it was sent */
    uint32_t most_away; /* deliveries of its own that the other had at a time */
    uint32_t away;
    char log_path[64];
    char log_text[PAIR_LOG_MAX];
};

struct pair {
    struct pair_worker workers[2];
    struct peer *names; /* of tests/unit/dns */
    struct probes *probes;
    struct config *configs[64]; /* all, until the end */
    uint32_t config_count;
    /* before pair_begin */
    int64_t age_max_ms; /* 0: five days */
    const char *routes; /* lines of a route file; NULL: there is none */
};

/* `more`: routes, sites and so on; {dns} is set. Both workers have this configuration. */
void pair_begin(struct pair *pair, const char *zone, const char *more);

/* Sessions end at once, queues are dropped as they are; nothing may be lost or left. */
void pair_end(struct pair *pair);

/* One worker takes over a new configuration. */
void pair_reload(struct pair *pair, uint32_t worker, const char *more);

/* Accepts mail from a@from.test, which arrived so long ago, at a worker. */
void pair_accept(struct pair *pair, uint32_t worker, const char *to, int64_t age_ms);

void pair_turn(struct pair *pair);
void pair_run_ms(struct pair *pair, uint64_t ms);

/* Turns until the condition holds; fails with the logs after ten seconds. */
#define pair_until(pair, condition)                                                                          \
    do {                                                                                                     \
        uint64_t until_us = pair_clock_us() + 10000000;                                                      \
        while (!(condition)) {                                                                               \
            if (pair_clock_us() > until_us)                                                                  \
                pair_fail(pair, #condition);                                                                 \
            pair_turn(pair);                                                                                 \
        }                                                                                                    \
    } while (0)

uint64_t pair_clock_us(void);
void pair_fail(struct pair *pair, const char *condition);

/* Messages in the worker's queue. */
uint64_t pair_waiting(const struct pair *pair, uint32_t worker);
uint64_t pair_count(const struct pair *pair, uint32_t worker, enum counter counter);
const char *pair_log(struct pair *pair, uint32_t worker);

/* The worker's site of this name; NULL: none. */
struct site *pair_site(struct pair *pair, uint32_t worker, const char *name);

/* The worker that is asked about this domain. */
uint32_t pair_asks(const char *domain);
