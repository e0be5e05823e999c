/* TLS to the next hop: each level, and what follows when it does not come about. */
#include <stdlib.h>
#include <string.h>

#include "tests/unit/net/tls_test.h"
#include "tests/unit/outbound/play.h"

#define GREET  "S: 220 peer.test", "C: EHLO relay.test"
#define OFFER  GREET, "S: 250-peer.test", "S: 250 STARTTLS", "C: STARTTLS"
#define SECURE OFFER, "S: 220 go", "T"
#define AGAIN  "C: EHLO relay.test", "S: 250 peer.test"
#define SEND   "C~ MAIL", "S: 250 ok", "C~ RCPT", "S: 250 ok", "C: DATA", "S: 354 go", "D", "A: 250 ok"
#define END    "C: QUIT", "S: 221 bye", "E"
/* What we say must come in the clear. */
#define CLEAR GREET, "S: 250-peer.test", "S: 250 STARTTLS", SEND, END

static struct {
    struct tls_test_certificate here; /* by the authority: localhost */
    struct tls_test_certificate away; /* by the authority: *.away.test */
} files;

static void use(const struct tls_test_certificate *certificate)
{
    SSL_CTX_free(peer_means.tls);
    peer_means.tls = SSL_CTX_new(TLS_method());
    assert_non_null(peer_means.tls);
    assert_int_equal(SSL_CTX_use_certificate(peer_means.tls, certificate->certificate), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(peer_means.tls, certificate->key), 1);
}

static int make_files(void **state)
{
    tls_test_files_make(state);
    tls_test_make(&files.here, "here", "here", "DNS:localhost", NID_subject_alt_name,
                  &tls_test_files.authority, -3600, 86400);
    tls_test_make(&files.away, "away", "away", "DNS:*.away.test", NID_subject_alt_name,
                  &tls_test_files.authority, -3600, 86400);
    return 0;
}

static int remove_files(void **state)
{
    SSL_CTX_free(peer_means.tls);
    tls_test_unmake(&files.here);
    tls_test_unmake(&files.away);
    return tls_test_files_remove(state);
}

/* By host name, at this level; the peer shows this certificate. */
static int begin(const char *route, const struct tls_test_certificate *certificate)
{
    world_means = (struct world_means){
        .to = "smtp://localhost", .route = route, .ca_file = tls_test_files.authority.certificate_path};
    use(certificate);
    return 0;
}

static int end(void **state)
{
    world_means = (struct world_means){0};
    return 0;
}

static void check_two(char *log, const char *part, const char *other)
{
    if (strstr(log, part) == NULL)
        fail_msg("no \"%s\" in:\n%s", part, log);
    check_log(log, other);
}

/* --- none --- */

static void none_takes_no_offer(void **state)
{
    struct message messages[] = {ONE()};
    begin("tls = \"none\"", &files.here);
    free(play(SCRIPTS(SCRIPT(CLEAR)), messages, 1, "D", NULL));
}

/* --- may --- */

static void may_is_the_default_and_takes_the_offer(void **state)
{
    struct message messages[] = {ONE()};
    begin(NULL, &files.here);
    check_log(play(SCRIPTS(SCRIPT(SECURE, AGAIN, SEND, END)), messages, 1, "D", NULL), "tls=\"TLSv1.3/TLS_");
}

static void may_asks_for_no_verification(void **state)
{
    struct message messages[] = {ONE()};
    begin("tls = \"may\"", &tls_test_files.stranger);
    char *log = play(SCRIPTS(SCRIPT(SECURE, AGAIN, SEND, END)), messages, 1, "D", NULL);
    assert_null(strstr(log, "verified"));
    check_log(log, "TLSv1.3/TLS_");
}

static void may_goes_in_the_clear_where_it_must(void **state)
{
    struct message messages[] = {ONE()};
    begin("tls = \"may\"", &files.here);
    char *log = play(SCRIPTS(SCRIPT(GREET, "S: 250 peer.test", SEND, END)), messages, 1, "D", NULL);
    assert_null(strstr(log, "tls="));
    free(log);
    free(play(SCRIPTS(SCRIPT(OFFER, "S: 454 4.7.0 not now", SEND, END)), messages, 1, "D", NULL));
    free(play(SCRIPTS(SCRIPT(OFFER, "S: 502 5.5.1 what", SEND, END)), messages, 1, "D", NULL));
}

static void may_goes_in_the_clear_once_a_handshake_failed(void **state)
{
    struct message messages[] = {ONE(), ONE()};
    begin("tls = \"may\" site \"default\" { }", &files.here);
    world_means.route = "tls = \"may\"";
    char *log = play(SCRIPTS(SCRIPT(OFFER, "S: 220 go", "W", "S: 500 that is no TLS", "X"),
                             SCRIPT(GREET, "S: 250-peer.test", "S: 250 STARTTLS", SEND, "X"), SCRIPT(CLEAR)),
                     messages, 2, "DD", NULL);
    const char *first = strstr(log, "TLS failed, so mail goes in the clear");
    assert_non_null(first);
    assert_null(strstr(first + 1, "TLS failed, so mail goes in the clear"));
    assert_null(strstr(log, "defer"));
    check_log(log, "tls=WRONG_VERSION_NUMBER");
}

static void may_goes_in_the_clear_once_the_peer_left_at_the_handshake(void **state)
{
    struct message messages[] = {ONE()};
    begin("tls = \"may\"", &files.here);
    check_log(play(SCRIPTS(SCRIPT(OFFER, "S: 220 go", "X"), SCRIPT(CLEAR)), messages, 1, "D", NULL),
              "TLS failed, so mail goes in the clear");
    check_log(play(SCRIPTS(SCRIPT(OFFER, "X"), SCRIPT(CLEAR)), messages, 1, "D", NULL),
              "TLS failed, so mail goes in the clear");
}

static void may_goes_in_the_clear_when_starttls_gets_a_strange_answer(void **state)
{
    struct message messages[] = {ONE()};
    begin("tls = \"may\"", &files.here);
    check_log(play(SCRIPTS(SCRIPT(OFFER, "S: 250 ok", "E"), SCRIPT(CLEAR)), messages, 1, "D", NULL),
              "tls=\"unexpected reply to STARTTLS\"");
}

/* --- encrypt --- */

static void encrypt_asks_for_no_verification(void **state)
{
    struct message messages[] = {ONE()};
    begin("tls = \"encrypt\"", &tls_test_files.stranger);
    check_log(play(SCRIPTS(SCRIPT(SECURE, AGAIN, SEND, END)), messages, 1, "D", NULL), "tls=TLSv1.3/TLS_");
}

static void encrypt_never_goes_in_the_clear(void **state)
{
    struct message messages[] = {ONE()};
    begin("tls = \"encrypt\"", &files.here);
    check_two(play(SCRIPTS(SCRIPT(GREET, "S: 250 peer.test", "E")), messages, 1, "F", NULL),
              "4.7.4 localhost[127.0.0.1:", "does not offer STARTTLS, which is demanded");
    check_two(play(SCRIPTS(SCRIPT(GREET, "S: 502 what", "C: HELO relay.test", "S: 250 hi", "E")), messages, 1,
                   "F", NULL),
              "4.7.4 localhost[127.0.0.1:", "does not offer STARTTLS, which is demanded");
    check_two(play(SCRIPTS(SCRIPT(OFFER, "S: 454 4.7.0 not now", "E")), messages, 1, "F", NULL),
              "4.7.4 localhost[127.0.0.1:", "refused STARTTLS: 454 4.7.0 not now");
    check_two(
        play(SCRIPTS(SCRIPT(OFFER, "S: 220 go", "W", "S: 500 that is no TLS", "E")), messages, 1, "F", NULL),
        "4.7.5 localhost[127.0.0.1:", "could not be brought to TLS: WRONG_VERSION_NUMBER");
    check_two(play(SCRIPTS(SCRIPT(OFFER, "S: 220 go", "X")), messages, 1, "F", NULL),
              "4.7.5 localhost[127.0.0.1:", "could not be brought to TLS");
    check_two(play(SCRIPTS(SCRIPT(OFFER, "X")), messages, 1, "F", NULL),
              "4.7.5 localhost[127.0.0.1:", "could not be brought to TLS: the peer closed the connection");
}

/* --- verify --- */

static void verify_takes_the_certificate_of_the_host(void **state)
{
    struct message messages[] = {ONE()};
    begin("tls = \"verify\"", &files.here);
    check_log(play(SCRIPTS(SCRIPT(SECURE, AGAIN, SEND, END)), messages, 1, "D", NULL), " verified\"");
}

static void verify_takes_no_other(void **state)
{
    struct message messages[] = {ONE()};
    const struct tls_test_certificate *others[] = {&files.away, &tls_test_files.server,
                                                   &tls_test_files.stranger};

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        begin("tls = \"verify\"", others[i]);
        check_log(play(SCRIPTS(SCRIPT(OFFER, "S: 220 go", "t", "X")), messages, 1, "F", NULL),
                  "4.7.5 localhost[127.0.0.1:");
    }
    begin("tls = \"verify\"", &files.here);
    world_means.ca_file = tls_test_files.server.certificate_path;
    check_log(play(SCRIPTS(SCRIPT(OFFER, "S: 220 go", "t", "X")), messages, 1, "F", NULL),
              "4.7.5 localhost[127.0.0.1:");
}

static void verify_takes_the_names_of_the_route(void **state)
{
    static const struct {
        const char *route;
        const struct tls_test_certificate *certificate;
        const char *outcome;
    } cases[] = {
        {"tls = \"verify\" tls_names = {\"mx.away.test\"}", &files.away, "D"},
        {"tls = \"verify\" tls_names = {\"other.test\", \"mx.away.test\"}", &files.away, "D"},
        {"tls = \"verify\" tls_names = {\"mx.away.test\"}", &files.here,
         "D"}, /* the host's name counts, too */
        {"tls = \"verify\" tls_names = {\"a.mx.away.test\"}", &files.away, "F"},
        {"tls = \"verify\" tls_names = {\"away.test\"}", &files.away, "F"},
        {"tls = \"verify\" tls_names = {\"mx.example.org\"}", &tls_test_files.server, "F"},
    };
    struct message messages[] = {ONE()};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        begin(cases[i].route, cases[i].certificate);
        if (cases[i].outcome[0] == 'D')
            check_log(play(SCRIPTS(SCRIPT(SECURE, AGAIN, SEND, END)), messages, 1, "D", NULL), " verified\"");
        else
            check_log(play(SCRIPTS(SCRIPT(OFFER, "S: 220 go", "t", "X")), messages, 1, "F", NULL),
                      "showed a certificate that is not to be trusted");
    }
}

/* The same host, by one route that demands verification and one that does not. */
static void verified_mail_never_rides_an_unverified_connection(void **state)
{
    static struct world world;
    static struct peer peer;
    struct message messages[] = {ONE(), ONE()};
    char more[256];

    begin("tls = \"may\"", &tls_test_files.stranger);
    messages[1].to[0] = "b@other.test";
    peer_start(&peer, SCRIPTS(SCRIPT(SECURE, AGAIN, SEND, "Q", "X"), SCRIPT(OFFER, "S: 220 go", "t", "X")),
               SIZE_MAX);
    snprintf(more, sizeof(more),
             "route \"other.test\" { to = \"smtp://localhost:%u\" tls = \"verify\" }\n"
             "site \"default\" { connections = 1 }",
             peer.port);
    world_init(&world, (uint16_t[]){peer.port, 0}, more);
    world_send(&world, &messages[0]);
    world_run_home(&world, 1);
    assert_int_equal(outbound_session_count(&world.outbound), 1); /* it stands, and has room */
    world_send(&world, &messages[1]);
    world_run_home(&world, 2);
    assert_int_equal(messages[0].targets[0].outcome, QUEUE_DONE);
    assert_int_equal(messages[1].targets[0].outcome, QUEUE_DEFER);
    world_deinit(&world);
    peer_stop(&peer);
    if (peer.failure[0] != 0)
        fail_msg("%s", peer.failure);
}

/* --- RFC 3207 §4.2 --- */

static void what_was_said_before_the_handshake_is_thrown_away(void **state)
{
    struct message messages[] = {ONE()};
    begin("tls = \"encrypt\"", &files.here);
    free(play(SCRIPTS(SCRIPT(OFFER, "R: 220 go\r\n250-injected\r\n250 SIZE 1\r\n550 5.1.1 nobody\r\n", "T",
                             AGAIN, SEND, END)),
              messages, 1, "D", NULL));
}

static void what_was_announced_before_the_handshake_is_forgotten(void **state)
{
    struct message messages[] = {TWO()};
    begin("tls = \"encrypt\"", &files.here);
    free(play(
        SCRIPTS(SCRIPT(GREET, "S: 250-peer.test", "S: 250-PIPELINING", "S: 250-SIZE 3", "S: 250 STARTTLS",
                       "C: STARTTLS", "S: 220 go", "T", "C: EHLO relay.test", "S: 250 peer.test",
                       "C: MAIL FROM:<a@from.test>", "Q", "S: 250 ok", "C~ RCPT", "Q", "S: 250 ok", "C~ RCPT",
                       "S: 250 ok", "C: DATA", "S: 354 go", "D", "A: 250 ok", END)),
        messages, 1, "DD", NULL));
    free(play(SCRIPTS(SCRIPT(SECURE, "C: EHLO relay.test", "S: 250-peer.test", "S: 250 PIPELINING",
                             "C: MAIL FROM:<a@from.test>", "C~ RCPT", "C~ RCPT", "C: DATA", "Q", "S: 250 ok",
                             "S: 250 ok", "S: 250 ok", "S: 354 go", "D", "A: 250 ok", END)),
              messages, 1, "DD", NULL));
}

static void the_session_is_resumed(void **state)
{
    static struct world world;
    static struct peer peer;
    struct message messages[] = {ONE(), ONE()};

    begin("tls = \"verify\"", &files.here);
    peer_start(&peer,
               SCRIPTS(SCRIPT(OFFER, "S: 220 go", "T-", AGAIN, SEND, END),
                       SCRIPT(OFFER, "S: 220 go", "T+", AGAIN, SEND, END)),
               SIZE_MAX);
    world_init(&world, (uint16_t[]){peer.port, 0},
               "site \"default\" { connections = 1 messages_per_connection = 1 }");
    for (uint32_t i = 0; i < 2; i++) {
        world_send(&world, &messages[i]);
        world_run_home(&world, i + 1);
        world_run_closed(&world);
    }
    world_deinit(&world);
    peer_stop(&peer);
    if (peer.failure[0] != 0)
        fail_msg("%s", peer.failure);
}

/* --- A reload --- */

/* What was verified by other CAs carries nothing more; with the same it goes on. */
static void other_cas_need_other_connections(void **state)
{
    static struct world world;
    static struct peer peer;
    static const char more[] = "site \"default\" { connections = 1 }";
    struct message messages[] = {ONE(), ONE(), ONE()};

    begin("tls = \"verify\"", &files.here);
    peer_start(&peer, SCRIPTS(SCRIPT(SECURE, AGAIN, SEND, SEND, END), SCRIPT(OFFER, "S: 220 go", "t", "X")),
               SIZE_MAX);
    uint16_t ports[] = {peer.port, 0};
    world_init(&world, ports, more);
    world_send(&world, &messages[0]);
    world_run_home(&world, 1);
    world_reload(&world, ports, more);
    world_send(&world, &messages[1]);
    world_run_home(&world, 2);
    world_means.ca_file = tls_test_files.stranger.certificate_path;
    world_reload(&world, ports, more);
    world_send(&world, &messages[2]);
    world_run_home(&world, 3);
    assert_int_equal(messages[1].targets[0].outcome, QUEUE_DONE);
    assert_int_equal(messages[2].targets[0].outcome, QUEUE_DEFER);
    world_deinit(&world);
    peer_stop(&peer);
    if (peer.failure[0] != 0)
        fail_msg("%s", peer.failure);
}

/* --- Refused after all --- */

static void a_421_to_starttls_is_about_no_level(void **state)
{
    struct message messages[] = {ONE()};
    begin("tls = \"may\"", &files.here);
    check_log(play(SCRIPTS(SCRIPT(OFFER, "S: 421 4.3.2 too many of you", "E")), messages, 1, "F", NULL),
              "421 4.3.2 too many of you");
}

static void helo_after_the_handshake_is_still_secured(void **state)
{
    struct message messages[] = {ONE()};
    begin("tls = \"encrypt\"", &files.here);
    free(play(SCRIPTS(SCRIPT(SECURE, "C: EHLO relay.test", "S: 502 what", "C: HELO relay.test", "S: 250 hi",
                             SEND, END)),
              messages, 1, "D", NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(none_takes_no_offer, end),
        cmocka_unit_test_teardown(may_is_the_default_and_takes_the_offer, end),
        cmocka_unit_test_teardown(may_asks_for_no_verification, end),
        cmocka_unit_test_teardown(may_goes_in_the_clear_where_it_must, end),
        cmocka_unit_test_teardown(may_goes_in_the_clear_once_a_handshake_failed, end),
        cmocka_unit_test_teardown(may_goes_in_the_clear_once_the_peer_left_at_the_handshake, end),
        cmocka_unit_test_teardown(may_goes_in_the_clear_when_starttls_gets_a_strange_answer, end),
        cmocka_unit_test_teardown(encrypt_asks_for_no_verification, end),
        cmocka_unit_test_teardown(encrypt_never_goes_in_the_clear, end),
        cmocka_unit_test_teardown(verify_takes_the_certificate_of_the_host, end),
        cmocka_unit_test_teardown(verify_takes_no_other, end),
        cmocka_unit_test_teardown(verify_takes_the_names_of_the_route, end),
        cmocka_unit_test_teardown(verified_mail_never_rides_an_unverified_connection, end),
        cmocka_unit_test_teardown(what_was_said_before_the_handshake_is_thrown_away, end),
        cmocka_unit_test_teardown(what_was_announced_before_the_handshake_is_forgotten, end),
        cmocka_unit_test_teardown(the_session_is_resumed, end),
        cmocka_unit_test_teardown(other_cas_need_other_connections, end),
        cmocka_unit_test_teardown(a_421_to_starttls_is_about_no_level, end),
        cmocka_unit_test_teardown(helo_after_the_handshake_is_still_secured, end),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
