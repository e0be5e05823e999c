/*
 * The shaper by itself, in simulated time: the operator's limits, checked by counting every span, and its
 * first steps in learning. How it fares with a far side is in test_far_side.c.
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

#include "gateway/base/config.h"
#include "gateway/outbound/shaper.h"
#include "tests/unit/outbound/far_side.h"

/* ---- the operator's limits ---- */

static void check_span(const uint64_t *times, uint32_t count, uint64_t span, uint32_t limit)
{
    for (uint32_t first = 0; limit > 0 && first + limit < count; first++)
        assert_true(times[first + limit] - times[first] > span);
}

static void random_beginnings(const struct config_limits *limits, uint32_t count, uint32_t pause_max_us)
{
    uint64_t *messages = calloc(count, sizeof(*messages)), *connections = calloc(count, sizeof(*connections));
    uint64_t now = START;
    struct shaper shaper;
    assert_non_null(messages);
    assert_non_null(connections);
    shaper_init(&shaper, limits, now);
    uint32_t done = 0, opened = 0;
    while (done < count) {
        switch (random_below(64)) {
        case 0: /* nothing to do for a while */
            now += random_below(pause_max_us);
            break;
        case 1:
            shaper_set_limits(&shaper, limits, now);
            break;
        case 2:
        case 3:
            if (shaper.open > 0)
                shaper_connection_ended(&shaper, now);
            break;
        case 4:
        case 5:
            if (opened < count && shaper_connect_at(&shaper, now) <= now) {
                connections[opened++] = now;
                shaper_connect_began(&shaper, now);
                assert_true(shaper.open <= limits->connections);
            }
            break;
        default: {
            uint64_t at = shaper_message_at(&shaper, now);
            if (at > now) /* sometimes too early, sometimes late */
                now += random_below((uint32_t)(at - now) * 2 + 1);
            if (shaper_message_at(&shaper, now) > now)
                break;
            messages[done++] = now;
            shaper_message_began(&shaper, now);
            shaper_worked(&shaper, now);
        }
        }
    }
    check_span(connections, opened, SECOND, limits->connections_per_second);
    check_span(messages, count, SECOND, limits->messages_per_second);
    check_span(messages, count, 60 * SECOND, limits->messages_per_minute);
    check_span(messages, count, 3600 * SECOND, limits->messages_per_hour);
    free(messages);
    free(connections);
}

static void no_span_holds_more_than_its_limit(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 300; round++) {
        random_begin(round);
        struct config_limits limits = {
            .connections = 1 + random_below(20),
            .connections_per_second = random_below(2) ? 0 : 1 + random_below(50),
            .messages_per_second = random_below(3) ? 1 + random_below(1u << random_below(12)) : 0,
            .messages_per_minute = random_below(3) ? 1 + random_below(1u << random_below(14)) : 0,
            .messages_per_hour = random_below(3) ? 1 + random_below(1u << random_below(16)) : 0,
        };
        random_beginnings(&limits, 1500, 1u << random_below(26));
    }
}

/* As soon as it is allowed, with a timer that is up to 2 ms late. */
static void a_limit_is_used_but_for_three_percent(void **state)
{
    (void)state;
    const uint32_t rates[] = {1, 2, 7, 49, 100, 3000};
    for (size_t index = 0; index < sizeof(rates) / sizeof(rates[0]); index++) {
        struct config_limits limits = {.connections = 1, .messages_per_second = rates[index]};
        struct shaper shaper;
        uint32_t count = 0;
        shaper_init(&shaper, &limits, START);
        for (uint64_t now = START; now < START + 200 * SECOND; now += random_below(2000)) {
            for (; shaper_message_at(&shaper, now) <= now; count++)
                shaper_message_began(&shaper, now);
        }
        assert_true(count >= 200 * rates[index] * 0.965);
        assert_true(count <= 200 * rates[index]);
    }
}

static void the_smallest_limits_hold(void **state)
{
    (void)state;
    struct config_limits limits = {.connections = 1, .messages_per_hour = 1, .connections_per_second = 1};
    struct shaper shaper;
    shaper_init(&shaper, &limits, START);
    assert_true(shaper_message_at(&shaper, START) <= START);
    shaper_message_began(&shaper, START);
    uint64_t at = shaper_message_at(&shaper, START);
    assert_true(at > START + 3600 * SECOND && at < START + 3700 * SECOND);

    assert_true(shaper_connect_at(&shaper, START) <= START);
    shaper_connect_began(&shaper, START);
    assert_true(shaper_connect_at(&shaper, START + 9 * SECOND) == UINT64_MAX);
    shaper_connection_ended(&shaper, START + 1);
    at = shaper_connect_at(&shaper, START + 1);
    assert_true(at > START + SECOND && at < START + 2 * SECOND);
}

static void a_limit_that_rises_is_felt_at_once(void **state)
{
    (void)state;
    struct config_limits limits = {.connections = 1, .messages_per_hour = 1};
    struct shaper shaper;
    shaper_init(&shaper, &limits, START);
    shaper_message_began(&shaper, START);
    limits.messages_per_hour = 3600;
    shaper_set_limits(&shaper, &limits, START + SECOND);
    assert_true(shaper_message_at(&shaper, START + SECOND) <= START + 2 * SECOND);
    limits.messages_per_hour = 0;
    shaper_set_limits(&shaper, &limits, START + SECOND);
    assert_true(shaper_message_at(&shaper, START + SECOND) == 0);
}

/* Whoever forgets it then, and begins anew, forgets nothing that counts. */
static void what_began_counts_until_its_span_is_over(void **state)
{
    static const struct config_limits limits[] = {
        {.connections = 9},
        {.connections = 9, .messages_per_hour = 2},
        {.connections = 9, .messages_per_minute = 2, .connections_per_second = 1},
    };
    static const uint64_t rests_s[] = {0, 1836, 31};
    struct shaper shaper;

    for (size_t i = 0; i < 3; i++) {
        shaper_init(&shaper, &limits[i], START);
        assert_true(shaper_is_at_rest(&shaper, START));
        shaper_connect_began(&shaper, START);
        shaper_message_began(&shaper, START);
        for (uint64_t s = 0; s < rests_s[i]; s++)
            assert_false(shaper_is_at_rest(&shaper, START + s * SECOND));
        assert_true(shaper_is_at_rest(&shaper, START + (rests_s[i] + 60) * SECOND));
        shaper_connection_ended(&shaper, START + SECOND);
    }
    shaper_init(&shaper, &limits[2], START);
    shaper_connect_began(&shaper, START);
    assert_false(shaper_is_at_rest(&shaper, START + SECOND));
    assert_false(shaper_connects_are_due(&shaper, START + SECOND / 2));
    assert_true(shaper_connects_are_due(&shaper, START + 2 * SECOND));
    assert_true(shaper_is_at_rest(&shaper, START + 2 * SECOND));
}

static void the_same_limits_again_change_nothing(void **state)
{
    (void)state;
    struct config_limits limits = {.connections = 9, .messages_per_minute = 6, .connections_per_second = 1};
    struct shaper shaper;
    shaper_init(&shaper, &limits, START);
    shaper_message_began(&shaper, START);
    shaper_connect_began(&shaper, START);
    uint64_t message_at = shaper_message_at(&shaper, START), connect_at = shaper_connect_at(&shaper, START);
    shaper_set_limits(&shaper, &limits, START + SECOND / 2);
    assert_true(shaper_message_at(&shaper, START + SECOND / 2) == message_at);
    assert_true(shaper_connect_at(&shaper, START + SECOND / 2) == connect_at);
}

/* ---- what is learned ---- */

static void connections_begin_at_two_and_grow_with_what_works(void **state)
{
    (void)state;
    struct config_limits limits = {.connections = 4};
    struct shaper shaper;
    uint64_t now = START;
    shaper_init(&shaper, &limits, now);
    assert_int_equal(shaper_window(&shaper), 2);
    for (uint32_t message = 0; message < 9; message++, now += SECOND)
        shaper_worked(&shaper, now);
    assert_int_equal(shaper_window(&shaper), 2); /* not even those were used */
    shaper_connect_began(&shaper, now);
    shaper_connect_began(&shaper, now);
    shaper_worked(&shaper, now);
    assert_int_equal(shaper_window(&shaper), 2);
    shaper_worked(&shaper, now + SECOND);
    assert_int_equal(shaper_window(&shaper), 3);
    for (uint32_t message = 0; message < 99; message++, now += SECOND) {
        if (shaper_connect_at(&shaper, now + SECOND) <= now + SECOND)
            shaper_connect_began(&shaper, now + SECOND);
        shaper_worked(&shaper, now + SECOND);
    }
    assert_int_equal(shaper_window(&shaper), 4);
    assert_int_equal(shaper.open, 4);
}

/* Ten connections; the tenth is refused, and then everything. */
static void pressure_halves_once_in_a_reaction_time_and_never_below_one(void **state)
{
    (void)state;
    struct config_limits limits = {.connections = 50};
    struct shaper shaper;
    uint64_t now = START;
    shaper_init(&shaper, &limits, now);
    for (; shaper.open < 10; now += SECOND / 10) {
        if (shaper_connect_at(&shaper, now) <= now)
            shaper_connect_began(&shaper, now);
        shaper_worked(&shaper, now);
    }
    shaper_pressed(&shaper, SHAPER_PRESSURE_CONNECTION, now);
    assert_in_range(shaper_window(&shaper), 4, 5);
    uint32_t window = shaper_window(&shaper);
    for (uint32_t again = 0; again < 5; again++)
        shaper_pressed(&shaper, SHAPER_PRESSURE_CONNECTION, now + again * 100);
    assert_int_equal(shaper_window(&shaper), window);
    for (uint32_t again = 0; again < 20; again++) {
        now += 3 * SECOND;
        shaper_pressed(&shaper, SHAPER_PRESSURE_CONNECTION, now);
    }
    assert_int_equal(shaper_window(&shaper), 1);
    assert_int_equal(shaper_pace(&shaper), 0); /* the other kind says nothing */
}

/* Large messages on slow connections: seconds between two answers are still use. */
static void slow_messages_count_as_use(void **state)
{
    (void)state;
    struct config_limits limits = {.connections = 50};
    struct shaper shaper;
    uint64_t now = START;
    shaper_init(&shaper, &limits, now);
    for (; shaper.open < 10; now += SECOND / 10) {
        if (shaper_connect_at(&shaper, now) <= now)
            shaper_connect_began(&shaper, now);
        shaper_worked(&shaper, now);
    }
    shaper_pressed(&shaper, SHAPER_PRESSURE_CONNECTION, now);
    shaper_connection_ended(&shaper, now);
    assert_in_range(shaper_window(&shaper), 4, 5);
    for (uint32_t answer = 0; answer < 4; answer++)
        shaper_worked(&shaper, now += 3 * SECOND);
    assert_in_range(shaper_window(&shaper), 9, 10);

    /* But a rest with the connections open is none. */
    shaper_pressed(&shaper, SHAPER_PRESSURE_CONNECTION, now);
    uint32_t window = shaper_window(&shaper);
    shaper_message_began(&shaper, now + 60 * SECOND);
    assert_in_range(shaper_window(&shaper), window, window + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_span_holds_more_than_its_limit),
        cmocka_unit_test(a_limit_is_used_but_for_three_percent),
        cmocka_unit_test(the_smallest_limits_hold),
        cmocka_unit_test(a_limit_that_rises_is_felt_at_once),
        cmocka_unit_test(what_began_counts_until_its_span_is_over),
        cmocka_unit_test(the_same_limits_again_change_nothing),
        cmocka_unit_test(connections_begin_at_two_and_grow_with_what_works),
        cmocka_unit_test(pressure_halves_once_in_a_reaction_time_and_never_below_one),
        cmocka_unit_test(slow_messages_count_as_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
