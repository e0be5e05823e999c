#include "tests/unit/outbound/peer.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PATIENCE_MS = 10000, QUIET_MS = 60 };

static bool fail(struct peer *peer, const char *line, const char *what, const char *heard)
{
    if (peer->failure[0] == 0 && peer->cut_after == SIZE_MAX)
        snprintf(peer->failure, sizeof(peer->failure), "at \"%s\": %s \"%.200s\"", line, what, heard);
    return false;
}

static bool say(struct peer *peer, const char *text, size_t size)
{
    size_t room = peer->cut_after - peer->said;
    size_t part = size < room ? size : room;

    if (part > 0 && send(peer->fd, text, part, MSG_NOSIGNAL) != (ssize_t)part)
        return false;
    peer->said += part;
    peer->is_cut = part < size;
    return !peer->is_cut;
}

/* One receive. 0: the client has closed; -1: nothing came. */
static ssize_t hear(struct peer *peer, int ms)
{
    struct pollfd wait = {.fd = peer->fd, .events = POLLIN};

    if (peer->heard_at == peer->heard_size)
        peer->heard_at = peer->heard_size = 0;
    if (poll(&wait, 1, ms) <= 0)
        return -1;
    assert(peer->heard_size < PEER_BUFFER);
    ssize_t size = recv(peer->fd, peer->heard + peer->heard_size, PEER_BUFFER - peer->heard_size, 0);
    if (size <= 0)
        return 0;
    peer->heard_size += (size_t)size;
    return size;
}

/* For lines and chunks: moves what is left to the front and receives more. */
static bool hear_more(struct peer *peer, const char *script)
{
    if (peer->one_flight && peer->flight_taken)
        return fail(peer, script, "not in one flight with what came before", "");
    if (peer->heard_at > 0) {
        memmove(peer->heard, peer->heard + peer->heard_at, peer->heard_size - peer->heard_at);
        peer->heard_size -= peer->heard_at;
        peer->heard_at = 0;
    }
    if (hear(peer, PATIENCE_MS) <= 0)
        return fail(peer, script, "heard nothing", "");
    peer->flight_taken = true;
    return true;
}

static bool hear_line(struct peer *peer, const char *script, char *line, size_t room)
{
    for (;;) {
        char *start = peer->heard + peer->heard_at;
        char *end = memmem(start, peer->heard_size - peer->heard_at, "\r\n", 2);
        if (end != NULL) {
            size_t size = (size_t)(end - start);
            assert(size < room);
            memcpy(line, start, size);
            line[size] = 0;
            peer->heard_at += size + 2;
            return true;
        }
        if (!hear_more(peer, script))
            return false;
    }
}

static void keep(struct peer *peer, const char *bytes, size_t size)
{
    assert(peer->content_size + size < PEER_CONTENT_MAX);
    memcpy(peer->content + peer->content_size, bytes, size);
    peer->content_size += size;
}

static bool hear_chunk(struct peer *peer, const char *script)
{
    size_t left = strtoul(script + 3, NULL, 10);

    while (left > 0) {
        size_t have = peer->heard_size - peer->heard_at;
        size_t part = have < left ? have : left;
        keep(peer, peer->heard + peer->heard_at, part);
        peer->heard_at += part;
        left -= part;
        if (left > 0 && !hear_more(peer, script))
            return false;
    }
    return true;
}

static bool hear_content(struct peer *peer, const char *script)
{
    static _Thread_local char line[PEER_BUFFER];

    do {
        if (!hear_line(peer, script, line, sizeof(line)))
            return false;
        keep(peer, line, strlen(line));
        keep(peer, "\r\n", 2);
    } while (strcmp(line, ".") != 0);
    return true;
}

static bool new_flight(struct peer *peer, const char *script)
{
    if (peer->heard_at != peer->heard_size)
        return fail(peer, script, "too much in the flight before", peer->heard + peer->heard_at);
    peer->one_flight = true;
    peer->flight_taken = false;
    return true;
}

static bool expect_line(struct peer *peer, const char *script)
{
    char line[4096];

    if (!hear_line(peer, script, line, sizeof(line)))
        return false;
    bool is_same =
        script[1] == '~' ? strncmp(line, script + 3, strlen(script + 3)) == 0 : strcmp(line, script + 3) == 0;
    return is_same || fail(peer, script, "heard", line);
}

static bool play_line(struct peer *peer, const char *script)
{
    switch (script[0]) {
    case 'S':
    case 'A':
        if (!say(peer, script + 3, strlen(script + 3)) || !say(peer, "\r\n", 2))
            return false;
        if (script[0] == 'A')
            atomic_fetch_add(&peer->taken, 1);
        return true;
    case 'R':
        return say(peer, script + 3, strlen(script + 3));
    case 'C':
        return expect_line(peer, script);
    case 'D':
        return hear_content(peer, script);
    case 'B':
        return hear_chunk(peer, script);
    case 'W':
        poll(NULL, 0, QUIET_MS);
        return true;
    case '=':
        return new_flight(peer, script);
    case '*':
        peer->one_flight = false;
        return true;
    case 'Q':
        return (peer->heard_at == peer->heard_size && hear(peer, QUIET_MS) < 0) ||
               fail(peer, script, "heard", peer->heard);
    case 'E':
        while (hear(peer, PATIENCE_MS) > 0)
            peer->heard_at = peer->heard_size;
        return true;
    case 'Z':
        setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
        return false;
    default:
        return false; /* X */
    }
}

static void play(struct peer *peer, const char *const *script)
{
    peer->heard_at = peer->heard_size = 0;
    peer->one_flight = false;
    atomic_fetch_add(&peer->connections, 1);
    for (; *script != NULL; script++) {
        if (!play_line(peer, *script))
            break;
    }
    close(peer->fd);
}

static void *run(void *argument)
{
    struct peer *peer = argument;

    for (const char *const *const *script = peer->scripts; *script != NULL; script++) {
        struct pollfd wait = {.fd = peer->listener, .events = POLLIN};
        if (poll(&wait, 1, PATIENCE_MS) <= 0) {
            fail(peer, "connect", "nobody came", "");
            break;
        }
        peer->fd = accept(peer->listener, NULL, NULL);
        assert(peer->fd >= 0);
        setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        if (script[1] == NULL)
            close(peer->listener);
        play(peer, *script);
        if (peer->is_cut) {
            if (script[1] != NULL)
                close(peer->listener);
            break;
        }
    }
    return NULL;
}

void peer_start(struct peer *peer, const char *const *const *scripts, size_t cut_after)
{
    peer_start_at(peer, 0, scripts, cut_after);
}

uint16_t peer_dead_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert(fd >= 0);
    int result = bind(fd, (struct sockaddr *)&address, size);
    assert(result == 0);
    result = getsockname(fd, (struct sockaddr *)&address, &size);
    assert(result == 0);
    close(fd);
    return ntohs(address.sin_port);
}

void peer_start_at(struct peer *peer, uint16_t port, const char *const *const *scripts, size_t cut_after)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    socklen_t size = sizeof(address);

    *peer = (struct peer){.scripts = scripts, .cut_after = cut_after};
    peer->content = malloc(PEER_CONTENT_MAX);
    peer->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert(peer->content != NULL && peer->listener >= 0);
    setsockopt(peer->listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    int result = bind(peer->listener, (struct sockaddr *)&address, size);
    assert(result == 0);
    result = listen(peer->listener, 64);
    assert(result == 0);
    result = getsockname(peer->listener, (struct sockaddr *)&address, &size);
    assert(result == 0);
    peer->port = ntohs(address.sin_port);
    result = pthread_create(&peer->thread, NULL, run, peer);
    assert(result == 0);
}

void peer_stop(struct peer *peer)
{
    pthread_join(peer->thread, NULL);
    free(peer->content);
    peer->content = NULL;
}
