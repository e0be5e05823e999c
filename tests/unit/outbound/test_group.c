/* Sites of one section that want the same connections: whose turn it is, what makes room, what the section
 * counts together and for how long. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "gateway/base/clock.h"
#include "gateway/outbound/client.h"
#include "gateway/outbound/group.h"
#include "gateway/outbound/site.h"
#include "tests/unit/outbound/crowd.h"
#include "tests/unit/outbound/hops.h"

enum { MANY = 100, HOSTS = 40000 };

/* MANY routes, m0.test, m1.test, ..., each to a site of its own at the first port: they differ in where mail
 * would go if nobody was there. */
static void reload_with_many(const char *more)
{
    static char text[MANY * 128];
    size_t size = (size_t)snprintf(text, sizeof(text), "%s\n", more);

    for (uint32_t i = 0; i < MANY; i++)
        size += (size_t)snprintf(
            text + size, sizeof(text) - size,
            "route \"m%u.test\" { to = {\"smtp://127.0.0.1:%u\", \"smtp://127.0.0.1:%u\"} }\n", i,
            taker.ports[0].port, i + 1);
    crowd_reload(1, text);
}

static void send_to_many(uint32_t index)
{
    static char to[MANY][16];

    assert_true(index < MANY);
    snprintf(to[index], sizeof(to[index]), "x@m%u.test", index);
    crowd_send_mail(to[index]);
}

/* --- Who gets the next connection --- */

/* Although the other site has nothing more to do, its connection would stay for a minute. */
static void an_idle_session_makes_room_for_another_site(void **state)
{
    crowd_begin(0, 2, "site \"127.0.0.1\" { connections = 1 }\ntimeouts { outbound_idle = \"60s\" }");
    for (uint32_t i = 0; i < 10; i++) {
        crowd_send_to(i % 2);
        world_run_home(&world, i + 1);
    }
    crowd_check_all_done();
    assert_int_equal(atomic_load(&taker.most_open), 1);
    assert_int_equal(atomic_load(&taker.ports[0].connections), 5);
}

/* The same, when the other still had something to do as the connection was asked for. */
static void who_waits_gets_the_session_that_becomes_idle(void **state)
{
    crowd_begin(50, 2, "site \"127.0.0.1\" { connections = 1 }\ntimeouts { outbound_idle = \"60s\" }");
    crowd_send_to(0);
    while (world.outbound.session_count == 0 || atomic_load(&taker.ports[0].connections) == 0)
        loop_turn(world.loop, 1000);
    world_run_ms(&world, 20);
    crowd_send_to(1);
    world_run_ms(&world, 5);
    assert_int_equal(world.home, 0);
    world_run_home(&world, 2);
    crowd_check_all_done();
    assert_int_equal(atomic_load(&taker.most_open), 1);
}

/* Each of many sites has hardly anything to say, and would then keep its connection for a minute. */
static void many_sites_share_a_few_connections(void **state)
{
    uint64_t began_us = clock_monotonic_us();

    crowd_begin(0, 1, "");
    reload_with_many("site \"127.0.0.1\" { connections = 3 }\ntimeouts { outbound_idle = \"60s\" }");
    for (uint32_t i = 0; i < 2 * MANY; i++)
        send_to_many(i % MANY);
    world_run_home(&world, sent);
    crowd_check_all_done();
    assert_in_range(atomic_load(&taker.most_open), 2, 3);
    assert_in_range(clock_monotonic_us() - began_us, 0, 8000000);
}

static bool is_home(uint32_t first, uint32_t last)
{
    for (uint32_t i = first; i < last; i++) {
        if (messages[i].homecomings == 0)
            return false;
    }
    return true;
}

/* Without a limit to the messages of a connection one site could keep it for as long as it has mail. */
static void a_long_backlog_makes_room_after_a_while(void **state)
{
    crowd_begin(50, 4, "site \"127.0.0.1\" { connections = 1 messages_per_connection = 0 }");
    for (uint32_t i = 0; i < 120; i++)
        crowd_send_to(0);
    world_run_home(&world, 1);
    for (uint32_t i = 1; i < 4; i++)
        crowd_send_to(i);
    while (!is_home(120, 123) && world.home < sent)
        loop_turn(world.loop, 1000);
    assert_in_range(atomic_load(&taker.ports[0].taken), 20, 70); /* after two seconds, not at once */
    world_run_home(&world, sent);
    crowd_check_all_done();
    assert_int_equal(atomic_load(&taker.most_open), 1);
}

/* Whoever is looked at more often, because mail comes all the time, is not served sooner for it. */
static void nobody_gets_ahead_of_who_was_there_first(void **state)
{
    crowd_begin(2, 1, "");
    reload_with_many("site \"127.0.0.1\" { connections = 3 connections_per_second = 40 }");
    for (uint32_t i = 0; i < 50; i++)
        send_to_many(i);
    loop_turn(world.loop, 1000);
    do {
        if (sent < CROWD_MESSAGES_MAX)
            crowd_send_to(0);
        loop_turn(world.loop, 1000);
    } while (messages[50].homecomings == 0 && world.home < sent);
    assert_true(is_home(0, 50));
    world_run_home(&world, sent);
    crowd_check_all_done();
}

static void one_that_waits_costs_others_one_session(void **state)
{
    crowd_begin(50, 2, "site \"127.0.0.1\" { connections = 4 messages_per_connection = 0 }");
    for (uint32_t i = 0; i < 238; i++)
        crowd_send_to(0);
    world_run_home(&world, 170); /* all have been used for two seconds */
    crowd_send_to(1);
    world_run_home(&world, sent);
    crowd_check_all_done();
    assert_in_range(atomic_load(&taker.most_open), 3, 4);
    assert_in_range(atomic_load(&taker.ports[0].connections), 4, 6);
}

/* Sites that only wait for the speed at which messages may begin have not had their turn yet. */
static void who_has_sent_nothing_yet_keeps_its_session(void **state)
{
    crowd_begin(0, 4,
                "site \"127.0.0.1\" { connections = 1 messages_per_minute = 15 }\n"
                "timeouts { outbound_idle = \"60s\" }");
    for (uint32_t i = 0; i < 3; i++)
        crowd_send_to(i);
    world_run_home(&world, 3);
    crowd_check_all_done();
    assert_int_equal(atomic_load(&taker.ports[0].connections), 1);
    assert_int_equal(atomic_load(&taker.ports[1].connections), 1);
    assert_int_equal(atomic_load(&taker.ports[2].connections), 1);
}

/* Of four sites with one connection together none has to wait until another has sent all that it has. */
static void who_waits_in_line_gets_its_turn(void **state)
{
    crowd_begin(1, 4,
                "site \"127.0.0.1\" { connections = 1 messages_per_connection = 2 }\n"
                "timeouts { outbound_idle = \"60s\" }");
    for (uint32_t i = 0; i < 60; i++)
        crowd_send_to(0);
    world_run_home(&world, 1);
    for (uint32_t i = 1; i < 4; i++)
        crowd_send_to(i);
    while (messages[60].homecomings + messages[61].homecomings + messages[62].homecomings < 3 &&
           world.home < sent)
        loop_turn(world.loop, 1000);
    assert_in_range(atomic_load(&taker.ports[0].taken), 1, 20);
    world_run_home(&world, sent);
    crowd_check_all_done();
    assert_int_equal(atomic_load(&taker.most_open), 1);
}

static void a_site_whose_host_is_full_gets_the_next_connection_there(void **state)
{
    crowd_begin(20, 2,
                "site \"127.0.0.1\" { connections = 10 connections_per_host = 1 }\n"
                "timeouts { outbound_idle = \"0\" }");
    for (uint32_t i = 0; i < 12; i++)
        crowd_send_to(i % 2);
    world_run_home(&world, sent);
    crowd_check_all_done();
    assert_int_equal(atomic_load(&taker.most_open), 1);
}

static void as_many_make_room_as_wait(void **state)
{
    crowd_begin(0, 2, "site \"127.0.0.1\" { connections = 2 messages_per_connection = 0 }");
    struct site *site = crowd_site_to(0);
    struct group *group = site->group;
    struct client client = {.ready_us = loop_now_us(world.loop) - 3000000, .messages = 1};
    struct client fresh = {.ready_us = loop_now_us(world.loop) - 1000000, .messages = 1};
    struct client unused = {.ready_us = client.ready_us};

    shaper_connect_began(&group->shaper, loop_now_us(world.loop));
    assert_false(group_must_yield(group, &client)); /* nobody waits */
    group_wait(group, site, true);
    assert_false(group_must_yield(group, &client)); /* there is room */
    shaper_connect_began(&group->shaper, loop_now_us(world.loop));
    assert_false(group_must_yield(group, &fresh));
    assert_false(group_must_yield(group, &unused));
    assert_true(group_must_yield(group, &client));
    assert_false(group_must_yield(group, &client)); /* one does already */
    group_wait(group, crowd_site_to(1), true);
    assert_true(group_must_yield(group, &client));
    group_end_wait(group, crowd_site_to(1));
    group_connection_ended(group);
    group_connection_ended(group);
    assert_true(group_must_yield(group, &client));
    group_wait(group, site, false); /* it has one now, and wants another */
    group_connection_ended(group);
    assert_false(group_must_yield(group, &client));
    group_end_wait(group, site);
    shaper_connection_ended(&group->shaper, loop_now_us(world.loop));
    shaper_connection_ended(&group->shaper, loop_now_us(world.loop));
}

/* --- What counts together --- */

static const char section[] = "site \"127.0.0.1\" { messages_per_hour = 2 }";

/* Its sites are gone within minutes, and with a section sooner. */
static void what_was_sent_counts_after_the_last_site_is_gone(void **state)
{
    crowd_begin(0, 1, section);
    crowd_send_to(0);
    world_run_home(&world, 1);
    const struct group *group = crowd_site_to(0)->group;
    crowd_reload(1, "timeouts { outbound_idle = \"0\" }");
    while (crowd_count_of(&world.outbound.leaving) > 0)
        loop_turn(world.loop, 1000);
    assert_int_equal(crowd_count_of(&world.outbound.groups), 1);
    groups_sweep(&world.outbound, false);
    crowd_reload(1, section);
    assert_ptr_equal(crowd_site_to(0)->group, group);
    crowd_send_to(0);
    world_run_ms(&world, 200);
    assert_int_equal(world.home, 1);
    crowd_reload(1, "");
    world_run_home(&world, 2);
    crowd_check_all_done();
}

/* The same of a site that has its limits for itself. */
static void a_site_is_remembered_while_its_messages_count(void **state)
{
    crowd_begin(0, 1, "site \"default\" { messages_per_second = 4 }");
    crowd_send_to(0);
    world_run_home(&world, 1);
    assert_true(site_remembers(crowd_site_to(0), loop_now_us(world.loop)));
    world_run_ms(&world, 500);
    assert_false(site_remembers(crowd_site_to(0), loop_now_us(world.loop)));
}

/* As a domain's MX, or as a line of the route file says it: another site than the configuration's, since it
 * is spoken with in another way. */
static struct site *unlisted_site(uint32_t port)
{
    return site_at(&world, "0 127.0.0.1 127.0.0.1", taker.ports[port].port);
}

static void one_section_has_one_limit_for_sites_of_every_sort(void **state)
{
    crowd_begin(0, 2, "site \"127.0.0.1\" { connections = 3 }");
    struct site *listed = crowd_site_to(0);
    struct site *other = unlisted_site(1);
    assert_ptr_not_equal(other, listed);
    assert_ptr_equal(other->group, listed->group);
    assert_true(listed->is_spread);
    assert_false(other->is_spread); /* nobody looks for its room */
    crowd_reload(2, "site \"127.0.0.1\" { connections = 3 connections_per_second = 1000 }");
    assert_ptr_equal(unlisted_site(1)->group, crowd_site_to(0)->group);
    assert_false(crowd_site_to(0)->is_spread);
    site_touch(unlisted_site(1));
    world_run_ms(&world, 5);
}

/* All workers' parts together are the limit, and who has none gives to one who has. */
static void the_parts_of_a_section_are_the_whole(void **state)
{
    struct outbound_options *options = &world.outbound.options;

    crowd_begin(0, 1, "site \"127.0.0.1\" { connections = 3 }");
    for (options->worker_count = 4; options->worker_count < 12; options->worker_count++) {
        uint32_t sum = 0;
        for (uint32_t i = 0; i < options->worker_count; i++) {
            options->worker_index = i;
            struct site *site = unlisted_site(0);
            site_configure(site);
            assert_true(site->is_divided);
            assert_in_range(site->owner, 0, 2);
            assert_int_equal(site->share, i < 3 ? 1 : 0);
            sum += site->share;
        }
        assert_int_equal(sum, 3);
    }
    options->worker_index = 0;
    options->worker_count = 1;
    world_run_ms(&world, 5);
}

static void thousands_of_hosts_are_found_at_once(void **state)
{
    static const struct config_limits limits = {.connections = 1};
    static struct group_host *hosts[HOSTS];
    char name[32];

    crowd_begin(0, 1, "");
    struct group *one = group_find(&world.outbound, "one", &limits);
    struct group *two = group_find(&world.outbound, "two", &limits);
    assert_true(one != NULL && two != NULL);
    clock_t began = clock();
    for (uint32_t i = 0; i < HOSTS; i++) {
        snprintf(name, sizeof(name), "c%u.mail.test", i);
        hosts[i] = group_host_find(one, name);
        assert_non_null(hosts[i]);
        assert_ptr_equal(group_host_find(one, name), hosts[i]);
    }
    assert_in_range(clock() - began, 0, CLOCKS_PER_SEC);
    struct group_host *same = group_host_find(two, name);
    assert_ptr_not_equal(same, hosts[HOSTS - 1]);
    group_host_release(same);
    for (uint32_t i = 0; i < HOSTS; i++) {
        group_host_release(hosts[i]);
        group_host_release(hosts[i]);
    }
    group_release(one);
    group_release(two);
}

#define CASE(name) cmocka_unit_test_teardown(name, crowd_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(an_idle_session_makes_room_for_another_site),
        CASE(who_waits_gets_the_session_that_becomes_idle),
        CASE(many_sites_share_a_few_connections),
        CASE(a_long_backlog_makes_room_after_a_while),
        CASE(as_many_make_room_as_wait),
        CASE(nobody_gets_ahead_of_who_was_there_first),
        CASE(one_that_waits_costs_others_one_session),
        CASE(who_has_sent_nothing_yet_keeps_its_session),
        CASE(who_waits_in_line_gets_its_turn),
        CASE(a_site_whose_host_is_full_gets_the_next_connection_there),
        CASE(what_was_sent_counts_after_the_last_site_is_gone),
        CASE(a_site_is_remembered_while_its_messages_count),
        CASE(one_section_has_one_limit_for_sites_of_every_sort),
        CASE(the_parts_of_a_section_are_the_whole),
        CASE(thousands_of_hosts_are_found_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
