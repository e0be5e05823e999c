#pragma once

/*
 * The end of the process for a state that must not go on, with a reason that a human can read.
 *
 * assert() is for what we believe about our own code; panic() is its sibling for when the belief deserves a
 * sentence, or the world (a kernel, a lack of memory for a few bytes at start) leaves no way to continue.
 * Never for what a peer or the disk sent. Any thread may call; the message goes straight to standard error.
 */

/* Writes "sluice: panic: FILE:LINE: MESSAGE" to standard error and aborts. */
#define panic(...) panic_at(__FILE__, __LINE__, __VA_ARGS__)

_Noreturn void panic_at(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
