/* What the parameters of MAIL and RCPT come to: what is kept with the message for the sending side, what is
 * refused, and what a listener keeps to itself. */

#include "tests/unit/inbound/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/message/envelope.h"

static void leave(struct client *client)
{
    client_quit(client);
    client_free(client);
}

static struct envelope envelope_of(const struct fake_message *message)
{
    struct envelope envelope;
    assert_int_equal(envelope_decode(message->meta, message->meta_size, &envelope), 0);
    return envelope;
}

/* --- DSN (RFC 3461) --- */

static void test_dsn_is_kept(void **state)
{
    struct world *world = world_new(NULL);
    struct client *client = client_new(world, NULL);
    client_hello(client);
    CONVERSE(client, "C: MAIL FROM:<a@client.test> RET=HDRS ENVID=QQ+2B314159", "S: 250 *",
             "C: RCPT TO:<b@example.com> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+2Bx@example.com", "S: 250 *",
             "C: RCPT TO:<c@example.com> NOTIFY=NEVER", "S: 250 *",               //
             "C: RCPT TO:<d@example.com> ORCPT=rfc822;d@example.com", "S: 250 *", //
             "C: RCPT TO:<e@example.com>", "S: 250 *", "C: DATA", "S: 354 *", "C: .", "S: 250 2.0.0 *",
             "C: MAIL FROM:<a@client.test> RET=FULL", "S: 250 *", "C: RCPT TO:<b@example.com>", "S: 250 *", //
             "C| BDAT 0 LAST\r\n", "S: 250 2.0.0 *");
    const struct fake_message *message = &world->queue.messages[0];
    assert_string_equal(message->recipients,
                        "b@example.com example.com notify=10 orcpt=rfc822;b+2Bx@example.com\n"
                        "c@example.com example.com notify=1\n"
                        "d@example.com example.com orcpt=rfc822;d@example.com\n"
                        "e@example.com example.com\n");
    const struct envelope envelope = envelope_of(message);
    assert_true(smtp_slice_equals(envelope.envid, SMTP_SLICE("QQ+2B314159")));
    assert_int_equal(envelope.flags, ENVELOPE_RET_HDRS | ENVELOPE_TRUSTED);
    assert_int_equal(envelope_of(&world->queue.messages[1]).flags, ENVELOPE_RET_FULL | ENVELOPE_TRUSTED);
    assert_int_equal(envelope_of(&world->queue.messages[1]).envid.size, 0);
    leave(client);
    world_free(world);
}

/* No octet that could begin a line of its own comes through, written as itself or in xtext. */
static void test_what_is_no_dsn(void **state)
{
    static const char *const table[] = {
        "MAIL FROM:<a@b> RET=SOME",
        "MAIL FROM:<a@b> ENVID=",
        "MAIL FROM:<a@b> ENVID=a+0D+0Ab",
        "MAIL FROM:<a@b> ENVID=a+00",
        "MAIL FROM:<a@b> ENVID=a+4",
        "MAIL FROM:<a@b> RET=FULL RET=HDRS",
        "RCPT TO:<b@example.com> NOTIFY=NEVER,DELAY",
        "RCPT TO:<b@example.com> NOTIFY=",
        "RCPT TO:<b@example.com> ORCPT=b@example.com",
        "RCPT TO:<b@example.com> ORCPT=rfc822;b+0D+0Ac",
        "RCPT TO:<b@example.com> ORCPT=rfc822;b+00c",
    };
    struct world *world = world_new(NULL);
    struct client *client = client_new(world, NULL);
    client_hello(client);
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (table[i][0] == 'R')
            CONVERSE(client, "C: MAIL FROM:<a@b>", "S: 250 *");
        client_send(client, table[i], strlen(table[i]));
        CONVERSE(client, "C: ", "S: 501 5.5.4 *", "C: RSET", "S: 250 *");
    }
    leave(client);
    world_free(world);
}

/* --- SMTPUTF8 (RFC 6531) --- */

static void test_addresses_beyond_ascii(void **state)
{
    struct world *world = world_new("route \"b\xc3\xbc"
                                    "cher.example\" { to = \"smtp://127.0.0.1:2526\" }\n");
    struct client *client = client_new(world, NULL);
    client_hello(client);
    CONVERSE(client, "C: MAIL FROM:<\xc3\xa9@client.test>", "S: 553 5.6.7 *", //
             "C: MAIL FROM:<a@client.test>", "S: 250 *", "C: RCPT TO:<\xc3\xa9@example.com>",
             "S: 553 5.6.7 *",
             "C: RCPT TO:<b@b\xc3\xbc"
             "cher.example>",
             "S: 553 5.6.7 *", "C: RSET", "S: 250 *",                    //
             "C: MAIL FROM:<\xc3\xa9@client.test> SMTPUTF8", "S: 250 *", //
             "C: RCPT TO:<\xc3\xa9@example.com>", "S: 250 *",            //
             "C: RCPT TO:<b@B\xc3\x9c"
             "cher.example>",
             "S: 250 *",                                         //
             "C: RCPT TO:<c@xn--bcher-kva.example>", "S: 250 *", //
             "C: RCPT TO:<\xff@example.com>", "S: 501 5.1.3 *",  //
             "C: DATA", "S: 354 *", "C: .", "S: 250 2.0.0 *");
    /* As it came; the lanes are those of the name as DNS has it. */
    assert_string_equal(world->queue.messages[0].recipients,
                        "\xc3\xa9@example.com example.com\n"
                        "b@B\xc3\x9c"
                        "cher.example xn--bcher-kva.example\n"
                        "c@xn--bcher-kva.example xn--bcher-kva.example\n");
    assert_int_equal(envelope_of(&world->queue.messages[0]).flags, ENVELOPE_SMTPUTF8 | ENVELOPE_TRUSTED);
    assert_true(
        smtp_slice_equals(envelope_of(&world->queue.messages[0]).sender, SMTP_SLICE("\xc3\xa9@client.test")));
    assert_non_null(
        memmem(world->queue.messages[0].content, world->queue.messages[0].size, "with UTF8SMTP ", 14));
    leave(client);
    world_free(world);
}

/* --- What a listener keeps to itself --- */

static void test_extensions_that_are_off(void **state)
{
    static const struct {
        const char *keyword; /* in EHLO */
        const char *command; /* that needs it */
        const char *reply;
    } table[] = {
        {"PIPELINING", "NOOP", "250 *"},
        {"SIZE", "MAIL FROM:<a@b> SIZE=1", "555 5.5.4 *"},
        {"8BITMIME", "MAIL FROM:<a@b> BODY=8BITMIME", "555 5.5.4 *"},
        {"ENHANCEDSTATUSCODES", "NOOP", "250 *"},
        {"CHUNKING", "BDAT 0 LAST", "502 5.5.1 *"},
        {"BINARYMIME", "MAIL FROM:<a@b> BODY=BINARYMIME", "501 5.5.4 *"},
        {"SMTPUTF8", "MAIL FROM:<a@b> SMTPUTF8", "555 5.5.4 *"},
        {"DSN", "MAIL FROM:<a@b> RET=FULL", "555 5.5.4 *"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char listener[64], prefix[32];
        snprintf(listener, sizeof(listener), "extensions_off = {\"%s\"}", table[i].keyword);
        snprintf(prefix, sizeof(prefix), "%s*", table[i].keyword);
        for (int off = 0; off < 2; off++) {
            struct world *world = world_new_with(&(struct world_config){.listener = off ? listener : NULL});
            struct client *client = client_new(world, NULL);
            client_expect(client, "220 *");
            if (off)
                client_ehlo_without(client, prefix);
            else
                client_ehlo(client, prefix);
            client_send(client, table[i].command, strlen(table[i].command));
            client_send(client, "\r\n", 2);
            client_expect(client, off ? table[i].reply : i == 4 ? "503 5.5.1 *" : "250 *");
            leave(client);
            world_free(world);
        }
    }
}

/* A client that said HELO was offered nothing. */
static void test_nothing_is_understood_after_helo(void **state)
{
    struct world *world = world_new(NULL);
    struct client *client = client_new(world, NULL);
    CONVERSE(client, "S: 220 *", "C: HELO x", "S: 250 relay.test", "C: MAIL FROM:<a@b> SIZE=1",
             "S: 555 5.5.4 *", "C: MAIL FROM:<a@b> RET=FULL", "S: 555 *", "C: EHLO x", "S: 250-*", "S: 250-*",
             "S: 250-*", "S: 250-*", "S: 250-*", "S: 250-*", "S: 250-*", "S: 250-*", "S: 250 *",
             "C: MAIL FROM:<a@b> SIZE=1", "S: 250 *");
    leave(client);
    world_free(world);
}

/* --- Newlines and lines --- */

#define NORMALISED "bare_newlines = \"normalise\""

/* The message still ends at CRLF.CRLF alone, and what is stored reads in one way. */
static void test_bare_newlines_are_normalised_where_that_is_wanted(void **state)
{
    static const struct {
        const char *sent;
        const char *stored;
    } table[] = {
        {"a\nb\r\n.\r\n", "a\r\nb\r\n"},
        {"a\rb\r\n.\r\n", "a\r\nb\r\n"},
        {"a\n.\nb\r\n.\r\n", "a\r\n..\r\nb\r\n"},
        {"a\n.\r\nMAIL FROM:<evil@b>\r\n.\r\n", "a\r\n..\r\nMAIL FROM:<evil@b>\r\n"},
        {"a\r\n.\nb\r\n.\r\n", NULL},
        {"a\r.\r\n.\r\n", "a\r\n..\r\n"},
    };
    struct world *world = world_new_with(&(struct world_config){.listener = NORMALISED});
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct client *client = client_new(world, NULL);
        client_hello(client);
        client_envelope(client);
        CONVERSE(client, "C: DATA", "S: 354 *");
        client_send(client, table[i].sent, strlen(table[i].sent));
        CONVERSE(client, "S: 250 2.0.0 Ok: queued as *", "C| NOOP\n", "S: 250 2.0.0 Ok");
        assert_int_equal(world->queue.message_count, 1);
        const struct fake_message *message = &world->queue.messages[0];
        if (table[i].stored != NULL)
            expect_body(message, table[i].stored);
        assert_null(memmem(message->content, message->size, "\r\n.\r\n", 5));
        CONVERSE(client, "C| NOOP\rX\r\n", "S: 521 5.5.2 bare <CR> refused", "-- closed");
        client_free(client);
        world_clear(world);
    }
    world_free(world);
}

/* RFC 5321 §4.5.3.1.6 asks for 1000 octets; longer lines are let pass, as they are. */
static void test_long_lines_of_content(void **state)
{
    struct world *world = world_new(NULL);
    struct client *client = client_new(world, NULL);
    char *content = malloc(20003);
    assert_non_null(content);
    memset(content, 'x', 20000);
    memcpy(content + 20000, "\r\n", 3);
    client_hello(client);
    client_send_message(client, content);
    CONVERSE(client, "S: 250 2.0.0 *");
    expect_body(&world->queue.messages[0], content);
    free(content);
    leave(client);
    world_free(world);
}

static void test_long_lines_of_commands(void **state)
{
    struct world *world = world_new(NULL);
    struct client *client = client_new(world, NULL);
    char line[5000];
    memset(line, 'x', sizeof(line));
    memcpy(line, "NOOP ", 5);
    client_hello(client);
    client_send(client, line, 2046);
    CONVERSE(client, "C: ", "S: 250 2.0.0 Ok");
    client_send(client, line, 2047);
    CONVERSE(client, "C: ", "S: 500 5.5.2 line too long");
    client_send(client, line, sizeof(line));
    CONVERSE(client, "C: ", "S: 500 5.5.2 line too long", "C: NOOP", "S: 250 2.0.0 Ok");
    leave(client);
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dsn_is_kept),
        cmocka_unit_test(test_what_is_no_dsn),
        cmocka_unit_test(test_addresses_beyond_ascii),
        cmocka_unit_test(test_extensions_that_are_off),
        cmocka_unit_test(test_nothing_is_understood_after_helo),
        cmocka_unit_test(test_bare_newlines_are_normalised_where_that_is_wanted),
        cmocka_unit_test(test_long_lines_of_content),
        cmocka_unit_test(test_long_lines_of_commands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
