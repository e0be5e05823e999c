/*
 * The header scan counts trace fields at the top of a message, to find mail that goes round in circles (RFC
 * 5321 §6.3).
 *
 * It is fed content as the data scanner hands it out, lead and body in order, in pieces of any size. Once
 * `done` is set more bytes are not looked at. Pure: any thread may call it, one at a time for each scan.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct smtp_header_scan {
    uint32_t received_count;     /* Received: fields so far */
    uint32_t delivered_to_count; /* Delivered-To: fields so far */
    uint8_t state;               /* enum header_state in header.c */
    uint8_t name_size;           /* octets of the field name under way, as long as candidates are left */
    uint8_t candidates;          /* which of the names that are counted the field name may still become */
    bool done;                   /* the header ended: at an empty line, or at a line that is no field */
};

void smtp_header_scan_init(struct smtp_header_scan *scan);

/* Scans the next octets of the content, whose line ends are CRLF; does nothing once done. */
void smtp_header_scan_feed(struct smtp_header_scan *scan, const char *bytes, size_t size);
