// The floor's receiving side. It looks at a command's first letters and for the end of data, and answers from
// a table; the 250 of a message alone waits, for the log.
#include "bench/floor.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    REPLY_CAPACITY = 16384, // a pipelined envelope of FLOOR_RECIPIENTS_MAX recipients
    HELD_MAX = FLOOR_MESSAGE_SIZE_MAX + FLOOR_BUFFER_SIZE,
    COMMAND_MAX = 2048,
};

enum session_state {
    SESSION_COMMAND,
    SESSION_DATA,    // between 354 and the end of data
    SESSION_BLOCKED, // the end of data is here, room in the log is not
    SESSION_COMMIT,  // the message is in the log, not yet durable
    SESSION_QUIT,    // nothing more is read; closes when the last reply is out
};

struct replies {
    size_t size;
    char bytes[REPLY_CAPACITY];
};

struct session {
    int fd;
    enum session_state state;
    bool receiving;   // a multishot receive is armed
    bool sending;     // `out[!filling]` is under way
    unsigned filling; // the half of `out` that takes new replies
    uint32_t recipients;
    struct message *message; // in the log, its 250 not yet earned
    unsigned char *held; // bytes that wait: an unfinished command or message, or what came behind a message
    size_t held_size, held_capacity;
    size_t scanned;       // of the unfinished message, known to hold no end of data
    struct session *next; // in the free or the blocked list
    struct replies out[2];
};

static void flush(struct floor *floor, struct session *session)
{
    struct replies *replies = &session->out[session->filling];
    if (session->sending || replies->size == 0)
        return;
    struct io_uring_sqe *sqe = floor_sqe(floor, FLOOR_SESSION_SEND, session);
    io_uring_prep_send(sqe, session->fd, replies->bytes, replies->size, MSG_NOSIGNAL | MSG_WAITALL);
    session->sending = true;
    session->filling = !session->filling;
}

static void reply(struct session *session, const char *text, size_t size)
{
    struct replies *replies = &session->out[session->filling];
    if (size > REPLY_CAPACITY - replies->size) { // sends on and on and reads nothing
        session->state = SESSION_QUIT;
        return;
    }
    memcpy(replies->bytes + replies->size, text, size);
    replies->size += size;
}

#define REPLY(session, text) reply(session, text, sizeof(text) - 1)

static void session_free_if_done(struct floor *floor, struct session *session)
{
    if (session->receiving || session->sending || session->state == SESSION_BLOCKED)
        return;
    if (session->message != NULL)
        session->message->session = NULL;
    session->message = NULL;
    close(session->fd);
    session->next = floor->free_sessions;
    floor->free_sessions = session;
}

static void command(struct session *session, const char *line, size_t size)
{
    if (size < 6) {
        REPLY(session, "500 5.5.2 what?\r\n");
    } else if (strncasecmp(line, "MAIL", 4) == 0) {
        session->recipients = 0;
        REPLY(session, "250 2.1.0 ok\r\n");
    } else if (strncasecmp(line, "RCPT", 4) == 0 && session->recipients < FLOOR_RECIPIENTS_MAX) {
        session->recipients++;
        REPLY(session, "250 2.1.5 ok\r\n");
    } else if (strncasecmp(line, "RCPT", 4) == 0) {
        REPLY(session, "452 4.5.3 too many recipients\r\n");
    } else if (strncasecmp(line, "DATA", 4) == 0 && session->recipients > 0) {
        session->state = SESSION_DATA;
        session->scanned = 0;
        REPLY(session, "354 go on\r\n");
    } else if (strncasecmp(line, "DATA", 4) == 0) {
        REPLY(session, "503 5.5.1 RCPT first\r\n");
    } else if (strncasecmp(line, "EHLO", 4) == 0) {
        REPLY(session, "250-floor\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 4194304\r\n");
    } else if (strncasecmp(line, "HELO", 4) == 0) {
        REPLY(session, "250 floor\r\n");
    } else if (strncasecmp(line, "QUIT", 4) == 0) {
        session->state = SESSION_QUIT;
        REPLY(session, "221 2.0.0 bye\r\n");
    } else if (strncasecmp(line, "RSET", 4) == 0 || strncasecmp(line, "NOOP", 4) == 0) {
        session->recipients = 0;
        REPLY(session, "250 2.0.0 ok\r\n");
    } else {
        REPLY(session, "500 5.5.2 what?\r\n");
    }
}

// The bytes up to and with the final dot's line end, or 0. Nothing before `from` ends the data.
static size_t find_end_of_data(const unsigned char *data, size_t size, size_t from)
{
    if (from < 3 && size >= 3 && memcmp(data, ".\r\n", 3) == 0)
        return 3;
    const unsigned char *end = data + size;
    const unsigned char *at = data + (from > 4 ? from - 4 : 0);
    while ((at = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        if (end - at < 4)
            return 0;
        if (at[1] == '.' && at[2] == '\r' && at[3] == '\n' && at > data && at[-1] == '\r')
            return (size_t)(at + 4 - data);
        at++;
    }
    return 0;
}

static size_t take_message(struct floor *floor, struct session *session, const unsigned char *data,
                           size_t size)
{
    size_t length = find_end_of_data(data, size, session->scanned);
    if (length == 0) {
        session->scanned = size;
        if (size > FLOOR_MESSAGE_SIZE_MAX)
            session->state = SESSION_QUIT;
        return 0;
    }
    session->message = log_append(floor, session, data, length, session->recipients);
    if (session->message == NULL) {
        session->state = SESSION_BLOCKED;
        session->next = floor->blocked;
        floor->blocked = session;
        return 0;
    }
    session->state = SESSION_COMMIT;
    return length;
}

static size_t take_command(struct session *session, const unsigned char *data, size_t size)
{
    const unsigned char *end = memchr(data, '\n', size);
    if (end == NULL) {
        if (size > COMMAND_MAX)
            session->state = SESSION_QUIT;
        return 0;
    }
    size_t length = (size_t)(end + 1 - data);
    command(session, (const char *)data, length);
    return length;
}

// Acts on what is whole; returns how much that was.
static size_t consume(struct floor *floor, struct session *session, const unsigned char *data, size_t size)
{
    size_t done = 0;
    while (done < size) {
        size_t step = 0;
        if (session->state == SESSION_COMMAND)
            step = take_command(session, data + done, size - done);
        else if (session->state == SESSION_DATA)
            step = take_message(floor, session, data + done, size - done);
        if (step == 0)
            break;
        done += step;
    }
    assert(done <= size);
    return done;
}

static void hold(struct session *session, const unsigned char *data, size_t size)
{
    size_t need = session->held_size + size;
    if (need > HELD_MAX) {
        session->state = SESSION_QUIT;
        return;
    }
    if (need > session->held_capacity) {
        size_t capacity = 2 * need;
        unsigned char *grown = realloc(session->held, capacity);
        if (grown == NULL)
            floor_die("memory", ENOMEM);
        session->held = grown;
        session->held_capacity = capacity;
    }
    memcpy(session->held + session->held_size, data, size);
    session->held_size = need;
}

static void consume_held(struct floor *floor, struct session *session)
{
    size_t done = consume(floor, session, session->held, session->held_size);
    session->held_size -= done;
    if (done > 0 && session->held_size > 0)
        memmove(session->held, session->held + done, session->held_size);
}

static void input(struct floor *floor, struct session *session, const unsigned char *data, size_t size)
{
    if (session->held_size > 0) {
        hold(session, data, size);
        consume_held(floor, session);
        return;
    }
    size_t done = consume(floor, session, data, size);
    if (done < size && session->state != SESSION_QUIT)
        hold(session, data + done, size - done);
}

// Ends the receive, whose completion then frees the session.
static void hang_up_if_told(struct session *session)
{
    bool unsent = session->sending || session->out[session->filling].size > 0;
    if (session->state == SESSION_QUIT && !unsent && session->receiving)
        shutdown(session->fd, SHUT_RDWR);
}

void session_on_recv(struct floor *floor, struct session *session, const struct io_uring_cqe *cqe)
{
    if (!(cqe->flags & IORING_CQE_F_MORE))
        session->receiving = false;
    if (cqe->res > 0) {
        input(floor, session, floor_buffer(floor, cqe), (size_t)cqe->res);
        floor_buffer_return(floor, cqe);
        flush(floor, session);
        hang_up_if_told(session);
    }
    if (session->receiving)
        return;
    // Ended though the peer is still there: for want of buffers, which are back by the next turn.
    if (cqe->res > 0 || cqe->res == -ENOBUFS) {
        floor_receive(floor, FLOOR_SESSION_RECV, session, session->fd);
        session->receiving = true;
        return;
    }
    session_free_if_done(floor, session);
}

void session_on_send(struct floor *floor, struct session *session, const struct io_uring_cqe *cqe)
{
    struct replies *sent = &session->out[!session->filling];
    assert(session->sending && sent->size > 0);
    session->sending = false;
    if (cqe->res != (int)sent->size)
        session->state = session->state == SESSION_BLOCKED ? SESSION_BLOCKED : SESSION_QUIT;
    sent->size = 0;
    if (!session->receiving) {
        session_free_if_done(floor, session);
        return;
    }
    flush(floor, session);
    hang_up_if_told(session);
}

void session_committed(struct floor *floor, struct session *session)
{
    assert(session->message != NULL);
    session->message = NULL;
    if (session->state != SESSION_COMMIT)
        return;
    session->state = SESSION_COMMAND;
    session->recipients = 0;
    REPLY(session, "250 2.0.0 ok\r\n");
    if (session->held_size > 0)
        consume_held(floor, session);
    flush(floor, session);
    hang_up_if_told(session);
}

void sessions_resume(struct floor *floor)
{
    struct session *session = floor->blocked;
    floor->blocked = NULL;
    while (session != NULL) {
        struct session *next = session->next;
        assert(session->state == SESSION_BLOCKED);
        session->state = SESSION_DATA;
        if (session->receiving)
            consume_held(floor, session);
        else
            session_free_if_done(floor, session);
        session = next;
    }
}

static struct session *session_new(struct floor *floor, int fd)
{
    struct session *session = floor->free_sessions;
    if (session != NULL)
        floor->free_sessions = session->next;
    else
        session = floor_allocate(sizeof(*session));
    assert(session->message == NULL && !session->sending);
    session->fd = fd;
    session->state = SESSION_COMMAND;
    session->recipients = 0;
    session->held_size = 0;
    session->scanned = 0;
    session->out[0].size = 0;
    session->out[1].size = 0;
    session->receiving = true;
    return session;
}

static void accept_next(struct floor *floor)
{
    struct io_uring_sqe *sqe = floor_sqe(floor, FLOOR_ACCEPT, NULL);
    io_uring_prep_multishot_accept(sqe, floor->listener, NULL, NULL, SOCK_CLOEXEC);
}

void session_on_accept(struct floor *floor, const struct io_uring_cqe *cqe)
{
    if (!(cqe->flags & IORING_CQE_F_MORE))
        accept_next(floor);
    if (cqe->res < 0)
        return;
    struct session *session = session_new(floor, cqe->res);
    floor_receive(floor, FLOOR_SESSION_RECV, session, session->fd);
    REPLY(session, "220 floor ESMTP\r\n");
    flush(floor, session);
}

void sessions_listen(struct floor *floor, uint16_t port)
{
    const int on = 1;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    floor->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (floor->listener < 0)
        floor_die("socket", errno);
    // Accepted sockets inherit both.
    setsockopt(floor->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    setsockopt(floor->listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (bind(floor->listener, (const struct sockaddr *)&address, sizeof(address)) < 0)
        floor_die("bind", errno);
    if (listen(floor->listener, SOMAXCONN) < 0)
        floor_die("listen", errno);
    accept_next(floor);
}
