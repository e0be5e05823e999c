#pragma once

/*
 * BDAT (RFC 3030 §2). Private to gateway/inbound; belongs to the worker's thread.
 *
 * The octets of a chunk follow its command whether it is accepted or not, so a refused one is read to its end
 * before it is answered. When one chunk of a message was refused, those that come after it get the same
 * answer until LAST, RSET or EHLO: a client that sends them in one group must not have half a message taken.
 */

struct session;
struct smtp_command;

void chunks_begin(struct session *session, const struct smtp_command *command);
