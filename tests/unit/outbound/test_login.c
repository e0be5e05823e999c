/* Logging in at the next hop, which here is this machine itself, so that the clear will do. */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/sasl/users.h"
#include "tests/unit/net/tls_test.h"
#include "tests/unit/outbound/play.h"

#define GREET        "S: 220 peer.test", "C: EHLO relay.test", "S: 250-peer.test"
#define OFFER(names) GREET, "S: 250 AUTH " names
#define SEND         "C~ MAIL", "S: 250 ok", "C~ RCPT", "S: 250 ok", "C: DATA", "S: 354 go", "D", "A: 250 ok"
#define END          "C: QUIT", "S: 221 bye", "E"
#define PLAIN_PENCIL "C: AUTH PLAIN AHVzZXIAcGVuY2ls"

static struct users *users;
static char path[] = "/tmp/sluice-outbound-login";

static const char *write_file(const char *text)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    return path;
}

/* user, with the password pencil: RFC 7677 §3. */
static int make_users(void **state)
{
    char error[256];
    int result = users_load(
        write_file(
            "user:-:SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
            ":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\n"),
        &users, error, sizeof(error));
    if (result < 0 && chmod(path, 0600) == 0)
        result = users_load(path, &users, error, sizeof(error));
    if (result < 0)
        fail_msg("%s", error);
    peer_means.users = users;
    return 0;
}

static int free_users(void **state)
{
    users_free(users);
    unlink(path);
    return 0;
}

static int end(void **state)
{
    world_means = (struct world_means){0};
    return 0;
}

static void begin(const char *passwords)
{
    world_means = (struct world_means){.passwords = write_file(passwords)};
}

static void the_best_mechanism_logs_in(void **state)
{
    struct message messages[] = {ONE(), ONE()};
    begin("127.0.0.1 user pencil\n");
    free(play(SCRIPTS(SCRIPT(OFFER("PLAIN LOGIN SCRAM-SHA-256"), "L: SCRAM-SHA-256", SEND, SEND, END)),
              messages, 2, "DD", NULL));
    free(play(SCRIPTS(SCRIPT(OFFER("CRAM-MD5 LOGIN PLAIN"), "L: PLAIN", SEND, END)), messages, 1, "D", NULL));
    free(play(SCRIPTS(SCRIPT(OFFER("LOGIN"), "L: LOGIN", SEND, END)), messages, 1, "D", NULL));
    free(play(SCRIPTS(SCRIPT(GREET, "S: 250 AUTH=PLAIN", PLAIN_PENCIL, "S: 235 in", SEND, END)), messages, 1,
              "D", NULL));
}

static void nobody_logs_in_where_there_is_no_password(void **state)
{
    struct message messages[] = {ONE()};
    begin("192.0.2.1 user pencil\n127.0.0.1:1 user pencil\n");
    free(play(SCRIPTS(SCRIPT(OFFER("PLAIN"), SEND, END)), messages, 1, "D", NULL));
}

static void the_port_counts_before_the_host(void **state)
{
    static struct world world;
    static struct peer peer;
    struct message message = ONE();
    char text[128];

    peer_start(&peer, SCRIPTS(SCRIPT(OFFER("PLAIN"), PLAIN_PENCIL, "S: 235 in", SEND, "X")), SIZE_MAX);
    snprintf(text, sizeof(text), "127.0.0.1 other secret\n127.0.0.1:%u\tuser \tpencil\n", peer.port);
    begin(text);
    world_init(&world, (uint16_t[]){peer.port, 0}, "");
    world_send(&world, &message);
    world_run_home(&world, 1);
    assert_int_equal(message.targets[0].outcome, QUEUE_DONE);
    world_deinit(&world);
    peer_stop(&peer);
    assert_string_equal(peer.failure, "");
}

/* What is wrong is ours: the sender's mail waits. */
static void a_refused_login_defers(void **state)
{
    struct message messages[] = {ONE()};
    begin("127.0.0.1 user pencils\n");
    check_log(play(SCRIPTS(SCRIPT(OFFER("SCRAM-SHA-256"), "L: SCRAM-SHA-256", "E")), messages, 1, "F", NULL),
              "refused the login: 535 5.7.8 no");
    check_log(play(SCRIPTS(SCRIPT(OFFER("PLAIN"), "C~ AUTH PLAIN", "S: 535 5.7.8 no", "E")), messages, 1, "F",
                   NULL),
              "4.7.8 127.0.0.1:");
    check_log(play(SCRIPTS(SCRIPT(OFFER("PLAIN"), "C~ AUTH PLAIN", "S: 454 4.7.0 later", "E")), messages, 1,
                   "F", NULL),
              "4.7.0 127.0.0.1:");
    check_log(play(SCRIPTS(SCRIPT(OFFER("CRAM-MD5 GSSAPI"), "E")), messages, 1, "F", NULL),
              "offers no AUTH by SCRAM-SHA-256, PLAIN or LOGIN");
    check_log(play(SCRIPTS(SCRIPT(GREET, "S: 250 PIPELINING", "E")), messages, 1, "F", NULL),
              "4.7.4 127.0.0.1:");
    check_log(play(SCRIPTS(SCRIPT(OFFER("PLAIN"), "C~ AUTH", "S: 250 ok", "E")), messages, 1, "F", NULL),
              "unexpected reply to AUTH: 250 ok");
    begin("127.0.0.1 pencil\n");
    check_log(play(SCRIPTS(SCRIPT(OFFER("PLAIN"), "E")), messages, 1, "F", NULL), "that is no USER PASSWORD");
}

static void a_server_that_shows_nothing_is_not_believed(void **state)
{
    struct message messages[] = {ONE()};
    begin("127.0.0.1 user pencil\n");
    check_log(play(SCRIPTS(SCRIPT(OFFER("SCRAM-SHA-256"), "C~ AUTH SCRAM-SHA-256", "S: 235 in", "E")),
                   messages, 1, "F", NULL),
              "let us in without showing that it knows the password");
    check_log(play(SCRIPTS(SCRIPT(OFFER("SCRAM-SHA-256"), "C~ AUTH SCRAM-SHA-256", "S: 334 cj14", "E")),
                   messages, 1, "F", NULL),
              "the server's first message is not SCRAM's");
    check_log(
        play(SCRIPTS(SCRIPT(OFFER("SCRAM-SHA-256"), "C~ AUTH SCRAM-SHA-256", "S: 334-cj14", "S: 334 x", "E")),
             messages, 1, "F", NULL),
        "the challenge is not base64");
    check_log(play(SCRIPTS(SCRIPT(OFFER("LOGIN"), "C: AUTH LOGIN", "S: 334", "C: dXNlcg==", "S: 334 ",
                                  "C: cGVuY2ls", "S: 334 QWdhaW4=", "E")),
                   messages, 1, "F", NULL),
              "the server asks for more than the mechanism has");
}

/* HELO has no AUTH: such a host is not left to it. */
static void a_peer_that_closes_at_ehlo_is_not_given_helo(void **state)
{
    struct message messages[] = {ONE()};
    begin("127.0.0.1 user pencil\n");
    check_log(play(SCRIPTS(SCRIPT("S: 220 peer.test", "C: EHLO relay.test", "X")), messages, 1, "F", NULL),
              "waiting for the reply to EHLO");
}

static void the_password_goes_by_tls_where_there_is_some(void **state)
{
    struct message messages[] = {ONE()};
    tls_test_files_make(state);
    begin("127.0.0.1 user pencil\n");
    peer_means.tls = SSL_CTX_new(TLS_method());
    SSL_CTX_use_certificate(peer_means.tls, tls_test_files.server.certificate);
    SSL_CTX_use_PrivateKey(peer_means.tls, tls_test_files.server.key);
    free(play(
        SCRIPTS(SCRIPT(GREET, "S: 250-AUTH PLAIN", "S: 250 STARTTLS", "C: STARTTLS", "S: 220 go", "T",
                       "C: EHLO relay.test", "S: 250-peer.test", "S: 250 AUTH LOGIN", "L: LOGIN", SEND, END)),
        messages, 1, "D", NULL));
    SSL_CTX_free(peer_means.tls);
    peer_means.tls = NULL;
    tls_test_files_remove(state);
}

/* An address of this machine that is not its loopback; false: it has none. */
static bool find_address(char *text, size_t size)
{
    struct ifaddrs *all = NULL;
    bool found = false;

    assert_int_equal(getifaddrs(&all), 0);
    for (const struct ifaddrs *one = all; one != NULL && !found; one = one->ifa_next) {
        const struct sockaddr_in *address = (const struct sockaddr_in *)(const void *)one->ifa_addr;
        if (address == NULL || address->sin_family != AF_INET || (one->ifa_flags & IFF_LOOPBACK))
            continue;
        found = inet_ntop(AF_INET, &address->sin_addr, text, (socklen_t)size) != NULL;
    }
    freeifaddrs(all);
    return found;
}

static void the_password_is_not_sent_in_the_clear(void **state)
{
    struct message messages[] = {ONE()};
    char address[64], to[80], line[96];

    if (!find_address(address, sizeof(address)))
        skip();
    snprintf(to, sizeof(to), "smtp://%s", address);
    snprintf(line, sizeof(line), "%s user pencil\n", address);
    begin(line);
    world_means.to = to;
    peer_means.is_open = true;
    check_log(play(SCRIPTS(SCRIPT(OFFER("PLAIN SCRAM-SHA-256"), "E")), messages, 1, "F", NULL),
              "is not reached by TLS, so the password is not sent");
    peer_means.is_open = false;
}

/* Whoever was let in by another password, or by none, comes anew. */
static void other_passwords_need_other_connections(void **state)
{
    static struct world world;
    static struct peer peer;
    static const char more[] = "site \"default\" { connections = 1 }";
    struct message messages[] = {ONE(), ONE(), ONE()};

    begin("192.0.2.1 other secret\n");
    peer_start(&peer,
               SCRIPTS(SCRIPT(OFFER("PLAIN"), SEND, END),
                       SCRIPT(OFFER("PLAIN"), PLAIN_PENCIL, "S: 235 in", SEND, END),
                       SCRIPT(OFFER("PLAIN"), SEND, "X")),
               SIZE_MAX);
    uint16_t ports[] = {peer.port, 0};
    world_init(&world, ports, more);
    for (uint32_t i = 0; i < 3; i++) {
        world_send(&world, &messages[i]);
        world_run_home(&world, i + 1);
        assert_int_equal(messages[i].targets[0].outcome, QUEUE_DONE);
        write_file(i == 0 ? "127.0.0.1 user pencil\n" : "192.0.2.1 other secret\n");
        world_reload(&world, ports, more);
    }
    world_deinit(&world);
    peer_stop(&peer);
    if (peer.failure[0] != 0)
        fail_msg("%s", peer.failure);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(the_best_mechanism_logs_in, end),
        cmocka_unit_test_teardown(nobody_logs_in_where_there_is_no_password, end),
        cmocka_unit_test_teardown(the_port_counts_before_the_host, end),
        cmocka_unit_test_teardown(a_refused_login_defers, end),
        cmocka_unit_test_teardown(a_server_that_shows_nothing_is_not_believed, end),
        cmocka_unit_test_teardown(a_peer_that_closes_at_ehlo_is_not_given_helo, end),
        cmocka_unit_test_teardown(the_password_is_not_sent_in_the_clear, end),
        cmocka_unit_test_teardown(the_password_goes_by_tls_where_there_is_some, end),
        cmocka_unit_test_teardown(other_passwords_need_other_connections, end),
    };
    return cmocka_run_group_tests(tests, make_users, free_users);
}
