#pragma once

/*
 * Who may do what: every rule by which a client, a sender or a recipient is refused, in one place and in one
 * order. Private to gateway/inbound; belongs to the worker's thread.
 *
 *     on connecting   limits.connections (inbound_accept), client-rate, network-rate, early-talker
 *     MAIL            a login where the listener demands one, messages a minute, auth-sender, SIZE, the
 *                     queue, null-mx-sender (when the DNS has answered)
 *     RCPT            the postmaster of our own domains may always be written to; relaying, recipients a
 *                     minute, recipient-list, a route, max_recipients, a route that is an `error:`
 *
 * The first rule that refuses decides. Each answers with the reply to give, REPLY_NONE when nothing stands
 * against it. A rule that admission.dry_run names is logged instead. Whether a client may relay is never only
 * tried: without permission the answer is 550, whatever else is configured.
 */

#include <stdbool.h>
#include <stdint.h>

#include "gateway/base/config.h"
#include "gateway/inbound/reply.h"
#include "proto/command.h"

struct route_found;
struct session;

/* Counts the connection; again after a proxy has named the client. */
enum reply_id admission_connect(struct session *session);

/* Takes back what admission_connect and admission_login counted as open. */
void admission_leave(struct session *session);

/* A TLS handshake is about to begin. */
enum reply_id admission_handshake(struct session *session);

/* The client spoke before the greeting. */
enum reply_id admission_early_talker(struct session *session);

/* May this user try to log in now? The other one counts a failure, and the third a success. */
enum reply_id admission_login(struct session *session, const char *user);
void admission_login_failed(struct session *session, const char *user);
enum reply_id admission_logged_in(struct session *session);

/* The login does not count any more. Harmless without one. */
void admission_logged_out(struct session *session);

enum reply_id admission_mail(struct session *session, const struct smtp_command *command);

/* Whether the DNS is to be asked if the sender's domain takes mail: not for those who may relay. */
bool admission_asks_about_sender(struct session *session);

/* It has said that the domain takes none. */
enum reply_id admission_null_mx_sender(struct session *session);

/* `key` and `sender` are the recipient's and the sender's domain as they are routed; the latter may be empty.
 * `route` is where the mail would go, and may still be one that refuses it; see route_refusal.h. */
enum reply_id admission_recipient(struct session *session, const struct smtp_path *path,
                                  struct smtp_slice key, struct smtp_slice sender, struct route_found *route);

/* A command was refused; after too many in a minute session->is_over_limit is set. */
void admission_error(struct session *session);

/* Whether the house is nearly full: then strangers get less time and fewer errors. */
bool admission_is_stressed(const struct session *session);

/* Whether the client may send to anyone: by its address, its login or its certificate. */
bool admission_may_relay(struct session *session);
