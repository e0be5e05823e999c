#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/outbound/dns/resolver_inner.h"
#include "world.h"

/* Many domains at once, most of them with name servers that are silent. */

static const char zone[] = "good.test MX 10 mx.good.test\n"
                           "mx.good.test A 192.0.2.1\n"
                           "hosted.test MX 10 dead.hosted.test\n";

struct ask {
    struct mx_query query;
    char domain[32];
    uint32_t calls;
    enum mx_status status;
};

static struct world *start(void **state)
{
    struct world *world = *state;
    world->options.settings.server_count = 1;
    peer_zone(world->peers[0], zone);
    world->peers[0]->deaf_to = "dead";
    world_start(world);
    return world;
}

static void on_result(struct mx_query *query, struct mx_result *result)
{
    struct ask *ask = query->ctx;
    assert_non_null(result);
    assert_int_equal(ask->calls++, 0);
    ask->status = result->status;
    mx_result_free(result);
}

static void begin(struct world *world, struct ask *ask, const char *domain)
{
    *ask = (struct ask){.query.ctx = ask};
    snprintf(ask->domain, sizeof(ask->domain), "%s", domain);
    mx_ask(world->resolver, &ask->query, ask->domain, on_result);
    assert_int_equal(ask->calls, 0);
}

/* The questions about silent domains; the caller's to free. */
static struct ask *begin_dead(struct world *world, size_t count)
{
    struct ask *asks = calloc(count, sizeof(*asks));
    assert_non_null(asks);
    for (size_t index = 0; index < count; index++) {
        char domain[32];
        snprintf(domain, sizeof(domain), "dead%zu.test", index);
        begin(world, &asks[index], domain);
    }
    return asks;
}

static void cancel_all(struct ask *asks, size_t count)
{
    for (size_t index = 0; index < count; index++)
        mx_cancel(&asks[index].query);
    free(asks);
}

/* Milliseconds until the good domain, asked for now, has its answer. */
static uint64_t good_takes_ms(struct world *world)
{
    struct ask good;
    uint64_t begin_us = world_clock_us();
    begin(world, &good, "good.test");
    world_until(world, good.calls == 1);
    assert_int_equal(good.status, MX_OK);
    return (world_clock_us() - begin_us) / 1000;
}

static void who_waits_costs_little_memory(void **state)
{
    enum { DOMAINS = 20000, BYTES_MAX = 4 << 20 };
    struct world *world = start(state);
    struct ask *asks = begin_dead(world, DOMAINS);
    size_t most = world->pool.used_bytes;
    for (int turn = 0; turn < 200; turn++) {
        world_turn(world);
        most = world->pool.used_bytes > most ? world->pool.used_bytes : most;
    }
    assert_in_range(most, 1, BYTES_MAX);
    assert_int_equal(resolver_load(world->resolver).mx_lookups, RESOLVER_MX_MAX);
    cancel_all(asks, DOMAINS);
    assert_int_equal(resolver_load(world->resolver).mx_lookups, 0);
}

/* With the times of real life. */
static void a_good_domain_passes_many_silent_ones(void **state)
{
    enum { DOMAINS = 1500 };
    struct world *world = *state;
    world->options.attempt_ms = 0;
    world->options.total_ms = 0;
    start(state);
    struct ask *asks = begin_dead(world, DOMAINS);
    assert_in_range(good_takes_ms(world), 0, 7000);
    /* Now that all of them have met silence, nobody waits for them any more. */
    uint64_t until_us = world_clock_us() + 2000000;
    while (world_clock_us() < until_us)
        world_turn(world);
    resolver_flush(world->resolver);
    assert_in_range(good_takes_ms(world), 0, 500);
    cancel_all(asks, DOMAINS);
}

/* More than may be worked at: each leaves its place soon. */
static void a_crowd_is_not_waited_for_long(void **state)
{
    enum { DOMAINS = 400 };
    struct world *world = *state;
    world->options.mx_max = 100;
    world->options.sockets_max = 50;
    start(state);
    struct ask *asks = begin_dead(world, DOMAINS);
    /* Four times 2.5 s would be the time of those who are not in haste. */
    assert_in_range(good_takes_ms(world), 0, 6000);
    cancel_all(asks, DOMAINS);
}

/* All of them wait for one host. */
static void one_dead_host_of_many_domains_is_given_up_once(void **state)
{
    struct world *world = *state;
    world->options.mx_max = 4;
    start(state);
    struct ask asks[40];
    for (size_t index = 0; index < 40; index++)
        begin(world, &asks[index], "hosted.test");
    uint64_t begin_us = world_clock_us();
    for (size_t index = 0; index < 40; index++) {
        world_until(world, asks[index].calls == 1);
        assert_int_equal(asks[index].status, MX_TEMPORARY);
    }
    assert_in_range((world_clock_us() - begin_us) / 1000, 0, 2000);
}

static void without_a_crowd_there_is_no_haste(void **state)
{
    struct world *world = start(state);
    struct ask *asks = begin_dead(world, 20);
    uint64_t begin_us = world_clock_us();
    world_until(world, asks[19].calls == 1);
    assert_int_equal(asks[19].status, MX_TEMPORARY);
    assert_in_range((world_clock_us() - begin_us) / 1000, 1500, 8000);
    cancel_all(asks, 20);
}

static void who_waits_for_a_turn_may_leave(void **state)
{
    enum { DOMAINS = 30 };
    struct world *world = *state;
    world->options.mx_max = 3;
    start(state);
    struct ask *asks = begin_dead(world, DOMAINS);
    struct ask good;
    begin(world, &good, "good.test");
    assert_int_equal(resolver_load(world->resolver).mx_lookups, 3);
    for (size_t index = 0; index < DOMAINS; index += 2) {
        mx_cancel(&asks[DOMAINS - 1 - index].query);
        mx_cancel(&asks[index].query);
    }
    world_until(world, good.calls == 1);
    assert_int_equal(good.status, MX_OK);
    for (size_t index = 0; index < DOMAINS; index++)
        assert_int_equal(asks[index].calls, 0);
    cancel_all(asks, DOMAINS);
}

static void the_end_answers_who_waits_for_a_turn(void **state)
{
    enum { DOMAINS = 30 };
    struct world *world = *state;
    world->options.mx_max = 3;
    start(state);
    struct ask *asks = begin_dead(world, DOMAINS);
    world_turn(world);
    resolver_drop_pending(world->resolver);
    assert_false(resolver_is_idle(world->resolver));
    world_until(world, resolver_is_idle(world->resolver));
    for (size_t index = 0; index < DOMAINS; index++) {
        assert_int_equal(asks[index].calls, 1);
        assert_int_equal(asks[index].status, MX_TEMPORARY);
    }
    free(asks);
}

/* Who asks for the first time waits neither for a dead zone's second time nor for its third. */
static void who_met_silence_goes_aside(void **state)
{
    struct world *world = *state;
    world->options.sockets_max = 4;
    start(state);
    static struct probe probes[40];
    for (int index = 0; index < 40; index++) {
        char name[32];
        snprintf(name, sizeof(name), "dead%d.test", index);
        probe_ask(world, &probes[index], name, DNS_A);
    }
    uint64_t begin_us = world_clock_us();
    expect(world, "mx.good.test", DNS_A, DNS_OK, 1);
    assert_true(world_clock_us() - begin_us < 4000000);
    for (int index = 0; index < 40; index++) {
        while (probes[index].calls == 0) {
            world_turn(world);
            assert_in_range(world->resolver->socket_count, 0, 4 + 2);
            assert_in_range(world->resolver->slow_count, 0, 2);
        }
        assert_int_equal(probes[index].records->status, DNS_TEMPORARY);
        probe_end(&probes[index]);
    }
}

/* In a crowd nobody's first time may keep others from their second. */
static void who_was_answered_too_late_has_another_chance(void **state)
{
    enum { DEAD = 400 };
    static struct probe probes[DEAD];
    struct world *world = *state;
    world->options.sockets_max = 8;
    start(state);
    peer_play(world->peers[0], "mx.good.test", PEER_SILENT, 1);
    struct probe late;
    probe_ask(world, &late, "mx.good.test", DNS_A);
    for (int index = 0; index < DEAD; index++) {
        char name[32];
        snprintf(name, sizeof(name), "dead%d.test", index);
        probe_ask(world, &probes[index], name, DNS_A);
    }
    world_until(world, late.calls == 1);
    assert_int_equal(late.records->status, DNS_OK);
    probe_end(&late);
    for (int index = 0; index < DEAD; index++)
        probe_end(&probes[index]);
}

int main(void)
{
#define WORLD_TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        WORLD_TEST(who_waits_costs_little_memory),
        WORLD_TEST(a_good_domain_passes_many_silent_ones),
        WORLD_TEST(a_crowd_is_not_waited_for_long),
        WORLD_TEST(one_dead_host_of_many_domains_is_given_up_once),
        WORLD_TEST(without_a_crowd_there_is_no_haste),
        WORLD_TEST(who_met_silence_goes_aside),
        WORLD_TEST(who_was_answered_too_late_has_another_chance),
        WORLD_TEST(who_waits_for_a_turn_may_leave),
        WORLD_TEST(the_end_answers_who_waits_for_a_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
