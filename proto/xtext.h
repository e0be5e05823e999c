/*
 * xtext is how SMTP writes arbitrary octets in a parameter: "+" and two hexadecimal digits for what may not
 * stand there itself (RFC 3461 §4).
 *
 *     xtext   = *( xchar / hexchar )
 *     xchar   = %d33-126, but neither "+" nor "="
 *     hexchar = "+" and two digits out of 0-9 and A-F, upper case alone
 *
 * What decodes to a control character (below 32, or 127) is refused here for everybody: CR, LF and NUL in an
 * envelope would become lines of a later command or report. Octets above 127 pass; whether they make sense is
 * for the caller. Pure; any thread may call it.
 */
#pragma once

#include "proto/slice.h"

#include <stddef.h>

/* True if `text` is xtext without hidden controls; the empty text is. */
bool smtp_xtext_check(struct smtp_slice text) __attribute__((warn_unused_result));

/*
 * Writes what `text` stands for to `into`. Returns its size in octets (no NUL is added), never more than
 * text.size; or -1 if the text is no xtext, hides a control or does not fit into `capacity`, and then what
 * `into` holds is of no use.
 */
int smtp_xtext_decode(struct smtp_slice text, char *into, size_t capacity)
    __attribute__((warn_unused_result));
