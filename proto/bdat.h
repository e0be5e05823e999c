/*
 * The BDAT scanner takes content that comes in chunks of announced size (RFC 3030 §2), and hands it out in
 * the form that content has after DATA: CRLF line ends, dots stuffed.
 *
 * So one stored form serves delivery by DATA and by BDAT. The session cuts the stream at the borders of
 * chunks; to the scanner they mean nothing: a CR may be the last octet of one chunk and its LF the first of
 * the next. Pure: any thread may call it, one at a time for each scanner.
 */
#pragma once

#include "proto/data.h"

enum smtp_bdat_mode {
    SMTP_BDAT_TEXT,           /* a bare CR or LF makes the content unacceptable, as after DATA */
    SMTP_BDAT_TEXT_NORMALISE, /* a bare CR or LF becomes CRLF */
    SMTP_BDAT_BINARY,         /* BODY=BINARYMIME: octets without lines; handed out untouched, not stuffed */
};

struct smtp_bdat_scanner {
    uint64_t size;            /* octets handed out so far, lead and body: more than the chunks announced */
    smtp_data_kernel *kernel; /* what this CPU runs best; immutable after init */
    uint8_t mode;             /* enum smtp_bdat_mode; immutable after init */
    uint8_t state;            /* enum bdat_state in bdat.c */
    bool dot_lines;           /* a line was stuffed; never in SMTP_BDAT_BINARY */
    bool has_8bit;            /* some octet is above 127 */
    bool has_nul;             /* some octet is NUL */
};

/* Begins a message. Cheap enough to be called for each one. */
void smtp_bdat_scanner_init(struct smtp_bdat_scanner *scanner, enum smtp_bdat_mode mode);

/*
 * Scans the next octets, at most up to the end of the chunk at hand. `out` is always written.
 *
 * SMTP_DATA_MORE: store lead, then body. It takes the whole input, but may stop at a line that begins with a
 * dot, or at a newline to be normalised, with 0 < consumed < size: call again with the rest. Ordinary text
 * is one body. SMTP_DATA_BARE_LF and _BARE_CR come in SMTP_BDAT_TEXT alone, in the form described in data.h.
 * SMTP_DATA_END never comes: the announced sizes and smtp_bdat_end() make the end.
 */
enum smtp_data smtp_bdat_scan(struct smtp_bdat_scanner *scanner, const char *bytes, size_t size,
                              struct smtp_data_chunk *out) __attribute__((warn_unused_result));

/*
 * Ends the message, once all octets of the LAST chunk were scanned. SMTP_DATA_END: lead is what completes
 * the last line (CRLF if it had no line end; LF for a CR at the very end when normalising; nothing for
 * SMTP_BDAT_BINARY), to be stored behind everything; consumed and body_size are 0. SMTP_DATA_BARE_CR:
 * SMTP_BDAT_TEXT ended in a CR. Either way the scanner must be initialised before it is used again.
 */
enum smtp_data smtp_bdat_end(struct smtp_bdat_scanner *scanner, struct smtp_data_chunk *out)
    __attribute__((warn_unused_result));
