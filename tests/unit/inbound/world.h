#pragma once

/*
 * A worker in small for tests of the receiving side: a loop, an inbound over a fake queue, and clients on
 * loopback whose side of the conversation the test speaks. Functions fail the running cmocka test themselves.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdbool.h>
#include <stdint.h>

#include "gateway/base/config.h"
#include "gateway/base/counters.h"
#include "gateway/base/log.h"
#include "gateway/base/pool.h"
#include "gateway/inbound/inbound.h"
#include "gateway/net/loop.h"
#include "tests/unit/inbound/fake_queue.h"

enum { WORLD_TEXT_MAX = 1 << 20 };

struct world {
    struct loop *loop;
    struct config *config;
    struct log *log;
    struct log_writer *writer;
    struct counters counters;
    struct pool pool;
    struct queue queue;
    struct inbound inbound;
    uint64_t trickle; /* room that a waiting session is given each turn; 0: none */
    char log_path[64];
};

struct client {
    struct world *world;
    int fd;
    size_t size;               /* octets in `text` */
    char text[WORLD_TEXT_MAX]; /* replies that were received and not expected yet */
    bool is_closed;            /* the gateway closed */
};

/* Lines to add to the usual configuration, or NULL. */
struct world *world_new(const char *config_more);

/* Every session must be over by then. */
void world_free(struct world *world);

/* The same, but the world goes on, with a queue as it was at first. */
void world_clear(struct world *world);

/* Replaces the configuration in force. */
void world_reload(struct world *world, const char *config_more);

/* Runs the loop until nothing happens for some milliseconds. */
void world_settle(struct world *world);

/* Runs the loop until there is no session, five seconds at most. */
void world_wait_empty(struct world *world);

/* The log so far, zero-terminated; valid until the next call. */
const char *world_log(struct world *world);

/* A connection to listener 0. The gateway takes the client for `address` (NULL: for 127.0.0.1, which it is).
 */
struct client *client_new(struct world *world, const char *address);
void client_free(struct client *client);

void client_send(struct client *client, const char *bytes, size_t size);
void client_shut_down(struct client *client); /* FIN */
void client_reset(struct client *client);     /* RST; the client is then of no use but to free */

/* The next line from the gateway must be this one, without CRLF; a final * stands for any rest. */
void client_expect(struct client *client, const char *line);
void client_expect_closed(struct client *client);

/* All that comes until the gateway closes, zero-terminated. */
const char *client_transcript(struct client *client);

/* Nothing must have come. */
void client_expect_silence(struct client *client);

/*
 * Speaks a conversation. "C: x" sends x and CRLF, "S: x" expects the line x (with a final *, anything that
 * begins so), "C| x" sends x without CRLF, "-- closed" expects the gateway to have closed.
 */
void converse(struct client *client, const char *const *lines);
#define CONVERSE(client, ...) converse((client), (const char *const[]){__VA_ARGS__, NULL})

/* 220 and EHLO. */
void client_hello(struct client *client);

/* A whole transaction from a@client.test to b@example.com with this content, as far as the last dot. */
void client_send_message(struct client *client, const char *content);

/* The stored content behind our Received: field, which must be there. */
const char *message_body(const struct fake_message *message, size_t *size);
void expect_body(const struct fake_message *message, const char *text);
