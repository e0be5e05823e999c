/*
 * Told: what is remembered of a recipient's outcome until its message is home, where the sender may have to
 * be told of it. It hangs at delivery->told and travels with the delivery.
 *
 * Nothing is kept of ordinary outcomes, so ordinary mail allocates nothing here. Recipients that share an
 * outcome share its record. A delivery is one thread's at a time, so any thread that holds it may call.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "gateway/message/notice.h"
#include "queue/queue.h"

/* One reply, or one reason of our own. */
struct told_reply {
    struct told_reply *next;   /* of the delivery */
    enum notice_action action; /* FAILED, DELAYED, DELIVERED or RELAYED */
    enum notice_class class;   /* of no meaning for what succeeded */
    uint16_t code;             /* 0: the reason is ours */
    struct smtp_status status; /* class 0: none was given */
    struct smtp_slice reply;   /* at most NOTICE_REPLY_MAX octets */
    struct smtp_slice host;    /* who said it; empty: nobody */
    int64_t at_ms;             /* of the attempt, since 1970; 0: there was none */
    char text[];               /* what the slices point to */
};

/* Keeps a copy of `reply`, cut to its limits, as the outcome of the target with this number in
 * delivery->targets, and returns it; NULL: no memory, and nothing has changed. */
const struct told_reply *told_note(struct queue_delivery *delivery, uint32_t target,
                                   const struct told_reply *reply) __attribute__((warn_unused_result));

/* The same outcome for another target; `reply` came from told_note for this delivery. */
void told_share(struct queue_delivery *delivery, uint32_t target, const struct told_reply *reply);

/* NULL: nothing is remembered of it. */
const struct told_reply *told_of(const struct queue_delivery *delivery, uint32_t target);

/* The code that a reply begins with; 0: none, so these are words of our own. */
uint16_t told_code(struct smtp_slice reply);

/* The enhanced status code that a reply, with its code or without, or a reason begins with (RFC 3463 §2);
 * class 0: there is none. */
struct smtp_status told_status(struct smtp_slice reply);

/* Forgets all of it. */
void told_free(struct queue_delivery *delivery);
