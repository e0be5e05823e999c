// The floor's sending side: a few kept connections. Content of one message and envelope of the next travel in
// one flight (RFC 2920 section 3.1); the sink's EHLO reply is not looked at, so it has to know PIPELINING.
//
// What a link awaits, in the order of the replies: the final word on `content`, then one reply for each
// command of `envelope`, the last of which, 354, makes the envelope's message the next content.
#include "bench/floor.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAIL      "MAIL FROM:<source@floor.example>\r\n"
#define RECIPIENT "RCPT TO:<sink@floor.example>\r\n"
#define DATA      "DATA\r\n"
#define HELLO     "EHLO floor.example\r\n"

enum link_state {
    LINK_DOWN,
    LINK_CONNECTING,
    LINK_GREETING,
    LINK_HELLO,
    LINK_READY,
};

enum {
    FLIGHT_PARTS = 4, // content, MAIL, the RCPTs, DATA
    RETRY_MS = 100,
};

struct link {
    int fd;
    enum link_state state;
    bool receiving, sending, failed;
    struct message *content;
    bool content_unsent;
    struct message *envelope;
    uint32_t envelope_replies; // that still miss, the 354 among them
    unsigned column;           // in the reply line that is being read
    char code, separator;      // its first digit; ' ' in a reply's last line
    struct iovec parts[FLIGHT_PARTS];
    struct msghdr flight;
    size_t flight_size;
} __attribute__((aligned(64)));

static char recipients[FLOOR_RECIPIENTS_MAX * (sizeof(RECIPIENT) - 1)];

static void connect_link(struct floor *floor, struct link *link)
{
    const int on = 1;
    assert(link->state == LINK_DOWN && link->content == NULL && link->envelope == NULL);
    link->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (link->fd < 0)
        floor_die("socket", errno);
    setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    link->state = LINK_CONNECTING;
    struct io_uring_sqe *sqe = floor_sqe(floor, FLOOR_LINK_CONNECT, link);
    io_uring_prep_connect(sqe, link->fd, (const struct sockaddr *)&floor->sink, sizeof(floor->sink));
}

void links_init(struct floor *floor, unsigned count)
{
    assert(count > 0 && count <= FLOOR_LINKS_MAX);
    for (size_t at = 0; at < sizeof(recipients); at += sizeof(RECIPIENT) - 1)
        memcpy(recipients + at, RECIPIENT, sizeof(RECIPIENT) - 1);
    floor->link_count = count;
    floor->links = floor_allocate(count * sizeof(struct link));
    for (unsigned index = 0; index < count; index++)
        connect_link(floor, &floor->links[index]);
}

// What was not answered goes back; a new connection is tried a little later.
static void lose(struct floor *floor, struct link *link)
{
    static struct __kernel_timespec pause = {.tv_nsec = RETRY_MS * 1000000L};
    if (link->receiving || link->sending) {
        link->failed = true;
        shutdown(link->fd, SHUT_RDWR);
        return;
    }
    close(link->fd);
    if (link->envelope != NULL)
        log_give_back(floor, link->envelope);
    if (link->content != NULL)
        log_give_back(floor, link->content);
    *link = (struct link){.state = LINK_DOWN};
    struct io_uring_sqe *sqe = floor_sqe(floor, FLOOR_LINK_RETRY, link);
    io_uring_prep_timeout(sqe, &pause, 0, 0);
}

void link_on_retry(struct floor *floor, struct link *link)
{
    connect_link(floor, link);
}

void link_on_connect(struct floor *floor, struct link *link, const struct io_uring_cqe *cqe)
{
    assert(link->state == LINK_CONNECTING);
    if (cqe->res < 0) {
        lose(floor, link);
        return;
    }
    link->state = LINK_GREETING;
    link->receiving = true;
    floor_receive(floor, FLOOR_LINK_RECV, link, link->fd);
}

static void add_part(struct link *link, const void *bytes, size_t size)
{
    assert(link->flight.msg_iovlen < FLIGHT_PARTS && size > 0);
    // sendmsg() reads only; its iovec serves readers and writers and so cannot say const.
    link->parts[link->flight.msg_iovlen++] =
        (struct iovec){.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
    link->flight_size += size;
}

static void send_flight(struct floor *floor, struct link *link)
{
    assert(!link->sending && link->flight_size > 0);
    link->flight.msg_iov = link->parts;
    struct io_uring_sqe *sqe = floor_sqe(floor, FLOOR_LINK_SEND, link);
    io_uring_prep_sendmsg(sqe, link->fd, &link->flight, MSG_NOSIGNAL | MSG_WAITALL);
    link->sending = true;
}

static void new_flight(struct link *link)
{
    link->flight = (struct msghdr){0};
    link->flight_size = 0;
}

static void push(struct floor *floor, struct link *link)
{
    if (link->state != LINK_READY || link->sending || link->failed)
        return;
    new_flight(link);
    if (link->content_unsent) {
        add_part(link, log_content(floor, link->content), link->content->size);
        link->content_unsent = false;
    }
    if (link->envelope == NULL && (link->envelope = log_take(floor)) != NULL) {
        uint32_t count = link->envelope->recipients;
        assert(count > 0 && count <= FLOOR_RECIPIENTS_MAX);
        add_part(link, MAIL, sizeof(MAIL) - 1);
        add_part(link, recipients, count * (sizeof(RECIPIENT) - 1));
        add_part(link, DATA, sizeof(DATA) - 1);
        link->envelope_replies = count + 2;
    }
    if (link->flight_size > 0)
        send_flight(floor, link);
}

void links_push(struct floor *floor)
{
    for (unsigned index = 0; index < floor->link_count; index++)
        push(floor, &floor->links[index]);
}

static void refuse(struct floor *floor, struct message *message)
{
    floor->stats.refused++;
    log_settle(floor, message);
}

static void on_content_reply(struct floor *floor, struct link *link, char code)
{
    struct message *message = link->content;
    link->content = NULL;
    if (code != '2') {
        refuse(floor, message);
        return;
    }
    floor->stats.delivered++;
    log_settle(floor, message);
}

static void on_envelope_reply(struct floor *floor, struct link *link, char code)
{
    if (--link->envelope_replies > 0)
        return; // a refused MAIL or RCPT shows in what DATA gets
    struct message *message = link->envelope;
    link->envelope = NULL;
    if (code != '3') {
        refuse(floor, message);
        return;
    }
    link->content = message;
    link->content_unsent = true;
}

// False if the sink is not one to talk to.
static bool on_reply(struct floor *floor, struct link *link, char code)
{
    switch (link->state) {
    case LINK_GREETING:
        new_flight(link);
        add_part(link, HELLO, sizeof(HELLO) - 1);
        send_flight(floor, link);
        link->state = LINK_HELLO;
        return code == '2';
    case LINK_HELLO:
        link->state = LINK_READY;
        return code == '2';
    case LINK_READY:
        if (link->content != NULL && !link->content_unsent)
            on_content_reply(floor, link, code);
        else if (link->envelope != NULL)
            on_envelope_reply(floor, link, code);
        else
            return false;
        return true;
    case LINK_DOWN:
    case LINK_CONNECTING:
        break;
    }
    abort();
}

static bool read_replies(struct floor *floor, struct link *link, const unsigned char *data, size_t size)
{
    for (size_t at = 0; at < size; at++) {
        char c = (char)data[at];
        if (c == '\n') {
            bool last = link->separator != '-';
            link->column = 0;
            link->separator = ' ';
            if (last && !on_reply(floor, link, link->code))
                return false;
            continue;
        }
        if (link->column == 0)
            link->code = c;
        else if (link->column == 3)
            link->separator = c;
        link->column++;
    }
    return true;
}

void link_on_recv(struct floor *floor, struct link *link, const struct io_uring_cqe *cqe)
{
    bool ended = cqe->res <= 0 && cqe->res != -ENOBUFS;
    link->receiving = (cqe->flags & IORING_CQE_F_MORE) != 0;
    if (cqe->res > 0) {
        if (!link->failed && !read_replies(floor, link, floor_buffer(floor, cqe), (size_t)cqe->res))
            link->failed = true;
        floor_buffer_return(floor, cqe);
    }
    if (ended || link->failed) {
        lose(floor, link);
    } else if (!link->receiving) {
        floor_receive(floor, FLOOR_LINK_RECV, link, link->fd);
        link->receiving = true;
    }
}

void link_on_send(struct floor *floor, struct link *link, const struct io_uring_cqe *cqe)
{
    assert(link->sending);
    link->sending = false;
    if (cqe->res != (int)link->flight_size || link->failed)
        lose(floor, link);
}
