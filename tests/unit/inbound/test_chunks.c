/* BDAT (RFC 3030), as conversations: what becomes of each octet of each chunk, taken or refused. */

#include "tests/unit/inbound/world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/message/envelope.h"

/* A world with one client that has said EHLO. */
struct scene {
    struct world *world;
    struct client *client;
};

static struct scene scene_open_with(const struct world_config *config)
{
    struct scene scene = {.world = world_new_with(config)};
    scene.client = client_new(scene.world, NULL);
    client_hello(scene.client);
    return scene;
}

static struct scene scene_open(void)
{
    return scene_open_with(&(struct world_config){0});
}

/* The session still works: one more message is taken, by chunks. */
static void scene_close(struct scene scene)
{
    const size_t before = scene.world->queue.message_count;
    client_envelope(scene.client);
    CONVERSE(scene.client, "C| BDAT 11 LAST\r\nafter all\r\n", "S: 250 2.0.0 Ok: queued as *");
    client_quit(scene.client);
    assert_int_equal(scene.world->queue.message_count, before + 1);
    expect_body(&scene.world->queue.messages[before], "after all\r\n");
    client_free(scene.client);
    world_free(scene.world);
}

static uint32_t flags_of(const struct fake_message *message)
{
    struct envelope envelope;
    assert_int_equal(envelope_decode(message->meta, message->meta_size, &envelope), 0);
    return envelope.flags & ~(uint32_t)ENVELOPE_TRUSTED;
}

/* --- Taken --- */

static void test_chunks_make_a_message(void **state)
{
    struct scene scene = scene_open();
    client_envelope(scene.client);
    CONVERSE(scene.client,                                                  //
             "C| BDAT 12\r\nSubject: x\r\n", "S: 250 2.0.0 Chunk received", //
             "C| BDAT 0\r\n", "S: 250 2.0.0 Chunk received",                //
             "C| bdat 3\r\n\r\na", "S: 250 2.0.0 Chunk received",           //
             "C| BDAT 3 last\r\nb\r\n", "S: 250 2.0.0 Ok: queued as 0000000000001");
    expect_body(&scene.world->queue.messages[0], "Subject: x\r\n\r\nab\r\n");
    assert_int_equal(flags_of(&scene.world->queue.messages[0]), 0);
    scene_close(scene);
}

/* Content, and how it is stored: as it would have come by DATA. */
static void test_the_stored_form_is_that_of_data(void **state)
{
    static const struct {
        const char *sent; /* behind the envelope */
        const char *stored;
        bool dot_lines;
    } table[] = {
        {"BDAT 0 LAST\r\n", "", false},
        {"BDAT 1\r\nxBDAT 0 LAST\r\n", "x\r\n", false},
        {"BDAT 3 LAST\r\nabc", "abc\r\n", false},
        {"BDAT 2 LAST\r\n\r\n", "\r\n", false},
        {"BDAT 3 LAST\r\n.\r\n", "..\r\n", true},
        {"BDAT 1 LAST\r\n.", "..\r\n", true},
        {"BDAT 7 LAST\r\na\r\n.\r\nb", "a\r\n..\r\nb\r\n", true},
        {"BDAT 4 LAST\r\n..\r\n", "...\r\n", true},
        /* lines that straddle chunks */
        {"BDAT 2\r\na\rBDAT 3 LAST\r\n\n.b", "a\r\n..b\r\n", true},
        {"BDAT 3\r\na\r\nBDAT 1\r\n.BDAT 2 LAST\r\n\r\n", "a\r\n..\r\n", true},
        {"BDAT 1\r\naBDAT 2 LAST\r\n.b", "a.b\r\n", false},
        {"BDAT 1\r\n.BDAT 1\r\n\rBDAT 1 LAST\r\n\n", "..\r\n", true},
        /* a chunk is no command, and no end */
        {"BDAT 9 LAST\r\n\r\n.\r\nQUIT", "\r\n..\r\nQUIT\r\n", true},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct scene scene = scene_open();
        client_envelope(scene.client);
        client_send(scene.client, table[i].sent, strlen(table[i].sent));
        for (const char *at = strstr(table[i].sent + 1, "BDAT"); at != NULL; at = strstr(at + 1, "BDAT"))
            client_expect(scene.client, "250 2.0.0 Chunk received");
        client_expect(scene.client, "250 2.0.0 Ok: queued as *");
        expect_body(&scene.world->queue.messages[0], table[i].stored);
        assert_int_equal(flags_of(&scene.world->queue.messages[0]),
                         table[i].dot_lines ? ENVELOPE_DOT_LINES : 0);
        scene_close(scene);
    }
}

static void test_binary_content_is_kept_octet_by_octet(void **state)
{
    static const char content[] = "\r\n.\r\n\0\n\r.x\xff";
    struct scene scene = scene_open();
    CONVERSE(scene.client, "C: MAIL FROM:<a@b> BODY=BINARYMIME", "S: 250 *", "C: RCPT TO:<b@example.com>",
             "S: 250 *",                                                      //
             "C: DATA", "S: 503 5.5.1 BINARYMIME content comes by BDAT only", //
             "C| BDAT 4\r\n");
    client_send(scene.client, content, 4);
    CONVERSE(scene.client, "S: 250 2.0.0 Chunk received", "C| BDAT 8 LAST\r\n");
    client_send(scene.client, content + 4, 8);
    CONVERSE(scene.client, "S: 250 2.0.0 Ok: queued as *");
    const struct fake_message *message = &scene.world->queue.messages[0];
    size_t size = 0;
    const char *body = message_body(message, &size);
    assert_int_equal(size, 12);
    assert_memory_equal(body, content, 12);
    assert_int_equal(flags_of(message), ENVELOPE_BINARYMIME | ENVELOPE_HAS_8BIT);
    scene_close(scene);
}

static void test_groups_and_both_ways_in_one_session(void **state)
{
    struct scene scene = scene_open();
    CONVERSE(scene.client,
             "C| MAIL FROM:<a@b>\r\nRCPT TO:<b@example.com>\r\nBDAT 1 LAST\r\n1"
             "MAIL FROM:<a@b>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n2\r\n.\r\n"
             "MAIL FROM:<a@b>\r\nRCPT TO:<b@example.com>\r\nBDAT 1\r\n3BDAT 0 LAST\r\nNOOP\r\n",
             "S: 250 2.1.0 Ok", "S: 250 2.1.5 Ok", "S: 250 2.0.0 Ok: queued as 0000000000001",             //
             "S: 250 2.1.0 Ok", "S: 250 2.1.5 Ok", "S: 354 *", "S: 250 2.0.0 Ok: queued as 0000000000002", //
             "S: 250 2.1.0 Ok", "S: 250 2.1.5 Ok", "S: 250 2.0.0 Chunk received",
             "S: 250 2.0.0 Ok: queued as 0000000000003", "S: 250 2.0.0 Ok");
    expect_body(&scene.world->queue.messages[0], "1\r\n");
    expect_body(&scene.world->queue.messages[1], "2\r\n");
    expect_body(&scene.world->queue.messages[2], "3\r\n");
    scene_close(scene);
}

static void test_as_many_chunks_as_octets(void **state)
{
    struct scene scene = scene_open();
    client_envelope(scene.client);
    for (int i = 0; i < 2000; i++)
        client_send(scene.client, "BDAT 1\r\nx", 9);
    for (int i = 0; i < 2000; i++)
        client_expect(scene.client, "250 2.0.0 Chunk received");
    CONVERSE(scene.client, "C: BDAT 0 LAST", "S: 250 2.0.0 Ok: queued as *");
    assert_true(scene.world->queue.messages[0].size > 2002);
    scene_close(scene);
}

static void test_bare_newlines_are_normalised_where_that_is_wanted(void **state)
{
    struct scene scene = scene_open_with(&(struct world_config){.listener = "bare_newlines = \"normalise\""});
    client_envelope(scene.client);
    CONVERSE(scene.client, "C| BDAT 3\r\na\n.", "S: 250 2.0.0 Chunk received", "C| BDAT 4 LAST\r\nb\rc\r",
             "S: 250 2.0.0 Ok: queued as *");
    expect_body(&scene.world->queue.messages[0], "a\r\n..b\r\nc\r\n");
    scene_close(scene);
}

/* --- Refused: to the octet, and the session goes on --- */

#define ENVELOPE "MAIL FROM:<a@b>\r\nRCPT TO:<b@example.com>\r\n"

/* Each input is sent as it stands, in one piece and then octet by octet. */
static void test_what_is_refused(void **state)
{
    static const struct {
        const char *sent;
        const char *replies[8];
    } table[] = {
        /* out of turn: the chunk is read to its end, the state stays */
        {"BDAT 6\r\nQUIT\r\nNOOP\r\n", {"503 5.5.1 Send MAIL first", "250 2.0.0 Ok"}},
        {"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n", {"503 5.5.1 Send MAIL first", "250 2.0.0 Ok"}},
        {"BDAT 0 LAST\r\nNOOP\r\n", {"503 5.5.1 Send MAIL first", "250 2.0.0 Ok"}},
        {"MAIL FROM:<a@b>\r\nBDAT 4\r\nRSETRCPT TO:<b@example.com>\r\nRSET\r\n",
         {"250 2.1.0 Ok", "503 5.5.1 Send RCPT first", "250 2.1.5 Ok", "250 2.0.0 Ok"}},
        /* all recipients were refused */
        {"MAIL FROM:<a@b>\r\nRCPT TO:<b@nowhere.test>\r\nBDAT 4 LAST\r\nQUITRSET\r\n",
         {"250 2.1.0 Ok", "550 5.4.4 *", "554 5.5.1 No valid recipients", "250 2.0.0 Ok"}},
        {"MAIL FROM:<a@b>\r\nRCPT TO:<b\r\nBDAT 4\r\nQUITBDAT 4 LAST\r\nQUITRSET\r\n",
         {"250 2.1.0 Ok", "501 *", "554 5.5.1 No valid recipients", "554 5.5.1 No valid recipients",
          "250 2.0.0 Ok"}},
        /* between two chunks only BDAT, RSET and what changes nothing */
        {ENVELOPE "BDAT 1\r\nxDATA\r\nMAIL FROM:<c@d>\r\nRCPT TO:<c@example.com>\r\nNOOP\r\nBDAT 0 LAST\r\n",
         {"250 2.1.0 Ok", "250 2.1.5 Ok", "250 2.0.0 Chunk received",
          "503 5.5.1 BDAT has begun: send BDAT or RSET", "503 5.5.1 BDAT has begun*",
          "503 5.5.1 BDAT has begun*", "250 2.0.0 Ok", "250 2.0.0 Ok: queued as *"}},
        {ENVELOPE "BDAT 1\r\nxRSET\r\nBDAT 4 LAST\r\nQUITNOOP\r\n",
         {"250 2.1.0 Ok", "250 2.1.5 Ok", "250 2.0.0 Chunk received", "250 2.0.0 Ok",
          "503 5.5.1 Send MAIL first", "250 2.0.0 Ok"}},
        {ENVELOPE "BDAT 1\r\nxHELO y\r\nEHLO",
         {"250 2.1.0 Ok", "250 2.1.5 Ok", "250 2.0.0 Chunk received", "250 relay.test"}},
        /* content that cannot be taken: the whole message is refused, each chunk of it with the same words */
        {ENVELOPE "BDAT 3\r\na\nbBDAT 4\r\nQUITBDAT 1 LAST\r\nxNOOP\r\n",
         {"250 2.1.0 Ok", "250 2.1.5 Ok",
          "554 5.6.0 The content holds a bare CR or LF; only BINARYMIME can carry it",
          "554 5.6.0 The content holds a bare*", "554 5.6.0 The content holds a bare*", "250 2.0.0 Ok"}},
        {ENVELOPE "BDAT 1\r\n\rBDAT 4 LAST\r\nQUITNOOP\r\n",
         {"250 2.1.0 Ok", "250 2.1.5 Ok", "250 2.0.0 Chunk received", "554 5.6.0 The content holds a bare*",
          "250 2.0.0 Ok"}},
        {ENVELOPE "BDAT 2 LAST\r\nx\rNOOP\r\n",
         {"250 2.1.0 Ok", "250 2.1.5 Ok", "554 5.6.0 The content holds a bare*", "250 2.0.0 Ok"}},
        /* a refused chunk and then RSET: all is as before */
        {ENVELOPE "BDAT 1\r\n\nRSET\r\n" ENVELOPE "BDAT 1 LAST\r\nx",
         {"250 2.1.0 Ok", "250 2.1.5 Ok", "554 5.6.0 *", "250 2.0.0 Ok", "250 2.1.0 Ok", "250 2.1.5 Ok",
          "250 2.0.0 Ok: queued as *"}},
    };
    for (size_t i = 0; i < 2 * sizeof(table) / sizeof(table[0]); i++) {
        const char *sent = table[i / 2].sent;
        const size_t piece = i % 2 == 0 ? strlen(sent) : 1;
        struct world *world = world_new(NULL);
        struct client *client = client_new(world, NULL);
        client_hello(client);
        for (size_t at = 0; at < strlen(sent); at += piece)
            client_send(client, sent + at, piece);
        for (size_t k = 0; k < 8 && table[i / 2].replies[k] != NULL; k++)
            client_expect(client, table[i / 2].replies[k]);
        client_expect_silence(client);
        client_shut_down(client);
        client_expect_closed(client);
        client_free(client);
        world_free(world);
    }
}

/* Before EHLO, and where chunks are not offered, or were not to this client. */
static void test_a_chunk_before_ehlo_is_discarded(void **state)
{
    struct world *world = world_new(NULL);
    struct client *client = client_new(world, NULL);
    CONVERSE(client, "S: 220 *", "C| BDAT 6 LAST\r\nQUIT\r\n", "S: 503 5.5.1 Send HELO or EHLO first",
             "C: HELO x", "S: 250 *", "C: BDAT 6 LAST", "S: 502 5.5.1 command not implemented");
    client_quit(client);
    client_free(client);
    world_free(world);
}

static void test_where_chunking_is_off(void **state)
{
    struct world *world =
        world_new_with(&(struct world_config){.listener = "extensions_off = {\"CHUNKING\"}"});
    struct client *client = client_new(world, NULL);
    client_expect(client, "220 *");
    client_ehlo_without(client, "CHUNKING");
    client_ehlo_without(client, "BINARYMIME");
    CONVERSE(client, "C: BDAT 1 LAST", "S: 502 5.5.1 *", "C: MAIL FROM:<a@b> BODY=BINARYMIME",
             "S: 501 5.5.4 BODY must be a type that is offered");
    client_quit(client);
    client_free(client);
    world_free(world);
}

/* Nobody can say where such a chunk ends: nothing behind it may be read as commands. */
static void test_sizes_that_cannot_be_read(void **state)
{
    static const char *const table[] = {
        "BDAT\r\nNOOP\r\n",          "BDAT x\r\nNOOP\r\n",
        "BDAT -1\r\nNOOP\r\n",       "BDAT 1 LAS\r\nNOOP\r\n",
        "BDAT 1 LAST x\r\nNOOP\r\n", "BDAT 0x1\r\nNOOP\r\n",
        "BDAT 1\tLAST\r\nNOOP\r\n",  "BDAT 18446744073709551616\r\nNOOP\r\n",
    };
    struct world *world = world_new(NULL);
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct client *client = client_new(world, NULL);
        client_hello(client);
        client_envelope(client);
        client_send(client, table[i], strlen(table[i]));
        client_expect(client, "501 5.5.4 *");
        client_expect_closed(client);
        assert_int_equal(world->queue.message_count, 0);
        client_free(client);
        world_clear(world);
    }
    world_free(world);
}

static void test_too_big(void **state)
{
    struct scene scene = scene_open();
    char *content = malloc(70000);
    assert_non_null(content);
    memset(content, 'x', 70000);
    /* At once, and when the sum is too much; each chunk is read to its end. */
    client_envelope(scene.client);
    CONVERSE(scene.client, "C: BDAT 70000 LAST");
    client_send(scene.client, content, 70000);
    CONVERSE(scene.client, "S: 552 5.3.4 Message is larger than the limit", "C: BDAT 0 LAST",
             "S: 503 5.5.1 Send MAIL first");
    client_envelope(scene.client);
    CONVERSE(scene.client, "C: BDAT 40000");
    client_send(scene.client, content, 40000);
    CONVERSE(scene.client, "S: 250 2.0.0 Chunk received", "C: BDAT 40000");
    client_send(scene.client, content, 40000);
    CONVERSE(scene.client, "S: 552 5.3.4 *", "C| BDAT 4\r\nQUIT", "S: 552 5.3.4 *", "C| BDAT 4 LAST\r\nQUIT",
             "S: 552 5.3.4 *");
    assert_int_equal(scene.world->queue.drafts_aborted, 2);
    assert_int_equal(scene.world->queue.message_count, 0);
    free(content);
    scene_close(scene);
}

static void test_nul(void **state)
{
    struct scene scene = scene_open();
    client_envelope(scene.client);
    client_send(scene.client, "BDAT 3\r\na\0bBDAT 0 LAST\r\n", 24);
    CONVERSE(scene.client, "S: 554 5.6.0 The content holds a NUL octet; only BINARYMIME can carry it",
             "S: 554 5.6.0 *");
    client_envelope(scene.client);
    CONVERSE(scene.client, "C: DATA", "S: 354 *");
    client_send(scene.client, "a\0b\r\n.\r\n", 8);
    CONVERSE(scene.client, "S: 554 5.6.0 The content holds a NUL octet*");
    scene_close(scene);
}

/* --- A queue in trouble --- */

static const char stream[] =
    ENVELOPE "BDAT 9\r\na: b\r\n\r\n.BDAT 0\r\nBDAT 3\r\n\r\n.BDAT 4 LAST\r\n.\r\n." ENVELOPE
             "BDAT 0 LAST\r\n" ENVELOPE "BDAT 1\r\n.BDAT 1 LAST\r\nxQUIT\r\n";
static const char *const stream_bodies[] = {"a: b\r\n\r\n..\r\n...\r\n..\r\n", "", "..x\r\n"};

static void expect_stream(struct world *world, struct client *client)
{
    static const char expected[] = "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n250 2.0.0 Chunk received\r\n"
                                   "250 2.0.0 Chunk received\r\n250 2.0.0 Chunk received\r\n"
                                   "250 2.0.0 Ok: queued as 0000000000001\r\n"
                                   "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n250 2.0.0 Ok: queued as 0000000000002\r\n"
                                   "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n250 2.0.0 Chunk received\r\n"
                                   "250 2.0.0 Ok: queued as 0000000000003\r\n221 2.0.0 Bye\r\n";
    assert_string_equal(client_transcript(client), expected);
    assert_int_equal(world->queue.message_count, 3);
    for (size_t i = 0; i < 3; i++)
        expect_body(&world->queue.messages[i], stream_bodies[i]);
    client_free(client);
    world_clear(world);
}

static void test_every_cut(void **state)
{
    struct world *world = world_new(NULL);
    for (size_t cut = 0; cut < sizeof(stream); cut++) {
        struct client *client = client_new(world, NULL);
        client_hello(client);
        client_send(client, stream, cut);
        client_send(client, stream + cut, sizeof(stream) - 1 - cut);
        expect_stream(world, client);
    }
    world_free(world);
}

static void test_no_room_at_each_octet(void **state)
{
    struct world *world = world_new(NULL);
    for (uint64_t trickle = 1; trickle < 200; trickle += trickle < 20 ? 1 : 17) {
        world->trickle = trickle;
        world->queue.is_full = true;
        struct client *client = client_new(world, NULL);
        client_hello(client);
        client_send(client, stream, sizeof(stream) - 1);
        expect_stream(world, client);
    }
    world_free(world);
}

static void test_a_draft_that_dies(void **state)
{
    struct scene scene = scene_open();
    struct queue *queue = &scene.world->queue;
    queue->is_out_of_memory = true;
    client_envelope(scene.client);
    CONVERSE(scene.client, "C| BDAT 4\r\nQUIT", "S: 452 4.3.1 *", "C| BDAT 4 LAST\r\nQUIT", "S: 452 4.3.1 *");
    queue->is_out_of_memory = false;

    queue->append_error = -EIO;
    client_envelope(scene.client);
    CONVERSE(scene.client, "C| BDAT 4\r\nQUIT", "S: 451 4.3.0 *");
    queue->append_error = 0; /* it stays refused: half of the message is lost */
    CONVERSE(scene.client, "C| BDAT 4 LAST\r\nQUIT", "S: 451 4.3.0 *");

    queue->commit_error = -ENOSPC;
    client_envelope(scene.client);
    CONVERSE(scene.client, "C| BDAT 4 LAST\r\nQUIT", "S: 452 4.3.1 *");
    queue->commit_error = 0;
    queue->committed_error = -EIO;
    client_envelope(scene.client);
    CONVERSE(scene.client, "C| BDAT 4 LAST\r\nQUIT", "S: 451 4.3.0 *");
    queue->committed_error = 0;
    assert_int_equal(queue->message_count, 0);
    scene_close(scene);
}

/* --- The client goes --- */

static void test_fin_at_every_octet(void **state)
{
    static const char text[] = ENVELOPE "BDAT 3\r\nabcBDAT 3 LAST\r\ndef";
    struct world *world = world_new(NULL);
    for (size_t size = 0; size < sizeof(text); size++) {
        struct client *client = client_new(world, NULL);
        client_hello(client);
        client_send(client, text, size);
        client_shut_down(client);
        const bool is_complete = size == sizeof(text) - 1;
        assert_int_equal(strstr(client_transcript(client), "queued as") != NULL, is_complete);
        client_free(client);
        world_wait_empty(world);
        assert_int_equal(world->queue.message_count, is_complete);
        world_clear(world);
    }
    world_free(world);
}

static void test_timeouts(void **state)
{
    struct world *world = world_new("timeouts { inbound_command = \"200ms\" inbound_data = \"400ms\" }\n");
    struct client *between = client_new(world, NULL);
    struct client *within = client_new(world, NULL);
    client_hello(between);
    client_hello(within);
    client_envelope(between);
    client_envelope(within);
    CONVERSE(within, "C| BDAT 2\r\nx");
    CONVERSE(between, "C| BDAT 1\r\nx", "S: 250 *", "S: 421 4.4.2 Error: timeout exceeded", "-- closed");
    CONVERSE(within, "S: 421 4.4.2 *", "-- closed");
    assert_int_equal(world->queue.drafts_aborted, 2);
    client_free(between);
    client_free(within);
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks_make_a_message),
        cmocka_unit_test(test_the_stored_form_is_that_of_data),
        cmocka_unit_test(test_binary_content_is_kept_octet_by_octet),
        cmocka_unit_test(test_groups_and_both_ways_in_one_session),
        cmocka_unit_test(test_as_many_chunks_as_octets),
        cmocka_unit_test(test_bare_newlines_are_normalised_where_that_is_wanted),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_a_chunk_before_ehlo_is_discarded),
        cmocka_unit_test(test_where_chunking_is_off),
        cmocka_unit_test(test_sizes_that_cannot_be_read),
        cmocka_unit_test(test_too_big),
        cmocka_unit_test(test_nul),
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_no_room_at_each_octet),
        cmocka_unit_test(test_a_draft_that_dies),
        cmocka_unit_test(test_fin_at_every_octet),
        cmocka_unit_test(test_timeouts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
