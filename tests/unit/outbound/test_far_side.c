/*
 * The shaper and a far side with limits of its own, which nobody told us: how much of them is used, how often
 * it has to refuse, and how soon we notice that they changed.
 *
 * With SLUICE_SHAPER_CURVE=FILE in the environment one such story is written as CSV, for a picture.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/outbound/far_side.h"

static void a_ban_leaves_a_little_and_ends(void **state)
{
    (void)state;
    struct world *world = world_new(5, 100, 50);
    run_for(world, 60);
    world->far.per_second = 1;
    world->far.counting = COUNTING_FIXED;
    world->far.in_second = UINT32_MAX / 2;
    for (uint32_t second = 0; second < 60; second++) { /* nothing at all is taken */
        world->far.second = world->now / SECOND;
        world->far.in_second = UINT32_MAX / 2;
        run_for(world, 1);
    }
    assert_true(shaper_pace(&world->shaper) > 0);
    assert_true(shaper_pace(&world->shaper) < 1000);
    world->far.per_second = 100;
    uint32_t since = world_second(world);
    run_for(world, 300);
    assert_true(seconds_to_use(world, since, since + 300) <= 240);
    free(world);
}

struct place {
    uint32_t connections, per_second, latency_ms;
    enum counting counting;
};

/* What one refusal in a hundred allows a slow far side: some more time to notice, for tries are rare. */
static double patience(double rate)
{
    return 60 + 2.0 * SHAPER_REFUSAL_PRICE / rate;
}

static void check_use(const struct world *world, const struct place *place, uint32_t from, uint32_t to)
{
    double part = taken_rate(world, from, to) / capacity(world);
    double refused = refused_part(world, from, to);
    /* Of a message or two in a second, one refusal more is a lot. */
    double grace = 3 / (capacity(world) * (to - from));
    if (part < 0.9 || refused > 0.01 + (capacity(world) < 10 ? grace : 0))
        fail_msg("%u connections, %u/s, %u ms, counting %d: uses %.3f, refused %.4f", place->connections,
                 place->per_second, place->latency_ms, place->counting, part, refused);
}

static void live_at(const struct place *place)
{
    random_begin(1);
    struct world *world = world_new(place->connections, place->per_second, place->latency_ms);
    world->far.counting = place->counting;
    run_for(world, 300);
    assert_true(seconds_to_use(world, 0, 300) <= 60);
    check_use(world, place, 60, 300);

    world->far.connections *= 4;
    world->far.per_second *= 4;
    run_for(world, 300);
    if (seconds_to_use(world, 300, 600) > patience(capacity(world) / 4))
        fail_msg("%u connections, %u/s, %u ms, counting %d: the rise is seen after %u s", place->connections,
                 place->per_second, place->latency_ms, place->counting, seconds_to_use(world, 300, 600));

    world->far.connections /= 4;
    world->far.per_second /= 4;
    run_for(world, 300);
    if (taken_rate(world, 700, 900) < (capacity(world) < 10 ? 0.7 : 0.85) * capacity(world))
        fail_msg("%u connections, %u/s, %u ms, counting %d: after the fall only %.3f is used",
                 place->connections, place->per_second, place->latency_ms, place->counting,
                 taken_rate(world, 700, 900) / capacity(world));
    assert_true(refused_part(world, 700, 900) <= 0.01 + 4 / (capacity(world) * 200));
    free(world);
}

static void far_sides_of_all_kinds_are_used_and_hardly_annoyed(void **state)
{
    (void)state;
    const uint32_t connections[] = {1, 2, 5, 12}, rates[] = {0, 1, 3, 10, 30, 100, 500};
    const uint32_t latencies[] = {1, 20, 100, 500};
    for (size_t c = 0; c < 4; c++)
        for (size_t r = 0; r < 7; r++)
            for (size_t l = 0; l < 4; l++)
                for (int counting = 0; counting < (rates[r] > 0 ? COUNTING_COUNT : 1); counting++) {
                    struct place place = {connections[c], rates[r], latencies[l], counting};
                    if (connections[c] * 1000 / latencies[l] <= 2000) /* of simulated work */
                        live_at(&place);
                }
}

static void fifty_connections_and_two_thousand_messages_a_second(void **state)
{
    (void)state;
    const struct place places[] = {
        {50, 2000, 20, COUNTING_SLIDING}, {50, 2000, 5, COUNTING_FIXED},   {50, 0, 100, COUNTING_SLIDING},
        {50, 100, 200, COUNTING_BUCKET},  {30, 2000, 10, COUNTING_BUCKET},
    };
    for (size_t index = 0; index < sizeof(places) / sizeof(places[0]); index++) {
        const struct place *place = &places[index];
        struct world *world = world_new(place->connections, place->per_second, place->latency_ms);
        world->far.counting = place->counting;
        run_for(world, 180);
        assert_true(seconds_to_use(world, 0, 180) <= 60);
        check_use(world, place, 60, 180);
        free(world);
    }
}

/* A newsletter every quarter of an hour: what was learned is worth less each time, but not nothing. */
static void bursts_with_long_rests_between(void **state)
{
    (void)state;
    struct world *world = world_new(5, 50, 50);
    world->backlog = 0;
    for (uint32_t burst = 0; burst < 4; burst++) {
        uint32_t since = world_second(world);
        world->backlog = 6000;
        run_for(world, 200);
        assert_true(world->backlog == 0);
        assert_true(refused_part(world, since, since + 200) < 0.02);
        run_for(world, 700);
    }
    assert_true(shaper_pace(&world->shaper) > 0);
    free(world);
}

static void after_hours_of_rest_all_is_forgotten(void **state)
{
    (void)state;
    struct world *world = world_new(5, 50, 50);
    run_for(world, 30);
    assert_true(shaper_pace(&world->shaper) > 0);
    shaper_message_began(&world->shaper, world->now + 7200 * SECOND);
    assert_int_equal(shaper_pace(&world->shaper), 0);
    assert_int_equal(shaper_window(&world->shaper), SHAPER_WINDOW_FIRST);
    free(world);
}

/* Demand below the limit teaches nothing about what lies above it. */
static void a_level_that_is_not_used_does_not_rise(void **state)
{
    (void)state;
    struct world *world = world_new(5, 50, 50);
    run_for(world, 60);
    uint32_t pace = shaper_pace(&world->shaper);
    world->backlog = 0;
    for (uint32_t message = 0; message < 3000; message++) {
        world->backlog++;
        run_until(world, world->now + SECOND / 10);
    }
    assert_true(shaper_pace(&world->shaper) <= pace * 11 / 10);
    free(world);
}

/* ---- a picture ---- */

static void the_curve_for_a_picture(void **state)
{
    (void)state;
    const char *path = getenv("SLUICE_SHAPER_CURVE");
    if (path == NULL)
        skip();
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    struct world *world = world_new(10, 100, 50);
    fprintf(file, "second,connections_limit,messages_limit,window,pace,taken,refused,turned_away\n");
    for (uint32_t second = 0; second < 360; second++) {
        if (second == 120)
            world->far = (struct far_side){
                .connections = 30, .per_second = 400, .latency_us = 50000, .open = world->far.open};
        if (second == 240)
            world->far = (struct far_side){
                .connections = 10, .per_second = 100, .latency_us = 50000, .open = world->far.open};
        run_for(world, 1);
        const struct second *seen = &world->seconds[second];
        fprintf(file, "%u,%u,%u,%u,%.1f,%u,%u,%u\n", second, world->far.connections, world->far.per_second,
                seen->window, seen->pace / 1000.0, seen->taken, seen->refused, seen->turned_away);
    }
    assert_int_equal(fclose(file), 0);
    free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ban_leaves_a_little_and_ends),
        cmocka_unit_test(far_sides_of_all_kinds_are_used_and_hardly_annoyed),
        cmocka_unit_test(fifty_connections_and_two_thousand_messages_a_second),
        cmocka_unit_test(bursts_with_long_rests_between),
        cmocka_unit_test(after_hours_of_rest_all_is_forgotten),
        cmocka_unit_test(a_level_that_is_not_used_does_not_rise),
        cmocka_unit_test(the_curve_for_a_picture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
