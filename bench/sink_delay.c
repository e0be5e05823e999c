// A long way between two hosts: a proxy that passes on what it hears after a given time, each way. The
// kernels of our machines have no netem.
//
// A connection counts as open after three ways, as its SYN, SYN-ACK and ACK would take; at most a window's
// worth is on the way in each direction. One thread, one timer.
#include "bench/tool.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "gateway/base/list.h"

enum {
    EVENTS = 256,
    BACKLOG = 4096,
    PIECE_MAX = 1 << 16, // octets
    NS_PER_MS = 1000000,
    HANDSHAKE_WAYS = 3,
};

// Octets on their way; none: the end.
struct piece {
    struct list link; // in lane.pieces
    uint64_t due_ns;
    size_t size;
    size_t sent;
    char bytes[];
};

// One direction.
struct lane {
    struct list wait_link; // in delay.waiting while its first piece is not due, or its opening
    struct pair *pair;
    struct end *to;
    struct list pieces;
    size_t on_the_way; // octets
    bool has_ended;    // nothing more will be heard
};

struct end {
    struct pair *pair;
    int fd;
    struct lane *out;  // what it says
    struct lane *in;   // what it is told
    uint32_t watching; // epoll events
};

struct pair {
    struct list gone_link;
    struct list open_link; // in delay.opening until its time
    uint64_t open_ns;
    struct end near, far;
    struct lane there, back;
    bool is_open;
    bool is_over;
};

struct delay {
    int epoll;
    int listener;
    uint64_t way_ns;
    size_t window; // octets
    struct sockaddr_storage target;
    struct list opening; // pairs, by their time
    struct list waiting; // lanes that hold something, in no order
    struct list gone;
};

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "delay: %s: %s\n", what, strerror(errno));
    exit(EX_OSERR);
}

static _Noreturn void usage(void)
{
    fputs("usage: delay --listen HOST:PORT --to HOST:PORT --ms N [--window OCTETS]\n", stderr);
    exit(EX_USAGE);
}

// --- A pair's life ---

static void watch(struct delay *delay, struct end *end)
{
    uint32_t events = 0;
    if (!end->out->has_ended && end->out->on_the_way < delay->window)
        events |= EPOLLIN;
    struct list *first = list_first(&end->in->pieces);
    if (first != NULL && list_entry(first, struct piece, link)->sent > 0)
        events |= EPOLLOUT; // it did not take all of it
    if (events == end->watching || end->fd < 0)
        return;
    struct epoll_event event = {.events = events, .data.ptr = end};
    if (epoll_ctl(delay->epoll, EPOLL_CTL_MOD, end->fd, &event) < 0)
        die("epoll");
    end->watching = events;
}

static void drop_pieces(struct lane *lane)
{
    struct list *link;
    while ((link = list_pop_front(&lane->pieces)) != NULL)
        free(list_entry(link, struct piece, link));
    list_remove(&lane->wait_link);
}

static void end_close(struct end *end)
{
    if (end->fd >= 0)
        close(end->fd);
    end->fd = -1;
}

static void pair_over(struct delay *delay, struct pair *pair)
{
    if (pair->is_over)
        return;
    pair->is_over = true;
    end_close(&pair->near);
    end_close(&pair->far);
    drop_pieces(&pair->there);
    drop_pieces(&pair->back);
    list_remove(&pair->open_link);
    list_push_back(&delay->gone, &pair->gone_link);
}

static void lane_init(struct lane *lane, struct pair *pair, struct end *to)
{
    lane->pair = pair;
    lane->to = to;
    list_init(&lane->wait_link);
    list_init(&lane->pieces);
}

static void end_init(struct delay *delay, struct end *end, struct pair *pair, int fd, struct lane *out,
                     struct lane *in)
{
    const int on = 1;
    struct epoll_event event = {.data.ptr = end};
    *end = (struct end){.pair = pair, .fd = fd, .out = out, .in = in};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (epoll_ctl(delay->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        die("epoll");
}

static void pair_accept(struct delay *delay)
{
    int fd = accept4(delay->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct pair *pair = calloc(1, sizeof(*pair));
    if (pair == NULL)
        die("memory");
    list_init(&pair->gone_link);
    list_init(&pair->open_link);
    lane_init(&pair->there, pair, &pair->far);
    lane_init(&pair->back, pair, &pair->near);
    pair->far.fd = -1;
    end_init(delay, &pair->near, pair, fd, &pair->there, &pair->back);
    pair->open_ns = tool_now_ns() + HANDSHAKE_WAYS * delay->way_ns;
    list_push_back(&delay->opening, &pair->open_link);
}

static void pair_open(struct delay *delay, struct pair *pair)
{
    int fd = socket(delay->target.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    list_remove(&pair->open_link);
    // Next door: waiting for it costs nothing.
    if (fd < 0 || connect(fd, (const struct sockaddr *)&delay->target, sizeof(struct sockaddr_in)) < 0) {
        if (fd >= 0)
            close(fd);
        pair_over(delay, pair);
        return;
    }
    end_init(delay, &pair->far, pair, fd, &pair->back, &pair->there);
    pair->is_open = true;
    watch(delay, &pair->near);
    watch(delay, &pair->far);
}

// --- What is on the way ---

static void hear(struct delay *delay, struct end *end)
{
    struct lane *lane = end->out;
    struct piece *piece = malloc(sizeof(*piece) + PIECE_MAX);
    if (piece == NULL)
        die("memory");
    ssize_t got = recv(end->fd, piece->bytes, PIECE_MAX, MSG_DONTWAIT);
    if (got < 0) {
        free(piece);
        if (errno != EAGAIN && errno != EINTR)
            pair_over(delay, end->pair);
        return;
    }
    struct piece *fitting = realloc(piece, sizeof(*piece) + (size_t)got);
    piece = fitting != NULL ? fitting : piece;
    list_init(&piece->link);
    piece->due_ns = tool_now_ns() + delay->way_ns;
    piece->size = (size_t)got;
    piece->sent = 0;
    lane->has_ended = got == 0;
    lane->on_the_way += (size_t)got;
    list_push_back(&lane->pieces, &piece->link);
    if (list_is_empty(&lane->wait_link))
        list_push_back(&delay->waiting, &lane->wait_link);
    watch(delay, end);
}

// Says the first piece. False: not all of it for now, or the pair is over.
static bool tell(struct delay *delay, struct lane *lane, struct piece *piece)
{
    if (piece->size == 0) {
        shutdown(lane->to->fd, SHUT_WR);
        if (lane->pair->there.has_ended && lane->pair->back.has_ended) {
            pair_over(delay, lane->pair);
            return false;
        }
    } else {
        ssize_t sent = send(lane->to->fd, piece->bytes + piece->sent, piece->size - piece->sent,
                            MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) {
            pair_over(delay, lane->pair);
            return false;
        }
        piece->sent += sent > 0 ? (size_t)sent : 0;
        if (piece->sent < piece->size)
            return false;
    }
    assert(lane->on_the_way >= piece->size);
    lane->on_the_way -= piece->size;
    list_remove(&piece->link);
    free(piece);
    return true;
}

// Passes on what is due; returns when the next piece is, or UINT64_MAX.
static uint64_t lane_advance(struct delay *delay, struct lane *lane, uint64_t at_ns)
{
    struct pair *pair = lane->pair;
    struct list *link;
    while ((link = list_first(&lane->pieces)) != NULL) {
        struct piece *piece = list_entry(link, struct piece, link);
        if (piece->due_ns > at_ns)
            return piece->due_ns;
        if (!tell(delay, lane, piece))
            break;
    }
    if (pair->is_over)
        return UINT64_MAX;
    if (list_is_empty(&lane->pieces))
        list_remove(&lane->wait_link);
    watch(delay, &pair->near);
    watch(delay, &pair->far);
    return UINT64_MAX;
}

// Does all that is due; returns how long to sleep, for epoll.
static int advance(struct delay *delay)
{
    uint64_t at_ns = tool_now_ns(), next_ns = UINT64_MAX;
    struct list due, *link;
    while ((link = list_first(&delay->opening)) != NULL) {
        struct pair *pair = list_entry(link, struct pair, open_link);
        if (pair->open_ns > at_ns) {
            next_ns = pair->open_ns;
            break;
        }
        pair_open(delay, pair);
    }
    list_init(&due);
    list_splice_back(&due, &delay->waiting);
    while ((link = list_pop_front(&due)) != NULL) {
        struct lane *lane = list_entry(link, struct lane, wait_link);
        list_push_back(&delay->waiting, link);
        uint64_t lane_ns = lane_advance(delay, lane, at_ns);
        next_ns = lane_ns < next_ns ? lane_ns : next_ns;
    }
    return next_ns == UINT64_MAX ? -1 : (int)((next_ns - at_ns) / NS_PER_MS) + 1;
}

static void free_gone(struct delay *delay)
{
    struct list *link;
    while ((link = list_pop_front(&delay->gone)) != NULL)
        free(list_entry(link, struct pair, gone_link));
}

static void heed(struct delay *delay, struct end *end, uint32_t events)
{
    if (end->pair->is_over)
        return;
    if ((events & (EPOLLERR | EPOLLHUP)) != 0 && (events & EPOLLIN) == 0) {
        pair_over(delay, end->pair);
        return;
    }
    if ((events & EPOLLIN) != 0)
        hear(delay, end);
    if (!end->pair->is_over && (events & EPOLLOUT) != 0)
        lane_advance(delay, end->in, tool_now_ns());
}

static _Noreturn void run(struct delay *delay)
{
    struct epoll_event events[EVENTS];
    for (;;) {
        int count = epoll_wait(delay->epoll, events, EVENTS, advance(delay));
        for (int index = 0; index < count; index++) {
            if (events[index].data.ptr == delay)
                pair_accept(delay);
            else
                heed(delay, events[index].data.ptr, events[index].events);
        }
        free_gone(delay);
    }
}

// --- The command line ---

static struct sockaddr_storage parse_address(const char *text)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_INET};
    struct addrinfo *found;
    struct sockaddr_storage address = {0};
    char host[256];
    const char *colon = strrchr(text, ':');
    if (colon == NULL || (size_t)(colon - text) >= sizeof(host))
        usage();
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = '\0';
    if (getaddrinfo(host, colon + 1, &hints, &found) != 0)
        usage();
    memcpy(&address, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return address;
}

static int listen_at(const struct sockaddr_storage *address)
{
    const int on = 1;
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        bind(fd, (const struct sockaddr *)address, sizeof(struct sockaddr_in)) < 0 || listen(fd, BACKLOG) < 0)
        die("listen");
    return fd;
}

int main(int argc, char **argv)
{
    struct delay delay = {0};
    struct sockaddr_storage own;
    const char *listener = NULL, *target = NULL;
    uint32_t ms = 0, window = 4 << 20;
    const struct tool_option options[] = {{"listen", .text = &listener},
                                          {"to", .text = &target},
                                          {"ms", .number = &ms},
                                          {"window", .number = &window},
                                          {0}};
    if (!tool_options(argc, argv, options) || listener == NULL || target == NULL || ms == 0 || window == 0 ||
        optind < argc)
        usage();
    own = parse_address(listener);
    delay.target = parse_address(target);
    delay.way_ns = (uint64_t)ms * NS_PER_MS;
    delay.window = window;
    list_init(&delay.opening);
    list_init(&delay.waiting);
    list_init(&delay.gone);
    delay.listener = listen_at(&own);
    if ((delay.epoll = epoll_create1(EPOLL_CLOEXEC)) < 0)
        die("epoll");
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &delay};
    if (epoll_ctl(delay.epoll, EPOLL_CTL_ADD, delay.listener, &event) < 0)
        die("epoll");
    run(&delay);
}
