/*
 * Domain names as text: small letters, digits, hyphens, underscores and dots, without the last dot; the root
 * is "". Names with any other octet cannot be a host of ours and are not spoken of (RFC 5321 §2.3.5);
 * internationalised names come as A-labels (base/idna.h). Pure; any thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum {
    DNS_NAME_SIZE = 254, /* 253 octets and a terminating zero: RFC 1035 §2.3.4 without lengths and root */
    DNS_LABEL_SIZE_MAX = 63,
};

/* Brings `text` (zero-terminated, a last dot is allowed) into the form and returns its length. -EINVAL: it is
   no name; the root alone is none. */
int dns_name_from_text(const char *text, char into[static DNS_NAME_SIZE]) __attribute__((warn_unused_result));

/* The same from the uncompressed wire format (RFC 1035 §3.1) in `wire`; the root becomes "". -EINVAL: it
   cannot be written in the form. */
int dns_name_from_wire(const uint8_t *wire, size_t size, char into[static DNS_NAME_SIZE])
    __attribute__((warn_unused_result));
