/*
 * The header scan reads the names of the fields at the top of a message: it counts trace fields, to find mail
 * that goes round in circles (RFC 5321 §6.3), tells which fields a submitted message lacks (RFC 6409 §8), and
 * finds where the header ends.
 *
 * It is fed content as the data scanner hands it out, lead and body in order, in pieces of any size. Names
 * match whatever their case, with or without white space before the colon (RFC 5322 §4.5). Once `end` is not
 * SMTP_HEADER_OPEN more bytes are not looked at. Pure: any thread may call it, one at a time for each scan.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum smtp_header_end {
    SMTP_HEADER_OPEN,       /* the header goes on */
    SMTP_HEADER_EMPTY_LINE, /* it ended as it should (RFC 5322 §2.1) */
    SMTP_HEADER_NO_FIELD,   /* it ended at a line that is neither a field nor empty */
};

struct smtp_header_scan {
    uint32_t received_count;     /* Received: fields so far */
    uint32_t delivered_to_count; /* Delivered-To: fields so far */
    enum smtp_header_end end;
    uint8_t state;       /* enum header_state in header.c */
    uint8_t name_size;   /* octets of the field name under way, as long as candidates are left */
    uint8_t candidates;  /* which of the names that are looked for the field name may still become */
    bool has_date;       /* a Date: field was there */
    bool has_message_id; /* a Message-ID: field was there */
    bool has_from;       /* a From: field was there */
    bool is_split;       /* with SMTP_HEADER_NO_FIELD: the line began in an earlier input */
};

void smtp_header_scan_init(struct smtp_header_scan *scan);

/*
 * Scans the next octets of the content, whose line ends are CRLF, and returns how many of them belong to the
 * header: all while it goes on, none once it had ended before.
 *
 * Where it ends at an empty line, that is the offset of the line's CR: fields that are added go there. The CR
 * alone decides, its LF may still be to come. Where it ends at a line that is no field, it is the offset at
 * which that line begins, or 0 if it began in an earlier input (is_split): then no field can be added behind
 * the others any more.
 */
size_t smtp_header_scan_feed(struct smtp_header_scan *scan, const char *bytes, size_t size);
