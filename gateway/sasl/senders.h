#pragma once

/*
 * Which reverse-paths a login may use: the file that `auth_senders` names, as an immutable table.
 *
 * One line a login: its name, then what it may say in MAIL FROM, separated by spaces or tabs:
 *
 *     alice@example.com   alice@example.com  sales@example.com  <>
 *     newsletter          @example.com  @.example.net
 *     admin               *
 *     *                   @example.com
 *
 *     local@domain   exactly this address
 *     @domain        every address at exactly this domain
 *     @.domain       every address at this domain and all below it
 *     <>             the null reverse-path; nothing else grants it but "*"
 *     *              everything
 *
 * Several lines of one login add up. The login "*" holds what a login without a line of its own may use.
 * Where there is no such line either, a login may use its own name, if that is an address, and nothing else.
 *
 * Domains are compared without regard to the case of ASCII letters, logins and local parts octet by octet;
 * an address that is spelled another way (a quoted local part, a U-label for an A-label) is another address.
 * Lines that are empty or begin with "#" are comments.
 *
 * Any thread may load, which blocks on the disk; what was loaded never changes, and any thread may ask.
 */

#include "proto/slice.h"

#include <stdbool.h>
#include <stddef.h>

struct senders;

/* 0, and the caller owns *senders; -EINVAL for a mistake in the file, -EPERM for a file that others may
   write, -ENOMEM, or another negative errno. `error` is as with users_load. */
int senders_load(const char *path, struct senders **senders, char *error, size_t error_size)
    __attribute__((warn_unused_result));

/* NULL is fine. */
void senders_free(struct senders *senders);

/* Whether who logged in as `login` may use `reverse_path` (without its brackets; empty: the null path). */
bool senders_allow(const struct senders *senders, struct smtp_slice login, struct smtp_slice reverse_path)
    __attribute__((warn_unused_result));
