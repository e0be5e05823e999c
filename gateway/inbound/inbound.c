#include "gateway/inbound/inbound.h"

#include "gateway/base/config.h"
#include "gateway/base/counters.h"
#include "gateway/inbound/policy.h"
#include "gateway/inbound/report.h"
#include "gateway/inbound/session.h"
#include "gateway/net/loop.h"

#include <assert.h>
#include <sys/socket.h>
#include <unistd.h>

void inbound_init(struct inbound *inbound, const struct inbound_options *options)
{
    assert(options->loop != NULL && options->queue != NULL && options->policy != NULL);
    assert(options->rates != NULL && options->server_secret != NULL);
    assert(options->log != NULL && options->counters != NULL && options->pool != NULL);
    *inbound = (struct inbound){.options = *options};
    if (inbound->options.connection_count == NULL)
        inbound->options.connection_count = &inbound->own_count;
    if (inbound->options.direct_min == 0)
        inbound->options.direct_min = INBOUND_DIRECT_MIN;
    if (inbound->options.question_ms == 0)
        inbound->options.question_ms = INBOUND_QUESTION_MS;
    list_init(&inbound->sessions);
    list_init(&inbound->waiting);
}

void inbound_deinit(struct inbound *inbound)
{
    assert(inbound->session_count == 0 && inbound->check_count == 0 && inbound->question_count == 0);
    assert(list_is_empty(&inbound->sessions) && list_is_empty(&inbound->waiting));
}

/*
 * The last places are kept for clients in relay.networks: a crowd of strangers cannot shut our own senders
 * out. Behind a proxy nobody is known yet. The count is exact at any time and orders nothing else, so relaxed
 * accesses will do.
 */
static bool admit_connection(struct inbound *inbound, const struct sockaddr *client)
{
    const struct config *config = inbound->options.policy->config;
    const uint32_t others =
        atomic_fetch_add_explicit(inbound->options.connection_count, 1, memory_order_relaxed);
    const uint32_t kept = (uint32_t)((uint64_t)config->limits.connections * INBOUND_LISTED_PERCENT / 100);
    if (others < config->limits.connections - kept)
        return true;
    if (others < config->limits.connections && config_relay_allows_client(config, client))
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
 * empty: the send does not wait. Where TLS is expected from the first octet on, there is nobody to read it.
 */
static void turn_away(struct inbound *inbound, int fd, uint32_t listener_index, enum reply_id id,
                      const struct sockaddr *client)
{
    const struct reply *reply = reply_get(id);
    if (inbound->options.policy->config->listeners[listener_index].tls != CONFIG_TLS_IMPLICIT)
        (void)send(fd, reply->line.data, reply->line.size, MSG_DONTWAIT | MSG_NOSIGNAL);
    close(fd);
    COUNTER_ADD(inbound->options.counters, connections_refused, 1);
    report_turned_away(inbound, reply->line, reply->name, client);
}

void inbound_accept(struct inbound *inbound, int fd, uint32_t listener_index, const struct sockaddr *client)
{
    struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
    socklen_t peer_size = sizeof(peer);
    assert(fd >= 0 && listener_index < inbound->options.policy->config->listener_count);
    if (client == NULL) {
        (void)getpeername(fd, (struct sockaddr *)&peer, &peer_size);
        client = (struct sockaddr *)&peer;
    }
    if (inbound->drain_deadline_us != 0) {
        turn_away(inbound, fd, listener_index, REPLY_SHUTTING_DOWN, client);
        return;
    }
    if (!admit_connection(inbound, client)) {
        turn_away(inbound, fd, listener_index, REPLY_TOO_MANY_CONNECTIONS, client);
        return;
    }
    if (session_new(inbound, fd, listener_index, client) != 0) {
        inbound_connection_closed(inbound);
        turn_away(inbound, fd, listener_index, REPLY_TOO_MANY_CONNECTIONS, client);
    }
}

void inbound_set_policy(struct inbound *inbound, const struct policy *policy)
{
    assert(policy != NULL);
    assert(policy->config->listener_count >= inbound->options.policy->config->listener_count);
    inbound->options.policy = policy;
    inbound->config_number++;
}

/*
 * Those that find no room again go to the end of the new list, in the same order. Strangers come after our
 * own: when room is short, it is theirs first.
 */
void inbound_room(struct inbound *inbound)
{
    struct list batch;
    list_init(&batch);
    list_splice_back(&batch, &inbound->waiting);
    list_each_safe(link, &batch)
    {
        struct session *session = list_entry(link, struct session, waiting_link);
        if (!session_is_stranger(session)) {
            list_remove(link);
            session_room(session);
        }
    }
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
    return inbound->session_count + inbound->check_count;
}
