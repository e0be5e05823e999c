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
#include <sys/un.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "gateway/sasl/sasl.h"

enum { PATIENCE_MS = 10000, QUIET_MS = 60 };

struct peer_means peer_means;

static bool fail(struct peer *peer, const char *line, const char *what, const char *heard)
{
    if (peer->failure[0] == 0 && peer->cut_after == SIZE_MAX)
        snprintf(peer->failure, sizeof(peer->failure), "at \"%s\": %s \"%.200s\"", line, what, heard);
    return false;
}

static bool put(struct peer *peer, const char *text, size_t size)
{
    if (peer->session != NULL)
        return SSL_write(peer->session, text, (int)size) == (int)size;
    return send(peer->fd, text, size, MSG_NOSIGNAL) == (ssize_t)size;
}

static ssize_t get(struct peer *peer, char *text, size_t room)
{
    if (peer->session != NULL)
        return SSL_read(peer->session, text, (int)room);
    return recv(peer->fd, text, room, 0);
}

static bool say(struct peer *peer, const char *text, size_t size)
{
    size_t room = peer->cut_after - peer->said;
    size_t part = size < room ? size : room;

    if (part > 0 && !put(peer, text, part))
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
    bool has_more = peer->session != NULL && SSL_pending(peer->session) > 0;
    if (!has_more && poll(&wait, 1, ms) <= 0)
        return -1;
    assert(peer->heard_size < PEER_BUFFER);
    ssize_t size = get(peer, peer->heard + peer->heard_size, PEER_BUFFER - peer->heard_size);
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

/* --- TLS and logins --- */

static bool shake_hands(struct peer *peer, const char *script)
{
    bool must_fail = script[0] == 't';

    if (peer->heard_at != peer->heard_size && !must_fail)
        return fail(peer, script, "heard before TLS", peer->heard + peer->heard_at);
    peer->session = SSL_new(peer_means.tls);
    assert(peer->session != NULL);
    SSL_set_fd(peer->session, peer->fd);
    bool done = SSL_accept(peer->session) == 1;
    if (done && must_fail) /* in TLS 1.3 the client judges us when we are done */
        done = SSL_peek(peer->session, &(char){0}, 1) > 0;
    if (done == must_fail)
        return fail(peer, script, done ? "hands were shaken" : "hands were not shaken",
                    done ? "" : ERR_reason_error_string(ERR_peek_error()));
    if (script[1] != 0 && SSL_session_reused(peer->session) != (script[1] == '+'))
        return fail(peer, script, "another session", "");
    return true;
}

static bool say_challenge(struct peer *peer, const char *code, const char *text, size_t size)
{
    return say(peer, code, strlen(code)) && say(peer, text, size) && say(peer, "\r\n", 2);
}

static bool log_in(struct peer *peer, const char *script)
{
    static const uint8_t secret[SASL_SECRET_SIZE] = {1};
    char line[4096], expected[64], out[SASL_CHALLENGE_MAX];
    struct sasl_exchange exchange;
    enum sasl_mechanism mechanism;
    size_t size = 0;

    if (!sasl_mechanism_parse(script + 3, strlen(script + 3), &mechanism))
        return fail(peer, script, "no mechanism", "");
    if (!hear_line(peer, script, line, sizeof(line)))
        return false;
    size_t prefix = (size_t)snprintf(expected, sizeof(expected), "AUTH %s", script + 3);
    if (strncmp(line, expected, prefix) != 0)
        return fail(peer, script, "heard", line);
    const char *answer = line[prefix] == ' ' ? line + prefix + 1 : NULL;
    sasl_begin(&exchange, mechanism, peer_means.users, NULL, 0, secret);
    enum sasl_result result =
        sasl_step(&exchange, answer, answer != NULL ? strlen(answer) : 0, out, sizeof(out), &size);
    while (result == SASL_CHALLENGE) {
        if (!say_challenge(peer, "334 ", out, size) || !hear_line(peer, script, line, sizeof(line)))
            return false;
        result = sasl_step(&exchange, line, strlen(line), out, sizeof(out), &size);
    }
    if (result == SASL_CHECK_PASSWORD) {
        struct hasher_job job = {0};
        sasl_prepare_check(&exchange, &job);
        result = sasl_password_checked(&exchange, password_check_run(&job.check, job.password));
    }
    sasl_exchange_wipe(&exchange);
    return say_challenge(peer, result == SASL_OK ? "235 2.7.0 in" : "535 5.7.8 no", "", 0);
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
    case 'T':
    case 't':
        return shake_hands(peer, script);
    case 'L':
        return log_in(peer, script);
    case '=':
        return new_flight(peer, script);
    case '*':
        peer->one_flight = false;
        return true;
    case 'Q':
        return (peer->heard_at == peer->heard_size && hear(peer, QUIET_MS) < 0) ||
               fail(peer, script, "heard", peer->heard);
    case 'E':
        do
            peer->heard_at = peer->heard_size;
        while (hear(peer, PATIENCE_MS) > 0);
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
        /* Such an end leaves together with the answer: the client cannot go on in between. */
        if (script[0][0] == 'A' && script[1] != NULL && script[1][0] == 'X')
            setsockopt(peer->fd, IPPROTO_TCP, TCP_CORK, &(int){1}, sizeof(int));
        if (!play_line(peer, *script))
            break;
    }
    SSL_free(peer->session);
    peer->session = NULL;
    ERR_clear_error();
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
        struct timeval patience = {.tv_sec = PATIENCE_MS / 1000};
        setsockopt(peer->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
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

static int listen_at_port(uint16_t *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(peer_means.is_open ? INADDR_ANY : INADDR_LOOPBACK),
                                  .sin_port = htons(*port)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (peer_means.window > 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &peer_means.window, sizeof(int));
    int result = bind(fd, (struct sockaddr *)&address, size);
    assert(result == 0);
    result = listen(fd, 64);
    assert(result == 0);
    result = getsockname(fd, (struct sockaddr *)&address, &size);
    assert(result == 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static int listen_at_path(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert(fd >= 0 && strlen(path) < sizeof(address.sun_path));
    strcpy(address.sun_path, path);
    unlink(path);
    int result = bind(fd, (struct sockaddr *)&address, sizeof(address));
    assert(result == 0);
    result = listen(fd, 64);
    assert(result == 0);
    return fd;
}

void peer_start_at(struct peer *peer, uint16_t port, const char *const *const *scripts, size_t cut_after)
{
    *peer = (struct peer){.scripts = scripts, .cut_after = cut_after, .port = port};
    peer->content = malloc(PEER_CONTENT_MAX);
    assert(peer->content != NULL);
    peer->listener = peer_means.path != NULL ? listen_at_path(peer_means.path) : listen_at_port(&peer->port);
    int result = pthread_create(&peer->thread, NULL, run, peer);
    assert(result == 0);
}

void peer_stop(struct peer *peer)
{
    pthread_join(peer->thread, NULL);
    free(peer->content);
    peer->content = NULL;
}
