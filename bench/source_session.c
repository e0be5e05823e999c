// One SMTP conversation after the other, in lock-step. See source.h.
#include "bench/source.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sysexits.h>

//   GREETING ─▶ [OFFER ─▶ STARTTLS ─▶ SHAKE ─▶] EHLO ─▶ MAIL ─▶ RCPT ─▶ DATA ─▶ CONTENT
//                                                 │      ▲                         │
//   (SHAKE comes first with implicit TLS)         │      └──── while work is left ─┤
//                                                 └──────────▶ QUIT ◀──────────────┘
//                                                               └─▶ END, a new connection, or none
//   When the source holds, a session is PARKED behind EHLO and before QUIT.
enum step { GREETING, OFFER, STARTTLS, SHAKE, EHLO, MAIL, RCPT, DATA, CONTENT, QUIT, END, PARKED };

// What a step says, and how the reply to it has to begin.
static const struct {
    const char *words;
    char digit;
} script[] = {
    [GREETING] = {"", '2'},
    [OFFER] = {"EHLO source.bench.example\r\n", '2'},
    [STARTTLS] = {"STARTTLS\r\n", '2'},
    [SHAKE] = {"", 0},
    [EHLO] = {"EHLO source.bench.example\r\n", '2'},
    [MAIL] = {"MAIL FROM:<source@source.example>\r\n", '2'},
    [RCPT] = {"RCPT TO:<sink@sink.example>\r\n", '2'},
    [DATA] = {"DATA\r\n", '3'},
    [CONTENT] = {NULL, '2'},
    [QUIT] = {"QUIT\r\n", '2'},
    [END] = {"", 0},
    [PARKED] = {"", 0},
};

static bool source_take_work(struct source *source)
{
    // Relaxed: the number is all that threads share here.
    return atomic_fetch_sub_explicit(&source->work, 1, memory_order_relaxed) > 0;
}

static void session_enter(struct session *session, enum step step)
{
    assert(session->output_size == 0);
    session->step = step;
    session->channel.counting = step >= MAIL && step <= CONTENT;
    session->reply_size = 0;
    session->output = step == CONTENT ? session->source->content : script[step].words;
    session->output_size = step == CONTENT ? session->source->content_size : strlen(script[step].words);
}

static void session_shake(struct session *session)
{
    struct source *source = session->source;
    channel_start_tls(&session->channel, source->context, source->resume);
    session_enter(session, SHAKE);
}

static void session_open(struct session *session)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP, .data.ptr = session};
    channel_open(&session->channel, &session->source->address);
    session->totals->connections++;
    if (epoll_ctl(session->epoll, EPOLL_CTL_ADD, session->channel.fd, &event) < 0)
        source_die("epoll");
    if (session->source->tls == SOURCE_IMPLICIT)
        session_shake(session);
    else
        session_enter(session, GREETING);
}

bool session_start(struct session *session)
{
    // A message is taken when the server is ready for it.
    if (session->source->connects && !source_take_work(session->source))
        return false;
    session_open(session);
    return true;
}

static void session_secured(struct session *session)
{
    struct source_totals *totals = session->totals;
    SSL *tls = session->channel.tls;
    totals->handshakes++;
    totals->resumed += SSL_session_reused(tls) == 1;
    totals->cipher = SSL_CIPHER_standard_name(SSL_get_current_cipher(tls));
    session_enter(session, session->source->tls == SOURCE_IMPLICIT ? GREETING : EHLO);
}

static void session_park(struct session *session)
{
    session->totals->parked++;
    session_enter(session, PARKED);
}

static void session_next_work(struct session *session)
{
    if (!session->source->connects && source_take_work(session->source))
        session_enter(session, MAIL);
    else if (session->source->hold)
        session_park(session);
    else
        session_enter(session, QUIT);
}

void session_release(struct session *session)
{
    assert(session->step == PARKED && session->totals->parked > 0);
    session->totals->parked--;
    if (session->released)
        session_enter(session, QUIT);
    else
        session_next_work(session);
    session->released = true;
}

static void session_close(struct session *session)
{
    struct source_records *sum = &session->totals->records;
    const struct source_records *records = &session->channel.records;
    sum->sent += records->sent;
    sum->sent_bytes += records->sent_bytes;
    sum->received += records->received;
    sum->received_bytes += records->received_bytes;
    session->channel.records = (struct source_records){0};
    channel_close(&session->channel);
}

// The reply to the step is here, and good.
static void session_replied(struct session *session)
{
    switch ((enum step)session->step) {
    case GREETING:
        session_enter(session, session->source->tls == SOURCE_STARTTLS ? OFFER : EHLO);
        break;
    case STARTTLS:
        session_shake(session);
        break;
    case OFFER:
    case MAIL:
    case RCPT:
    case DATA:
    case QUIT:
        session_enter(session, session->step + 1);
        break;
    case EHLO:
        if (session->source->hold)
            session_park(session);
        else
            session_next_work(session);
        break;
    case CONTENT:
        session->totals->messages++;
        session_next_work(session);
        break;
    case SHAKE:
    case END:
    case PARKED:
        assert(!"no reply comes here");
    }
}

static bool reply_is_whole(const char *reply, size_t size)
{
    if (size < 5 || reply[size - 1] != '\n')
        return false;
    const char *before = memrchr(reply, '\n', size - 1);
    const char *last = before == NULL ? reply : before + 1;
    return reply + size - last > 4 && last[3] == ' ';
}

// False: nothing more can be written now.
static bool session_write(struct session *session)
{
    while (session->output_size > 0) {
        size_t size = session->output_size;
        if (size > session->source->write_size)
            size = session->source->write_size;
        ssize_t written = channel_write(&session->channel, session->output, size);
        if (written == CHANNEL_END)
            source_die("the server left");
        if (written == CHANNEL_AGAIN)
            return false;
        session->output += written;
        session->output_size -= (size_t)written;
    }
    return true;
}

// Bytes, or a channel_result; takes the step when its reply is whole.
static ssize_t session_read(struct session *session)
{
    size_t space = sizeof(session->reply) - session->reply_size;
    ssize_t got = channel_read(&session->channel, session->reply + session->reply_size, space);
    if (got <= 0)
        return got;
    session->reply_size += (size_t)got;
    if (!reply_is_whole(session->reply, session->reply_size)) {
        if (session->reply_size < sizeof(session->reply))
            return got;
        errno = EMSGSIZE;
        source_die("reply");
    }
    if (session->reply[0] != script[session->step].digit) {
        fprintf(stderr, "source: unexpected reply: %.*s", (int)session->reply_size, session->reply);
        exit(EX_PROTOCOL);
    }
    session_replied(session);
    return got;
}

bool session_go_on(struct session *session)
{
    for (;;) {
        if (session->step == SHAKE) {
            if (!channel_shake(&session->channel))
                return true;
            session_secured(session);
        }
        if (!session_write(session))
            return true;
        ssize_t got = session_read(session);
        if (got == CHANNEL_AGAIN)
            return true;
        if (got != CHANNEL_END)
            continue;
        if (session->step != END) {
            errno = ECONNRESET;
            source_die("the server left early");
        }
        session_close(session);
        if (!session->source->connects)
            return false;
        return session_start(session);
    }
}
