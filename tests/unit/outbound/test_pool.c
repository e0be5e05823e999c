/* Sites that share the limits of one section: connections, their speed, and what a reload makes of it. */
#include <stdio.h>
#include <string.h>

#include "gateway/base/clock.h"
#include "gateway/outbound/group.h"
#include "gateway/outbound/site.h"
#include "tests/unit/outbound/crowd.h"
#include "tests/unit/outbound/hops.h"

enum { MESSAGES = 120 };

/* --- Connections --- */

static void two_sites_share_their_connections(void **state)
{
    crowd_begin(3, 2, "site \"127.0.0.1\" { connections = 3 }");
    for (uint32_t i = 0; i < MESSAGES; i++)
        crowd_send_to(i % 2);
    world_run_home(&world, MESSAGES);
    crowd_check_all_done();
    assert_int_equal(atomic_load(&taker.most_open), 3);
    assert_int_equal(atomic_load(&taker.ports[0].taken), MESSAGES / 2);
    assert_ptr_equal(crowd_site_to(0)->group, crowd_site_to(1)->group);
}

static void sites_without_a_section_share_nothing(void **state)
{
    crowd_begin(3, 2, "site \"default\" { connections = 2 }");
    for (uint32_t i = 0; i < MESSAGES; i++)
        crowd_send_to(i % 2);
    world_run_home(&world, MESSAGES);
    crowd_check_all_done();
    assert_int_equal(atomic_load(&taker.most_open), 4);
    assert_int_equal(atomic_load(&taker.ports[0].most_open), 2);
    assert_int_equal(atomic_load(&taker.ports[1].most_open), 2);
}

/* A new answer of the DNS has only the address that is left out; nobody was there to call the site down. */
static void a_site_whose_only_address_is_left_out_is_tried_again(void **state)
{
    crowd_begin(0, 1, "");
    struct site *site = crowd_site_to(0);
    endpoint_fail(endpoint_at(site, "127.0.0.1"), loop_now_us(world.loop), 100);
    crowd_send_to(0);
    world_run_home(&world, 1);
    crowd_send_to(0);
    world_run_home(&world, 2);
    assert_int_equal(messages[1].targets[0].outcome, QUEUE_DONE);
}

/* --- Speed --- */

static void two_sites_share_their_speed(void **state)
{
    uint64_t began_us = clock_monotonic_us();

    crowd_begin(0, 2, "site \"127.0.0.1\" { connections = 10 messages_per_second = 60 }");
    for (uint32_t i = 0; i < MESSAGES; i++)
        crowd_send_to(i % 2);
    world_run_home(&world, MESSAGES);
    uint64_t took_us = clock_monotonic_us() - began_us;
    crowd_check_all_done();
    taker_stop(&taker);
    assert_in_range(took_us, 1900000, 4000000);
    assert_int_equal(taker.time_count, MESSAGES);
    for (uint32_t i = 0; i + 60 < MESSAGES; i++) /* seen through the jitter of this machine */
        assert_true(taker.times_us[i + 60] - taker.times_us[i] > 900000);
}

static void neither_of_two_sites_starves(void **state)
{
    crowd_begin(0, 2, "site \"127.0.0.1\" { connections = 10 messages_per_second = 40 }");
    for (uint32_t i = 0; i < 60; i++)
        crowd_send_to(0);
    for (uint32_t i = 0; i < 20; i++)
        crowd_send_to(1);
    world_run_home(&world, 40);
    assert_in_range(atomic_load(&taker.ports[1].taken), 10, 20);
    world_run_home(&world, sent);
    crowd_check_all_done();
}

/* --- Reload --- */

static void new_limits_hold_at_once(void **state)
{
    crowd_begin(5, 2, "site \"127.0.0.1\" { connections = 1 }");
    for (uint32_t i = 0; i < 60; i++)
        crowd_send_to(i % 2);
    world_run_home(&world, 10);
    struct group *group = crowd_site_to(0)->group;
    crowd_reload(2, "site \"127.0.0.1\" { connections = 4 }\ntimeouts { outbound_idle = \"500ms\" }");
    world_run_home(&world, 60);
    assert_in_range(atomic_load(&taker.most_open), 2, 4);
    assert_ptr_equal(crowd_site_to(0)->group, group);
    crowd_reload(2, "site \"127.0.0.1\" { connections = 1 }\ntimeouts { outbound_idle = \"0\" }");
    world_run_closed(&world);
    world_run_ms(&world, 5);
    atomic_store(&taker.most_open, 0);
    for (uint32_t i = 0; i < 20; i++)
        crowd_send_to(i % 2);
    world_run_home(&world, sent);
    crowd_check_all_done();
    assert_int_equal(atomic_load(&taker.most_open), 1);
}

static void a_section_comes_and_goes(void **state)
{
    static const char *const sections[] = {
        "site \"127.0.0.1\" { connections = 2 }",
        "",
        "site \"127.0.0.1\" { connections = 2 messages_per_second = 10000 }",
        "site \"127.0.0.1\" { connections = 2 }",
        "site \"default\" { connections = 2 }\ntimeouts { outbound_idle = \"500ms\" }",
    };

    crowd_begin(1, 2, "");
    for (uint32_t i = 0; i < 10; i++) {
        for (uint32_t j = 0; j < 10; j++)
            crowd_send_to(j % 2);
        world_run_home(&world, 10 * i + 5);
        crowd_reload(2, sections[i % 5]);
    }
    world_run_home(&world, sent);
    crowd_check_all_done();
    crowd_reload(2, "timeouts { outbound_idle = \"0\" }");
    world_run_closed(&world);
    world_run_ms(&world, 5);
    assert_int_equal(crowd_count_of(&world.outbound.leaving), 0);
    assert_int_equal(crowd_count_of(&world.outbound.groups), 0);
}

static void a_site_that_nothing_leads_to_leaves(void **state)
{
    crowd_begin(0, 3, "");
    for (uint32_t i = 0; i < 3; i++)
        crowd_send_to(i);
    world_run_home(&world, 3);
    assert_non_null(crowd_site_to(2));
    crowd_reload(1, "");
    assert_null(crowd_find_site(2));
    while (world.outbound.session_count > 1)
        loop_turn(world.loop, 1000);
    world_run_ms(&world, 5);
    assert_int_equal(crowd_count_of(&world.outbound.leaving), 0);
    assert_int_equal(crowd_site_to(0)->session_count, 1); /* it was not disturbed */
    assert_int_equal(atomic_load(&taker.ports[0].connections), 1);
    crowd_check_all_done();
}

static void a_site_that_moves_keeps_the_limit_of_its_new_group(void **state)
{
    char more[128];

    crowd_begin(2, 2, "site \"127.0.0.1\" { connections = 3 }");
    for (uint32_t i = 0; i < 40; i++)
        crowd_send_to(i % 2);
    world_run_home(&world, 10);
    snprintf(more, sizeof(more),
             "site \"127.0.0.1\" { connections = 3 }\nsite \"127.0.0.1:%u\" { connections = 1 }",
             taker.ports[1].port);
    crowd_reload(2, more);
    while (crowd_count_of(&world.outbound.leaving) > 0)
        loop_turn(world.loop, 1000);
    assert_ptr_not_equal(crowd_site_to(0)->group, crowd_site_to(1)->group);
    atomic_store(&taker.ports[1].most_open, 0);
    world_run_home(&world, sent);
    crowd_check_all_done();
    assert_in_range(atomic_load(&taker.ports[1].most_open), 0, 1);
}

/* Other workers look for its room, and this worker may have no mail of its own for it. */
static void a_site_in_another_section_is_there_at_once(void **state)
{
    crowd_begin(0, 1, "");
    world_run_ms(&world, 5);
    assert_non_null(crowd_site_to(0));
    assert_true(outbound_room(&world.outbound, 0) > 0);
    crowd_reload(1, "site \"127.0.0.1\" { connections = 2 }");
    world_run_ms(&world, 5);
    assert_non_null(crowd_site_to(0));
    assert_true(crowd_site_to(0)->limits.index != 0);
    assert_true(outbound_room(&world.outbound, 0) > 0);
}

/* --- Next hops that others made --- */

/* A worker that has taken over a new configuration already may send a next hop that ours does not have yet; a
 * line of the route file may say what the configuration says, too. */
static void a_place_in_the_configuration_is_our_own_affair(void **state)
{
    crowd_begin(0, 2, "");
    struct site *listed = crowd_site_to(0);
    struct next_hop *same = next_hop_of_destination(world.config, &world.config->destinations[0]);
    struct next_hop *strange = hop_of("0 new.test 127.0.0.1", taker.ports[1].port);
    assert_non_null(same);
    assert_ptr_equal(site_of_hop(&world.outbound, same), listed);
    assert_int_equal(listed->index, 0);
    assert_true(listed->is_spread);
    struct site *guest = site_of_hop(&world.outbound, strange);
    assert_non_null(guest);
    assert_false(guest->is_spread);
    site_touch(guest);
    world_run_ms(&world, 5);
    crowd_reload(2, "");
    assert_ptr_equal(crowd_site_to(0), listed);
    assert_true(crowd_site_to(0)->is_spread);
    next_hop_unref(same);
    next_hop_unref(strange);
}

#define CASE(name) cmocka_unit_test_teardown(name, crowd_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(two_sites_share_their_connections),
        CASE(sites_without_a_section_share_nothing),
        CASE(a_site_whose_only_address_is_left_out_is_tried_again),
        CASE(two_sites_share_their_speed),
        CASE(neither_of_two_sites_starves),
        CASE(new_limits_hold_at_once),
        CASE(a_section_comes_and_goes),
        CASE(a_site_that_nothing_leads_to_leaves),
        CASE(a_site_that_moves_keeps_the_limit_of_its_new_group),
        CASE(a_site_in_another_section_is_there_at_once),
        CASE(a_place_in_the_configuration_is_our_own_affair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
