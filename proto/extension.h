/*
 * The service extensions, one bit each, and which of them a server announces in its reply to EHLO (RFC 5321
 * §4.1.1.1). Pure; any thread may call it.
 */
#pragma once

#include "proto/slice.h"

#define SMTP_EXT_PIPELINING          (UINT32_C(1) << 0)  /* RFC 2920 */
#define SMTP_EXT_SIZE                (UINT32_C(1) << 1)  /* RFC 1870 */
#define SMTP_EXT_8BITMIME            (UINT32_C(1) << 2)  /* RFC 6152 */
#define SMTP_EXT_ENHANCEDSTATUSCODES (UINT32_C(1) << 3)  /* RFC 2034 */
#define SMTP_EXT_CHUNKING            (UINT32_C(1) << 4)  /* RFC 3030 */
#define SMTP_EXT_BINARYMIME          (UINT32_C(1) << 5)  /* RFC 3030 */
#define SMTP_EXT_STARTTLS            (UINT32_C(1) << 6)  /* RFC 3207 */
#define SMTP_EXT_SMTPUTF8            (UINT32_C(1) << 7)  /* RFC 6531 */
#define SMTP_EXT_DSN                 (UINT32_C(1) << 8)  /* RFC 3461 */
#define SMTP_EXT_AUTH                (UINT32_C(1) << 9)  /* RFC 4954 */
#define SMTP_EXT_XCLIENT             (UINT32_C(1) << 10) /* Postfix's XCLIENT_README */
#define SMTP_EXT_XFORWARD            (UINT32_C(1) << 11) /* Postfix's XFORWARD_README */

/*
 * The extension that one line of the reply announces, 0 if it is none of these. `text` is the text slice of a
 * 250 line; the first line of the reply holds the server's name and must not be given. *size_limit is written
 * for SIZE alone: the largest message in octets, or 0 if the server names no limit or one that is no number
 * of 64 bits.
 */
uint32_t smtp_ehlo_keyword(struct smtp_slice text, uint64_t *size_limit) __attribute__((warn_unused_result));
