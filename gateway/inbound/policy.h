#pragma once

/*
 * What the receiving side looks things up in: the configuration and what was loaded because of it, as one
 * immutable snapshot.
 *
 * Made and freed by the control thread; workers adopt one at a loop turn and read it. A session keeps no
 * pointer into it between two turns. Files that change are loaded again into a new snapshot, which shares
 * what did not change with the old one.
 */

#include "gateway/base/routes.h"

struct config;
struct senders;
struct table;
struct tls_server;
struct users;

struct policy {
    const struct config *config;
    struct tls_server *const *tls;         /* one for each listener; NULL where TLS is off */
    const struct users *users;             /* NULL: there are none, or they cannot be read */
    const struct senders *senders;         /* who may send as whom; NULL: cannot be read, or none is named */
    const struct table *const *recipients; /* one for each config->recipients; NULL: cannot be read */
    struct routes routes;
};
