#include "conn_test.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

static void bytes_come_and_go(void **state)
{
    struct probe probe;
    char reply[32] = {0};
    int peer = probe_open(&probe, *state);
    net_test_write(peer, "EHLO a\r\n", 8);
    turn_until(*state, probe.received == 8);
    assert_string_equal(probe.text, "EHLO a\r\n");
    conn_send_static(&probe.conn, "250-b\r\n", 7);
    conn_send_copy(&probe.conn, "250 SIZE\r\n", 10);
    assert_int_equal(conn_pending_bytes(&probe.conn), 17);
    turn_until(*state, probe.counts[PROBE_DRAINED] == 1);
    assert_int_equal(net_test_read_all(peer, reply, 17), 17);
    assert_string_equal(reply, "250-b\r\n250 SIZE\r\n");
    assert_int_equal(loop_stats(*state)->sends, 1);
    probe_end(&probe, *state);
    assert_int_equal(probe.close_error, 0);
    close(peer);
}

static void addresses_of_both_ends(void **state)
{
    struct probe probe;
    int peer = probe_open(&probe, *state);
    struct sockaddr_in expected;
    socklen_t size = sizeof(expected);
    assert_int_equal(getsockname(peer, (struct sockaddr *)&expected, &size), 0);
    assert_memory_equal(conn_peer(&probe.conn), &expected, sizeof(expected));
    assert_int_equal(getpeername(peer, (struct sockaddr *)&expected, &size), 0);
    assert_memory_equal(conn_local(&probe.conn), &expected, sizeof(expected));
    probe_end(&probe, *state);
    close(peer);
}

static void idle_connection_holds_no_block_and_no_buffer(void **state)
{
    struct probe probe;
    int peer = probe_open(&probe, *state);
    net_test_write(peer, "x", 1);
    turn_until(*state, probe.received == 1);
    conn_send_copy(&probe.conn, "y", 1);
    turn_until(*state, probe.counts[PROBE_DRAINED] == 1);
    assert_null(probe.conn.output.first);
    assert_null(probe.conn.held_first);
    probe_end(&probe, *state);
    close(peer);
}

static void paused_connection_delivers_in_order_after_resume(void **state)
{
    enum { TOTAL = 3000000 };
    static char bytes[TOTAL];
    struct probe probe;
    int peer = probe_open(&probe, *state);
    int small = 65536;
    assert_int_equal(setsockopt(peer, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
    conn_pause(&probe.conn);
    memset(bytes, 'b', sizeof(bytes));
    memcpy(bytes, "first", 5);
    size_t sent = 0;
    /* The peer writes until the kernel holds it back. */
    for (int calm = 0; calm < 20;) {
        ssize_t part = send(peer, bytes + sent, sizeof(bytes) - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        calm = part > 0 ? 0 : calm + 1;
        sent += part > 0 ? (size_t)part : 0;
        if (sent == sizeof(bytes))
            break;
        loop_turn(*state, 1000);
    }
    assert_int_equal(probe.received, 0);
    assert_true(probe.conn.held_bytes > 0);
    assert_int_equal(probe.conn.rx, CONN_RX_OFF);
    conn_resume(&probe.conn);
    turn_until(*state, probe.received == sent);
    assert_memory_equal(probe.text, "firstbbbb", 9);
    probe_end(&probe, *state);
    close(peer);
}

static void short_pause_costs_no_cancel(void **state)
{
    struct probe probe;
    int peer = probe_open(&probe, *state);
    conn_pause(&probe.conn);
    net_test_write(peer, "abc", 3);
    turn_until(*state, probe.conn.held_bytes == 3);
    conn_resume(&probe.conn);
    turn_until(*state, probe.received == 3);
    assert_int_equal(probe.conn.rx, CONN_RX_ARMED);
    probe_end(&probe, *state);
    close(peer);
}

static void pause_probe(struct probe *probe)
{
    conn_pause(&probe->conn);
}

static void bytes_left_by_on_data_come_again(void **state)
{
    struct probe probe;
    int peer = probe_open(&probe, *state);
    probe.consume_nothing = true;
    probe.act_on = PROBE_DATA;
    probe.act = pause_probe;
    net_test_write(peer, "abc", 3);
    turn_until(*state, probe.counts[PROBE_DATA] == 1);
    assert_int_equal(probe.received, 0);
    probe.consume_nothing = false;
    probe.act_on = PROBE_EVENTS;
    net_test_write(peer, "def", 3);
    conn_resume(&probe.conn);
    turn_until(*state, probe.received == 6);
    assert_string_equal(probe.text, "abcdef");
    probe_end(&probe, *state);
    close(peer);
}

static void eof_waits_behind_held_bytes(void **state)
{
    struct probe probe;
    int peer = probe_open(&probe, *state);
    conn_pause(&probe.conn);
    net_test_write(peer, "last", 4);
    assert_int_equal(shutdown(peer, SHUT_WR), 0);
    turn_until(*state, probe.conn.rx == CONN_RX_ENDED);
    assert_int_equal(probe.counts[PROBE_EOF], 0);
    conn_resume(&probe.conn);
    turn_until(*state, probe.counts[PROBE_EOF] == 1);
    assert_string_equal(probe.text, "last");
    /* Half closed: our side still sends. */
    char reply[4] = {0};
    conn_send_copy(&probe.conn, "bye", 3);
    turn_until(*state, probe.counts[PROBE_DRAINED] == 1);
    assert_int_equal(net_test_read_all(peer, reply, 3), 3);
    probe_end(&probe, *state);
    close(peer);
}

static void reset_by_peer_is_told(void **state)
{
    struct probe probe;
    int peer = probe_open(&probe, *state);
    loop_turn(*state, 0);
    net_test_reset(peer);
    turn_until(*state, probe_is_closed(&probe));
    assert_int_equal(probe.close_error, -ECONNRESET);
    assert_int_equal(probe.counts[PROBE_EOF], 0);
}

/* A server says 421 and closes while we send: its reply must not be lost to our failing send. */
static void last_words_are_read_though_sending_failed(void **state)
{
    struct probe probe;
    int fds[2];
    net_test_pair(fds);
    probe_init(&probe, *state);
    conn_attach(&probe.conn, fds[0]);
    net_test_write(fds[1], "421 bye\r\n", 9);
    close(fds[1]);
    /* The first send provokes the RST, the second one meets it, before the receive has seen anything. */
    conn_send_copy(&probe.conn, "MAIL", 4);
    turn_until(*state, probe.counts[PROBE_DRAINED] == 1);
    usleep(10000);
    conn_start_reading(&probe.conn, true);
    conn_send_copy(&probe.conn, "DATA", 4);
    turn_until(*state, probe_is_closed(&probe));
    assert_string_equal(probe.text, "421 bye\r\n");
    assert_int_equal(probe.counts[PROBE_EOF], 0);
    assert_true(probe.close_error < 0);
}

static void timeout_fires_once(void **state)
{
    struct probe probe;
    int peer = probe_open(&probe, *state);
    uint64_t start_us = net_test_now_us();
    conn_set_timeout(&probe.conn, 10);
    conn_set_timeout(&probe.conn, 150);
    turn_until(*state, probe.counts[PROBE_TIMEOUT] == 1);
    assert_true(net_test_now_us() - start_us >= 149000);
    conn_set_timeout(&probe.conn, 50);
    conn_clear_timeout(&probe.conn);
    uint64_t until_us = net_test_now_us() + 200000;
    while (net_test_now_us() < until_us)
        loop_turn(*state, 20000);
    assert_int_equal(probe.counts[PROBE_TIMEOUT], 1);
    probe_end(&probe, *state);
    close(peer);
}

static void connect_works_and_tells(void **state)
{
    struct sockaddr_storage address;
    int listening = net_test_listen(&address);
    struct sockaddr_in source = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 5)};
    struct probe probe;
    probe_init(&probe, *state);
    assert_int_equal(conn_connect(&probe.conn, (struct sockaddr *)&address, sizeof(struct sockaddr_in),
                                  (struct sockaddr *)&source),
                     0);
    conn_send_copy(&probe.conn, "early", 5);
    turn_until(*state, probe.counts[PROBE_CONNECTED] == 1);
    assert_int_equal(probe.connect_error, 0);
    assert_memory_equal(conn_peer(&probe.conn), &address, sizeof(struct sockaddr_in));
    const struct sockaddr_in *local = (const struct sockaddr_in *)(const void *)conn_local(&probe.conn);
    assert_int_equal(local->sin_addr.s_addr, source.sin_addr.s_addr);
    int peer = accept(listening, NULL, NULL);
    turn_until(*state, probe.counts[PROBE_DRAINED] == 1);
    char text[6] = {0};
    assert_int_equal(net_test_read_all(peer, text, 5), 5);
    assert_string_equal(text, "early");
    probe_end(&probe, *state);
    close(peer);
    close(listening);
}

static void refused_connect_is_told_and_closed(void **state)
{
    struct sockaddr_storage address;
    close(net_test_listen(&address));
    struct probe probe;
    probe_init(&probe, *state);
    assert_int_equal(conn_connect(&probe.conn, (struct sockaddr *)&address, sizeof(struct sockaddr_in), NULL),
                     0);
    turn_until(*state, probe_is_closed(&probe));
    assert_int_equal(probe.counts[PROBE_CONNECTED], 1);
    assert_int_equal(probe.connect_error, -ECONNREFUSED);
    assert_int_equal(probe.close_error, -ECONNREFUSED);
}

static void close_probe(struct probe *probe)
{
    conn_close(&probe->conn);
}

/* A listener whose backlog is full never answers: the connect stays in the air. */
static void connect_is_given_up_at_its_timeout(void **state)
{
    struct sockaddr_storage address;
    struct sockaddr_in local = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listening, (struct sockaddr *)&local, sizeof(local)), 0);
    assert_int_equal(listen(listening, 0), 0);
    assert_int_equal(getsockname(listening, (struct sockaddr *)&address, &size), 0);
    int filler[4];
    for (int index = 0; index < 4; index++) {
        filler[index] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)!connect(filler[index], (struct sockaddr *)&address, sizeof(struct sockaddr_in));
    }
    struct probe probe;
    probe_init(&probe, *state);
    conn_set_timeout(&probe.conn, 100);
    probe.act_on = PROBE_TIMEOUT;
    probe.act = close_probe;
    assert_int_equal(conn_connect(&probe.conn, (struct sockaddr *)&address, sizeof(struct sockaddr_in), NULL),
                     0);
    turn_until(*state, probe_is_closed(&probe));
    assert_int_equal(probe.counts[PROBE_TIMEOUT], 1);
    assert_int_equal(probe.counts[PROBE_CONNECTED], 0);
    assert_int_equal(probe.close_error, 0);
    for (int index = 0; index < 4; index++)
        close(filler[index]);
    close(listening);
}

static void finish_probe(struct probe *probe)
{
    conn_send_static(&probe->conn, "221 bye\r\n", 9);
    conn_finish(&probe->conn);
}

/* Were the socket closed with unread bytes, the RST would overtake the reply. */
static void finish_delivers_the_last_reply(void **state)
{
    struct probe probe;
    char reply[16] = {0};
    int peer = probe_open(&probe, *state);
    probe.act_on = PROBE_DATA;
    probe.act = finish_probe;
    net_test_write(peer, "QUIT\r\n", 6);
    turn_until(*state, probe.conn.state == CONN_LINGERING);
    net_test_write(peer, "more that nobody asked for", 26);
    for (int turn = 0; turn < 5; turn++)
        loop_turn(*state, 1000);
    assert_int_equal(probe.counts[PROBE_DATA], 1);
    assert_int_equal(net_test_read_all(peer, reply, sizeof(reply)), 9);
    assert_string_equal(reply, "221 bye\r\n");
    close(peer);
    turn_until(*state, probe_is_closed(&probe));
    assert_int_equal(probe.close_error, 0);
    assert_int_equal(probe.counts[PROBE_EOF], 0);
}

static void finish_does_not_wait_for_ever(void **state)
{
    struct probe probe;
    int peer = probe_open(&probe, *state);
    conn_finish(&probe.conn);
    uint64_t start_us = net_test_now_us();
    turn_until(*state, probe_is_closed(&probe));
    uint64_t took_us = net_test_now_us() - start_us;
    assert_in_range(took_us, CONN_LINGER_MS * 900, CONN_LINGER_MS * 1000 + 1000000);
    close(peer);
}

static void finish_while_paused_drops_what_is_held(void **state)
{
    struct probe probe;
    int peer = probe_open(&probe, *state);
    conn_pause(&probe.conn);
    net_test_write(peer, "abc", 3);
    turn_until(*state, probe.conn.held_bytes == 3);
    conn_finish(&probe.conn);
    assert_int_equal(probe.conn.held_bytes, 0);
    assert_int_equal(shutdown(peer, SHUT_WR), 0);
    turn_until(*state, probe_is_closed(&probe));
    assert_int_equal(probe.counts[PROBE_DATA], 0);
    close(peer);
}

/* Close in each callback, with output and a timeout pending. */
static void close_inside_each_callback(void **state)
{
    static const enum probe_event events[] = {PROBE_DATA, PROBE_EOF, PROBE_TIMEOUT, PROBE_DRAINED};
    void (*const actions[])(struct probe *) = {close_probe, finish_probe};
    for (size_t index = 0; index < 8; index++) {
        struct probe probe;
        int peer = probe_open(&probe, *state);
        probe.act_on = events[index / 2];
        probe.act = actions[index % 2];
        if (probe.act_on == PROBE_DATA)
            net_test_write(peer, "x", 1);
        if (probe.act_on == PROBE_EOF)
            assert_int_equal(shutdown(peer, SHUT_WR), 0);
        if (probe.act_on == PROBE_TIMEOUT)
            conn_set_timeout(&probe.conn, 1);
        if (probe.act_on == PROBE_DRAINED)
            conn_send_copy(&probe.conn, "y", 1);
        turn_until(*state, probe.counts[probe.act_on] == 1);
        close(peer);
        turn_until(*state, probe_is_closed(&probe));
        assert_int_equal(probe.counts[probe.act_on], 1);
    }
}

static void close_inside_on_connected(void **state)
{
    struct sockaddr_storage address;
    int listening = net_test_listen(&address);
    struct probe probe;
    probe_init(&probe, *state);
    probe.act_on = PROBE_CONNECTED;
    probe.act = close_probe;
    assert_int_equal(conn_connect(&probe.conn, (struct sockaddr *)&address, sizeof(struct sockaddr_in), NULL),
                     0);
    turn_until(*state, probe_is_closed(&probe));
    assert_int_equal(probe.counts[PROBE_CONNECTED], 1);
    close(listening);
}

/* ---- what a message may cost: a session in lock-step, as most clients are ---- */

static void answer_probe(struct probe *probe)
{
    conn_send_static(&probe->conn, "250 2.0.0 Ok\r\n", 14);
    conn_set_timeout(&probe->conn, 300000);
}

#define MESSAGES 500
#define STEPS    4
#define CONTENT  10240

static void *lock_step_client(void *arg)
{
    static char content[CONTENT];
    char reply[14];
    int peer = *(int *)arg;
    for (int step = 0; step < MESSAGES * STEPS; step++) {
        size_t size = step % STEPS == STEPS - 1 ? CONTENT : 30;
        if (send(peer, content, size, MSG_NOSIGNAL) != (ssize_t)size)
            return (void *)1;
        if (net_test_read_all(peer, reply, sizeof(reply)) != sizeof(reply))
            return (void *)1;
    }
    return NULL;
}

static void budget_of_a_message_is_kept(void **state)
{
    struct loop *loop = *state;
    struct probe probe;
    pthread_t thread;
    void *failed = NULL;
    int peer = probe_open(&probe, loop);
    probe.act_on = PROBE_DATA;
    probe.act = answer_probe;
    assert_int_equal(pthread_create(&thread, NULL, lock_step_client, &peer), 0);
    turn_until(loop, probe.counts[PROBE_DRAINED] == MESSAGES * STEPS);
    pthread_join(thread, &failed);
    assert_null(failed);
    const struct loop_stats *stats = loop_stats(loop);
    assert_int_equal(stats->sends, MESSAGES * STEPS);
    /* One receive and one send a step, and nothing else but the event of the start. */
    assert_int_equal(stats->completions, MESSAGES * STEPS * 2);
    assert_int_equal(stats->allocations, 1);
    /* Alone, a step takes two system calls: the one that sends the reply finds it sent, the next one waits.
     * The slack is for a machine that is busy with other things. */
    assert_true(stats->enters <= MESSAGES * STEPS * 5 / 2);
    probe_end(&probe, loop);
    close(peer);
}

#define conn_test(name) cmocka_unit_test_setup_teardown(name, net_test_setup, net_test_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        conn_test(bytes_come_and_go),
        conn_test(addresses_of_both_ends),
        conn_test(idle_connection_holds_no_block_and_no_buffer),
        conn_test(paused_connection_delivers_in_order_after_resume),
        conn_test(short_pause_costs_no_cancel),
        conn_test(bytes_left_by_on_data_come_again),
        conn_test(eof_waits_behind_held_bytes),
        conn_test(reset_by_peer_is_told),
        conn_test(last_words_are_read_though_sending_failed),
        conn_test(timeout_fires_once),
        conn_test(connect_works_and_tells),
        conn_test(refused_connect_is_told_and_closed),
        conn_test(connect_is_given_up_at_its_timeout),
        conn_test(finish_delivers_the_last_reply),
        conn_test(finish_does_not_wait_for_ever),
        conn_test(finish_while_paused_drops_what_is_held),
        conn_test(close_inside_each_callback),
        conn_test(close_inside_on_connected),
        conn_test(budget_of_a_message_is_kept),
    };
    return cmocka_run_group_tests_name("net/conn", tests, NULL, NULL);
}
