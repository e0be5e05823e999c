#include "gateway/net/conn.h"

#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "gateway/net/conn_inner.h"
#include "gateway/net/conn_tls.h"

/*
 *            connect              connected
 *   IDLE ─────────────▶ CONNECTING ────────▶ OPEN ◀───────── attach ── IDLE
 *                           │                 │ │
 *                           │          finish │ │ close, failure
 *                           │                 ▼ │
 *                           │          FINISHING│      output is going out
 *                           │            │    │ │
 *                           │   FIN sent ▼    │ │
 *                           │        LINGERING│ │      waiting for the peer's FIN
 *                           │ close,     │    │ │
 *                           │ failure    ▼    ▼ ▼
 *                           └─────────▶  CLOSING       waiting for completions to come home
 *                                           │
 *                                           ▼
 *                                        CLOSED        on_closed; the memory is the owner's again
 */
static const uint8_t conn_next_states[] = {
    [CONN_IDLE] = 1 << CONN_CONNECTING | 1 << CONN_OPEN,
    [CONN_CONNECTING] = 1 << CONN_OPEN | 1 << CONN_CLOSING,
    [CONN_OPEN] = 1 << CONN_FINISHING | 1 << CONN_CLOSING,
    [CONN_FINISHING] = 1 << CONN_LINGERING | 1 << CONN_CLOSING,
    [CONN_LINGERING] = 1 << CONN_CLOSING,
    [CONN_CLOSING] = 1 << CONN_CLOSED,
    [CONN_CLOSED] = 0,
};

void conn_enter(struct conn *conn, enum conn_state next)
{
    assert(conn->state <= CONN_CLOSED && next <= CONN_CLOSED);
    assert(conn_next_states[conn->state] & (1u << next));
    conn->state = next;
}

static void conn_timed_out(struct timer *timer)
{
    struct conn *conn = list_entry(timer, struct conn, timer);
    switch (conn->state) {
    case CONN_CONNECTING:
    case CONN_OPEN:
        if (conn->handler->on_timeout != NULL)
            conn->handler->on_timeout(conn);
        else
            conn_close(conn);
        break;
    case CONN_FINISHING:
        conn_fail(conn, -ETIMEDOUT);
        break;
    case CONN_LINGERING:
        conn_close(conn);
        break;
    default:
        assert(!"a connection that is not alive has no timeout");
    }
}

void conn_init(struct conn *conn, struct loop *loop, const struct conn_handler *handler, void *ctx)
{
    assert(handler->on_data != NULL);
    *conn = (struct conn){
        .receive.fn = conn_received,
        .send.fn = conn_sent,
        .loop = loop,
        .handler = handler,
        .ctx = ctx,
        .fd = -1,
        .state = CONN_IDLE,
    };
    list_init(&conn->ready_link);
    list_init(&conn->flush_link);
    list_init(&conn->starved_link);
    timer_init(&conn->timer, conn_timed_out);
}

void conn_attach(struct conn *conn, int fd)
{
    assert(fd >= 0 && conn->fd < 0);
    conn->fd = fd;
    conn_enter(conn, CONN_OPEN);
}

static void conn_connected(struct completion *completion, int32_t result, uint32_t flags)
{
    struct conn *conn = list_entry(completion, struct conn, send);
    assert(conn->tx == CONN_TX_SENDING);
    conn->tx = CONN_TX_IDLE;
    conn->send.fn = conn_sent;
    if (conn->state == CONN_CLOSING) {
        conn_flush_later(conn);
        return;
    }
    if (result < 0)
        conn_fail(conn, result);
    else
        conn_enter(conn, CONN_OPEN);
    if (conn->handler->on_connected != NULL)
        conn->handler->on_connected(conn, result);
    conn_flush_later(conn);
}

/* The socket of an outbound connection, bound when it has a source; or a negative errno. */
static int conn_open_socket(const struct sockaddr *peer, const struct sockaddr *source)
{
    int fd = socket(peer->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    const int on = 1;
    bool ip = peer->sa_family == AF_INET || peer->sa_family == AF_INET6;
    int result = ip ? setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) : 0;
    if (result == 0 && ip && source != NULL) {
        socklen_t size =
            source->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
        /* The port is chosen at connect, so that one address has ports for each pair of ends. */
        (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
        result = bind(fd, source, size);
    }
    if (result == 0)
        return fd;
    int error = errno;
    close(fd);
    return -error;
}

int conn_connect(struct conn *conn, const struct sockaddr *peer, socklen_t peer_size,
                 const struct sockaddr *source)
{
    assert(conn->state == CONN_IDLE && conn->fd < 0);
    bool is_ip = peer->sa_family != AF_UNIX;
    assert(!is_ip || peer_size <= sizeof(conn->peer));
    int fd = conn_open_socket(peer, source);
    if (fd < 0) {
        timer_cancel(&conn->loop->wheel, &conn->timer);
        return fd;
    }
    conn->fd = fd;
    if (is_ip)
        memcpy(&conn->peer, peer, peer_size);
    else
        conn->peer.any.sa_family = AF_UNIX;
    conn_enter(conn, CONN_CONNECTING);
    conn->tx = CONN_TX_SENDING;
    conn->send.fn = conn_connected;
    struct io_uring_sqe *sqe = loop_sqe(conn->loop, &conn->send);
    io_uring_prep_connect(sqe, fd, is_ip ? &conn->peer.any : peer, peer_size);
    return 0;
}

void conn_set_timeout(struct conn *conn, uint64_t ms)
{
    if (conn->state > CONN_OPEN)
        return; /* the timer serves the end of the connection now */
    timer_arm(&conn->loop->wheel, &conn->timer, conn->loop->now_us + ms * 1000);
}

void conn_clear_timeout(struct conn *conn)
{
    if (conn->state <= CONN_OPEN)
        timer_cancel(&conn->loop->wheel, &conn->timer);
}

void conn_flush_later(struct conn *conn)
{
    if (list_is_empty(&conn->flush_link))
        list_push_back(&conn->loop->flush, &conn->flush_link);
}

void conn_fail(struct conn *conn, int error)
{
    assert(error <= 0);
    if (conn->state >= CONN_CLOSING)
        return;
    conn_enter(conn, CONN_CLOSING);
    conn->error = error;
    timer_cancel(&conn->loop->wheel, &conn->timer);
    list_remove(&conn->ready_link);
    conn_receive_stop(conn);
    if (conn->tx == CONN_TX_SENDING)
        loop_cancel(conn->loop, &conn->send);
    /* Even when all is home already: on_closed must not come from inside the owner's call. */
    conn_flush_later(conn);
}

void conn_close(struct conn *conn)
{
    assert(conn->state != CONN_IDLE);
    conn_fail(conn, 0);
}

void conn_finish(struct conn *conn)
{
    assert(conn->state != CONN_IDLE);
    if (conn->state == CONN_CONNECTING) {
        conn_close(conn);
        return;
    }
    if (conn->state != CONN_OPEN)
        return;
    if (conn->tx == CONN_TX_BROKEN) {
        conn_fail(conn, conn->error);
        return;
    }
    conn_enter(conn, CONN_FINISHING);
    timer_arm(&conn->loop->wheel, &conn->timer, conn->loop->now_us + CONN_FINISH_MS * 1000);
    list_remove(&conn->ready_link);
    if (!conn->delivering)
        conn_drop_held(conn); /* else on_data may still look at them; conn_deliver_held drops them */
    if (conn->tls != NULL)
        conn_tls_finish(conn);
    conn->paused = false;
    conn->reading = true;
    if (conn->rx == CONN_RX_DIRECT)
        conn_receive_stop(conn); /* the owner wants its memory back */
    conn_receive_continue(conn);
    conn_flush_later(conn);
}

void conn_say_fin(struct conn *conn)
{
    assert(conn->state == CONN_FINISHING && conn->output.bytes == 0);
    if (conn->rx == CONN_RX_ENDED || shutdown(conn->fd, SHUT_WR) < 0) {
        conn_close(conn);
        return;
    }
    conn_enter(conn, CONN_LINGERING);
    timer_arm(&conn->loop->wheel, &conn->timer, conn->loop->now_us + CONN_LINGER_MS * 1000);
}

/* Whether the kernel has nothing of this connection any more. */
static bool conn_is_home(const struct conn *conn)
{
    bool receives = conn->rx == CONN_RX_ARMED || conn->rx == CONN_RX_DIRECT || conn->rx == CONN_RX_CANCELLING;
    return !receives && conn->tx != CONN_TX_SENDING;
}

/* When TLS failed, that is the reason, whatever became of the alert; but for a lack of memory. */
static int conn_end_error(const struct conn *conn)
{
    bool tls_failed = conn->tls != NULL && conn->tls->state == CONN_TLS_FAILED;
    return tls_failed && conn->error != -ENOMEM ? -EPROTO : conn->error;
}

static void conn_finalise(struct conn *conn)
{
    assert(conn_is_home(conn));
    assert(!timer_is_armed(&conn->timer));
    struct loop *loop = conn->loop;
    struct conn_tls *tls = conn->tls;
    conn_drop_held(conn);
    tx_drop(&loop->tx_pool, &conn->output);
    if (tls != NULL)
        conn_tls_end(conn);
    struct io_uring_sqe *sqe = loop_sqe_ignored(loop);
    io_uring_prep_close(sqe, conn->fd);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    conn->fd = -1;
    list_remove(&conn->flush_link); /* a release may have asked for something */
    assert(list_is_empty(&conn->ready_link) && list_is_empty(&conn->starved_link));
    conn_enter(conn, CONN_CLOSED);
    if (conn->handler->on_closed != NULL)
        conn->handler->on_closed(conn, conn_end_error(conn));
    conn_tls_free(tls, loop); /* last: on_closed may still ask about it, and gives up the connection */
}

static void conn_flush(struct conn *conn)
{
    if (conn->state == CONN_CLOSING) {
        if (conn_is_home(conn))
            conn_finalise(conn);
        return;
    }
    if (conn->tx != CONN_TX_IDLE)
        return; /* the end of the send that is in flight comes back to this */
    if (conn->tls != NULL) {
        conn_tls_flush(conn);
        if (conn->state == CONN_CLOSING)
            return; /* TLS failed, or a release closed it: it waits in the list again */
    }
    if (conn->output.bytes > 0)
        conn_send_now(conn);
    else if (conn->state == CONN_FINISHING)
        conn_say_fin(conn);
}

void conn_flush_all(struct loop *loop)
{
    for (struct list *link = list_pop_front(&loop->flush); link != NULL; link = list_pop_front(&loop->flush))
        conn_flush(list_entry(link, struct conn, flush_link));
}

const struct sockaddr *conn_peer(struct conn *conn)
{
    socklen_t size = sizeof(conn->peer);
    if (conn->peer.any.sa_family == AF_UNSPEC && conn->fd >= 0)
        (void)getpeername(conn->fd, &conn->peer.any, &size);
    return &conn->peer.any;
}

const struct sockaddr *conn_local(struct conn *conn)
{
    socklen_t size = sizeof(conn->local);
    if (conn->local.any.sa_family == AF_UNSPEC && conn->fd >= 0)
        (void)getsockname(conn->fd, &conn->local.any, &size);
    return &conn->local.any;
}
