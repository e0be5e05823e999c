#include "tests/unit/inbound/world.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "tests/unit/net/tls_test.h"

static int connected_pair(int *client_fd)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    *client_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(*client_fd, (struct sockaddr *)&address, size), 0);
    int accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(accepted >= 0);
    close(listener);
    const int on = 1;
    assert_int_equal(setsockopt(*client_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), 0);
    assert_int_equal(setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), 0);
    return accepted;
}

struct client *client_new(struct world *world, const char *address)
{
    struct client *client = malloc(sizeof(*client));
    assert_non_null(client);
    *client = (struct client){.world = world};
    int fd = connected_pair(&client->fd);
    struct sockaddr_storage storage;
    if (address != NULL)
        assert_int_equal(parse_ip(address, 4321, &storage), 0);
    inbound_accept(&world->inbound, fd, 0, address != NULL ? (struct sockaddr *)&storage : NULL);
    return client;
}

void client_free(struct client *client)
{
    if (client->tls != NULL)
        tls_peer_close(client->tls); /* and the socket */
    else if (client->fd >= 0)
        close(client->fd);
    free(client->tls);
    free(client);
}

bool client_secure(struct client *client, void (*prepare)(struct tls_peer *peer))
{
    client->tls = calloc(1, sizeof(*client->tls));
    assert_non_null(client->tls);
    tls_peer_open(client->tls, client->fd, TLS1_2_VERSION, TLS1_3_VERSION);
    if (prepare != NULL)
        prepare(client->tls);
    return tls_peer_shake(client->tls, client->world->loop);
}

static ssize_t receive_secured(struct client *client, char *into, size_t room)
{
    ERR_clear_error();
    int got = SSL_read(client->tls->session, into, (int)room);
    if (got <= 0 && SSL_get_error(client->tls->session, got) == SSL_ERROR_WANT_READ &&
        !client->tls->saw_fin) {
        tls_peer_pump(client->tls, client->world->loop);
        got = SSL_read(client->tls->session, into, (int)room);
        if (got <= 0 && SSL_get_error(client->tls->session, got) == SSL_ERROR_WANT_READ &&
            !client->tls->saw_fin) {
            errno = EAGAIN;
            return -1;
        }
    }
    return got > 0 ? got : 0;
}

static ssize_t receive_some(struct client *client, char *into, size_t room)
{
    return client->tls != NULL ? receive_secured(client, into, room)
                               : recv(client->fd, into, room, MSG_DONTWAIT);
}

/* What has come from the gateway goes to `text`; false when nothing had. */
static bool receive(struct client *client)
{
    if (client->is_closed)
        return false;
    assert_true(client->size < WORLD_TEXT_MAX);
    /* In small pieces, since each expected line moves what lies behind it. */
    const size_t room = WORLD_TEXT_MAX - client->size;
    const ssize_t size = receive_some(client, client->text + client->size, room < 4096 ? room : 4096);
    if (size < 0 && errno == EAGAIN)
        return false;
    if (size <= 0)
        client->is_closed = true;
    else
        client->size += (size_t)size;
    return true;
}

void client_send(struct client *client, const char *bytes, size_t size)
{
    const uint64_t deadline_us = clock_monotonic_us() + 5000000;
    if (client->tls != NULL && size > 0) {
        tls_peer_write(client->tls, client->world->loop, bytes, size);
        world_turn(client->world, 1000);
        return;
    }
    while (size > 0) {
        const ssize_t sent = send(client->fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN)
            return; /* the gateway has closed; what it said is expected next */
        if (sent > 0) {
            bytes += sent;
            size -= (size_t)sent;
        }
        if (clock_monotonic_us() > deadline_us)
            fail_msg("the gateway does not read");
        world_turn(client->world, 1000);
    }
}

void client_shut_down(struct client *client)
{
    assert_int_equal(shutdown(client->fd, SHUT_WR), 0);
}

void client_reset(struct client *client)
{
    const struct linger linger = {.l_onoff = 1, .l_linger = 0};
    assert_int_equal(setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
    close(client->fd);
    client->fd = -1;
}

/* The size of the first line in `text`, with its CRLF, waiting for it; 0 when the gateway closes first. */
static size_t wait_for_line(struct client *client)
{
    const uint64_t deadline_us = clock_monotonic_us() + 5000000;
    for (;;) {
        const char *end = memmem(client->text, client->size, "\r\n", 2);
        if (end != NULL)
            return (size_t)(end - client->text) + 2;
        if (receive(client))
            continue;
        if (client->is_closed || clock_monotonic_us() > deadline_us)
            return 0;
        world_turn(client->world, 1000);
    }
}

struct smtp_slice client_line(struct client *client)
{
    const size_t size = wait_for_line(client);
    assert_true(size > 0);
    return (struct smtp_slice){client->text, (uint32_t)size - 2};
}

void client_expect(struct client *client, const char *line)
{
    const size_t size = wait_for_line(client);
    if (size == 0)
        fail_msg("expected \"%s\", but %s", line, client->is_closed ? "the gateway closed" : "nothing came");
    const size_t text_size = size - 2;
    const size_t line_size = strlen(line);
    const bool is_prefix = line_size > 0 && line[line_size - 1] == '*';
    const size_t compared = is_prefix ? line_size - 1 : line_size;
    if (text_size < compared || (!is_prefix && text_size != compared) ||
        memcmp(client->text, line, compared) != 0)
        fail_msg("expected \"%s\", got \"%.*s\"", line, (int)text_size, client->text);
    memmove(client->text, client->text + size, client->size - size);
    client->size -= size;
}

void client_expect_closed(struct client *client)
{
    const size_t size = wait_for_line(client);
    if (size > 0)
        fail_msg("expected the end, got \"%.*s\"", (int)size - 2, client->text);
    assert_true(client->is_closed);
    /* The gateway lingers until we have closed too. */
    shutdown(client->fd, SHUT_WR);
}

const char *client_transcript(struct client *client)
{
    const uint64_t deadline_us = clock_monotonic_us() + 5000000;
    while (!client->is_closed) {
        if (clock_monotonic_us() > deadline_us)
            fail_msg("the gateway does not close after \"%.*s\"", (int)client->size, client->text);
        if (!receive(client))
            world_turn(client->world, 1000);
    }
    shutdown(client->fd, SHUT_WR);
    assert_true(client->size < WORLD_TEXT_MAX);
    client->text[client->size] = '\0';
    return client->text;
}

void client_expect_silence(struct client *client)
{
    world_settle(client->world);
    while (receive(client))
        ;
    if (client->size > 0)
        fail_msg("expected silence, got \"%.*s\"", (int)client->size, client->text);
    assert_false(client->is_closed);
}

void converse(struct client *client, const char *const *lines)
{
    for (; *lines != NULL; lines++) {
        const char *line = *lines;
        if (strncmp(line, "C: ", 3) == 0) {
            client_send(client, line + 3, strlen(line + 3));
            client_send(client, "\r\n", 2);
        } else if (strncmp(line, "C| ", 3) == 0) {
            client_send(client, line + 3, strlen(line + 3));
        } else if (strncmp(line, "S: ", 3) == 0) {
            client_expect(client, line + 3);
        } else if (strcmp(line, "-- closed") == 0) {
            client_expect_closed(client);
        } else {
            fail_msg("not a line of a conversation: %s", line);
        }
    }
}

/* Whether one of the lines of an answer to EHLO is this one. */
static bool ehlo_has(struct client *client, const char *line)
{
    const size_t size = strlen(line);
    const bool is_prefix = size > 0 && line[size - 1] == '*';
    bool found = false, is_last = false;
    CONVERSE(client, "C: EHLO client.test");
    do {
        const size_t got = wait_for_line(client);
        assert_true(got > 6);
        assert_memory_equal(client->text, "250", 3);
        is_last = client->text[3] == ' ';
        const size_t text_size = got - 6;
        found |= is_prefix ? text_size >= size - 1 && memcmp(client->text + 4, line, size - 1) == 0
                           : text_size == size && memcmp(client->text + 4, line, size) == 0;
        memmove(client->text, client->text + got, client->size - got);
        client->size -= got;
    } while (!is_last);
    return found;
}

void client_ehlo(struct client *client, const char *line)
{
    if (!ehlo_has(client, line))
        fail_msg("EHLO does not show %s", line);
}

void client_ehlo_without(struct client *client, const char *keyword)
{
    if (ehlo_has(client, keyword))
        fail_msg("EHLO shows %s", keyword);
}

void client_hello(struct client *client)
{
    CONVERSE(client, "S: 220 relay.test ESMTP Sluice");
    client_ehlo(client, "PIPELINING");
}

void client_envelope(struct client *client)
{
    CONVERSE(client, "C: MAIL FROM:<a@client.test>", "S: 250 2.1.0 Ok", "C: RCPT TO:<b@example.com>",
             "S: 250 2.1.5 Ok");
}

void client_quit(struct client *client)
{
    CONVERSE(client, "C: QUIT", "S: 221 2.0.0 Bye", "-- closed");
}

void client_send_message(struct client *client, const char *content)
{
    client_envelope(client);
    CONVERSE(client, "C: DATA", "S: 354 *");
    client_send(client, content, strlen(content));
    client_send(client, ".\r\n", 3);
}
