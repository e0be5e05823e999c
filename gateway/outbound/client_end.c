/* How a session ends: what becomes of the messages in flight, and who is to blame. */
#include <assert.h>
#include <stdio.h>

#include "gateway/outbound/client.h"
#include "gateway/outbound/flight.h"
#include "gateway/outbound/outcome.h"
#include "gateway/outbound/site.h"

enum { CLIENT_YOUNG_US = 1000000 }; /* a peer that closes an idle connection so early does not want it */
#define CLIENT_HELO_ONLY_US UINT64_C(3600000000)

/* The peer may have all of it. Content is not complete before its last octet, so when that did not even reach
 * the kernel, it cannot have been taken. How much the kernel took is known but for the last moments before a
 * connection broke; under TLS nobody knows which of the octets on their way were whose. */
static bool may_be_delivered(const struct client *client, const struct job *job)
{
    if (job->state != JOB_ENDED)
        return false;
    if (client->tls_version != NULL)
        return true;
    bool is_chunk = job->carrier != CARRIER_DATA && job->delivery->content_size > 0;
    return job->end_at <= client->taken_bytes + (is_chunk ? 0 : FLIGHT_SIZE);
}

/* What becomes of a job when its client ends before the replies are complete. `is_current`: the peer's last
 * words were about it. */
static void give_up_job(struct client *client, struct job *job, enum client_end end, bool is_current,
                        bool is_first, struct smtp_slice reply)
{
    bool has_begun = job->answered > 0;
    /* In LMTP a 421 in the place of one recipient's answer says nothing of the others. */
    bool is_for_all = !client_is_lmtp(client) || job->state != JOB_ENDED;

    if (is_current && end == CLIENT_END_CLOSING && is_for_all)
        outcome_rest(job, QUEUE_DEFER, reply);
    else if (may_be_delivered(client, job))
        outcome_rest_unknown(job, reply);
    else if (end == CLIENT_END_STOPPED)
        outcome_rest(job, QUEUE_RETRY, reply);
    else if (has_begun || is_first || is_current)
        outcome_rest(job, QUEUE_DEFER, reply);
    else
        outcome_rest(job, QUEUE_RETRY, reply);
    job_over(job);
}

/* True when a delivery paid for it with an attempt. */
static bool give_up_jobs(struct client *client, enum client_end end, struct smtp_slice reply)
{
    const struct client_command *head = command_queue_head(&client->commands);
    bool has_spoken = end == CLIENT_END_CLOSING || end == CLIENT_END_BROKEN;
    struct job *current = client->current != NULL || head == NULL ? client->current : head->job;
    bool is_first = client->concluded == 0;
    bool any = client->job_count > 0;
    struct job *job;

    command_queue_deinit(&client->commands, client->site->outbound->options.pool);
    while ((job = client_oldest_job(client)) != NULL) {
        client->job_count--;
        give_up_job(client, job, end, has_spoken && job == current, is_first, reply);
        is_first = false;
    }
    assert(client->job_count == 0);
    return any;
}

static void blame(struct client *client, enum client_end end, enum client_state was, bool has_deferred)
{
    uint64_t now_us = loop_now_us(client->site->outbound->options.loop);
    bool is_young = client->ready_us == 0 || now_us - client->ready_us < CLIENT_YOUNG_US;

    if (end < CLIENT_END_CLOSING || was == CLIENT_QUITTING)
        return;
    if (client->concluded == 0 && (has_deferred || is_young)) {
        site_endpoint_failed(client->site, client->endpoint, has_deferred);
    } else if (has_deferred) {
        COUNTER_ADD(client->site->outbound->options.counters, outbound_failures, 1);
    }
}

/* It announces PIPELINING, and yet loses what stands behind a command of one message's envelope. */
static bool has_lost_commands(const struct client *client, enum client_end end)
{
    const struct client_command *head = command_queue_head(&client->commands);

    if ((end != CLIENT_END_TIMEOUT && end != CLIENT_END_BROKEN) || client->gear == GEAR_LOCKSTEP)
        return false;
    return client->job_count == 1 && head != NULL && client_oldest_job(client)->state == JOB_ENVELOPE;
}

/* What never had two messages in flight proves nothing of the gears that are for that. */
static bool has_used_gear(const struct client *client)
{
    return client->concluded > 0 && (client->has_overlapped || client->gear < GEAR_OVERLAP);
}

static void teach_endpoint(struct client *client, enum client_end end)
{
    uint64_t now_us = loop_now_us(client->site->outbound->options.loop);

    if (client->job_count >= 2 && end >= CLIENT_END_LOST)
        endpoint_broke(client->endpoint, client->gear, client->ready_us, now_us);
    else if (has_lost_commands(client, end))
        endpoint_confused(client->endpoint, GEAR_ENVELOPE, now_us);
    else if (end == CLIENT_END_DONE && has_used_gear(client))
        endpoint_held(client->endpoint, client->gear, client->ready_us);
}

void client_end(struct client *client, enum client_end end, struct smtp_slice reply)
{
    enum client_state was = client->state;
    struct site *site = client->site;

    if (was == CLIENT_CLOSING)
        return;
    client_note_taken(client);
    client_forget_login(client);
    teach_endpoint(client, end);
    client_enter(client, CLIENT_CLOSING);
    client_leave_room(client);
    list_remove(&client->feeding_link);
    site->closing++;
    if (was < CLIENT_READY)
        site->connecting--;
    else
        client->endpoint->established--;
    conn_close(&client->conn);
    if (end >= CLIENT_END_CLOSING)
        site_set_reason(site, "%.*s", (int)reply.size, reply.data);
    bool has_deferred = give_up_jobs(client, end, reply);
    blame(client, end, was, has_deferred);
    site_touch(site);
}

void client_refuse(struct client *client, const char *status, const char *reason, struct smtp_slice reply)
{
    char text[SITE_REASON_SIZE];
    int size = snprintf(text, sizeof(text), "%s %.100s %s%s%.*s", status, client->endpoint->text, reason,
                        reply.size > 0 ? ": " : "", (int)(reply.size < 80 ? reply.size : 80), reply.data);
    assert(size > 0 && (size_t)size < sizeof(text));
    client_end(client, CLIENT_END_REFUSED, (struct smtp_slice){text, (uint32_t)size});
}

/* There are hosts that close at EHLO. With HELO there is neither TLS nor a login. */
static bool falls_back_to_helo(struct client *client, enum client_end end)
{
    const struct client_command *head = command_queue_head(&client->commands);
    uint64_t now_us = loop_now_us(client->site->outbound->options.loop);

    if (end != CLIENT_END_LOST || head == NULL || head->kind != COMMAND_EHLO || client->reply_lines > 0 ||
        client->tls_version != NULL || client_must_encrypt(client) || client_must_log_in(client))
        return false;
    client->endpoint->helo_only_until_us = now_us + CLIENT_HELO_ONLY_US;
    client_end(client, CLIENT_END_SIMPLER, SMTP_SLICE("4.4.2 the peer closed the connection at EHLO"));
    return true;
}

void client_end_waiting(struct client *client, enum client_end end, const char *what)
{
    const struct client_command *head = command_queue_head(&client->commands);
    const char *status = end == CLIENT_END_BROKEN ? "4.5.0" : "4.4.2"; /* protocol, connection */
    char text[256];
    int size;

    if (client_blames_tls(client, what) || falls_back_to_helo(client, end))
        return;
    if (client->state == CLIENT_CONNECTING)
        size = snprintf(text, sizeof(text), "4.4.1 %.160s: %s", client->endpoint->text, what);
    else if (head == NULL)
        size = snprintf(text, sizeof(text), "%s %s", status, what);
    else
        size = snprintf(text, sizeof(text), "%s %s, waiting for the reply to %s", status, what,
                        client_command_name(head->kind));
    assert(size > 0 && (size_t)size < sizeof(text));
    client_end(client, end, (struct smtp_slice){text, (uint32_t)size});
}

void client_retire(struct client *client)
{
    if (client->is_retiring || client->state == CLIENT_CLOSING)
        return;
    client->is_retiring = true;
    if (client->state < CLIENT_READY)
        client_end(client, CLIENT_END_STOPPED, SMTP_SLICE("4.3.2 not needed any more"));
    else if (client->state == CLIENT_READY)
        client_say_quit(client);
    else
        client_update_room(client);
}

/* --- Another policy --- */

static void retire_if(struct site *site, bool (*is_outdated)(const struct client *client))
{
    list_each_safe(link, &site->sessions)
    {
        struct client *client = list_entry(link, struct client, site_link);
        if (is_outdated(client))
            client_retire(client);
    }
}

static bool is_secured(const struct client *client)
{
    return conn_is_tls(&client->conn);
}

static bool has_password(const struct client *client)
{
    return client->is_logged_in || client->login != NULL || client_must_log_in(client);
}

static void retire_secured(struct site *site)
{
    retire_if(site, is_secured);
}

static void retire_let_in(struct site *site)
{
    retire_if(site, has_password);
}

void client_heed_policy(struct outbound *outbound, const struct outbound_policy *old)
{
    if (!tls_client_equals(outbound->policy->tls, old->tls))
        site_each(outbound, retire_secured);
    if (outbound->policy->passwords != old->passwords)
        site_each(outbound, retire_let_in);
}
