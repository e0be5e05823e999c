/* What a client may say, in which order, and what it reads: as conversations. */

#include "tests/unit/inbound/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/message/envelope.h"

/* Runs one conversation of a client at `address` in a world of its own. */
static void alone(const char *address, const char *const *lines)
{
    struct world *world = world_new(NULL);
    struct client *client = client_new(world, address);
    converse(client, lines);
    client_free(client);
    world_free(world);
}
#define ALONE(address, ...) alone((address), (const char *const[]){__VA_ARGS__, NULL})

#define EXTENSIONS                                                                                           \
    "S: 250-relay.test", "S: 250-PIPELINING", "S: 250-8BITMIME", "S: 250-ENHANCEDSTATUSCODES",               \
        "S: 250-CHUNKING", "S: 250-BINARYMIME", "S: 250-SMTPUTF8", "S: 250-DSN", "S: 250 SIZE 65536"
#define HELLO "S: 220 relay.test ESMTP Sluice", "C: EHLO client.test", EXTENSIONS

static void test_a_message_is_taken(void **state)
{
    struct world *world = world_new(NULL);
    struct client *client = client_new(world, NULL);
    CONVERSE(client, HELLO,                                                           //
             "C: MAIL FROM:<a@client.test> SIZE=20 BODY=8BITMIME", "S: 250 2.1.0 Ok", //
             "C: RCPT TO:<b@Example.COM>", "S: 250 2.1.5 Ok",                         //
             "C: DATA", "S: 354 End data with <CR><LF>.<CR><LF>",                     //
             "C: Subject: x", "C: ", "C: ..dot", "C: \xc3\xa4", "C: .",               //
             "S: 250 2.0.0 Ok: queued as 0000000000001",                              //
             "C: QUIT", "S: 221 2.0.0 Bye", "-- closed");

    assert_int_equal(world->queue.message_count, 1);
    const struct fake_message *message = &world->queue.messages[0];
    expect_body(message, "Subject: x\r\n\r\n..dot\r\n\xc3\xa4\r\n");
    assert_string_equal(message->recipients, "b@Example.COM example.com\n");

    struct envelope envelope;
    assert_int_equal(envelope_decode(message->meta, message->meta_size, &envelope), 0);
    assert_true(smtp_slice_equals(envelope.sender, SMTP_SLICE("a@client.test")));
    assert_true(smtp_slice_equals(envelope.client, SMTP_SLICE("127.0.0.1")));
    assert_int_equal(envelope.flags,
                     ENVELOPE_HAS_8BIT | ENVELOPE_8BITMIME | ENVELOPE_DOT_LINES | ENVELOPE_TRUSTED);

    static const char trace[] = "Received: from client.test ([127.0.0.1])\r\n"
                                "\tby relay.test with ESMTP id 0000000000001\r\n"
                                "\tfor <b@Example.COM>; ";
    assert_memory_equal(message->content, trace, sizeof(trace) - 1);
    client_free(client);
    world_free(world);
}

static void test_an_empty_message_has_our_trace_field(void **state)
{
    struct world *world = world_new(NULL);
    struct client *client = client_new(world, NULL);
    client_hello(client);
    client_send_message(client, "");
    CONVERSE(client, "S: 250 2.0.0 Ok: queued as *", "C: QUIT", "S: 221 *", "-- closed");
    expect_body(&world->queue.messages[0], "");
    client_free(client);
    world_free(world);
}

static void test_helo_and_several_recipients(void **state)
{
    struct world *world = world_new(NULL);
    struct client *client = client_new(world, "2001:db8::7");
    CONVERSE(client, "S: 220 *", "C: HELO [192.0.2.1]", "S: 250 relay.test",                     //
             "C: MAIL FROM:<>", "S: 250 2.1.0 Ok",                                               //
             "C: RCPT TO:<b@example.com>", "S: 250 *", "C: RCPT TO:<c@example.com>", "S: 250 *", //
             "C: DATA", "S: 354 *", "C: x", "C: .", "S: 250 2.0.0 Ok: queued as *",              //
             "C: QUIT", "S: 221 *", "-- closed");
    const struct fake_message *message = &world->queue.messages[0];
    assert_string_equal(message->recipients, "b@example.com example.com\nc@example.com example.com\n");
    static const char trace[] = "Received: from [192.0.2.1] ([IPv6:2001:db8::7])\r\n"
                                "\tby relay.test with SMTP id 0000000000001;\r\n\t";
    assert_memory_equal(message->content, trace, sizeof(trace) - 1);
    client_free(client);
    world_free(world);
}

static void test_commands_out_of_turn(void **state)
{
    ALONE(NULL, "S: 220 *",                                              //
          "C: MAIL FROM:<a@b>", "S: 503 5.5.1 Send HELO or EHLO first",  //
          "C: RCPT TO:<a@b>", "S: 503 5.5.1 Send HELO or EHLO first",    //
          "C: DATA", "S: 503 5.5.1 Send HELO or EHLO first",             //
          "C: RSET", "S: 250 2.0.0 Ok", "C: NOOP", "S: 250 2.0.0 Ok",    //
          "C: EHLO", "S: 501 *",                                         //
          "C: HELO x", "S: 250 relay.test",                              //
          "C: RCPT TO:<b@example.com>", "S: 503 5.5.1 Send MAIL first",  //
          "C: DATA", "S: 503 5.5.1 Send MAIL first",                     //
          "C: MAIL FROM:<a@b>", "S: 250 *",                              //
          "C: MAIL FROM:<a@b>", "S: 503 5.5.1 Sender was already given", //
          "C: DATA", "S: 503 5.5.1 Send RCPT first",                     //
          "C: RCPT TO:<b@example.com>", "S: 250 *",                      //
          "C: MAIL FROM:<a@b>", "S: 503 *",                              //
          "C: RSET", "S: 250 2.0.0 Ok",                                  //
          "C: DATA", "S: 503 5.5.1 Send MAIL first",                     //
          "C: MAIL FROM:<a@b>", "S: 250 *",                              //
          "C: HELO again", "S: 250 relay.test",                          //
          "C: RCPT TO:<b@example.com>", "S: 503 5.5.1 Send MAIL first",  //
          "C: VRFY b", "S: 252 2.5.2 *", "C: HELP", "S: 214 2.0.0 *",    //
          "C: QUIT", "S: 221 2.0.0 Bye", "-- closed");
}

static void test_syntax_is_the_parsers(void **state)
{
    ALONE(NULL, HELLO,                                                                      //
          "C: FOO", "S: 500 5.5.2 command not recognized", "C: STARTTLS", "S: 502 5.5.1 *", //
          "C: MAIL FROM:a@b", "S: 501 *", "C: MAIL FROM:<a@b> FOO=1", "S: 555 5.5.4 *",     //
          "C: DATA now", "S: 501 *", "C: QUIT", "S: 221 *", "-- closed");
}

static void test_a_bare_line_end_ends_the_session(void **state)
{
    ALONE(NULL, HELLO, "C| NOOP\n", "S: 521 5.5.2 bare <LF> refused", "-- closed");
    ALONE(NULL, HELLO, "C| NOOP\rX", "S: 521 5.5.2 bare <CR> refused", "-- closed");
}

static void test_relaying(void **state)
{
    /* A stranger may write to our domains and to the postmaster, to nobody else. */
    ALONE("192.0.2.7", HELLO, "C: MAIL FROM:<a@b>", "S: 250 *",          //
          "C: RCPT TO:<x@example.net>", "S: 550 5.7.1 Relaying denied",  //
          "C: RCPT TO:<x@nowhere.test>", "S: 550 5.7.1 Relaying denied", //
          "C: RCPT TO:<@example.com:x@example.net>", "S: 550 5.7.1 *",   //
          "C: RCPT TO:<x@EXAMPLE.com>", "S: 250 2.1.5 Ok",               //
          "C: RCPT TO:<Postmaster>", "S: 250 2.1.5 Ok",                  //
          "C: QUIT", "S: 221 *", "-- closed");
    /* A friend may write to wherever a route leads. */
    ALONE(NULL, HELLO, "C: MAIL FROM:<a@b>", "S: 250 *",            //
          "C: RCPT TO:<x@example.net>", "S: 250 2.1.5 Ok",          //
          "C: RCPT TO:<x@nowhere.test>", "S: 550 5.4.4 No route *", //
          "C: QUIT", "S: 221 *", "-- closed");
}

static void test_the_postmaster_is_queued_under_our_name(void **state)
{
    struct world *world = world_new(NULL);
    struct client *client = client_new(world, "192.0.2.7");
    client_hello(client);
    CONVERSE(client, "C: MAIL FROM:<>", "S: 250 *", "C: RCPT TO:<postmaster>", "S: 250 *", "C: DATA",
             "S: 354 *", "C: .", "S: 250 *", "C: QUIT", "S: 221 *", "-- closed");
    assert_string_equal(world->queue.messages[0].recipients, "postmaster relay.test\n");
    client_free(client);
    world_free(world);
}

static void test_all_recipients_refused(void **state)
{
    ALONE("192.0.2.7", HELLO, //
          "C| MAIL FROM:<a@b>\r\nRCPT TO:<x@example.net>\r\nDATA\r\nRSET\r\nNOOP\r\n", "S: 250 2.1.0 *",
          "S: 550 5.7.1 *", "S: 554 5.5.1 No valid recipients", "S: 250 2.0.0 *", "S: 250 2.0.0 *", //
          "C: QUIT", "S: 221 *", "-- closed");
}

static void test_sizes(void **state)
{
    ALONE(NULL, HELLO, //
          "C: MAIL FROM:<a@b> SIZE=65537", "S: 552 5.3.4 Message is larger than the limit",
          "C: MAIL FROM:<a@b> SIZE=99999999999999999999", "S: 552 5.3.4 *", //
          "C: MAIL FROM:<a@b> SIZE=65536", "S: 250 *", "C: QUIT", "S: 221 *", "-- closed");
}

static void test_too_many_recipients(void **state)
{
    struct world *world = world_new(NULL);
    struct client *client = client_new(world, NULL);
    client_hello(client);
    CONVERSE(client, "C: MAIL FROM:<a@b>", "S: 250 *");
    for (int i = 0; i < 100; i++) {
        char line[64];
        snprintf(line, sizeof(line), "RCPT TO:<user%d@example.com>\r\n", i);
        client_send(client, line, strlen(line));
        client_expect(client, "250 2.1.5 Ok");
    }
    CONVERSE(client, "C: RCPT TO:<more@example.com>", "S: 452 4.5.3 Too many recipients", //
             "C: DATA", "S: 354 *", "C: x", "C: .", "S: 250 *", "C: QUIT", "S: 221 *", "-- closed");
    assert_int_equal(world->queue.messages[0].recipient_count, 100);
    const char *last = "user99@example.com example.com\n";
    const char *recipients = world->queue.messages[0].recipients;
    assert_string_equal(recipients + strlen(recipients) - strlen(last), last);
    client_free(client);
    world_free(world);
}

static void test_errors_in_a_row(void **state)
{
    struct world *world = world_new(NULL);
    struct client *client = client_new(world, NULL);
    client_hello(client);
    for (int i = 0; i < INBOUND_BAD_COMMANDS_MAX - 1; i++)
        CONVERSE(client, "C: FOO", "S: 500 *");
    CONVERSE(client, "C: NOOP", "S: 250 *"); /* all is forgiven */
    for (int i = 0; i < INBOUND_BAD_COMMANDS_MAX - 1; i++)
        CONVERSE(client, "C: DATA", "S: 503 *");
    CONVERSE(client, "C: FOO", "S: 500 *", "S: 421 4.7.0 Too many errors", "-- closed");
    world_wait_empty(world);
    assert_non_null(strstr(world_log(world), "reason=errors"));
    client_free(client);
    world_free(world);
}

static void test_pipelined_in_one_flight(void **state)
{
    struct world *world = world_new(NULL);
    struct client *client = client_new(world, NULL);
    CONVERSE(client, "S: 220 *",
             "C| EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<b@example.com>\r\nDATA\r\none\r\n.\r\n"
             "MAIL FROM:<a@b>\r\nRCPT TO:<b@example.com>\r\nDATA\r\ntwo\r\n.\r\nQUIT\r\nNOOP\r\n",
             EXTENSIONS,                                                                                 //
             "S: 250 2.1.0 *", "S: 250 2.1.5 *", "S: 354 *", "S: 250 2.0.0 Ok: queued as 0000000000001", //
             "S: 250 2.1.0 *", "S: 250 2.1.5 *", "S: 354 *", "S: 250 2.0.0 Ok: queued as 0000000000002", //
             "S: 221 *", "-- closed");
    expect_body(&world->queue.messages[0], "one\r\n");
    expect_body(&world->queue.messages[1], "two\r\n");
    client_free(client);
    world_free(world);
}

static void test_what_the_log_says(void **state)
{
    struct world *world = world_new(NULL);
    struct client *client = client_new(world, "192.0.2.7");
    client_hello(client);
    CONVERSE(client, "C: MAIL FROM:<a@client.test>", "S: 250 *", "C: RCPT TO:<x@example.net>", "S: 550 *", //
             "C: RCPT TO:<b@example.com>", "S: 250 *", "C: DATA", "S: 354 *", "C: x", "C: .", "S: 250 *",
             "C: QUIT", "S: 221 *", "-- closed");
    world_wait_empty(world);
    const char *text = world_log(world);
    static const char *const expected[] = {
        " connect client=192.0.2.7:4321 listener=smtp\n",
        " reject level=notice reply=\"550 5.7.1 Relaying denied\" reason=RELAYING_DENIED "
        "from=<a@client.test> "
        "to=<x@example.net> client=192.0.2.7:4321 helo=client.test\n",
        " accept id=0000000000001 from=<a@client.test> to=<b@example.com> recipients=1 size=",
        " client=192.0.2.7:4321 helo=client.test queue_ms=",
        " disconnect client=192.0.2.7:4321 helo=client.test reason=quit messages=1 bytes=",
    };
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        if (strstr(text, expected[i]) == NULL)
            fail_msg("no \"%s\" in:\n%s", expected[i], text);
    }
    assert_int_equal(counter_get(&world->counters, COUNTER_messages_accepted), 1);
    assert_int_equal(counter_get(&world->counters, COUNTER_recipients_accepted), 1);
    assert_int_equal(counter_get(&world->counters, COUNTER_recipients_refused), 1);
    assert_int_equal(counter_get(&world->counters, COUNTER_commands), 6);
    client_free(client);
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_message_is_taken),
        cmocka_unit_test(test_an_empty_message_has_our_trace_field),
        cmocka_unit_test(test_helo_and_several_recipients),
        cmocka_unit_test(test_commands_out_of_turn),
        cmocka_unit_test(test_syntax_is_the_parsers),
        cmocka_unit_test(test_a_bare_line_end_ends_the_session),
        cmocka_unit_test(test_relaying),
        cmocka_unit_test(test_the_postmaster_is_queued_under_our_name),
        cmocka_unit_test(test_all_recipients_refused),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_too_many_recipients),
        cmocka_unit_test(test_errors_in_a_row),
        cmocka_unit_test(test_pipelined_in_one_flight),
        cmocka_unit_test(test_what_the_log_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
