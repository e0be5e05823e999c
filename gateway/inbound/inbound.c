#include "gateway/inbound/inbound.h"

#include "gateway/base/config.h"
#include "gateway/base/counters.h"
#include "gateway/inbound/report.h"
#include "gateway/inbound/session.h"
#include "gateway/net/loop.h"

#include <assert.h>
#include <sys/socket.h>
#include <unistd.h>

void inbound_init(struct inbound *inbound, const struct inbound_options *options)
{
    assert(options->loop != NULL && options->queue != NULL && options->config != NULL);
    assert(options->log != NULL && options->counters != NULL && options->pool != NULL);
    *inbound = (struct inbound){.options = *options};
    if (inbound->options.connection_count == NULL)
        inbound->options.connection_count = &inbound->own_count;
    list_init(&inbound->sessions);
    list_init(&inbound->waiting);
}

void inbound_deinit(struct inbound *inbound)
{
    assert(inbound->session_count == 0);
    assert(list_is_empty(&inbound->sessions) && list_is_empty(&inbound->waiting));
}

/* The count is exact at any time and orders nothing else, so relaxed accesses will do. */
static bool admit_connection(struct inbound *inbound)
{
    const uint32_t others =
        atomic_fetch_add_explicit(inbound->options.connection_count, 1, memory_order_relaxed);
    if (others < inbound->options.config->limits.connections)
        return true;
    inbound_connection_closed(inbound);
    return false;
}

void inbound_connection_closed(struct inbound *inbound)
{
    const uint32_t before =
        atomic_fetch_sub_explicit(inbound->options.connection_count, 1, memory_order_relaxed);
    assert(before > 0);
}

/*
 * Without a session, so that a crowd before a full house costs no memory. The socket is new, its buffer is
 * empty: the send does not wait.
 */
static void turn_away(struct inbound *inbound, int fd, enum reply_id id, const struct sockaddr *client)
{
    const struct reply *reply = reply_get(id);
    struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
    socklen_t peer_size = sizeof(peer);
    if (client == NULL && getpeername(fd, (struct sockaddr *)&peer, &peer_size) == 0)
        client = (struct sockaddr *)&peer;
    (void)send(fd, reply->line.data, reply->line.size, MSG_DONTWAIT | MSG_NOSIGNAL);
    close(fd);
    COUNTER_ADD(inbound->options.counters, connections_refused, 1);
    report_turned_away(inbound, reply->line, reply->name, client);
}

void inbound_accept(struct inbound *inbound, int fd, uint32_t listener_index, const struct sockaddr *client)
{
    assert(fd >= 0);
    if (inbound->drain_deadline_us != 0) {
        turn_away(inbound, fd, REPLY_SHUTTING_DOWN, client);
        return;
    }
    if (!admit_connection(inbound)) {
        turn_away(inbound, fd, REPLY_TOO_MANY_CONNECTIONS, client);
        return;
    }
    if (session_new(inbound, fd, listener_index, client) != 0) {
        inbound_connection_closed(inbound);
        turn_away(inbound, fd, REPLY_TOO_MANY_CONNECTIONS, client);
    }
}

void inbound_set_config(struct inbound *inbound, const struct config *config)
{
    assert(config != NULL);
    assert(config->listener_count >= inbound->options.config->listener_count);
    inbound->options.config = config;
}

void inbound_room(struct inbound *inbound)
{
    /* Those that find no room again go to the end of the new list, in the same order. */
    struct list batch;
    list_init(&batch);
    list_splice_back(&batch, &inbound->waiting);
    for (struct list *link = list_pop_front(&batch); link != NULL; link = list_pop_front(&batch))
        session_room(list_entry(link, struct session, waiting_link));
}

void inbound_drain(struct inbound *inbound)
{
    if (inbound->drain_deadline_us != 0)
        return;
    inbound->drain_deadline_us = loop_now_us(inbound->options.loop) + (uint64_t)INBOUND_DRAIN_MS * 1000;
    list_each(link, &inbound->sessions) session_drain(list_entry(link, struct session, link));
}

uint32_t inbound_session_count(const struct inbound *inbound)
{
    return inbound->session_count;
}
