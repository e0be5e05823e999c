/* What a handshake settles: resumption, the certificate, who the client is, channel bindings; and bad files.
 */

#include "tls_test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/digest.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

static const uint16_t versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

/* Shakes hands with `server`, offering `ticket` (taken over); leaves the new one there. Whether it resumed.
 */
static bool visit(struct loop *loop, struct tls_server *server, uint16_t version, SSL_SESSION **ticket)
{
    struct probe probe;
    struct tls_peer peer;
    char reply[2];
    int fd = probe_open(&probe, loop);
    conn_start_tls(&probe.conn, server);
    tls_peer_open(&peer, fd, version, version);
    if (*ticket != NULL)
        assert_int_equal(SSL_set_session(peer.session, *ticket), 1);
    assert_true(tls_peer_shake(&peer, loop));
    turn_until(loop, probe.counts[PROBE_SECURED] == 1);
    conn_send_copy(&probe.conn, "hi", 2);
    assert_int_equal(tls_peer_read(&peer, loop, reply, 2), 2); /* the ticket came before it */
    bool resumed = conn_tls_info(&probe.conn)->is_resumed;
    assert_int_equal(SSL_session_reused(peer.session), resumed);
    SSL_SESSION_free(*ticket);
    *ticket = peer.ticket != NULL ? peer.ticket : SSL_get1_session(peer.session);
    peer.ticket = NULL;
    probe_end(&probe, loop);
    tls_peer_close(&peer);
    return resumed;
}

static void sessions_resume(void **state)
{
    struct tls_server_options options = tls_test_options();
    options.tickets = tls_tickets_new();
    struct tls_server *server = tls_test_server(&options);
    for (size_t index = 0; index < 2; index++) {
        SSL_SESSION *ticket = NULL;
        assert_false(visit(*state, server, versions[index], &ticket));
        assert_true(visit(*state, server, versions[index], &ticket));
        assert_true(visit(*state, server, versions[index], &ticket));
        SSL_SESSION_free(ticket);
    }
    assert_int_equal(loop_stats(*state)->tls_handshakes, 6);
    assert_int_equal(loop_stats(*state)->tls_resumed, 4);
    tls_server_free(server);
    tls_tickets_free(options.tickets);
}

static void sessions_resume_after_a_reload_with_another_certificate(void **state)
{
    struct tls_server_options options = tls_test_options();
    options.tickets = tls_tickets_new();
    struct tls_server *before = tls_test_server(&options);
    options.certificates++;
    options.private_keys++;
    options.certificate_count = 1;
    struct tls_server *after = tls_test_server(&options);
    for (size_t index = 0; index < 2; index++) {
        SSL_SESSION *ticket = NULL;
        assert_false(visit(*state, before, versions[index], &ticket));
        assert_true(visit(*state, after, versions[index], &ticket));
        SSL_SESSION_free(ticket);
    }
    tls_server_free(before);
    tls_server_free(after);
    tls_tickets_free(options.tickets);
}

static void a_ticket_is_refused_elsewhere(void **state)
{
    struct tls_server_options options = tls_test_options();
    options.tickets = tls_tickets_new();
    struct tls_server *server = tls_test_server(&options);
    options.name = "submission";
    struct tls_server *other_name = tls_test_server(&options);
    options.name = "smtp";
    options.client_ca = tls_test_files.authority.certificate_path;
    struct tls_server *other_authorities = tls_test_server(&options);
    for (size_t index = 0; index < 2; index++) {
        SSL_SESSION *ticket = NULL;
        assert_false(visit(*state, server, versions[index], &ticket));
        assert_false(visit(*state, other_name, versions[index], &ticket));
        assert_false(visit(*state, server, versions[index], &ticket));
        assert_false(visit(*state, other_authorities, versions[index], &ticket));
        SSL_SESSION_free(ticket);
    }
    tls_server_free(server);
    tls_server_free(other_name);
    tls_server_free(other_authorities);
    tls_tickets_free(options.tickets);
}

static void a_ticket_outlives_one_rotation_but_not_all(void **state)
{
    struct tls_server_options options = tls_test_options();
    options.tickets = tls_tickets_new();
    struct tls_server *server = tls_test_server(&options);
    SSL_SESSION *ticket = NULL;
    tls_tickets_rotate(options.tickets, 0);
    assert_false(visit(*state, server, TLS1_2_VERSION, &ticket));
    tls_tickets_rotate(options.tickets, TLS_TICKET_KEY_MS);
    assert_true(visit(*state, server, TLS1_2_VERSION, &ticket));
    tls_tickets_rotate(options.tickets, TLS_TICKET_KEY_MS + TLS_TICKET_GRACE_MS);
    assert_false(visit(*state, server, TLS1_2_VERSION, &ticket));
    SSL_SESSION_free(ticket);
    tls_server_free(server);
    tls_tickets_free(options.tickets);
}

static void without_tickets_nothing_resumes(void **state)
{
    struct tls_server_options options = tls_test_options();
    struct tls_server *server = tls_test_server(&options);
    for (size_t index = 0; index < 2; index++) {
        SSL_SESSION *ticket = NULL;
        assert_false(visit(*state, server, versions[index], &ticket));
        assert_false(visit(*state, server, versions[index], &ticket));
        SSL_SESSION_free(ticket);
    }
    tls_server_free(server);
}

/* A client that asks for `name` (NULL: no name) is shown `expected`, and its channel is bound to that. */
static void ask_for(struct loop *loop, struct tls_server *server, const char *name,
                    const struct tls_test_certificate *expected)
{
    struct probe probe;
    struct tls_peer peer;
    uint8_t hash[32];
    uint8_t binding[TLS_BINDING_MAX];
    unsigned size = 0;
    int fd = probe_open(&probe, loop);
    conn_start_tls(&probe.conn, server);
    tls_peer_open(&peer, fd, TLS1_2_VERSION, TLS1_3_VERSION);
    if (name != NULL)
        assert_int_equal(SSL_set_tlsext_host_name(peer.session, name), 1);
    assert_true(tls_peer_shake(&peer, loop));
    turn_until(loop, conn_tls_info(&probe.conn) != NULL);
    X509 *shown = SSL_get_peer_certificate(peer.session);
    assert_int_equal(X509_cmp(shown, expected->certificate), 0);
    X509_free(shown);
    assert_string_equal(conn_tls_info(&probe.conn)->server_name, name != NULL ? name : "");
    assert_int_equal(X509_digest(expected->certificate, EVP_sha256(), hash, &size), 1);
    assert_int_equal(conn_tls_binding(&probe.conn, TLS_BINDING_SERVER_END_POINT, binding, sizeof(binding)),
                     32);
    assert_memory_equal(binding, hash, 32);
    probe_end(&probe, loop);
    tls_peer_close(&peer);
}

static void the_certificate_is_chosen_by_name(void **state)
{
    const struct tls_test_files *files = &tls_test_files;
    struct tls_server_options options = tls_test_options();
    struct tls_server *server = tls_test_server(&options);
    ask_for(*state, server, NULL, &files->server);
    ask_for(*state, server, "mx.example.org", &files->server);
    ask_for(*state, server, "MX.example.ORG", &files->server);
    ask_for(*state, server, "a.example.net", &files->wildcard);
    ask_for(*state, server, "a.b.example.net", &files->server); /* a wildcard is one label */
    ask_for(*state, server, "example.net", &files->server);
    /* A common name is no DNS name: this one is the server's CN, and only the wildcard covers it. */
    ask_for(*state, server, "ignored.example.net", &files->wildcard);
    ask_for(*state, server, "unknown.example.com", &files->server);
    tls_server_free(server);
}

struct client_case {
    const struct tls_test_certificate *certificate; /* NULL: none */
    bool is_verified;
    const char *name;
};

static void check_client(const struct tls_info *info, const struct client_case *expected)
{
    uint8_t hash[32] = {0};
    unsigned size = 0;
    if (expected->certificate != NULL)
        X509_digest(expected->certificate->certificate, EVP_sha256(), hash, &size);
    assert_int_equal(info->has_client_certificate, expected->certificate != NULL);
    assert_int_equal(info->client_verified, expected->is_verified);
    assert_string_equal(info->client_name, expected->name);
    assert_memory_equal(info->client_fingerprint, hash, sizeof(hash));
}

/* A new connection of the client, with its certificate and perhaps a ticket. False: the handshake failed. */
static bool meet_client(struct loop *loop, struct tls_server *server, uint16_t version,
                        const struct client_case *expected, SSL_SESSION **ticket)
{
    struct probe probe;
    struct tls_peer peer;
    char reply[2];
    int fd = probe_open(&probe, loop);
    conn_start_tls(&probe.conn, server);
    tls_peer_open(&peer, fd, version, version);
    if (expected->certificate != NULL)
        tls_peer_show(&peer, expected->certificate);
    if (*ticket != NULL)
        assert_int_equal(SSL_set_session(peer.session, *ticket), 1);
    (void)tls_peer_shake(&peer, loop);
    while (!probe_is_closed(&probe) && conn_tls_info(&probe.conn) == NULL) {
        tls_peer_pump(&peer, loop);
        if (peer.saw_fin)
            shutdown(peer.fd, SHUT_WR); /* or it would be waited for */
    }
    bool met = !probe_is_closed(&probe);
    if (met) {
        check_client(conn_tls_info(&probe.conn), expected);
        assert_int_equal(conn_tls_info(&probe.conn)->is_resumed, *ticket != NULL);
        conn_send_copy(&probe.conn, "hi", 2);
        assert_int_equal(tls_peer_read(&peer, loop, reply, 2), 2);
        SSL_SESSION_free(*ticket);
        *ticket = peer.ticket;
        peer.ticket = NULL;
    } else {
        assert_int_equal(probe.close_error, -EPROTO);
    }
    probe_end(&probe, loop);
    tls_peer_close(&peer);
    return met;
}

static void client_certificates_are_told_and_verified(void **state)
{
    const struct tls_test_files *files = &tls_test_files;
    const struct client_case cases[] = {
        {&files->client, true, "client.example.com"},
        {&files->named, true, "plain name"},
        {&files->impostor, false, "client.example.com"},
        {&files->stranger, false, ""}, /* its name holds a line feed */
        {NULL, false, ""},
    };
    struct tls_server_options options = tls_test_options();
    options.tickets = tls_tickets_new();
    options.client_ca = files->authority.certificate_path;
    struct tls_server *asking = tls_test_server(&options);
    options.client_required = true;
    struct tls_server *demanding = tls_test_server(&options);
    for (size_t index = 0; index < 10; index++) {
        const struct client_case *expected = &cases[index / 2];
        SSL_SESSION *ticket = NULL;
        assert_true(meet_client(*state, asking, versions[index % 2], expected, &ticket));
        assert_non_null(ticket);
        assert_true(meet_client(*state, asking, versions[index % 2], expected, &ticket)); /* resumed */
        SSL_SESSION_free(ticket);
        ticket = NULL;
        assert_int_equal(meet_client(*state, demanding, versions[index % 2], expected, &ticket),
                         expected->is_verified);
        SSL_SESSION_free(ticket);
    }
    tls_server_free(asking);
    tls_server_free(demanding);
    tls_tickets_free(options.tickets);
}

static void a_listener_without_authorities_never_asks(void **state)
{
    struct tls_server_options options = tls_test_options();
    struct tls_server *server = tls_test_server(&options);
    struct probe probe;
    struct tls_peer peer;
    int fd = probe_open(&probe, *state);
    conn_start_tls(&probe.conn, server);
    tls_peer_open(&peer, fd, TLS1_3_VERSION, TLS1_3_VERSION);
    tls_peer_show(&peer, &tls_test_files.client);
    assert_true(tls_peer_shake(&peer, *state));
    turn_until(*state, conn_tls_info(&probe.conn) != NULL);
    assert_false(conn_tls_info(&probe.conn)->has_client_certificate);
    probe_end(&probe, *state);
    tls_peer_close(&peer);
    tls_server_free(server);
}

static void channel_bindings_are_the_same_on_both_sides(void **state)
{
    static const char label[] = "EXPORTER-Channel-Binding";
    struct tls_server_options options = tls_test_options();
    struct tls_server *server = tls_test_server(&options);
    for (size_t index = 0; index < 2; index++) {
        struct probe probe;
        struct tls_peer peer;
        uint8_t ours[TLS_BINDING_MAX];
        uint8_t theirs[TLS_BINDING_MAX];
        size_t size = 0;
        tls_test_secured(&probe, &peer, *state, server, versions[index]);
        struct conn *conn = &probe.conn;
        assert_int_equal(
            SSL_export_keying_material(peer.session, theirs, 32, label, strlen(label), NULL, 0, 1), 1);
        assert_int_equal(conn_tls_binding(conn, TLS_BINDING_EXPORTER, ours, sizeof(ours)), 32);
        assert_memory_equal(ours, theirs, 32);
        assert_int_equal(conn_tls_binding(conn, TLS_BINDING_EXPORTER, ours, 31), -ENOSPC);
        int unique = conn_tls_binding(conn, TLS_BINDING_UNIQUE, ours, sizeof(ours));
        if (versions[index] == TLS1_3_VERSION) {
            assert_int_equal(unique, -ENOTSUP);
        } else {
            assert_int_equal(SSL_get_tls_unique(peer.session, theirs, &size, sizeof(theirs)), 1);
            assert_int_equal(unique, size);
            assert_memory_equal(ours, theirs, size);
        }
        probe_end(&probe, *state);
        tls_peer_close(&peer);
    }
    tls_server_free(server);
}

static void in_the_clear_there_is_nothing_to_know(void **state)
{
    struct probe probe;
    uint8_t binding[TLS_BINDING_MAX];
    int fd = probe_open(&probe, *state);
    assert_null(conn_tls_info(&probe.conn));
    assert_false(conn_is_tls(&probe.conn));
    assert_false(conn_was_truncated(&probe.conn));
    assert_string_equal(conn_tls_error(&probe.conn), "");
    assert_int_equal(conn_tls_binding(&probe.conn, TLS_BINDING_EXPORTER, binding, sizeof(binding)),
                     -ENOTCONN);
    probe_end(&probe, *state);
    close(fd);
}

static const char *write_file(const char *name, const char *text)
{
    static char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", tls_test_files.directory, name);
    FILE *file = fopen(path, "we");
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    return path;
}

/* Refused with this error, and a text that names the file and holds `reason`. */
static void expect_refusal(const struct tls_server_options *options, int expected, const char *path,
                           const char *reason)
{
    struct tls_server *server = NULL;
    char error[256] = "";
    assert_int_equal(tls_server_new(options, &server, error, sizeof(error)), expected);
    assert_null(server);
    if (strstr(error, path) == NULL || strstr(error, reason) == NULL)
        fail_msg("this names neither %s nor %s: %s", path, reason, error);
}

static const char *write_locked_key(void)
{
    static char path[128];
    (void)snprintf(path, sizeof(path), "%s/locked.key", tls_test_files.directory);
    FILE *file = fopen(path, "we");
    uint8_t passphrase[] = "secret";
    assert_int_equal(
        PEM_write_PrivateKey(file, tls_test_files.server.key, EVP_aes_128_cbc(), passphrase, 6, NULL, NULL),
        1);
    assert_int_equal(fclose(file), 0);
    return path;
}

static void bad_files_are_named_with_the_reason(void **state)
{
    struct tls_test_files *files = &tls_test_files;
    const char *certificate = files->server.certificate_path;
    const char *key = files->server.key_path;
    struct tls_server_options options = {.name = "smtp",
                                         .certificates = &certificate,
                                         .private_keys = &key,
                                         .certificate_count = 1,
                                         .version_min = TLS1_2_VERSION};
    key = files->wildcard.key_path;
    expect_refusal(&options, -EINVAL, key, "does not belong to the certificate");
    key = files->server.certificate_path;
    expect_refusal(&options, -EINVAL, key, "holds no private key");
    key = "/nonexistent/key.pem";
    expect_refusal(&options, -ENOENT, key, "No such file");
    key = write_locked_key();
    expect_refusal(&options, -EINVAL, key, "passphrase");
    unlink(key);
    key = write_file("bad.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    expect_refusal(&options, -EINVAL, key, "damaged");
    key = files->server.key_path;
    certificate = key;
    expect_refusal(&options, -EINVAL, certificate, "holds no certificate");
    certificate = "/nonexistent/cert.pem";
    expect_refusal(&options, -ENOENT, certificate, "No such file");
    certificate = write_file("bad.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    expect_refusal(&options, -EINVAL, certificate, "damaged");
    options.client_ca = certificate;
    certificate = files->server.certificate_path;
    expect_refusal(&options, -EINVAL, options.client_ca, "damaged");
    unlink(options.client_ca);
    expect_refusal(&options, -ENOENT, options.client_ca, "No such file");
}

#define loop_test(name) cmocka_unit_test_setup_teardown(name, net_test_setup, net_test_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        loop_test(sessions_resume),
        loop_test(sessions_resume_after_a_reload_with_another_certificate),
        loop_test(a_ticket_is_refused_elsewhere),
        loop_test(a_ticket_outlives_one_rotation_but_not_all),
        loop_test(without_tickets_nothing_resumes),
        loop_test(the_certificate_is_chosen_by_name),
        loop_test(client_certificates_are_told_and_verified),
        loop_test(a_listener_without_authorities_never_asks),
        loop_test(channel_bindings_are_the_same_on_both_sides),
        loop_test(in_the_clear_there_is_nothing_to_know),
        cmocka_unit_test(bad_files_are_named_with_the_reason),
    };
    return cmocka_run_group_tests_name("net/tls session", tests, tls_test_files_make, tls_test_files_remove);
}
