/* Proxies in front of us: the PROXY protocol, XCLIENT and XFORWARD, and who may not speak them. */

#include "tests/unit/inbound/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROXIED  "proxy_protocol = true proxy_networks = {\"127.0.0.1\"}"
#define STRANGER "192.0.2.7"

static struct world *world_of(const char *listener)
{
    return world_new_with(&(struct world_config){.listener = listener});
}

static void leave(struct client *client)
{
    client_quit(client);
    client_free(client);
}

/* --- The PROXY header --- */

static const char v2_signature[] = "\r\n\r\n\0\r\nQUIT\n";

/* A header of version 2: `command` is 0 (LOCAL) or 1, `family` 0x11 (TCP over IPv4); returns its size. */
static size_t v2(char *into, int command, int family, const void *rest, size_t rest_size)
{
    memcpy(into, v2_signature, 12);
    into[12] = (char)(0x20 | command);
    into[13] = (char)family;
    into[14] = (char)(rest_size >> 8);
    into[15] = (char)rest_size;
    memcpy(into + 16, rest, rest_size);
    return 16 + rest_size;
}

/* 192.0.2.7:4321 to 127.0.0.1:25 */
static const char v4_addresses[] = "\xc0\x00\x02\x07\x7f\x00\x00\x01\x10\xe1\x00\x19";

struct header {
    char bytes[600];
    size_t size;
    const char *client; /* as the log has it */
    bool is_stranger;
};

static struct header header_text(const char *text, const char *client, bool is_stranger)
{
    struct header header = {.size = strlen(text), .client = client, .is_stranger = is_stranger};
    memcpy(header.bytes, text, header.size);
    return header;
}

static struct header header_v2(int command, int family, const void *rest, size_t rest_size,
                               const char *client, bool is_stranger)
{
    struct header header = {.client = client, .is_stranger = is_stranger};
    header.size = v2(header.bytes, command, family, rest, rest_size);
    return header;
}

/* After the header: who the client is, and may it relay? */
static void expect_client(struct world *world, struct client *client, const struct header *header)
{
    client_expect(client, "220 *");
    client_ehlo(client, "PIPELINING");
    CONVERSE(client, "C: MAIL FROM:<a@b>", "S: 250 *", "C: RCPT TO:<x@example.net>");
    client_expect(client, header->is_stranger ? "550 5.7.1 *" : "250 2.1.5 Ok");
    expect_log(world, header->client);
    leave(client);
    world_clear(world);
}

static void test_headers_in_every_cut(void **state)
{
    const struct header table[] = {
        header_text("PROXY TCP4 192.0.2.7 127.0.0.1 4321 25\r\n", "connect client=192.0.2.7:4321 ", true),
        header_text("PROXY TCP4 127.0.0.9 127.0.0.1 4321 25\r\n", "connect client=127.0.0.9:4321 ", false),
        header_text("PROXY TCP6 2001:db8::7 ::1 4321 25\r\n", "connect client=[2001:db8::7]:4321 ", true),
        header_text("PROXY UNKNOWN\r\n", "connect client=unknown ", true),
        header_v2(1, 0x11, v4_addresses, 12, "connect client=192.0.2.7:4321 ", true),
        header_v2(1, 0x00, "", 0, "connect client=unknown ", true),
        header_v2(0, 0x00, "", 0, "connect client=127.0.0.1:", false), /* the proxy itself */
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct world *world = world_of(PROXIED);
        const struct header *header = &table[i];
        for (size_t cut = 0; cut < header->size; cut += i == 0 || i == 4 ? 1 : 5) {
            struct client *client = client_new(world, NULL);
            client_send(client, header->bytes, cut);
            client_expect_silence(client);
            client_send(client, header->bytes + cut, header->size - cut);
            expect_client(world, client, header);
        }
        struct client *client = client_new(world, NULL);
        for (size_t at = 0; at < header->size; at++)
            client_send(client, header->bytes + at, 1);
        expect_client(world, client, header);
        world_free(world);
    }
}

static void test_commands_in_one_packet_with_the_header(void **state)
{
    struct world *world = world_of(PROXIED);
    struct client *client = client_new(world, NULL);
    CONVERSE(client, "C| PROXY TCP4 192.0.2.7 127.0.0.1 4321 25\r\nHELO x\r\nQUIT\r\n", "S: 220 *",
             "S: 250 relay.test", "S: 221 *", "-- closed");
    client_free(client);
    world_free(world);
}

static void test_what_is_no_header(void **state)
{
    static const char *const table[] = {
        "EHLO x\r\n",
        "PROXY TCP4 192.0.2.7 127.0.0.1 4321\r\n",
        "PROXY TCP4 192.0.2.777 127.0.0.1 4321 25\r\n",
        "PROXY TCP9 x\r\n",
        "PROXY TCP4 192.0.2.7 127.0.0.1 4321 25\n",
        "\r\n\r\nEHLO x\r\n",
    };
    struct world *world = world_of(PROXIED);
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct client *client = client_new(world, NULL);
        client_send(client, table[i], strlen(table[i]));
        CONVERSE(client, "S: 554 5.7.1 This port serves proxies only", "-- closed");
        client_free(client);
        world_wait_empty(world);
        expect_log(world, "reason=bad-proxy-header");
        world_clear(world);
    }
    world_free(world);
}

static void test_a_stranger_with_a_header(void **state)
{
    struct world *world = world_new_with(
        &(struct world_config){.listener = "proxy_protocol = true proxy_networks = {\"192.0.2.99\"}"});
    struct client *client = client_new(world, STRANGER);
    CONVERSE(client, "C: PROXY TCP4 127.0.0.1 127.0.0.1 4321 25",
             "S: 554 5.7.1 This port serves proxies only", "-- closed");
    world_wait_empty(world);
    expect_log(world, "reason=PROXY_REQUIRED");
    assert_null(strstr(world_log(world), "client=127.0.0.1"));
    client_free(client);
    world_free(world);
}

static void test_a_header_where_none_is_expected(void **state)
{
    struct world *world = world_new(NULL);
    struct client *client = client_new(world, NULL);
    CONVERSE(client, "S: 220 *", "C: PROXY TCP4 192.0.2.7 127.0.0.1 4321 25", "S: 500 5.5.2 *");
    leave(client);
    world_free(world);
}

static void test_a_header_that_does_not_come(void **state)
{
    struct world *world = world_new_with(
        &(struct world_config){.listener = PROXIED, .more = "timeouts { inbound_proxy = \"150ms\" }\n"});
    struct client *silent = client_new(world, NULL);
    struct client *slow = client_new(world, NULL);
    client_send(slow, "PROXY TCP4 ", 11);
    assert_string_equal(client_transcript(silent), "");
    assert_string_equal(client_transcript(slow), "");
    client_free(silent);
    client_free(slow);
    world_wait_empty(world);
    expect_log(world, "reason=timeout");
    struct client *gone = client_new(world, NULL);
    client_send(gone, "PROXY ", 6);
    client_shut_down(gone);
    assert_string_equal(client_transcript(gone), "");
    client_free(gone);
    world_free(world);
}

/* PP2_TYPE_SSL with a verified certificate: as good as one that we saw. */
static void test_tls_that_a_proxy_ended(void **state)
{
    static const char addresses_and_tls[] = "\xc0\x00\x02\x07\x7f\x00\x00\x01\x10\xe1\x00\x19"
                                            "\x20\x00\x24\x07\x00\x00\x00\x00"
                                            "\x21\x00\x07TLSv1.3"
                                            "\x22\x00\x12"
                                            "client.example.com";
    enum { SIZE = sizeof(addresses_and_tls) - 1 };
    char bytes[SIZE];
    for (int verified = 0; verified < 2; verified++) {
        struct world *world = world_new_with(&(struct world_config){
            .listener = PROXIED, .relay = "client_certificates = {\"client.example.com\"}"});
        memcpy(bytes, addresses_and_tls, SIZE);
        bytes[19] = (char)(verified ? 0 : 1); /* the last octet of `verify` */
        struct header header = header_v2(1, 0x11, bytes, SIZE, "connect client=192.0.2.7:4321 ", !verified);
        struct client *client = client_new(world, NULL);
        client_send(client, header.bytes, header.size);
        expect_client(world, client, &header);
        expect_log(world, " tls=TLSv1.3 ");
        world_free(world);
    }
}

/* Two clients behind one proxy are two; one client twice is one. */
static void test_rates_count_who_is_behind_the_proxy(void **state)
{
    struct world *world = world_new_with(
        &(struct world_config){.listener = PROXIED, .more = "rate \"client\" { connections = 1 }\n"});
    struct client *clients[3];
    for (int i = 0; i < 3; i++) {
        char line[80];
        snprintf(line, sizeof(line), "PROXY TCP4 192.0.2.%d 127.0.0.1 4321 25\r\n", i == 2 ? 1 : i);
        clients[i] = client_new(world, NULL);
        client_send(clients[i], line, strlen(line));
        client_expect(clients[i], i == 2 ? "421 4.7.0 *" : "220 *");
    }
    client_expect_closed(clients[2]);
    leave(clients[0]);
    leave(clients[1]);
    client_free(clients[2]);
    world_free(world);
}

/* --- XCLIENT, XFORWARD --- */

#define XCLIENT "xclient = true proxy_networks = {\"127.0.0.1\"}"

static void test_xclient(void **state)
{
    struct world *world = world_of(XCLIENT);
    struct client *client = client_new(world, NULL);
    client_hello(client);
    client_ehlo(client, "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT");
    client_ehlo(client, "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE");
    CONVERSE(client, "C: XCLIENT ADDR=192.0.2.7 PORT=4321 NAME=mail.client.test",
             "S: 220 relay.test ESMTP Sluice", "C: MAIL FROM:<a@b>",
             "S: 503 5.5.1 Send HELO or EHLO first"); /* greeted anew */
    client_ehlo(client, "XCLIENT*");
    CONVERSE(client, "C: MAIL FROM:<a@b>", "S: 250 *", "C: RCPT TO:<x@example.net>", "S: 550 5.7.1 *",
             "C: XCLIENT ADDR=127.0.0.1", "S: 503 5.5.1 Not within a mail transaction",
             "C: RCPT TO:<b@example.com>", "S: 250 *", "C: DATA", "S: 354 *", "C: .", "S: 250 2.0.0 *");
    assert_non_null(
        memmem(world->queue.messages[0].content, world->queue.messages[0].size, "([192.0.2.7])", 13));
    expect_log(world, "to=<x@example.net> client=192.0.2.7:4321 helo=client.test");
    /* Somebody of ours, and then somebody nobody knows. */
    CONVERSE(client, "C: XCLIENT ADDR=IPV6:::1", "S: 220 *", "C: HELO x", "S: 250 *", "C: MAIL FROM:<a@b>",
             "S: 250 *", "C: RCPT TO:<x@example.net>", "S: 550 5.7.1 *", "C: RSET", "S: 250 *",
             "C: XCLIENT ADDR=127.0.0.1", "S: 502 *"); /* after HELO there are no extensions */
    leave(client);
    client = client_new(world, NULL);
    client_hello(client);
    CONVERSE(client, "C: XCLIENT ADDR=[UNAVAILABLE]", "S: 220 *");
    client_ehlo(client, "XCLIENT*");
    CONVERSE(client, "C: MAIL FROM:<a@b>", "S: 250 *", "C: RCPT TO:<x@example.net>", "S: 550 5.7.1 *");
    leave(client);
    world_free(world);
}

static void test_a_login_by_xclient(void **state)
{
    struct world *world = world_of(XCLIENT);
    struct client *client = client_new(world, NULL);
    client_hello(client);
    CONVERSE(client, "C: XCLIENT ADDR=192.0.2.7 LOGIN=user HELO=said.test PROTO=ESMTP", "S: 220 *");
    client_ehlo(client, "PIPELINING");
    CONVERSE(client, "C: MAIL FROM:<a@b>", "S: 250 *", "C: RCPT TO:<x@example.net>", "S: 250 2.1.5 Ok",
             "C: DATA", "S: 354 *", "C: .", "S: 250 2.0.0 *");
    expect_log(world, " auth=user");
    CONVERSE(client, "C: XCLIENT ADDR=192.0.2.8", "S: 220 *"); /* somebody else, who did not log in */
    client_ehlo(client, "PIPELINING");
    CONVERSE(client, "C: MAIL FROM:<a@b>", "S: 250 *", "C: RCPT TO:<x@example.net>", "S: 550 5.7.1 *",
             "C: RSET", "S: 250 *", "C: XCLIENT LOGIN=one", "S: 220 *", "C: XCLIENT LOGIN=two", "S: 220 *",
             "C: XCLIENT LOGIN=[UNAVAILABLE]", "S: 220 *");
    client_ehlo(client, "PIPELINING");
    CONVERSE(client, "C: MAIL FROM:<a@b>", "S: 250 *", "C: RCPT TO:<x@example.net>", "S: 550 5.7.1 *");
    leave(client);
    world_free(world);
}

static void test_attributes_that_are_wrong(void **state)
{
    struct world *world = world_of(XCLIENT);
    struct client *client = client_new(world, NULL);
    client_hello(client);
    CONVERSE(client, "C: XCLIENT", "S: 501 5.5.4 *", "C: XCLIENT FOO=bar", "S: 501 5.5.4 Bad attribute",
             "C: XCLIENT ADDR=nowhere", "S: 501 5.5.4 Bad attribute", "C: XCLIENT ADDR", "S: 501 *",
             "C: XCLIENT LOGIN=a+00b", "S: 501 *", "C: XFORWARD FOO=bar", "S: 501 *", //
             "C: MAIL FROM:<a@b>", "S: 250 *", "C: RCPT TO:<x@example.net>",
             "S: 250 *"); /* still who it was */
    leave(client);
    world_free(world);
}

static void test_xforward(void **state)
{
    struct world *world = world_of(XCLIENT);
    struct client *client = client_new(world, NULL);
    client_hello(client);
    CONVERSE(client, "C: XFORWARD NAME=spike.test ADDR=192.0.2.7 PROTO=ESMTP", "S: 250 2.0.0 Ok",
             "C: XFORWARD HELO=x", "S: 250 2.0.0 Ok");
    client_send_message(client, "x\r\n"); /* permissions stay those of the proxy */
    CONVERSE(client, "S: 250 2.0.0 *");
    expect_log(world, " forwarded_for=192.0.2.7 ");
    leave(client);
    world_free(world);
}

static void test_strangers_speak_neither(void **state)
{
    struct world *world = world_of("xclient = true proxy_networks = {\"192.0.2.99\"}");
    struct client *client = client_new(world, STRANGER);
    client_expect(client, "220 *");
    client_ehlo_without(client, "XCLIENT*");
    client_ehlo_without(client, "XFORWARD*");
    CONVERSE(client, "C: XCLIENT ADDR=127.0.0.1 LOGIN=user", "S: 502 5.5.1 *", "C: XFORWARD ADDR=127.0.0.1",
             "S: 502 5.5.1 *", "C: MAIL FROM:<a@b>", "S: 250 *", "C: RCPT TO:<x@example.net>",
             "S: 550 5.7.1 *");
    leave(client);
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_headers_in_every_cut),
        cmocka_unit_test(test_commands_in_one_packet_with_the_header),
        cmocka_unit_test(test_what_is_no_header),
        cmocka_unit_test(test_a_stranger_with_a_header),
        cmocka_unit_test(test_a_header_where_none_is_expected),
        cmocka_unit_test(test_a_header_that_does_not_come),
        cmocka_unit_test(test_tls_that_a_proxy_ended),
        cmocka_unit_test(test_rates_count_who_is_behind_the_proxy),
        cmocka_unit_test(test_xclient),
        cmocka_unit_test(test_a_login_by_xclient),
        cmocka_unit_test(test_attributes_that_are_wrong),
        cmocka_unit_test(test_xforward),
        cmocka_unit_test(test_strangers_speak_neither),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
