/* Hosts that fail, connections that are kept or not, reload and drain. */
#include <stdio.h>
#include <string.h>

#include "gateway/base/clock.h"
#include "tests/unit/outbound/peer.h"
#include "tests/unit/outbound/world.h"

#define SCRIPT(...)                                                                                          \
    (const char *const[])                                                                                    \
    {                                                                                                        \
        __VA_ARGS__, NULL                                                                                    \
    }
#define SCRIPTS(...)                                                                                         \
    (const char *const *const[])                                                                             \
    {                                                                                                        \
        __VA_ARGS__, NULL                                                                                    \
    }
#define HELLO "S: 220 peer.test", "C: EHLO relay.test", "S: 250-peer.test", "S: 250 PIPELINING"
#define SAID  "C~ MAIL", "C~ RCPT", "C: DATA"
#define TAKE  "S: 250 ok", "S: 250 ok", "S: 354 go", "D", "A: 250 ok"
#define BYE   "*", "C: QUIT", "S: 221 bye", "E"

static const char one_connection[] =
    "site \"default\" { connections = 1 }\ntimeouts { outbound_idle = \"0\" }";
static const char kept[] = "site \"default\" { connections = 1 }";

static struct world world;
static struct peer peer;

static void give(struct message *message)
{
    *message = (struct message){.from = "a@from.test", .to = {"b@to.test"}, .content = "x\r\n"};
    world_send(&world, message);
}

static void check_peer(void)
{
    peer_stop(&peer);
    if (peer.failure[0] != 0)
        fail_msg("%s", peer.failure);
}

static void check_outcome(const struct message *message, enum queue_outcome outcome)
{
    assert_int_equal(message->homecomings, 1);
    assert_int_equal(message->targets[0].outcome, outcome);
}

static void second_host_when_the_first_is_dead(void **state)
{
    struct message message;

    peer_start(&peer, SCRIPTS(SCRIPT(HELLO, SAID, TAKE, BYE)), SIZE_MAX);
    world_init(&world, (uint16_t[]){peer_dead_port(), peer.port, 0}, one_connection);
    give(&message);
    world_run_home(&world, 1);
    world_run_closed(&world);
    check_outcome(&message, QUEUE_DONE);
    assert_int_equal(counter_get(&world.counters, COUNTER_outbound_failures), 1);
    world_deinit(&world);
    check_peer();
}

static void second_host_when_the_first_turns_us_away(void **state)
{
    static struct peer first;
    struct message message;

    peer_start(&first, SCRIPTS(SCRIPT("S: 554 no service", "E")), SIZE_MAX);
    peer_start(&peer, SCRIPTS(SCRIPT(HELLO, SAID, TAKE, BYE)), SIZE_MAX);
    world_init(&world, (uint16_t[]){first.port, peer.port, 0}, one_connection);
    give(&message);
    world_run_home(&world, 1);
    world_run_closed(&world);
    check_outcome(&message, QUEUE_DONE);
    world_deinit(&world);
    check_peer();
    peer_stop(&first);
}

static void dead_site_defers_one_for_each_probe(void **state)
{
    struct message messages[4];
    uint64_t began_us = clock_monotonic_us();

    world_init(&world, (uint16_t[]){peer_dead_port(), peer_dead_port(), 0}, one_connection);
    for (uint32_t i = 0; i < 4; i++)
        give(&messages[i]);
    world_run_home(&world, 1);
    assert_int_equal(outbound_room(&world.outbound, 0), 0);
    world_run_home(&world, 4);
    for (uint32_t i = 0; i < 4; i++)
        check_outcome(&messages[i], QUEUE_DEFER);
    /* back-offs of 5, 10 and 20 ms, each shortened by a tenth at most */
    assert_true(clock_monotonic_us() - began_us >= 31000);
    assert_int_equal(counter_get(&world.counters, COUNTER_outbound_failures), 8);
    assert_non_null(strstr(world_log(&world), "Connection refused"));
    assert_non_null(strstr(world_log(&world), "site is down"));
    world_deinit(&world);
}

static void site_comes_back(void **state)
{
    struct message messages[2];
    uint16_t port = peer_dead_port();

    world_init(&world, (uint16_t[]){port, 0}, one_connection);
    give(&messages[0]);
    world_run_home(&world, 1);
    peer_start_at(&peer, port, SCRIPTS(SCRIPT(HELLO, SAID, TAKE, BYE)), SIZE_MAX);
    give(&messages[1]);
    world_run_home(&world, 2);
    world_run_closed(&world);
    check_outcome(&messages[0], QUEUE_DEFER);
    check_outcome(&messages[1], QUEUE_DONE);
    assert_non_null(strstr(world_log(&world), "site is up again"));
    world_run_ms(&world, 5);
    assert_int_equal(outbound_room(&world.outbound, 0), 1);
    world_deinit(&world);
    check_peer();
}

static void peer_that_always_closes_does_not_spin(void **state)
{
    struct message messages[3];

    peer_start(&peer, SCRIPTS(SCRIPT(HELLO, "X"), SCRIPT(HELLO, "X"), SCRIPT(HELLO, "S: 421 no", "E")),
               SIZE_MAX);
    world_init(&world, (uint16_t[]){peer.port, 0}, one_connection);
    for (uint32_t i = 0; i < 3; i++)
        give(&messages[i]);
    world_run_home(&world, 3);
    for (uint32_t i = 0; i < 3; i++)
        check_outcome(&messages[i], QUEUE_DEFER);
    assert_int_equal(atomic_load(&peer.connections), 3);
    assert_int_equal(counter_get(&world.counters, COUNTER_outbound_connections), 3);
    world_deinit(&world);
    check_peer();
}

static void connection_is_kept_and_then_ended(void **state)
{
    struct message messages[2];

    peer_start(&peer, SCRIPTS(SCRIPT(HELLO, SAID, TAKE, SAID, TAKE, BYE)), SIZE_MAX);
    world_init(&world, (uint16_t[]){peer.port, 0},
               "site \"default\" { connections = 1 }\ntimeouts { outbound_idle = \"300ms\" }");
    give(&messages[0]);
    world_run_home(&world, 1);
    world_run_ms(&world, 100);
    assert_int_equal(outbound_session_count(&world.outbound), 1);
    give(&messages[1]);
    world_run_home(&world, 2);
    world_run_closed(&world);
    check_outcome(&messages[1], QUEUE_DONE);
    world_deinit(&world);
    check_peer();
}

static void messages_per_connection_are_counted(void **state)
{
    struct message messages[3];

    peer_start(&peer, SCRIPTS(SCRIPT(HELLO, SAID, TAKE, SAID, TAKE, BYE), SCRIPT(HELLO, SAID, TAKE, BYE)),
               SIZE_MAX);
    world_init(&world, (uint16_t[]){peer.port, 0},
               "site \"default\" { connections = 1 messages_per_connection = 2 }\ntimeouts { outbound_idle = "
               "\"0\" }");
    for (uint32_t i = 0; i < 3; i++)
        give(&messages[i]);
    world_run_home(&world, 3);
    world_run_closed(&world);
    for (uint32_t i = 0; i < 3; i++)
        check_outcome(&messages[i], QUEUE_DONE);
    world_deinit(&world);
    check_peer();
}

/* What the sender first called the recipient (ORCPT) may lie in another domain. */
static void the_address_alone_chooses_the_route(void **state)
{
    struct message message = {
        .from = "a@from.test", .to = {"b@to.test"}, .content = "x\r\n", .orcpt = "rfc822;b@other.test"};
    char more[256];

    snprintf(more, sizeof(more), "%s\nroute \"other.test\" { to = \"smtp://127.0.0.1:%u\" }", one_connection,
             peer_dead_port());
    peer_start(&peer, SCRIPTS(SCRIPT(HELLO, "C~ MAIL", "C: RCPT TO:<b@to.test>", "C: DATA", TAKE, BYE)),
               SIZE_MAX);
    world_init(&world, (uint16_t[]){peer.port, 0}, more);
    world_send(&world, &message);
    world_run_home(&world, 1);
    world_run_closed(&world);
    check_outcome(&message, QUEUE_DONE);
    world_deinit(&world);
    check_peer();
}

/* Some count RSET against us, unless it follows a message that they took. */
static void a_peer_that_refuses_much_is_called_anew(void **state)
{
    struct message messages[14];

#define REFUSE "C~ MAIL", "C~ RCPT", "C: DATA", "S: 250 ok", "S: 550 no", "S: 554 no"
#define AGAIN  "C: RSET", "C~ MAIL", "C~ RCPT", "C: DATA", "S: 250 ok", "S: 250 ok", "S: 550 no", "S: 554 no"
#define ACCEPT "C: RSET", SAID, "S: 250 ok", TAKE

    peer_start(&peer,
               SCRIPTS(SCRIPT(HELLO, REFUSE, AGAIN, ACCEPT, REFUSE, AGAIN, AGAIN, AGAIN, AGAIN, AGAIN, AGAIN,
                              AGAIN, AGAIN, AGAIN, BYE),
                       SCRIPT(HELLO, REFUSE, BYE)),
               SIZE_MAX);
    world_init(&world, (uint16_t[]){peer.port, 0}, one_connection);
    for (uint32_t i = 0; i < 14; i++)
        give(&messages[i]);
    world_run_home(&world, 14);
    world_run_closed(&world);
    for (uint32_t i = 0; i < 14; i++)
        check_outcome(&messages[i], QUEUE_DONE);
    world_deinit(&world);
    check_peer();
}

/* On the broken connection one message is done, one is unsure, one untried. */
static void a_peer_that_breaks_in_overlap_gets_gear_two(void **state)
{
    static const enum queue_outcome outcomes[] = {QUEUE_DONE, QUEUE_DEFER, QUEUE_RETRY, QUEUE_DONE,
                                                  QUEUE_DONE};
    struct message messages[5];

    peer_start(
        &peer,
        SCRIPTS(SCRIPT(HELLO, SAID, TAKE, SAID, "S: 250 ok", "S: 250 ok", "S: 354 go", "D", SAID, "X"),
                SCRIPT(HELLO, "=", SAID, "S: 250 ok", "S: 250 ok", "S: 354 go", "=", "D", "Q", "A: 250 ok",
                       "=", SAID, "S: 250 ok", "S: 250 ok", "S: 354 go", "=", "D", "A: 250 ok", BYE)),
        SIZE_MAX);
    world_init(&world, (uint16_t[]){peer.port, 0}, one_connection);
    for (uint32_t i = 0; i < 5; i++)
        give(&messages[i]);
    world_run_home(&world, 5);
    world_run_closed(&world);
    for (uint32_t i = 0; i < 5; i++)
        check_outcome(&messages[i], outcomes[i]);
    world_deinit(&world);
    check_peer();
}

/* It announces PIPELINING, and throws away what comes behind a command. */
static void a_peer_that_loses_commands_gets_gear_one(void **state)
{
    struct message messages[2];

    peer_start(&peer,
               SCRIPTS(SCRIPT(HELLO, "=", SAID, "S: 250 ok", "E"),
                       SCRIPT(HELLO, "=", "C~ MAIL", "Q", "S: 250 ok", "=", "C~ RCPT", "Q", "S: 250 ok", "=",
                              "C: DATA", "S: 354 go", "=", "D", "A: 250 ok", BYE)),
               SIZE_MAX);
    world_init(
        &world, (uint16_t[]){peer.port, 0},
        "site \"default\" { connections = 1 }\ntimeouts { outbound_idle = \"0\" outbound_rcpt = \"200ms\" }");
    for (uint32_t i = 0; i < 2; i++) {
        give(&messages[i]);
        world_run_home(&world, i + 1);
    }
    world_run_closed(&world);
    check_outcome(&messages[0], QUEUE_DEFER);
    check_outcome(&messages[1], QUEUE_DONE);
    world_deinit(&world);
    check_peer();
}

static void waiting_mail_opens_more_connections(void **state)
{
    struct message messages[8];

    peer_start(&peer,
               SCRIPTS(SCRIPT(HELLO, SAID, TAKE, SAID, TAKE, "E"),
                       SCRIPT(HELLO, SAID, "S: 451 x", "S: 503 x", "S: 503 x", "E")),
               SIZE_MAX);
    world_init(&world, (uint16_t[]){peer.port, 0}, "site \"default\" { connections = 2 }");
    for (uint32_t i = 0; i < 8; i++)
        give(&messages[i]);
    world_run_ms(&world, 200);
    assert_int_equal(atomic_load(&peer.connections),
                     1); /* it serves one at a time: the other is in its backlog */
    assert_int_equal(outbound_session_count(&world.outbound), 2);
    world_deinit(&world);
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(messages[i].homecomings, 1);
    peer_stop(&peer);
}

static void drain_ends_what_is_in_flight_alone(void **state)
{
    struct message messages[3];

    peer_start(&peer,
               SCRIPTS(SCRIPT(HELLO, "=", SAID, "S: 250 ok", "S: 250 ok", "Q", "Q", "S: 354 go", "=", "D",
                              "A: 250 ok", BYE)),
               SIZE_MAX);
    world_init(&world, (uint16_t[]){peer.port, 0}, kept);
    for (uint32_t i = 0; i < 2; i++)
        give(&messages[i]);
    world_run_ms(&world, 60);
    assert_int_equal(world.home, 0);
    outbound_drain(&world.outbound);
    give(&messages[2]);
    world_run_closed(&world);
    check_outcome(&messages[0], QUEUE_DONE);
    check_outcome(&messages[1], QUEUE_RETRY);
    check_outcome(&messages[2], QUEUE_RETRY);
    world_deinit(&world);
    check_peer();
}

static void reload_keeps_connections_of_the_same_hosts(void **state)
{
    struct message messages[2];

    peer_start(&peer, SCRIPTS(SCRIPT(HELLO, SAID, TAKE, SAID, TAKE, "E")), SIZE_MAX);
    world_init(&world, (uint16_t[]){peer.port, 0}, kept);
    give(&messages[0]);
    world_run_home(&world, 1);
    world_reload(&world, (uint16_t[]){peer.port, 0}, "site \"default\" { connections = 7 }");
    world_run_ms(&world, 20);
    give(&messages[1]);
    world_run_home(&world, 2);
    check_outcome(&messages[1], QUEUE_DONE);
    world_deinit(&world);
    check_peer();
}

static void reload_leaves_hosts_that_are_gone(void **state)
{
    static struct peer other;
    struct message messages[3];

    peer_start(&peer,
               SCRIPTS(SCRIPT(HELLO, "=", SAID, "S: 250 ok", "S: 250 ok", "Q", "Q", "S: 354 go", "=", "D",
                              "A: 250 ok", BYE)),
               SIZE_MAX);
    peer_start(&other, SCRIPTS(SCRIPT(HELLO, SAID, TAKE, "E")), SIZE_MAX);
    world_init(&world, (uint16_t[]){peer.port, 0}, kept);
    give(&messages[0]);
    give(&messages[1]);
    world_run_ms(&world, 60);
    world_reload(&world, (uint16_t[]){other.port, 0}, kept);
    give(&messages[2]);
    world_run_home(&world, 3);
    check_outcome(&messages[0], QUEUE_DONE);  /* was in flight */
    check_outcome(&messages[1], QUEUE_RETRY); /* waited */
    check_outcome(&messages[2], QUEUE_DONE);
    world_deinit(&world);
    check_peer();
    peer_stop(&other);
}

static void recipients_per_connection_are_counted(void **state)
{
    struct message messages[4];

#define TWO_RECIPIENTS "C~ MAIL", "C~ RCPT", "C~ RCPT", "C: DATA", "S: 250 ok", TAKE
    peer_start(
        &peer,
        SCRIPTS(SCRIPT(HELLO, SAID, TAKE, SAID, TAKE, BYE), SCRIPT(HELLO, TWO_RECIPIENTS, SAID, TAKE, BYE)),
        SIZE_MAX);
    world_init(
        &world, (uint16_t[]){peer.port, 0},
        "site \"default\" { connections = 1 recipients_per_connection = 3 }\ntimeouts { outbound_idle = "
        "\"0\" }");
    for (uint32_t i = 0; i < 4; i++) {
        messages[i] = (struct message){.from = "a@from.test", .to = {"b@to.test"}, .content = "x\r\n"};
        if (i == 2)
            messages[i].to[1] = "c@to.test";
        world_send(&world, &messages[i]);
    }
    world_run_home(&world, 4);
    world_run_closed(&world);
    for (uint32_t i = 0; i < 4; i++)
        check_outcome(&messages[i], QUEUE_DONE);
    world_deinit(&world);
    check_peer();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(second_host_when_the_first_is_dead),
        cmocka_unit_test(second_host_when_the_first_turns_us_away),
        cmocka_unit_test(dead_site_defers_one_for_each_probe),
        cmocka_unit_test(site_comes_back),
        cmocka_unit_test(peer_that_always_closes_does_not_spin),
        cmocka_unit_test(connection_is_kept_and_then_ended),
        cmocka_unit_test(messages_per_connection_are_counted),
        cmocka_unit_test(the_address_alone_chooses_the_route),
        cmocka_unit_test(a_peer_that_refuses_much_is_called_anew),
        cmocka_unit_test(a_peer_that_breaks_in_overlap_gets_gear_two),
        cmocka_unit_test(a_peer_that_loses_commands_gets_gear_one),
        cmocka_unit_test(waiting_mail_opens_more_connections),
        cmocka_unit_test(drain_ends_what_is_in_flight_alone),
        cmocka_unit_test(reload_keeps_connections_of_the_same_hosts),
        cmocka_unit_test(reload_leaves_hosts_that_are_gone),
        cmocka_unit_test(recipients_per_connection_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
