#include "gateway/net/listener.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "gateway/net/loop_inner.h"

static int listener_set_options(int fd, sa_family_t family)
{
    const int on = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0)
        return -errno;
    if (family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0)
        return -errno;
    /* Accepted sockets inherit it: one system call less for each connection. */
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0)
        return -errno;
    return 0;
}

int listener_open_socket(const struct sockaddr *address, socklen_t size)
{
    assert(address->sa_family == AF_INET || address->sa_family == AF_INET6);
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int result = listener_set_options(fd, address->sa_family);
    if (result == 0 && bind(fd, address, size) < 0)
        result = -errno;
    if (result == 0 && listen(fd, LISTENER_BACKLOG) < 0)
        result = -errno;
    if (result == 0)
        return fd;
    close(fd);
    return result;
}

int listener_address(int fd, struct sockaddr_storage *out)
{
    socklen_t size = sizeof(*out);
    return getsockname(fd, (struct sockaddr *)out, &size) < 0 ? -errno : 0;
}

static void listener_accept(struct listener *listener)
{
    assert(listener->state == LISTENER_IDLE || listener->state == LISTENER_PAUSED ||
           listener->state == LISTENER_ACCEPTING);
    struct io_uring_sqe *sqe = loop_sqe(listener->loop, &listener->accept);
    io_uring_prep_multishot_accept(sqe, listener->fd, NULL, NULL, SOCK_CLOEXEC);
    listener->state = LISTENER_ACCEPTING;
}

static void listener_pause(struct listener *listener, int error)
{
    assert(listener->state == LISTENER_ACCEPTING);
    listener->state = LISTENER_PAUSED;
    struct loop *loop = listener->loop;
    timer_arm(&loop->wheel, &listener->timer, loop->now_us + LISTENER_PAUSE_MS * 1000);
    if (listener->handler->on_exhausted != NULL)
        listener->handler->on_exhausted(listener->ctx, error);
}

static void listener_pause_over(struct timer *timer)
{
    struct listener *listener = list_entry(timer, struct listener, timer);
    assert(listener->state == LISTENER_PAUSED);
    listener_accept(listener);
}

/* Connections that wait in the backlog have been answered by the kernel: they are ours to serve or refuse. */
static void listener_drain(struct listener *listener)
{
    int flags = fcntl(listener->fd, F_GETFL);
    if (flags < 0 || fcntl(listener->fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return;
    for (int count = 0; count < LISTENER_BACKLOG; count++) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            return;
        listener->handler->on_accept(listener->ctx, fd);
    }
}

static void listener_stopped(struct listener *listener)
{
    assert(listener->state == LISTENER_STOPPING);
    listener_drain(listener);
    close(listener->fd);
    listener->fd = -1;
    listener->state = LISTENER_IDLE;
    if (listener->handler->on_stopped != NULL)
        listener->handler->on_stopped(listener->ctx);
}

/* Whether the next try may come at once; all other errors would come back in a tight circle. */
static bool listener_is_passing(int error)
{
    switch (error) {
    case -ECONNABORTED:
    case -ECANCELED:
    case -EAGAIN:
    case -EINTR:
    case -EPROTO:
        return true;
    default:
        return false;
    }
}

static void listener_accepted(struct completion *completion, int32_t result, uint32_t flags)
{
    struct listener *listener = list_entry(completion, struct listener, accept);
    bool ended = !(flags & IORING_CQE_F_MORE);
    if (result >= 0)
        listener->handler->on_accept(listener->ctx, result);
    if (!ended)
        return;
    if (listener->state == LISTENER_STOPPING)
        listener_stopped(listener);
    else if (result >= 0 || listener_is_passing(result))
        listener_accept(listener);
    else
        listener_pause(listener, result);
}

static void listener_stopped_paused(struct completion *completion, int32_t result, uint32_t flags)
{
    listener_stopped(list_entry(completion, struct listener, accept));
}

void listener_start(struct listener *listener, struct loop *loop, int fd,
                    const struct listener_handler *handler, void *ctx)
{
    assert(fd >= 0);
    assert(handler->on_accept != NULL);
    *listener = (struct listener){
        .accept.fn = listener_accepted,
        .loop = loop,
        .handler = handler,
        .ctx = ctx,
        .fd = fd,
        .state = LISTENER_IDLE,
    };
    timer_init(&listener->timer, listener_pause_over);
    listener_accept(listener);
}

void listener_stop(struct listener *listener)
{
    assert(listener->state == LISTENER_ACCEPTING || listener->state == LISTENER_PAUSED);
    if (listener->state == LISTENER_ACCEPTING) {
        loop_cancel(listener->loop, &listener->accept);
    } else {
        /* Nothing is in the kernel: an empty operation keeps on_stopped out of this call. */
        timer_cancel(&listener->loop->wheel, &listener->timer);
        listener->accept.fn = listener_stopped_paused;
        io_uring_prep_nop(loop_sqe(listener->loop, &listener->accept));
    }
    listener->state = LISTENER_STOPPING;
}
