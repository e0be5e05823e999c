/*
 * IP addresses as text become octets in network order.
 *
 * There is one way to write each number: decimals have no superfluous zeros, so that nobody takes them for
 * octal. Pure; any thread may call them.
 */
#pragma once

#include "proto/slice.h"

/* Dotted decimals, "192.0.2.1". False if the text is anything else; the octets are written on success only.
 */
bool smtp_ipv4_parse(struct smtp_slice text, uint8_t octets[4]) __attribute__((warn_unused_result));

/*
 * Groups of one to four hex digits, at most one "::" for one or more groups of zeros, and perhaps dotted
 * decimals in place of the last two groups (RFC 4291 §2.2). No zone, no brackets. False if the text is
 * anything else; the octets are written on success only.
 */
bool smtp_ipv6_parse(struct smtp_slice text, uint8_t octets[16]) __attribute__((warn_unused_result));

/* A decimal number up to `most` without superfluous zeros; false if the text is anything else. */
bool smtp_decimal_parse(struct smtp_slice text, uint32_t most, uint32_t *number)
    __attribute__((warn_unused_result));
