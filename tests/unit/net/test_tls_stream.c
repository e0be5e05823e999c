/* The stream within TLS: its ends, long transfers with pauses, bounds, references, records and memory. */

#include "tls_test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/net/conn_tls.h"

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

struct counted_ref {
    struct conn_ref ref;
    int released;
};

static void count_release(struct conn_ref *ref)
{
    list_entry(ref, struct counted_ref, ref)->released++;
}

#define BODY_SIZE ((size_t)4 << 20) /* more than a socket takes */
static char body[BODY_SIZE];
static char got[BODY_SIZE + 64];

static void close_notify_is_the_end_and_nothing_behind_it_counts(void **state)
{
    for (size_t index = 0; index < 2; index++) {
        struct probe probe;
        struct tls_peer peer;
        char reply[3];
        tls_test_secured(&probe, &peer, *state, server, versions[index]);
        assert_int_equal(SSL_write(peer.session, "last words", 10), 10);
        assert_int_equal(SSL_shutdown(peer.session), 0);
        assert_int_equal(BIO_write(peer.out, "bytes of no record", 18), 18);
        tls_peer_pump(&peer, *state);
        turn_until(*state, probe.counts[PROBE_EOF] == 1);
        assert_int_equal(probe.received, 10);
        assert_int_equal(send(peer.fd, "more", 4, 0), 4);
        for (int turn = 0; turn < 5; turn++)
            loop_turn(*state, 1000);
        shutdown(peer.fd, SHUT_WR);
        for (int turn = 0; turn < 5; turn++)
            loop_turn(*state, 1000);
        /* The other direction is still open. */
        conn_send_copy(&probe.conn, "bye", 3);
        assert_int_equal(tls_peer_read(&peer, *state, reply, 3), 3);
        conn_finish(&probe.conn);
        assert_int_equal(tls_peer_read_end(&peer, *state), SSL_ERROR_ZERO_RETURN);
        turn_until(*state, probe_is_closed(&probe));
        assert_int_equal(probe.close_error, 0);
        assert_int_equal(probe.counts[PROBE_EOF], 1);
        assert_int_equal(probe.received, 10);
        tls_peer_close(&peer);
    }
}

static void fin_without_close_notify_is_flagged(void **state)
{
    for (size_t cut = 0; cut < 40; cut += 13) { /* between records, and within one */
        struct probe probe;
        struct tls_peer peer;
        tls_test_secured(&probe, &peer, *state, server, versions[cut % 2]);
        tls_peer_write(&peer, *state, "whole", 5);
        assert_int_equal(SSL_write(peer.session, "this record is cut short", 24), 24);
        peer.cut = cut;
        tls_peer_pump(&peer, *state);
        shutdown(peer.fd, SHUT_WR);
        turn_until(*state, probe.counts[PROBE_EOF] == 1);
        assert_true(conn_was_truncated(&probe.conn));
        assert_int_equal(probe.received, 5);
        probe_end(&probe, *state);
        assert_int_equal(probe.close_error, 0);
        tls_peer_close(&peer);
    }
}

static void finish_sends_everything_and_close_notify(void **state)
{
    net_test_fill(body, BODY_SIZE, 0);
    for (size_t index = 0; index < 2; index++) {
        struct counted_ref ref = {.ref.release = count_release};
        struct probe probe;
        struct tls_peer peer;
        tls_test_secured(&probe, &peer, *state, server, versions[index]);
        conn_send_copy(&probe.conn, body, 10);
        conn_send_ref(&probe.conn, body + 10, BODY_SIZE - 20, &ref.ref);
        conn_send_copy(&probe.conn, body + BODY_SIZE - 10, 10);
        conn_finish(&probe.conn);
        assert_int_equal(tls_peer_read(&peer, *state, got, sizeof(got)), BODY_SIZE);
        assert_int_equal(SSL_get_shutdown(peer.session), SSL_RECEIVED_SHUTDOWN);
        net_test_check(got, BODY_SIZE, 0);
        assert_int_equal(ref.released, 1);
        close(peer.fd);
        peer.fd = -1;
        turn_until(*state, probe_is_closed(&probe));
        assert_int_equal(probe.close_error, 0);
        tls_peer_close(&peer);
    }
}

/* Its ciphertext is bounded, the rest waits as it was queued; and it all comes when the peer reads after all.
 */
static void peer_that_never_reads_is_bounded(void **state)
{
    struct counted_ref ref = {.ref.release = count_release};
    struct probe probe;
    struct tls_peer peer;
    net_test_fill(body, BODY_SIZE, 0);
    tls_test_secured(&probe, &peer, *state, server, TLS1_3_VERSION);
    conn_send_ref(&probe.conn, body, BODY_SIZE, &ref.ref);
    assert_int_equal(conn_pending_bytes(&probe.conn), BODY_SIZE);
    size_t before = 0;
    for (int turn = 0; turn < 100; turn++) {
        loop_turn(*state, 500);
        before = conn_pending_bytes(&probe.conn);
        assert_true(probe.conn.output.bytes <= CONN_TLS_OUTPUT_MAX + 1024);
    }
    assert_int_equal(ref.released, 0);
    assert_true(before > 0);
    assert_int_equal(before, probe.conn.output.bytes + probe.conn.tls->plain.bytes);
    assert_int_equal(tls_peer_read(&peer, *state, got, BODY_SIZE), BODY_SIZE);
    net_test_check(got, BODY_SIZE, 0);
    assert_int_equal(ref.released, 1);
    turn_until(*state, conn_pending_bytes(&probe.conn) == 0);
    probe_end(&probe, *state);
    tls_peer_close(&peer);
}

static void reference_is_released_once_when_it_ends_early(void **state)
{
    for (int reset = 0; reset < 2; reset++) {
        struct counted_ref ref = {.ref.release = count_release};
        struct counted_ref late = {.ref.release = count_release};
        struct probe probe;
        struct tls_peer peer;
        tls_test_secured(&probe, &peer, *state, server, versions[reset]);
        conn_send_ref(&probe.conn, body, BODY_SIZE, &ref.ref);
        conn_send_ref(&probe.conn, body, 100, &late.ref);
        for (int turn = 0; turn < 5; turn++)
            loop_turn(*state, 1000);
        assert_int_equal(ref.released, 0);
        if (reset) {
            net_test_reset(peer.fd);
            peer.fd = -1;
        } else {
            conn_close(&probe.conn);
        }
        turn_until(*state, probe_is_closed(&probe));
        assert_int_equal(ref.released, 1);
        assert_int_equal(late.released, 1);
        tls_peer_close(&peer);
    }
}

static struct probe closed_by_release;

static void close_on_release(struct conn_ref *ref)
{
    count_release(ref);
    conn_close(&closed_by_release.conn);
}

static void release_may_close_the_connection(void **state)
{
    struct counted_ref ref = {.ref.release = close_on_release};
    struct counted_ref behind = {.ref.release = count_release};
    struct tls_peer peer;
    tls_test_secured(&closed_by_release, &peer, *state, server, TLS1_3_VERSION);
    conn_send_ref(&closed_by_release.conn, body, 40000, &ref.ref);
    conn_send_ref(&closed_by_release.conn, body, 40000, &behind.ref);
    turn_until(*state, probe_is_closed(&closed_by_release));
    assert_int_equal(ref.released, 1);
    assert_int_equal(behind.released, 1);
    tls_peer_close(&peer);
}

static void damaged_record_ends_the_connection_with_an_alert(void **state)
{
    for (size_t index = 0; index < 2; index++) {
        struct probe probe;
        struct tls_peer peer;
        tls_test_secured(&probe, &peer, *state, server, versions[index]);
        const uint8_t *bytes = NULL;
        size_t size = 0;
        assert_int_equal(SSL_write(peer.session, "to be damaged", 13), 13);
        assert_int_equal(BIO_mem_contents(peer.out, &bytes, &size), 1);
        char damaged[256];
        memcpy(damaged, bytes, size);
        damaged[size - 1] ^= 1;
        net_test_write(peer.fd, damaged, size);
        assert_int_equal(BIO_reset(peer.out), 1);
        assert_int_equal(tls_peer_read_end(&peer, *state), SSL_ERROR_SSL); /* its alert */
        shutdown(peer.fd, SHUT_WR);
        turn_until(*state, probe_is_closed(&probe));
        assert_int_equal(probe.close_error, -EPROTO);
        assert_int_equal(probe.received, 0);
        assert_int_equal(loop_stats(*state)->tls_failed, 0); /* no handshake failed */
        tls_peer_close(&peer);
    }
}

static void pause_now(struct probe *probe)
{
    conn_pause(&probe->conn);
}

static void what_a_paused_owner_left_comes_again_first(void **state)
{
    struct probe probe;
    struct tls_peer peer;
    tls_test_secured(&probe, &peer, *state, server, TLS1_3_VERSION);
    probe.act_on = PROBE_DATA;
    probe.act = pause_now;
    probe.consume_nothing = true;
    assert_int_equal(SSL_write(peer.session, "one ", 4), 4);
    assert_int_equal(SSL_write(peer.session, "two ", 4), 4);
    tls_peer_write(&peer, *state, "three ", 6);
    turn_until(*state, probe.counts[PROBE_DATA] == 1);
    assert_non_null(probe.conn.tls->rest);
    tls_peer_write(&peer, *state, "four", 4);
    assert_int_equal(SSL_shutdown(peer.session), 0);
    tls_peer_pump(&peer, *state);
    conn_resume(&probe.conn);
    turn_until(*state, probe.counts[PROBE_DATA] == 2); /* again nothing */
    assert_int_equal(probe.counts[PROBE_EOF], 0);
    probe.consume_nothing = false;
    probe.act_on = PROBE_EVENTS;
    conn_resume(&probe.conn);
    turn_until(*state, probe.counts[PROBE_EOF] == 1);
    assert_int_equal(probe.received, 18);
    assert_memory_equal(probe.text, "one two three four", 18);
    probe_end(&probe, *state);
    tls_peer_close(&peer);
}

static void close_while_a_rest_is_held(void **state)
{
    struct probe probe;
    struct tls_peer peer;
    tls_test_secured(&probe, &peer, *state, server, TLS1_3_VERSION);
    probe.act_on = PROBE_DATA;
    probe.act = pause_now;
    probe.consume_nothing = true;
    assert_int_equal(SSL_write(peer.session, "one", 3), 3);
    tls_peer_write(&peer, *state, "two", 3);
    turn_until(*state, probe.conn.tls->rest != NULL);
    probe_end(&probe, *state);
    assert_int_equal(probe.close_error, 0);
    tls_peer_close(&peer);
}

/* Replies of one turn: one record, one send. */
static void output_of_a_turn_is_one_record(void **state)
{
    struct probe probe;
    struct tls_peer peer;
    char reply[100];
    tls_test_secured(&probe, &peer, *state, server, TLS1_3_VERSION);
    conn_send_copy(&probe.conn, "first", 5); /* takes the ticket along, if any */
    assert_int_equal(tls_peer_read(&peer, *state, reply, 5), 5);
    turn_until(*state, conn_pending_bytes(&probe.conn) == 0);
    uint64_t sends = loop_stats(*state)->sends;
    for (int index = 0; index < 10; index++)
        conn_send_copy(&probe.conn, "250 2.0.0\n", 10);
    turn_until(*state, conn_pending_bytes(&probe.conn) == 0);
    assert_int_equal(loop_stats(*state)->sends, sends + 1);
    /* One record: its head, the bytes, their type, the tag. Two would be longer. */
    assert_int_equal(recv(peer.fd, got, sizeof(got), 0), 5 + 100 + 1 + 16);
    probe_end(&probe, *state);
    tls_peer_close(&peer);
}

static void key_update_is_answered(void **state)
{
    struct probe probe;
    struct tls_peer peer;
    char reply[5];
    tls_test_secured(&probe, &peer, *state, server, TLS1_3_VERSION);
    for (int round = 1; round < 5; round++) {
        assert_int_equal(SSL_key_update(peer.session, SSL_KEY_UPDATE_REQUESTED), 1);
        tls_peer_write(&peer, *state, "again", 5);
        turn_until(*state, probe.received == (size_t)round * 5);
        conn_send_copy(&probe.conn, "fresh", 5);
        assert_int_equal(tls_peer_read(&peer, *state, reply, 5), 5);
        assert_memory_equal(reply, "fresh", 5);
    }
    probe_end(&probe, *state);
    tls_peer_close(&peer);
}

/* A server that sends back what it gets, and pauses at random, with a part of the bytes left. */
struct echo {
    struct conn conn;
    uint64_t random;
    uint64_t received;
    uint64_t refs;
    bool is_paused;
    bool is_closed;
    bool saw_eof;
};

struct echo_ref {
    struct conn_ref ref;
    struct echo *echo;
    char bytes[];
};

static void echo_release(struct conn_ref *ref)
{
    struct echo_ref *piece = list_entry(ref, struct echo_ref, ref);
    piece->echo->refs--;
    free(piece);
}

static void echo_back(struct echo *echo, const char *bytes, size_t size)
{
    if (net_test_random(&echo->random) % 2) {
        conn_send_copy(&echo->conn, bytes, size);
        return;
    }
    struct echo_ref *piece = malloc(sizeof(*piece) + size);
    assert_non_null(piece);
    *piece = (struct echo_ref){.ref.release = echo_release, .echo = echo};
    memcpy(piece->bytes, bytes, size);
    echo->refs++;
    conn_send_ref(&echo->conn, piece->bytes, size, &piece->ref);
}

static size_t echo_data(struct conn *conn, const char *bytes, size_t size)
{
    struct echo *echo = conn->ctx;
    size_t consumed = size;
    if (net_test_random(&echo->random) % 4 == 0 || conn_pending_bytes(conn) > 500000) {
        conn_pause(conn);
        echo->is_paused = true;
        consumed = net_test_random(&echo->random) % (size + 1);
        if (net_test_random(&echo->random) % 4 == 0) {
            conn_resume(conn);
            echo->is_paused = false;
        }
    }
    net_test_check(bytes, consumed, echo->received);
    echo->received += consumed;
    if (consumed > 0)
        echo_back(echo, bytes, consumed);
    return consumed;
}

static void echo_eof(struct conn *conn)
{
    ((struct echo *)conn->ctx)->saw_eof = true;
    conn_finish(conn);
}

static void echo_closed(struct conn *conn, int error)
{
    assert_int_equal(error, 0);
    ((struct echo *)conn->ctx)->is_closed = true;
}

static const struct conn_handler echo_handler = {
    .on_data = echo_data,
    .on_eof = echo_eof,
    .on_closed = echo_closed,
};

static void echo_maybe_resume(struct echo *echo)
{
    if (!echo->is_paused || conn_pending_bytes(&echo->conn) > 400000)
        return;
    if (net_test_random(&echo->random) % 3 > 0)
        return;
    echo->is_paused = false;
    conn_resume(&echo->conn);
}

static void transfer_both_ways(struct loop *loop, uint16_t version, uint64_t seed, size_t total)
{
    struct echo echo = {.random = seed};
    struct tls_peer peer;
    uint64_t random = seed * 31 + 7;
    int fds[2];
    size_t sent = 0;
    size_t read = 0;
    net_test_pair(fds);
    conn_init(&echo.conn, loop, &echo_handler, &echo);
    conn_attach(&echo.conn, fds[0]);
    conn_start_tls(&echo.conn, server);
    conn_start_reading(&echo.conn, false);
    tls_peer_open(&peer, fds[1], version, version);
    assert_true(tls_peer_shake(&peer, loop));
    net_test_fill(body, total, 0);
    uint64_t deadline_us = net_test_now_us() + 20000000;
    while (read < total) {
        assert_true(net_test_now_us() < deadline_us);
        size_t part = 1 + net_test_random(&random) % 40000;
        part = part < total - sent ? part : total - sent;
        if (part > 0 && BIO_pending(peer.out) < 100000) {
            assert_int_equal(SSL_write(peer.session, body + sent, (int)part), part);
            sent += part;
        }
        peer.cut = 1 + net_test_random(&random) % 60000;
        tls_peer_pump(&peer, loop);
        echo_maybe_resume(&echo);
        for (int size = 1; size > 0; read += (size_t)(size > 0 ? size : 0))
            size = SSL_read(peer.session, got + read, 30000);
    }
    assert_int_equal(read, total);
    net_test_check(got, total, 0);
    assert_int_equal(SSL_shutdown(peer.session), 0);
    while (!echo.is_closed) {
        tls_peer_pump(&peer, loop);
        echo_maybe_resume(&echo);
        if (echo.saw_eof && peer.fd >= 0)
            shutdown(peer.fd, SHUT_WR);
        assert_true(net_test_now_us() < deadline_us);
    }
    assert_int_equal(echo.refs, 0);
    tls_peer_close(&peer);
}

static void long_streams_both_ways_with_pauses(void **state)
{
    for (uint64_t seed = 1; seed <= 6; seed++)
        transfer_both_ways(*state, versions[seed % 2], seed, (size_t)3 << 20);
}

static void long_streams_through_few_small_buffers(void **state)
{
    struct loop *loop = net_test_loop(8, 512);
    for (uint64_t seed = 1; seed <= 2; seed++)
        transfer_both_ways(loop, versions[seed % 2], seed, (size_t)1 << 20);
    loop_free(loop);
}

static void steady_transfers_allocate_nothing_in_this_room(void **state)
{
    struct probe probe;
    struct tls_peer peer;
    uint64_t allocations = 0;
    tls_test_secured(&probe, &peer, *state, server, TLS1_3_VERSION);
    for (int round = 0; round < 50; round++) {
        if (round == 5)
            allocations = loop_stats(*state)->allocations;
        tls_peer_write(&peer, *state, body, 20000);
        conn_send_ref(&probe.conn, body, 30000, NULL);
        conn_send_copy(&probe.conn, "250 ok\r\n", 8);
        assert_int_equal(tls_peer_read(&peer, *state, got, 30008), 30008);
    }
    turn_until(*state, conn_pending_bytes(&probe.conn) == 0);
    assert_int_equal(loop_stats(*state)->allocations, allocations);
    probe_end(&probe, *state);
    tls_peer_close(&peer);
}

#define secured_test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        secured_test(close_notify_is_the_end_and_nothing_behind_it_counts),
        secured_test(fin_without_close_notify_is_flagged),
        secured_test(finish_sends_everything_and_close_notify),
        secured_test(peer_that_never_reads_is_bounded),
        secured_test(reference_is_released_once_when_it_ends_early),
        secured_test(release_may_close_the_connection),
        secured_test(damaged_record_ends_the_connection_with_an_alert),
        secured_test(what_a_paused_owner_left_comes_again_first),
        secured_test(close_while_a_rest_is_held),
        secured_test(output_of_a_turn_is_one_record),
        secured_test(key_update_is_answered),
        secured_test(long_streams_both_ways_with_pauses),
        secured_test(long_streams_through_few_small_buffers),
        secured_test(steady_transfers_allocate_nothing_in_this_room),
    };
    return cmocka_run_group_tests_name("net/tls stream", tests, tls_test_files_make, tls_test_files_remove);
}
