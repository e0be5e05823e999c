#pragma once

/*
 * A worker in small for tests of the receiving side: a loop, an inbound over a fake queue, and clients on
 * loopback whose side of the conversation the test speaks. Functions fail the running cmocka test themselves.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "gateway/base/config.h"
#include "gateway/base/counters.h"
#include "gateway/base/log.h"
#include "gateway/base/pool.h"
#include "gateway/inbound/inbound.h"
#include "gateway/net/loop.h"
#include "proto/slice.h"
#include "tests/unit/inbound/fake_queue.h"

struct hasher;
struct hasher_job;
struct rate_table;
struct snapshot;
struct tls_peer;

enum { WORLD_TEXT_MAX = 1 << 20, WORLD_FILES_MAX = 8, WORLD_QUESTIONS_MAX = 512 };

/* To the DNS, about a sender's domain. */
struct world_question {
    char domain[256];
    void (*answer)(void *asker, bool is_null);
    void *asker;
};

struct world {
    struct loop *loop;
    struct snapshot *snapshot;
    struct log *log;
    struct log_writer *writer;
    struct counters counters;
    struct pool pool;
    struct queue queue;
    struct inbound inbound;
    struct rate_table *rates;
    struct hasher *hasher;
    pthread_mutex_t mutex;                                /* guards what a thread of the hasher writes: */
    struct hasher_job *checked;                           /* passwords on their way back */
    uint32_t checked_count;                               /* so many came back so far */
    pthread_t checker;                                    /* who checked the last one */
    bool holds_checks;                                    /* they stay on their way */
    struct world_question questions[WORLD_QUESTIONS_MAX]; /* that wait for world_answer */
    uint32_t question_count;
    bool is_dns_closed; /* nothing can be asked */
    uint64_t trickle;   /* room that a waiting session is given each turn; 0: none */
    bool gave_room;     /* in the last turn */
    char log_path[64];
    char files[WORLD_FILES_MAX][64]; /* of world_file */
    size_t file_count;
};

/* What a configuration has beyond the usual one; each part may be NULL. */
struct world_config {
    const char *listener; /* keys of the listener */
    const char
        *relay; /* keys of the relay section, whose domain is example.com; its networks are 127.0.0.0/8 ... */
    const char *networks; /* ... or these */
    const char *more;     /* other sections */
    const char *max_size; /* max_message_size of the listener, which is 64K otherwise */
};

struct client {
    struct world *world;
    int fd;
    struct tls_peer *tls;      /* NULL: in the clear */
    size_t size;               /* octets in `text` */
    char text[WORLD_TEXT_MAX]; /* replies that were received and not expected yet */
    bool is_closed;            /* the gateway closed */
};

/* Sections to add to the usual configuration, or NULL. */
struct world *world_new(const char *config_more);
struct world *world_new_with(const struct world_config *config);

/* The path of a file with this text, for the configuration of the next world, which removes it at its end. It
 * is a file of users, so nobody else may read it. Valid until world_free. */
const char *world_file(const char *text);

/* Every session must be over by then. */
void world_free(struct world *world);

/* The same, but the world goes on, with a queue as it was at first. */
void world_clear(struct world *world);

/* Replaces the configuration in force. */
void world_reload(struct world *world, const char *config_more);
void world_reload_with(struct world *world, const struct world_config *config);

/* Turns the loop once, and does what the other threads and the queue would. */
void world_turn(struct world *world, uint64_t wait_us);

/* Runs the loop until nothing happens for some milliseconds. */
void world_settle(struct world *world);

/* Runs the loop until there is no session, five seconds at most. */
void world_wait_empty(struct world *world);

/* Runs the loop until so many passwords have come back from the hasher. */
void world_wait_checked(struct world *world, uint32_t count);

/* Answers the question that waits longest, which must be about this domain. */
void world_answer(struct world *world, const char *domain, bool is_null);

/* Fails unless the log holds this. */
void expect_log(struct world *world, const char *text);

/* The log so far, zero-terminated; valid until the next call. */
const char *world_log(struct world *world);

/* A connection to listener 0. The gateway takes the client for `address` (NULL: for 127.0.0.1, which it is).
 */
struct client *client_new(struct world *world, const char *address);
void client_free(struct client *client);

/* From here on the client speaks TLS, beginning with its handshake: whether that succeeds. `prepare`, unless
 * NULL, adjusts the peer before it. */
bool client_secure(struct client *client, void (*prepare)(struct tls_peer *peer));

void client_send(struct client *client, const char *bytes, size_t size);
void client_shut_down(struct client *client); /* FIN */
void client_reset(struct client *client);     /* RST; the client is then of no use but to free */

/* The next line from the gateway must be this one, without CRLF; a final * stands for any rest. */
void client_expect(struct client *client, const char *line);
void client_expect_closed(struct client *client);

/* The next line from the gateway, without CRLF; valid until it is expected, which is still to be done. */
struct smtp_slice client_line(struct client *client);

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

/* EHLO, whose answer must have this line, and all of it is taken; with a final * as in client_expect. */
void client_ehlo(struct client *client, const char *line);

/* EHLO, whose answer must not have a line that begins so. */
void client_ehlo_without(struct client *client, const char *keyword);

/* A whole transaction from a@client.test to b@example.com with this content, as far as the last dot. */
void client_send_message(struct client *client, const char *content);

/* The next message begins: MAIL and RCPT from a@client.test to b@example.com. */
void client_envelope(struct client *client);

/* QUIT and the end. */
void client_quit(struct client *client);

/* The stored content behind our Received: field, which must be there. */
const char *message_body(const struct fake_message *message, size_t *size);
void expect_body(const struct fake_message *message, const char *text);
