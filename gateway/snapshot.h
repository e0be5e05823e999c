/* Everything that a configuration leads to, as one immutable whole that workers adopt: the file's values, the
 * TLS of its listeners and of its own connections, its users, senders, lists of recipients, routes, and
 * logins at next hops.
 *
 * The control thread makes, renews and frees snapshots; workers read the policies in them. A snapshot that
 * was made because one of the files changed shares all else with the one before it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "gateway/inbound/policy.h"
#include "gateway/outbound/policy.h"

struct log_writer;
struct tls_tickets;

struct snapshot {
    struct policy policy; /* of the receiving side */
    struct outbound_policy outbound;
    struct snapshot_core *core;   /* configuration and TLS */
    struct snapshot_part **parts; /* one for each file, in the order of snapshot.c */
    const struct table **lists;   /* what policy.recipients points to */
    struct snapshot *next;        /* the holder's own */
};

/*
 * Loads what `config` names; on success the snapshot owns it. A certificate that cannot be used is an error,
 * -EINVAL or what the system said, and `error` says which; so is a file of routes or of classes, since mail
 * would go astray. A file of users, senders, recipients or passwords that cannot be read is logged and stands
 * as missing: no login is offered, senders and recipients are told to come again. `tickets` is borrowed;
 * `log` may be NULL.
 */
int snapshot_new(struct config *config, struct tls_tickets *tickets, struct log_writer *log,
                 struct snapshot **snapshot, char *error, size_t error_size)
    __attribute__((warn_unused_result));

/* Looks whether files changed. A new snapshot, or NULL: nothing did (or no memory, and it is tried again). */
struct snapshot *snapshot_renew(struct snapshot *snapshot, struct log_writer *log);

/* NULL is ignored. No worker may use it any more. */
void snapshot_free(struct snapshot *snapshot);

/* Loads everything and lets it go again: 0, or a negative errno and the reason. For `-t`. */
int snapshot_check(struct config *config, char *error, size_t error_size) __attribute__((warn_unused_result));
