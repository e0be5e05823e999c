#pragma once

/*
 * Which text may be a name or a password.
 *
 * SCRAM asks both sides to prepare text by SASLprep (RFC 4013), whose mappings need tables of all of Unicode.
 * We do the part that keeps a server safe and leave the text as it is: what SASLprep forbids is refused where
 * it matters here, nothing is mapped or normalised. For ASCII that is SASLprep exactly; beyond it, a client
 * that normalises logs in when the stored text was in normal form (NFKC) already, as keyboards produce it.
 *
 * Pure functions; any thread.
 */

#include <stdbool.h>
#include <stddef.h>

/* Well-formed UTF-8 (RFC 3629) without control characters (C0, DEL, C1) and noncharacters, and not empty:
   what a client may send as a name or a password, and what a password may be. */
bool sasl_text_is_valid(const char *text, size_t size);

/* What a user may be called: the above, at most USER_NAME_MAX octets, without any kind of space, without ":",
   without the invisible marks that make two names look alike; not beginning with "#", and not "*". */
bool sasl_name_is_valid(const char *name, size_t size);
