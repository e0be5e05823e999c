/* What the control thread makes before there are threads: workers with their shards, bound ports, what all
 * workers share.
 */
#pragma once

struct config;
struct gateway;

/* "sluice: WHAT ABOUT: error" on standard error; returns `code`. */
int start_complain(int code, const char *what, const char *about, int error);

/* Makes the workers and deals the shards of the data folder to them. 0 or a negative errno; what was made is
 * the gateway's. */
int start_make_workers(struct gateway *gateway, const struct config *config)
    __attribute__((warn_unused_result));

/* Binds every listener for every worker. 0, or the exit code; why is on standard error. */
int start_bind(struct gateway *gateway, const struct config *config) __attribute__((warn_unused_result));

/* Makes the table of rates and the hasher. 0 or a negative errno. */
int start_make_shared(struct gateway *gateway, const struct config *config)
    __attribute__((warn_unused_result));
