#pragma once

/*
 * Asks a person, or a pipe, for a password.
 *
 * One thread, and no other may change the terminal or the handlers of signals meanwhile.
 */

#include <stdbool.h>
#include <stddef.h>

enum prompt_result {
    PROMPT_DONE,
    PROMPT_NO_TERMINAL, /* there is nobody to ask */
    PROMPT_END,         /* the input ended before a line did, or cannot be read */
    PROMPT_TOO_LONG,    /* the line does not fit */
};

/* Asks on the terminal, not showing what is typed; a signal that ends the program finds the terminal as it
   was. The line without its line feed, zero-terminated. */
enum prompt_result prompt_terminal(const char *question, char *line, size_t capacity)
    __attribute__((warn_unused_result));

/* Reads one line from standard input; the line feed may be missing at the end. */
enum prompt_result prompt_stdin(char *line, size_t capacity) __attribute__((warn_unused_result));
