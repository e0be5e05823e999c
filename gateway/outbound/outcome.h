/*
 * Outcomes: what became of each recipient, in the delivery, in the log and in the counters. Worker's thread
 * only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "gateway/outbound/job.h"
#include "proto/slice.h"

struct site;

/* Every defer and bounce gets a class (classes.h), which is logged. What the sender may have to be told is
 * remembered in the delivery (told.h). A class of rate-limited slows the site down, once for each job.
 * Without a session a reply counts as our own words: mail is discarded or refused as the configuration says.
 */

/* The first digit of the reply decides (RFC 5321 §4.2.1): 2xx delivered, 5xx bounced, the rest deferred. */
void outcome_by_reply(struct job *job, struct queue_target *target, uint16_t code, struct smtp_slice reply);

/* The same for every target that has no outcome yet. */
void outcome_rest_by_reply(struct job *job, uint16_t code, struct smtp_slice reply);

/* Our own verdict for every target that has none yet: QUEUE_DONE (bounced), QUEUE_DEFER or QUEUE_RETRY
 * (untried; not logged). `reason` begins with an enhanced status code. */
void outcome_rest(struct job *job, enum queue_outcome outcome, struct smtp_slice reason);

/* The rest is deferred although the peer may have taken the message: it will perhaps get it twice. */
void outcome_rest_unknown(struct job *job, struct smtp_slice reason);

/*
 * For a waiting job that cannot be served now and is put back in its place, untried: if its message is older
 * than `retry.delay_warning`, those of its targets that are not `marked` yet are told of the delay with this
 * reason, if their sender wants to hear of it, and marked, told or not, so that one look at each message is
 * enough. No attempt counts and no `defer` is logged; all targets keep QUEUE_RETRY. The caller calls job_over
 * next. `reason` begins with an enhanced status code. Not for a guest. Until what is told is on disk (some
 * milliseconds) the message is in no lane; if it cannot be stored, the targets come back unmarked.
 */
void outcome_delay_due(struct job *job, struct smtp_slice reason);

/* For a delivery that is owed (queue.h): it is never sent; all targets have arrived, and are to be told of,
 * or stay owed if there is no memory. What was answered is not known any more. */
void outcome_owed(const struct site *site, struct queue_delivery *delivery);

/* Logs the targets that the queue gave up because of their age, with the reply of the last attempt. */
void outcome_expired(struct outbound *outbound, const struct queue_delivery *delivery, const char *site_name);
