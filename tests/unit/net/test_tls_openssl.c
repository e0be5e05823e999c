/* Our client against the other family of TLS libraries: OpenSSL's own server, in a process of its own. */

#include "tls_wire.h"

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define OPENSSL "/usr/bin/openssl"

static struct tls_test_certificate mx; /* by the authority: mx.example.org */
static struct tls_client *client;
static char rsa_certificate[96]; /* by itself, made by openssl */
static char rsa_key[96];

struct peer {
    pid_t pid;
    FILE *output;
    struct sockaddr_in address;
};

static int setup(void **state)
{
    const struct tls_client_options options = {.ca_file = tls_test_files.authority.certificate_path,
                                               .verify_possible = true,
                                               .version_min = TLS1_VERSION,
                                               .certificate = tls_test_files.client.certificate_path,
                                               .private_key = tls_test_files.client.key_path};
    client = tls_wire_client_of(&options);
    return net_test_setup(state);
}

static int teardown(void **state)
{
    tls_client_free(client);
    return net_test_teardown(state);
}

static int make_all(void **state)
{
    if (tls_test_files_make(state) != 0)
        return -1;
    tls_test_make(&mx, "mx", "ignored", "DNS:mx.example.org", NID_subject_alt_name, &tls_test_files.authority,
                  -60, 86400);
    const char *directory = tls_test_files.directory;
    (void)snprintf(rsa_certificate, sizeof(rsa_certificate), "%s/rsa.pem", directory);
    (void)snprintf(rsa_key, sizeof(rsa_key), "%s/rsa.key", directory);
    if (access(OPENSSL, X_OK) < 0)
        return 0;
    char command[512];
    (void)snprintf(command, sizeof(command),
                   OPENSSL " req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=rsa -out %s -keyout %s "
                           ">/dev/null 2>&1",
                   rsa_certificate, rsa_key);
    return system(command) == 0 ? 0 : -1;
}

static int remove_all(void **state)
{
    tls_test_unmake(&mx);
    (void)unlink(rsa_certificate);
    (void)unlink(rsa_key);
    return tls_test_files_remove(state);
}

/* Starts `openssl s_server`, which sends every line back in reverse, and waits until it listens. */
static void peer_start(struct peer *peer, const char *certificate, const char *key, const char *const *flags)
{
    const char *arguments[32] = {"openssl",   "s_server", "-accept", "127.0.0.1:0", "-rev", "-cert",
                                 certificate, "-key",     key};
    size_t count = 9;
    for (; *flags != NULL; flags++) {
        assert_true(count < 30);
        arguments[count++] = *flags;
    }
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    peer->pid = fork();
    assert_true(peer->pid >= 0);
    if (peer->pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)dup2(fds[1], STDOUT_FILENO);
        (void)dup2(fds[1], STDERR_FILENO);
        close(fds[0]);
        execv(OPENSSL, (char *const *)(uintptr_t)arguments);
        _exit(127);
    }
    close(fds[1]);
    peer->output = fdopen(fds[0], "re");
    char line[256];
    unsigned port = 0;
    while (port == 0 && fgets(line, sizeof(line), peer->output) != NULL)
        (void)sscanf(line, "ACCEPT 127.0.0.1:%u", &port);
    assert_in_range(port, 1, 65535);
    peer->address = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void peer_stop(struct peer *peer)
{
    int status = 0;
    assert_int_equal(kill(peer->pid, SIGKILL), 0);
    assert_int_equal(waitpid(peer->pid, &status, 0), peer->pid);
    fclose(peer->output);
}

static struct tls_wire_names wanted;

static void start_when_connected(struct probe *probe)
{
    assert_int_equal(probe->connect_error, 0);
    probe->act_on = PROBE_EVENTS;
    conn_start_reading(&probe->conn, false);
    conn_start_tls_client(&probe->conn, client, wanted.server_name, wanted.verify_name, wanted.slot);
    conn_send_copy(&probe->conn, "EHLO\n", 5);
}

/* Connects and starts TLS; whether the answer came. The connection stands until probe_end. */
static bool visit(struct loop *loop, const struct peer *peer, struct probe *probe,
                  struct tls_wire_names names)
{
    wanted = names;
    probe_init(probe, loop);
    probe->act_on = PROBE_CONNECTED;
    probe->act = start_when_connected;
    assert_int_equal(
        conn_connect(&probe->conn, (const struct sockaddr *)&peer->address, sizeof(peer->address), NULL), 0);
    turn_until(loop, probe->received >= 5 || probe_is_closed(probe));
    if (probe_is_closed(probe))
        return false;
    assert_memory_equal(probe->text, "OLHE\n", 5);
    return true;
}

static void skip_without_openssl(void)
{
    if (access(OPENSSL, X_OK) < 0)
        skip();
}

static void versions_and_ciphers(void **state)
{
    static const struct {
        const char *flags[5];
        bool rsa;
        const char *version; /* NULL: no handshake */
        const char *cipher;
    } cases[] = {
        {{"-tls1_3"}, false, "TLSv1.3", "TLS_AES_"},
        {{"-tls1_3", "-groups", "P-521"}, false, "TLSv1.3", "TLS_AES_"}, /* our key share is refused first */
        {{"-tls1_2"}, false, "TLSv1.2", "TLS_ECDHE_ECDSA_WITH_AES_"},
        {{"-tls1_2"}, true, "TLSv1.2", "TLS_ECDHE_RSA_WITH_AES_"},
        {{"-tls1_2", "-cipher", "AES128-SHA"}, true, "TLSv1.2", "TLS_RSA_WITH_AES_128_CBC_SHA"},
        {{"-tls1_1", "-cipher", "ALL:@SECLEVEL=0"}, true, "TLSv1.1", "TLS_ECDHE_RSA_WITH_AES_"},
        {{"-tls1", "-cipher", "AES256-SHA:@SECLEVEL=0"}, true, "TLSv1", "TLS_RSA_WITH_AES_256_CBC_SHA"},
        {{"-tls1_2", "-cipher", "DHE-RSA-AES128-SHA"}, true, NULL, NULL}, /* the library has no DHE */
    };
    skip_without_openssl();
    for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
        struct peer peer;
        struct probe probe;
        bool rsa = cases[index].rsa;
        peer_start(&peer, rsa ? rsa_certificate : mx.certificate_path, rsa ? rsa_key : mx.key_path,
                   cases[index].flags);
        bool done = visit(*state, &peer, &probe, (struct tls_wire_names){.server_name = "mx.example.org"});
        assert_int_equal(done, cases[index].version != NULL);
        if (done) {
            const struct tls_info *info = conn_tls_info(&probe.conn);
            assert_string_equal(info->version, cases[index].version);
            assert_memory_equal(info->cipher, cases[index].cipher, strlen(cases[index].cipher));
            assert_int_equal(info->is_verified, !rsa);
            assert_string_equal(info->peer_name, rsa ? "rsa" : "mx.example.org");
        }
        probe_end(&probe, *state);
        peer_stop(&peer);
    }
}

static void sessions_resume(void **state)
{
    static const char *const flags[][3] = {
        {"-tls1_3"}, {"-tls1_2"}, {"-tls1_2", "-no_ticket"}, {"-tls1_3", "-no_ticket"}};
    skip_without_openssl();
    for (size_t index = 0; index < sizeof(flags) / sizeof(flags[0]); index++) {
        struct peer peer;
        struct tls_session_slot slot;
        tls_slot_init(&slot);
        peer_start(&peer, mx.certificate_path, mx.key_path, flags[index]);
        for (int round = 0; round < 4; round++) {
            struct probe probe;
            assert_true(visit(*state, &peer, &probe,
                              (struct tls_wire_names){.verify_name = "mx.example.org", .slot = &slot}));
            assert_int_equal(conn_tls_info(&probe.conn)->is_resumed, round > 0);
            conn_finish(&probe.conn); /* OpenSSL forgets sessions that end without close_notify */
            turn_until(*state, probe_is_closed(&probe));
        }
        peer_stop(&peer);
        tls_slot_drop(&slot);
    }
}

static void client_certificate_is_shown(void **state)
{
    const char *authority = tls_test_files.authority.certificate_path;
    const char *const taken[] = {"-Verify", "1", "-verify_return_error", "-CAfile", authority, NULL};
    const char *const refused[] = {"-Verify", "1", "-verify_return_error", "-CAfile", rsa_certificate, NULL};
    skip_without_openssl();
    for (int index = 0; index < 2; index++) {
        struct peer peer;
        struct probe probe;
        peer_start(&peer, mx.certificate_path, mx.key_path, index == 0 ? taken : refused);
        assert_int_equal(visit(*state, &peer, &probe, (struct tls_wire_names){0}), index == 0);
        if (index == 1)
            assert_int_equal(probe.close_error, -EPROTO);
        probe_end(&probe, *state);
        peer_stop(&peer);
    }
}

static void demands_are_met_or_not(void **state)
{
    static const char *const flags[] = {NULL};
    struct peer peer;
    struct probe probe;
    skip_without_openssl();
    peer_start(&peer, mx.certificate_path, mx.key_path, flags);
    assert_true(visit(*state, &peer, &probe, (struct tls_wire_names){.verify_name = "mx.example.org"}));
    probe_end(&probe, *state);
    assert_false(visit(*state, &peer, &probe, (struct tls_wire_names){.verify_name = "mx.example.com"}));
    assert_int_equal(probe.close_error, -EPROTO);
    peer_stop(&peer);
}

#define openssl_test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        openssl_test(versions_and_ciphers),
        openssl_test(sessions_resume),
        openssl_test(client_certificate_is_shown),
        openssl_test(demands_are_met_or_not),
    };
    return cmocka_run_group_tests_name("net/tls openssl", tests, make_all, remove_all);
}
