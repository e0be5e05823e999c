/* TLS as a client: handshakes in pieces, cut, and with servers that are none; what both sides learn. */

#include "tls_wire.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/net/tls_inner.h"

static const uint16_t versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

static const struct tls_wire_names both_names = {.server_name = "mx.example.org",
                                                 .verify_name = "mx.example.org"};

static struct tls_test_certificate mx; /* by the authority: mx.example.org, *.example.net */
static struct tls_server *server;
static struct tls_client *client;

static int make_all(void **state)
{
    if (tls_test_files_make(state) != 0)
        return -1;
    tls_test_make(&mx, "mx", "ignored", "DNS:mx.example.org,DNS:*.example.net", NID_subject_alt_name,
                  &tls_test_files.authority, -3600, 86400);
    return 0;
}

static int remove_all(void **state)
{
    tls_test_unmake(&mx);
    return tls_test_files_remove(state);
}

static int setup(void **state)
{
    server = tls_wire_server(&mx, NULL);
    client = tls_wire_client(tls_test_files.authority.certificate_path);
    return net_test_setup(state);
}

static int teardown(void **state)
{
    tls_server_free(server);
    tls_client_free(client);
    return net_test_teardown(state);
}

/* The client verifies and both say something; the wire carries `cut` bytes at a time. */
static void shake_in_cuts(struct loop *loop, uint16_t version, size_t cut)
{
    struct tls_wire wire;
    tls_wire_open(&wire, loop);
    wire.cut = cut;
    tls_wire_start(&wire, server, client, version, both_names);
    conn_send_copy(&wire.client.conn, "EHLO client\r\n", 13);
    assert_true(tls_wire_shake(&wire));
    pump_until(&wire, wire.server.received == 13);
    assert_memory_equal(wire.server.text, "EHLO client\r\n", 13);
    conn_send_copy(&wire.server.conn, "250 ok\r\n", 8);
    pump_until(&wire, wire.client.received == 8);
    assert_memory_equal(wire.client.text, "250 ok\r\n", 8);
    assert_int_equal(wire.client.counts[PROBE_SECURED], 1);
    assert_string_equal(conn_tls_info(&wire.client.conn)->version,
                        version == TLS1_3_VERSION ? "TLSv1.3" : "TLSv1.2");
    conn_finish(&wire.client.conn);
    pump_until(&wire, wire.server.counts[PROBE_EOF] == 1);
    assert_false(conn_was_truncated(&wire.server.conn));
    conn_finish(&wire.server.conn);
    pump_until(&wire, probe_is_closed(&wire.client) && probe_is_closed(&wire.server));
    assert_int_equal(wire.client.close_error, 0);
    assert_int_equal(wire.server.close_error, 0);
    tls_wire_close(&wire);
}

static void handshake_byte_by_byte(void **state)
{
    for (size_t index = 0; index < 2; index++)
        shake_in_cuts(*state, versions[index], 1);
    assert_int_equal(loop_stats(*state)->tls_handshakes, 4);
    assert_int_equal(loop_stats(*state)->tls_failed, 0);
}

static void handshake_in_cuts_of_every_size(void **state)
{
    for (size_t cut = 2; cut < 1500; cut = cut < 24 ? cut + 1 : cut * 3 / 2) {
        for (size_t index = 0; index < 2; index++)
            shake_in_cuts(*state, versions[index], cut);
    }
}

/* How many bytes the server sends before the client is secured; a few more or less with each signature. */
static size_t count_bytes(struct loop *loop, uint16_t version)
{
    struct tls_wire wire;
    tls_wire_open(&wire, loop);
    wire.cut = 1;
    tls_wire_start(&wire, server, client, version, both_names);
    assert_true(tls_wire_shake(&wire));
    size_t count = wire.carried;
    tls_wire_close(&wire);
    return count;
}

static void server_that_leaves_after_every_byte(void **state)
{
    for (size_t index = 0; index < 2; index++) {
        size_t count = count_bytes(*state, versions[index]);
        assert_in_range(count, 300, 5000);
        for (size_t max = 0; max + 12 < count; max++) {
            struct tls_wire wire;
            struct tls_session_slot slot;
            tls_slot_init(&slot);
            tls_wire_open(&wire, *state);
            wire.carry_max = max;
            struct tls_wire_names names = both_names;
            names.slot = &slot;
            tls_wire_start(&wire, server, client, versions[index], names);
            conn_send_copy(&wire.client.conn, "secret", 6);
            assert_false(tls_wire_shake(&wire));
            assert_int_equal(wire.client.close_error, -EPROTO);
            assert_string_equal(wire.error, "the peer left in the middle of the handshake");
            assert_int_equal(wire.client.received, 0);
            tls_wire_close(&wire);
            assert_int_equal(wire.server.received, 0);
            assert_null(slot.session);
            tls_slot_drop(&slot);
        }
    }
}

static void reset_in_the_handshake(void **state)
{
    struct tls_wire wire;
    tls_wire_open(&wire, *state);
    conn_start_tls_client(&wire.client.conn, client, NULL, NULL, NULL);
    loop_turn(*state, 1000);
    net_test_reset(wire.client_end);
    turn_until(*state, probe_is_closed(&wire.client));
    assert_int_equal(wire.client.close_error, -ECONNRESET);
    assert_int_equal(loop_stats(*state)->tls_failed, 1);
    wire.client_end = dup(wire.server_end);
    tls_wire_close(&wire);
}

static void start_tls_client_now(struct probe *probe)
{
    probe->act_on = PROBE_EVENTS;
    conn_start_tls_client(&probe->conn, client, "mx.example.org", NULL, NULL);
    conn_send_copy(&probe->conn, "secret", 6);
    assert_null(conn_tls_info(&probe->conn));
    assert_true(conn_is_tls(&probe->conn));
}

/* What we said before goes out first and in the clear; then comes the hello, and nothing else. */
static void output_before_goes_in_the_clear(void **state)
{
    struct probe probe;
    char bytes[2048] = "";
    int fd = probe_open(&probe, *state);
    conn_send_copy(&probe.conn, "STARTTLS\r\n", 10);
    start_tls_client_now(&probe);
    loop_turn(*state, 1000);
    loop_turn(*state, 1000);
    ssize_t size = recv(fd, bytes, sizeof(bytes), 0);
    assert_true(size > 10 + 9);
    assert_memory_equal(bytes, "STARTTLS\r\n\x16\x03\x01", 13);
    assert_int_equal(size, 10 + 5 + (uint8_t)bytes[13] * 256 + (uint8_t)bytes[14]);
    assert_non_null(memmem(bytes, (size_t)size, "mx.example.org", 14));
    assert_null(memmem(bytes, (size_t)size, "secret", 6));
    close(fd);
    turn_until(*state, probe_is_closed(&probe));
}

/* Behind the 220 in the same piece: on_data has consumed it, so it is thrown away, and TLS goes on. */
static void words_in_the_clear_behind_the_220_are_thrown_away(void **state)
{
    struct tls_wire wire;
    char sink[512];
    tls_wire_open(&wire, *state);
    wire.client.act_on = PROBE_DATA;
    wire.client.act = start_tls_client_now;
    net_test_write(wire.client_end, "220 ready\r\n250 trust me\r\n", 25);
    turn_until(*state, conn_is_tls(&wire.client.conn));
    conn_start_tls(&wire.server.conn, server);
    assert_true(tls_wire_shake(&wire));
    assert_int_equal(wire.client.received, 25);
    pump_until(&wire, wire.server.received == 6);
    assert_int_equal(recv(wire.client_end, sink, sizeof(sink), MSG_DONTWAIT), -1);
    tls_wire_close(&wire);
}

/* Later, or held while the client paused: they are no TLS. */
static void words_in_the_clear_that_come_later_end_it(void **state)
{
    for (int held = 0; held < 2; held++) {
        struct probe probe;
        int fd = probe_open(&probe, *state);
        probe.act_on = PROBE_DATA;
        probe.act = start_tls_client_now;
        if (held)
            conn_pause(&probe.conn);
        net_test_write(fd, "220 ready\r\n", 11);
        turn_until(*state, held ? probe.conn.held_bytes == 11 : conn_is_tls(&probe.conn));
        net_test_write(fd, "250-mx.example.org\r\n250 AUTH PLAIN\r\n", 36);
        shutdown(fd, SHUT_WR);
        if (held) {
            turn_until(*state, probe.conn.held_bytes == 47);
            conn_resume(&probe.conn);
        }
        turn_until(*state, probe_is_closed(&probe));
        assert_int_equal(probe.close_error, -EPROTO);
        assert_int_equal(probe.received, 11);
        assert_int_equal(probe.counts[PROBE_SECURED], 0);
        close(fd);
    }
}

static void server_that_answers_with_garbage(void **state)
{
    uint64_t random = 815;
    for (int round = 0; round < 100; round++) {
        struct tls_wire wire;
        char garbage[400];
        tls_wire_open(&wire, *state);
        conn_start_tls_client(&wire.client.conn, client, "mx.example.org", "mx.example.org", NULL);
        conn_send_copy(&wire.client.conn, "secret", 6);
        net_test_fill(garbage, sizeof(garbage), net_test_random(&random) % 1000000);
        /* Ever more of it looks right: a record, of a handshake, with a ServerHello. */
        static const char hello[] = {0x16, 3, 3, 0, 90, 2, 0, 0, 86, 3, 3};
        memcpy(garbage, hello, (size_t)round % (sizeof(hello) + 1));
        net_test_write(wire.client_end, garbage, sizeof(garbage));
        shutdown(wire.client_end, SHUT_WR);
        turn_until(*state, probe_is_closed(&wire.client));
        assert_int_equal(wire.client.close_error, -EPROTO);
        assert_int_equal(wire.client.counts[PROBE_SECURED], 0);
        assert_int_equal(wire.client.received, 0);
        assert_true(strlen(wire.error) > 0);
        tls_wire_close(&wire);
    }
}

/* Reads the server's end of the client's wire as TLS, with another library object than ours. */
static bool shake_with(struct tls_wire *wire, struct tls_peer *peer)
{
    SSL_set_accept_state(peer->session);
    tls_peer_show(peer, &mx);
    bool done = tls_peer_shake(peer, wire->loop);
    if (done)
        turn_until(wire->loop, wire->client.counts[PROBE_SECURED] > 0 || probe_is_closed(&wire->client));
    return done && !probe_is_closed(&wire->client);
}

static void old_servers(void **state)
{
    static const struct {
        uint16_t version_min;
        uint16_t peer_version;
        bool accepted;
    } cases[] = {
        {TLS1_3_VERSION, TLS1_3_VERSION, true}, {TLS1_3_VERSION, TLS1_2_VERSION, false},
        {TLS1_2_VERSION, TLS1_2_VERSION, true}, {TLS1_2_VERSION, TLS1_1_VERSION, false},
        {TLS1_VERSION, TLS1_1_VERSION, true},   {TLS1_VERSION, TLS1_VERSION, true},
    };
    for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
        const struct tls_client_options options = {.version_min = cases[index].version_min};
        struct tls_client *limited = tls_wire_client_of(&options);
        struct tls_wire wire;
        struct tls_peer peer;
        tls_wire_open(&wire, *state);
        tls_peer_open(&peer, wire.client_end, cases[index].peer_version, cases[index].peer_version);
        conn_start_tls_client(&wire.client.conn, limited, NULL, NULL, NULL);
        tls_client_free(limited); /* the connection has a reference of its own */
        assert_int_equal(shake_with(&wire, &peer), cases[index].accepted);
        if (!cases[index].accepted) {
            turn_until(*state, probe_is_closed(&wire.client));
            assert_int_equal(wire.client.close_error, -EPROTO);
        }
        wire.client_end = dup(wire.client_end);
        tls_peer_close(&peer);
        tls_wire_close(&wire);
    }
}

static void ciphers_for_old_servers(void **state)
{
    static const struct {
        const char *cipher;
        bool accepted;
    } cases[] = {
        {"ECDHE-ECDSA-AES128-GCM-SHA256", true},
        {"ECDHE-ECDSA-AES256-SHA", true},
        {"ECDHE-PSK-AES128-CBC-SHA", false},
    };
    for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
        struct tls_wire wire;
        struct tls_peer peer;
        tls_wire_open(&wire, *state);
        tls_peer_open(&peer, wire.client_end, TLS1_2_VERSION, TLS1_2_VERSION);
        assert_int_equal(SSL_set_strict_cipher_list(peer.session, cases[index].cipher), 1);
        conn_start_tls_client(&wire.client.conn, client, NULL, NULL, NULL);
        assert_int_equal(shake_with(&wire, &peer), cases[index].accepted);
        wire.client_end = dup(wire.client_end);
        tls_peer_close(&peer);
        tls_wire_close(&wire);
    }
}

/* Somebody on the way takes TLS 1.3 out of our hello: the server's random tells (RFC 8446 section 4.1.3). */
static void downgrade_on_the_way_is_found(void **state)
{
    struct tls_wire wire;
    tls_wire_open(&wire, *state);
    wire.version_max = TLS1_2_VERSION & 0xff;
    conn_start_tls(&wire.server.conn, server);
    conn_start_tls_client(&wire.client.conn, client, NULL, NULL, NULL);
    assert_false(tls_wire_shake(&wire));
    assert_int_equal(wire.client.close_error, -EPROTO);
    assert_string_equal(wire.error, "TLS13_DOWNGRADE");
    tls_wire_close(&wire);
}

static void both_sides_know_each_other(void **state)
{
    struct tls_server_options options = tls_test_options();
    options.client_ca = tls_test_files.authority.certificate_path;
    struct tls_server *asking = tls_test_server(&options);
    const struct tls_client_options ours = {.version_min = TLS1_2_VERSION,
                                            .certificate = tls_test_files.client.certificate_path,
                                            .private_key = tls_test_files.client.key_path};
    struct tls_client *named = tls_wire_client_of(&ours);
    for (size_t index = 0; index < 2; index++) {
        struct tls_wire wire;
        uint8_t fingerprint[32];
        uint8_t bindings[2][TLS_BINDING_MAX];
        tls_wire_open(&wire, *state);
        tls_wire_start(&wire, asking, named, versions[index],
                       (struct tls_wire_names){.server_name = "relay.example.net."});
        assert_true(tls_wire_shake(&wire));
        pump_until(&wire, wire.server.counts[PROBE_SECURED] == 1);
        const struct tls_info *info = conn_tls_info(&wire.client.conn);
        assert_string_equal(info->server_name, "relay.example.net");
        assert_string_equal(info->peer_name, "*.example.net");
        X509_digest(tls_test_files.wildcard.certificate, EVP_sha256(), fingerprint, NULL);
        assert_memory_equal(info->peer_fingerprint, fingerprint, sizeof(fingerprint));
        assert_false(info->is_trusted);
        assert_false(info->is_verified);
        assert_false(info->has_client_certificate);
        assert_false(info->is_resumed);
        info = conn_tls_info(&wire.server.conn);
        assert_string_equal(info->server_name, "relay.example.net");
        assert_true(info->client_verified);
        assert_string_equal(info->client_name, "client.example.com");
        for (enum tls_binding type = 0; type <= TLS_BINDING_SERVER_END_POINT; type++) {
            int size = conn_tls_binding(&wire.client.conn, type, bindings[0], TLS_BINDING_MAX);
            assert_int_equal(conn_tls_binding(&wire.server.conn, type, bindings[1], TLS_BINDING_MAX), size);
            assert_int_equal(size > 0, type != TLS_BINDING_UNIQUE || versions[index] == TLS1_2_VERSION);
            if (size > 0)
                assert_memory_equal(bindings[0], bindings[1], size);
        }
        tls_wire_close(&wire);
    }
    tls_client_free(named);
    tls_server_free(asking);
}

/* TLS 1.3: we are secured before the server has looked for the certificate that we do not have. */
static void client_certificate_that_is_missing(void **state)
{
    struct tls_server_options options = tls_test_options();
    options.client_ca = tls_test_files.authority.certificate_path;
    options.client_required = true;
    struct tls_server *demanding = tls_test_server(&options);
    for (size_t index = 0; index < 2; index++) {
        struct tls_wire wire;
        tls_wire_open(&wire, *state);
        tls_wire_start(&wire, demanding, client, versions[index], (struct tls_wire_names){0});
        assert_int_equal(tls_wire_shake(&wire), versions[index] == TLS1_3_VERSION);
        pump_until(&wire, probe_is_closed(&wire.client));
        assert_int_equal(wire.client.close_error, -EPROTO);
        assert_non_null(strstr(wire.error, "ALERT"));
        assert_int_equal(wire.server.counts[PROBE_SECURED], 0);
        tls_wire_close(&wire);
    }
    tls_server_free(demanding);
}

static void owner_that_ends_in_the_handshake(void **state)
{
    for (int polite = 0; polite < 2; polite++) {
        struct tls_wire wire;
        tls_wire_open(&wire, *state);
        conn_start_tls_client(&wire.client.conn, client, NULL, NULL, NULL);
        conn_send_copy(&wire.client.conn, "never said", 10);
        if (polite)
            conn_finish(&wire.client.conn);
        else
            conn_close(&wire.client.conn);
        shutdown(wire.client_end, SHUT_WR);
        turn_until(*state, probe_is_closed(&wire.client));
        assert_int_equal(wire.client.close_error, 0);
        assert_int_equal(loop_stats(*state)->tls_failed, (uint64_t)polite + 1);
        tls_wire_close(&wire);
    }
}

static void server_that_has_left_before(void **state)
{
    struct tls_wire wire;
    tls_wire_open(&wire, *state);
    shutdown(wire.client_end, SHUT_WR);
    turn_until(*state, wire.client.counts[PROBE_EOF] == 1);
    conn_start_tls_client(&wire.client.conn, client, NULL, NULL, NULL);
    turn_until(*state, probe_is_closed(&wire.client));
    assert_int_equal(wire.client.close_error, -EPROTO);
    assert_string_equal(wire.error, "the peer left in the middle of the handshake");
    /* And when the end is known already, there is nothing to start. */
    conn_close(&wire.server.conn);
    conn_start_tls_client(&wire.server.conn, client, NULL, NULL, NULL);
    assert_false(conn_is_tls(&wire.server.conn));
    tls_wire_close(&wire);
}

static void start_when_connected(struct probe *probe)
{
    conn_start_reading(&probe->conn, false);
    conn_start_tls_client(&probe->conn, client, NULL, "a.example.net", NULL);
    conn_send_copy(&probe->conn, "EHLO\r\n", 6);
}

static void tls_from_the_first_byte(void **state)
{
    struct sockaddr_storage address = {0};
    struct probe ours;
    struct probe theirs;
    int listening = net_test_listen(&address);
    probe_init(&ours, *state);
    ours.act_on = PROBE_CONNECTED;
    ours.act = start_when_connected;
    assert_int_equal(conn_connect(&ours.conn, (struct sockaddr *)&address, sizeof(struct sockaddr_in), NULL),
                     0);
    turn_until(*state, ours.counts[PROBE_CONNECTED] == 1);
    probe_init(&theirs, *state);
    conn_attach(&theirs.conn, accept4(listening, NULL, NULL, SOCK_CLOEXEC));
    conn_start_tls(&theirs.conn, server);
    conn_start_reading(&theirs.conn, false);
    turn_until(*state, theirs.received == 6);
    assert_memory_equal(theirs.text, "EHLO\r\n", 6);
    assert_true(conn_tls_info(&ours.conn)->is_verified);
    assert_string_equal(conn_tls_info(&theirs.conn)->server_name, "");
    probe_end(&ours, *state);
    probe_end(&theirs, *state);
    close(listening);
}

static void files_that_are_no_good(void **state)
{
    const struct tls_test_files *files = &tls_test_files;
    const char *authority = files->authority.certificate_path;
    const struct {
        struct tls_client_options options;
        int result;
        const char *reason;
    } cases[] = {
        {{.ca_file = "/nowhere.pem", .verify_possible = true}, -ENOENT, "/nowhere.pem"},
        {{.ca_file = files->client.key_path, .verify_possible = true}, -EINVAL, "holds no certificate"},
        {{.certificate = authority, .private_key = files->client.key_path}, -EINVAL, "does not belong"},
        {{.certificate = "/nowhere.pem", .private_key = files->client.key_path}, -ENOENT, "/nowhere.pem"},
        {{.certificate = authority, .private_key = authority}, -EINVAL, "holds no private key"},
        {{.ca_file = "/nowhere.pem", .verify_possible = false}, 0, ""},
    };
    for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
        struct tls_client_options options = cases[index].options;
        struct tls_client *made = NULL;
        char error[TLS_ERROR_MIN * 4] = "";
        options.version_min = TLS1_2_VERSION;
        assert_int_equal(tls_client_new(&options, &made, error, sizeof(error)), cases[index].result);
        assert_int_equal(made != NULL, cases[index].result == 0);
        assert_non_null(strstr(error, cases[index].reason));
        tls_client_free(made);
    }
    tls_client_free(NULL);
}

/* The CAs of the world, where the machine has them. */
static void the_systems_authorities(void **state)
{
    const struct tls_client_options options = {.verify_possible = true, .version_min = TLS1_2_VERSION};
    struct tls_client *made = NULL;
    char error[TLS_ERROR_MIN * 4] = "";
    int result = tls_client_new(&options, &made, error, sizeof(error));
    if (access(TLS_SYSTEM_CA_FILE, R_OK) < 0) {
        assert_int_equal(result, -ENOENT);
        assert_non_null(strstr(error, TLS_SYSTEM_CA_FILE));
        return;
    }
    assert_string_equal(error, "");
    assert_int_equal(result, 0);
    tls_client_free(made);
}

#define client_test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        client_test(handshake_byte_by_byte),
        client_test(handshake_in_cuts_of_every_size),
        client_test(server_that_leaves_after_every_byte),
        client_test(reset_in_the_handshake),
        client_test(output_before_goes_in_the_clear),
        client_test(words_in_the_clear_behind_the_220_are_thrown_away),
        client_test(words_in_the_clear_that_come_later_end_it),
        client_test(server_that_answers_with_garbage),
        client_test(old_servers),
        client_test(ciphers_for_old_servers),
        client_test(downgrade_on_the_way_is_found),
        client_test(both_sides_know_each_other),
        client_test(client_certificate_that_is_missing),
        client_test(owner_that_ends_in_the_handshake),
        client_test(server_that_has_left_before),
        client_test(tls_from_the_first_byte),
        client_test(files_that_are_no_good),
        client_test(the_systems_authorities),
    };
    return cmocka_run_group_tests_name("net/tls client", tests, make_all, remove_all);
}
