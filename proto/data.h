/*
 * The data scanner finds the end of a message in the bytes after DATA (RFC 5321 §4.1.1.4, §4.5.2).
 *
 * The message ends at CRLF "." CRLF, or at "." CRLF if that is the very first line, and nowhere else,
 * whatever the mode. A CR or LF that is not part of CRLF is refused (SMTP_DATA_STRICT) or becomes a CRLF in
 * what is handed out (SMTP_DATA_NORMALISE), so there is no second reading by which a message could be
 * smuggled. Content is kept in its form on the wire: CRLF line ends, dots still stuffed, without the final
 * "." CRLF. It is thus empty, or ends with CRLF. Pure: any thread may call it, one at a time for each
 * scanner.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum smtp_data {
    SMTP_DATA_MORE,    /* what was consumed was taken, and the message goes on */
    SMTP_DATA_END,     /* the message is complete */
    SMTP_DATA_BARE_LF, /* unacceptable content: answer SMTP_REFUSAL_BARE_LF and close */
    SMTP_DATA_BARE_CR, /* unacceptable content: answer SMTP_REFUSAL_BARE_CR and close */
};

/*
 * What a bare CR or LF means. Normalising keeps to the strict reading of where the message ends and which
 * dots are stuffing; a bare newline is then only an odd octet within a line, and each becomes CRLF:
 *
 *     a dot behind it is the sender's own, so it is handed out stuffed, as ".."
 *     a dot at the beginning of a line with nothing but a bare newline behind it was stuffing, so it is left
 *     out: behind the new line end it would be an end of the message that nobody sent
 *
 * A strict reader of what is handed out thus sees the same message, and the same end.
 */
enum smtp_data_mode {
    SMTP_DATA_STRICT,
    SMTP_DATA_NORMALISE,
};

#define SMTP_DATA_LEAD_MAX 4 /* octets */

struct smtp_data_chunk {
    size_t consumed;  /* octets of the input taken; after SMTP_DATA_END the rest is the next command */
    const char *lead; /* static; to be stored before the body: what was held back from earlier input and is
                         content, or what a bare newline became */
    const char *body; /* the slice of the input to store next; it may begin behind the input's first octet */
    size_t lead_size; /* octets, at most SMTP_DATA_LEAD_MAX; 0 or 1 in SMTP_DATA_STRICT */
    size_t body_size; /* octets; less than consumed when octets are held back or replaced, or at the end */
};

struct smtp_data_carry;
struct smtp_data_block;
typedef size_t smtp_data_kernel(const char *bytes, size_t block_count, struct smtp_data_carry *carry,
                                struct smtp_data_block *block);

struct smtp_data_scanner {
    uint64_t size;            /* octets of content handed out so far, lead and body */
    smtp_data_kernel *kernel; /* what this CPU runs best; immutable after init */
    uint8_t mode;             /* enum smtp_data_mode; immutable after init */
    uint8_t state;            /* enum data_state in data.c */
    bool dot_lines;           /* some line of the content begins with a dot: for BDAT it must be unstuffed */
    bool has_8bit;            /* some octet of the content is above 127 */
    bool has_nul;             /* some octet of the content is NUL */
};

/* Begins a message. Cheap enough to be called for each one. */
void smtp_data_scanner_init(struct smtp_data_scanner *scanner, enum smtp_data_mode mode);

/*
 * Scans the next octets of the content. `out` is always written. A "." or "." CR that begins a line at the
 * end of the input is held back, as it may be the end of the message; a CR at the end of a line is handed out
 * at once.
 *
 * SMTP_DATA_MORE takes the whole input in SMTP_DATA_STRICT. In SMTP_DATA_NORMALISE it may stop at a bare
 * newline with 0 < consumed < size: call again with the rest.
 *
 * After SMTP_DATA_BARE_LF or _BARE_CR, which SMTP_DATA_STRICT alone gives, lead and body are empty,
 * `consumed` is just behind the offending octet (0 if a CR of an earlier input proved to be bare), and size
 * and flags mean nothing any more. A scanner that answered anything but SMTP_DATA_MORE must be initialised
 * again before the next call.
 */
enum smtp_data smtp_data_scan(struct smtp_data_scanner *scanner, const char *bytes, size_t size,
                              struct smtp_data_chunk *out) __attribute__((warn_unused_result));
