#pragma once

/*
 * How a command says what came of it: a line for people, or one JSON object for programs.
 *
 * One thread. Text goes to standard output, errors to standard error; with --json the one object goes to
 * standard output in both cases, and an error's has the member "error".
 */

#include <stdbool.h>

struct report {
    const char *command; /* "passwd" */
    bool is_json;
};

/* Says what went wrong, and returns `code` (of sysexits.h). */
int report_error(const struct report *report, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4), warn_unused_result));

/* Writes the text as a JSON string, with its quotes. It is UTF-8 or becomes so: other octets become U+FFFD.
 */
void report_json_string(const char *text);
