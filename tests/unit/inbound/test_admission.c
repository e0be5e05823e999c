/* Who may do what: each rule with its reply, its reason in the log, and what is left of it in a dry run. */

#include "tests/unit/inbound/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/destination.h"
#include "gateway/inbound/session.h"

#define STRANGER "192.0.2.7"

/* The text with the path in the place of its "@FILE". */
static const char *section(const char *text, const char *path)
{
    static char filled[1024];
    const char *at = strstr(text, "@FILE");
    assert_non_null(at);
    const int size = snprintf(filled, sizeof(filled), "%.*s%s%s", (int)(at - text), text, path, at + 5);
    assert_true(size > 0 && (size_t)size < sizeof(filled));
    return filled;
}

/* A client at this address that has said EHLO and MAIL. */
static struct client *sender_at(struct world *world, const char *address)
{
    struct client *client = client_new(world, address);
    client_hello(client);
    CONVERSE(client, "C: MAIL FROM:<a@client.test>", "S: 250 2.1.0 Ok");
    return client;
}

static void leave(struct client *client)
{
    client_quit(client);
    client_free(client);
}

/* --- Relaying --- */

static void test_relaying_cannot_be_tried_dry(void **state)
{
    struct config *config = NULL;
    struct config_error error = {{0}};
    assert_true(config_load_text("test",
                                 "listener \"smtp\" { bind = {\"127.0.0.1:2525\"} }\n"
                                 "route \"*\" { to = \"smtp://127.0.0.1:2526\" }\n"
                                 "admission { dry_run = {\"relay\"} }\n",
                                 &config, &error) < 0);
    /* With every rule that can be, a stranger is still told no. */
    struct world *world =
        world_new("admission { dry_run = {\"early-talker\", \"client-rate\", \"network-rate\", "
                  "\"login-rate\", \"recipient-list\", \"auth-sender\", \"null-mx-sender\"} }\n");
    struct client *client = sender_at(world, STRANGER);
    CONVERSE(client, "C: RCPT TO:<x@example.net>", "S: 550 5.7.1 Relaying denied");
    expect_log(world, "reason=RELAYING_DENIED from=<a@client.test> to=<x@example.net>");
    leave(client);
    world_free(world);
}

/* Whatever is left out of a configuration, a stranger relays to nobody. */
static void test_no_open_relay_by_omission(void **state)
{
    static const char *const networks[] = {NULL, ""};
    static const char *const listeners[] = {
        "",
        "greeting_delay = \"0s\"",
        "auth = \"optional\" auth_without_tls = true",
        "auth = \"required\" auth_without_tls = true",
        "submission = true auth_without_tls = true",
        "xclient = true proxy_networks = {\"192.0.2.99\"}",
    };
    for (size_t i = 0; i < sizeof(listeners) / sizeof(listeners[0]) * 4; i++) {
        const char *listener = listeners[i / 4];
        const bool has_auth = strstr(listener, "auth") != NULL;
        const char *users = has_auth ? section("auth { users = \"@FILE\" }\n", world_file("")) : "";
        char more[2048];
        snprintf(more, sizeof(more), "%sroute \"*\" { to = \"smtp://127.0.0.1:2526\" }\n", users);
        struct world *world = world_new_with(&(struct world_config){
            .listener = listener, .networks = networks[i % 2], .more = i / 2 % 2 ? more : users});
        struct client *client = client_new(world, STRANGER);
        CONVERSE(client, "S: 220 *", "C: EHLO x");
        static const char rest[] =
            "MAIL FROM:<a@example.com>\r\nRCPT TO:<x@example.net>\r\nRCPT TO:<x@[127.0.0.1]>\r\n"
            "RCPT TO:<@example.com:x@example.net>\r\nRCPT TO:<x%example.net@elsewhere.test>\r\n"
            "RCPT TO:<\"x@example.net\"@elsewhere.test>\r\nBDAT 4 LAST\r\nxxxxDATA\r\nQUIT\r\n";
        client_send(client, rest, sizeof(rest) - 1);
        const char *got = client_transcript(client);
        assert_null(strstr(got, "250 2.1.5"));
        assert_null(strstr(got, "354"));
        assert_non_null(
            strstr(got, has_auth && strstr(listener, "optional") == NULL ? "530 5.7.0" : "550 5.7.1"));
        client_free(client);
        world_free(world);
    }
}

static void test_the_postmaster_hears_everybody(void **state)
{
    struct world *world = world_new(section("recipients \"example.com\" { file = \"@FILE\" }\n"
                                            "rate \"client\" { connections = 0 }\n",
                                            world_file("b@example.com\n")));
    struct client *client = sender_at(world, STRANGER);
    CONVERSE(client, "C: RCPT TO:<Postmaster@Example.com>", "S: 250 2.1.5 Ok", "C: RCPT TO:<POSTMASTER>",
             "S: 250 2.1.5 Ok", "C: RCPT TO:<postmaster@example.net>", "S: 550 5.7.1 Relaying denied");
    leave(client);
    world_free(world);
}

/* --- Lists of recipients --- */

static void test_lists(void **state)
{
    struct world *world =
        world_new(section("recipients \"example.com\" { file = \"@FILE\" }\nrecipient_delimiter = \"+\"\n",
                          world_file("# ours\nb@example.com\nsales@example.com\n")));
    struct client *client = sender_at(world, STRANGER);
    CONVERSE(client, "C: RCPT TO:<b@EXAMPLE.com>", "S: 250 2.1.5 Ok", "C: RCPT TO:<\"b\"@example.com>",
             "S: 250 2.1.5 Ok", "C: RCPT TO:<sales+x@example.com>", "S: 250 2.1.5 Ok",
             "C: RCPT TO:<nobody@example.com>", "S: 550 5.1.1 No such recipient here");
    expect_log(world,
               "reply=\"550 5.1.1 No such recipient here\" reason=UNKNOWN_RECIPIENT from=<a@client.test> "
               "to=<nobody@example.com> client=192.0.2.7:4321");
    leave(client);
    /* Our own clients are told the same: the list says who exists. */
    client = sender_at(world, NULL);
    CONVERSE(client, "C: RCPT TO:<nobody@example.com>", "S: 550 5.1.1 *");
    leave(client);
    world_free(world);
}

static void test_a_list_that_cannot_be_read(void **state)
{
    struct world *world = world_new("recipients \"example.com\" { file = \"/nonexistent/list\" }\n");
    struct client *client = sender_at(world, STRANGER);
    CONVERSE(client, "C: RCPT TO:<b@example.com>", "S: 451 4.3.5 The list of recipients cannot be read now",
             "C: RCPT TO:<postmaster@example.com>", "S: 250 2.1.5 Ok", //
             "C: RCPT TO:<x@example.net>", "S: 550 5.7.1 *");
    expect_log(world, "reason=LIST_UNAVAILABLE");
    /* It is there again. */
    world_reload(world, NULL);
    CONVERSE(client, "C: RCPT TO:<b@example.com>", "S: 250 2.1.5 Ok");
    leave(client);
    world_free(world);
}

static void test_lists_tried_dry(void **state)
{
    struct world *world = world_new(section("recipients \"example.com\" { file = \"@FILE\" }\n"
                                            "admission { dry_run = {\"recipient-list\"} }\n",
                                            world_file("b@example.com\n")));
    struct client *client = sender_at(world, STRANGER);
    CONVERSE(client, "C: RCPT TO:<nobody@example.com>", "S: 250 2.1.5 Ok", "C: RCPT TO:<x@example.net>",
             "S: 550 5.7.1 *");
    expect_log(world,
               "reject level=notice reply=\"550 5.1.1 No such recipient here\" reason=UNKNOWN_RECIPIENT "
               "dry_run=recipient-list client=192.0.2.7:4321");
    leave(client);
    world_free(world);
}

/* --- Routes that refuse --- */

#define ERROR_ROUTES                                                                                         \
    "route \"old.example.com\" { to = \"error:550 5.1.6 This address has moved\" }\n"                        \
    "route \".later.example.com\" { to = \"error:450 come again tomorrow\" }\n"                              \
    "route \"from:spam.test\" { to = \"error:550 5.7.1 Not from there\" }\n"                                 \
    "route \"*\" { to = \"smtp://127.0.0.1:2526\" }\n"

/* The client is told, in the route's own words; there is no notice to a sender who may be forged. */
static void test_routes_that_refuse(void **state)
{
    struct world *world = world_new(ERROR_ROUTES);
    struct client *client = sender_at(world, STRANGER);
    CONVERSE(client, "C: RCPT TO:<x@old.example.com>", "S: 550 5.7.1 Relaying denied"); /* that comes first */
    leave(client);
    client = sender_at(world, NULL);
    CONVERSE(client, "C: RCPT TO:<Bert@OLD.example.com>", "S: 550 5.1.6 This address has moved", //
             "C: RCPT TO:<postmaster@old.example.com>", "S: 550 5.1.6 *", /* nobody is there */
             "C: DATA", "S: 554 5.5.1 No valid recipients",               //
             "C: RCPT TO:<x@very.later.example.com>", "S: 450 4.0.0 come again tomorrow",
             "C: RCPT TO:<b@example.com>", "S: 250 2.1.5 Ok", "C: DATA", "S: 354 *", "C: x", "C: .",
             "S: 250 2.0.0 *");
    expect_log(world, "reject level=notice reply=\"550 5.1.6 This address has moved\" reason=ROUTE_REFUSES "
                      "from=<a@client.test> to=<Bert@OLD.example.com> client=127.0.0.1");
    assert_int_equal(world->queue.messages[0].recipient_count, 1);
    assert_int_equal(counter_get(&world->counters, COUNTER_recipients_refused), 4);
    leave(client);
    /* By the sender's domain; the null reverse-path has none. */
    client = client_new(world, NULL);
    client_hello(client);
    CONVERSE(client, "C: MAIL FROM:<a@spam.test>", "S: 250 *", "C: RCPT TO:<x@elsewhere.test>",
             "S: 550 5.7.1 Not from there", "C: RCPT TO:<b@example.com>", "S: 250 *", "C: RSET", "S: 250 *",
             "C: MAIL FROM:<>", "S: 250 *", "C: RCPT TO:<x@elsewhere.test>", "S: 250 *");
    leave(client);
    world_free(world);
}

static void test_lines_of_the_route_file_that_refuse(void **state)
{
    static char more[512];
    const char *path = world_file("old.example.com  error:550 5.1.6 Moved, and  far\n"
                                  ".example.com     smtp://127.0.0.1:2526\n"
                                  "errors.test      smtp://error:2526\n");
    snprintf(more, sizeof(more), "route_file = \"%s\"\n%s", path, ERROR_ROUTES);
    struct world *world = world_new(more);
    struct client *client = sender_at(world, NULL);
    CONVERSE(client, "C: RCPT TO:<x@old.example.com>", "S: 550 5.1.6 Moved, and  far",
             "C: RCPT TO:<x@errors.test>", "S: 250 *", "C: RCPT TO:<x@very.later.example.com>", "S: 450 *");
    leave(client);
    world_free(world);
}

/* RFC 5321 §3.8, RFC 7504 §3: these codes say that the connection ends. */
static void test_routes_that_end_the_connection(void **state)
{
    static const char *const replies[] = {"421 4.3.2 Not today", "521 5.3.2 Never"};
    for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++) {
        char more[128], line[64];
        snprintf(more, sizeof(more), "route \"old.test\" { to = \"error:%s\" }\n", replies[i]);
        snprintf(line, sizeof(line), "S: %s", replies[i]);
        struct world *world = world_new(more);
        struct client *client = sender_at(world, NULL);
        CONVERSE(client, "C: RCPT TO:<b@example.com>", "S: 250 *", "C: RCPT TO:<x@old.test>", line,
                 "-- closed");
        client_free(client);
        world_free(world);
    }
}

/* The longest text that the configuration takes still fits into the reply. */
static void test_the_longest_reply_of_a_route(void **state)
{
    char more[1024], line[1024], text[DESTINATION_ERROR_TEXT_MAX + 1];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    snprintf(more, sizeof(more), "route \"old.test\" { to = \"error:599 %s\" }\n", text);
    snprintf(line, sizeof(line), "S: 599 5.0.0 %s", text);
    struct world *world = world_new(more);
    struct client *client = sender_at(world, NULL);
    CONVERSE(client, "C: RCPT TO:<x@old.test>", line);
    leave(client);
    world_free(world);
}

/* --- Rates --- */

static void test_connections_at_once(void **state)
{
    struct world *world = world_new("rate \"client\" { connections = 2 }\n");
    struct client *first = client_new(world, STRANGER);
    struct client *second = client_new(world, STRANGER);
    client_hello(first);
    client_hello(second);
    struct client *third = client_new(world, STRANGER);
    CONVERSE(third, "S: 421 4.7.0 Too many connections from your address, try again later", "-- closed");
    client_free(third);
    world_settle(world);
    expect_log(world, "reason=CLIENT_RATE");
    struct client *neighbour = client_new(world, "192.0.2.8");
    client_hello(neighbour);
    leave(neighbour);
    for (int i = 0; i < 3; i++) { /* our own are not counted */
        struct client *listed = client_new(world, NULL);
        client_hello(listed);
        leave(listed);
    }
    leave(second);
    while (inbound_session_count(&world->inbound) > 1)
        world_settle(world);
    third = client_new(world, STRANGER); /* there is a place again */
    client_hello(third);
    leave(third);
    leave(first);
    world_free(world);
}

static void test_networks(void **state)
{
    static const struct {
        const char *first, *second, *other;
    } table[] = {
        {"192.0.2.7", "192.0.2.200", "192.0.3.7"},
        {"2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct world *world = world_new("rate \"network\" { connections = 1 }\n");
        struct client *first = client_new(world, table[i].first);
        client_hello(first);
        struct client *second = client_new(world, table[i].second);
        CONVERSE(second, "S: 421 4.7.0 Too many connections from your network, try again later", "-- closed");
        struct client *other = client_new(world, table[i].other);
        client_hello(other);
        leave(first);
        leave(other);
        client_free(second);
        world_free(world);
    }
}

static void test_connections_a_minute(void **state)
{
    struct world *world = world_new("rate \"client\" { connections_per_minute = 3 }\n");
    for (int i = 0; i < 3; i++) {
        struct client *client = client_new(world, STRANGER);
        client_hello(client);
        leave(client);
    }
    struct client *client = client_new(world, STRANGER);
    CONVERSE(client, "S: 421 4.7.0 Too many connections*", "-- closed");
    client_free(client);
    world_free(world);
}

static void test_messages_and_recipients_a_minute(void **state)
{
    struct world *world = world_new(
        "rate \"client\" { messages_per_minute = 2 recipients_per_minute = 3 errors_per_minute = 0 }\n");
    struct client *client = client_new(world, STRANGER);
    client_hello(client);
    CONVERSE(client, "C: MAIL FROM:<a@b>", "S: 250 *", "C: RCPT TO:<x@example.net>", "S: 550 5.7.1 *", //
             "C: RCPT TO:<1@example.com>", "S: 250 *", "C: RCPT TO:<2@example.com>", "S: 250 *",
             "C: RCPT TO:<3@example.com>", "S: 250 *", "C: RCPT TO:<4@example.com>",
             "S: 450 4.7.1 Too many recipients in a minute, try again later", //
             "C: RSET", "S: 250 *", "C: MAIL FROM:<a@b>", "S: 250 *", "C: RSET", "S: 250 *",
             "C: MAIL FROM:<a@b>", "S: 450 4.7.1 Too many messages in a minute, try again later");
    expect_log(world, "reason=RECIPIENT_RATE");
    expect_log(world, "reason=MESSAGE_RATE");
    leave(client);
    client = client_new(world, NULL); /* not ours */
    client_hello(client);
    for (int i = 0; i < 3; i++)
        CONVERSE(client, "C: MAIL FROM:<a@b>", "S: 250 *", "C: RSET", "S: 250 *");
    leave(client);
    world_free(world);
}

static void test_errors_a_minute(void **state)
{
    struct world *world = world_new("rate \"client\" { errors_per_minute = 2 }\n");
    struct client *client = client_new(world, STRANGER);
    client_hello(client);
    CONVERSE(client, "C: FOO", "S: 500 *", "C: NOOP", "S: 250 *", "C: DATA", "S: 503 *", "C: VRFY x",
             "S: 252 *", //
             "C: FOO", "S: 500 *", "S: 421 4.7.0 Too many errors", "-- closed");
    client_free(client);
    world_free(world);
}

static void test_rates_tried_dry(void **state)
{
    struct world *world =
        world_new("rate \"client\" { connections = 1 messages_per_minute = 1 errors_per_minute = 1 }\n"
                  "rate \"network\" { connections = 1 }\n"
                  "admission { dry_run = {\"client-rate\", \"network-rate\"} }\n");
    struct client *first = client_new(world, STRANGER);
    struct client *second = client_new(world, STRANGER);
    client_hello(first);
    client_hello(second);
    for (int i = 0; i < 2; i++)
        CONVERSE(second, "C: MAIL FROM:<a@b>", "S: 250 *", "C: FOO", "S: 500 *", "C: RSET", "S: 250 *");
    expect_log(world, "reason=CLIENT_RATE dry_run=client-rate");
    expect_log(world, "reason=NETWORK_RATE dry_run=network-rate");
    expect_log(world, "reason=MESSAGE_RATE dry_run=client-rate");
    expect_log(world, "reason=TOO_MANY_ERRORS dry_run=client-rate");
    leave(first);
    leave(second);
    world_free(world);
}

/* --- Who talks first --- */

static void test_early_talkers(void **state)
{
    struct world *world = world_new_with(&(struct world_config){.listener = "greeting_delay = \"150ms\""});
    struct client *early = client_new(world, STRANGER);
    CONVERSE(early, "C: EHLO x", "S: 554 5.5.0 You spoke before the greeting", "-- closed");
    client_free(early);
    world_settle(world);
    expect_log(world, "reason=EARLY_TALKER");
    assert_int_equal(counter_get(&world->counters, COUNTER_early_talkers), 1);
    struct client *patient = client_new(world, STRANGER);
    client_expect_silence(patient);
    client_hello(patient);
    leave(patient);
    struct client *listed = client_new(world, NULL); /* is known, and does not wait */
    world_settle(world);
    CONVERSE(listed, "S: 220 *");
    leave(listed);
    struct client *gone = client_new(world, STRANGER);
    client_shut_down(gone);
    client_expect_closed(gone);
    client_free(gone);
    world_free(world);
}

static void test_early_talkers_tried_dry(void **state)
{
    struct world *world = world_new_with(&(struct world_config){
        .listener = "greeting_delay = \"150ms\"", .more = "admission { dry_run = {\"early-talker\"} }\n"});
    struct client *client = client_new(world, STRANGER);
    CONVERSE(client, "C: EHLO x", "C: NOOP");
    client_expect_silence(client);
    CONVERSE(client, "S: 220 *", "S: 250-*", "S: 250-*", "S: 250-*", "S: 250-*", "S: 250-*", "S: 250-*",
             "S: 250-*", "S: 250-*", "S: 250 *", "S: 250 2.0.0 Ok");
    expect_log(world, "reason=EARLY_TALKER dry_run=early-talker");
    leave(client);
    world_free(world);
}

/* --- A house that is nearly full --- */

static void test_stress(void **state)
{
    struct world *world = world_new("limits { connections = 10 }\ntimeouts { inbound_command = \"1h\" }\n");
    _Atomic uint32_t elsewhere = 7;
    world->inbound.options.connection_count = &elsewhere;
    struct client *stranger = client_new(world, STRANGER);
    client_hello(stranger);
    struct client *listed = client_new(world, NULL);
    client_hello(listed);
    /* The last place but one is for our own. */
    struct client *second = client_new(world, STRANGER);
    CONVERSE(second, "S: 421 4.3.2 Too many connections, try again later", "-- closed");
    client_free(second);
    CONVERSE(listed, "C: 1", "S: 500 *", "C: 2", "S: 500 *", "C: 3", "S: 500 *", "C: 4", "S: 500 *");
    CONVERSE(stranger, "C: 1", "S: 500 *", "C: 2", "S: 500 *", "C: 3", "S: 500 *",
             "S: 421 4.7.0 Too many errors", "-- closed");
    client_free(stranger);
    leave(listed);
    world_wait_empty(world);
    assert_int_equal(elsewhere, 7);
    world_free(world);
}

static void test_our_own_go_first(void **state)
{
    struct world *world = world_new(NULL);
    world->queue.is_full = true;
    struct client *clients[2] = {client_new(world, STRANGER), client_new(world, NULL)};
    for (int i = 0; i < 2; i++) {
        client_hello(clients[i]);
        client_send_message(clients[i], "x\r\n");
        client_expect_silence(clients[i]);
    }
    fake_queue_give_room(&world->queue, UINT64_MAX);
    CONVERSE(clients[0], "S: 250 2.0.0 *");
    CONVERSE(clients[1], "S: 250 2.0.0 *");
    assert_int_equal(world->queue.messages[0].id, 2); /* began later, and was first */
    leave(clients[0]);
    leave(clients[1]);
    world_free(world);
}

/* --- Order --- */

/* The first rule that refuses decides. */
static void test_the_order_at_rcpt(void **state)
{
    struct world *world =
        world_new(section("rate \"client\" { recipients_per_minute = 1 errors_per_minute = 0 }\n"
                          "recipients \"example.com\" { file = \"@FILE\" }\n",
                          world_file("b@example.com\n")));
    struct client *client = sender_at(world, STRANGER);
    CONVERSE(client, "C: RCPT TO:<\xc3\xa9@example.com>", "S: 553 5.6.7 *", //
             "C: RCPT TO:<x@example.net>", "S: 550 5.7.1 *",                /* relaying, then */
             "C: RCPT TO:<nobody@example.com>", "S: 550 5.1.1 *",           /* the rate, then the list */
             "C: RCPT TO:<nobody@example.com>", "S: 450 4.7.1 Too many recipients in a *", //
             "C: RCPT TO:<x@example.net>", "S: 550 5.7.1 *");
    leave(client);
    world_free(world);
}

static void test_the_order_at_mail(void **state)
{
    struct world *world = world_new("rate \"client\" { messages_per_minute = 1 }\n");
    struct client *client = client_new(world, STRANGER);
    client_hello(client);
    world->queue.state = QUEUE_DISK_FULL;
    CONVERSE(client, "C: MAIL FROM:<a@b> SIZE=70000", "S: 552 5.3.4 *", /* the size, then the queue */
             "C: MAIL FROM:<a@b> SIZE=70000", "S: 450 4.7.1 *");        /* the rate before both */
    world->queue.state = QUEUE_OPEN;
    leave(client);
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_relaying_cannot_be_tried_dry),
        cmocka_unit_test(test_no_open_relay_by_omission),
        cmocka_unit_test(test_the_postmaster_hears_everybody),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_a_list_that_cannot_be_read),
        cmocka_unit_test(test_lists_tried_dry),
        cmocka_unit_test(test_routes_that_refuse),
        cmocka_unit_test(test_lines_of_the_route_file_that_refuse),
        cmocka_unit_test(test_routes_that_end_the_connection),
        cmocka_unit_test(test_the_longest_reply_of_a_route),
        cmocka_unit_test(test_connections_at_once),
        cmocka_unit_test(test_networks),
        cmocka_unit_test(test_connections_a_minute),
        cmocka_unit_test(test_messages_and_recipients_a_minute),
        cmocka_unit_test(test_errors_a_minute),
        cmocka_unit_test(test_rates_tried_dry),
        cmocka_unit_test(test_early_talkers),
        cmocka_unit_test(test_early_talkers_tried_dry),
        cmocka_unit_test(test_stress),
        cmocka_unit_test(test_our_own_go_first),
        cmocka_unit_test(test_the_order_at_rcpt),
        cmocka_unit_test(test_the_order_at_mail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
