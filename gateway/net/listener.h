#pragma once

/*
 * Listening sockets: bound by the main thread (while it may still bind low ports), served by one loop each.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "gateway/net/loop.h"
#include "gateway/net/timer.h"

#define LISTENER_BACKLOG  4096
#define LISTENER_PAUSE_MS 100 /* without file descriptors, so long before the next try */

struct listener;

struct listener_handler {
    /* A new connection; the callee owns `fd` (close-on-exec, TCP_NODELAY). Its peer: conn_peer. */
    void (*on_accept)(void *ctx, int fd);

    /* Accepting failed with -EMFILE, -ENFILE, -ENOMEM or -ENOBUFS and pauses; may be NULL. */
    void (*on_exhausted)(void *ctx, int error);

    /* After listener_stop: the last call, the fd is closed, the memory is the owner's again. May be NULL. */
    void (*on_stopped)(void *ctx);
};

enum listener_state {
    LISTENER_IDLE,
    LISTENER_ACCEPTING,
    LISTENER_PAUSED,
    LISTENER_STOPPING,
};

/* Embedded in its owner's struct; all fields private. */
struct listener {
    struct completion accept;
    struct loop *loop;
    const struct listener_handler *handler;
    void *ctx;
    struct timer timer;
    int fd;
    enum listener_state state;
};

/*
 * A socket bound to `address` that listens, or a negative errno (-EADDRINUSE, -EACCES, ...). SO_REUSEPORT, so
 * that each worker opens its own on the same address and the kernel spreads the connections. Port 0 picks
 * one: listener_address tells it. Any thread; the caller owns the fd.
 */
int listener_open_socket(const struct sockaddr *address, socklen_t size) __attribute__((warn_unused_result));

/* The address the socket is bound to; 0 or a negative errno. */
int listener_address(int fd, struct sockaddr_storage *out) __attribute__((warn_unused_result));

/* Takes `fd` and accepts on it. Loop's thread, or any before the loop was adopted. */
void listener_start(struct listener *listener, struct loop *loop, int fd,
                    const struct listener_handler *handler, void *ctx);

/* Accepts no more and closes the socket; connections that are accepted already still reach on_accept. */
void listener_stop(struct listener *listener);
