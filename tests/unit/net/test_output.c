/* Output that does not go smoothly: readers that do not read, references, and long streams both ways. */

#include "conn_test.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

static void reference_is_released_when_sent(void **state)
{
    struct counted_ref ref = {.ref.release = count_release};
    struct probe probe;
    static char got[BODY_SIZE];
    int peer = probe_open(&probe, *state);
    net_test_fill(body, BODY_SIZE, 0);
    conn_send_copy(&probe.conn, body, 10);
    conn_send_ref(&probe.conn, body + 10, BODY_SIZE - 20, &ref.ref);
    conn_send_copy(&probe.conn, body + BODY_SIZE - 10, 10);
    size_t total = 0;
    while (total < BODY_SIZE) {
        loop_turn(*state, 1000);
        ssize_t part = recv(peer, got + total, BODY_SIZE - total, MSG_DONTWAIT);
        total += part > 0 ? (size_t)part : 0;
    }
    turn_until(*state, probe.counts[PROBE_DRAINED] == 1);
    assert_int_equal(ref.released, 1);
    net_test_check(got, BODY_SIZE, 0);
    probe_end(&probe, *state);
    assert_int_equal(ref.released, 1);
    close(peer);
}

static void reference_is_released_at_close(void **state)
{
    struct counted_ref ref = {.ref.release = count_release};
    struct probe probe;
    int peer = probe_open(&probe, *state);
    conn_send_ref(&probe.conn, body, BODY_SIZE, &ref.ref);
    for (int turn = 0; turn < 5; turn++)
        loop_turn(*state, 1000);
    assert_int_equal(ref.released, 0);
    assert_int_equal(probe.conn.tx, CONN_TX_SENDING);
    conn_close(&probe.conn);
    assert_int_equal(ref.released, 0); /* the kernel still reads the bytes */
    turn_until(*state, probe_is_closed(&probe));
    assert_int_equal(ref.released, 1);
    close(peer);
}

static void reference_is_released_at_a_failure(void **state)
{
    struct counted_ref ref = {.ref.release = count_release};
    struct probe probe;
    int peer = probe_open(&probe, *state);
    conn_send_ref(&probe.conn, body, BODY_SIZE, &ref.ref);
    for (int turn = 0; turn < 5; turn++)
        loop_turn(*state, 1000);
    net_test_reset(peer);
    turn_until(*state, probe_is_closed(&probe));
    assert_int_equal(ref.released, 1);
    assert_true(probe.close_error < 0);
}

static void reference_given_too_late_is_released_at_once(void **state)
{
    struct counted_ref ref = {.ref.release = count_release};
    struct probe probe;
    int peer = probe_open(&probe, *state);
    conn_close(&probe.conn);
    conn_send_ref(&probe.conn, body, 10, &ref.ref);
    assert_int_equal(ref.released, 1);
    assert_int_equal(conn_pending_bytes(&probe.conn), 0);
    probe_end(&probe, *state);
    assert_int_equal(ref.released, 1);
    close(peer);
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
    int peer = probe_open(&closed_by_release, *state);
    conn_send_ref(&closed_by_release.conn, "abc", 3, &ref.ref);
    conn_send_copy(&closed_by_release.conn, "def", 3);
    turn_until(*state, probe_is_closed(&closed_by_release));
    assert_int_equal(ref.released, 1);
    assert_int_equal(closed_by_release.counts[PROBE_DRAINED], 0);
    close(peer);
}

/* What the header asks of a session: above a limit it stops reading, in on_drained it goes on. */
static void client_that_never_reads_is_bounded_by_its_session(void **state)
{
    enum { LIMIT = 100000 };
    static const char reply[1000] = "250 ok";
    struct probe probe;
    int peer = probe_open(&probe, *state);
    int small = 4096;
    assert_int_equal(setsockopt(peer, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
    size_t most = 0;
    int paused = 0;
    for (int command = 0; command < 20000; command++) {
        if (conn_pending_bytes(&probe.conn) < LIMIT)
            conn_send_static(&probe.conn, reply, sizeof(reply));
        else
            paused++;
        if (conn_pending_bytes(&probe.conn) > most)
            most = conn_pending_bytes(&probe.conn);
        if (command % 10 == 0)
            loop_turn(*state, 0);
    }
    assert_true(paused > 0);
    assert_in_range(most, LIMIT, LIMIT + sizeof(reply));
    probe_end(&probe, *state);
    close(peer);
}

/* ---- an echo with random pieces, pauses and partial consumption on both sides ---- */

#define ECHO_TOTAL   ((uint64_t)10 << 20)
#define ECHO_PENDING ((size_t)200000)

struct echo {
    struct conn server;
    struct conn client;
    uint64_t seed;
    uint64_t sent;
    uint64_t checked;
    int refs_out;
    bool stopped; /* the server waits for on_drained */
    int closed;
};

struct echo_ref {
    struct conn_ref ref;
    struct echo *echo;
    char bytes[];
};

static void echo_release(struct conn_ref *ref)
{
    struct echo_ref *owner = list_entry(ref, struct echo_ref, ref);
    owner->echo->refs_out--;
    free(owner);
}

static void echo_send(struct echo *echo, struct conn *conn, const char *bytes, size_t size)
{
    if (net_test_random(&echo->seed) % 3 != 0) {
        conn_send_copy(conn, bytes, size);
        return;
    }
    struct echo_ref *owner = malloc(sizeof(*owner) + size);
    owner->ref.release = echo_release;
    owner->echo = echo;
    memcpy(owner->bytes, bytes, size);
    echo->refs_out++;
    conn_send_ref(conn, owner->bytes, size, &owner->ref);
}

static size_t server_data(struct conn *conn, const char *bytes, size_t size)
{
    struct echo *echo = conn->ctx;
    size_t done = 0;
    while (done < size) {
        size_t part = net_test_random(&echo->seed) % 3000 + 1;
        if (part > size - done)
            part = size - done;
        echo_send(echo, conn, bytes + done, part);
        done += part;
        echo->stopped = conn_pending_bytes(conn) > ECHO_PENDING;
        bool whim = net_test_random(&echo->seed) % 50 == 0;
        if (!echo->stopped && !whim)
            continue;
        conn_pause(conn);
        if (!echo->stopped && net_test_random(&echo->seed) % 3 == 0)
            conn_resume(conn); /* at once, with bytes left */
        return done;
    }
    return done;
}

static void server_drained(struct conn *conn)
{
    struct echo *echo = conn->ctx;
    if (echo->stopped) {
        echo->stopped = false;
        conn_resume(conn);
    }
}

static size_t client_data(struct conn *conn, const char *bytes, size_t size)
{
    struct echo *echo = conn->ctx;
    size_t part = net_test_random(&echo->seed) % 20 == 0 ? net_test_random(&echo->seed) % size : size;
    net_test_check(bytes, part, echo->checked);
    echo->checked += part;
    if (part < size)
        conn_pause(conn);
    return part;
}

static void echo_closed(struct conn *conn, int error)
{
    struct echo *echo = conn->ctx;
    assert_int_equal(error, 0);
    echo->closed++;
}

static const struct conn_handler server_handler = {
    .on_data = server_data,
    .on_drained = server_drained,
    .on_closed = echo_closed,
};

static const struct conn_handler client_handler = {.on_data = client_data, .on_closed = echo_closed};

static void client_sends(struct echo *echo)
{
    char bytes[9000];
    while (echo->sent < ECHO_TOTAL && conn_pending_bytes(&echo->client) < ECHO_PENDING) {
        size_t size = net_test_random(&echo->seed) % sizeof(bytes) + 1;
        if (size > ECHO_TOTAL - echo->sent)
            size = ECHO_TOTAL - echo->sent;
        net_test_fill(bytes, size, echo->sent);
        echo_send(echo, &echo->client, bytes, size);
        echo->sent += size;
    }
}

static void echo_run(struct loop *loop, uint64_t seed)
{
    struct echo echo = {.seed = seed};
    int fds[2];
    net_test_pair(fds);
    conn_init(&echo.server, loop, &server_handler, &echo);
    conn_init(&echo.client, loop, &client_handler, &echo);
    conn_attach(&echo.server, fds[0]);
    conn_attach(&echo.client, fds[1]);
    conn_start_reading(&echo.server, true);
    conn_start_reading(&echo.client, false);
    uint64_t deadline_us = net_test_now_us() + 30000000;
    while (echo.checked < ECHO_TOTAL) {
        assert_true(net_test_now_us() < deadline_us);
        client_sends(&echo);
        loop_turn(loop, 1000);
        if (!echo.stopped && net_test_random(&echo.seed) % 2 == 0)
            conn_resume(&echo.server);
        if (net_test_random(&echo.seed) % 2 == 0)
            conn_resume(&echo.client);
        assert_true(echo.server.held_bytes < 8 << 20);
    }
    conn_finish(&echo.client);
    turn_until(loop, echo.closed == 2);
    assert_int_equal(echo.refs_out, 0);
}

static void echo_of_ten_megabytes(void **state)
{
    for (uint64_t seed = 1; seed <= 3; seed++)
        echo_run(*state, seed);
}

static void echo_with_tiny_buffers(void **state)
{
    struct loop *loop = net_test_loop(8, 512);
    echo_run(loop, 4);
    assert_true(loop_stats(loop)->starved > 0);
    loop_free(loop);
}

#define output_test(name) cmocka_unit_test_setup_teardown(name, net_test_setup, net_test_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        output_test(reference_is_released_when_sent),
        output_test(reference_is_released_at_close),
        output_test(reference_is_released_at_a_failure),
        output_test(reference_given_too_late_is_released_at_once),
        output_test(release_may_close_the_connection),
        output_test(client_that_never_reads_is_bounded_by_its_session),
        output_test(echo_of_ten_megabytes),
        cmocka_unit_test(echo_with_tiny_buffers),
    };
    return cmocka_run_group_tests_name("net/output", tests, NULL, NULL);
}
