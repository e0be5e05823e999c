/* TLS as a session meets it: STARTTLS and implicit, what comes too early, certificates of clients. */

#include "tests/unit/inbound/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/net/tls_test.h"

static char sections[1024], relay[512];

static const char *tls_section(const char *more)
{
    snprintf(sections, sizeof(sections),
             "tls { certificate = \"%s\" private_key = \"%s\" client_ca = \"%s\" }\n%s",
             tls_test_files.server.certificate_path, tls_test_files.server.key_path,
             tls_test_files.authority.certificate_path, more);
    return sections;
}

static struct world *world_of(const char *listener, const char *more)
{
    return world_new_with(&(struct world_config){.listener = listener, .more = tls_section(more)});
}

static const char *users_section(void)
{
    static char text[256];
    snprintf(text, sizeof(text), "auth { users = \"%s\" failure_delay = \"0s\" }\n",
             world_file("user:$6$NaCl5alt$g7J23aynDN2pUF4fQygLWdmzc.zfynvHoss7K/ypzP6vFvHnnYHs3Q0qIipbx/"
                        "UMdeAcOuOtsWmjPyNTJzaxl/:-\n"));
    return text;
}
#define LOGIN "C: AUTH PLAIN AHVzZXIAc2VjcmV0", "S: 235 2.7.0 *"

static void test_starttls(void **state)
{
    struct world *world = world_of("tls = \"starttls\"", "");
    struct client *client = client_new(world, NULL);
    client_expect(client, "220 *");
    CONVERSE(client, "C: STARTTLS", "S: 503 5.5.1 Send EHLO first");
    client_ehlo(client, "STARTTLS");
    CONVERSE(client, "C: MAIL FROM:<a@b>", "S: 250 *", "C: STARTTLS",
             "S: 503 5.5.1 Not within a mail transaction", "C: RSET", "S: 250 *", "C: STARTTLS now",
             "S: 501 5.5.4 *", "C: STARTTLS", "S: 220 2.0.0 Ready to start TLS");
    assert_true(client_secure(client, NULL));
    /* All that was said is forgotten (RFC 3207 §4.2). */
    CONVERSE(client, "C: MAIL FROM:<a@b>", "S: 503 5.5.1 Send HELO or EHLO first");
    client_ehlo_without(client, "STARTTLS");
    CONVERSE(client, "C: STARTTLS", "S: 503 5.5.1 TLS is in use already");
    client_send_message(client, "x\r\n");
    CONVERSE(client, "S: 250 2.0.0 *");
    client_envelope(client);
    CONVERSE(client, "C| BDAT 3 LAST\r\ny\r\n", "S: 250 2.0.0 *");
    client_quit(client);
    expect_body(&world->queue.messages[0], "x\r\n");
    expect_body(&world->queue.messages[1], "y\r\n");
    assert_non_null(
        memmem(world->queue.messages[0].content, world->queue.messages[0].size, "with ESMTPS ", 12));
    expect_log(world, " tls=TLSv1.3/TLS_");
    client_free(client);
    world_free(world);
}

static void test_implicit(void **state)
{
    struct world *world = world_of("tls = \"implicit\"", "");
    struct client *client = client_new(world, NULL);
    assert_true(client_secure(client, NULL));
    client_expect(client, "220 relay.test ESMTP Sluice");
    client_ehlo_without(client, "STARTTLS");
    client_send_message(client, "x\r\n");
    CONVERSE(client, "S: 250 2.0.0 *");
    client_quit(client);
    client_free(client);
    world_free(world);
}

static void test_a_delayed_greeting_comes_through_tls(void **state)
{
    struct world *world = world_of("tls = \"implicit\" greeting_delay = \"100ms\"", "");
    struct client *client = client_new(world, "192.0.2.7");
    assert_true(client_secure(client, NULL));
    client_hello(client);
    client_quit(client);
    client_free(client);
    struct client *early = client_new(world, "192.0.2.7");
    assert_true(client_secure(early, NULL));
    CONVERSE(early, "C: EHLO x", "S: 554 5.5.0 You spoke before the greeting", "-- closed");
    client_free(early);
    world_free(world);
}

/* Octets behind STARTTLS in one packet: an attacker's, who wants them to be read as if they came through TLS.
 */
static void test_nothing_in_the_clear_is_read_behind_starttls(void **state)
{
    struct world *world = world_of("tls = \"starttls\"", "");
    struct client *client = client_new(world, NULL);
    client_hello(client);
    CONVERSE(client, "C| STARTTLS\r\nMAIL FROM:<evil@b>\r\nRSET\r\n",
             "S: 554 5.5.0 Nothing may follow this command*", "-- closed");
    world_wait_empty(world);
    expect_log(world, "reason=out-of-step");
    client_free(client);
    /* The same in two packets is a part of the handshake, which fails. */
    client = client_new(world, NULL);
    client_hello(client);
    CONVERSE(client, "C: STARTTLS", "S: 220 *", "C: MAIL FROM:<evil@b>");
    world_wait_empty(world);
    expect_log(world, "reason=tls");
    assert_null(strstr(world_log(world), "evil"));
    assert_int_equal(world->queue.message_count, 0);
    client_free(client);
    world_free(world);
}

/* Whatever comes in which piece, the session never says more than 220 or 554. */
static void test_every_cut_behind_starttls(void **state)
{
    static const char text[] = "STARTTLS\r\nNOOP\r\nNOOP\r\n";
    struct world *world = world_of("tls = \"starttls\"", "");
    for (size_t cut = 1; cut < sizeof(text) - 1; cut++) {
        struct client *client = client_new(world, NULL);
        client_hello(client);
        client_send(client, text, cut);
        client_send(client, text + cut, sizeof(text) - 1 - cut);
        const char *got = client_transcript(client);
        assert_null(strstr(got, "250 "));
        assert_true(memcmp(got, "220 2.0.0", 9) == 0 || memcmp(got, "554 5.5.0", 9) == 0);
        client_free(client);
        world_clear(world);
    }
    world_free(world);
}

static void test_a_slow_handshake_times_out(void **state)
{
    struct world *world = world_of("tls = \"implicit\"", "timeouts { inbound_handshake = \"200ms\" }\n");
    struct client *client = client_new(world, NULL);
    assert_string_equal(client_transcript(client), ""); /* nobody could read what we say */
    client_free(client);
    world_wait_empty(world);
    expect_log(world, "reason=timeout");
    world_free(world);
}

static void test_a_handshake_that_fails(void **state)
{
    struct world *world = world_of("tls = \"implicit\"", "");
    struct client *client = client_new(world, NULL);
    client_send(client, "EHLO x\r\n", 8);
    world_wait_empty(world);
    expect_log(world, "reason=tls tls_error=");
    client_free(client);
    world_free(world);
}

static void shut_tls(struct client *client)
{
    assert_true(SSL_shutdown(client->tls->session) >= 0);
    tls_peer_pump(client->tls, client->world->loop);
}

/* close_notify within content: no octet behind it counts, nothing is taken. */
static void test_the_end_of_tls_ends_the_session(void **state)
{
    static const char *const begins[] = {"DATA\r\nx\r\n", "BDAT 30 LAST\r\nx", "BDAT 1\r\nx", "NO"};
    struct world *world = world_of("tls = \"implicit\"", "");
    for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++) {
        struct client *client = client_new(world, NULL);
        assert_true(client_secure(client, NULL));
        client_hello(client);
        client_envelope(client);
        client_send(client, begins[i], strlen(begins[i]));
        shut_tls(client);
        assert_true(send(client->fd, ".\r\n", 3, MSG_NOSIGNAL) == 3);
        world_wait_empty(world);
        assert_int_equal(world->queue.message_count, 0);
        client_free(client);
        world_clear(world);
    }
    world_free(world);
}

static void test_logins_are_offered_under_tls_only(void **state)
{
    struct world *world = world_of("tls = \"starttls\" auth = \"optional\"", users_section());
    struct client *client = client_new(world, "192.0.2.7");
    client_expect(client, "220 *");
    client_ehlo_without(client, "AUTH*");
    CONVERSE(client, "C: AUTH PLAIN AHVzZXIAc2VjcmV0", "S: 538 5.7.11 A login needs TLS: send STARTTLS first",
             "C: STARTTLS", "S: 220 *");
    assert_true(client_secure(client, NULL));
    client_ehlo(client, "AUTH PLAIN LOGIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS");
    CONVERSE(client, LOGIN, "C: MAIL FROM:<a@b>", "S: 250 *", "C: RCPT TO:<x@example.net>", "S: 250 *", //
             "C: DATA", "S: 354 *", "C: .", "S: 250 2.0.0 *");
    client_quit(client);
    assert_non_null(
        memmem(world->queue.messages[0].content, world->queue.messages[0].size, "with ESMTPSA ", 13));
    client_free(client);
    world_free(world);
}

/* A login in the clear, where that is allowed, is forgotten with STARTTLS, and may come again. */
static void test_a_login_before_starttls_does_not_count(void **state)
{
    struct world *world =
        world_of("tls = \"starttls\" auth = \"optional\" auth_without_tls = true", users_section());
    struct client *client = client_new(world, "192.0.2.7");
    client_hello(client);
    CONVERSE(client, LOGIN, "C: STARTTLS", "S: 220 *");
    assert_true(client_secure(client, NULL));
    client_ehlo(client, "AUTH*");
    CONVERSE(client, "C: MAIL FROM:<a@b>", "S: 250 *", "C: RCPT TO:<x@example.net>",
             "S: 550 5.7.1 Relaying denied", "C: RSET", "S: 250 *", LOGIN, "C: MAIL FROM:<a@b>", "S: 250 *",
             "C: RCPT TO:<x@example.net>", "S: 250 *");
    client_quit(client);
    client_free(client);
    world_free(world);
}

static const struct tls_test_certificate *shown;

static void show(struct tls_peer *peer)
{
    tls_peer_show(peer, shown);
}

/* By its name or its fingerprint; one that was not signed by whom we trust is nobody's. */
static void test_certificates_permit_relaying(void **state)
{
    static const struct {
        const struct tls_test_certificate *certificate; /* NULL: none */
        const char *reply;
    } table[] = {
        {NULL, "550 5.7.1 Relaying denied"},
        {&tls_test_files.client, "250 2.1.5 Ok"},
        {&tls_test_files.named, "550 5.7.1 Relaying denied"},
        {&tls_test_files.stranger, "550 5.7.1 Relaying denied"},
        {&tls_test_files.impostor, "550 5.7.1 Relaying denied"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct world *world = world_new_with(
            &(struct world_config){.listener = "tls = \"starttls\" client_certificate = \"ask\"",
                                   .relay = "client_certificates = {\"client.example.com\"}",
                                   .more = tls_section("")});
        struct client *client = client_new(world, "192.0.2.7");
        client_hello(client);
        CONVERSE(client, "C: MAIL FROM:<a@b>", "S: 250 *", "C: RCPT TO:<x@example.net>", "S: 550 5.7.1 *",
                 "C: RSET", "S: 250 *", "C: STARTTLS", "S: 220 *");
        shown = table[i].certificate;
        assert_true(client_secure(client, shown != NULL ? show : NULL));
        client_ehlo(client, "PIPELINING");
        CONVERSE(client, "C: MAIL FROM:<a@b>", "S: 250 *", "C: RCPT TO:<x@example.net>");
        client_expect(client, table[i].reply);
        client_quit(client);
        client_free(client);
        world_free(world);
    }
}

static void test_a_fingerprint_permits_relaying(void **state)
{
    uint8_t digest[32];
    unsigned size = 0;
    assert_int_equal(X509_digest(tls_test_files.named.certificate, EVP_sha256(), digest, &size), 1);
    size_t at = (size_t)snprintf(relay, sizeof(relay), "client_certificates = {\"sha256:");
    for (size_t i = 0; i < sizeof(digest); i++)
        at += (size_t)snprintf(relay + at, sizeof(relay) - at, "%02x", digest[i]);
    snprintf(relay + at, sizeof(relay) - at, "\"}");
    struct world *world = world_new_with(
        &(struct world_config){.listener = "tls = \"implicit\" client_certificate = \"require\"",
                               .relay = relay,
                               .more = tls_section("")});
    struct client *client = client_new(world, "192.0.2.7");
    shown = &tls_test_files.named;
    assert_true(client_secure(client, show));
    client_hello(client);
    CONVERSE(client, "C: MAIL FROM:<a@b>", "S: 250 *", "C: RCPT TO:<x@example.net>", "S: 250 2.1.5 Ok");
    client_quit(client);
    client_free(client);
    world_free(world);
}

static void test_handshakes_are_counted(void **state)
{
    struct world *world = world_of("tls = \"starttls\"", "rate \"client\" { handshakes_per_minute = 1 }\n");
    struct client *client = client_new(world, "192.0.2.7");
    client_hello(client);
    CONVERSE(client, "C: STARTTLS", "S: 220 2.0.0 *");
    assert_true(client_secure(client, NULL));
    struct client *next = client_new(world, "192.0.2.7");
    client_hello(next);
    CONVERSE(next, "C: STARTTLS", "S: 421 4.7.0 Too many TLS handshakes, try again later", "-- closed");
    client_ehlo(client, "PIPELINING");
    client_quit(client);
    client_free(client);
    client_free(next);
    world_free(world);
}

/* A proxy that passes TLS through sends its header and the client's first octets as they come: in one packet,
 * too. */
static void test_a_proxy_header_before_a_handshake(void **state)
{
    static const char header[] = "PROXY TCP4 192.0.2.7 127.0.0.1 4321 465\r\n";
    struct world *world =
        world_of("tls = \"implicit\" proxy_protocol = true proxy_networks = {\"127.0.0.1\"}", "");
    for (int together = 0; together < 2; together++) {
        struct client *client = client_new(world, NULL);
        uint8_t hello[4096];
        struct tls_peer *peer = calloc(1, sizeof(*peer));
        assert_non_null(peer);
        tls_peer_open(peer, client->fd, TLS1_2_VERSION, TLS1_3_VERSION);
        assert_true(SSL_do_handshake(peer->session) < 0);
        const size_t header_size = sizeof(header) - 1;
        memcpy(hello, header, header_size);
        const int hello_size = BIO_read(peer->out, hello + header_size, (int)(sizeof(hello) - header_size));
        assert_true(hello_size > 0);
        if (!together)
            client_send(client, header, header_size);
        client_send(client, (char *)hello + (together ? 0 : header_size),
                    (size_t)hello_size + (together ? header_size : 0));
        assert_true(tls_peer_shake(peer, world->loop));
        client->tls = peer;
        client_hello(client);
        client_quit(client);
        client_free(client);
    }
    expect_log(world, "connect client=192.0.2.7:4321");
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_starttls),
        cmocka_unit_test(test_implicit),
        cmocka_unit_test(test_a_delayed_greeting_comes_through_tls),
        cmocka_unit_test(test_nothing_in_the_clear_is_read_behind_starttls),
        cmocka_unit_test(test_every_cut_behind_starttls),
        cmocka_unit_test(test_a_slow_handshake_times_out),
        cmocka_unit_test(test_a_handshake_that_fails),
        cmocka_unit_test(test_the_end_of_tls_ends_the_session),
        cmocka_unit_test(test_logins_are_offered_under_tls_only),
        cmocka_unit_test(test_certificates_permit_relaying),
        cmocka_unit_test(test_a_fingerprint_permits_relaying),
        cmocka_unit_test(test_handshakes_are_counted),
        cmocka_unit_test(test_a_proxy_header_before_a_handshake),
        cmocka_unit_test(test_a_login_before_starttls_does_not_count),
    };
    return cmocka_run_group_tests(tests, tls_test_files_make, tls_test_files_remove);
}
