/* Handshakes: cut at every byte, together with what comes after, and those that must not succeed. */

#include "tls_test.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const uint16_t versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

static struct tls_server *server;

static int setup(void **state)
{
    struct tls_server_options options = tls_test_options();
    server = tls_test_server(&options);
    return net_test_setup(state);
}

static int teardown(void **state)
{
    tls_server_free(server);
    return net_test_teardown(state);
}

/* The client's bytes come `cut` at a time, its handshake and what it says after that. */
static void shake_in_cuts(struct loop *loop, uint16_t version, size_t cut)
{
    struct probe probe;
    struct tls_peer peer;
    char reply[8] = "";
    int fd = probe_open(&probe, loop);
    conn_start_tls(&probe.conn, server);
    tls_peer_open(&peer, fd, version, version);
    peer.cut = cut;
    assert_true(tls_peer_shake(&peer, loop));
    tls_peer_write(&peer, loop, "EHLO client\r\n", 13);
    turn_until(loop, probe.received == 13);
    assert_memory_equal(probe.text, "EHLO client\r\n", 13);
    assert_int_equal(probe.counts[PROBE_SECURED], 1);
    conn_send_copy(&probe.conn, "250 ok\r\n", 8);
    assert_int_equal(tls_peer_read(&peer, loop, reply, 8), 8);
    assert_memory_equal(reply, "250 ok\r\n", 8);
    assert_string_equal(conn_tls_info(&probe.conn)->version,
                        version == TLS1_3_VERSION ? "TLSv1.3" : "TLSv1.2");
    assert_string_equal(conn_tls_error(&probe.conn), "");
    probe_end(&probe, loop);
    assert_int_equal(probe.close_error, 0);
    tls_peer_close(&peer);
}

static void handshake_byte_by_byte(void **state)
{
    for (size_t index = 0; index < 2; index++)
        shake_in_cuts(*state, versions[index], 1);
    assert_int_equal(loop_stats(*state)->tls_handshakes, 2);
    assert_int_equal(loop_stats(*state)->tls_failed, 0);
}

static void handshake_in_cuts_of_every_size(void **state)
{
    for (size_t cut = 2; cut < 600; cut = cut < 32 ? cut + 1 : cut * 3 / 2) {
        for (size_t index = 0; index < 2; index++)
            shake_in_cuts(*state, versions[index], cut);
    }
}

/* Receive buffers that are smaller than a record's head. */
static void handshake_into_tiny_buffers(void **state)
{
    struct loop *loop = net_test_loop(64, 64);
    for (size_t index = 0; index < 2; index++)
        shake_in_cuts(loop, versions[index], 65536);
    loop_free(loop);
}

static void data_in_the_packet_of_the_finished_message(void **state)
{
    for (size_t index = 0; index < 2; index++) {
        struct probe probe;
        struct tls_peer peer;
        int fd = probe_open(&probe, *state);
        conn_start_tls(&probe.conn, server);
        tls_peer_open(&peer, fd, versions[index], versions[index]);
        while (SSL_do_handshake(peer.session) != 1)
            tls_peer_pump(&peer, *state);
        /* In TLS 1.3 the client's last message has not left yet; a close_notify follows too. */
        assert_int_equal(SSL_write(peer.session, "NOOP\r\n", 6), 6);
        assert_int_equal(SSL_write(peer.session, "QUIT\r\n", 6), 6);
        assert_int_equal(SSL_shutdown(peer.session), 0);
        tls_peer_pump(&peer, *state);
        turn_until(*state, probe.counts[PROBE_EOF] == 1);
        assert_int_equal(probe.received, 12);
        assert_memory_equal(probe.text, "NOOP\r\nQUIT\r\n", 12);
        assert_int_equal(probe.counts[PROBE_SECURED], 1);
        assert_false(conn_was_truncated(&probe.conn));
        probe_end(&probe, *state);
        tls_peer_close(&peer);
    }
}

static void start_tls_now(struct probe *probe)
{
    probe->act_on = PROBE_EVENTS;
    conn_send_copy(&probe->conn, "220 ready\r\n", 11);
    conn_start_tls(&probe->conn, server);
    conn_send_copy(&probe->conn, "secret", 6);
    assert_null(conn_tls_info(&probe->conn));
    assert_true(conn_is_tls(&probe->conn));
}

static void output_before_goes_in_the_clear_and_output_after_does_not(void **state)
{
    struct probe probe;
    struct tls_peer peer;
    char reply[32] = "";
    int fd = probe_open(&probe, *state);
    probe.act_on = PROBE_DATA;
    probe.act = start_tls_now;
    net_test_write(fd, "STARTTLS\r\n", 10);
    turn_until(*state, recv(fd, reply, sizeof(reply), MSG_DONTWAIT) == 11);
    assert_memory_equal(reply, "220 ready\r\n", 11);
    turn_until(*state, conn_pending_bytes(&probe.conn) == 6);
    tls_peer_open(&peer, fd, TLS1_2_VERSION, TLS1_3_VERSION);
    assert_true(tls_peer_shake(&peer, *state));
    assert_int_equal(tls_peer_read(&peer, *state, reply, 6), 6);
    assert_memory_equal(reply, "secret", 6);
    turn_until(*state, conn_pending_bytes(&probe.conn) == 0);
    probe_end(&probe, *state);
    tls_peer_close(&peer);
}

/* CVE-2011-0411: commands in the clear behind STARTTLS must not count as the secured client's. */
static void commands_injected_behind_starttls_are_never_data(void **state)
{
    struct probe probe;
    int fd = probe_open(&probe, *state);
    probe.act_on = PROBE_DATA;
    probe.act = start_tls_now;
    net_test_write(fd, "STARTTLS\r\n", 10);
    turn_until(*state, probe.received == 10);
    net_test_write(fd, "RCPT TO:<x@example.org>\r\n", 25);
    shutdown(fd, SHUT_WR); /* or it would be waited for */
    turn_until(*state, probe_is_closed(&probe));
    assert_int_equal(probe.close_error, -EPROTO);
    assert_int_equal(probe.received, 10);
    close(fd);
}

/* The same while the session was paused, so that both pieces are held when it goes on. */
static void held_commands_behind_starttls_are_never_data(void **state)
{
    struct probe probe;
    int fd = probe_open(&probe, *state);
    conn_pause(&probe.conn);
    net_test_write(fd, "STARTTLS\r\n", 10);
    turn_until(*state, probe.conn.held_bytes == 10);
    net_test_write(fd, "RCPT TO:<x@example.org>\r\n", 25);
    turn_until(*state, probe.conn.held_bytes == 35);
    probe.act_on = PROBE_DATA;
    probe.act = start_tls_now;
    conn_resume(&probe.conn);
    shutdown(fd, SHUT_WR); /* or it would be waited for */
    turn_until(*state, probe_is_closed(&probe));
    assert_int_equal(probe.close_error, -EPROTO);
    assert_int_equal(probe.received, 10);
    close(fd);
}

static void expect_failure(struct loop *loop, struct probe *probe)
{
    turn_until(loop, probe_is_closed(probe));
    assert_int_equal(probe->close_error, -EPROTO);
    assert_int_equal(probe->counts[PROBE_SECURED], 0);
    assert_int_equal(probe->counts[PROBE_EOF], 0);
    assert_int_equal(probe->received, 0);
}

static char last_error[128];

static void note_error(struct probe *probe)
{
    (void)snprintf(last_error, sizeof(last_error), "%s", conn_tls_error(&probe->conn));
}

static void garbage_gets_an_alert_and_the_end(void **state)
{
    uint64_t random = 4711;
    for (int round = 0; round < 50; round++) {
        struct probe probe;
        char garbage[512];
        char answer[64];
        int fd = probe_open(&probe, *state);
        probe.act_on = PROBE_CLOSED;
        probe.act = note_error;
        conn_start_tls(&probe.conn, server);
        net_test_fill(garbage, sizeof(garbage), net_test_random(&random) % 1000000);
        garbage[0] = round % 2 ? garbage[0] : 0x16; /* a handshake record, perhaps */
        garbage[1] = round % 4 ? garbage[1] : 3;
        garbage[3] = 0;
        net_test_write(fd, garbage, sizeof(garbage));
        shutdown(fd, SHUT_WR);
        expect_failure(*state, &probe);
        assert_true(strlen(last_error) > 0);
        size_t size = net_test_read_all(fd, answer, sizeof(answer));
        assert_true(size >= 7); /* one alert, in the clear: type, version, size, level, description */
        assert_int_equal(answer[0], 0x15);
        close(fd);
    }
    assert_int_equal(loop_stats(*state)->tls_failed, 50);
}

static void peer_that_leaves_in_the_handshake(void **state)
{
    struct probe probe;
    struct tls_peer peer;
    int fd = probe_open(&probe, *state);
    probe.act_on = PROBE_CLOSED;
    probe.act = note_error;
    conn_start_tls(&probe.conn, server);
    tls_peer_open(&peer, fd, TLS1_3_VERSION, TLS1_3_VERSION);
    assert_int_equal(SSL_do_handshake(peer.session), -1);
    peer.cut = 100;
    tls_peer_pump(&peer, *state);
    shutdown(fd, SHUT_WR);
    expect_failure(*state, &probe);
    assert_non_null(strstr(last_error, "left"));
    assert_int_equal(loop_stats(*state)->tls_failed, 1);
    tls_peer_close(&peer);
}

static void owner_that_ends_in_the_handshake(void **state)
{
    for (int polite = 0; polite < 2; polite++) {
        struct probe probe;
        int fd = probe_open(&probe, *state);
        char answer[8];
        conn_start_tls(&probe.conn, server);
        conn_send_copy(&probe.conn, "never said", 10);
        loop_turn(*state, 1000);
        if (polite)
            conn_finish(&probe.conn);
        else
            conn_close(&probe.conn);
        loop_turn(*state, 1000);
        shutdown(fd, SHUT_WR);
        turn_until(*state, probe_is_closed(&probe));
        assert_int_equal(probe.close_error, 0);
        assert_int_equal(net_test_read_all(fd, answer, sizeof(answer)), 0);
        close(fd);
    }
    assert_int_equal(loop_stats(*state)->tls_failed, 2);
}

static void close_when_secured(struct probe *probe)
{
    conn_close(&probe->conn);
}

static void finish_when_secured(struct probe *probe)
{
    conn_send_copy(&probe->conn, "bye", 3);
    conn_finish(&probe->conn);
}

static void owner_that_ends_when_secured(void **state)
{
    static void (*const acts[])(struct probe *) = {close_when_secured, finish_when_secured};
    for (size_t index = 0; index < 4; index++) {
        struct probe probe;
        struct tls_peer peer;
        int fd = probe_open(&probe, *state);
        conn_start_tls(&probe.conn, server);
        probe.act_on = PROBE_SECURED;
        probe.act = acts[index / 2];
        tls_peer_open(&peer, fd, versions[index % 2], versions[index % 2]);
        while (SSL_do_handshake(peer.session) != 1 && !peer.saw_fin)
            tls_peer_pump(&peer, *state);
        (void)SSL_write(peer.session, "data behind it", 14);
        tls_peer_pump(&peer, *state);
        close(fd);
        peer.fd = -1;
        turn_until(*state, probe_is_closed(&probe));
        assert_int_equal(probe.received, 0);
        tls_peer_close(&peer);
    }
}

static void version_below_the_least_is_refused(void **state)
{
    struct tls_server_options options = tls_test_options();
    options.version_min = TLS1_3_VERSION;
    struct tls_server *strict = tls_test_server(&options);
    struct probe probe;
    struct tls_peer peer;
    int fd = probe_open(&probe, *state);
    conn_start_tls(&probe.conn, strict);
    tls_server_free(strict); /* the connection holds its own reference */
    tls_peer_open(&peer, fd, TLS1_2_VERSION, TLS1_2_VERSION);
    assert_false(tls_peer_shake(&peer, *state));
    expect_failure(*state, &probe);
    tls_peer_close(&peer);

    fd = probe_open(&probe, *state);
    conn_start_tls(&probe.conn, server);
    tls_peer_open(&peer, fd, TLS1_1_VERSION, TLS1_1_VERSION);
    assert_false(tls_peer_shake(&peer, *state));
    expect_failure(*state, &probe);
    tls_peer_close(&peer);
}

static void cipher_without_forward_secrecy_or_aead_is_refused(void **state)
{
    static const char *const refused[] = {"AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA"};
    static const char *const accepted[] = {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"};
    for (size_t index = 0; index < 2; index++) {
        struct probe probe;
        struct tls_peer peer;
        int fd = probe_open(&probe, *state);
        conn_start_tls(&probe.conn, server);
        tls_peer_open(&peer, fd, TLS1_2_VERSION, TLS1_2_VERSION);
        assert_int_equal(SSL_set_strict_cipher_list(peer.session, refused[index]), 1);
        assert_false(tls_peer_shake(&peer, *state));
        expect_failure(*state, &probe);
        tls_peer_close(&peer);

        fd = probe_open(&probe, *state);
        conn_start_tls(&probe.conn, server);
        tls_peer_open(&peer, fd, TLS1_2_VERSION, TLS1_2_VERSION);
        assert_int_equal(SSL_set_strict_cipher_list(peer.session, accepted[index]), 1);
        assert_true(tls_peer_shake(&peer, *state));
        turn_until(*state, conn_tls_info(&probe.conn) != NULL);
        assert_int_equal(conn_tls_info(&probe.conn)->cipher_bits, index == 0 ? 128 : 256);
        assert_int_equal(strncmp(conn_tls_info(&probe.conn)->cipher, "TLS_ECDHE_ECDSA_WITH_", 21), 0);
        probe_end(&probe, *state);
        tls_peer_close(&peer);
    }
}

#define secured_test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        secured_test(handshake_byte_by_byte),
        secured_test(handshake_in_cuts_of_every_size),
        secured_test(handshake_into_tiny_buffers),
        secured_test(data_in_the_packet_of_the_finished_message),
        secured_test(output_before_goes_in_the_clear_and_output_after_does_not),
        secured_test(commands_injected_behind_starttls_are_never_data),
        secured_test(held_commands_behind_starttls_are_never_data),
        secured_test(garbage_gets_an_alert_and_the_end),
        secured_test(peer_that_leaves_in_the_handshake),
        secured_test(owner_that_ends_in_the_handshake),
        secured_test(owner_that_ends_when_secured),
        secured_test(version_below_the_least_is_refused),
        secured_test(cipher_without_forward_secrecy_or_aead_is_refused),
    };
    return cmocka_run_group_tests_name("net/tls handshake", tests, tls_test_files_make,
                                       tls_test_files_remove);
}
