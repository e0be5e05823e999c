#pragma once

/*
 * AUTH (RFC 4954): the exchange of a login within a session. Private to gateway/inbound; belongs to the
 * worker's thread, but for the check of a password, which runs on the hasher's.
 *
 * A login is offered under TLS only, unless the listener says otherwise. A wrong one is answered after
 * auth.failure_delay, during which nothing is read; too many failures of a client or of a user are answered
 * without a look at the password.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hasher_job;
struct inbound;
struct session;
struct smtp_command;

/* The mechanisms that may be used now, bits 1 << enum sasl_mechanism; 0: no login is offered. */
uint32_t authentication_mechanisms(const struct session *session);

/* Who is logged in, zero-terminated; NULL: nobody. Valid as long as the session's state. */
const char *authentication_user(const struct session *session);

/* AUTH: begins an exchange, or refuses. */
void authentication_begin(struct session *session, const struct smtp_command *command);

/* SESSION_AUTH: takes at most one line of the client; returns the octets taken. */
size_t authentication_take(struct session *session, const char *bytes, size_t size)
    __attribute__((warn_unused_result));

/* SESSION_PENALTY is over: the failure is answered. */
void authentication_penalty_over(struct session *session);

/* A proxy that is trusted says who is logged in (XCLIENT LOGIN). -ENOMEM: nobody is. */
int authentication_assume(struct session *session, const char *user, size_t size)
    __attribute__((warn_unused_result));

/* Nobody is logged in any more; an exchange is over. Harmless on a session without a login. */
void authentication_drop(struct session *session);
