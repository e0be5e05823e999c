#pragma once

/*
 * A first look at a configuration file, before libConfuse reads it.
 *
 * libConfuse 3.3 loses count of lines at comments, and where a string or a brace is not closed it can only
 * complain about the end of the file. So this scanner blanks out the comments, and checks how the words stand
 * together, with the exact line of each mistake; what the words mean is left to libConfuse and the key table.
 * After it, libConfuse's line numbers are right. For the files of the configuration only; control thread.
 */

#include <stddef.h>

struct config_scan {
    unsigned *section_lines; /* where the sections begin, in their order; malloc'd */
    size_t section_count;
    unsigned error_line;
    char error[256];
};

/* Blanks out the comments in `text` (`size` bytes and a zero) and checks it. 0; -EINVAL with `error` and
   `error_line`; -ENOMEM. config_scan_deinit is due in every case. */
int config_scan(struct config_scan *scan, char *text, size_t size) __attribute__((warn_unused_result));

void config_scan_deinit(struct config_scan *scan);
