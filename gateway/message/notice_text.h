#pragma once

/*
 * What the parts of a notice are written with: text that grows in a block of fixed size, and the ways in
 * which octets that a stranger chose become harmless. Only gateway/message/notice*.c include this.
 *
 * The block is large enough for the largest piece, so there is nothing to check for the caller: that it never
 * overflows is asserted.
 */

#include "proto/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct notice_text {
    char *at;
    char *end;
    uint32_t column; /* octets since the last line end */
    bool is_utf8;    /* characters beyond ASCII may be written */
};

/* What we wrote ourselves, line ends included. */
void notice_put(struct notice_text *text, const char *literal);
void notice_put_slice(struct notice_text *text, struct smtp_slice ours);
void notice_put_number(struct notice_text *text, uint64_t number);

/* Takes back what was written since `at` was where the text ended, at the beginning of a line. */
void notice_text_cut(struct notice_text *text, char *at);

/* Whether a time, which may come from a disk, is known and can be written: after 1970, before 10000. */
bool notice_is_time(int64_t time_ms) __attribute__((warn_unused_result));

/* "Sat, 21 Nov 2026 22:19:42 +0000" */
void notice_put_date(struct notice_text *text, int64_t time_ms);

/* On the line that is begun: a control becomes a blank, what is no character or does not belong into a line
 * of text "?". At most `most` octets of `foreign` are looked at. */
void notice_put_harmless(struct notice_text *text, struct smtp_slice foreign, uint32_t most);

/* The same in lines of about 76 octets, each but the first after CRLF and `indent`. */
void notice_put_folded(struct notice_text *text, struct smtp_slice foreign, uint32_t most,
                       const char *indent);

/* A host's name or address literal: letters, digits, ".-_:[]". */
void notice_put_name(struct notice_text *text, struct smtp_slice name);

/* The host that said something: an address becomes a literal (RFC 5321 §4.1.3), the path of a socket stays.
 */
void notice_put_host(struct notice_text *text, struct smtp_slice host);

/* Whether it is the path of a socket. */
bool notice_is_socket(struct smtp_slice host) __attribute__((warn_unused_result));

/* The address with its type for the fields of RFC 3464: "rfc822; ", or "utf-8; " where it is not ASCII, then
 * in the form of RFC 6533 §3 that the notice can carry. */
void notice_put_typed_address(struct notice_text *text, struct smtp_slice address);

/* The same of what stood behind ORCPT=, decoded; false: it makes no sense. Only what is
 * there already is then in the text. */
bool notice_put_orcpt(struct notice_text *text, struct smtp_slice orcpt) __attribute__((warn_unused_result));
