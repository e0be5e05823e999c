/*
 * UDP on the loop: datagrams in and out, a peer that is not there, time, and the end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/net/datagram.h"

struct probe {
    struct datagram datagram;
    int received;
    int errors;
    int timeouts;
    int closed;
    int error;
    size_t size;
    bool close_inside;
    uint8_t bytes[64];
    uint8_t buffer[64];
};

static void on_datagram(struct datagram *datagram, const uint8_t *bytes, size_t size)
{
    struct probe *probe = datagram->ctx;
    probe->received++;
    probe->size = size;
    memcpy(probe->bytes, bytes, size);
    if (probe->close_inside)
        datagram_close(datagram);
}

static void on_error(struct datagram *datagram, int error)
{
    struct probe *probe = datagram->ctx;
    probe->errors++;
    probe->error = error;
    if (probe->close_inside)
        datagram_close(datagram);
}

static void on_timeout(struct datagram *datagram)
{
    struct probe *probe = datagram->ctx;
    probe->timeouts++;
    if (probe->close_inside)
        datagram_close(datagram);
}

static void on_closed(struct datagram *datagram)
{
    struct probe *probe = datagram->ctx;
    probe->closed++;
    memset(&probe->datagram, 0xa5, sizeof(probe->datagram)); /* it is ours again */
}

static const struct datagram_handler handler = {on_datagram, on_error, on_timeout, on_closed};

#define TURN_UNTIL(condition)                                                                                \
    do {                                                                                                     \
        uint64_t until_us = clock_monotonic_us() + 5000000;                                                  \
        while (!(condition)) {                                                                               \
            assert_true(clock_monotonic_us() < until_us);                                                    \
            loop_turn(loop, 2000);                                                                           \
        }                                                                                                    \
    } while (0)

static int setup(void **state)
{
    struct loop *loop = NULL;
    assert_int_equal(loop_new(NULL, &loop), 0);
    loop_turn(loop, 0);
    *state = loop;
    return 0;
}

static int teardown(void **state)
{
    loop_free(*state);
    return 0;
}

static int open_socket(struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0);
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(fd, (struct sockaddr *)address, sizeof(*address)), 0);
    socklen_t size = sizeof(*address);
    assert_int_equal(getsockname(fd, (struct sockaddr *)address, &size), 0);
    return fd;
}

static void probe_open(struct probe *probe, struct loop *loop, const struct sockaddr_in *to)
{
    memset(probe, 0, sizeof(*probe));
    assert_int_equal(datagram_open(&probe->datagram, loop, &handler, probe, (const struct sockaddr *)to,
                                   probe->buffer, sizeof(probe->buffer)),
                     0);
}

static void probe_end(struct probe *probe, struct loop *loop)
{
    datagram_close(&probe->datagram);
    assert_int_equal(probe->closed, 0); /* never from inside the call */
    datagram_close(&probe->datagram);
    TURN_UNTIL(probe->closed == 1);
    loop_turn(loop, 0);
    assert_int_equal(probe->closed, 1);
}

static void datagrams_go_and_come(void **state)
{
    struct loop *loop = *state;
    struct sockaddr_in address;
    int fd = open_socket(&address);
    struct probe probe;
    probe_open(&probe, loop, &address);
    datagram_send(&probe.datagram, (const uint8_t *)"question", 8);
    struct sockaddr_in from;
    socklen_t from_size = sizeof(from);
    char bytes[100] = "";
    TURN_UNTIL(recvfrom(fd, bytes, sizeof(bytes), 0, (struct sockaddr *)&from, &from_size) == 8);
    assert_memory_equal(bytes, "question", 8);

    /* From somewhere else; too large; empty; right. */
    struct sockaddr_in stranger_address;
    int stranger = open_socket(&stranger_address);
    assert_int_equal(sendto(stranger, "forged", 6, 0, (struct sockaddr *)&from, from_size), 6);
    assert_int_equal(sendto(fd, bytes, 65, 0, (struct sockaddr *)&from, from_size), 65);
    assert_int_equal(sendto(fd, "", 0, 0, (struct sockaddr *)&from, from_size), 0);
    assert_int_equal(sendto(fd, "answer", 6, 0, (struct sockaddr *)&from, from_size), 6);
    TURN_UNTIL(probe.received == 2);
    assert_int_equal(probe.size, 6);
    assert_memory_equal(probe.bytes, "answer", 6);
    probe_end(&probe, loop);
    close(stranger);
    close(fd);
}

static void a_peer_that_is_not_there_is_told(void **state)
{
    struct loop *loop = *state;
    struct sockaddr_in address;
    close(open_socket(&address));
    struct probe probe;
    for (int inside = 0; inside < 2; inside++) {
        probe_open(&probe, loop, &address);
        probe.close_inside = inside == 1;
        datagram_send(&probe.datagram, (const uint8_t *)"x", 1);
        TURN_UNTIL(probe.errors == 1);
        assert_int_equal(probe.error, -ECONNREFUSED);
        if (inside == 0)
            probe_end(&probe, loop);
        TURN_UNTIL(probe.closed == 1);
        assert_int_equal(probe.errors, 1);
    }
}

static void time_runs_out_once(void **state)
{
    struct loop *loop = *state;
    struct sockaddr_in address;
    int fd = open_socket(&address);
    struct probe probe;
    probe_open(&probe, loop, &address);
    probe.close_inside = true;
    datagram_set_timeout(&probe.datagram, 50);
    uint64_t begin_us = clock_monotonic_us();
    TURN_UNTIL(probe.closed == 1);
    assert_true(clock_monotonic_us() - begin_us >= 49000);
    assert_int_equal(probe.timeouts, 1);
    close(fd);
}

static void it_may_be_closed_at_any_time(void **state)
{
    struct loop *loop = *state;
    struct sockaddr_in address;
    int fd = open_socket(&address);
    struct probe probe;
    probe_open(&probe, loop, &address);
    probe_end(&probe, loop);

    probe_open(&probe, loop, &address);
    datagram_set_timeout(&probe.datagram, 1000);
    datagram_send(&probe.datagram, (const uint8_t *)"x", 1);
    probe_end(&probe, loop);

    /* Inside the callback of what came. */
    probe_open(&probe, loop, &address);
    probe.close_inside = true;
    datagram_send(&probe.datagram, (const uint8_t *)"hello", 5);
    struct sockaddr_in from;
    socklen_t from_size = sizeof(from);
    char bytes[16];
    TURN_UNTIL(recvfrom(fd, bytes, sizeof(bytes), 0, (struct sockaddr *)&from, &from_size) == 5);
    for (int count = 0; count < 3; count++)
        assert_int_equal(sendto(fd, "a", 1, 0, (struct sockaddr *)&from, from_size), 1);
    TURN_UNTIL(probe.closed == 1);
    assert_int_equal(probe.received, 1);
    close(fd);
}

static void what_cannot_be_opened_leaves_nothing(void **state)
{
    struct loop *loop = *state;
    struct sockaddr_in everyone = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_BROADCAST)};
    everyone.sin_port = htons(53);
    struct probe probe = {0};
    assert_true(datagram_open(&probe.datagram, loop, &handler, &probe, (struct sockaddr *)&everyone,
                              probe.buffer, sizeof(probe.buffer)) < 0);
    loop_turn(loop, 1000);
    assert_int_equal(probe.closed, 0);
}

int main(void)
{
#define LOOP_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        LOOP_TEST(datagrams_go_and_come),
        LOOP_TEST(a_peer_that_is_not_there_is_told),
        LOOP_TEST(time_runs_out_once),
        LOOP_TEST(it_may_be_closed_at_any_time),
        LOOP_TEST(what_cannot_be_opened_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
