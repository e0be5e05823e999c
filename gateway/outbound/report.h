/*
 * Reports: the way home. Here it is decided who is told what became of a message, and the notices are queued
 * in the very write that records the outcomes (RFC 3461 §5.2, RFC 3464), so none is lost and none sent twice.
 *
 *     report_settle ─▶ nobody is told: settled and released at once
 *          │
 *          └─▶ WAITING ─▶ READING the header ─▶ WRITING up to three notices ─▶ SETTLING ─▶ released
 *                                                      └──── cannot be stored ────▶ settled without them
 *
 * Whoever is told:
 *
 *     what became of the recipient                       told unless NOTIFY says otherwise
 *     given up, or expired                               yes: failure
 *     deferred, older than retry.delay_warning           yes: delay, once
 *     the same, untried (outcome_delay_due)              yes: delay, once
 *     delivered to a mailbox, or passed on without DSN   no: success, only with NOTIFY=SUCCESS
 *
 * Never about a message with a null reverse-path (RFC 5321 §4.5.5), and no more often than `notices` in the
 * configuration allows; what is beyond that is logged. A notice that cannot be stored defers the recipients
 * that were given up: they are tried and told again later. A delay is then told after the next attempt. Those
 * whose success was to be told are owed (QUEUE_OWED): the mail does not go out again, and the notice is tried
 * by the retry schedule, until the message is older than retry.max_age.
 *
 * Worker's thread only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "gateway/base/list.h"
#include "proto/command.h"
#include "queue/queue.h"

struct outbound;

enum {
    REPORTS_OPEN_MAX = 16, /* being written at a time; each keeps a few pages of memory */
    REPORTS_MANY = 256,    /* waiting: see reports_are_many */
};

/* In struct outbound; all fields are private to report*.c. */
struct reports {
    struct list waiting;
    struct list open;
    uint32_t waiting_count;
    uint32_t open_count;
    bool are_many;
};

/* What a recipient's NOTIFY, 0 when none was given, says about it (RFC 3461 §4.1). */
static inline bool report_wants_failure(uint8_t notify)
{
    return notify == 0 || (notify & SMTP_NOTIFY_FAILURE) != 0;
}

static inline bool report_wants_delay(uint8_t notify)
{
    return notify == 0 || (notify & SMTP_NOTIFY_DELAY) != 0;
}

void reports_init(struct reports *reports);

/*
 * A delivery of this worker's own shard is done: tells who has to be told, records the outcomes, logs what
 * expired, and releases the delivery, at once or later (see report_pump). `site_name`, copied, is for the
 * log; NULL: none. Safe in every callback of the loop and in queue_taken.
 */
void report_settle(struct outbound *outbound, struct queue_delivery *delivery, const char *site_name);

/* Goes on with what waited: once a turn, and when the queue says that there is room again. */
void report_pump(struct outbound *outbound);

/* So many wait that sites should take no more from the queue, from REPORTS_MANY on until half of them are
 * written; then every site is touched. None is ever turned away for their number. */
bool reports_are_many(const struct outbound *outbound);

/* Deliveries that report_settle got and that are not released yet. */
uint32_t report_count(const struct outbound *outbound);
