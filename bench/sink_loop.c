// A thread's sockets: who knocks, who speaks, who has waited long enough for an answer. See sink.h.
#include "bench/sink.h"

#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, BACKLOG = 4096, NS_PER_MS = 1000000 };

struct listener {
    struct sink_host *host;
    int fd;
};

// All of one thread.
struct loop {
    struct sink *sink;
    int epoll;
    struct listener *listeners;
    struct list delayed; // sessions, by when their output leaves
    struct list gone;    // sessions to be freed after this turn
    struct sink_output output;
    char input[SINK_INPUT_MAX];
};

static int listen_at(const struct sockaddr_in *address)
{
    const int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0 ||
        bind(fd, (const struct sockaddr *)(const void *)address, sizeof(*address)) < 0 ||
        listen(fd, BACKLOG) < 0)
        sink_die("listen");
    return fd;
}

static void watch(struct loop *loop, int fd, void *data)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = data};
    if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        sink_die("epoll");
}

static void listen_everywhere(struct loop *loop)
{
    struct sink *sink = loop->sink;
    loop->listeners = calloc(sink->host_count, sizeof(*loop->listeners));
    if (loop->listeners == NULL)
        sink_die("memory");
    for (uint32_t index = 0; index < sink->host_count; index++) {
        loop->listeners[index].host = &sink->hosts[index];
        loop->listeners[index].fd = listen_at(&sink->hosts[index].address);
        watch(loop, loop->listeners[index].fd, &loop->listeners[index]);
    }
}

static bool is_listener(const struct loop *loop, const void *data)
{
    const struct listener *listener = data;
    return listener >= loop->listeners && listener < loop->listeners + loop->sink->host_count;
}

// --- One session ---

// Before the socket is closed: until then the group may look at it.
static void session_end(struct loop *loop, struct sink_session *session, bool abort)
{
    sink_group_leave(session);
    if (abort) {
        const struct linger reset = {.l_onoff = 1};
        (void)setsockopt(session->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    }
    close(session->fd);
    session->fd = -1;
    list_remove(&session->delay_link);
    list_push_back(&loop->gone, &session->delay_link);
}

static void free_gone(struct loop *loop)
{
    struct list *link;
    while ((link = list_pop_front(&loop->gone)) != NULL) {
        struct sink_session *session = list_entry(link, struct sink_session, delay_link);
        free(session->numbers);
        free(session->output);
        free(session);
    }
}

static void transmit(struct loop *loop, struct sink_session *session, const char *bytes, size_t size,
                     enum sink_verdict verdict)
{
    // Whoever does not read such short replies is not worth a buffer.
    if (size > 0 && send(session->fd, bytes, size, MSG_NOSIGNAL) != (ssize_t)size)
        verdict = SINK_ABORT;
    if (verdict != SINK_GO_ON)
        session_end(loop, session, verdict == SINK_ABORT);
}

// Holds the output back; nothing more is read until it has left.
static void hold_back(struct loop *loop, struct sink_session *session, enum sink_verdict verdict,
                      uint32_t delay_ms)
{
    struct sink_output *output = &loop->output;
    session->output = malloc(output->size);
    if (session->output == NULL)
        sink_die("memory");
    memcpy(session->output, output->bytes, output->size);
    session->output_size = output->size;
    session->due_ns = sink_now_ns() + (uint64_t)delay_ms * NS_PER_MS;
    session->is_closing = verdict != SINK_GO_ON;
    struct list *place = &loop->delayed;
    while (place->prev != &loop->delayed &&
           list_entry(place->prev, struct sink_session, delay_link)->due_ns > session->due_ns)
        place = place->prev;
    list_insert_before(place, &session->delay_link);
    if (epoll_ctl(loop->epoll, EPOLL_CTL_DEL, session->fd, NULL) < 0)
        sink_die("epoll");
}

static void answer(struct loop *loop, struct sink_session *session, enum sink_verdict verdict)
{
    uint32_t delay_ms = sink_group_limits(session->host->group).delay_ms;
    if (delay_ms > 0 && loop->output.size > 0 && verdict != SINK_ABORT)
        hold_back(loop, session, verdict, delay_ms);
    else
        transmit(loop, session, loop->output.bytes, loop->output.size, verdict);
}

static void release(struct loop *loop, struct sink_session *session)
{
    enum sink_verdict verdict = session->is_closing ? SINK_CLOSE : SINK_GO_ON;
    list_remove(&session->delay_link);
    transmit(loop, session, session->output, session->output_size, verdict);
    free(session->output);
    session->output = NULL;
    if (session->fd >= 0)
        watch(loop, session->fd, session);
}

static void session_read(struct loop *loop, struct sink_session *session)
{
    ssize_t got = recv(session->fd, loop->input, sizeof(loop->input), 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        session_end(loop, session, false);
        return;
    }
    enum sink_mode mode = sink_group_limits(session->host->group).mode;
    session->is_silent |= mode == SINK_DEAD;
    if (mode == SINK_RESET) {
        session_end(loop, session, true);
        return;
    }
    loop->output.size = 0;
    answer(loop, session, sink_session_input(session, loop->input, (size_t)got, &loop->output));
}

static void accept_all(struct loop *loop, const struct listener *listener)
{
    int fd;
    while ((fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct sink_session *session = calloc(1, sizeof(*session));
        if (session == NULL)
            sink_die("memory");
        session->sink = loop->sink;
        session->host = listener->host;
        session->fd = fd;
        list_init(&session->group_link);
        list_init(&session->delay_link);
        watch(loop, fd, session);
        loop->output.size = 0;
        answer(loop, session, sink_session_begin(session, &loop->output));
    }
    if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
        sink_die("accept");
}

// --- All of them ---

// Lets go what is due; returns how long to sleep, for epoll.
static int release_due(struct loop *loop)
{
    struct list *link;
    while ((link = list_first(&loop->delayed)) != NULL) {
        struct sink_session *session = list_entry(link, struct sink_session, delay_link);
        uint64_t now_ns = sink_now_ns();
        if (session->due_ns > now_ns)
            return (int)((session->due_ns - now_ns) / NS_PER_MS) + 1;
        release(loop, session);
    }
    return -1;
}

static void note_turn(struct loop *loop, uint64_t began_ns)
{
    uint64_t took_us = (sink_now_ns() - began_ns) / 1000;
    uint_fast64_t most = atomic_load(&loop->sink->turn_us_most);
    while (took_us > most && !atomic_compare_exchange_weak(&loop->sink->turn_us_most, &most, took_us))
        continue;
}

// It ended earlier in this turn, or waits to be answered.
static bool is_deaf(const struct sink_session *session)
{
    return session->fd < 0 || !list_is_empty(&session->delay_link);
}

void *sink_loop_run(void *sink)
{
    struct loop *loop = calloc(1, sizeof(*loop));
    struct epoll_event events[EVENTS];
    if (loop == NULL || (loop->epoll = epoll_create1(EPOLL_CLOEXEC)) < 0)
        sink_die("start");
    loop->sink = sink;
    list_init(&loop->delayed);
    list_init(&loop->gone);
    listen_everywhere(loop);
    for (;;) {
        int count = epoll_wait(loop->epoll, events, EVENTS, release_due(loop));
        uint64_t began_ns = sink_now_ns();
        for (int index = 0; index < count; index++) {
            if (is_listener(loop, events[index].data.ptr))
                accept_all(loop, events[index].data.ptr);
            else if (!is_deaf(events[index].data.ptr))
                session_read(loop, events[index].data.ptr);
        }
        free_gone(loop);
        if (count > 0)
            note_turn(loop, began_ns);
    }
}
