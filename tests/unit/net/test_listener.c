#include "net_test.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include "conn_test.h"
#include "gateway/net/listener.h"

struct host {
    struct loop *loop;
    struct listener listener;
    struct sockaddr_storage address;
    int accepted;
    int last_fd;
    int exhausted;
    int exhausted_error;
    int stopped;
    bool keep; /* the accepted socket stays open */
};

static void host_accept(void *ctx, int fd)
{
    struct host *host = ctx;
    host->accepted++;
    host->last_fd = fd;
    if (!host->keep)
        close(fd);
}

static void host_exhausted(void *ctx, int error)
{
    struct host *host = ctx;
    host->exhausted++;
    host->exhausted_error = error;
}

static void host_stopped(void *ctx)
{
    ((struct host *)ctx)->stopped++;
}

static const struct listener_handler host_handler = {
    .on_accept = host_accept,
    .on_exhausted = host_exhausted,
    .on_stopped = host_stopped,
};

static void host_start(struct host *host, struct loop *loop)
{
    *host = (struct host){.loop = loop, .last_fd = -1};
    int fd = net_test_listen(&host->address);
    listener_start(&host->listener, loop, fd, &host_handler, host);
}

static void host_stop(struct host *host)
{
    listener_stop(&host->listener);
    assert_int_equal(host->stopped, 0);
    turn_until(host->loop, host->stopped == 1);
}

static int host_call(const struct host *host)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&host->address, sizeof(struct sockaddr_in)), 0);
    return fd;
}

static void accepted_sockets_are_set_up(void **state)
{
    struct host host;
    host_start(&host, *state);
    host.keep = true;
    int caller = host_call(&host);
    turn_until(*state, host.accepted == 1);
    int on = 0;
    socklen_t size = sizeof(on);
    assert_int_equal(getsockopt(host.last_fd, IPPROTO_TCP, TCP_NODELAY, &on, &size), 0);
    assert_int_not_equal(on, 0);
    assert_true(fcntl(host.last_fd, F_GETFD) & FD_CLOEXEC);
    close(host.last_fd);
    close(caller);
    host_stop(&host);
}

static void port_in_use_and_wrong_address_are_errors(void **state)
{
    struct sockaddr_storage address;
    int plain = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in local = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(plain, (struct sockaddr *)&local, sizeof(local)), 0);
    assert_int_equal(listen(plain, 1), 0);
    assert_int_equal(listener_address(plain, &address), 0);
    assert_int_equal(listener_open_socket((struct sockaddr *)&address, sizeof(local)), -EADDRINUSE);
    close(plain);
    local.sin_addr.s_addr = htonl(0xc0000201); /* 192.0.2.1, a documentation address */
    assert_int_equal(listener_open_socket((struct sockaddr *)&local, sizeof(local)), -EADDRNOTAVAIL);
}

static void two_sockets_share_a_port(void **state)
{
    struct sockaddr_storage address;
    int first = net_test_listen(&address);
    int second = listener_open_socket((struct sockaddr *)&address, sizeof(struct sockaddr_in));
    assert_true(second >= 0);
    close(first);
    close(second);
}

/* One line of the configuration binds 0.0.0.0 and the next one [::]: the second must not take in the first.
 */
static void both_families_share_a_port(void **state)
{
    struct sockaddr_storage bound;
    struct sockaddr_in any = {.sin_family = AF_INET};
    int v4 = listener_open_socket((struct sockaddr *)&any, sizeof(any));
    assert_true(v4 >= 0);
    assert_int_equal(listener_address(v4, &bound), 0);
    struct sockaddr_in6 any6 = {.sin6_family = AF_INET6,
                                .sin6_port = ((struct sockaddr_in *)&bound)->sin_port};
    int v6 = listener_open_socket((struct sockaddr *)&any6, sizeof(any6));
    assert_true(v6 >= 0 || v6 == -EAFNOSUPPORT); /* a machine may have no IPv6 at all */
    if (v6 >= 0) {
        int only = 0;
        socklen_t size = sizeof(only);
        assert_int_equal(getsockopt(v6, IPPROTO_IPV6, IPV6_V6ONLY, &only, &size), 0);
        assert_int_equal(only, 1);
        close(v6);
    }
    close(v4);
}

static void *call_and_hang_up(void *arg)
{
    const struct host *host = arg;
    for (int call = 0; call < 5000; call++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (const struct sockaddr *)&host->address, sizeof(struct sockaddr_in)) < 0)
            return (void *)1;
        /* A reset leaves no TIME_WAIT: the ports of this machine are not ours alone. */
        net_test_reset(fd);
    }
    return NULL;
}

static void five_thousand_short_connections(void **state)
{
    struct host host;
    pthread_t thread;
    void *failed = NULL;
    host_start(&host, *state);
    assert_int_equal(pthread_create(&thread, NULL, call_and_hang_up, &host), 0);
    /* A connection that is reset before it was accepted may or may not be seen, depending on the kernel. */
    turn_until(*state, host.accepted >= 5000);
    pthread_join(thread, &failed);
    assert_null(failed);
    host_stop(&host);
    assert_int_equal(host.exhausted, 0);
}

/* The kernel takes the limit as it is when the accept is submitted: it is set before the first turn. */
static void without_descriptors_it_pauses_and_comes_back(void **state)
{
    struct host host;
    struct rlimit before;
    host_start(&host, *state);
    host.keep = true;
    int caller = host_call(&host);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    int next = dup(caller);
    close(next);
    struct rlimit full = {.rlim_cur = (rlim_t)next, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &full), 0);
    turn_until(*state, host.exhausted >= 2);
    assert_int_equal(host.exhausted_error, -EMFILE);
    assert_int_equal(host.accepted, 0);
    uint64_t tries = loop_stats(*state)->completions;
    turn_until(*state, host.exhausted >= 4);
    assert_in_range(loop_stats(*state)->completions - tries, 2, 4); /* it waits instead of spinning */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    turn_until(*state, host.accepted == 1);
    close(host.last_fd);
    close(caller);
    host_stop(&host);
}

static void stop_while_paused(void **state)
{
    struct host host;
    struct rlimit before;
    host_start(&host, *state);
    int caller = host_call(&host);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    int next = dup(caller);
    close(next);
    struct rlimit full = {.rlim_cur = (rlim_t)next, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &full), 0);
    turn_until(*state, host.exhausted == 1);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    host_stop(&host);
    assert_int_equal(host.accepted, 1); /* it waited in the backlog */
    close(caller);
}

static void stop_serves_the_backlog(void **state)
{
    struct host host;
    host_start(&host, *state);
    int callers[3];
    for (int index = 0; index < 3; index++)
        callers[index] = host_call(&host);
    host_stop(&host);
    assert_int_equal(host.accepted, 3);
    for (int index = 0; index < 3; index++)
        close(callers[index]);
}

#define listener_test(name) cmocka_unit_test_setup_teardown(name, net_test_setup, net_test_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        listener_test(accepted_sockets_are_set_up),
        cmocka_unit_test(port_in_use_and_wrong_address_are_errors),
        cmocka_unit_test(two_sockets_share_a_port),
        cmocka_unit_test(both_families_share_a_port),
        listener_test(five_thousand_short_connections),
        listener_test(without_descriptors_it_pauses_and_comes_back),
        listener_test(stop_while_paused),
        listener_test(stop_serves_the_backlog),
    };
    return cmocka_run_group_tests_name("net/listener", tests, NULL, NULL);
}
