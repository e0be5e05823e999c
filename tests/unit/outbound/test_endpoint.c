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

static void a_restart_of_the_peer_is_one_break(void **state)
{
    struct endpoint *endpoint = begin();

    for (uint64_t i = 0; i < 20; i++)
        endpoint_broke(endpoint, GEAR_STREAM, 10 + i, 1000 + i);
    assert_int_equal(endpoint_gear(endpoint, 1100), GEAR_STREAM);
    endpoint_broke(endpoint, GEAR_STREAM, 1100, 1200);
    assert_int_equal(endpoint_gear(endpoint, 1200), GEAR_OVERLAP);
    endpoint_free(endpoint);
}

static void each_gear_is_left_by_its_own_conversations(void **state)
{
    struct endpoint *endpoint = begin();

    endpoint_confused(endpoint, GEAR_STREAM, 100);
    endpoint_confused(endpoint, GEAR_STREAM, 110); /* one that began before */
    assert_int_equal(endpoint_gear(endpoint, 120), GEAR_OVERLAP);
    endpoint_broke(endpoint, GEAR_OVERLAP, 130, 140);
    assert_int_equal(endpoint_gear(endpoint, 140), GEAR_OVERLAP);
    endpoint_broke(endpoint, GEAR_OVERLAP, 150, 160);
    assert_int_equal(endpoint_gear(endpoint, 160), GEAR_ENVELOPE);
    endpoint_confused(endpoint, GEAR_ENVELOPE, 170);
    assert_int_equal(endpoint_gear(endpoint, 170), GEAR_LOCKSTEP);
    endpoint_confused(endpoint, GEAR_LOCKSTEP, 180);
    assert_int_equal(endpoint_gear(endpoint, 180), GEAR_LOCKSTEP);
    endpoint_free(endpoint);
}

static void a_gear_is_tried_again_later(void **state)
{
    struct endpoint *endpoint = begin();

    endpoint_confused(endpoint, GEAR_STREAM, 100);
    assert_int_equal(endpoint_gear(endpoint, 99 + ENDPOINT_GEAR_REST_US), GEAR_OVERLAP);
    assert_int_equal(endpoint_gear(endpoint, 100 + ENDPOINT_GEAR_REST_US), GEAR_STREAM);
    endpoint_free(endpoint);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_restart_of_the_peer_is_one_break),
        cmocka_unit_test(each_gear_is_left_by_its_own_conversations),
        cmocka_unit_test(a_gear_is_tried_again_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
