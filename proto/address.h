/*
 * Keys made from addresses: the form of a domain under which mail is routed and queued. Pure; any thread may
 * call it.
 */
#pragma once

#include "proto/slice.h"

#include <stddef.h>

/*
 * Writes `domain` with its ASCII letters in lower case to `into`. Returns its size in octets (no NUL is
 * added), or 0 if it does not fit into `capacity`; a buffer of SMTP_DOMAIN_MAX octets holds every domain of a
 * parsed path.
 */
size_t smtp_domain_lower(struct smtp_slice domain, char *into, size_t capacity)
    __attribute__((warn_unused_result));

/* True for the domain part "[192.0.2.1]" or "[IPv6:...]": an address to connect to, not a name to look up. */
static inline bool smtp_domain_is_literal(struct smtp_slice domain)
{
    return domain.size > 0 && domain.data[0] == '[';
}
