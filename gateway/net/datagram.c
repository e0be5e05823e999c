#include "gateway/net/datagram.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <unistd.h>

#include "gateway/net/loop_inner.h"

static bool datagram_is_live(const struct datagram *datagram)
{
    return !datagram->is_closing && !datagram->has_failed;
}

static void datagram_fail(struct datagram *datagram, int error)
{
    assert(error < 0);
    if (!datagram_is_live(datagram))
        return;
    datagram->has_failed = true;
    datagram->handler->on_error(datagram, error);
}

/* When the kernel holds nothing any more: gives the memory back, with the last callback. */
static void datagram_come_home(struct datagram *datagram)
{
    if (!datagram->is_closing || datagram->is_receiving || datagram->is_sending)
        return;
    timer_cancel(&datagram->loop->wheel, &datagram->timer);
    struct io_uring_sqe *sqe = loop_sqe_ignored(datagram->loop);
    io_uring_prep_close(sqe, datagram->fd);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    datagram->fd = -1;
    datagram->handler->on_closed(datagram);
}

static void datagram_receive(struct datagram *datagram)
{
    assert(!datagram->is_receiving && datagram->fd >= 0);
    datagram->is_receiving = true;
    struct io_uring_sqe *sqe = loop_sqe(datagram->loop, &datagram->receive);
    /* MSG_TRUNC: the result is the datagram's true size, so one that was cut is known. */
    io_uring_prep_recv(sqe, datagram->fd, datagram->buffer, datagram->capacity, MSG_TRUNC);
}

static void datagram_received(struct completion *completion, int32_t result, uint32_t flags)
{
    struct datagram *datagram = list_entry(completion, struct datagram, receive);
    assert(datagram->is_receiving);
    datagram->is_receiving = false;
    if (result < 0)
        datagram_fail(datagram, result);
    else if (datagram_is_live(datagram) && (size_t)result <= datagram->capacity)
        datagram->handler->on_datagram(datagram, datagram->buffer, (size_t)result);
    if (datagram_is_live(datagram))
        datagram_receive(datagram);
    datagram_come_home(datagram);
}

static void datagram_sent(struct completion *completion, int32_t result, uint32_t flags)
{
    struct datagram *datagram = list_entry(completion, struct datagram, send);
    assert(datagram->is_sending);
    datagram->is_sending = false;
    if (result < 0)
        datagram_fail(datagram, result);
    datagram_come_home(datagram);
}

static void datagram_timed_out(struct timer *timer)
{
    struct datagram *datagram = list_entry(timer, struct datagram, timer);
    if (!datagram->is_closing)
        datagram->handler->on_timeout(datagram);
    else
        datagram_come_home(datagram);
}

int datagram_open(struct datagram *datagram, struct loop *loop, const struct datagram_handler *handler,
                  void *ctx, const struct sockaddr *peer, uint8_t *buffer, size_t capacity)
{
    assert(capacity > 0 && capacity <= UINT16_MAX);
    assert(peer->sa_family == AF_INET || peer->sa_family == AF_INET6);
    int fd = socket(peer->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    socklen_t peer_size =
        peer->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (connect(fd, peer, peer_size) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    *datagram = (struct datagram){
        .receive.fn = datagram_received,
        .send.fn = datagram_sent,
        .loop = loop,
        .handler = handler,
        .ctx = ctx,
        .fd = fd,
        .buffer = buffer,
        .capacity = capacity,
    };
    timer_init(&datagram->timer, datagram_timed_out);
    datagram_receive(datagram);
    return 0;
}

void datagram_send(struct datagram *datagram, const uint8_t *bytes, size_t size)
{
    assert(!datagram->is_sending && !datagram->is_closing);
    datagram->is_sending = true;
    struct io_uring_sqe *sqe = loop_sqe(datagram->loop, &datagram->send);
    io_uring_prep_send(sqe, datagram->fd, bytes, size, 0);
}

void datagram_set_timeout(struct datagram *datagram, uint64_t ms)
{
    if (!datagram->is_closing)
        timer_arm(&datagram->loop->wheel, &datagram->timer, datagram->loop->now_us + ms * 1000);
}

void datagram_close(struct datagram *datagram)
{
    if (datagram->is_closing)
        return;
    datagram->is_closing = true;
    timer_cancel(&datagram->loop->wheel, &datagram->timer);
    if (datagram->is_receiving)
        loop_cancel(datagram->loop, &datagram->receive);
    if (datagram->is_sending)
        loop_cancel(datagram->loop, &datagram->send);
    /* Called inside a callback of a completion, that one brings it home; else the timer must: on_closed does
     * not come from inside this call. */
    if (!datagram->is_receiving && !datagram->is_sending)
        timer_arm(&datagram->loop->wheel, &datagram->timer, datagram->loop->now_us);
}
