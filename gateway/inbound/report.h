#pragma once

/*
 * The log lines of a session: connect, login, reject, accept, disconnect. Private to gateway/inbound; belongs
 * to the worker's thread. Fields that are empty or unknown are left out.
 */

#include "gateway/base/config.h"
#include "gateway/inbound/reply.h"
#include "proto/slice.h"

#include <stdint.h>

struct inbound;
struct session;
struct sockaddr;

void report_connect(const struct session *session);

/* `error`: what ended the connection, a negative errno or 0. */
void report_disconnect(struct session *session, int error);

/* A negative reply, with its CRLF. `name` is that of its row in the table of replies; `from` and `to` may be
 * NULL. */
void report_reject(const struct session *session, struct smtp_slice reply, struct smtp_slice name,
                   const struct smtp_slice *from, const struct smtp_slice *to);

/* A connection that was not let in: there is no session. */
void report_turned_away(const struct inbound *inbound, struct smtp_slice reply, struct smtp_slice name,
                        const struct sockaddr *client);

/* The message is durable under this id. */
void report_accept(struct session *session, uint64_t id);

/* A login that succeeded ("ok") or did not ("failed", and why). `user` is as the client gave it. */
void report_login(struct session *session, const char *user, const char *mechanism, const char *result,
                  const char *reason);

/* What a rule that is only tried would have answered. */
void report_dry_run(const struct session *session, enum config_rule rule, enum reply_id reply);
