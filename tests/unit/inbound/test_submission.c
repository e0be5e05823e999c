/* Submission (RFC 6409): a login first, and then a message is completed rather than passed on as it is. */

#include "tests/unit/inbound/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/id.h"

static struct world *world_submission(const char *listener)
{
    char keys[256], sections[256];
    snprintf(keys, sizeof(keys), "submission = true auth_without_tls = true %s", listener);
    snprintf(sections, sizeof(sections), "auth { users = \"%s\" }\n",
             world_file("user:$6$NaCl5alt$g7J23aynDN2pUF4fQygLWdmzc.zfynvHoss7K/ypzP6vFvHnnYHs3Q0qIipbx/"
                        "UMdeAcOuOtsWmjPyNTJzaxl/:-\n"));
    return world_new_with(&(struct world_config){.listener = keys, .more = sections});
}

static struct client *logged_in(struct world *world)
{
    struct client *client = client_new(world, "192.0.2.7");
    client_hello(client);
    CONVERSE(client, "C: AUTH PLAIN AHVzZXIAc2VjcmV0", "S: 235 *");
    return client;
}

static void leave(struct client *client)
{
    client_quit(client);
    client_free(client);
}

static void test_a_login_is_demanded(void **state)
{
    struct world *world = world_submission("");
    struct client *client = client_new(world, NULL);
    client_hello(client);
    CONVERSE(client, "C: MAIL FROM:<a@b>", "S: 530 5.7.0 Log in first", //
             "C: RCPT TO:<postmaster>", "S: 503 5.5.1 *", "C| BDAT 4 LAST\r\nQUIT", "S: 503 5.5.1 *");
    leave(client);
    world_free(world);
}

/* `expected` has "D" for our Date field and "I" for our Message-ID. */
static void expect_completed(const struct fake_message *message, const char *expected)
{
    size_t size = 0;
    const char *body = message_body(message, &size);
    const char *end = body + size;
    for (; *expected != '\0'; expected++) {
        char field[64];
        int field_size = 0;
        if (*expected == 'D') {
            assert_true(end - body > 39);
            assert_memory_equal(body, "Date: ", 6);
            assert_memory_equal(body + 31, " +0000\r\n", 8);
            body += 39;
            continue;
        }
        char id[ID_TEXT_SIZE];
        id_format(message->id, id);
        if (*expected == 'I')
            field_size =
                snprintf(field, sizeof(field), "Message-ID: <%.*s@relay.test>\r\n", ID_TEXT_SIZE, id);
        else
            field_size = snprintf(field, sizeof(field), "%c", *expected);
        assert_true(end - body >= field_size);
        assert_memory_equal(body, field, (size_t)field_size);
        body += field_size;
    }
    assert_ptr_equal(body, end);
}

static const struct {
    const char *content;
    const char *completed;
} table[] = {
    {"subject: x\r\n\r\nbody\r\n", "subject: x\r\nDI\r\nbody\r\n"},
    {"date: y\r\nsubject: x\r\n\r\nbody\r\n", "date: y\r\nsubject: x\r\nI\r\nbody\r\n"},
    {"message-id : <y>\r\n\r\n", "message-id : <y>\r\nD\r\n"},
    {"DATE: y\r\nmESSAGE-iD: <z>\r\n\r\n", NULL},
    {"date:\r\n\ty\r\nsubject: x\r\n message-id: no\r\n\r\nb\r\n",
     "date:\r\n\ty\r\nsubject: x\r\n message-id: no\r\nI\r\nb\r\n"},
    /* in the body they are nobody's */
    {"a: b\r\n\r\ndate: x\r\nmessage-id: y\r\n", "a: b\r\nDI\r\ndate: x\r\nmessage-id: y\r\n"},
    {"\r\nbody\r\n", "DI\r\nbody\r\n"},
    {"", "DI"},
    {"a: b\r\n", "a: b\r\nDI"},
    {"\r\n..dots\r\n", "DI\r\n..dots\r\n"},
};

static void expect_row(const struct fake_message *message, size_t row)
{
    if (table[row].completed != NULL)
        expect_completed(message, table[row].completed);
    else
        expect_body(message, table[row].content);
}

static void test_fields_are_added_at_the_end_of_the_header(void **state)
{
    struct world *world = world_submission("");
    struct client *client = logged_in(world);
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        client_send_message(client, table[i].content);
        CONVERSE(client, "S: 250 2.0.0 *");
        expect_row(&world->queue.messages[i], i);
    }
    leave(client);
    world_free(world);
}

/* In every cut, by DATA and by BDAT, and with a queue that takes octet by octet. */
static void test_wherever_the_input_is_cut(void **state)
{
    struct world *world = world_submission("");
    for (size_t row = 0; row < sizeof(table) / sizeof(table[0]); row++) {
        const char *content = table[row].content;
        const size_t size = strlen(content);
        struct client *client = logged_in(world);
        size_t count = 0;
        for (size_t cut = row % 2; cut <= size; cut += 2) {
            world->trickle = 1 + cut % 3;
            world->queue.is_full = true;
            client_envelope(client);
            CONVERSE(client, "C: DATA", "S: 354 *");
            client_send(client, content, cut);
            world_turn(world, 1000);
            client_send(client, content + cut, size - cut);
            CONVERSE(client, "C: .", "S: 250 2.0.0 *");
            expect_row(&world->queue.messages[count++], row);
            if (row == sizeof(table) / sizeof(table[0]) - 1)
                continue; /* dots would be stuffed again */
            char line[64];
            client_envelope(client);
            snprintf(line, sizeof(line), "BDAT %zu\r\n", cut);
            client_send(client, line, strlen(line));
            client_send(client, content, cut);
            client_expect(client, "250 2.0.0 Chunk received");
            snprintf(line, sizeof(line), "BDAT %zu LAST\r\n", size - cut);
            client_send(client, line, strlen(line));
            client_send(client, content + cut, size - cut);
            client_expect(client, "250 2.0.0 Ok*");
            expect_row(&world->queue.messages[count++], row);
            if (count + 2 > FAKE_MESSAGES_MAX) {
                leave(client);
                world_clear(world);
                client = logged_in(world);
                count = 0;
            }
        }
        leave(client);
        world_clear(world);
    }
    world_free(world);
}

/* Where a line that is no field ends the header there is no header, and no place for a field. */
static void test_headers_that_are_none(void **state)
{
    static const char *const contents[] = {"no header here\r\n", "a: b\r\nthe body begins\r\n", "..\r\n"};
    struct world *world = world_submission("");
    struct client *client = logged_in(world);
    for (size_t i = 0; i < sizeof(contents) / sizeof(contents[0]); i++) {
        client_send_message(client, contents[i]);
        CONVERSE(client, "S: 250 2.0.0 *");
        expect_body(&world->queue.messages[i], contents[i]);
    }
    leave(client);
    world_free(world);
}

static void test_elsewhere_nothing_is_added(void **state)
{
    struct world *world = world_new(NULL);
    struct client *client = client_new(world, NULL);
    client_hello(client);
    client_send_message(client, "subject: x\r\n\r\n");
    CONVERSE(client, "S: 250 2.0.0 *");
    expect_body(&world->queue.messages[0], "subject: x\r\n\r\n");
    leave(client);
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_login_is_demanded),
        cmocka_unit_test(test_fields_are_added_at_the_end_of_the_header),
        cmocka_unit_test(test_wherever_the_input_is_cut),
        cmocka_unit_test(test_headers_that_are_none),
        cmocka_unit_test(test_elsewhere_nothing_is_added),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
