/*
 * A path is the address in MAIL FROM and RCPT TO, checked against the grammar of RFC 5321 §4.1.2.
 *
 * Nothing is rewritten: the slices point at the octets that came in, so what is sent on is what was received.
 * A source route (RFC 5321, appendix C) is checked and left out. Pure; any thread may call it.
 */
#pragma once

#include "proto/slice.h"

#define SMTP_LOCAL_PART_MAX 64  /* octets, with the quotes of a quoted string (RFC 5321 §4.5.3.1.1) */
#define SMTP_DOMAIN_MAX     255 /* octets (§4.5.3.1.2) */
#define SMTP_LABEL_MAX      63  /* octets between two dots of a domain (RFC 1035 §2.3.4) */
#define SMTP_PATH_MAX       256 /* octets, with angle brackets and source route (§4.5.3.1.3) */

struct smtp_path {
    struct smtp_slice text;   /* the mailbox without brackets and source route; empty: the null path <> */
    struct smtp_slice local;  /* what stands before the last @, in its quotes if it came in quotes */
    struct smtp_slice domain; /* a domain, or a literal in its brackets; empty for <> and <postmaster> */
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
    SMTP_PATH_NON_ASCII, /* would need SMTPUTF8 (RFC 6531), which is not offered */
};

/*
 * Reads one path from the beginning of `text`. *path and *used, the octets from "<" to ">", are written on
 * SMTP_PATH_OK only. Control characters are for the caller to refuse beforehand; if one comes all the same,
 * it is a syntax fault.
 */
enum smtp_path_fault smtp_path_parse(struct smtp_slice text, enum smtp_path_kind kind, struct smtp_path *path,
                                     uint32_t *used) __attribute__((warn_unused_result));
