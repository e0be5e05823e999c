#include "tests/unit/outbound/taker.h"

#include <arpa/inet.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/clock.h"

enum { LINE_MAX_SIZE = 4096 };

struct taker_connection {
    int fd; /* -1: none */
    uint32_t port;
    bool in_content;
    uint64_t due_us;    /* when the answer to content is to go out; 0: there is none */
    uint64_t refuse_us; /* the same, for a refusal in place of the greeting */
    size_t size;
    char heard[LINE_MAX_SIZE];
};

static void say(const struct taker_connection *connection, const char *text)
{
    (void)!send(connection->fd, text, strlen(text), MSG_NOSIGNAL);
}

static void hang_up(struct taker *taker, struct taker_connection *connection)
{
    close(connection->fd);
    connection->fd = -1;
    taker->open--;
    taker->ports[connection->port].open--;
}

static void note_most(_Atomic uint32_t *most, uint32_t count)
{
    if (count > atomic_load(most))
        atomic_store(most, count);
}

static void take_in(struct taker *taker, uint32_t port)
{
    int fd = accept(taker->ports[port].listener, NULL, NULL);

    for (uint32_t i = 0; i < TAKER_CONNECTIONS_MAX && fd >= 0; i++) {
        struct taker_connection *connection = &taker->connections[i];
        if (connection->fd >= 0)
            continue;
        *connection = (struct taker_connection){.fd = fd, .port = port};
        note_most(&taker->most_open, ++taker->open);
        note_most(&taker->ports[port].most_open, ++taker->ports[port].open);
        atomic_fetch_add(&taker->ports[port].connections, 1);
        if (atomic_load(&taker->refusal) != NULL)
            connection->refuse_us = clock_monotonic_us() + atomic_load(&taker->refusal_ms) * UINT64_C(1000);
        else
            say(connection, "220 taker.test\r\n");
        return;
    }
    close(fd);
}

static void end_content(struct taker *taker, struct taker_connection *connection)
{
    connection->in_content = false;
    connection->due_us = clock_monotonic_us() + taker->delay_ms * 1000;
}

static void answer(struct taker *taker, struct taker_connection *connection, const char *line)
{
    const char *reply = "250 ok\r\n";
    const char *refusal = atomic_load(&taker->rcpt_reply);

    if (connection->in_content) {
        if (strcmp(line, ".") == 0)
            end_content(taker, connection);
        return;
    }
    if (strncmp(line, "MAIL", 4) == 0 && taker->time_count < TAKER_TIMES_MAX)
        taker->times_us[taker->time_count++] = clock_monotonic_us();
    if (strncmp(line, "RCPT", 4) == 0 && refusal != NULL)
        reply = refusal;
    else if (strncmp(line, "DATA", 4) == 0)
        reply = "354 go\r\n";
    else if (strncmp(line, "QUIT", 4) == 0)
        reply = "221 bye\r\n";
    connection->in_content = reply[0] == '3';
    say(connection, reply);
}

static void hear(struct taker *taker, struct taker_connection *connection)
{
    ssize_t got =
        recv(connection->fd, connection->heard + connection->size, LINE_MAX_SIZE - 1 - connection->size, 0);
    char *end;

    if (got <= 0) {
        hang_up(taker, connection);
        return;
    }
    connection->size += (size_t)got;
    connection->heard[connection->size] = 0;
    while ((end = strstr(connection->heard, "\r\n")) != NULL) {
        *end = 0;
        answer(taker, connection, connection->heard);
        size_t line_size = (size_t)(end + 2 - connection->heard);
        memmove(connection->heard, end + 2, connection->size + 1 - line_size);
        connection->size -= line_size;
    }
}

static void finish(struct taker *taker, struct taker_connection *connection)
{
    if (connection->fd >= 0 && connection->refuse_us != 0 && connection->refuse_us <= clock_monotonic_us()) {
        const char *refusal = atomic_load(&taker->refusal);
        say(connection, refusal != NULL ? refusal : "421 too late\r\n");
        hang_up(taker, connection);
        return;
    }
    if (connection->fd < 0 || connection->due_us == 0 || connection->due_us > clock_monotonic_us())
        return;
    connection->due_us = 0;
    atomic_fetch_add(&taker->taken, 1);
    atomic_fetch_add(&taker->ports[connection->port].taken, 1);
    say(connection, "250 taken\r\n");
}

/* What ended is seen before what is new, so that one after the other never looks like two at a time. */
static void turn(struct taker *taker)
{
    struct pollfd polled[TAKER_CONNECTIONS_MAX + TAKER_PORTS_MAX];

    for (uint32_t i = 0; i < TAKER_CONNECTIONS_MAX; i++)
        polled[i] = (struct pollfd){.fd = taker->connections[i].fd, .events = POLLIN};
    for (uint32_t i = 0; i < taker->port_count; i++)
        polled[TAKER_CONNECTIONS_MAX + i] = (struct pollfd){.fd = taker->ports[i].listener, .events = POLLIN};
    poll(polled, TAKER_CONNECTIONS_MAX + taker->port_count, 1);
    for (uint32_t i = 0; i < TAKER_CONNECTIONS_MAX; i++) {
        if (polled[i].revents != 0)
            hear(taker, &taker->connections[i]);
        finish(taker, &taker->connections[i]);
    }
    for (uint32_t i = 0; i < taker->port_count; i++) {
        if (polled[TAKER_CONNECTIONS_MAX + i].revents != 0)
            take_in(taker, i);
    }
}

static void *run(void *context)
{
    struct taker *taker = context;
    while (!atomic_load(&taker->is_stopping))
        turn(taker);
    return NULL;
}

static void open_port(struct taker_port *port, uint16_t number)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(number)};
    socklen_t size = sizeof(address);
    int on = 1;

    *port = (struct taker_port){.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    assert_int_equal(setsockopt(port->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
    assert_int_equal(bind(port->listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(port->listener, 1024), 0);
    assert_int_equal(getsockname(port->listener, (struct sockaddr *)&address, &size), 0);
    port->port = ntohs(address.sin_port);
}

static void start(struct taker *taker, uint32_t port_count, uint16_t port)
{
    *taker = (struct taker){.delay_ms = taker->delay_ms, .port_count = port_count};
    taker->connections = calloc(TAKER_CONNECTIONS_MAX, sizeof(struct taker_connection));
    assert_non_null(taker->connections);
    for (uint32_t i = 0; i < TAKER_CONNECTIONS_MAX; i++)
        taker->connections[i].fd = -1;
    for (uint32_t i = 0; i < port_count; i++)
        open_port(&taker->ports[i], port);
    assert_int_equal(pthread_create(&taker->thread, NULL, run, taker), 0);
}

void taker_start(struct taker *taker, uint32_t port_count)
{
    start(taker, port_count, 0);
}

void taker_start_at(struct taker *taker, uint16_t port)
{
    start(taker, 1, port);
}

void taker_stop(struct taker *taker)
{
    if (taker->connections == NULL)
        return;
    atomic_store(&taker->is_stopping, true);
    pthread_join(taker->thread, NULL);
    for (uint32_t i = 0; i < TAKER_CONNECTIONS_MAX; i++) {
        if (taker->connections[i].fd >= 0)
            close(taker->connections[i].fd);
    }
    for (uint32_t i = 0; i < taker->port_count; i++)
        close(taker->ports[i].listener);
    free(taker->connections);
    taker->connections = NULL;
}
