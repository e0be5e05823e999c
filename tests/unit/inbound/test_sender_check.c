/* The DNS is asked whether a sender's domain takes mail: a null MX refuses, and whatever else happens does
 * not. */

#include "tests/unit/inbound/world.h"

#include <string.h>

#include "gateway/inbound/session.h"

#define STRANGER "192.0.2.7"
#define REJECT   "admission { reject_null_mx_sender = true }\n"
#define REFUSED  "550 5.7.27 Sender address has null MX"

static struct client *greeted(struct world *world, const char *address)
{
    struct client *client = client_new(world, address);
    client_hello(client);
    return client;
}

static void leave(struct client *client)
{
    client_quit(client);
    client_free(client);
}

/* The client said MAIL, and nothing was answered. */
static struct client *waiting(struct world *world)
{
    struct client *client = greeted(world, STRANGER);
    CONVERSE(client, "C: MAIL FROM:<a@Nothing.Test>");
    client_expect_silence(client);
    assert_int_equal(world->question_count, 1);
    return client;
}

static void wait_for_sessions(struct world *world, uint32_t count)
{
    for (int i = 0; i < 200 && inbound_session_count(&world->inbound) != count; i++)
        world_turn(world, 1000);
    assert_int_equal(inbound_session_count(&world->inbound), count);
}

static void test_a_null_mx_refuses(void **state)
{
    struct world *world = world_new(REJECT);
    struct client *client = waiting(world);
    world_answer(world, "nothing.test", true);
    CONVERSE(client, "S: " REFUSED, "C: RCPT TO:<b@example.com>", "S: 503 5.5.1 Send MAIL first");
    expect_log(world, "reject level=notice reply=\"" REFUSED "\" reason=NULL_MX_SENDER from=<a@Nothing.Test> "
                      "client=192.0.2.7:4321");
    /* The session is as good as before. */
    CONVERSE(client, "C: MAIL FROM:<a@\xc3\xa9.test> SMTPUTF8");
    client_expect_silence(client);
    world_answer(world, "xn--9ca.test", false);
    CONVERSE(client, "S: 250 2.1.0 Ok", "C: RCPT TO:<b@example.com>", "S: 250 2.1.5 Ok", "C: DATA",
             "S: 354 *", "C: x", "C: .", "S: 250 2.0.0 *");
    expect_body(&world->queue.messages[0], "x\r\n");
    leave(client);
    world_free(world);
}

/* However much came behind MAIL, nothing of it is answered before MAIL is, and all of it after. */
static void test_pipelined_commands_keep_their_order(void **state)
{
    static const char flight[] = "MAIL FROM:<a@nothing.test>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n";
    static const char rest[] = "x\r\n.\r\nRSET\r\n";
    struct world *world = world_new(REJECT);
    struct client *client = greeted(world, STRANGER);
    client_send(client, flight, sizeof(flight) - 1);
    client_expect_silence(client);
    client_send(client, "NOOP\r\n", 6); /* a line of the content, it turns out */
    client_expect_silence(client);
    world_answer(world, "nothing.test", false);
    CONVERSE(client, "S: 250 2.1.0 Ok", "S: 250 2.1.5 Ok", "S: 354 *");
    client_send(client, rest, sizeof(rest) - 1);
    CONVERSE(client, "S: 250 2.0.0 Ok: queued *", "S: 250 2.0.0 Ok");
    expect_body(&world->queue.messages[0], "NOOP\r\nx\r\n");

    client_send(client, flight, sizeof(flight) - 1);
    client_expect_silence(client);
    world_answer(world, "nothing.test", true);
    CONVERSE(client, "S: " REFUSED, "S: 503 5.5.1 Send MAIL first", "S: 503 5.5.1 Send MAIL first");
    leave(client);
    world_free(world);
}

/* One question for each MAIL of a flight, one after the other. */
static void test_several_transactions_in_a_flight(void **state)
{
    static const char flight[] = "MAIL FROM:<a@one.test>\r\nRCPT TO:<b@example.com>\r\nBDAT 1 LAST\r\nx"
                                 "MAIL FROM:<a@two.test>\r\nRCPT TO:<b@example.com>\r\nBDAT 1 LAST\r\ny"
                                 "MAIL FROM:<a@three.test>\r\nQUIT\r\n";
    struct world *world = world_new(REJECT);
    struct client *client = greeted(world, STRANGER);
    client_send(client, flight, sizeof(flight) - 1);
    client_shut_down(client); /* all was said: no reason to end before it is answered */
    client_expect_silence(client);
    assert_int_equal(world->question_count, 1);
    world_answer(world, "one.test", false);
    CONVERSE(client, "S: 250 2.1.0 *", "S: 250 2.1.5 *", "S: 250 2.0.0 Ok: queued *");
    client_expect_silence(client);
    world_answer(world, "two.test", true);
    CONVERSE(client, "S: " REFUSED, "S: 503 5.5.1 *", "S: 503 5.5.1 *");
    client_expect_silence(client);
    world_answer(world, "three.test", false);
    CONVERSE(client, "S: 250 2.1.0 *", "S: 221 *", "-- closed");
    assert_int_equal(world->queue.message_count, 1);
    client_free(client);
    world_free(world);
}

/* --- Clients that do not wait --- */

static void test_a_client_that_vanishes(void **state)
{
    struct world *world = world_new(REJECT);
    struct client *client = waiting(world);
    client_reset(client);
    client_free(client);
    wait_for_sessions(world, 0);
    assert_int_equal(world->inbound.question_count, 1);
    world_answer(world, "nothing.test", true); /* there is nobody to be told */
    assert_int_equal(world->inbound.question_count, 0);

    client = waiting(world);
    client_shut_down(client);
    client_expect_closed(client);
    client_free(client);
    wait_for_sessions(world, 0);
    world_answer(world, "nothing.test", false);
    assert_null(strstr(world_log(world), "NULL_MX_SENDER"));
    world_free(world);
}

/* Whoever asks and leaves still counts: nobody makes us ask without end. */
static void test_questions_are_bounded(void **state)
{
    struct world *world = world_new("limits { connections = 10000 }\nrate \"client\" { connections = 0 }\n"
                                    "admission { reject_null_mx_sender = true }\n");
    for (int i = 0; i < INBOUND_QUESTIONS_MAX; i++) {
        struct client *client = greeted(world, STRANGER);
        CONVERSE(client, "C: MAIL FROM:<a@nothing.test>");
        while (world->question_count == (uint32_t)i)
            world_turn(world, 1000);
        client_reset(client);
        client_free(client);
    }
    wait_for_sessions(world, 0);
    struct client *client = greeted(world, STRANGER);
    CONVERSE(client, "C: MAIL FROM:<a@nothing.test>", "S: 250 2.1.0 Ok", "C: RSET", "S: 250 *");
    assert_int_equal(world->question_count, INBOUND_QUESTIONS_MAX);
    world_answer(world, "nothing.test", true);
    CONVERSE(client, "C: MAIL FROM:<a@nothing.test>");
    client_expect_silence(client);
    while (world->question_count > 0)
        world_answer(world, "nothing.test", true);
    CONVERSE(client, "S: " REFUSED);
    leave(client);
    world_free(world);
}

/* --- No answer --- */

static void test_an_answer_that_is_late(void **state)
{
    struct world *world = world_new(REJECT);
    world->inbound.options.question_ms = 50;
    struct client *client = greeted(world, STRANGER);
    CONVERSE(client, "C: MAIL FROM:<a@nothing.test>", "C: RCPT TO:<b@example.com>", "S: 250 2.1.0 Ok",
             "S: 250 2.1.5 Ok");
    assert_int_equal(world->inbound.question_count, 1);
    world_answer(world, "nothing.test", true); /* the sender was told that it may go on, and it may */
    CONVERSE(client, "C: DATA", "S: 354 *", "C: x", "C: .", "S: 250 2.0.0 *");
    /* Nor does what is late speak for another transaction. */
    CONVERSE(client, "C: MAIL FROM:<a@nothing.test>", "S: 250 2.1.0 Ok", "C: RSET", "S: 250 *",
             "C: MAIL FROM:<a@other.test>", "C: NOOP");
    while (world->question_count < 2)
        world_turn(world, 1000);
    world_answer(world, "nothing.test", true);
    CONVERSE(client, "S: 250 2.1.0 Ok", "S: 250 2.0.0 Ok");
    world_answer(world, "other.test", true);
    leave(client);
    world_free(world);
}

static void test_a_dns_that_cannot_be_asked(void **state)
{
    struct world *world = world_new(REJECT);
    world->is_dns_closed = true;
    struct client *client = greeted(world, STRANGER);
    CONVERSE(client, "C: MAIL FROM:<a@nothing.test>", "S: 250 2.1.0 Ok");
    assert_int_equal(world->inbound.question_count, 0);
    leave(client);
    world->inbound.options.ask_null_mx = NULL;
    client = greeted(world, STRANGER);
    CONVERSE(client, "C: MAIL FROM:<a@nothing.test>", "S: 250 2.1.0 Ok");
    leave(client);
    world_free(world);
}

/* --- Who is not asked about --- */

static void test_who_is_not_asked_about(void **state)
{
    struct world *world = world_new(REJECT);
    struct client *listed = greeted(world, NULL);
    CONVERSE(listed, "C: MAIL FROM:<a@nothing.test>", "S: 250 2.1.0 Ok");
    leave(listed);
    struct client *client = greeted(world, STRANGER);
    CONVERSE(client, "C: MAIL FROM:<>", "S: 250 2.1.0 Ok", "C: RSET", "S: 250 *", //
             "C: MAIL FROM:<a@[192.0.2.9]>", "S: 250 2.1.0 Ok", "C: RSET", "S: 250 *",
             /* What is refused without the DNS does not trouble it. */
             "C: MAIL FROM:<a@nothing.test> SIZE=70000", "S: 552 5.3.4 *");
    assert_int_equal(world->question_count, 0);
    world_reload(world, NULL); /* the default is not to ask */
    CONVERSE(client, "C: MAIL FROM:<a@nothing.test>", "S: 250 2.1.0 Ok");
    assert_int_equal(world->question_count, 0);
    leave(client);
    world_free(world);
}

static void test_a_login_is_not_asked_about(void **state)
{
    struct world *world =
        world_new_with(&(struct world_config){.networks = "\"10.0.0.0/8\"",
                                              .listener = "xclient = true proxy_networks = {\"127.0.0.1\"}",
                                              .more = REJECT});
    struct client *client = greeted(world, NULL);
    CONVERSE(client, "C: XCLIENT ADDR=192.0.2.7 LOGIN=anna@example.com");
    client_hello(client);
    CONVERSE(client, "C: MAIL FROM:<a@nothing.test>", "S: 250 2.1.0 Ok", "C: RSET", "S: 250 *",
             "C: XCLIENT ADDR=192.0.2.7 LOGIN=[UNAVAILABLE]");
    client_hello(client);
    CONVERSE(client, "C: MAIL FROM:<a@nothing.test>");
    client_expect_silence(client);
    world_answer(world, "nothing.test", true);
    CONVERSE(client, "S: " REFUSED);
    leave(client);
    world_free(world);
}

static void test_tried_dry(void **state)
{
    struct world *world =
        world_new("admission { reject_null_mx_sender = true dry_run = {\"null-mx-sender\"} }\n");
    struct client *client = waiting(world);
    world_answer(world, "nothing.test", true);
    CONVERSE(client, "S: 250 2.1.0 Ok", "C: RCPT TO:<b@example.com>", "S: 250 2.1.5 Ok");
    expect_log(world,
               "reply=\"" REFUSED "\" reason=NULL_MX_SENDER dry_run=null-mx-sender client=192.0.2.7:4321");
    leave(client);
    world_free(world);
}

/* --- The house changes meanwhile --- */

static void test_a_drain(void **state)
{
    struct world *world = world_new(REJECT);
    struct client *refused = waiting(world);
    struct client *passing = greeted(world, STRANGER);
    CONVERSE(passing, "C: MAIL FROM:<a@passing.test>");
    client_expect_silence(passing);
    inbound_drain(&world->inbound);
    client_expect_silence(refused); /* it is in a transaction, as far as it knows */
    world_answer(world, "nothing.test", true);
    CONVERSE(refused, "S: " REFUSED, "S: 421 4.3.2 *", "-- closed");
    world_answer(world, "passing.test", false);
    CONVERSE(passing, "S: 250 2.1.0 Ok", "C: RCPT TO:<b@example.com>", "S: 250 2.1.5 Ok", "C: DATA",
             "S: 354 *", "C: x", "C: .", "S: 250 2.0.0 *", "S: 421 4.3.2 *", "-- closed");
    client_free(refused);
    client_free(passing);
    world_free(world);
}

static void test_a_drain_does_not_wait_for_the_dns(void **state)
{
    struct world *world = world_new(REJECT);
    struct client *client = waiting(world);
    inbound_drain(&world->inbound);
    world->inbound.drain_deadline_us = loop_now_us(world->loop) + 50000;
    list_each(link, &world->inbound.sessions) session_drain(list_entry(link, struct session, link));
    CONVERSE(client, "S: 421 4.3.2 *", "-- closed");
    client_free(client);
    wait_for_sessions(world, 0);
    world_answer(world, "nothing.test", true);
    world_free(world);
}

static void test_a_reload(void **state)
{
    struct world *world = world_new(REJECT);
    struct client *client = waiting(world);
    world_reload(world, NULL);
    world_answer(world, "nothing.test", true); /* it was asked under the rule */
    CONVERSE(client, "S: " REFUSED);
    leave(client);
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_null_mx_refuses),
        cmocka_unit_test(test_pipelined_commands_keep_their_order),
        cmocka_unit_test(test_several_transactions_in_a_flight),
        cmocka_unit_test(test_a_client_that_vanishes),
        cmocka_unit_test(test_questions_are_bounded),
        cmocka_unit_test(test_an_answer_that_is_late),
        cmocka_unit_test(test_a_dns_that_cannot_be_asked),
        cmocka_unit_test(test_who_is_not_asked_about),
        cmocka_unit_test(test_a_login_is_not_asked_about),
        cmocka_unit_test(test_tried_dry),
        cmocka_unit_test(test_a_drain),
        cmocka_unit_test(test_a_drain_does_not_wait_for_the_dns),
        cmocka_unit_test(test_a_reload),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
