/*
 * A line cuts a byte stream at CRLF, and at nothing else unless its owner is lenient, whatever the pieces in
 * which the stream arrives.
 *
 * Commands and replies share it. A line that lies in one piece is handed out where it lies; only a line that
 * straddles pieces is copied, into a spill buffer of its owner. A CR or LF outside CRLF is an event of its
 * own (RFC 5321 §2.3.8), because two programs that disagree about it can be made to see different messages.
 *
 * Pure: any thread may call it, one at a time for each object.
 */
#pragma once

#include "proto/slice.h"

#include <stddef.h>

/* What the parsers of commands and of replies answer. */
enum smtp_parse {
    SMTP_PARSE_MORE,   /* every octet was consumed and the line is not complete yet */
    SMTP_PARSE_DONE,   /* one line was understood; what follows it was left alone */
    SMTP_PARSE_REJECT, /* one line was not understood; what follows it was left alone */
};

enum smtp_line_event {
    SMTP_LINE_MORE,
    SMTP_LINE_COMPLETE, /* a line within the limit; its text, without CRLF, is in *text */
    SMTP_LINE_TOO_LONG, /* the CRLF of a line beyond the limit was reached; its text is gone */
    SMTP_LINE_BARE_LF,  /* LF without CR before it, not lenient: the stream is broken for good */
    SMTP_LINE_BARE_CR,  /* CR without LF after it: the stream is broken for good */
};

struct smtp_line {
    uint16_t capacity;   /* size of the owner's spill buffer; immutable after init */
    uint16_t spill_size; /* octets of the line under way that lie there, its CR not among them */
    uint8_t state;       /* enum line_state in line.c */
    bool lenient;        /* LF alone ends a line, too; the owner may change it between two lines */
};

/*
 * capacity: the longest line in octets, with its CRLF; at least 2. Without leniency. A line that ends with LF
 * alone may have as much text as one that ends with CRLF, not an octet more.
 */
void smtp_line_init(struct smtp_line *line, uint16_t capacity);

/*
 * Takes octets up to and including the next line end. `spill` is the owner's buffer of `capacity` octets, the
 * same one at each call. *consumed says how many octets were taken; after a bare LF or CR it is just behind
 * that octet (0 if a CR that came earlier proves to be bare), and each later call repeats the event and
 * swallows what it is given. *text is written for SMTP_LINE_COMPLETE only; it points into `bytes` or into
 * `spill` and is valid until the next call or until `bytes` goes.
 */
enum smtp_line_event smtp_line_take(struct smtp_line *line, char *spill, const char *bytes, size_t size,
                                    size_t *consumed, struct smtp_slice *text)
    __attribute__((warn_unused_result));
