#pragma once

/*
 * The question to the DNS whether the domain of a sender takes mail at all (RFC 7505 §4.2). Private to
 * gateway/inbound; belongs to the worker's thread.
 *
 * The session waits in SESSION_ASKING and reads nothing meanwhile, so that replies keep their order. Only a
 * clear answer refuses: whatever is late, fails or cannot be asked lets the sender pass. A question outlives
 * a session whose client went away, and counts until it is answered: who asks for much and leaves gets no
 * more of the DNS than who stays.
 */

#include "proto/slice.h"

#include <stdbool.h>

struct session;

/* For the transaction that has just begun, READY: asks about the sender's domain if admission wants it. True:
 * the session waits, and the reply to MAIL is given later. */
bool sender_check_begin(struct session *session, struct smtp_slice domain);

/* The answer took too long: the sender passes. */
void sender_check_late(struct session *session);

/* The session does not wait any more. Harmless when it does not. */
void sender_check_drop(struct session *session);
