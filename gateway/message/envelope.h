#pragma once

/*
 * What the gateway remembers of a message beside its content and recipients, as bytes that the queue stores
 * with it and hands back at each delivery (its `meta`).
 *
 * Pure functions on the caller's memory; any thread may call. Format, version 1:
 *
 *     octet 0      version, 1
 *     octet 1      flags, enum envelope_flag
 *     octet 2, 3   size of the reverse-path, least significant octet first
 *     octet 4      size of the client's address
 *     octet 5 ...  the reverse-path, then the client's address
 *
 * A later version may only be written once every reader knows it; an unknown flag is an unknown version.
 */

#include "proto/path.h"
#include "proto/slice.h"

#include <stddef.h>
#include <stdint.h>

enum envelope_flag {
    ENVELOPE_HAS_8BIT = 1 << 0,  /* an octet of the content is above 127 */
    ENVELOPE_8BITMIME = 1 << 1,  /* the client declared BODY=8BITMIME (RFC 6152) */
    ENVELOPE_DOT_LINES = 1 << 2, /* a line of the stored content begins with a (stuffed) dot */
    ENVELOPE_FLAGS_ALL = (1 << 3) - 1,
};

enum {
    ENVELOPE_CLIENT_MAX = 63, /* octets of the client's address as text */
    ENVELOPE_SIZE_MAX = 5 + SMTP_PATH_MAX + ENVELOPE_CLIENT_MAX,
};

struct envelope {
    struct smtp_slice sender; /* reverse-path without brackets; empty: the null path <> */
    struct smtp_slice client; /* "192.0.2.1"; empty: unknown */
    uint32_t flags;           /* of enum envelope_flag */
};

/*
 * Writes the envelope and returns its size in octets, at most ENVELOPE_SIZE_MAX. The sender must be a parsed
 * path and the client at most ENVELOPE_CLIENT_MAX octets: both are asserted.
 */
size_t envelope_encode(const struct envelope *envelope, char bytes[static ENVELOPE_SIZE_MAX])
    __attribute__((warn_unused_result));

/*
 * Reads an envelope; its slices point into `bytes`. The bytes may be anything: -EPROTO for a version or a
 * flag that is not known, -EINVAL when the sizes do not add up; then *envelope is untouched.
 */
int envelope_decode(const void *bytes, size_t size, struct envelope *envelope)
    __attribute__((warn_unused_result));
