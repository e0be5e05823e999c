/*
 * Whether replies are those to the commands that they are taken for. In gear 4 all good replies look alike:
 * after one too many, each would be taken for its neighbour's, and a chunk that is refused for delivered. A
 * 354 alone cannot be mistaken. So a peer that nobody knows yet shows first that it counts:
 *
 *     DATA ──354──▶ AGAIN ──354──▶ CHUNK ──chunk begun──▶ LAST ──354──▶ OVER
 *
 * The first 354 vouches for MAIL and RCPT, the second for the end of content, the last one for BDAT and for
 * RSET, which stands behind the chunk. Then all connections to the address go without, for an hour. What a
 * peer says too much later shows at the end: nobody asked for it, or it is said to QUIT.
 */
#include <assert.h>

#include "gateway/outbound/client.h"
#include "gateway/outbound/site.h"

static uint64_t now_of(const struct client *client)
{
    return loop_now_us(client->site->outbound->options.loop);
}

void client_begin_trial(struct client *client)
{
    bool is_proven = client->endpoint->proven_until_us > now_of(client);
    client->trial = is_proven || client->gear < GEAR_STREAM ? CLIENT_TRIAL_OVER : CLIENT_TRIAL_DATA;
}

bool client_may_stream(const struct client *client)
{
    return client->gear == GEAR_STREAM &&
           (client->trial == CLIENT_TRIAL_CHUNK || client->trial == CLIENT_TRIAL_OVER);
}

void client_try(struct client *client, const struct job *job)
{
    assert(client->trial <= CLIENT_TRIAL_OVER);
    if (client->trial == CLIENT_TRIAL_LAST)
        client->needs_reset = true;
    if (client->trial == CLIENT_TRIAL_CHUNK && job->carrier == CARRIER_CHUNK)
        client->trial = CLIENT_TRIAL_LAST;
}

void client_in_step(struct client *client)
{
    client->unproven = 0;
    if (client->trial == CLIENT_TRIAL_DATA)
        client->trial = CLIENT_TRIAL_AGAIN;
    else if (client->trial == CLIENT_TRIAL_AGAIN)
        client->trial = CLIENT_TRIAL_CHUNK;
    else if (client->trial == CLIENT_TRIAL_LAST)
        client->trial = CLIENT_TRIAL_OVER;
    else
        return;
    if (client->trial == CLIENT_TRIAL_OVER)
        endpoint_counted(client->endpoint, now_of(client));
}

/* What was taken for delivered cannot be taken back. */
static void warn(const struct client *client, struct smtp_slice reply)
{
    struct log_line line;

    if (!log_begin(client->site->outbound->options.log, &line, LOG_CAUTION, LOG_WARNING))
        return;
    log_text(&line, "what",
             "replies do not match commands; of the last messages some may not have been taken");
    log_text(&line, "site", client->site->name);
    log_text(&line, "host", client->endpoint->text);
    log_u64(&line, "messages", client->unproven);
    log_str(&line, "reply", reply.data, reply.size);
    log_end(&line);
}

void client_out_of_step(struct client *client, struct smtp_slice reply)
{
    if (client->gear != GEAR_STREAM)
        return; /* each message's own 354 tells */
    client->endpoint->proven_until_us = 0;
    if (client->unproven == 0)
        return; /* nothing is in doubt, and the next conversation is a trial */
    endpoint_miscounted(client->endpoint, now_of(client));
    warn(client, reply);
}
