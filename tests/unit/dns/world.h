/*
 * A resolver with two scripted name servers, and questions that remember their answers.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/outbound/dns/mx.h"
#include "gateway/outbound/dns/resolver.h"
#include "peer.h"

struct world {
    struct loop *loop;
    struct pool pool;
    struct counters counters;
    struct peer *peers[2];
    struct sockaddr_storage servers[2];
    struct resolver_options options; /* may be changed before world_start */
    struct resolver *resolver;
};

/* cmocka fixtures: *state is a world with 250 ms an attempt and 2,500 ms in all, not started. */
int world_setup(void **state);
int world_teardown(void **state);

void world_start(struct world *world);

/* A turn of the loop, and one of the servers. */
void world_turn(struct world *world);

/* Turns until `condition` holds; fails the test when that takes more than ten seconds. */
#define world_until(world, condition)                                                                        \
    do {                                                                                                     \
        uint64_t until_us = world_clock_us() + 10000000;                                                     \
        while (!(condition)) {                                                                               \
            if (world_clock_us() > until_us)                                                                 \
                fail_msg("ten seconds are over, still not: %s", #condition);                                 \
            world_turn(world);                                                                               \
        }                                                                                                    \
    } while (0)

uint64_t world_clock_us(void);

uint64_t world_count(const struct world *world, enum counter counter);

struct probe {
    struct resolver_query query;
    struct world *world;
    uint32_t calls;
    const struct dns_records *records; /* a reference */
};

/* Asks; the answer may come later. */
void probe_ask(struct world *world, struct probe *probe, const char *name, enum dns_type type);

/* Asks and waits for the answer, which lives until probe_end. */
const struct dns_records *probe_get(struct world *world, struct probe *probe, const char *name,
                                    enum dns_type type);
void probe_end(struct probe *probe);

/* Asks, waits, and checks: status, and count of records. */
void expect(struct world *world, const char *name, enum dns_type type, enum dns_status status,
            uint32_t count);
