/* A shard at home: a queue on the simulator's disk, and a struct outbound that only settles what was
 * delivered. For tests that read as a story: accept mail, take it, say what became of it, settle, look at
 * what the sender is told. The gateway's time is the real one; a message's age is given. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/message/envelope.h"
#include "gateway/message/recipient.h"
#include "gateway/outbound/outbound.h"
#include "gateway/outbound/outcome.h"
#include "gateway/outbound/site.h"
#include "gateway/outbound/told.h"
#include "tests/sim/disk.h"

enum { HOME_RECIPIENTS_MAX = 8, HOME_LANES_MAX = 64, HOME_TEXT_MAX = 1 << 20, HOME_READS_MAX = 16 };

#define HOME_HOUR_MS INT64_C(3600000)

struct home_recipient {
    const char *address; /* NULL: no further one */
    uint8_t notify;      /* SMTP_NOTIFY_ bits */
    const char *orcpt;   /* NULL: none */
};

struct home_mail {
    const char *from; /* "": the null path */
    struct home_recipient to[HOME_RECIPIENTS_MAX];
    const char *content; /* as stored; NULL: a short one */
    uint32_t flags;      /* of the envelope */
    const char *envid;
    int64_t age_ms;
};

/* What was queued, as the next hop would get it. */
struct home_text {
    struct envelope envelope;
    char meta[ENVELOPE_SIZE_MAX];
    uint64_t id;
    char to[512]; /* the only recipient's address */
    uint8_t notify;
    char key[512]; /* of its lane */
    uint32_t size;
    char content[HOME_TEXT_MAX];
};

struct home {
    struct disk disk;
    struct disk_options disk_options;
    struct queue_options queue_options;
    struct queue *queue;
    struct queue_lane *lanes[HOME_LANES_MAX]; /* that are ready */
    uint32_t lane_count;

    struct loop *loop;
    struct log *log;
    struct log_writer *writer;
    struct counters counters;
    struct pool pool;
    struct config *config;
    struct outbound_policy policy;
    struct outbound outbound;
    struct site site;                            /* a verdict's, with nothing in it but its name */
    struct outbound_read *reads[HOME_READS_MAX]; /* asked for, to be answered in the next turn */
    uint32_t read_count;
    int read_error;  /* of all reads */
    bool is_damaged; /* what is read has other octets */
    uint32_t most_open;
    char log_path[64];
    char log_text[HOME_TEXT_MAX];
};

/* `more`: further lines of the configuration. Mail is kept for five days, and late after four hours. */
void home_begin(struct home *home, const char *more);
void home_end(struct home *home);

/* Closes and opens the queue, in order; cuts the power, and opens it. */
void home_restart(struct home *home);
void home_crash(struct home *home);

/* One turn; until nothing is under way. */
void home_turn(struct home *home);
void home_rest(struct home *home);

/* Accepts mail: 0, or why the queue does not take it. */
int home_try_to_accept(struct home *home, const struct home_mail *mail);
void home_accept(struct home *home, const struct home_mail *mail);

/* What waits for this domain, all recipients of a message; NULL: nothing. */
struct queue_delivery *home_take(struct home *home, const char *domain);

/* The same for the message that is accepted, and for what was deferred, once it is due; never NULL. */
struct queue_delivery *home_accept_and_take(struct home *home, const struct home_mail *mail);
struct queue_delivery *home_take_again(struct home *home);

/* The target has this outcome, in these words. */
void home_say(struct queue_delivery *delivery, uint32_t target, enum queue_outcome outcome,
              enum notice_action action, const char *reply);

/* All targets were delivered, and passed on to where nobody promises notices; and settled, to the end. */
void home_relay(struct home *home, struct queue_delivery *delivery);

/* It is owed, and is told of. */
void home_settle_owed(struct home *home, struct queue_delivery *delivery);

/* It could not be tried, and goes back; true: somebody is told that it is late. */
bool home_delay(struct home *home, struct queue_delivery *delivery);

/* All targets were refused; and settled, to the end. */
void home_bounce(struct home *home, struct queue_delivery *delivery);
void home_settle(struct home *home, struct queue_delivery *delivery);

/* Takes the only message for this domain, all of it, and counts it as delivered. Fails if there is none. */
const struct home_text *home_read(struct home *home, const char *domain);

/* It stands in the text, or in the log, or does not. */
void home_expect(const struct home_text *text, const char *what);
void home_expect_not(const struct home_text *text, const char *what);
void home_expect_log(struct home *home, const char *what);

/* Nothing waits. */
void home_expect_empty(struct home *home);

const char *home_log(struct home *home);
uint64_t home_sent(const struct home *home);
uint64_t home_suppressed(const struct home *home);
