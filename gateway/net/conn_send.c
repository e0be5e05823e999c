/* The sending half of a connection: one send in flight, everything else queued behind it. See conn.h. */

#include <assert.h>
#include <errno.h>
#include <linux/tcp.h> /* the C library's own lacks tcpi_bytes_acked */

#include "gateway/net/conn_inner.h"
#include "gateway/net/conn_tls.h"

void conn_send_now(struct conn *conn)
{
    assert(conn->tx == CONN_TX_IDLE && conn->output.bytes > 0);
    assert(conn->state == CONN_OPEN || conn->state == CONN_FINISHING);
    struct io_uring_sqe *sqe = loop_sqe(conn->loop, &conn->send);
    tx_prepare(&conn->loop->tx_pool, &conn->output, sqe, conn->fd);
    conn->loop->stats.sends++;
    if (conn->state == CONN_OPEN && conn->output.bytes <= LOOP_SMALL_SEND)
        conn->loop->small_sends++;
    conn->tx = CONN_TX_SENDING;
}

/* Whether what is queued now has a chance to be sent. */
static bool conn_takes_output(const struct conn *conn)
{
    if (conn->state != CONN_OPEN && conn->state != CONN_CONNECTING)
        return false;
    return conn->tx != CONN_TX_BROKEN;
}

/* Where output is queued: for its encryption, or as it goes to the kernel. */
static struct tx_queue *conn_queue(struct conn *conn)
{
    return conn->tls == NULL ? &conn->output : &conn->tls->plain;
}

void conn_send_copy(struct conn *conn, const void *bytes, size_t size)
{
    assert(conn->state != CONN_IDLE);
    if (!conn_takes_output(conn) || size == 0)
        return;
    if (tx_copy(&conn->loop->tx_pool, conn_queue(conn), bytes, size) < 0)
        conn_fail(conn, -ENOMEM);
    else
        conn_flush_later(conn);
}

void conn_send_static(struct conn *conn, const void *bytes, size_t size)
{
    if (size <= TX_COPY_MAX)
        conn_send_copy(conn, bytes, size);
    else
        conn_send_ref(conn, bytes, size, NULL);
}

void conn_send_ref(struct conn *conn, const void *bytes, size_t size, struct conn_ref *ref)
{
    assert(conn->state != CONN_IDLE);
    assert(ref == NULL || ref->release != NULL);
    if (conn_takes_output(conn) && size > 0) {
        if (tx_refer(&conn->loop->tx_pool, conn_queue(conn), bytes, size, ref) == 0) {
            conn_flush_later(conn);
            return;
        }
        conn_fail(conn, -ENOMEM);
    }
    if (ref != NULL)
        ref->release(ref);
}

size_t conn_pending_bytes(const struct conn *conn)
{
    return conn->output.bytes + (conn->tls != NULL ? conn->tls->plain.bytes : 0);
}

/* False where there is no such thing, as for a Unix socket. */
static bool conn_tcp_info(const struct conn *conn, struct tcp_info *info)
{
    socklen_t size = sizeof(*info);
    *info = (struct tcp_info){0};
    return conn->fd >= 0 && getsockopt(conn->fd, IPPROTO_TCP, TCP_INFO, info, &size) == 0 &&
           size >= offsetof(struct tcp_info, tcpi_notsent_bytes) + sizeof(info->tcpi_notsent_bytes);
}

uint64_t conn_acked_bytes(const struct conn *conn)
{
    struct tcp_info info;
    return conn_tcp_info(conn, &info) ? info.tcpi_bytes_acked : UINT64_MAX;
}

struct conn_taken conn_taken(const struct conn *conn)
{
    bool is_empty = conn_pending_bytes(conn) == 0;
    struct tcp_info info;
    if (!conn_tcp_info(conn, &info))
        return (struct conn_taken){.acked_bytes = UINT64_MAX, .is_all = is_empty};
    return (struct conn_taken){
        .acked_bytes = info.tcpi_bytes_acked,
        .since_sent_ms = info.tcpi_last_data_sent,
        .is_all = is_empty && info.tcpi_unacked == 0 && info.tcpi_notsent_bytes == 0,
    };
}

/*
 * The peer takes no more. What it sent before (a server's 421, say) may still lie in the socket: while we
 * receive, that is read first, and the end of the stream or its error ends the connection.
 */
static void conn_send_failed(struct conn *conn, int error)
{
    bool receives = conn->rx == CONN_RX_ARMED || conn->rx == CONN_RX_DIRECT;
    if (conn->state == CONN_OPEN && receives && !conn->paused) {
        conn->tx = CONN_TX_BROKEN;
        conn->error = error;
        tx_drop(&conn->loop->tx_pool, &conn->output);
        if (conn->tls != NULL)
            conn_tls_drop_output(conn);
        /* The send took the socket's error with it, and the receive that waits would hear of nothing: begin
         * it anew. */
        conn_receive_stop(conn);
        return;
    }
    conn_fail(conn, error);
}

static void conn_output_gone(struct conn *conn)
{
    if (conn->state == CONN_FINISHING)
        conn_flush_later(conn);
    else if (conn->state == CONN_OPEN && conn->handler->on_drained != NULL)
        conn->handler->on_drained(conn);
}

void conn_sent(struct completion *completion, int32_t result, uint32_t flags)
{
    struct conn *conn = list_entry(completion, struct conn, send);
    assert(conn->tx == CONN_TX_SENDING);
    assert(conn->output.bytes > 0);
    conn->tx = CONN_TX_IDLE;
    if (conn->state == CONN_CLOSING) {
        conn_flush_later(conn);
        return;
    }
    if (result == -EAGAIN || result == -EINTR)
        tx_consume(&conn->loop->tx_pool, &conn->output, 0);
    else if (result <= 0)
        conn_send_failed(conn, result < 0 ? result : -EPIPE);
    else
        tx_consume(&conn->loop->tx_pool, &conn->output, (size_t)result);
    if (conn->tx != CONN_TX_IDLE || conn->state == CONN_CLOSING)
        return; /* a release may have closed it */
    if (conn_pending_bytes(conn) > 0)
        conn_flush_later(conn);
    else
        conn_output_gone(conn);
}
