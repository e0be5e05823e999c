#include "tests/unit/inbound/world.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/base/clock.h"

static const char usual_config[] = "hostname = \"relay.test\"\n"
                                   "listener \"smtp\" {\n"
                                   "  bind = {\"127.0.0.1:2525\"}\n"
                                   "  max_message_size = \"64K\"\n"
                                   "  max_recipients = 100\n"
                                   "}\n"
                                   "relay { networks = {\"127.0.0.0/8\"} domains = {\"example.com\"} }\n"
                                   "route \"example.com\" { to = \"smtp://127.0.0.1:2526\" }\n"
                                   "route \"example.net\" { to = \"smtp://127.0.0.1:2526\" }\n"
                                   "route \"relay.test\" { to = \"smtp://127.0.0.1:2526\" }\n";

static struct config *load_config(const char *more)
{
    char text[4096];
    snprintf(text, sizeof(text), "%s%s", usual_config, more != NULL ? more : "");
    struct config *config = NULL;
    struct config_error error = {{0}};
    if (config_load_text("test", text, &config, &error) != 0)
        fail_msg("%s", error.text);
    return config;
}

static void on_room(void *context)
{
    inbound_room(context);
}

static void start_queue(struct world *world)
{
    fake_queue_init(&world->queue);
    world->queue.on_room = on_room;
    world->queue.context = &world->inbound;
}

struct world *world_new(const char *config_more)
{
    struct world *world = calloc(1, sizeof(*world));
    assert_non_null(world);
    const struct loop_options loop_options = {
        .sq_entries = 64, .cq_entries = 256, .receive_buffer_count = 64, .receive_buffer_size = 16384};
    assert_int_equal(loop_new(&loop_options, &world->loop), 0);
    loop_turn(world->loop, 0);
    world->config = load_config(config_more);
    strcpy(world->log_path, "/tmp/sluice-inbound-XXXXXX");
    int fd = mkstemp(world->log_path);
    assert_true(fd >= 0);
    close(fd);
    counters_init(&world->counters);
    assert_int_equal(log_new(world->log_path, LOG_TEXT, LOG_DEBUG, &world->log), 0);
    assert_int_equal(log_writer_new(world->log, &world->counters, &world->writer), 0);
    log_set_time(world->writer, clock_wall_us());
    pool_init(&world->pool, &world->counters, SIZE_MAX);
    start_queue(world);
    inbound_init(&world->inbound, &(struct inbound_options){
                                      .loop = world->loop,
                                      .queue = &world->queue,
                                      .config = world->config,
                                      .log = world->writer,
                                      .counters = &world->counters,
                                      .pool = &world->pool,
                                  });
    return world;
}

static void end_queue(struct world *world)
{
    world_wait_empty(world);
    assert_int_equal(counter_get(&world->counters, COUNTER_connections_open), 0);
    assert_int_equal(world->pool.used_bytes, 0);
    assert_int_equal(world->queue.drafts_open, 0);
    fake_queue_deinit(&world->queue);
}

void world_clear(struct world *world)
{
    end_queue(world);
    start_queue(world);
}

void world_free(struct world *world)
{
    end_queue(world);
    inbound_deinit(&world->inbound);
    pool_deinit(&world->pool);
    loop_free(world->loop);
    log_free(world->log);
    unlink(world->log_path);
    config_free(world->config);
    free(world);
}

void world_reload(struct world *world, const char *config_more)
{
    struct config *next = load_config(config_more);
    inbound_set_config(&world->inbound, next);
    config_free(world->config);
    world->config = next;
}

static void turn(struct world *world, uint64_t wait_us)
{
    loop_turn(world->loop, wait_us);
    fake_queue_flush(&world->queue);
    if (world->trickle > 0 && !list_is_empty(&world->inbound.waiting))
        fake_queue_give_room(&world->queue, world->trickle);
}

void world_settle(struct world *world)
{
    for (int i = 0; i < 10; i++)
        turn(world, 1000);
}

void world_wait_empty(struct world *world)
{
    const uint64_t deadline_us = clock_monotonic_us() + 5000000;
    while (inbound_session_count(&world->inbound) > 0) {
        assert_true(clock_monotonic_us() < deadline_us);
        turn(world, 1000);
    }
}

const char *world_log(struct world *world)
{
    static char text[1 << 16];
    log_drain(world->log);
    int fd = open(world->log_path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    const ssize_t size = read(fd, text, sizeof(text) - 1);
    assert_true(size >= 0);
    text[size] = '\0';
    close(fd);
    return text;
}

/* --- Clients --- */

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
    if (client->fd >= 0)
        close(client->fd);
    free(client);
}

/* What has come from the gateway goes to `text`; false when nothing had. */
static bool receive(struct client *client)
{
    if (client->is_closed)
        return false;
    assert_true(client->size < WORLD_TEXT_MAX);
    /* In small pieces, since each expected line moves what lies behind it. */
    const size_t room = WORLD_TEXT_MAX - client->size;
    const ssize_t size =
        recv(client->fd, client->text + client->size, room < 4096 ? room : 4096, MSG_DONTWAIT);
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
        turn(client->world, 1000);
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
        turn(client->world, 1000);
    }
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
            turn(client->world, 1000);
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

void client_hello(struct client *client)
{
    CONVERSE(client, "S: 220 relay.test ESMTP Sluice", "C: EHLO client.test", "S: 250-relay.test",
             "S: 250-PIPELINING", "S: 250-SIZE *", "S: 250-8BITMIME", "S: 250 ENHANCEDSTATUSCODES");
}

void client_send_message(struct client *client, const char *content)
{
    CONVERSE(client, "C: MAIL FROM:<a@client.test>", "S: 250 2.1.0 Ok", "C: RCPT TO:<b@example.com>",
             "S: 250 2.1.5 Ok", "C: DATA", "S: 354 *");
    client_send(client, content, strlen(content));
    client_send(client, ".\r\n", 3);
}

/* --- Messages --- */

const char *message_body(const struct fake_message *message, size_t *size)
{
    static const char first[] = "Received: from ";
    const char *at = message->content;
    const char *end = at + message->size;
    assert_true(message->size > sizeof(first));
    assert_memory_equal(at, first, sizeof(first) - 1);
    do {
        at = memmem(at, (size_t)(end - at), "\r\n", 2);
        assert_non_null(at);
        at += 2;
    } while (at < end && *at == '\t');
    *size = (size_t)(end - at);
    return at;
}

void expect_body(const struct fake_message *message, const char *text)
{
    size_t size = 0;
    const char *body = message_body(message, &size);
    assert_int_equal(size, strlen(text));
    assert_memory_equal(body, text, size);
}
