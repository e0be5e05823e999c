#pragma once

/*
 * BDAT (RFC 3030 §2). Private to gateway/inbound; belongs to the worker's thread.
 *
 * The octets of a chunk follow its command whether it is accepted or not, so a refused one is read to its end
 * before it is answered. When one chunk of a message was refused, those that come after it get the same
 * answer until LAST, RSET or EHLO: a client that sends them in one group must not have half a message taken.
 *
 * What is still to come of a large chunk is received straight into the draft's page, scanned there, and
 * stays. Most large content needs no change. Where some does, a dot to be stuffed say, everything from there
 * on is taken out of the page again and copied, as is the rest of that message.
 */

#include <stdbool.h>
#include <stddef.h>

struct session;
struct smtp_command;

void chunks_begin(struct session *session, const struct smtp_command *command);

/* Whether the next octets should be received into the draft's page. */
bool chunks_go_direct(const struct session *session);

/* Where they go, *size of them at most; NULL: nowhere, they are to be read as all others. */
void *chunks_space(struct session *session, size_t *size) __attribute__((warn_unused_result));

/* So many came there (0: none), and no more will. Returns how many need not come again. */
size_t chunks_filled(struct session *session, size_t size);
