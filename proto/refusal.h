/*
 * Why a line or a content was refused, and the reply that says so: one row each in refusal.def.
 *
 * Pure, constant data; any thread may read it.
 */
#pragma once

#include "proto/slice.h"

enum smtp_refusal {
    SMTP_REFUSAL_NONE,
#define SMTP_REFUSAL(name, code, enhanced, text, fatal) SMTP_REFUSAL_##name,
#include "proto/refusal.def"
#undef SMTP_REFUSAL
    SMTP_REFUSAL_COUNT,
};

struct smtp_refusal_reply {
    struct smtp_slice line; /* the complete reply, "501 5.5.4 ...\r\n"; static */
    struct smtp_slice name; /* of the refusal, "BARE_LF", for logs and counters; static */
    uint16_t code;
    bool fatal; /* the connection is to be closed after the reply */
};

/* The reply to a refusal other than SMTP_REFUSAL_NONE; static. */
const struct smtp_refusal_reply *smtp_refusal_reply(enum smtp_refusal refusal)
    __attribute__((returns_nonnull));
