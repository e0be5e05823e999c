#pragma once

/*
 * What the gateway remembers of a message beside its content and recipients, as bytes that the queue stores
 * with it and hands back at each delivery (its `meta`).
 *
 * Pure functions on the caller's memory; any thread may call. Format, version 2:
 *
 *     octet 0      version, 2
 *     octet 1      flags, enum envelope_flag
 *     octet 2, 3   size of the reverse-path, least significant octet first
 *     octet 4      size of the client's address
 *     octet 5, 6   size of the envelope identifier, least significant octet first
 *     octet 7 ...  the reverse-path, the client's address, the envelope identifier
 *
 * Version 1, which is still read, has no identifier and no size of it: the reverse-path begins at octet 5.
 * A later version may only be written once every reader knows it.
 */

#include "proto/path.h"
#include "proto/slice.h"

#include <stddef.h>
#include <stdint.h>

enum envelope_flag {
    ENVELOPE_HAS_8BIT = 1 << 0,   /* an octet of the content is above 127 */
    ENVELOPE_8BITMIME = 1 << 1,   /* the client declared BODY=8BITMIME (RFC 6152) */
    ENVELOPE_DOT_LINES = 1 << 2,  /* a line of the stored content begins with a (stuffed) dot */
    ENVELOPE_BINARYMIME = 1 << 3, /* BODY=BINARYMIME (RFC 3030): raw octets, no dots stuffed, only for BDAT */
    ENVELOPE_SMTPUTF8 = 1 << 4,   /* the client declared SMTPUTF8 (RFC 6531) */
    ENVELOPE_RET_FULL = 1 << 5,   /* RET=FULL (RFC 3461 §4.3) */
    ENVELOPE_RET_HDRS = 1 << 6,   /* RET=HDRS */
    ENVELOPE_TRUSTED = 1 << 7,    /* the client may send to anyone, so its reverse-path is not forged */
    ENVELOPE_FLAGS_ALL = (1 << 8) - 1,
};

enum {
    ENVELOPE_CLIENT_MAX = 63, /* octets of the client's address as text */
    ENVELOPE_ENVID_MAX = 300, /* octets of the identifier as xtext: 100 that are each written as three */
    ENVELOPE_SIZE_MAX = 7 + SMTP_PATH_MAX + ENVELOPE_CLIENT_MAX + ENVELOPE_ENVID_MAX,
};

struct envelope {
    struct smtp_slice sender; /* reverse-path without brackets; empty: the null path <> */
    struct smtp_slice client; /* "192.0.2.1"; empty: unknown */
    struct smtp_slice envid;  /* ENVID= of RFC 3461 §4.4, the xtext as it came; empty: none */
    uint32_t flags;           /* of enum envelope_flag */
};

/*
 * Writes the envelope and returns its size in octets, at most ENVELOPE_SIZE_MAX. The sender must be a parsed
 * path, the client at most ENVELOPE_CLIENT_MAX and the identifier at most ENVELOPE_ENVID_MAX octets:
 * asserted.
 */
size_t envelope_encode(const struct envelope *envelope, char bytes[static ENVELOPE_SIZE_MAX])
    __attribute__((warn_unused_result));

/*
 * Reads an envelope; its slices point into `bytes`. The bytes may be anything: -EPROTO for a version that is
 * not known, -EINVAL when the sizes do not add up; then *envelope is untouched.
 */
int envelope_decode(const void *bytes, size_t size, struct envelope *envelope)
    __attribute__((warn_unused_result));
