#pragma once

/*
 * The one form of a domain under which it is looked up and routed, however it was written (RFC 5890, RFC 6531
 * §3.2). What is sent on is still what came in.
 *
 * Any thread may call. A domain of ASCII alone costs a copy; only others go to libidn2, which allocates.
 */

#include <stddef.h>

enum { IDNA_KEY_SIZE = 256 }; /* RFC 5321 §4.5.3.1.2: 255 octets, and the terminating zero */

/* Writes the domain's key to `into`, zero-terminated, and returns its length (without the zero, at least 1).
   ASCII, and thus A-labels and address literals such as "[IPv6:2001:DB8::1]", is only put into small letters:
   its grammar is the caller's concern. U-labels become A-labels, looked up as UTS 46 says without its
   transitional mappings ("ß" stays itself), normalised to NFC first.
   -EINVAL: empty, or beyond ASCII and no valid internationalised domain (no UTF-8, a character that is not
   allowed or that turns into more than letters, digits, hyphens, underscores and dots; a label over 63
   octets). -ENAMETOOLONG: more than 255 octets, as given or as a key. Nothing is written on failure. */
int idna_domain_key(const char *domain, size_t size, char into[static IDNA_KEY_SIZE])
    __attribute__((warn_unused_result));
