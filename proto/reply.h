/*
 * The reply parser turns the bytes of an SMTP server into reply lines (RFC 5321 §4.2, RFC 2034).
 *
 * It is resumable at every byte and hands out one line at a time, so a reply of many lines needs no memory.
 * It is strict about CRLF, code and the agreement of the lines of one reply, as everything after a misread
 * reply would be attributed to the wrong command. Pure: any thread may call it, one at a time for each
 * parser.
 */
#pragma once

#include "proto/extension.h"
#include "proto/line.h"

#define SMTP_REPLY_LINE_MAX  1024 /* octets with CRLF; RFC 5321 §4.5.3.1.5 asks for 512 */
#define SMTP_REPLY_LINES_MAX 128  /* lines of one reply */

/* An enhanced status code (RFC 3463); class 0: the server gave none. */
struct smtp_status {
    uint16_t class; /* 2, 4 or 5, the same as the first digit of the code */
    uint16_t subject;
    uint16_t detail;
};

struct smtp_reply_line {
    struct smtp_slice line; /* all of it without CRLF, to be quoted; any octet but CR and LF may be in it */
    struct smtp_slice text; /* what follows the code and its separator, with the status; may be empty */
    struct smtp_status status; /* of this line */
    uint16_t code;             /* 200 to 599 */
    bool last;                 /* the reply ends with this line */
};

enum smtp_reply_fault {
    SMTP_REPLY_FAULT_NONE,
    SMTP_REPLY_FAULT_BARE_LF,
    SMTP_REPLY_FAULT_BARE_CR,
    SMTP_REPLY_FAULT_TOO_LONG,
    SMTP_REPLY_FAULT_CODE,     /* no code from 200 to 599, or something else than SP or "-" behind it */
    SMTP_REPLY_FAULT_CODES,    /* the lines of one reply have different codes */
    SMTP_REPLY_FAULT_TOO_MANY, /* more than SMTP_REPLY_LINES_MAX lines */
    SMTP_REPLY_FAULT_COUNT,
};

struct smtp_reply_parser {
    struct smtp_line line;
    uint16_t code;       /* of the reply under way; 0 between replies */
    uint16_t line_count; /* lines of the reply under way */
    uint8_t fault;       /* enum smtp_reply_fault, what SMTP_PARSE_REJECT was about */
    char spill[SMTP_REPLY_LINE_MAX];
};

void smtp_reply_parser_init(struct smtp_reply_parser *parser);

/*
 * Reads one line of a reply. *consumed says how many of the `size` octets were taken; `bytes` may be NULL
 * only if size is 0.
 *
 * SMTP_PARSE_MORE: all of them, and no line is complete. A server can keep it so for ever: set the deadline
 *     on the reply, not on its bytes.
 * SMTP_PARSE_DONE: *line is one line; its slices are valid until the next call on this parser or until
 *     `bytes` goes.
 * SMTP_PARSE_REJECT: parser->fault says why; nothing the server says can be attributed any more: close.
 *     Further calls swallow all input and repeat the refusal.
 */
enum smtp_parse smtp_reply_parse(struct smtp_reply_parser *parser, const char *bytes, size_t size,
                                 size_t *consumed, struct smtp_reply_line *line)
    __attribute__((warn_unused_result));

/* What a fault is called in a log: "bare LF in reply". Static; not for SMTP_REPLY_FAULT_NONE. */
const char *smtp_reply_fault_text(enum smtp_reply_fault fault) __attribute__((returns_nonnull));
