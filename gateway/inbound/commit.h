#pragma once

/*
 * A complete message on its way to the disk: asking the queue to commit it, and what the client reads when
 * that is done. Private to gateway/inbound; belongs to the worker's thread.
 */

#include <stdint.h>

#include "gateway/inbound/reply.h"

struct session;

/* Asks the queue to commit the complete message; again after it had no room. */
void commit_begin(struct session *session);

/* The message was read to its end and will not be taken: says why, and ends the transaction. */
void commit_refuse(struct session *session);

/* What the client is told for an error of the queue, which is not -EAGAIN. */
enum reply_id commit_reply_to_error(int64_t error);

/* The same where the queue takes no new message: the disk fails, or there is no room on it or in memory. */
enum reply_id commit_reply_to_no_draft(const struct session *session);
