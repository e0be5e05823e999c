/* What this program is made of. Main thread. */
#pragma once

/* The version of Sluice and of each library in use, a line each, to standard output. */
void version_print(void);

/* Whether the libraries that the loader found are those that we were built for: 0, or -1 and a line on
 * standard error. */
int version_check(void);
