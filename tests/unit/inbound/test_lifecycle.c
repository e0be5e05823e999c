/* How sessions end, and what a gateway that is full, idle, reloaded or on its way out does with them. */

#include "tests/unit/inbound/world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "gateway/base/clock.h"
#include "gateway/inbound/session.h"

static struct client *client_in_content(struct world *world)
{
    struct client *client = client_new(world, NULL);
    client_hello(client);
    CONVERSE(client, "C: MAIL FROM:<a@client.test>", "S: 250 *", "C: RCPT TO:<b@example.com>", "S: 250 *",
             "C: DATA", "S: 354 *", "C: some");
    return client;
}

/* --- The client goes --- */

static void test_fin_at_every_octet(void **state)
{
    static const char stream[] = "EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nx\r\n.\r\n";
    struct world *world = world_new(NULL);
    for (size_t size = 0; size < sizeof(stream); size++) {
        struct client *client = client_new(world, NULL);
        client_send(client, stream, size);
        client_shut_down(client);
        const bool is_complete = size == sizeof(stream) - 1;
        const char *text = client_transcript(client);
        assert_int_equal(strstr(text, "queued as") != NULL, is_complete);
        client_free(client);
        world_wait_empty(world);
        assert_int_equal(world->queue.message_count, is_complete);
        world_clear(world);
    }
    world_free(world);
}

static void test_reset_at_every_octet(void **state)
{
    static const char stream[] = "EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nx\r\n.";
    struct world *world = world_new(NULL);
    for (size_t size = 0; size < sizeof(stream); size++) {
        struct client *client = client_new(world, NULL);
        client_send(client, stream, size);
        client_reset(client);
        client_free(client);
        world_wait_empty(world);
        assert_int_equal(world->queue.message_count, 0);
        world_clear(world);
    }
    world_free(world);
}

static void test_eof_while_a_commit_is_under_way(void **state)
{
    struct world *world = world_new(NULL);
    struct client *client = client_new(world, NULL);
    client_hello(client);
    world->queue.holds_commits = true;
    client_send_message(client, "x\r\n");
    client_shut_down(client);
    client_expect_silence(client);
    world->queue.holds_commits = false;
    CONVERSE(client, "S: 250 2.0.0 Ok: queued as *", "-- closed");
    client_free(client);
    world_free(world);
}

static void test_reset_while_a_commit_is_under_way(void **state)
{
    for (int error = 0; error >= -EIO; error -= EIO) {
        struct world *world = world_new(NULL);
        struct client *client = client_new(world, NULL);
        client_hello(client);
        world->queue.holds_commits = true;
        world->queue.committed_error = error;
        client_send_message(client, "x\r\n");
        world_settle(world);
        client_reset(client);
        world_settle(world);
        /* The connection is gone; the message keeps its session. */
        assert_int_equal(counter_get(&world->counters, COUNTER_connections_open), 0);
        assert_int_equal(inbound_session_count(&world->inbound), 1);
        assert_non_null(strstr(world_log(world), "reason=lost error=ECONNRESET"));
        world->queue.holds_commits = false;
        world_wait_empty(world);
        assert_int_equal(world->queue.message_count, error == 0);
        assert_int_equal(strstr(world_log(world), " accept id=") != NULL, error == 0);
        assert_int_equal(strstr(world_log(world), "reason=STORAGE_FAILED") != NULL, error != 0);
        client_free(client);
        world_free(world);
    }
}

static void test_reset_while_waiting_for_room(void **state)
{
    struct world *world = world_new(NULL);
    world->queue.is_full = true;
    struct client *stalled = client_in_content(world);
    struct client *uncommitted = client_in_content(world);
    world_settle(world);
    fake_queue_give_room(&world->queue, UINT64_MAX);
    world_settle(world);
    world->queue.is_full = true;
    CONVERSE(stalled, "C: more");
    CONVERSE(uncommitted, "C| .\r\n");
    world_settle(world);
    client_reset(stalled);
    client_reset(uncommitted);
    while (inbound_session_count(&world->inbound) > 1)
        world_settle(world);
    assert_int_equal(world->queue.drafts_aborted, 1);
    /* The other is not listening, as long as what it was sent is not taken. */
    fake_queue_give_room(&world->queue, UINT64_MAX);
    world_wait_empty(world);
    assert_int_equal(world->queue.drafts_aborted, 2);
    assert_int_equal(world->queue.message_count, 0);
    client_free(stalled);
    client_free(uncommitted);
    world_free(world);
}

/* --- The client does nothing --- */

static void test_timeouts(void **state)
{
    struct world *world = world_new("timeouts { inbound_command = \"200ms\" inbound_data = \"400ms\" }\n");
    struct client *silent = client_new(world, NULL);
    struct client *idle = client_new(world, NULL);
    struct client *content = client_in_content(world);
    client_hello(idle);
    CONVERSE(silent, "S: 220 *", "S: 421 4.4.2 Error: timeout exceeded", "-- closed");
    CONVERSE(idle, "S: 421 4.4.2 *", "-- closed");
    CONVERSE(content, "S: 421 4.4.2 *", "-- closed");
    assert_int_equal(world->queue.drafts_aborted, 1);
    world_wait_empty(world);
    assert_non_null(strstr(world_log(world), "reason=timeout"));
    client_free(silent);
    client_free(idle);
    client_free(content);
    world_free(world);
}

/* Octets that make no command do not count as life, pieces of content do. */
static void test_drops_of_a_command_do_not_keep_a_session(void **state)
{
    struct world *world = world_new("timeouts { inbound_command = \"200ms\" inbound_data = \"400ms\" }\n");
    struct client *drip = client_new(world, NULL);
    client_expect(drip, "220 *");
    struct client *content = client_in_content(world);
    const uint64_t end_us = clock_monotonic_us() + 1000000;
    while (clock_monotonic_us() < end_us) {
        client_send(drip, "N", 1);
        client_send(content, "x", 1);
        world_settle(world);
    }
    CONVERSE(drip, "S: 421 4.4.2 *", "-- closed");
    CONVERSE(content, "C: ", "C: .", "S: 250 2.0.0 *", "C: QUIT", "S: 221 *", "-- closed");
    client_free(drip);
    client_free(content);
    world_free(world);
}

static void test_no_timeout_while_the_queue_is_waited_for(void **state)
{
    struct world *world = world_new("timeouts { inbound_command = \"100ms\" inbound_data = \"100ms\" }\n");
    struct client *client = client_new(world, NULL);
    client_hello(client);
    world->queue.holds_commits = true;
    client_send_message(client, "x\r\n");
    const uint64_t end_us = clock_monotonic_us() + 500000;
    while (clock_monotonic_us() < end_us)
        world_settle(world);
    client_expect_silence(client);
    world->queue.holds_commits = false;
    CONVERSE(client, "S: 250 2.0.0 *", "C: QUIT", "S: 221 *", "-- closed");
    client_free(client);
    world_free(world);
}

/* A client that asks without end and never reads: its replies are bounded, and it can go on once it reads. */
static void test_a_client_that_does_not_read(void **state)
{
    struct world *world = world_new(NULL);
    struct client *client = client_new(world, NULL);
    client_hello(client);
    static const char help[] = "HELP\r\n";
    const size_t help_size = sizeof(help) - 1;
    size_t sent = 0; /* octets */
    for (int calm = 0; calm < 200;) {
        const size_t skip = sent % help_size;
        const ssize_t size = send(client->fd, help + skip, help_size - skip, MSG_DONTWAIT | MSG_NOSIGNAL);
        assert_true(size > 0 || errno == EAGAIN);
        sent += size > 0 ? (size_t)size : 0;
        calm = size > 0 ? 0 : calm + 1;
        if (size < 0 || sent % 64 == 0)
            loop_turn(world->loop, 0);
    }
    const struct session *session = list_entry(list_first(&world->inbound.sessions), struct session, link);
    assert_true(conn_pending_bytes(&session->conn) > INBOUND_UNREAD_MAX);
    assert_true(conn_pending_bytes(&session->conn) < 2 * INBOUND_UNREAD_MAX);
    for (size_t i = 0; i < sent / help_size; i++)
        client_expect(client, "214 2.0.0 *");
    client_send(client, help + sent % help_size, help_size - sent % help_size);
    client_expect(client, "214 2.0.0 *");
    CONVERSE(client, "C: QUIT", "S: 221 *", "-- closed");
    client_free(client);
    world_free(world);
}

/* --- The gateway is full, reloads, goes --- */

static void test_too_many_connections(void **state)
{
    struct world *world = world_new("limits { connections = 2 }\n");
    struct client *clients[3];
    for (int i = 0; i < 3; i++)
        clients[i] = client_new(world, NULL);
    CONVERSE(clients[2], "S: 421 4.3.2 Too many connections*", "-- closed");
    assert_int_equal(counter_get(&world->counters, COUNTER_connections_refused), 1);
    CONVERSE(clients[0], "S: 220 *", "C: QUIT", "S: 221 *", "-- closed");
    while (inbound_session_count(&world->inbound) > 1)
        world_settle(world);
    struct client *again = client_new(world, NULL);
    CONVERSE(again, "S: 220 *", "C: QUIT", "S: 221 *", "-- closed");
    CONVERSE(clients[1], "S: 220 *", "C: QUIT", "S: 221 *", "-- closed");
    for (int i = 0; i < 3; i++)
        client_free(clients[i]);
    client_free(again);
    world_free(world);
}

static void test_connections_are_counted_over_all_workers(void **state)
{
    struct world *world = world_new("limits { connections = 3 }\n");
    _Atomic uint32_t count = 2; /* elsewhere */
    world->inbound.options.connection_count = &count;
    struct client *first = client_new(world, NULL);
    struct client *second = client_new(world, NULL);
    CONVERSE(second, "S: 421 4.3.2 *", "-- closed");
    assert_int_equal(count, 3);
    CONVERSE(first, "S: 220 *", "C: QUIT", "S: 221 *", "-- closed");
    world_wait_empty(world);
    assert_int_equal(count, 2);
    client_free(first);
    client_free(second);
    world_free(world);
}

static void test_a_reload_in_mid_session(void **state)
{
    struct world *world = world_new(NULL);
    struct client *client = client_new(world, NULL);
    client_hello(client);
    CONVERSE(client, "C: MAIL FROM:<a@b>", "S: 250 *", "C: RCPT TO:<x@new.test>", "S: 550 5.4.4 *");
    world_reload(world, "route \"new.test\" { to = \"smtp://127.0.0.1:2526\" }\n");
    CONVERSE(client, "C: RCPT TO:<x@new.test>", "S: 250 *", "C: DATA", "S: 354 *", "C: x");
    world_reload(world, NULL);
    CONVERSE(client, "C: .", "S: 250 2.0.0 *", "C: QUIT", "S: 221 *", "-- closed");
    client_free(client);
    world_free(world);
}

static void test_drain(void **state)
{
    struct world *world = world_new(NULL);
    struct client *greeted = client_new(world, NULL);
    client_expect(greeted, "220 *");
    struct client *ready = client_new(world, NULL);
    client_hello(ready);
    struct client *mail = client_new(world, NULL);
    client_hello(mail);
    CONVERSE(mail, "C: MAIL FROM:<a@b>", "S: 250 *");
    struct client *content = client_in_content(world);
    struct client *committing = client_new(world, NULL);
    client_hello(committing);
    world->queue.holds_commits = true;
    client_send_message(committing, "x\r\n");
    world_settle(world);

    inbound_drain(&world->inbound);
    inbound_drain(&world->inbound);
    CONVERSE(greeted, "S: 421 4.3.2 Service is shutting down", "-- closed");
    CONVERSE(ready, "S: 421 4.3.2 *", "-- closed");
    struct client *late = client_new(world, NULL);
    CONVERSE(late, "S: 421 4.3.2 Service is shutting down", "-- closed");
    client_expect_silence(mail);
    client_expect_silence(content);
    client_expect_silence(committing);
    world->queue.holds_commits = false;
    CONVERSE(committing, "S: 250 2.0.0 *", "S: 421 4.3.2 *", "-- closed");
    CONVERSE(mail, "C: RCPT TO:<b@example.com>", "S: 250 *", "C: RSET", "S: 250 *", "S: 421 4.3.2 *",
             "-- closed");
    CONVERSE(content, "C: .", "S: 250 2.0.0 *", "S: 421 4.3.2 *", "-- closed");
    assert_int_equal(world->queue.message_count, 2);

    struct client *all[] = {greeted, ready, mail, content, committing, late};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        client_free(all[i]);
    world_free(world);
}

static void test_a_drain_does_not_wait_for_ever(void **state)
{
    struct world *world = world_new(NULL);
    struct client *mail = client_new(world, NULL);
    client_hello(mail);
    CONVERSE(mail, "C: MAIL FROM:<a@b>", "S: 250 *");
    world->queue.is_full = true;
    struct client *stalled = client_in_content(world);
    world_settle(world);
    inbound_drain(&world->inbound);
    /* As if all but a moment of INBOUND_DRAIN_MS had gone by. */
    world->inbound.drain_deadline_us = loop_now_us(world->loop) + 100000;
    list_each(link, &world->inbound.sessions) session_drain(list_entry(link, struct session, link));
    CONVERSE(mail, "C: NOOP", "S: 250 *", "S: 421 4.3.2 Service is shutting down", "-- closed");
    CONVERSE(stalled, "S: 421 4.3.2 *", "-- closed");
    assert_int_equal(world->queue.drafts_aborted, 1);
    client_free(mail);
    client_free(stalled);
    world_free(world);
}

/* --- Memory --- */

static void test_steady_traffic_allocates_nothing(void **state)
{
    struct world *world = world_new(NULL);
    uint64_t allocations = 0;
    for (int round = 0; round < 30; round++) {
        struct client *client = client_new(world, NULL);
        client_hello(client);
        client_send_message(client, "x\r\n");
        CONVERSE(client, "S: 250 2.0.0 *", "C: QUIT", "S: 221 *", "-- closed");
        world_wait_empty(world);
        client_free(client);
        if (round == 0)
            allocations = world->pool.heap_allocations;
    }
    assert_true(allocations > 0);
    assert_int_equal(world->pool.heap_allocations, allocations);
    world_free(world);
}

static void test_an_idle_session_holds_nothing_but_itself(void **state)
{
    struct world *world = world_new(NULL);
    struct client *client = client_new(world, NULL);
    client_hello(client);
    client_send_message(client, "x\r\n");
    CONVERSE(client, "S: 250 2.0.0 *", "C: MAIL FROM:<a@b>", "S: 250 *");
    assert_true(world->pool.used_bytes > 4096);
    CONVERSE(client, "C: RSET", "S: 250 *");
    assert_int_equal(world->pool.used_bytes, 4096);
    CONVERSE(client, "C: QUIT", "S: 221 *", "-- closed");
    client_free(client);
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fin_at_every_octet),
        cmocka_unit_test(test_reset_at_every_octet),
        cmocka_unit_test(test_eof_while_a_commit_is_under_way),
        cmocka_unit_test(test_reset_while_a_commit_is_under_way),
        cmocka_unit_test(test_reset_while_waiting_for_room),
        cmocka_unit_test(test_timeouts),
        cmocka_unit_test(test_drops_of_a_command_do_not_keep_a_session),
        cmocka_unit_test(test_no_timeout_while_the_queue_is_waited_for),
        cmocka_unit_test(test_a_client_that_does_not_read),
        cmocka_unit_test(test_too_many_connections),
        cmocka_unit_test(test_connections_are_counted_over_all_workers),
        cmocka_unit_test(test_a_reload_in_mid_session),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_a_drain_does_not_wait_for_ever),
        cmocka_unit_test(test_steady_traffic_allocates_nothing),
        cmocka_unit_test(test_an_idle_session_holds_nothing_but_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
