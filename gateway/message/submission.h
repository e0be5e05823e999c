#pragma once

/*
 * The fields that a submitted message is given when it lacks them (RFC 6409 §8.2 and §8.3): Date and
 * Message-ID.
 *
 * Pure functions on the caller's memory; any thread may call.
 */

#include "proto/slice.h"

#include <stdbool.h>
#include <stddef.h>

enum { SUBMISSION_FIELDS_MAX = 384 }; /* octets of both fields */

struct submission_fields {
    struct smtp_slice date;     /* received_date_text; empty: the message has a Date */
    struct smtp_slice id;       /* ours, of the message; empty: the message has a Message-ID */
    struct smtp_slice hostname; /* ours; what does not belong in a name is written as "-" */
};

/* Writes the complete fields with their CRLF; returns their size in octets, 0 when none is wanted. */
size_t submission_fields_write(const struct submission_fields *fields,
                               char into[static SUBMISSION_FIELDS_MAX]) __attribute__((warn_unused_result));
