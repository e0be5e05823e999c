#pragma once

/*
 * Who a client really is, when something stands between it and us: the PROXY protocol's header, XCLIENT and
 * XFORWARD, each from listener.proxy_networks alone. Private to gateway/inbound; belongs to the worker's
 * thread.
 */

#include <stddef.h>

struct session;
struct smtp_command;

/* SESSION_PROXY: takes octets of the header; behind it the session goes on. Returns the octets taken. */
size_t origin_take_proxy(struct session *session, const char *bytes, size_t size)
    __attribute__((warn_unused_result));

/* Replaces what is known of the client, and greets it anew. */
void origin_xclient(struct session *session, const struct smtp_command *command);

/* Remembers whom the client speaks for, for the log. */
void origin_xforward(struct session *session, const struct smtp_command *command);

/* Forgets it; harmless when nothing is known. */
void origin_drop(struct session *session);
