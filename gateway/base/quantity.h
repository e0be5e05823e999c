#pragma once

/*
 * The quantities of the configuration as text: counts, sizes, time spans, percentages.
 *
 * All functions are pure, may be called from any thread, and return 0, -EINVAL for another form, or -ERANGE
 * where the form is right but the number does not fit; outputs are written only on success.
 */

#include <stdint.h>

/* A decimal number without sign: "1000". */
int parse_count(const char *text, uint64_t *count) __attribute__((warn_unused_result));

/* Bytes: "4096", "64K", "50M", "1G"; K, M, G are powers of 1024. */
int parse_size(const char *text, uint64_t *size_bytes) __attribute__((warn_unused_result));

/* A time span in microseconds: a number with its unit, "us", "ms", "s", "m", "h" or "d"; "0" needs none. */
int parse_span(const char *text, uint64_t *span_us) __attribute__((warn_unused_result));

/* "0%" … "100%". */
int parse_percent(const char *text, unsigned *percent) __attribute__((warn_unused_result));
