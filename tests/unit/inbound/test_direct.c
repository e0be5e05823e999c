/*
 * Chunks that are received straight into the queue's memory: nobody can tell it from the copying way, and
 * whatever happens meanwhile, the memory is given back before the draft goes.
 */

#include "tests/unit/inbound/world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/message/envelope.h"
#include "tests/unit/net/net_test.h"
#include "tests/unit/net/tls_test.h"

enum { NEVER_DIRECT = -1, CONVERSATION_MAX = 3 << 20, CUTS_MAX = 4096 };

/* What a client sends, and where it is cut. */
struct conversation {
    char *text;
    size_t size;
    size_t cuts[CUTS_MAX]; /* rising; the last one is `size` */
    size_t cut_count;
};

static void say(struct conversation *talk, const void *bytes, size_t size)
{
    assert_true(talk->size + size <= CONVERSATION_MAX);
    memcpy(talk->text + talk->size, bytes, size);
    talk->size += size;
}

static void cut(struct conversation *talk, size_t at)
{
    const size_t last = talk->cut_count > 0 ? talk->cuts[talk->cut_count - 1] : 0;
    if (at > last && talk->cut_count < CUTS_MAX)
        talk->cuts[talk->cut_count++] = at;
}

/* --- Content --- */

/* How often what is not plain stands in it: one time in so many lines; 0: never. */
struct flavour {
    unsigned dots, high, nul, bare, lone;
};

static const struct flavour flavours[] = {
    {0, 0, 0, 0, 0},  {0, 2, 0, 0, 0},   {30, 3, 0, 0, 0},  {1, 0, 0, 0, 0},
    {0, 0, 0, 40, 0}, {20, 0, 60, 0, 0}, {40, 0, 0, 0, 25}, {300, 0, 0, 500, 0},
};

static bool is_time(uint64_t *seed, unsigned times)
{
    return times > 0 && net_test_random(seed) % times == 0;
}

/* Ends with a whole line, or in the middle of one. */
static size_t write_content(char *into, size_t size, const struct flavour *flavour, uint64_t *seed)
{
    size_t at = 0;
    if (size > 100)
        at = (size_t)sprintf(into, "Subject: x\r\n%s\r\n", net_test_random(seed) % 2 ? "Date: y\r\n" : "");
    while (at + 90 < size) {
        const size_t line = net_test_random(seed) % 80;
        if (is_time(seed, flavour->dots))
            into[at++] = '.';
        memset(into + at, 'a' + (int)(line % 26), line);
        if (line > 0 && is_time(seed, flavour->high))
            into[at + line / 2] = (char)0xe4;
        if (line > 0 && is_time(seed, flavour->nul))
            into[at + line / 3] = '\0';
        at += line;
        if (is_time(seed, flavour->bare))
            into[at++] = '\n';
        else if (is_time(seed, flavour->lone))
            into[at++] = '\r';
        memcpy(into + at, "\r\n", 2);
        at += 2;
    }
    memset(into + at, 'e', size - at);
    if (net_test_random(seed) % 2 && size >= 2)
        memcpy(into + size - 2, "\r\n", 2);
    return size;
}

/* A message in chunks of any size, cut near their ends: within CRLF, behind the last octet, ... */
static void say_message(struct conversation *talk, size_t size, const struct flavour *flavour, bool is_binary,
                        uint64_t *seed)
{
    static char content[2 << 20];
    char line[128];
    assert_true(size <= sizeof(content));
    write_content(content, size, flavour, seed);
    say(talk, line,
        (size_t)sprintf(line, "MAIL FROM:<a@b>%s\r\nRCPT TO:<b@example.com>\r\n",
                        is_binary ? " BODY=BINARYMIME" : ""));
    for (size_t at = 0; at < size;) {
        size_t chunk = net_test_random(seed) % 3 ? size - at : 1 + net_test_random(seed) % (size - at);
        say(talk, line, (size_t)sprintf(line, "BDAT %zu%s\r\n", chunk, at + chunk == size ? " LAST" : ""));
        cut(talk, talk->size - net_test_random(seed) % 3);
        for (size_t octets = net_test_random(seed) % 4; octets > 0 && octets < chunk; octets--)
            cut(talk, talk->size + octets);
        if (chunk > 1000)
            cut(talk, talk->size + net_test_random(seed) % chunk);
        say(talk, content + at, chunk);
        for (size_t octets = net_test_random(seed) % 4 + 1; octets-- > 0;)
            cut(talk, talk->size - octets);
        at += chunk;
    }
}

/* --- Both ways --- */

struct outcome {
    char *replies;
    struct fake_message messages[FAKE_MESSAGES_MAX];
    size_t message_count;
    uint64_t received; /* in place */
};

/* What the client reads, and what is stored. */
static void speak(struct world *world, const struct conversation *talk, bool has_tls, struct outcome *outcome)
{
    struct client *client = client_new(world, NULL);
    client_hello(client);
    if (has_tls) {
        CONVERSE(client, "C: STARTTLS", "S: 220 *");
        assert_true(client_secure(client, NULL));
        client_ehlo(client, "CHUNKING");
    }
    for (size_t i = 0, at = 0; i < talk->cut_count; at = talk->cuts[i++])
        client_send(client, talk->text + at, talk->cuts[i] - at);
    outcome->replies = strdup(client_transcript(client));
    world_wait_empty(world);
    memcpy(outcome->messages, world->queue.messages, sizeof(outcome->messages));
    outcome->message_count = world->queue.message_count;
    outcome->received = world->queue.received;
    world->queue.message_count = 0; /* they are ours now */
    client_free(client);
    world_clear(world);
}

static void outcome_deinit(struct outcome *outcome)
{
    for (size_t i = 0; i < outcome->message_count; i++) {
        free(outcome->messages[i].content);
        free(outcome->messages[i].recipients);
        free(outcome->messages[i].encoded);
    }
    free(outcome->replies);
}

/* A refusal for two reasons is for the one that shows first, which may depend on the cuts. */
static bool is_verdict(const char *line)
{
    return strncmp(line, "554 5.6.0 The content", 21) == 0;
}

static void compare_replies(const char *copied, const char *direct)
{
    while (*copied != '\0' && *direct != '\0') {
        const size_t size = strcspn(copied, "\n") + 1, other = strcspn(direct, "\n") + 1;
        if (!is_verdict(copied) || !is_verdict(direct)) {
            assert_int_equal(size, other);
            assert_memory_equal(copied, direct, size);
        }
        copied += size;
        direct += other;
    }
    assert_string_equal(copied, direct);
}

static void compare(const struct outcome *copied, const struct outcome *direct)
{
    compare_replies(copied->replies, direct->replies);
    assert_int_equal(copied->message_count, direct->message_count);
    for (size_t i = 0; i < copied->message_count; i++) {
        const struct fake_message *one = &copied->messages[i], *other = &direct->messages[i];
        size_t size = 0, other_size = 0;
        const char *body = message_body(one, &size), *other_body = message_body(other, &other_size);
        assert_int_equal(size, other_size);
        assert_memory_equal(body, other_body, size);
        assert_int_equal(one->meta_size, other->meta_size);
        assert_memory_equal(one->meta, other->meta, one->meta_size);
        assert_int_equal(one->encoded_size, other->encoded_size);
    }
}

/* The same conversation, copied and in place; returns how much was received in place. */
static uint64_t speak_both_ways(struct world *world, const struct conversation *talk, bool has_tls,
                                uint32_t least, uint64_t space, uint64_t trickle)
{
    struct outcome copied = {0}, direct = {0};
    world->inbound.options.direct_min = (uint32_t)NEVER_DIRECT;
    speak(world, talk, has_tls, &copied);
    assert_int_equal(copied.received, 0);
    world->inbound.options.direct_min = least;
    world->queue.space = space;
    world->queue.is_full = trickle > 0;
    world->trickle = trickle;
    speak(world, talk, has_tls, &direct);
    world->trickle = 0;
    compare(&copied, &direct);
    const uint64_t received = direct.received;
    outcome_deinit(&copied);
    outcome_deinit(&direct);
    return received;
}

static struct world *world_of(bool normalises)
{
    static char tls[512], listener[128];
    snprintf(tls, sizeof(tls), "tls { certificate = \"%s\" private_key = \"%s\" }\n",
             tls_test_files.server.certificate_path, tls_test_files.server.key_path);
    snprintf(listener, sizeof(listener), "tls = \"starttls\" bare_newlines = \"%s\"",
             normalises ? "normalise" : "refuse");
    return world_new_with(&(struct world_config){.listener = listener, .more = tls, .max_size = "1M"});
}

static void talk_init(struct conversation *talk)
{
    *talk = (struct conversation){.text = malloc(CONVERSATION_MAX)};
    assert_non_null(talk->text);
}

static void talk_end(struct conversation *talk)
{
    say(talk, "QUIT\r\n", 6);
    cut(talk, talk->size);
}

static void test_small_chunks_both_ways(void **state)
{
    static const uint64_t spaces[] = {1, 7, 1000, 100000}, trickles[] = {0, 0, 50, 3000};
    uint64_t received = 0;
    for (int normalises = 0; normalises < 2; normalises++) {
        struct world *world = world_of(normalises);
        for (uint64_t seed = 1; seed <= 48; seed++) {
            struct conversation talk;
            uint64_t random = seed * 6007 + (uint64_t)normalises;
            talk_init(&talk);
            for (int i = 0; i < 3; i++)
                say_message(&talk, 1 + net_test_random(&random) % 3000, &flavours[(seed + i) % 8],
                            net_test_random(&random) % 4 == 0, &random);
            talk_end(&talk);
            received += speak_both_ways(world, &talk, false, 1, spaces[seed % 4], trickles[seed / 4 % 4]);
            free(talk.text);
        }
        world_free(world);
    }
    assert_true(received > 10000);
}

static void test_large_chunks_both_ways(void **state)
{
    for (int way = 0; way < 4; way++) {
        struct world *world = world_of(way / 2);
        for (uint64_t seed = 1; seed <= 8; seed++) {
            struct conversation talk;
            uint64_t random = seed * 104729 + (uint64_t)way;
            talk_init(&talk);
            say_message(&talk, 70000 + net_test_random(&random) % 300000, &flavours[seed % 8], seed % 3 == 1,
                        &random);
            cut(&talk, talk.size);
            say_message(&talk, 900000 + net_test_random(&random) % 148576, &flavours[seed - 1], seed % 3 == 0,
                        &random);
            talk_end(&talk);
            const uint64_t received =
                speak_both_ways(world, &talk, way % 2 == 1, INBOUND_DIRECT_MIN, 256 << 10, 0);
            if (seed <= 2) /* nothing to be changed: nearly all of it stays where it came */
                assert_true(received > talk.size / 2);
            free(talk.text);
        }
        world_free(world);
    }
}

/* --- What may happen meanwhile --- */

/* A client in the middle of a chunk, of which 100000 octets have come, and the next ones have their place. */
static struct client *client_in_the_middle(struct world *world)
{
    static char content[100000];
    struct client *client = client_new(world, NULL);
    memset(content, 'x', sizeof(content));
    world->queue.space = 30000;
    client_hello(client);
    client_envelope(client);
    CONVERSE(client, "C: BDAT 300000 LAST");
    /* What comes with the command comes the usual way. */
    client_send(client, content, 30000);
    world_settle(world);
    client_send(client, content, sizeof(content) - 30000);
    world_settle(world);
    assert_int_equal(world->queue.received, sizeof(content) - 30000);
    return client;
}

static void end_world(struct world *world, struct client *client)
{
    world_wait_empty(world);
    assert_int_equal(world->queue.message_count, 0);
    assert_int_equal(world->queue.drafts_aborted, 1);
    client_free(client);
    world_free(world);
}

static struct world *impatient_world(void)
{
    return world_new_with(
        &(struct world_config){.max_size = "1M", .more = "timeouts { inbound_data = \"200ms\" }\n"});
}

static void test_a_silent_client_times_out(void **state)
{
    struct world *world = impatient_world();
    struct client *client = client_in_the_middle(world);
    CONVERSE(client, "S: 421 4.4.2 *", "-- closed");
    end_world(world, client);
}

/* Each piece of content prolongs it. */
static void test_a_slow_client_does_not(void **state)
{
    struct world *world = impatient_world();
    struct client *client = client_in_the_middle(world);
    for (int i = 0; i < 10; i++) {
        client_send(client, "yy", 2);
        const uint64_t until_us = net_test_now_us() + 60000;
        while (net_test_now_us() < until_us)
            world_turn(world, 5000);
    }
    assert_false(client->is_closed);
    CONVERSE(client, "S: 421 4.4.2 *", "-- closed");
    end_world(world, client);
}

static void test_a_client_that_leaves(void **state)
{
    for (int resets = 0; resets < 2; resets++) {
        struct world *world = world_new_with(&(struct world_config){.max_size = "1M"});
        struct client *client = client_in_the_middle(world);
        if (resets)
            client_reset(client);
        else
            client_shut_down(client);
        if (!resets)
            client_expect_closed(client);
        end_world(world, client);
    }
}

static void test_draining(void **state)
{
    struct world *world = impatient_world();
    struct client *client = client_in_the_middle(world);
    inbound_drain(&world->inbound);
    CONVERSE(client, "S: 421 *", "-- closed");
    end_world(world, client);
}

/* What the queue says to a reservation is what it says to content. */
static void test_a_queue_in_trouble(void **state)
{
    static const struct {
        int error;
        const char *reply;
    } table[] = {{-EIO, "451 4.3.0 *"}, {-ENOSPC, "452 4.3.1 *"}, {-ETIMEDOUT, "451 4.4.2 *"}};
    static char content[200000];
    memset(content, 'x', sizeof(content));
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct world *world = world_new_with(&(struct world_config){.max_size = "1M"});
        struct client *client = client_in_the_middle(world);
        world->queue.append_error = table[i].error;
        client_send(client, content, sizeof(content));
        client_expect(client, table[i].reply);
        CONVERSE(client, "C: NOOP", "S: 250 *");
        client_quit(client);
        end_world(world, client);
    }
}

/* Refused by what stands in the memory; the chunk is read to its end. */
static void test_a_nul_in_place(void **state)
{
    static char content[200000];
    memset(content, 'x', sizeof(content));
    content[150000] = '\0';
    struct world *world = world_new_with(&(struct world_config){.max_size = "1M"});
    struct client *client = client_in_the_middle(world);
    client_send(client, content, sizeof(content));
    CONVERSE(client, "S: 554 5.6.0 The content holds a NUL octet*", "C: NOOP", "S: 250 *");
    client_quit(client);
    end_world(world, client);
}

/* In a submission fields may have to go between: nothing is in place before the header's end. */
static void test_a_submitted_header_is_completed(void **state)
{
    static char header[150000];
    memset(header, 'h', sizeof(header));
    memcpy(header, "X-Long: ", 8);
    for (size_t i = 500; i < sizeof(header); i += 500)
        memcpy(header + i, "\r\n ", 3);
    char auth[256];
    snprintf(auth, sizeof(auth), "auth { users = \"%s\" }\n",
             world_file("user:$6$NaCl5alt$g7J23aynDN2pUF4fQygLWdmzc.zfynvHoss7K/ypzP6vFvHnnYHs3Q0qIipbx/"
                        "UMdeAcOuOtsWmjPyNTJzaxl/:-\n"));
    struct world *world = world_new_with(&(struct world_config){
        .max_size = "1M", .listener = "submission = true auth_without_tls = true", .more = auth});
    struct client *client = client_new(world, NULL);
    world->queue.space = 100000;
    client_hello(client);
    CONVERSE(client, "C: AUTH PLAIN AHVzZXIAc2VjcmV0", "S: 235 *");
    client_envelope(client);
    CONVERSE(client, "C: BDAT 300002 LAST");
    client_send(client, header, sizeof(header));
    world_settle(world);
    assert_int_equal(world->queue.received, 0);
    CONVERSE(client, "C| \r\n\r\n");
    header[0] = 'Y';
    client_send(client, header + 2, sizeof(header) - 2);
    CONVERSE(client, "S: 250 2.0.0 Ok: queued as *");
    client_quit(client);
    assert_true(world->queue.received > 0);
    size_t size = 0;
    const char *body = message_body(&world->queue.messages[0], &size);
    const char *date = memmem(body, size, "\r\nDate: ", 8);
    assert_non_null(date);
    assert_int_equal(date - body, sizeof(header));
    client_free(client);
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_chunks_both_ways),
        cmocka_unit_test(test_large_chunks_both_ways),
        cmocka_unit_test(test_a_silent_client_times_out),
        cmocka_unit_test(test_a_slow_client_does_not),
        cmocka_unit_test(test_a_client_that_leaves),
        cmocka_unit_test(test_draining),
        cmocka_unit_test(test_a_queue_in_trouble),
        cmocka_unit_test(test_a_nul_in_place),
        cmocka_unit_test(test_a_submitted_header_is_completed),
    };
    return cmocka_run_group_tests_name("inbound/direct", tests, tls_test_files_make, tls_test_files_remove);
}
