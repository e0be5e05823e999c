#pragma once

/*
 * A query: from a destination whose hosts only the DNS knows to a next hop.
 *
 * All questions about one domain are asked by one worker, whose resolver remembers the answer; the others
 * send their queries there. So no name is asked for once by each worker.
 *
 *     the lane's worker: hop_query_begin ─▶ options.ask ┄┄▶ the domain's worker: hop_query_serve ─▶ resolver
 *                        hop_query_answered ◀── hop_query_answered ◀┄┄ options.answer ◀── answer ◀─────────┘
 *
 * It belongs to the worker that holds it; the lane's worker may lose interest, which the other never learns.
 */

#include <stdbool.h>
#include <stdint.h>

#include "gateway/base/destination.h"
#include "gateway/outbound/dns/mx.h"
#include "gateway/outbound/next_hop.h"

struct lane_link;
struct outbound;

struct hop_query {
    /* the lane's worker's */
    struct outbound *asker;
    struct lane_link *link; /* whose lane waits; NULL: none does any more */

    /* the question */
    uint32_t worker;                /* whose resolver is asked */
    enum config_security tls;       /* of the next hop; UNSET: the limits of its site say it */
    struct destination_text *hosts; /* of a line of the route file; NULL: the domain's MX */
    char domain[DNS_NAME_SIZE];

    /* the asked worker's */
    struct outbound *server;
    struct mx_query mx;
    uint32_t result_count;
    struct mx_result *results[NEXT_HOP_HOSTS_MAX]; /* one, or one for each host; NULL: it has its addresses */

    /* the answer */
    struct next_hop *hop; /* a reference; NULL: a verdict */
    uint16_t code;        /* of the verdict: 4xx or 5xx */
    char reason[200];     /* begins with a status code, reply or enhanced */
    uint64_t ttl_s;

    struct hop_query *next; /* the holder's own */
};

/* Asks for where the domain's mail goes; `hosts` belongs to the query from now on. False: no memory, and
 * `hosts` is freed. The lane's worker. */
bool hop_query_begin(struct outbound *outbound, struct lane_link *link, const char *domain,
                     struct destination_text *hosts, enum config_security tls)
    __attribute__((warn_unused_result));

/* On the worker that is asked: the answer goes by options.answer, later. */
void hop_query_serve(struct outbound *outbound, struct hop_query *query);

/* On the lane's worker: takes the answer and frees the query. */
void hop_query_answered(struct hop_query *query);
