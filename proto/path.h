/*
 * A path is the address in MAIL FROM and RCPT TO, checked against the grammar of RFC 5321 §4.1.2 and §4.1.3
 * and, where the caller lets it, of RFC 6531 §3.3.
 *
 * Nothing is rewritten: the slices point at the octets that came in, so what is sent on is what was received.
 * A source route (RFC 5321, appendix C) is checked and left out. Pure; any thread may call it.
 */
#pragma once

#include "proto/slice.h"

#define SMTP_LOCAL_PART_MAX 64  /* octets, with the quotes of a quoted string (RFC 5321 §4.5.3.1.1) */
#define SMTP_DOMAIN_MAX     255 /* octets (§4.5.3.1.2) */
#define SMTP_LABEL_MAX      63  /* octets between two dots of a domain, if all are ASCII (RFC 1035 §2.3.4) */
#define SMTP_PATH_MAX       256 /* octets, with angle brackets and source route (§4.5.3.1.3) */

struct smtp_path {
    struct smtp_slice text;   /* the mailbox without brackets and source route; empty: the null path <> */
    struct smtp_slice local;  /* what stands before the last @, in its quotes if it came in quotes */
    struct smtp_slice domain; /* a domain, or a literal in its brackets; empty for <> and <postmaster> */
    bool is_utf8;             /* what came in has octets above 127; all of it is well-formed UTF-8 */
};

enum smtp_path_kind {
    SMTP_PATH_REVERSE, /* <> is a path */
    SMTP_PATH_FORWARD, /* <postmaster>, in any case, is a path */
};

enum smtp_path_fault {
    SMTP_PATH_OK,
    SMTP_PATH_NO_BRACKET, /* the first octet is not "<" */
    SMTP_PATH_SYNTAX,
    SMTP_PATH_TOO_LONG,  /* the path, its local part, a domain or a label */
    SMTP_PATH_NON_ASCII, /* an octet above 127 where allow_utf8 is false */
};

/*
 * Reads one path from the beginning of `text`. *path and *used, the octets from "<" to ">", are written on
 * SMTP_PATH_OK only. Control characters are for the caller to refuse beforehand; if one comes all the same,
 * it is a syntax fault.
 *
 * With `allow_utf8` local parts and domains may hold UTF-8: no surrogates, overlong forms or C1 controls, and
 * none behind a backslash. Whether such a label makes a domain name is for IDNA to say (RFC 5890 §2.3.2.1),
 * as is its length: in UTF-8 it may pass 63 octets. The other limits count octets in any script.
 *
 * Of address literals (RFC 5321 §4.1.3) only IPv4 and the tag IPv6 are known: no other was ever registered.
 */
enum smtp_path_fault smtp_path_parse(struct smtp_slice text, enum smtp_path_kind kind, bool allow_utf8,
                                     struct smtp_path *path, uint32_t *used)
    __attribute__((warn_unused_result));
