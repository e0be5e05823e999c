/* What a client thinks of a server's certificate, and which sessions it resumes. */

#include "tls_wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/net/tls_inner.h"

static const uint16_t versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

enum { MX, WILDCARD, EXPIRED, FUTURE, COMMON_NAME, FOR_CLIENTS, IMPOSTOR, SELF_SIGNED, ADDRESS, MADE };

static struct tls_test_certificate made[MADE];
static struct tls_test_certificate middle; /* an intermediate CA, and a server below it */
static struct tls_test_certificate below;
static struct tls_client *client;
static struct tls_tickets *tickets;

static int make_all(void **state)
{
    if (tls_test_files_make(state) != 0)
        return -1;
    const struct tls_test_certificate *authority = &tls_test_files.authority;
    const int san = NID_subject_alt_name;
    const long day = 86400;
    tls_test_make(&made[MX], "mx", "ignored", "DNS:mx.example.org,DNS:Other.example.org", san, authority, -60,
                  day);
    tls_test_make(&made[WILDCARD], "wild", "ignored", "DNS:*.example.net", san, authority, -60, day);
    tls_test_make(&made[EXPIRED], "expired", "ignored", "DNS:mx.example.org", san, authority, -day, -60);
    tls_test_make(&made[FUTURE], "future", "ignored", "DNS:mx.example.org", san, authority, 3600, day);
    tls_test_make(&made[COMMON_NAME], "common", "mx.example.org", NULL, 0, authority, -60, day);
    tls_test_make(&made[FOR_CLIENTS], "clients", "mx.example.org", "clientAuth", NID_ext_key_usage, authority,
                  -60, day);
    tls_test_make(&made[IMPOSTOR], "false", "ignored", "DNS:mx.example.org", san,
                  &tls_test_files.impostor_authority, -60, day);
    tls_test_make(&made[SELF_SIGNED], "self", "ignored", "DNS:mx.example.org", san, NULL, -60, day);
    tls_test_make(&made[ADDRESS], "address", "192.0.2.1", "DNS:192.0.2.3,IP:192.0.2.1", san, authority, -60,
                  day);
    tls_test_make(&middle, "middle", "Middle Authority", "critical,CA:TRUE", NID_basic_constraints, authority,
                  -60, day);
    tls_test_make(&below, "below", "ignored", "DNS:mx.example.org", san, &middle, -60, day);
    return 0;
}

static int remove_all(void **state)
{
    for (size_t index = 0; index < MADE; index++)
        tls_test_unmake(&made[index]);
    tls_test_unmake(&middle);
    tls_test_unmake(&below);
    return tls_test_files_remove(state);
}

static int setup(void **state)
{
    client = tls_wire_client(tls_test_files.authority.certificate_path);
    tickets = tls_tickets_new();
    return net_test_setup(state);
}

static int teardown(void **state)
{
    tls_client_free(client);
    tls_tickets_free(tickets);
    return net_test_teardown(state);
}

/* A client that demands `name`: secured when `reason` is empty, else nothing was sent and this is told. */
static void demand(struct tls_wire *wire, struct tls_server *server, uint16_t version, const char *name,
                   const char *reason)
{
    tls_wire_start(wire, server, client, version, (struct tls_wire_names){.verify_name = name});
    conn_send_copy(&wire->client.conn, "secret", 6);
    assert_int_equal(tls_wire_shake(wire), reason[0] == '\0');
    if (reason[0] == '\0') {
        assert_true(conn_tls_info(&wire->client.conn)->is_trusted);
        assert_true(conn_tls_info(&wire->client.conn)->is_verified);
        pump_until(wire, wire->server.received == 6);
        return;
    }
    assert_int_equal(wire->client.close_error, -EPROTO);
    assert_string_equal(wire->error, reason);
    pump_until(wire, probe_is_closed(&wire->server));
    assert_int_equal(wire->server.close_error, -EPROTO);
    assert_int_equal(wire->server.received, 0);
}

/* A client that takes any certificate, but knows what it would have said to it. */
static void accept_any(struct tls_wire *wire, struct tls_server *server, uint16_t version, const char *name,
                       const char *reason)
{
    tls_wire_start(wire, server, client, version, (struct tls_wire_names){.server_name = name});
    conn_send_copy(&wire->client.conn, "hello", 5);
    assert_true(tls_wire_shake(wire));
    pump_until(wire, wire->server.received == 5);
    const struct tls_info *info = conn_tls_info(&wire->client.conn);
    bool is_trusted = reason[0] == '\0' || strcmp(reason, "Hostname mismatch") == 0;
    assert_int_equal(info->is_trusted, is_trusted);
    assert_int_equal(info->is_verified, reason[0] == '\0' && tls_name_fit(name) > 0);
    assert_string_equal(info->distrust, is_trusted ? "" : reason);
}

static void certificates_of_every_kind(void **state)
{
    static const struct {
        int certificate;
        const char *name;
        const char *reason; /* empty: verified */
    } cases[] = {
        {MX, "mx.example.org", ""},
        {MX, "MX.Example.ORG", ""},
        {MX, "mx.example.org.", ""},
        {MX, "other.example.org", ""},
        {MX, "mx.example.com", "Hostname mismatch"},
        {MX, "example.org", "Hostname mismatch"},
        {MX, "ignored", "Hostname mismatch"},
        {MX, ".example.org", "Hostname mismatch"},
        {MX, "mx.example.org..", "Hostname mismatch"},
        {MX, "*.example.org", "Hostname mismatch"},
        {MX, "", "Hostname mismatch"},
        {MX, ".", "Hostname mismatch"},
        {WILDCARD, "a.example.net", ""},
        {WILDCARD, "xn--bcher-kva.example.net", ""},
        {WILDCARD, "a.b.example.net", "Hostname mismatch"},
        {WILDCARD, "example.net", "Hostname mismatch"},
        {WILDCARD, ".example.net", "Hostname mismatch"},
        {WILDCARD, "*.example.net", "Hostname mismatch"},
        {EXPIRED, "mx.example.org", "certificate has expired"},
        {FUTURE, "mx.example.org", "certificate is not yet valid"},
        {COMMON_NAME, "mx.example.org", "Hostname mismatch"},
        {FOR_CLIENTS, "mx.example.org", "unsupported certificate purpose"},
        {IMPOSTOR, "mx.example.org", "certificate signature failure"},
        {SELF_SIGNED, "mx.example.org", "self signed certificate"},
        {ADDRESS, "192.0.2.1", ""},
        {ADDRESS, "[192.0.2.1]", ""},
        {ADDRESS, "192.0.2.2", "Hostname mismatch"},
        {ADDRESS, "192.0.2.3", "Hostname mismatch"}, /* spelled as a DNS name */
        {MX, "192.0.2.1", "Hostname mismatch"},
    };
    for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
        struct tls_server *server = tls_wire_server(&made[cases[index].certificate], NULL);
        for (size_t version = 0; version < 2; version++) {
            struct tls_wire wire;
            tls_wire_open(&wire, *state);
            demand(&wire, server, versions[version], cases[index].name, cases[index].reason);
            tls_wire_close(&wire);
            tls_wire_open(&wire, *state);
            accept_any(&wire, server, versions[version], cases[index].name, cases[index].reason);
            tls_wire_close(&wire);
        }
        tls_server_free(server);
    }
}

/* A name of a kilobyte, and one that a C string ends early: neither covers anything. */
static void names_that_are_none(void **state)
{
    static const char *const unfit[] = {"",       ".",       "a..b",    ".a",      "127.0.0.1",
                                        "::1",    "[::1]",   "a b.org", "a\n.org", "b\xc3\xbc.org",
                                        "a*.org", "a/b.org", "mail.1",  "a.org..", "1"};
    char long_name[1024];
    for (size_t index = 0; index < sizeof(unfit) / sizeof(unfit[0]); index++)
        assert_int_equal(tls_name_fit(unfit[index]), 0);
    memset(long_name, 'a', sizeof(long_name));
    long_name[sizeof(long_name) - 1] = '\0';
    assert_int_equal(tls_name_fit(long_name), 0);
    long_name[TLS_NAME_MAX] = '\0';
    assert_int_equal(tls_name_fit(long_name), TLS_NAME_MAX);
    assert_int_equal(tls_name_fit("mx_1-a.Example.org"), 18);
    assert_int_equal(tls_name_fit("mx.example.org."), 14);
    assert_int_equal(tls_name_fit("localhost"), 9);
    assert_int_equal(tls_name_fit("1.example.4org"), 14);
}

/* The server's PEM file with its chain, or without. */
static void intermediate_authority(void **state)
{
    struct tls_test_certificate with_chain = below;
    (void)snprintf(with_chain.certificate_path, sizeof(with_chain.certificate_path), "%s/chain.pem",
                   tls_test_files.directory);
    char command[512];
    (void)snprintf(command, sizeof(command), "cat '%s' '%s' > '%s'", below.certificate_path,
                   middle.certificate_path, with_chain.certificate_path);
    assert_int_equal(system(command), 0);
    struct tls_server *complete = tls_wire_server(&with_chain, NULL);
    struct tls_server *incomplete = tls_wire_server(&below, NULL);
    assert_int_equal(unlink(with_chain.certificate_path), 0);
    for (size_t version = 0; version < 2; version++) {
        struct tls_wire wire;
        tls_wire_open(&wire, *state);
        demand(&wire, complete, versions[version], "mx.example.org", "");
        tls_wire_close(&wire);
        tls_wire_open(&wire, *state);
        demand(&wire, incomplete, versions[version], "mx.example.org",
               "unable to get local issuer certificate");
        tls_wire_close(&wire);
    }
    tls_server_free(complete);
    tls_server_free(incomplete);
}

/* A client without CAs takes any certificate, and fails where one is demanded: it never thinks well of one.
 */
static void without_authorities_nothing_is_verified(void **state)
{
    const struct tls_client_options options = {.version_min = TLS1_2_VERSION};
    struct tls_server *server = tls_wire_server(&made[MX], NULL);
    tls_client_free(client);
    client = tls_wire_client_of(&options);
    for (size_t version = 0; version < 2; version++) {
        struct tls_wire wire;
        tls_wire_open(&wire, *state);
        accept_any(&wire, server, versions[version], "mx.example.org", "application verification failure");
        tls_wire_close(&wire);
        tls_wire_open(&wire, *state);
        demand(&wire, server, versions[version], "mx.example.org", "application verification failure");
        tls_wire_close(&wire);
    }
    tls_server_free(server);
}

/* One connection that ends well, after the server said something; whether it was resumed. */
static bool visit(struct loop *loop, struct tls_server *server, struct tls_client *visitor, uint16_t version,
                  struct tls_wire_names names)
{
    struct tls_wire wire;
    tls_wire_open(&wire, loop);
    tls_wire_start(&wire, server, visitor, version, names);
    assert_true(tls_wire_shake(&wire));
    pump_until(&wire, wire.server.counts[PROBE_SECURED] == 1);
    conn_send_copy(&wire.server.conn, "hi", 2);
    pump_until(&wire, wire.client.received == 2); /* the ticket came before it */
    const struct tls_info *info = conn_tls_info(&wire.client.conn);
    bool is_resumed = info->is_resumed;
    assert_int_equal(conn_tls_info(&wire.server.conn)->is_resumed, is_resumed);
    assert_true(info->is_trusted);
    assert_true(info->is_verified || (names.verify_name == NULL && names.server_name == NULL));
    assert_string_equal(info->peer_name, "mx.example.org");
    tls_wire_close(&wire);
    return is_resumed;
}

static void sessions_resume(void **state)
{
    struct tls_server *server = tls_wire_server(&made[MX], tickets);
    for (size_t version = 0; version < 2; version++) {
        for (int verifies = 0; verifies < 2; verifies++) {
            struct tls_session_slot slot;
            tls_slot_init(&slot);
            const struct tls_wire_names names = {.server_name = "mx.example.org",
                                                 .verify_name = verifies ? "mx.example.org" : NULL,
                                                 .slot = &slot};
            assert_false(visit(*state, server, client, versions[version], names));
            assert_non_null(slot.session);
            for (int round = 0; round < 3; round++)
                assert_true(visit(*state, server, client, versions[version], names));
            tls_slot_drop(&slot);
            assert_false(visit(*state, server, client, versions[version], names));
            assert_int_equal(slot.users, 0);
            tls_slot_drop(&slot);
        }
    }
    tls_server_free(server);
}

/* Each is another policy than the first; and the first's session is not taken for it, nor its for the
 * first's. */
static void sessions_serve_only_what_they_were_made_for(void **state)
{
    struct tls_server *server = tls_wire_server(&made[MX], tickets);
    static const struct tls_wire_names policies[] = {
        {.server_name = "mx.example.org"},
        {.server_name = "mx.example.org", .verify_name = "mx.example.org"},
        {.server_name = "mx.example.org", .verify_name = "other.example.org"},
        {.server_name = "other.example.org", .verify_name = "mx.example.org"},
        {.server_name = NULL, .verify_name = "mx.example.org"},
        {.server_name = NULL, .verify_name = NULL},
    };
    const size_t count = sizeof(policies) / sizeof(policies[0]);
    for (size_t index = 0; index < count * count * 2; index++) {
        struct tls_session_slot slot;
        tls_slot_init(&slot);
        size_t before = index / 2 / count;
        size_t after = index / 2 % count;
        struct tls_wire_names names = policies[before];
        names.slot = &slot;
        assert_false(visit(*state, server, client, versions[index % 2], names));
        names = policies[after];
        names.slot = &slot;
        assert_int_equal(visit(*state, server, client, versions[index % 2], names), before == after);
        assert_true(visit(*state, server, client, versions[index % 2], names));
        tls_slot_drop(&slot);
    }
    tls_server_free(server);
}

/* Made where any certificate will do, with a server that shows a bad one: a demand must not ride on it. */
static void an_unverified_session_never_serves_a_demand(void **state)
{
    struct tls_server *server = tls_wire_server(&made[SELF_SIGNED], tickets);
    for (size_t version = 0; version < 2; version++) {
        struct tls_session_slot slot;
        tls_slot_init(&slot);
        for (int verifies = 0; verifies < 2; verifies++) {
            struct tls_wire wire;
            tls_wire_open(&wire, *state);
            tls_wire_start(
                &wire, server, client, versions[version],
                (struct tls_wire_names){.verify_name = verifies ? "mx.example.org" : NULL, .slot = &slot});
            assert_int_equal(tls_wire_shake(&wire), !verifies);
            if (!verifies) {
                conn_send_copy(&wire.server.conn, "hi", 2);
                pump_until(&wire, wire.client.received == 2);
                assert_non_null(slot.session);
                assert_false(conn_tls_info(&wire.client.conn)->is_trusted);
            }
            tls_wire_close(&wire);
        }
        tls_slot_drop(&slot);
    }
    tls_server_free(server);
}

static void sessions_outlive_a_reload_but_not_a_change_of_authorities(void **state)
{
    struct tls_server *server = tls_wire_server(&made[MX], tickets);
    struct tls_client *again = tls_wire_client(tls_test_files.authority.certificate_path);
    char both[160];
    char command[512];
    (void)snprintf(both, sizeof(both), "%s/both.pem", tls_test_files.directory);
    (void)snprintf(command, sizeof(command), "cat '%s' '%s' > '%s'",
                   tls_test_files.authority.certificate_path,
                   tls_test_files.impostor_authority.certificate_path, both);
    assert_int_equal(system(command), 0);
    struct tls_client *other = tls_wire_client(both);
    assert_int_equal(unlink(both), 0);
    for (size_t version = 0; version < 2; version++) {
        struct tls_session_slot slot;
        tls_slot_init(&slot);
        const struct tls_wire_names names = {.verify_name = "mx.example.org", .slot = &slot};
        assert_false(visit(*state, server, client, versions[version], names));
        assert_true(visit(*state, server, again, versions[version], names));
        assert_false(visit(*state, server, other, versions[version], names));
        tls_slot_drop(&slot);
    }
    tls_client_free(again);
    tls_client_free(other);
    tls_server_free(server);
}

static void sessions_end_with_their_certificate(void **state)
{
    struct tls_test_certificate brief;
    tls_test_make(&brief, "brief", "ignored", "DNS:mx.example.org", NID_subject_alt_name,
                  &tls_test_files.authority, -60, 3);
    struct tls_server *server = tls_wire_server(&brief, tickets);
    struct tls_session_slot slot;
    tls_slot_init(&slot);
    const struct tls_wire_names names = {.verify_name = "mx.example.org", .slot = &slot};
    struct tls_wire wire;
    assert_false(visit(*state, server, client, TLS1_3_VERSION, names));
    assert_true(visit(*state, server, client, TLS1_3_VERSION, names));
    sleep(4);
    assert_non_null(slot.session);
    tls_wire_open(&wire, *state);
    tls_wire_start(&wire, server, client, TLS1_3_VERSION, names);
    assert_false(tls_wire_shake(&wire));
    assert_string_equal(wire.error, "certificate has expired");
    tls_wire_close(&wire);
    tls_slot_drop(&slot);
    tls_server_free(server);
    tls_test_unmake(&brief);
}

static void a_session_that_the_server_forgot(void **state)
{
    struct tls_tickets *others = tls_tickets_new();
    struct tls_server *server = tls_wire_server(&made[MX], tickets);
    struct tls_server *without = tls_wire_server(&made[MX], NULL);
    struct tls_server *restarted = tls_wire_server(&made[MX], others);
    for (size_t version = 0; version < 2; version++) {
        struct tls_session_slot slot;
        tls_slot_init(&slot);
        const struct tls_wire_names names = {.server_name = "mx.example.org", .slot = &slot};
        assert_false(visit(*state, server, client, versions[version], names));
        assert_false(visit(*state, restarted, client, versions[version], names));
        assert_true(visit(*state, restarted, client, versions[version], names));
        assert_false(visit(*state, without, client, versions[version], names));
        tls_slot_drop(&slot);
    }
    tls_server_free(server);
    tls_server_free(without);
    tls_server_free(restarted);
    tls_tickets_free(others);
}

/* The next attempt makes a full handshake: it may have been the session that the server choked on. */
static void a_failed_handshake_forgets_the_session(void **state)
{
    struct tls_server *server = tls_wire_server(&made[MX], tickets);
    struct tls_session_slot slot;
    struct tls_wire wire;
    tls_slot_init(&slot);
    const struct tls_wire_names names = {.server_name = "mx.example.org", .slot = &slot};
    for (int reset = 0; reset < 2; reset++) {
        assert_false(visit(*state, server, client, TLS1_3_VERSION, names));
        tls_wire_open(&wire, *state);
        conn_start_tls_client(&wire.client.conn, client, names.server_name, NULL, &slot);
        assert_int_equal(slot.users, 1);
        loop_turn(*state, 1000);
        if (reset) {
            net_test_reset(wire.client_end);
            wire.client_end = dup(wire.server_end);
        } else {
            shutdown(wire.client_end, SHUT_WR);
        }
        turn_until(*state, probe_is_closed(&wire.client));
        assert_int_equal(slot.users, 0); /* it may go in on_closed already */
        assert_null(slot.session);
        tls_wire_close(&wire);
    }
    tls_slot_drop(&slot);
    tls_server_free(server);
}

/* Ten at once resume the one session that the slot has. */
static void connections_share_a_slot(void **state)
{
    enum { COUNT = 10 };
    static struct tls_wire wires[COUNT];
    struct tls_server *server = tls_wire_server(&made[MX], tickets);
    struct tls_session_slot slot;
    tls_slot_init(&slot);
    const struct tls_wire_names names = {.verify_name = "mx.example.org", .slot = &slot};
    assert_false(visit(*state, server, client, TLS1_3_VERSION, names));
    for (int index = 0; index < COUNT; index++) {
        tls_wire_open(&wires[index], *state);
        tls_wire_start(&wires[index], server, client, TLS1_3_VERSION, names);
    }
    assert_int_equal(slot.users, COUNT);
    for (int index = 0; index < COUNT; index++) {
        assert_true(tls_wire_shake(&wires[index]));
        assert_true(conn_tls_info(&wires[index].client.conn)->is_resumed);
    }
    for (int index = 0; index < COUNT; index++)
        tls_wire_close(&wires[index]);
    tls_slot_drop(&slot);
    tls_server_free(server);
}

#define judge_test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        judge_test(certificates_of_every_kind),
        judge_test(names_that_are_none),
        judge_test(intermediate_authority),
        judge_test(without_authorities_nothing_is_verified),
        judge_test(sessions_resume),
        judge_test(sessions_serve_only_what_they_were_made_for),
        judge_test(an_unverified_session_never_serves_a_demand),
        judge_test(sessions_outlive_a_reload_but_not_a_change_of_authorities),
        judge_test(sessions_end_with_their_certificate),
        judge_test(a_session_that_the_server_forgot),
        judge_test(a_failed_handshake_forgets_the_session),
        judge_test(connections_share_a_slot),
    };
    return cmocka_run_group_tests_name("net/tls judge", tests, make_all, remove_all);
}
