#pragma once

/*
 * The constant replies that a session gives, one row each in replies.def. Constant data; any thread may read
 * it.
 */

#include "proto/slice.h"

#include <stdbool.h>
#include <stdint.h>

enum reply_id {
    REPLY_NONE,
#define REPLY(name, code, enhanced, text) REPLY_##name,
#define REPLY_PLAIN(name, code, text)     REPLY_##name,
#include "gateway/inbound/replies.def"
    REPLY_COUNT
};

struct reply {
    struct smtp_slice line; /* complete with CRLF; static */
    struct smtp_slice name; /* "RELAYING_DENIED", the log's `reason`; static */
    uint16_t code;
};

/* Not for REPLY_NONE. */
const struct reply *reply_get(enum reply_id id) __attribute__((returns_nonnull));
