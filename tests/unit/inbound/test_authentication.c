/* AUTH (RFC 4954), in the clear where that is allowed: each mechanism, each way to fail, and the time that it
 * takes. */

#include "tests/unit/inbound/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/clock.h"
#include "proto/base64.h"
#include "tests/unit/sasl/sasl_test.h"

#define STRANGER "192.0.2.7"

/* user: secret by password; scram: pencil by SCRAM. */
static const char users[] =
    "user:" SHA512_OF_SECRET ":-\n"
    "scram:-:SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
    "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\n";

#define PLAIN_RIGHT "AHVzZXIAc2VjcmV0" /* NUL user NUL secret */
#define PLAIN_WRONG "AHVzZXIAd3Jvbmc=" /* NUL user NUL wrong */
#define OK          "S: 235 2.7.0 Authentication succeeded"
#define WRONG       "S: 535 5.7.8 Name or password is wrong"

static struct world *world_of(const char *auth_more, const char *more)
{
    char sections[1024];
    const int size = snprintf(sections, sizeof(sections), "auth { users = \"%s\" %s }\n%s", world_file(users),
                              auth_more, more);
    assert_true(size > 0 && (size_t)size < sizeof(sections));
    return world_new_with(
        &(struct world_config){.listener = "auth = \"optional\" auth_without_tls = true", .more = sections});
}

static struct world *world_usual(void)
{
    return world_of("failure_delay = \"0s\"", "");
}

static struct client *stranger_of(struct world *world)
{
    struct client *client = client_new(world, STRANGER);
    client_hello(client);
    return client;
}

static void leave(struct client *client)
{
    client_quit(client);
    client_free(client);
}

/* --- Success --- */

static void expect_logged_in(struct client *client)
{
    CONVERSE(client, "C: MAIL FROM:<a@b>", "S: 250 *", "C: RCPT TO:<x@example.net>", "S: 250 2.1.5 Ok",
             "C: RSET", "S: 250 *");
}

static void test_plain(void **state)
{
    struct world *world = world_usual();
    struct client *client = stranger_of(world);
    client_ehlo(client, "AUTH PLAIN LOGIN SCRAM-SHA-256"); /* no channel to bind to: no -PLUS */
    CONVERSE(client, "C: MAIL FROM:<a@b>", "S: 250 *", "C: RCPT TO:<x@example.net>", "S: 550 5.7.1 *",
             "C: RSET", "S: 250 *", "C: AUTH PLAIN " PLAIN_RIGHT, OK);
    expect_logged_in(client);
    expect_log(world, " login level=notice user=user mechanism=PLAIN result=ok client=192.0.2.7:4321");
    assert_int_equal(counter_get(&world->counters, COUNTER_logins), 1);
    client_ehlo_without(client, "AUTH*");
    CONVERSE(client, "C: AUTH PLAIN " PLAIN_RIGHT, "S: 503 5.5.1 You are logged in already",
             "C: MAIL FROM:<a@b> AUTH=<>", "S: 250 *", "C: RSET", "S: 250 *"); /* RFC 4954 §5 */
    client_send_message(client, "x\r\n");
    CONVERSE(client, "S: 250 2.0.0 *");
    expect_log(world, " auth=user");
    assert_non_null(
        memmem(world->queue.messages[0].content, world->queue.messages[0].size, "with ESMTPA ", 12));
    leave(client);
    world_free(world);
}

static void test_plain_without_an_initial_response(void **state)
{
    struct world *world = world_usual();
    struct client *client = stranger_of(world);
    CONVERSE(client, "C: auth plain", "S: 334 ", "C: " PLAIN_RIGHT, OK);
    expect_logged_in(client);
    leave(client);
    world_free(world);
}

static void test_login(void **state)
{
    struct world *world = world_usual();
    struct client *client = stranger_of(world);
    CONVERSE(client, "C: AUTH LOGIN", "S: 334 VXNlcm5hbWU6", "C: dXNlcg==", "S: 334 UGFzc3dvcmQ6",
             "C: c2VjcmV0", OK);
    expect_logged_in(client);
    leave(client);
    client = stranger_of(world);
    CONVERSE(client, "C: AUTH LOGIN dXNlcg==", "S: 334 UGFzc3dvcmQ6", "C: c2VjcmV0", OK);
    leave(client);
    world_free(world);
}

static void say(struct client *client, const char *before, const char *text)
{
    char line[2048];
    const size_t size = smtp_base64_encode(text, strlen(text), line, sizeof(line));
    client_send(client, before, strlen(before));
    client_send(client, line, size);
    client_send(client, "\r\n", 2);
}

/* The clear text of a "334 "; the reply behind it is left alone. */
static void hear(struct client *client, char *text, size_t capacity)
{
    const struct smtp_slice reply = client_line(client);
    assert_true(reply.size >= 4);
    assert_memory_equal(reply.data, "334 ", 4);
    const struct smtp_slice line = {reply.data + 4, reply.size - 4};
    const int size = smtp_base64_decode(line, text, capacity - 1);
    assert_true(size >= 0);
    text[size] = '\0';
    client_expect(client, "334 *");
}

static void scram(struct client *client, const char *user, const char *password)
{
    char bare[64], first[128], server_first[512], final[1024];
    snprintf(bare, sizeof(bare), "n=%s,r=clientnonce", user);
    snprintf(first, sizeof(first), "n,,%s", bare);
    say(client, "AUTH SCRAM-SHA-256 ", first);
    hear(client, server_first, sizeof(server_first));
    client_final(final, sizeof(final), "n,,", bare, server_first, password, "", 0);
    say(client, "", final);
}

static void test_scram(void **state)
{
    struct world *world = world_usual();
    struct client *client = stranger_of(world);
    scram(client, "scram", "pencil");
    CONVERSE(client, "S: 334 *", "C: ", OK);
    expect_logged_in(client);
    leave(client);
    static const char *const wrong[][2] = {{"scram", "pen"}, {"user", "secret"}, {"nobody", "x"}};
    for (size_t i = 0; i < 3; i++) {
        client = stranger_of(world);
        scram(client, wrong[i][0], wrong[i][1]);
        CONVERSE(client, WRONG);
        leave(client);
    }
    world_free(world);
}

/* --- Failure --- */

static void test_what_is_not_a_login(void **state)
{
    struct world *world = world_usual();
    struct client *client = stranger_of(world);
    char line[1700];
    memset(line, 'A', sizeof(line) - 3);
    memcpy(line + sizeof(line) - 3, "\r\n", 3);
    CONVERSE(client, "C: AUTH", "S: 501 5.5.4 *", "C: AUTH CRAM-MD5",
             "S: 504 5.5.4 This mechanism is not offered", "C: AUTH SCRAM-SHA-256-PLUS", "S: 504 5.5.4 *",
             "C: AUTH PLAIN !", "S: 501 5.5.2 Cannot decode this response",
             "C: AUTH PLAIN =", "S: 501 5.5.2 *", "C: AUTH PLAIN", "S: 334 ", "C: *",
             "S: 501 5.7.0 Authentication cancelled", "C: AUTH LOGIN", "S: 334 *", "C: dXNlcg==", "S: 334 *",
             "C: *", "S: 501 5.7.0 *",                                //
             "C: AUTH PLAIN", "S: 334 ", "C: QUIT", "S: 501 5.5.2 *", //
             "C: AUTH PLAIN", "S: 334 ");
    client_send(client, line, sizeof(line) - 1);
    CONVERSE(client, "S: 501 5.5.2 *", "C: AUTH PLAIN", "S: 334 ");
    client_send(client, line, 1500);
    client_send(client, line, sizeof(line) - 1);
    CONVERSE(client, "S: 500 5.5.6 line too long for an authentication exchange", //
             "C: MAIL FROM:<a@b>", "S: 250 *", "C: AUTH PLAIN " PLAIN_RIGHT,
             "S: 503 5.5.1 Not within a mail transaction", "C: RSET", "S: 250 *",
             "C: AUTH PLAIN " PLAIN_RIGHT, OK);
    assert_int_equal(counter_get(&world->counters, COUNTER_logins_failed), 0);
    leave(client);
    world_free(world);
}

static void test_bare_newlines_in_a_login(void **state)
{
    struct world *world = world_usual();
    struct client *client = stranger_of(world);
    CONVERSE(client, "C: AUTH PLAIN", "S: 334 ", "C| " PLAIN_RIGHT "\n", "S: 521 5.5.2 bare <LF> refused",
             "-- closed");
    client_free(client);
    world_free(world);
}

static void test_auth_before_ehlo_and_after_helo(void **state)
{
    struct world *world = world_usual();
    struct client *client = client_new(world, STRANGER);
    CONVERSE(client, "S: 220 *", "C: AUTH PLAIN " PLAIN_RIGHT, "S: 503 5.5.1 Send EHLO first", "C: HELO x",
             "S: 250 *", "C: AUTH PLAIN " PLAIN_RIGHT, "S: 502 *");
    leave(client);
    world_free(world);
}

static void test_a_wrong_password_takes_time(void **state)
{
    struct world *world = world_of("failure_delay = \"300ms\"", "");
    struct client *client = stranger_of(world);
    const uint64_t before_us = clock_monotonic_us();
    CONVERSE(client, "C: AUTH PLAIN " PLAIN_WRONG, "C: NOOP");
    world_wait_checked(world, 1);
    client_expect_silence(client); /* nothing is read meanwhile */
    CONVERSE(client, WRONG, "S: 250 2.0.0 Ok");
    assert_true(clock_monotonic_us() - before_us >= 300000);
    expect_log(world, "user=user mechanism=PLAIN result=failed reason=\"wrong password\"");
    assert_int_equal(counter_get(&world->counters, COUNTER_logins_failed), 1);
    /* So does an unknown user. */
    CONVERSE(client, "C: AUTH PLAIN AG5vYm9keQB3cm9uZw==");
    world_wait_checked(world, 2);
    client_expect_silence(client);
    CONVERSE(client, WRONG);
    /* A client that goes during its penalty. */
    CONVERSE(client, "C: AUTH PLAIN " PLAIN_WRONG);
    world_wait_checked(world, 3);
    client_reset(client);
    client_free(client);
    world_free(world);
}

static void test_too_many_failures_of_a_connection(void **state)
{
    struct world *world = world_of("failure_delay = \"0s\" failures_per_minute = 0", "");
    struct client *client = stranger_of(world);
    for (int i = 0; i < INBOUND_FAILED_LOGINS_MAX; i++)
        CONVERSE(client, "C: AUTH PLAIN " PLAIN_WRONG, WRONG);
    CONVERSE(client, "S: 421 4.7.0 Too many errors", "-- closed");
    client_free(client);
    world_free(world);
}

static void test_too_many_failures_of_a_client_and_of_a_user(void **state)
{
    struct world *world = world_of("failure_delay = \"0s\" failures_per_minute = 2", "");
    struct client *client = stranger_of(world);
    for (int i = 0; i < 2; i++)
        CONVERSE(client, "C: AUTH PLAIN " PLAIN_WRONG, WRONG);
    CONVERSE(client, "C: AUTH PLAIN " PLAIN_RIGHT, "S: 454 4.7.0 Too many failed logins, try again later");
    CONVERSE(client, "C: AUTH SCRAM-SHA-256", "S: 454 4.7.0 *"); /* not even a challenge */
    leave(client);
    client = client_new(world, "198.51.100.1"); /* elsewhere, the user is still to wait */
    client_hello(client);
    CONVERSE(client, "C: AUTH PLAIN " PLAIN_RIGHT, "S: 454 4.7.0 *");
    assert_int_equal(world->checked_count, 2); /* nobody looked at the password */
    scram(client, "scram", "pencil");          /* somebody else is not */
    CONVERSE(client, "S: 334 *", "C: ", OK);
    leave(client);
    world_free(world);
}

/* --- The hasher --- */

static void test_passwords_are_checked_on_another_thread(void **state)
{
    struct world *world = world_usual();
    struct client *client = stranger_of(world);
    struct client *other = stranger_of(world);
    world->holds_checks = true;
    CONVERSE(client, "C: AUTH PLAIN " PLAIN_RIGHT, "C: MAIL FROM:<a@b>");
    client_expect_silence(client);
    client_send_message(other, "x\r\n"); /* mail goes on */
    CONVERSE(other, "S: 250 2.0.0 *");
    world->holds_checks = false;
    CONVERSE(client, OK, "S: 250 2.1.0 Ok", "C: RSET", "S: 250 *");
    assert_false(pthread_equal(world->checker, pthread_self()));
    leave(client);
    leave(other);
    world_free(world);
}

static void test_a_client_that_goes_while_the_hasher_works(void **state)
{
    for (int politely = 0; politely < 2; politely++) {
        struct world *world = world_usual();
        struct client *client = stranger_of(world);
        world->holds_checks = true;
        CONVERSE(client, "C: AUTH PLAIN " PLAIN_RIGHT);
        world_settle(world);
        if (politely)
            client_shut_down(client);
        else
            client_reset(client);
        for (int i = 0; i < 10; i++)
            world_settle(world);
        assert_int_equal(inbound_session_count(&world->inbound),
                         politely ? 2 : 1); /* the check is still out */
        world->holds_checks = false;
        world_wait_checked(world, 1);
        if (politely)
            client_expect_closed(client);
        client_free(client);
        world_free(world);
    }
}

static void test_a_hasher_that_is_full(void **state)
{
    enum { CLIENTS = 24 };
    struct world *world = world_usual();
    struct client *clients[CLIENTS];
    int served = 0, refused = 0;
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = stranger_of(world);
    for (int i = 0; i < CLIENTS; i++)
        assert_true(send(clients[i]->fd, "AUTH PLAIN " PLAIN_RIGHT "\r\nQUIT\r\n", 35, 0) == 35);
    for (int i = 0; i < CLIENTS; i++) {
        const char *text = client_transcript(clients[i]);
        served += strncmp(text, "235 2.7.0 ", 10) == 0;
        refused += strncmp(text, "454 4.7.0 Logins cannot be checked now", 38) == 0;
        client_free(clients[i]);
    }
    assert_int_equal(served + refused, CLIENTS);
    assert_true(served > 0 && refused > 0);
    world_free(world);
}

/* --- Rules --- */

static void test_a_listener_that_demands_a_login(void **state)
{
    char sections[256];
    snprintf(sections, sizeof(sections), "auth { users = \"%s\" }\n", world_file(users));
    struct world *world = world_new_with(
        &(struct world_config){.listener = "auth = \"required\" auth_without_tls = true", .more = sections});
    struct client *client = client_new(world, NULL); /* ours or not */
    client_hello(client);
    CONVERSE(client, "C: MAIL FROM:<a@b>", "S: 530 5.7.0 Log in first", "C: RCPT TO:<b@example.com>",
             "S: 503 *", "C: AUTH PLAIN " PLAIN_RIGHT, OK, "C: MAIL FROM:<a@b>", "S: 250 *");
    leave(client);
    world_free(world);
}

static void test_senders_of_a_login(void **state)
{
    char more[256];
    snprintf(more, sizeof(more), "failure_delay = \"0s\" auth_senders = \"%s\"",
             world_file("user me@b.test @c.test\n"));
    for (int is_dry = 0; is_dry < 2; is_dry++) {
        if (is_dry)
            snprintf(more, sizeof(more), "failure_delay = \"0s\" auth_senders = \"/nonexistent/senders\"");
        struct world *world = world_of(more, is_dry ? "admission { dry_run = {\"auth-sender\"} }\n" : "");
        struct client *client = stranger_of(world);
        CONVERSE(client, "C: MAIL FROM:<any@one.test>", "S: 250 *", "C: RSET", "S: 250 *",
                 "C: AUTH PLAIN " PLAIN_RIGHT, OK);
        if (is_dry) {
            CONVERSE(client, "C: MAIL FROM:<any@one.test>", "S: 250 *");
            expect_log(world, "reason=SENDERS_UNAVAILABLE dry_run=auth-sender");
        } else {
            CONVERSE(client, "C: MAIL FROM:<any@one.test>",
                     "S: 553 5.7.1 This login may not use this sender address", "C: MAIL FROM:<>", "S: 553 *",
                     "C: MAIL FROM:<x@C.test>", "S: 250 *", "C: RSET", "S: 250 *", "C: MAIL FROM:<me@b.test>",
                     "S: 250 *");
            expect_log(world, "reason=SENDER_DENIED from=<any@one.test>");
        }
        leave(client);
        world_free(world);
    }
}

static void test_senders_that_cannot_be_read(void **state)
{
    struct world *world = world_of("auth_senders = \"/nonexistent/senders\"", "");
    struct client *client = stranger_of(world);
    CONVERSE(client, "C: AUTH PLAIN " PLAIN_RIGHT, OK, "C: MAIL FROM:<a@b>",
             "S: 451 4.3.5 The senders of this login cannot be looked up now");
    leave(client);
    world_free(world);
}

static void test_users_that_cannot_be_read(void **state)
{
    struct world *world =
        world_new_with(&(struct world_config){.listener = "auth = \"optional\" auth_without_tls = true",
                                              .more = "auth { users = \"/nonexistent/users\" }\n"});
    struct client *client = client_new(world, STRANGER);
    client_expect(client, "220 *");
    client_ehlo_without(client, "AUTH*");
    CONVERSE(client, "C: AUTH PLAIN " PLAIN_RIGHT, "S: 50*");
    leave(client);
    world_free(world);
}

static void test_connections_and_messages_of_a_login(void **state)
{
    struct world *world =
        world_of("failure_delay = \"0s\"", "rate \"login\" { connections = 1 messages_per_minute = 1 }\n");
    struct client *client = stranger_of(world);
    struct client *second = stranger_of(world);
    CONVERSE(client, "C: AUTH PLAIN " PLAIN_RIGHT, OK);
    CONVERSE(second, "C: AUTH PLAIN " PLAIN_RIGHT,
             "S: 421 4.7.0 Too many connections of this login, try again later", "-- closed");
    client_free(second);
    CONVERSE(client, "C: MAIL FROM:<a@b>", "S: 250 *", "C: RSET", "S: 250 *", "C: MAIL FROM:<a@b>",
             "S: 450 4.7.1 *");
    leave(client);
    world_wait_empty(world);
    second = stranger_of(world);
    CONVERSE(second, "C: AUTH PLAIN " PLAIN_RIGHT, OK);
    leave(second);
    world_free(world);
}

/* In every cut: commands behind AUTH wait for its answer. */
static void test_every_cut(void **state)
{
    static const char text[] = "AUTH PLAIN " PLAIN_RIGHT "\r\nNOOP\r\nQUIT\r\n";
    struct world *world = world_usual();
    for (size_t cut = 0; cut < sizeof(text); cut += 3) {
        struct client *client = stranger_of(world);
        client_send(client, text, cut);
        client_send(client, text + cut, sizeof(text) - 1 - cut);
        assert_string_equal(client_transcript(client),
                            "235 2.7.0 Authentication succeeded\r\n250 2.0.0 Ok\r\n221 2.0.0 Bye\r\n");
        client_free(client);
        world_clear(world);
    }
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_plain_without_an_initial_response),
        cmocka_unit_test(test_login),
        cmocka_unit_test(test_scram),
        cmocka_unit_test(test_what_is_not_a_login),
        cmocka_unit_test(test_bare_newlines_in_a_login),
        cmocka_unit_test(test_auth_before_ehlo_and_after_helo),
        cmocka_unit_test(test_a_wrong_password_takes_time),
        cmocka_unit_test(test_too_many_failures_of_a_connection),
        cmocka_unit_test(test_too_many_failures_of_a_client_and_of_a_user),
        cmocka_unit_test(test_passwords_are_checked_on_another_thread),
        cmocka_unit_test(test_a_client_that_goes_while_the_hasher_works),
        cmocka_unit_test(test_a_hasher_that_is_full),
        cmocka_unit_test(test_a_listener_that_demands_a_login),
        cmocka_unit_test(test_senders_of_a_login),
        cmocka_unit_test(test_senders_that_cannot_be_read),
        cmocka_unit_test(test_users_that_cannot_be_read),
        cmocka_unit_test(test_connections_and_messages_of_a_login),
        cmocka_unit_test(test_every_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
