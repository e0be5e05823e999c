/* What a group of the sink allows, and what it says that it saw. The clock is the test's. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "bench/sink.h"

enum { SESSIONS = 200 };

#define MS     UINT64_C(1000000)
#define SECOND (1000 * MS)

static uint64_t now_ns;

struct world {
    struct sink sink;
    struct sink_session sessions[SESSIONS];
};

uint64_t sink_now_ns(void)
{
    return now_ns;
}

_Noreturn void sink_die(const char *what)
{
    (void)what;
    abort();
}

static int set_up(void **state)
{
    struct world *world = calloc(1, sizeof(*world));

    assert_non_null(world);
    world->sink.groups = calloc(SINK_GROUPS_MAX, sizeof(*world->sink.groups));
    world->sink.hosts = calloc(SINK_HOSTS_MAX, sizeof(*world->sink.hosts));
    world->sink.slack_ms = 50;
    assert_non_null(world->sink.groups);
    assert_non_null(world->sink.hosts);
    now_ns = 1000 * SECOND;
    *state = world;
    return 0;
}

/* The sink never frees a group: it ends with them. */
static void free_group(struct sink_group *group)
{
    struct sink_window *windows[] = {&group->connects_1s,    &group->connects_short, &group->connects_taken,
                                     &group->messages_1s,    &group->messages_short, &group->messages_60s,
                                     &group->messages_3600s, &group->messages_taken};
    for (size_t index = 0; index < sizeof(windows) / sizeof(*windows); index++)
        free(windows[index]->at_ns);
    pthread_mutex_destroy(&group->mutex);
    free((void *)(uintptr_t)group->name);
}

static int tear_down(void **state)
{
    struct world *world = *state;

    for (uint32_t index = 0; index < world->sink.group_count; index++)
        free_group(&world->sink.groups[index]);
    for (uint32_t index = 0; index < SESSIONS; index++)
        free(world->sessions[index].numbers);
    free(world->sink.numbers.seen);
    free(world->sink.groups);
    free(world->sink.hosts);
    free(world);
    return 0;
}

static struct sink_group *add(struct world *world, const char *text)
{
    assert_true(sink_group_add(&world->sink, text));
    return &world->sink.groups[world->sink.group_count - 1];
}

static struct sink_session *session_to(struct world *world, struct sink_host *host, uint32_t index)
{
    struct sink_session *session = &world->sessions[index];

    assert_true(index < SESSIONS);
    *session = (struct sink_session){.sink = &world->sink, .host = host, .fd = -1};
    list_init(&session->group_link);
    list_init(&session->delay_link);
    return session;
}

/* True when it may stay. */
static bool enter(struct world *world, struct sink_group *group, uint32_t host, uint32_t index)
{
    return sink_group_enter(session_to(world, &group->hosts[host], index));
}

/* ---- from text ---- */

static void a_group_is_a_range_of_addresses_and_its_limits(void **state)
{
    struct world *world = *state;
    struct sink_group *group =
        add(world, "big=127.1.0.1-127.1.0.9:2525,connections=20,rate=100,mode=busy,delay_ms=5,overlap=0");

    assert_string_equal(group->name, "big");
    assert_int_equal(group->host_count, 9);
    assert_int_equal(ntohs(group->hosts[8].address.sin_port), 2525);
    assert_int_equal(ntohl(group->hosts[8].address.sin_addr.s_addr), 0x7f010009);
    struct sink_limits limits = sink_group_limits(group);
    assert_int_equal(limits.connections, 20);
    assert_int_equal(limits.rate, 100);
    assert_int_equal(limits.mode, SINK_BUSY);
    assert_int_equal(limits.delay_ms, 5);
    assert_int_equal(limits.overlap, 0);
    assert_int_equal(limits.messages, 0);
    assert_true(limits.pipelining && limits.chunking);

    struct sink_group *small = add(world, "small=127.1.0.10");
    assert_int_equal(small->host_count, 1);
    assert_ptr_equal(small->hosts, group->hosts + 9);
    assert_int_equal(ntohs(small->hosts->address.sin_port), 25);
}

static void what_makes_no_sense_is_no_group(void **state)
{
    struct world *world = *state;
    const char *const wrong[] = {"",
                                 "x",
                                 "=127.0.0.1",
                                 "x=",
                                 "x=localhost",
                                 "x=127.0.0.9-127.0.0.1",
                                 "x=1.0.0.0-1.255.0.0",
                                 "x=127.0.0.1:65536",
                                 "x=127.0.0.1,rate",
                                 "x=127.0.0.1,rate=",
                                 "x=127.0.0.1,rate=-1",
                                 "x=127.0.0.1,rate=4294967296",
                                 "x=127.0.0.1,rates=1",
                                 "x=127.0.0.1,mode=well",
                                 "x=127.0.0.1,mod=ok"};

    for (size_t index = 0; index < sizeof(wrong) / sizeof(*wrong); index++) {
        if (sink_group_add(&world->sink, wrong[index]))
            fail_msg("%s is a group", wrong[index]);
    }
    assert_int_equal(world->sink.group_count, 0);
}

static void a_limit_may_change_and_a_wrong_change_leaves_it(void **state)
{
    struct sink_group *group = add(*state, "site=127.1.0.1,rate=100");

    assert_true(sink_group_set(group, "rate=200"));
    assert_true(sink_group_set(group, "mode=dead"));
    assert_false(sink_group_set(group, "rate=many"));
    assert_false(sink_group_set(group, "mode=many"));
    assert_int_equal(sink_group_limits(group).rate, 200);
    assert_int_equal(sink_group_limits(group).mode, SINK_DEAD);
}

/* ---- connections ---- */

static void a_connection_too_many_is_refused_and_counted(void **state)
{
    struct world *world = *state;
    struct sink_group *group = add(world, "site=127.1.0.1-127.1.0.3,connections=2");

    assert_true(enter(world, group, 0, 0));
    assert_true(enter(world, group, 1, 1));
    assert_false(enter(world, group, 2, 2));
    assert_int_equal(group->connections, 3);
    assert_int_equal(group->connections_refused, 1);
    assert_int_equal(group->connections_most, 3);
    assert_int_equal(group->host_connections_most, 1);
    sink_group_leave(&world->sessions[2]);
    sink_group_leave(&world->sessions[0]);
    sink_group_leave(&world->sessions[0]); /* once is enough */
    assert_int_equal(group->connections_now, 1);
    assert_true(enter(world, group, 2, 3));
    assert_int_equal(group->connections_most, 3);
}

static void a_host_has_a_limit_of_its_own(void **state)
{
    struct world *world = *state;
    struct sink_group *group = add(world, "site=127.1.0.1-127.1.0.2,host_connections=2");

    assert_true(enter(world, group, 0, 0));
    assert_true(enter(world, group, 0, 1));
    assert_false(enter(world, group, 0, 2));
    assert_true(enter(world, group, 1, 3));
    assert_int_equal(group->host_connections_most, 3);
    assert_int_equal(group->connections_most, 4);
}

static void new_connections_are_limited_in_any_second(void **state)
{
    struct world *world = *state;
    struct sink_group *group = add(world, "site=127.1.0.1,connect_rate=2");

    assert_true(enter(world, group, 0, 0));
    now_ns += 600 * MS;
    assert_true(enter(world, group, 0, 1));
    now_ns += 399 * MS;
    assert_false(enter(world, group, 0, 2));
    now_ns += 1 * MS; /* the first is a second old; the refused one does not count */
    assert_true(enter(world, group, 0, 3));
    assert_int_equal(group->connects_1s.most, 3);
    assert_int_equal(group->connects_short.most, 3);
}

static void what_came_too_early_by_less_than_the_slack_is_told_apart(void **state)
{
    struct world *world = *state;
    struct sink_group *group = add(world, "site=127.1.0.1");

    assert_true(enter(world, group, 0, 0));
    now_ns += 960 * MS;
    assert_true(enter(world, group, 0, 1));
    assert_int_equal(group->connects_1s.most, 2);
    assert_int_equal(group->connects_short.most, 1);
}

static void a_busy_group_refuses_everybody(void **state)
{
    struct world *world = *state;
    struct sink_group *group = add(world, "site=127.1.0.1,mode=busy");

    assert_false(enter(world, group, 0, 0));
    assert_true(sink_group_set(group, "mode=ok"));
    assert_true(enter(world, group, 0, 1));
}

/* The sender closed one before it opened the next, but its end has not been read yet. */
static void a_connection_that_its_sender_closed_does_not_count(void **state)
{
    struct world *world = *state;
    struct sink_group *group = add(world, "site=127.1.0.1,connections=1");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM, 0), sender = socket(AF_INET, SOCK_STREAM, 0);
    char octet;

    assert_int_equal(bind(listener, (const struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    assert_int_equal(connect(sender, (const struct sockaddr *)&address, size), 0);
    struct sink_session *first = session_to(world, group->hosts, 0);
    first->fd = accept(listener, NULL, NULL);
    assert_true(sink_group_enter(first));
    assert_false(enter(world, group, 0, 1));
    sink_group_leave(&world->sessions[1]);

    close(sender);
    assert_int_equal(recv(first->fd, &octet, 1, MSG_PEEK), 0); /* the end is here */
    assert_true(enter(world, group, 0, 2));
    assert_true(first->has_left);
    assert_int_equal(group->connections_now, 1);
    close(first->fd);
    close(listener);
}

/* ---- messages ---- */

static void messages_are_limited_in_any_second(void **state)
{
    struct world *world = *state;
    struct sink_group *group = add(world, "site=127.1.0.1,rate=3");
    struct sink_session *session = session_to(world, group->hosts, 0);

    assert_true(sink_group_enter(session));
    for (int index = 0; index < 3; index++, now_ns += 300 * MS)
        assert_int_equal(sink_group_mail(session), SINK_MAIL_OK);
    assert_int_equal(sink_group_mail(session), SINK_MAIL_RATE);
    now_ns += 100 * MS;
    assert_int_equal(sink_group_mail(session), SINK_MAIL_OK);
    assert_int_equal(sink_group_mail(session), SINK_MAIL_RATE);
    assert_true(sink_group_set(group, "rate=4"));
    assert_int_equal(sink_group_mail(session), SINK_MAIL_OK);
    assert_int_equal(group->messages_refused, 2);
    assert_int_equal(group->messages_1s.most, 6); /* refused ones too: they were sent */
}

static void a_connection_takes_so_many_messages(void **state)
{
    struct world *world = *state;
    struct sink_group *group = add(world, "site=127.1.0.1,messages=2");
    struct sink_session *session = session_to(world, group->hosts, 0);

    assert_true(sink_group_enter(session));
    for (int index = 0; index < 2; index++) {
        assert_int_equal(sink_group_mail(session), SINK_MAIL_OK);
        sink_group_message(session);
    }
    assert_int_equal(sink_group_mail(session), SINK_MAIL_ENOUGH);
    assert_true(enter(world, group, 0, 1));
    assert_int_equal(sink_group_mail(&world->sessions[1]), SINK_MAIL_OK);
    assert_int_equal(group->connection_messages_most, 2);
}

static void a_minute_and_an_hour_are_counted_as_they_slide(void **state)
{
    struct world *world = *state;
    struct sink_group *group = add(world, "site=127.1.0.1");
    struct sink_session *session = session_to(world, group->hosts, 0);
    uint64_t began_ns = now_ns;

    assert_true(sink_group_enter(session));
    /* One in ten seconds for two hours, but two in ten in the second half hour. */
    for (uint64_t index = 0; index < 720; index++, now_ns += 10 * SECOND) {
        for (uint64_t times = index / 180 == 1 ? 2 : 1; times > 0; times--)
            assert_int_equal(sink_group_mail(session), SINK_MAIL_OK);
    }
    assert_int_equal(group->messages_1s.most, 2);
    assert_int_equal(group->messages_60s.most, 12);
    assert_int_equal(group->messages_3600s.most, 180 + 360);
    assert_int_equal(group->first_message_ns, began_ns);
    assert_int_equal(group->last_message_ns, now_ns - 10 * SECOND);
}

static void deliver(struct sink_session *session, uint32_t first, uint32_t count)
{
    session->numbers = realloc(session->numbers, count * sizeof(*session->numbers));
    assert_non_null(session->numbers);
    session->number_count = count;
    session->octets = 100;
    for (uint32_t index = 0; index < count; index++)
        session->numbers[index] = first + index;
    sink_group_message(session);
}

static void recipients_are_counted_once_each(void **state)
{
    struct world *world = *state;
    struct sink_group *group = add(world, "site=127.1.0.1");
    struct sink_session *session = session_to(world, group->hosts, 0);
    struct sink_numbers *numbers = &world->sink.numbers;

    numbers->count = 10;
    numbers->seen = calloc(numbers->count, 1);
    assert_non_null(numbers->seen);
    assert_true(sink_group_enter(session));
    deliver(session, 0, 5); /* 0 to 4 */
    deliver(session, 4, 2); /* 4 again */
    deliver(session, 9, 3); /* 10 and 11 are nobody's */
    assert_int_equal(atomic_load(&numbers->distinct), 7);
    assert_int_equal(atomic_load(&numbers->repeated), 1);
    assert_int_equal(atomic_load(&numbers->foreign), 2);
    assert_int_equal(group->messages, 3);
    assert_int_equal(group->recipients, 10);
    assert_int_equal(group->octets, 300);
    assert_int_equal(group->message_recipients_most, 5);
    assert_int_equal(group->connection_recipients_most, 10);
    assert_int_equal(group->connection_messages_most, 3);
}

int main(void)
{
#define sink_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        sink_test(a_group_is_a_range_of_addresses_and_its_limits),
        sink_test(what_makes_no_sense_is_no_group),
        sink_test(a_limit_may_change_and_a_wrong_change_leaves_it),
        sink_test(a_connection_too_many_is_refused_and_counted),
        sink_test(a_host_has_a_limit_of_its_own),
        sink_test(new_connections_are_limited_in_any_second),
        sink_test(what_came_too_early_by_less_than_the_slack_is_told_apart),
        sink_test(a_busy_group_refuses_everybody),
        sink_test(a_connection_that_its_sender_closed_does_not_count),
        sink_test(messages_are_limited_in_any_second),
        sink_test(a_connection_takes_so_many_messages),
        sink_test(a_minute_and_an_hour_are_counted_as_they_slide),
        sink_test(recipients_are_counted_once_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
