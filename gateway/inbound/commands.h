#pragma once

/*
 * What each SMTP command does in a session, and which may come when. Private to gateway/inbound; belongs to
 * the worker's thread.
 */

#include <stddef.h>

struct session;

/* Reads and runs at most one command; returns the octets taken, at least 1 unless the session ended. */
size_t commands_take(struct session *session, const char *bytes, size_t size)
    __attribute__((warn_unused_result));
