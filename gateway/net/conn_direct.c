/* Receiving into memory of the owner: conn_receive_direct. See conn.h. */

#include <assert.h>

#include "gateway/net/conn_inner.h"
#include "gateway/net/conn_tls.h"

/*
 * In the clear the kernel writes to the owner's memory:
 *
 *          on_space gave memory           close, finish, a failed send
 *   OFF ───────────────────────▶ DIRECT ──────────────────────────────▶ CANCELLING
 *    ▲                             │  on_filled                            │
 *    └─────────────────────────────┴───────────────────────────────────────┘
 *
 * Only its completion gives the memory back, so nothing can write to it after on_filled. With TLS the library
 * writes to it, between on_space and on_filled of one call.
 */

bool conn_direct_is_due(const struct conn *conn)
{
    return conn->direct && conn->tls == NULL && conn->state == CONN_OPEN;
}

/* on_space must not come from inside the owner's call. */
void conn_direct_later(struct conn *conn)
{
    assert(conn_direct_is_due(conn) && !conn->paused);
    if (list_is_empty(&conn->ready_link))
        list_push_back(&conn->loop->ready, &conn->ready_link);
}

void conn_receive_direct(struct conn *conn)
{
    assert(conn->handler->on_space != NULL && conn->handler->on_filled != NULL);
    assert(conn->reading || conn->state != CONN_OPEN);
    if (conn->state != CONN_OPEN)
        return;
    conn->direct = true;
    if (conn->tls != NULL)
        return;
    conn->was_direct = true;
    if (conn->rx != CONN_RX_DIRECT)
        conn_receive_stop(conn);
    conn_receive_continue(conn);
}

void *conn_direct_space(struct conn *conn, size_t *size)
{
    assert(conn->direct && !conn->delivering && !conn->paused);
    conn->delivering = true;
    void *memory = conn->handler->on_space(conn, size);
    conn->delivering = false;
    if (memory == NULL) {
        conn->direct = false;
        return NULL;
    }
    assert(*size > 0);
    conn->space = *size;
    if (conn->state == CONN_OPEN && !conn->paused)
        return memory;
    conn_direct_fill(conn, 0);
    return NULL;
}

void conn_direct_fill(struct conn *conn, size_t size)
{
    assert(!conn->delivering && size <= conn->space);
    conn->space = 0;
    conn->delivering = true;
    conn->filling = true;
    conn->handler->on_filled(conn, size);
    conn->filling = false;
    conn->delivering = false;
    if (conn->state == CONN_OPEN)
        return;
    /* What was put back before the owner had enough of it all. */
    if (conn->tls != NULL)
        conn_tls_drop_rest(conn);
    else
        conn_drop_held(conn);
}

void conn_put_back(struct conn *conn, const void *bytes, size_t size)
{
    assert(conn->filling && size > 0);
    if (conn->state != CONN_OPEN)
        return;
    if (conn->tls != NULL)
        conn_tls_keep_rest(conn, bytes, size);
    else
        conn_hold_first(conn, bytes, size);
    if (conn->state == CONN_OPEN && !conn->paused && list_is_empty(&conn->ready_link))
        list_push_back(&conn->loop->ready, &conn->ready_link);
}

void conn_direct_receive(struct conn *conn)
{
    size_t size = 0;
    assert(conn->rx == CONN_RX_OFF && conn_direct_is_due(conn));
    void *memory = conn_direct_space(conn, &size);
    if (memory == NULL) {
        conn_receive_continue(conn);
        return;
    }
    struct io_uring_sqe *sqe = loop_sqe(conn->loop, &conn->receive);
    io_uring_prep_recv(sqe, conn->fd, memory, size, 0);
    conn->receive.fn = conn_direct_received;
    conn->rx = CONN_RX_DIRECT;
}

void conn_direct_received(struct completion *completion, int32_t result, uint32_t flags)
{
    struct conn *conn = list_entry(completion, struct conn, receive);
    assert(conn->rx == CONN_RX_DIRECT || conn->rx == CONN_RX_CANCELLING);
    assert(conn->tls == NULL);
    /* Nothing may begin to receive, or to cancel, while the owner is told. */
    conn->rx = CONN_RX_CANCELLING;
    conn_direct_fill(conn, result > 0 && conn->state == CONN_OPEN ? (size_t)result : 0);
    conn->rx = CONN_RX_OFF;
    conn->receive.fn = conn_received;
    if (result <= 0)
        conn_receive_ended(conn, result);
    conn_receive_settle(conn);
}
