/* An SMTP server that takes all mail, on several ports, for any number of connections at a time, in a thread
 * of its own. It counts what a test has to know, and says nothing of extensions. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { TAKER_PORTS_MAX = 4, TAKER_CONNECTIONS_MAX = 64, TAKER_TIMES_MAX = 1024 };

struct taker_port {
    int listener;
    uint16_t port;
    uint32_t open; /* connections */
    /* any thread (atomic, relaxed: counts that guard nothing) */
    _Atomic uint32_t most_open;
    _Atomic uint32_t connections;
    _Atomic uint32_t taken; /* messages */
};

struct taker {
    /* before taker_start */
    uint32_t delay_ms; /* before each answer to content */

    _Atomic(const char *) rcpt_reply; /* NULL: 250 */
    _Atomic(const char *) refusal;    /* in place of the greeting, then it closes; NULL: 220 */
    _Atomic uint32_t refusal_ms;      /* before it */
    uint32_t port_count;
    struct taker_port ports[TAKER_PORTS_MAX];
    uint32_t open;
    _Atomic uint32_t most_open; /* over all ports */
    _Atomic uint32_t taken;
    _Atomic bool is_stopping;
    uint64_t times_us[TAKER_TIMES_MAX]; /* when each of the first messages began; read it after taker_stop */
    uint32_t time_count;
    pthread_t thread;
    struct taker_connection *connections;
};

void taker_start(struct taker *taker, uint32_t port_count);

/* One port, a given one. */
void taker_start_at(struct taker *taker, uint16_t port);

/* Connections that are still there are closed. Harmless when it has stopped. */
void taker_stop(struct taker *taker);
