/* The gear of an endpoint, lowered by trouble and regained with time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/outbound/endpoint.h"
#include "gateway/outbound/next_hop.h"

static struct endpoint *begin(void)
{
    struct sockaddr_storage address;
    struct next_hop_host host = {.name = "192.0.2.1", .port = 25};

    assert_int_equal(parse_ip("192.0.2.1", 25, &address), 0);
    struct endpoint *endpoint = endpoint_new(&host, &address);
    assert_non_null(endpoint);
    assert_int_equal(endpoint_gear(endpoint, 1), GEAR_STREAM);
    return endpoint;
}

static void the_first_break_lowers_the_gear(void **state)
{
    struct endpoint *endpoint = begin();

    endpoint_broke(endpoint, GEAR_STREAM, 10, 1000);
    assert_int_equal(endpoint_gear(endpoint, 1001), GEAR_OVERLAP);
    endpoint_broke(endpoint, GEAR_OVERLAP, 1100, 1200);
    assert_int_equal(endpoint_gear(endpoint, 1201), GEAR_ENVELOPE);
    endpoint_free(endpoint);
}

/* Those in the lower gear were begun before the higher one was tried anew. */
static void a_restart_of_the_peer_is_one_break(void **state)
{
    struct endpoint *endpoint = begin();

    for (uint64_t i = 0; i < 20; i++)
        endpoint_broke(endpoint, i % 2 == 0 ? GEAR_STREAM : GEAR_OVERLAP, 10 + i, 1000 + i);
    assert_int_equal(endpoint_gear(endpoint, 1100), GEAR_OVERLAP);
    assert_int_equal(endpoint->rest_us, ENDPOINT_REST_MIN_US);
    endpoint_free(endpoint);
}

static void each_gear_is_left_by_its_own_conversations(void **state)
{
    struct endpoint *endpoint = begin();

    endpoint_confused(endpoint, GEAR_STREAM, 100);
    endpoint_confused(endpoint, GEAR_STREAM, 110); /* one that began before */
    assert_int_equal(endpoint_gear(endpoint, 120), GEAR_OVERLAP);
    endpoint_broke(endpoint, GEAR_OVERLAP, 130, 140);
    assert_int_equal(endpoint_gear(endpoint, 160), GEAR_ENVELOPE);
    endpoint_confused(endpoint, GEAR_ENVELOPE, 170);
    assert_int_equal(endpoint_gear(endpoint, 170), GEAR_LOCKSTEP);
    endpoint_confused(endpoint, GEAR_LOCKSTEP, 180);
    assert_int_equal(endpoint_gear(endpoint, 180), GEAR_LOCKSTEP);
    endpoint_free(endpoint);
}

/* From when the last rest was over. */
static void check_rest(struct endpoint *endpoint, uint64_t *now_us, uint64_t minutes)
{
    enum gear gear = endpoint_gear(endpoint, *now_us);

    endpoint_broke(endpoint, gear, *now_us, *now_us + 1);
    *now_us += 1 + minutes * 60000000;
    assert_int_equal(endpoint_gear(endpoint, *now_us - 1), gear - 1);
    assert_int_equal(endpoint_gear(endpoint, *now_us), gear);
}

static void the_rest_grows_to_an_hour(void **state)
{
    struct endpoint *endpoint = begin();
    uint64_t now_us = 1000;

    for (uint64_t minutes = 1; minutes < 60; minutes *= 2)
        check_rest(endpoint, &now_us, minutes);
    check_rest(endpoint, &now_us, 60);
    check_rest(endpoint, &now_us, 60);
    endpoint_free(endpoint);
}

static void what_ended_well_in_the_gear_makes_the_rest_short(void **state)
{
    struct endpoint *endpoint = begin();
    uint64_t now_us = 1000;

    check_rest(endpoint, &now_us, 1);
    check_rest(endpoint, &now_us, 2);
    endpoint_held(endpoint, GEAR_OVERLAP, now_us + 1); /* of the lower one nobody was in doubt */
    endpoint_held(endpoint, GEAR_STREAM, 1);           /* it began before the gear failed */
    check_rest(endpoint, &now_us, 4);
    endpoint_held(endpoint, GEAR_STREAM, now_us);
    check_rest(endpoint, &now_us, 1);
    check_rest(endpoint, &now_us, 2);
    endpoint_free(endpoint);
}

static void an_hour_in_the_gear_makes_the_rest_short(void **state)
{
    struct endpoint *endpoint = begin();
    uint64_t now_us = 1000;

    check_rest(endpoint, &now_us, 1);
    check_rest(endpoint, &now_us, 2);
    now_us += ENDPOINT_REST_MAX_US - 1000;
    check_rest(endpoint, &now_us, 4);
    now_us += ENDPOINT_REST_MIN_US + ENDPOINT_REST_MAX_US;
    check_rest(endpoint, &now_us, 1);
    endpoint_free(endpoint);
}

/* Each shows for a minute what it does. */
static void gears_come_back_one_by_one(void **state)
{
    struct endpoint *endpoint = begin();
    uint64_t now_us = 100 + 2 * ENDPOINT_REST_MIN_US;

    endpoint_broke(endpoint, GEAR_STREAM, 10, 50);
    endpoint_broke(endpoint, GEAR_OVERLAP, 60, 100);
    assert_int_equal(endpoint_gear(endpoint, now_us - 1), GEAR_ENVELOPE);
    assert_int_equal(endpoint_gear(endpoint, now_us), GEAR_OVERLAP);
    assert_int_equal(endpoint_gear(endpoint, now_us + ENDPOINT_REST_MIN_US - 1), GEAR_OVERLAP);
    assert_int_equal(endpoint_gear(endpoint, now_us + ENDPOINT_REST_MIN_US), GEAR_STREAM);
    endpoint_free(endpoint);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_break_lowers_the_gear),
        cmocka_unit_test(a_restart_of_the_peer_is_one_break),
        cmocka_unit_test(each_gear_is_left_by_its_own_conversations),
        cmocka_unit_test(the_rest_grows_to_an_hour),
        cmocka_unit_test(what_ended_well_in_the_gear_makes_the_rest_short),
        cmocka_unit_test(an_hour_in_the_gear_makes_the_rest_short),
        cmocka_unit_test(gears_come_back_one_by_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
