#pragma once

/*
 * `sluicectl passwd`: writes, checks and deletes lines of the file of users.
 */

/* argv[0] is "passwd". A code of sysexits.h. */
int passwd_run(int argc, char **argv);
