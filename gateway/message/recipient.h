#pragma once

/*
 * A recipient as the queue stores it: its address and what the sender wants to hear about it (RFC 3461).
 *
 * To the queue these are opaque octets. Without wishes they are the address alone, so ordinary mail pays
 * nothing; an address never contains a NUL, which is what parts it from the rest:
 *
 *     address                          no NOTIFY and no ORCPT was given
 *     address NUL notify orcpt...      notify is one octet of bits, 0: not given; orcpt may be empty
 *
 * Pure functions on the caller's memory; any thread may call.
 */

#include "proto/path.h"
#include "proto/slice.h"

#include <stddef.h>
#include <stdint.h>

enum {
    RECIPIENT_ORCPT_MAX = 500, /* octets (RFC 3461 §5.4) */
    RECIPIENT_SIZE_MAX = SMTP_PATH_MAX + 2 + RECIPIENT_ORCPT_MAX,
};

struct recipient {
    struct smtp_slice address; /* without brackets */
    struct smtp_slice orcpt;   /* "rfc822;" and xtext, as it came; empty: not given */
    uint8_t notify;            /* of enum smtp_notify (proto/command.h); 0: not given */
};

/* Writes the stored form; returns its size in octets. The parts must be parsed ones: their sizes are
 * asserted. */
size_t recipient_encode(const struct recipient *recipient, char bytes[static RECIPIENT_SIZE_MAX])
    __attribute__((warn_unused_result));

/* Reads it back; the slices point into `bytes`, which may be anything: there is nothing that does not decode.
 */
struct recipient recipient_decode(const void *bytes, size_t size);
