/* Sites that share the limits of one section: connections, their speed, and what a reload makes of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/clock.h"
#include "gateway/outbound/group.h"
#include "gateway/outbound/site.h"
#include "tests/unit/outbound/hops.h"
#include "tests/unit/outbound/peer.h"
#include "tests/unit/outbound/taker.h"
#include "tests/unit/outbound/world.h"

enum { MESSAGES = 120 };

static struct world world;
static struct taker taker;
static struct message messages[MESSAGES];
static uint32_t sent;

/* One route for each port: d0.test, d1.test, ... */
static struct config *config_of(uint32_t routes, const char *more)
{
    char text[2048];
    size_t size = (size_t)snprintf(text, sizeof(text),
                                   "hostname = \"relay.test\"\n"
                                   "listener \"l\" { bind = {\"127.0.0.1:2525\"} }\n%s\n",
                                   more);
    struct config *config;
    struct config_error error;

    for (uint32_t i = 0; i < routes; i++)
        size +=
            (size_t)snprintf(text + size, sizeof(text) - size,
                             "route \"d%u.test\" { to = \"smtp://127.0.0.1:%u\" }\n", i, taker.ports[i].port);
    if (config_load_text("test", text, &config, &error) < 0)
        fail_msg("%s", error.text);
    return config;
}

static void begin(uint32_t delay_ms, uint32_t ports, const char *more)
{
    taker.delay_ms = delay_ms;
    taker_start(&taker, ports);
    world_init(&world, (uint16_t[]){peer_dead_port(), 0}, "");
    world_take(&world, config_of(ports, more));
    sent = 0;
}

/* After a test that failed, too: the next begins anew. */
static int end(void **state)
{
    world_deinit(&world);
    taker_stop(&taker);
    return 0;
}

static void send_to(uint32_t route)
{
    static const char *const to[] = {"x@d0.test", "x@d1.test", "x@d2.test", "x@d3.test"};

    assert_true(sent < MESSAGES && route < 4);
    messages[sent] = (struct message){.from = "a@from.test", .to = {to[route]}, .content = "x\r\n"};
    world_send(&world, &messages[sent++]);
}

static void check_all_done(void)
{
    for (uint32_t i = 0; i < sent; i++) {
        assert_int_equal(messages[i].homecomings, 1);
        assert_int_equal(messages[i].targets[0].outcome, QUEUE_DONE);
    }
    assert_int_equal(atomic_load(&taker.taken), sent);
}

static struct site *find_site(uint32_t route)
{
    char name[32];

    snprintf(name, sizeof(name), "127.0.0.1:%u", taker.ports[route].port);
    for (uint32_t i = 0; i < OUTBOUND_BUCKETS; i++) {
        list_each(link, &world.outbound.buckets[i])
        {
            struct site *site = list_entry(link, struct site, bucket_link);
            if (strcmp(site->name != NULL ? site->name : "", name) == 0)
                return site;
        }
    }
    return NULL;
}

static struct site *site_to(uint32_t route)
{
    struct site *site = find_site(route);

    assert_non_null(site);
    if (site == NULL)
        abort(); /* the compiler does not know that an assertion ends the test */
    return site;
}

static uint32_t count_of(const struct list *head)
{
    uint32_t count = 0;
    list_each(link, head)
    {
        count++;
    }
    return count;
}

/* --- Connections --- */

static void two_sites_share_their_connections(void **state)
{
    begin(3, 2, "site \"127.0.0.1\" { connections = 3 }");
    for (uint32_t i = 0; i < MESSAGES; i++)
        send_to(i % 2);
    world_run_home(&world, MESSAGES);
    check_all_done();
    assert_int_equal(atomic_load(&taker.most_open), 3);
    assert_int_equal(atomic_load(&taker.ports[0].taken), MESSAGES / 2);
    assert_ptr_equal(site_to(0)->group, site_to(1)->group);
}

static void sites_without_a_section_share_nothing(void **state)
{
    begin(3, 2, "site \"default\" { connections = 2 }");
    for (uint32_t i = 0; i < MESSAGES; i++)
        send_to(i % 2);
    world_run_home(&world, MESSAGES);
    check_all_done();
    assert_int_equal(atomic_load(&taker.most_open), 4);
    assert_int_equal(atomic_load(&taker.ports[0].most_open), 2);
    assert_int_equal(atomic_load(&taker.ports[1].most_open), 2);
}

/* Although the other site has nothing more to do, its connection would stay for a minute. */
static void an_idle_session_makes_room_for_another_site(void **state)
{
    begin(0, 2, "site \"127.0.0.1\" { connections = 1 }\ntimeouts { outbound_idle = \"60s\" }");
    for (uint32_t i = 0; i < 10; i++) {
        send_to(i % 2);
        world_run_home(&world, i + 1);
    }
    check_all_done();
    assert_int_equal(atomic_load(&taker.most_open), 1);
    assert_int_equal(atomic_load(&taker.ports[0].connections), 5);
}

/* The same, when the other still had something to do as the connection was asked for. */
static void who_waits_gets_the_session_that_becomes_idle(void **state)
{
    begin(50, 2, "site \"127.0.0.1\" { connections = 1 }\ntimeouts { outbound_idle = \"60s\" }");
    send_to(0);
    while (world.outbound.session_count == 0 || atomic_load(&taker.ports[0].connections) == 0)
        loop_turn(world.loop, 1000);
    world_run_ms(&world, 20);
    send_to(1);
    world_run_ms(&world, 5);
    assert_int_equal(world.home, 0);
    world_run_home(&world, 2);
    check_all_done();
    assert_int_equal(atomic_load(&taker.most_open), 1);
}

/* A new answer of the DNS has only the address that is left out; nobody was there to call the site down. */
static void a_site_whose_only_address_is_left_out_is_tried_again(void **state)
{
    begin(0, 1, "");
    struct site *site = site_to(0);
    endpoint_fail(endpoint_at(site, "127.0.0.1"), loop_now_us(world.loop), 100);
    send_to(0);
    world_run_home(&world, 1);
    send_to(0);
    world_run_home(&world, 2);
    assert_int_equal(messages[1].targets[0].outcome, QUEUE_DONE);
}

/* Of four sites with one connection together none has to wait until another has sent all that it has. */
static void who_waits_in_line_gets_its_turn(void **state)
{
    begin(1, 4,
          "site \"127.0.0.1\" { connections = 1 messages_per_connection = 2 }\n"
          "timeouts { outbound_idle = \"60s\" }");
    for (uint32_t i = 0; i < 60; i++)
        send_to(0);
    world_run_home(&world, 1);
    for (uint32_t i = 1; i < 4; i++)
        send_to(i);
    while (messages[60].homecomings + messages[61].homecomings + messages[62].homecomings < 3 &&
           world.home < sent)
        loop_turn(world.loop, 1000);
    assert_in_range(atomic_load(&taker.ports[0].taken), 1, 20);
    world_run_home(&world, sent);
    check_all_done();
    assert_int_equal(atomic_load(&taker.most_open), 1);
}

static void a_site_whose_host_is_full_gets_the_next_connection_there(void **state)
{
    begin(20, 2,
          "site \"127.0.0.1\" { connections = 10 connections_per_host = 1 }\n"
          "timeouts { outbound_idle = \"0\" }");
    for (uint32_t i = 0; i < 12; i++)
        send_to(i % 2);
    world_run_home(&world, sent);
    check_all_done();
    assert_int_equal(atomic_load(&taker.most_open), 1);
}

/* --- Speed --- */

static void two_sites_share_their_speed(void **state)
{
    uint64_t began_us = clock_monotonic_us();

    begin(0, 2, "site \"127.0.0.1\" { connections = 10 messages_per_second = 60 }");
    for (uint32_t i = 0; i < MESSAGES; i++)
        send_to(i % 2);
    world_run_home(&world, MESSAGES);
    uint64_t took_us = clock_monotonic_us() - began_us;
    check_all_done();
    taker_stop(&taker);
    assert_in_range(took_us, 1900000, 4000000);
    assert_int_equal(taker.time_count, MESSAGES);
    for (uint32_t i = 0; i + 60 < MESSAGES; i++) /* seen through the jitter of this machine */
        assert_true(taker.times_us[i + 60] - taker.times_us[i] > 900000);
}

static void neither_of_two_sites_starves(void **state)
{
    begin(0, 2, "site \"127.0.0.1\" { connections = 10 messages_per_second = 40 }");
    for (uint32_t i = 0; i < 60; i++)
        send_to(0);
    for (uint32_t i = 0; i < 20; i++)
        send_to(1);
    world_run_home(&world, 40);
    assert_in_range(atomic_load(&taker.ports[1].taken), 10, 20);
    world_run_home(&world, sent);
    check_all_done();
}

/* --- Reload --- */

/* What a reload sent home untried is given anew. */
static void send_untried_again(void)
{
    for (uint32_t i = 0; i < sent; i++) {
        if (messages[i].homecomings == 0 || messages[i].targets[0].outcome != QUEUE_RETRY)
            continue;
        world.home--;
        world_send(&world, &messages[i]);
    }
}

static void reload(uint32_t routes, const char *more)
{
    world_take(&world, config_of(routes, more));
    send_untried_again();
}

static void new_limits_hold_at_once(void **state)
{
    begin(5, 2, "site \"127.0.0.1\" { connections = 1 }");
    for (uint32_t i = 0; i < 60; i++)
        send_to(i % 2);
    world_run_home(&world, 10);
    struct group *group = site_to(0)->group;
    reload(2, "site \"127.0.0.1\" { connections = 4 }");
    world_run_home(&world, 60);
    assert_in_range(atomic_load(&taker.most_open), 2, 4);
    assert_ptr_equal(site_to(0)->group, group);
    reload(2, "site \"127.0.0.1\" { connections = 1 }\ntimeouts { outbound_idle = \"0\" }");
    world_run_closed(&world);
    world_run_ms(&world, 5);
    atomic_store(&taker.most_open, 0);
    for (uint32_t i = 0; i < 20; i++)
        send_to(i % 2);
    world_run_home(&world, sent);
    check_all_done();
    assert_int_equal(atomic_load(&taker.most_open), 1);
}

static void a_section_comes_and_goes(void **state)
{
    static const char *const sections[] = {
        "site \"127.0.0.1\" { connections = 2 }",
        "",
        "site \"127.0.0.1\" { connections = 2 messages_per_second = 10000 }",
        "site \"127.0.0.1\" { connections = 2 }",
        "site \"default\" { connections = 2 }",
    };

    begin(1, 2, "");
    for (uint32_t i = 0; i < 10; i++) {
        for (uint32_t j = 0; j < 10; j++)
            send_to(j % 2);
        world_run_home(&world, 10 * i + 5);
        reload(2, sections[i % 5]);
    }
    world_run_home(&world, sent);
    check_all_done();
    reload(2, "timeouts { outbound_idle = \"0\" }");
    world_run_closed(&world);
    world_run_ms(&world, 5);
    assert_int_equal(count_of(&world.outbound.leaving), 0);
    assert_int_equal(count_of(&world.outbound.groups), 0);
}

static void a_site_that_nothing_leads_to_leaves(void **state)
{
    begin(0, 3, "");
    for (uint32_t i = 0; i < 3; i++)
        send_to(i);
    world_run_home(&world, 3);
    assert_non_null(site_to(2));
    reload(1, "");
    assert_null(find_site(2));
    while (world.outbound.session_count > 1)
        loop_turn(world.loop, 1000);
    world_run_ms(&world, 5);
    assert_int_equal(count_of(&world.outbound.leaving), 0);
    assert_int_equal(site_to(0)->session_count, 1); /* it was not disturbed */
    assert_int_equal(atomic_load(&taker.ports[0].connections), 1);
    check_all_done();
}

static void a_site_that_moves_keeps_the_limit_of_its_new_group(void **state)
{
    char more[128];

    begin(2, 2, "site \"127.0.0.1\" { connections = 3 }");
    for (uint32_t i = 0; i < 40; i++)
        send_to(i % 2);
    world_run_home(&world, 10);
    snprintf(more, sizeof(more),
             "site \"127.0.0.1\" { connections = 3 }\nsite \"127.0.0.1:%u\" { connections = 1 }",
             taker.ports[1].port);
    reload(2, more);
    while (count_of(&world.outbound.leaving) > 0)
        loop_turn(world.loop, 1000);
    assert_ptr_not_equal(site_to(0)->group, site_to(1)->group);
    atomic_store(&taker.ports[1].most_open, 0);
    world_run_home(&world, sent);
    check_all_done();
    assert_in_range(atomic_load(&taker.ports[1].most_open), 0, 1);
}

/* Other workers look for its room, and this worker may have no mail of its own for it. */
static void a_site_in_another_section_is_there_at_once(void **state)
{
    begin(0, 1, "");
    world_run_ms(&world, 5);
    assert_non_null(site_to(0));
    assert_true(outbound_room(&world.outbound, 0) > 0);
    reload(1, "site \"127.0.0.1\" { connections = 2 }");
    world_run_ms(&world, 5);
    assert_non_null(site_to(0));
    assert_true(site_to(0)->limits.index != 0);
    assert_true(outbound_room(&world.outbound, 0) > 0);
}

/* --- Next hops that others made --- */

/* A worker that has taken over a new configuration already may send a next hop that ours does not have yet; a
 * line of the route file may say what the configuration says, too. */
static void a_place_in_the_configuration_is_our_own_affair(void **state)
{
    begin(0, 2, "");
    struct site *listed = site_to(0);
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
    reload(2, "");
    assert_ptr_equal(site_to(0), listed);
    assert_true(site_to(0)->is_spread);
    next_hop_unref(same);
    next_hop_unref(strange);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(two_sites_share_their_connections, end),
        cmocka_unit_test_teardown(sites_without_a_section_share_nothing, end),
        cmocka_unit_test_teardown(an_idle_session_makes_room_for_another_site, end),
        cmocka_unit_test_teardown(who_waits_gets_the_session_that_becomes_idle, end),
        cmocka_unit_test_teardown(a_site_whose_only_address_is_left_out_is_tried_again, end),
        cmocka_unit_test_teardown(who_waits_in_line_gets_its_turn, end),
        cmocka_unit_test_teardown(a_site_whose_host_is_full_gets_the_next_connection_there, end),
        cmocka_unit_test_teardown(two_sites_share_their_speed, end),
        cmocka_unit_test_teardown(neither_of_two_sites_starves, end),
        cmocka_unit_test_teardown(new_limits_hold_at_once, end),
        cmocka_unit_test_teardown(a_section_comes_and_goes, end),
        cmocka_unit_test_teardown(a_site_that_nothing_leads_to_leaves, end),
        cmocka_unit_test_teardown(a_site_that_moves_keeps_the_limit_of_its_new_group, end),
        cmocka_unit_test_teardown(a_site_in_another_section_is_there_at_once, end),
        cmocka_unit_test_teardown(a_place_in_the_configuration_is_our_own_affair, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
