/* The receiving half of a connection: multishot receive, held bytes, starvation. See conn.h. */

#include <assert.h>
#include <errno.h>

#include "gateway/net/conn_inner.h"
#include "gateway/net/conn_tls.h"

/*
 *          arm                  pause with two pieces held, close
 *   OFF ─────────▶ ARMED ───────────────────────────────▶ CANCELLING
 *    ▲ ▲            │ │ │                                   │  │  │
 *    │ └─ ended ────┘ │ └────── no buffers ──▶ STARVED ◀────┘  │  │
 *    │                └── end of stream ──▶ ENDED ◀────────────┘  │
 *    └───────────────────────── ended ────────────────────────────┘
 *
 *   STARVED goes to ARMED when buffers are back, or OFF when the connection pauses no reading any more.
 * DIRECT stands in the place of ARMED while bytes go into the owner's memory: conn_direct.c.
 */

static void conn_receive_arm(struct conn *conn, uint16_t flags)
{
    assert(conn->rx == CONN_RX_OFF || conn->rx == CONN_RX_STARVED);
    assert(conn->fd >= 0);
    struct io_uring_sqe *sqe = loop_sqe(conn->loop, &conn->receive);
    if (conn->receives_singly || conn->was_direct)
        io_uring_prep_recv(sqe, conn->fd, NULL, conn->loop->buffers.size, 0);
    else
        io_uring_prep_recv_multishot(sqe, conn->fd, NULL, 0, 0);
    sqe->ioprio |= flags;
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUFFERS_GROUP;
    conn->rx = CONN_RX_ARMED;
}

static bool conn_wants_bytes(const struct conn *conn)
{
    if (!conn->reading)
        return false;
    if (conn->state == CONN_OPEN)
        return !conn->paused;
    return conn->state == CONN_FINISHING || conn->state == CONN_LINGERING;
}

static bool conn_holds_bytes(const struct conn *conn)
{
    return conn->held_first != NULL || (conn->tls != NULL && conn->tls->rest != NULL);
}

/* While bytes are held the kernel keeps what follows, or a peer that never pauses would make us hold ever
 * more. */
void conn_receive_continue(struct conn *conn)
{
    if (conn->rx != CONN_RX_OFF || conn_holds_bytes(conn) || !conn_wants_bytes(conn))
        return;
    if (conn_direct_is_due(conn))
        conn_direct_later(conn);
    else
        conn_receive_arm(conn, 0);
}

void conn_start_reading(struct conn *conn, bool expect_silence)
{
    assert(conn->state != CONN_IDLE && conn->state != CONN_CONNECTING);
    assert(!conn->reading || conn->state != CONN_OPEN);
    if (conn->state != CONN_OPEN)
        return;
    conn->reading = true;
    if (!conn->paused && conn->rx == CONN_RX_OFF)
        conn_receive_arm(conn, expect_silence ? IORING_RECVSEND_POLL_FIRST : 0);
}

void conn_receive_stop(struct conn *conn)
{
    if (conn->rx == CONN_RX_STARVED) {
        list_remove(&conn->starved_link);
        conn->rx = CONN_RX_OFF;
    }
    if (conn->rx == CONN_RX_ARMED || conn->rx == CONN_RX_DIRECT) {
        loop_cancel(conn->loop, &conn->receive);
        conn->rx = CONN_RX_CANCELLING;
    }
}

void conn_drop_held(struct conn *conn)
{
    while (conn->held_first != NULL) {
        struct buffer_piece *piece = conn->held_first;
        conn->held_first = piece->next;
        buffers_release(&conn->loop->buffers, piece);
    }
    conn->held_last = NULL;
    conn->held_bytes = 0;
    if (conn->tls != NULL)
        conn_tls_drop_rest(conn);
}

/* Puts a piece behind those that are held; NULL: there was no memory for it. */
static void conn_hold_piece(struct conn *conn, struct buffer_piece *piece)
{
    if (piece == NULL) {
        conn_fail(conn, -ENOMEM);
        return;
    }
    piece->next = NULL;
    if (conn->held_last != NULL)
        conn->held_last->next = piece;
    else
        conn->held_first = piece;
    conn->held_last = piece;
    conn->held_bytes += piece->size;
}

void conn_hold_first(struct conn *conn, const char *bytes, size_t size)
{
    struct loop *loop = conn->loop;
    assert(conn->held_first == NULL && size <= UINT32_MAX);
    conn_hold_piece(conn, buffers_copy(&loop->buffers, bytes, (uint32_t)size));
    loop->held_copies++;
}

static void conn_hold(struct conn *conn, uint32_t id, uint32_t offset, uint32_t size)
{
    struct loop *loop = conn->loop;
    struct buffer_piece *piece = buffers_hold(&loop->buffers, id, offset, size, &loop->held_copies);
    conn_hold_piece(conn, piece);
    /* One piece is what a short pause costs; at the second one the kernel shall hold back the peer. A
     * multishot receive empties the socket before anybody can stop it, so until there is less to read it is
     * given up. */
    if (piece != NULL && conn->paused && conn->held_first != piece) {
        conn_receive_stop(conn);
        conn->receives_singly = true;
    }
}

/* Whether the peer said its last byte: a FIN, or TLS's own word for it. */
static bool conn_input_ended(const struct conn *conn)
{
    return conn->rx == CONN_RX_ENDED || (conn->tls != NULL && conn->tls->state == CONN_TLS_ENDED);
}

static void conn_tell_eof(struct conn *conn)
{
    assert(conn_input_ended(conn) && !conn->eof_told);
    assert(!conn_holds_bytes(conn));
    conn->eof_told = true;
    if (conn->tls != NULL)
        conn_tls_take_end(conn);
    if (conn->state != CONN_OPEN)
        return; /* it was no end, it was a handshake that failed */
    if (conn->tx == CONN_TX_BROKEN)
        conn_fail(conn, conn->error);
    else if (conn->handler->on_eof != NULL)
        conn->handler->on_eof(conn);
    else
        conn_close(conn);
}

void conn_pause(struct conn *conn)
{
    if (conn->state != CONN_OPEN)
        return;
    conn->paused = true;
    list_remove(&conn->ready_link);
    if (conn->held_first != conn->held_last || conn->rx == CONN_RX_STARVED)
        conn_receive_stop(conn);
}

void conn_resume(struct conn *conn)
{
    if (conn->state != CONN_OPEN || !conn->paused)
        return;
    conn->paused = false;
    bool end_is_due = conn_input_ended(conn) && !conn->eof_told;
    if ((conn_holds_bytes(conn) || end_is_due || conn->delivering) && list_is_empty(&conn->ready_link))
        list_push_back(&conn->loop->ready, &conn->ready_link);
    conn_receive_continue(conn);
}

size_t conn_give(struct conn *conn, const char *bytes, size_t size)
{
    assert(!conn->delivering && !conn->paused);
    const bool was_tls = conn->tls != NULL;
    conn->delivering = true;
    size_t consumed = conn->handler->on_data(conn, bytes, size);
    conn->delivering = false;
    assert(consumed <= size);
    /* Bytes may be left only by one who paused (and perhaps resumed at once), wants no more, or started TLS.
     */
    assert(consumed == size || conn->state != CONN_OPEN || conn->paused ||
           !list_is_empty(&conn->ready_link) || (!was_tls && conn->tls != NULL));
    return consumed;
}

/* Hands over what came from the socket, through TLS if there is any; returns how much is done with. */
static size_t conn_feed(struct conn *conn, const char *bytes, size_t size)
{
    if (conn->tls != NULL)
        return conn_tls_receive(conn, bytes, size);
    size_t consumed = conn_give(conn, bytes, size);
    /* What on_data left when it started TLS is the beginning of the handshake. */
    if (consumed < size && conn->tls != NULL && conn->state == CONN_OPEN)
        consumed += conn_tls_receive(conn, bytes + consumed, size - consumed);
    return consumed;
}

/* After all was handed over: the end of the stream may have been in it. */
static void conn_tell_tls_end(struct conn *conn)
{
    if (conn->tls->state == CONN_TLS_ENDED && conn->state == CONN_OPEN && !conn->eof_told)
        conn_tell_eof(conn);
}

static void conn_take_bytes(struct conn *conn, uint32_t id, uint32_t size)
{
    struct buffers *buffers = &conn->loop->buffers;
    if (conn->state != CONN_OPEN || conn->eof_told) {
        buffers_put(buffers, id);
        return;
    }
    if (conn->paused || conn_holds_bytes(conn) || !list_is_empty(&conn->ready_link)) {
        conn_hold(conn, id, 0, size);
        return;
    }
    size_t consumed = conn_feed(conn, buffers_data(buffers, id), size);
    if (consumed == size || conn->state != CONN_OPEN)
        buffers_put(buffers, id);
    else
        conn_hold(conn, id, (uint32_t)consumed, (uint32_t)(size - consumed));
    if (conn->tls != NULL)
        conn_tell_tls_end(conn);
}

/* After a delivery: whether the next held bytes may follow at once. */
static bool conn_may_go_on(struct conn *conn)
{
    if (conn->state == CONN_OPEN && !conn->paused && list_is_empty(&conn->ready_link))
        return true;
    if (conn->state != CONN_OPEN)
        conn_drop_held(conn);
    if (conn->state != CONN_CLOSING)
        conn_receive_continue(conn);
    return false;
}

static void conn_take_held(struct conn *conn, size_t consumed)
{
    struct buffer_piece *piece = conn->held_first;
    assert(consumed <= piece->size);
    conn->held_bytes -= consumed;
    piece->bytes += consumed;
    piece->size -= (uint32_t)consumed;
    if (piece->size > 0)
        return;
    conn->held_first = piece->next;
    if (conn->held_first == NULL)
        conn->held_last = NULL;
    buffers_release(&conn->loop->buffers, piece);
}

/* Delivers held bytes to a connection that has been resumed; stops where it pauses again. */
static void conn_deliver_held(struct conn *conn)
{
    if (conn->tls != NULL && conn->tls->rest != NULL) {
        conn_tls_give_rest(conn);
        if (!conn_may_go_on(conn))
            return;
    }
    while (conn->held_first != NULL) {
        struct buffer_piece *piece = conn->held_first;
        size_t consumed = conn_feed(conn, piece->bytes, piece->size);
        if (conn->state == CONN_OPEN)
            conn_take_held(conn, consumed); /* else the piece may be gone */
        if (!conn_may_go_on(conn))
            return;
    }
    if (conn_input_ended(conn) && !conn->eof_told)
        conn_tell_eof(conn);
    else if (conn_direct_is_due(conn) && conn->rx == CONN_RX_OFF && conn_wants_bytes(conn))
        conn_direct_receive(conn);
    else
        conn_receive_continue(conn);
}

void conn_deliver_ready(struct loop *loop)
{
    /* Those that are resumed meanwhile have their turn in the next turn. */
    struct list ready;
    list_init(&ready);
    list_splice_back(&ready, &loop->ready);
    for (struct list *link = list_pop_front(&ready); link != NULL; link = list_pop_front(&ready)) {
        struct conn *conn = list_entry(link, struct conn, ready_link);
        assert(conn->state == CONN_OPEN && !conn->paused);
        conn_deliver_held(conn);
    }
}

static void conn_starve(struct conn *conn)
{
    struct loop *loop = conn->loop;
    loop->stats.starved++;
    buffers_starved(&loop->buffers);
    if (!conn_wants_bytes(conn) || conn_direct_is_due(conn))
        return;
    conn->rx = CONN_RX_STARVED;
    list_push_back(&loop->buffers.starved, &conn->starved_link);
}

void conn_feed_starved(struct loop *loop, uint32_t posted)
{
    /* One buffer each: more could not be served, and those behind keep their place. */
    for (; posted > 0; posted--) {
        struct list *link = list_pop_front(&loop->buffers.starved);
        if (link == NULL)
            return;
        conn_receive_arm(list_entry(link, struct conn, starved_link), 0);
    }
}

static void conn_take_end(struct conn *conn)
{
    conn->rx = CONN_RX_ENDED;
    if (conn->state == CONN_LINGERING)
        conn_close(conn);
    else if (conn->state == CONN_OPEN && !conn->paused && !conn_holds_bytes(conn) && !conn->eof_told)
        conn_tell_eof(conn);
}

static void conn_take_error(struct conn *conn, int error)
{
    switch (error) {
    case -ENOBUFS:
        conn_starve(conn);
        break;
    case -ECANCELED:
    case -EAGAIN:
    case -EINTR:
        break;
    default:
        /* After our FIN the peer may well have reset: everything was sent, so that is a good end too. */
        conn_fail(conn, conn->state == CONN_LINGERING ? 0 : error);
    }
}

void conn_receive_ended(struct conn *conn, int result)
{
    assert(conn->rx == CONN_RX_OFF && result <= 0);
    if (conn->state == CONN_CLOSING)
        conn->rx = CONN_RX_ENDED;
    else if (result == 0)
        conn_take_end(conn);
    else
        conn_take_error(conn, result);
}

void conn_receive_settle(struct conn *conn)
{
    if (conn->state == CONN_CLOSING)
        conn_flush_later(conn);
    else
        conn_receive_continue(conn);
}

void conn_received(struct completion *completion, int32_t result, uint32_t flags)
{
    struct conn *conn = list_entry(completion, struct conn, receive);
    assert(conn->rx == CONN_RX_ARMED || conn->rx == CONN_RX_CANCELLING);
    if (!(flags & IORING_CQE_F_MORE))
        conn->rx = CONN_RX_OFF;
    bool buffered = flags & IORING_CQE_F_BUFFER;
    uint32_t id = buffered ? buffers_take(&conn->loop->buffers, flags) : 0;
    if (result > 0) {
        assert(buffered && (uint32_t)result <= conn->loop->buffers.size);
        if (conn->rx == CONN_RX_OFF && (uint32_t)result < conn->loop->buffers.size)
            conn->receives_singly = false;
        conn_take_bytes(conn, id, (uint32_t)result);
    } else {
        if (buffered)
            buffers_put(&conn->loop->buffers, id);
        conn_receive_ended(conn, result);
    }
    conn_receive_settle(conn);
}
