/* For how long a peer is waited for: its time for each reply, and as long as it takes what is sent to it. */
#include <assert.h>

#include "gateway/outbound/client.h"
#include "gateway/outbound/site.h"

static uint64_t now_of(const struct client *client)
{
    return loop_now_us(client->site->outbound->options.loop);
}

static const struct config_timeouts *timeouts_of(const struct client *client)
{
    return &client->site->outbound->config->timeouts;
}

static uint32_t command_timeout_ms(const struct client *client, enum client_command_kind kind)
{
    const struct config_timeouts *timeouts = timeouts_of(client);

    switch (kind) {
#define COMMAND_TIMEOUT(kind, name, timeout)                                                                 \
    case COMMAND_##kind:                                                                                     \
        return timeouts->timeout;
        COMMANDS(COMMAND_TIMEOUT)
#undef COMMAND_TIMEOUT
    }
    return timeouts->outbound_mail_ms;
}

/* From one piece that the peer takes to the next, while it has not all that it needs for the reply. */
static uint32_t take_ms(const struct client *client, enum client_command_kind kind)
{
    return client_command_is_end(kind) ? timeouts_of(client)->outbound_block_ms
                                       : command_timeout_ms(client, kind);
}

static void look_later(struct client *client, enum client_command_kind kind)
{
    uint32_t part_ms = take_ms(client, kind) / CLIENT_LOOKS;
    uint32_t whole_ms = command_timeout_ms(client, kind);
    conn_set_timeout(&client->conn, part_ms < whole_ms ? part_ms + 1 : whole_ms);
}

/*
 * While messages are in flight, much may have been sent that the peer is still to take before it can answer,
 * and a send that is under way does not tell how far it has come. So the time limit is looked at in parts:
 * the peer's time for its answer begins when it has all, and until then each octet that it takes counts.
 */
void client_arm(struct client *client)
{
    const struct client_command *head = command_queue_head(&client->commands);

    assert(client->state != CLIENT_CLOSING);
    client->armed_us = now_of(client);
    client->moved_us = client->armed_us;
    if (head == NULL)
        conn_set_timeout(&client->conn, timeouts_of(client)->outbound_idle_ms);
    else if (client->state == CLIENT_BUSY)
        look_later(client, head->kind);
    else
        conn_set_timeout(&client->conn, command_timeout_ms(client, head->kind));
}

/* The peer has all: how much of its time for the answer is left. */
static uint64_t left_ms(const struct client *client, const struct conn_taken *taken, uint64_t limit_ms)
{
    uint64_t waited_ms = (now_of(client) - client->armed_us) / 1000;

    if (taken->acked_bytes != UINT64_MAX && taken->since_sent_ms < waited_ms)
        waited_ms = taken->since_sent_ms;
    return waited_ms < limit_ms ? limit_ms - waited_ms : 0;
}

bool client_keeps_waiting(struct client *client)
{
    const struct client_command *head = command_queue_head(&client->commands);
    struct conn_taken taken = conn_taken(&client->conn);

    assert(client->state == CLIENT_BUSY && head != NULL);
    if (taken.is_all && client_command_is_end(head->kind) && head->job->state == JOB_CONTENT) {
        client_arm(client); /* it is we who have nothing more for it yet */
        return true;
    }
    if (taken.is_all) {
        uint64_t ms = left_ms(client, &taken, command_timeout_ms(client, head->kind));
        if (ms > 0)
            conn_set_timeout(&client->conn, ms);
        return ms > 0;
    }
    if (taken.acked_bytes > client->acked_bytes)
        client->moved_us = now_of(client);
    client->acked_bytes = taken.acked_bytes;
    if (now_of(client) - client->moved_us >= (uint64_t)take_ms(client, head->kind) * 1000)
        return false;
    look_later(client, head->kind);
    return true;
}
