/* Content on its way into the queue: whatever the cuts and the queue's moods, no octet is lost or stored
 * twice. */

#include "tests/unit/inbound/world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- Cuts and room --- */

static const char stream[] =
    "EHLO x\r\nMAIL FROM:<a@b> BODY=8BITMIME\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"
    "Subject: x\r\n\r\n..\r\n..dot\r\n...\r\nend\r\n.\r\n"
    "RSET\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\nRCPT TO:<c@example.com>\r\n"
    "DATA\r\n.\r\n"
    "MAIL FROM:<a@b>\r\nRCPT TO:<no@route.test>\r\nDATA\r\nMAIL FROM:<c@d>\r\nRSET\r\n"
    "MAIL FROM:<a@b>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n..x\r\n.\r\nQUIT\r\n";

static const char replies[] =
    "220 relay.test ESMTP Sluice\r\n"
    "250-relay.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250-CHUNKING\r\n"
    "250-BINARYMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n250 SIZE 65536\r\n"
    "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data with <CR><LF>.<CR><LF>\r\n"
    "250 2.0.0 Ok: queued as 0000000000001\r\n"
    "250 2.0.0 Ok\r\n250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n250 2.1.5 Ok\r\n354 End data with <CR><LF>.<CR><LF>\r\n"
    "250 2.0.0 Ok: queued as 0000000000002\r\n"
    "250 2.1.0 Ok\r\n550 5.4.4 No route to the domain of this recipient\r\n554 5.5.1 No valid recipients\r\n"
    "503 5.5.1 Sender was already given\r\n250 2.0.0 Ok\r\n"
    "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data with <CR><LF>.<CR><LF>\r\n"
    "250 2.0.0 Ok: queued as 0000000000003\r\n"
    "221 2.0.0 Bye\r\n";

static void expect_outcome(struct world *world, struct client *client)
{
    assert_string_equal(client_transcript(client), replies);
    assert_int_equal(world->queue.message_count, 3);
    expect_body(&world->queue.messages[0], "Subject: x\r\n\r\n..\r\n..dot\r\n...\r\nend\r\n");
    expect_body(&world->queue.messages[1], "");
    expect_body(&world->queue.messages[2], "..x\r\n");
    client_free(client);
    world_clear(world);
}

static void test_every_cut(void **state)
{
    struct world *world = world_new(NULL);
    for (size_t cut = 0; cut < sizeof(stream); cut++) {
        struct client *client = client_new(world, NULL);
        client_send(client, stream, cut);
        client_send(client, stream + cut, sizeof(stream) - 1 - cut);
        expect_outcome(world, client);
    }
    world_free(world);
}

static void test_one_octet_at_a_time(void **state)
{
    struct world *world = world_new(NULL);
    struct client *client = client_new(world, NULL);
    for (size_t i = 0; i < sizeof(stream) - 1; i++)
        client_send(client, stream + i, 1);
    expect_outcome(world, client);
    world_free(world);
}

/* The queue takes `trickle` octets at a time and then none, in mid-trace, mid-content, and at each held-back
 * dot. */
static void test_a_queue_that_is_nearly_full(void **state)
{
    struct world *world = world_new(NULL);
    for (uint64_t trickle = 1; trickle < 40; trickle++) {
        world->trickle = trickle;
        world->queue.is_full = true;
        struct client *client = client_new(world, NULL);
        client_send(client, stream, sizeof(stream) - 1);
        expect_outcome(world, client);
    }
    world_free(world);
}

static void test_a_queue_that_is_nearly_full_and_random_cuts(void **state)
{
    struct world *world = world_new(NULL);
    srandom(7);
    for (int round = 0; round < 200; round++) {
        world->trickle = 1 + (uint64_t)random() % 200;
        world->queue.is_full = true;
        struct client *client = client_new(world, NULL);
        for (size_t at = 0; at < sizeof(stream) - 1;) {
            size_t size = 1 + (size_t)random() % 60;
            if (size > sizeof(stream) - 1 - at)
                size = sizeof(stream) - 1 - at;
            client_send(client, stream + at, size);
            at += size;
        }
        expect_outcome(world, client);
    }
    world_free(world);
}

/* Large content through many receive buffers, some left with the connection. */
static void test_large_content_with_stalls(void **state)
{
    enum { SIZE = 60000 };
    char *content = malloc(SIZE + 1);
    assert_non_null(content);
    for (int i = 0; i < SIZE; i++)
        content[i] = (char)(i % 50 == 48 ? '\r' : i % 50 == 49 ? '\n' : 'a' + i * 7 % 26);
    content[SIZE] = '\0';
    for (uint64_t trickle = 700; trickle < 70000; trickle = trickle * 3 + 1) {
        struct world *world = world_new(NULL);
        world->trickle = trickle;
        world->queue.is_full = true;
        struct client *client = client_new(world, NULL);
        client_hello(client);
        client_send_message(client, content);
        CONVERSE(client, "S: 250 2.0.0 *");
        client_send_message(client, content);
        CONVERSE(client, "S: 250 2.0.0 *", "C: QUIT", "S: 221 *", "-- closed");
        expect_body(&world->queue.messages[0], content);
        expect_body(&world->queue.messages[1], content);
        assert_true(world->queue.eagain_count > 0);
        client_free(client);
        world_free(world);
    }
    free(content);
}

/* --- Refused content --- */

/* A world with one client that has said EHLO. */
struct scene {
    struct world *world;
    struct client *client;
};

static struct scene scene_open(const char *config_more)
{
    struct scene scene = {.world = world_new(config_more)};
    scene.client = client_new(scene.world, NULL);
    client_hello(scene.client);
    return scene;
}

/* The session still works: one more message is taken. */
static void scene_close(struct scene scene)
{
    const size_t before = scene.world->queue.message_count;
    client_send_message(scene.client, "after all\r\n");
    CONVERSE(scene.client, "S: 250 2.0.0 Ok: queued as *", "C: QUIT", "S: 221 *", "-- closed");
    assert_int_equal(scene.world->queue.message_count, before + 1);
    expect_body(&scene.world->queue.messages[before], "after all\r\n");
    client_free(scene.client);
    world_free(scene.world);
}

static void test_too_big(void **state)
{
    struct scene scene = scene_open(NULL);
    char line[1001];
    memset(line, 'x', 998);
    memcpy(line + 998, "\r\n", 3);
    CONVERSE(scene.client, "C: MAIL FROM:<a@b>", "S: 250 *", "C: RCPT TO:<b@example.com>", "S: 250 *",
             "C: DATA", "S: 354 *");
    for (int i = 0; i < 66; i++)
        client_send(scene.client, line, 1000);
    client_expect_silence(scene.client);
    assert_int_equal(scene.world->queue.drafts_aborted, 1); /* at once, not at the end */
    CONVERSE(scene.client, "C: .", "S: 552 5.3.4 Message is larger than the limit");
    assert_int_equal(counter_get(&scene.world->counters, COUNTER_messages_refused), 1);
    scene_close(scene);
}

static void test_exactly_the_limit(void **state)
{
    struct scene scene = scene_open(NULL);
    char *content = malloc(65536 + 1);
    assert_non_null(content);
    memset(content, 'x', 65534);
    memcpy(content + 65534, "\r\n", 3);
    client_send_message(scene.client, content);
    CONVERSE(scene.client, "S: 250 2.0.0 *");
    free(content);
    scene_close(scene);
}

static void test_mail_that_goes_round_in_circles(void **state)
{
    struct scene scene = scene_open(NULL);
    char content[64 * 110] = "";
    for (int i = 0; i < INBOUND_HOPS_MAX; i++)
        strcat(content, "Received: from x by y; date\r\n");
    client_send_message(scene.client, content);
    CONVERSE(scene.client, "S: 250 2.0.0 *");
    strcat(content, "received : from x\r\n\r\n");
    client_send_message(scene.client, content);
    CONVERSE(scene.client, "S: 554 5.4.6 Too many hops");
    assert_int_equal(scene.world->queue.message_count, 1);
    scene_close(scene);
}

static void test_received_in_the_body_is_no_hop(void **state)
{
    struct scene scene = scene_open(NULL);
    char content[64 * 110] = "Subject: x\r\n\r\n";
    for (int i = 0; i < INBOUND_HOPS_MAX + 5; i++)
        strcat(content, "Received: from x by y; date\r\n");
    client_send_message(scene.client, content);
    CONVERSE(scene.client, "S: 250 2.0.0 *");
    scene_close(scene);
}

/* Each of these could be read as two messages by somebody else. None is taken, nothing behind it is run. */
static void test_smuggling(void **state)
{
    static const struct {
        const char *bytes;
        const char *reply;
    } table[] = {
        {"a\n.\nMAIL FROM:<evil@b>\r\n", "521 5.5.2 bare <LF> refused"},
        {"a\n.\r\nMAIL FROM:<evil@b>\r\n", "521 5.5.2 bare <LF> refused"},
        {"a\r\n.\nMAIL FROM:<evil@b>\r\n", "521 5.5.2 bare <LF> refused"},
        {"a\r.\rMAIL FROM:<evil@b>\r\n", "521 5.5.2 bare <CR> refused"},
        {"a\r.\r\nMAIL FROM:<evil@b>\r\n", "521 5.5.2 bare <CR> refused"},
        {"a\r\n.\rMAIL FROM:<evil@b>\r\n", "521 5.5.2 bare <CR> refused"},
        {"a\r\r\n.\r\nMAIL FROM:<evil@b>\r\n", "521 5.5.2 bare <CR> refused"},
        {"\n.\r\n", "521 5.5.2 bare <LF> refused"},
        {".\n", "521 5.5.2 bare <LF> refused"},
        {".\rx", "521 5.5.2 bare <CR> refused"},
    };
    struct world *world = world_new(NULL);
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        for (size_t cut = 0; cut < strlen(table[i].bytes); cut++) {
            struct client *client = client_new(world, NULL);
            client_hello(client);
            CONVERSE(client, "C: MAIL FROM:<a@b>", "S: 250 *", "C: RCPT TO:<b@example.com>", "S: 250 *",
                     "C: DATA", "S: 354 *");
            client_send(client, table[i].bytes, cut);
            client_send(client, table[i].bytes + cut, strlen(table[i].bytes) - cut);
            client_expect(client, table[i].reply);
            client_expect_closed(client);
            assert_int_equal(world->queue.message_count, 0);
            assert_int_equal(world->queue.drafts_aborted, 1);
            client_free(client);
            world_clear(world);
        }
    }
    world_free(world);
}

/* --- A queue in trouble --- */

static void test_a_queue_that_takes_nothing(void **state)
{
    static const struct {
        enum queue_state state;
        const char *reply;
    } table[] = {
        {QUEUE_DISK_FULL, "452 4.3.1 Insufficient system storage"},
        {QUEUE_MEMORY_FULL, "452 4.3.1 Insufficient system storage"},
        {QUEUE_FAILED, "451 4.3.0 The queue cannot be written"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct scene scene = scene_open(NULL);
        scene.world->queue.state = table[i].state;
        CONVERSE(scene.client, "C: MAIL FROM:<a@b>");
        client_expect(scene.client, table[i].reply);
        /* The state changes within the transaction. */
        scene.world->queue.state = QUEUE_OPEN;
        CONVERSE(scene.client, "C: MAIL FROM:<a@b>", "S: 250 *", "C: RCPT TO:<b@example.com>", "S: 250 *");
        scene.world->queue.state = table[i].state;
        CONVERSE(scene.client, "C: DATA");
        client_expect(scene.client, table[i].reply);
        CONVERSE(scene.client, "C: RCPT TO:<b@example.com>", "S: 503 5.5.1 Send MAIL first");
        scene.world->queue.state = QUEUE_OPEN;
        scene_close(scene);
    }
}

static void test_a_draft_that_dies(void **state)
{
    static const struct {
        int error;
        const char *reply;
    } table[] = {
        {-ENOSPC, "452 4.3.1 Insufficient system storage"},
        {-EIO, "451 4.3.0 The queue cannot be written"},
        {-ETIMEDOUT, "451 4.4.2 The content came too slowly"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct scene scene = scene_open(NULL);
        struct queue *queue = &scene.world->queue;

        queue->append_error = table[i].error; /* with the first octet */
        client_send_message(scene.client, "x\r\n..y\r\n");
        client_expect(scene.client, table[i].reply);
        queue->append_error = 0;

        CONVERSE(scene.client, "C: MAIL FROM:<a@b>", "S: 250 *", "C: RCPT TO:<b@example.com>", "S: 250 *",
                 "C: DATA", "S: 354 *", "C: some", "C| .");
        queue->append_error = table[i].error; /* with an octet that was held back */
        CONVERSE(scene.client, "C: .", "C: more", "C: .");
        client_expect(scene.client, table[i].reply);
        queue->append_error = 0;

        queue->commit_error = table[i].error;
        client_send_message(scene.client, "x\r\n");
        client_expect(scene.client, table[i].reply);
        queue->commit_error = 0;
        assert_int_equal(queue->drafts_aborted, 3);

        queue->committed_error = table[i].error;
        client_send_message(scene.client, "x\r\n");
        client_expect(scene.client, table[i].reply);
        queue->committed_error = 0;

        assert_int_equal(queue->message_count, 0);
        assert_int_equal(counter_get(&scene.world->counters, COUNTER_messages_refused), 4);
        assert_null(strstr(world_log(scene.world), " accept "));
        scene_close(scene);
    }
}

static void test_nothing_is_answered_before_it_is_durable(void **state)
{
    struct scene scene = scene_open(NULL);
    scene.world->queue.holds_commits = true;
    client_send_message(scene.client, "x\r\n");
    CONVERSE(scene.client, "C: NOOP", "C: MAIL FROM:<next@b>");
    client_expect_silence(scene.client);
    assert_null(strstr(world_log(scene.world), " accept "));
    scene.world->queue.holds_commits = false;
    CONVERSE(scene.client, "S: 250 2.0.0 Ok: queued as 0000000000001", "S: 250 2.0.0 Ok", "S: 250 2.1.0 Ok",
             "C: RSET", "S: 250 *");
    assert_non_null(strstr(world_log(scene.world), " accept id=0000000000001 from=<a@client.test>"));
    scene_close(scene);
}

static void test_waiting_sessions_go_on_in_turn(void **state)
{
    struct world *world = world_new(NULL);
    struct client *clients[3];
    world->queue.is_full = true;
    for (int i = 0; i < 3; i++) {
        clients[i] = client_new(world, NULL);
        client_hello(clients[i]);
        client_send_message(clients[i], i == 0 ? "" : "x\r\n");
    }
    for (int i = 0; i < 3; i++)
        client_expect_silence(clients[i]);
    fake_queue_give_room(&world->queue, UINT64_MAX);
    for (int i = 0; i < 3; i++) {
        CONVERSE(clients[i], "S: 250 2.0.0 *", "C: QUIT", "S: 221 *", "-- closed");
        client_free(clients[i]);
    }
    assert_int_equal(world->queue.message_count, 3);
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_one_octet_at_a_time),
        cmocka_unit_test(test_a_queue_that_is_nearly_full),
        cmocka_unit_test(test_a_queue_that_is_nearly_full_and_random_cuts),
        cmocka_unit_test(test_large_content_with_stalls),
        cmocka_unit_test(test_too_big),
        cmocka_unit_test(test_exactly_the_limit),
        cmocka_unit_test(test_mail_that_goes_round_in_circles),
        cmocka_unit_test(test_received_in_the_body_is_no_hop),
        cmocka_unit_test(test_smuggling),
        cmocka_unit_test(test_a_queue_that_takes_nothing),
        cmocka_unit_test(test_a_draft_that_dies),
        cmocka_unit_test(test_nothing_is_answered_before_it_is_durable),
        cmocka_unit_test(test_waiting_sessions_go_on_in_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
