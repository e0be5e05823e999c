/*
 * The grammar of paths once more, as regular expressions put together from the ABNF of RFC 5321 and RFC 6531,
 * for the real parser to be compared with.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct naive_path {
    size_t used; /* octets from "<" to ">" */
    size_t local_at, local_size;
    size_t domain_at, domain_size; /* 0, 0 if there is none */
    bool is_utf8;
};

/* Whether `text`, which ends with NUL, begins with a path; fills in *path if so. */
bool naive_path(const char *text, bool forward, bool allow_utf8, struct naive_path *path);

/*
 * Ends the program, with a message, if smtp_path_parse() and naive_path() differ about the text, for either
 * kind of path, with and without UTF-8. True if it begins with a path in any of these.
 */
bool naive_path_check(const char *text, size_t size);
