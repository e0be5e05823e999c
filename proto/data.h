/*
 * The data scanner finds the end of a message in the bytes after DATA (RFC 5321 §4.1.1.4, §4.5.2).
 *
 * The message ends at CRLF "." CRLF, or at "." CRLF if that is the very first line, and nowhere else. A CR or
 * LF that is not part of CRLF makes the content unacceptable, so there is no second reading by which a
 * message could be smuggled. Content is kept in its form on the wire: CRLF line ends, dots still stuffed,
 * without the final "." CRLF. It is thus empty, or ends with CRLF. Pure: any thread may call it, one at a
 * time for each scanner.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum smtp_data {
    SMTP_DATA_MORE,    /* the whole input was taken and the message goes on */
    SMTP_DATA_END,     /* the message is complete */
    SMTP_DATA_BARE_LF, /* unacceptable content: answer SMTP_REFUSAL_BARE_LF and close */
    SMTP_DATA_BARE_CR, /* unacceptable content: answer SMTP_REFUSAL_BARE_CR and close */
};

struct smtp_data_chunk {
    size_t consumed;  /* octets of the input taken; after SMTP_DATA_END the rest is the next command */
    const char *lead; /* static; what was held back from earlier input and is content: store it first */
    const char *body; /* the slice of the input to store next */
    size_t lead_size; /* octets, 0 or 1 */
    size_t body_size; /* octets; less than consumed when a dot is held back or the message ended */
};

struct smtp_data_carry;
struct smtp_data_block;
typedef size_t smtp_data_kernel(const char *bytes, size_t block_count, struct smtp_data_carry *carry,
                                struct smtp_data_block *block);

struct smtp_data_scanner {
    uint64_t size;            /* octets of content handed out so far, lead and body */
    smtp_data_kernel *kernel; /* what this CPU runs best; immutable after init */
    uint8_t state;            /* enum data_state in data.c */
    bool dot_lines;           /* some line of the content begins with a dot: for BDAT it must be unstuffed */
    bool has_8bit;            /* some octet of the content is above 127 */
};

/* Begins a message. Cheap enough to be called for each one. */
void smtp_data_scanner_init(struct smtp_data_scanner *scanner);

/*
 * Scans the next octets of the content. `out` is always written. A "." or "." CR that begins a line at the
 * end of the input is held back, as it may be the end of the message; a CR at the end of a line is handed out
 * at once.
 *
 * After SMTP_DATA_BARE_LF or _BARE_CR lead and body are empty, `consumed` is just behind the
 * offending octet (0 if a CR of an earlier input proved to be bare), and size and flags mean nothing any
 * more. A scanner that answered anything but SMTP_DATA_MORE must be initialised again before the next call.
 */
enum smtp_data smtp_data_scan(struct smtp_data_scanner *scanner, const char *bytes, size_t size,
                              struct smtp_data_chunk *out) __attribute__((warn_unused_result));
