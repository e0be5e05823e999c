/* What a client says: the commands of a message in flights as large as the gear allows, and its content. */
#include <assert.h>

#include "gateway/message/recipient.h"
#include "gateway/outbound/client.h"
#include "gateway/outbound/convert.h"
#include "gateway/outbound/feed.h"
#include "gateway/outbound/flight.h"
#include "gateway/outbound/outcome.h"
#include "gateway/outbound/screen.h"
#include "gateway/outbound/site.h"
#include "proto/command.h"

void client_expect(struct client *client, enum client_command_kind kind, struct job *job, uint32_t target)
{
    command_queue_push(&client->commands,
                       (struct client_command){.job = job, .target = target, .kind = kind});
}

/* --- Commands --- */

void client_say_hello(struct client *client, enum client_command_kind kind)
{
    struct flight flight;

    flight_begin(&flight, client);
    assert(kind == COMMAND_EHLO || kind == COMMAND_HELO || kind == COMMAND_LHLO);
    flight_text(&flight, client_command_name(kind));
    flight_text(&flight, " ");
    flight_text(&flight, client->site->outbound->config->hostname);
    flight_text(&flight, "\r\n");
    client_expect(client, kind, NULL, 0);
    flight_end(&flight);
}

void client_say_quit(struct client *client)
{
    client_enter(client, CLIENT_QUITTING);
    client->is_retiring = true;
    client_update_room(client);
    client_expect(client, COMMAND_QUIT, NULL, 0);
    conn_send_static(&client->conn, "QUIT\r\n", 6);
    client_count_queued(client, 6);
    client_arm(client);
}

/* BODY, RFC 6152 §3 and 3030 §3. */
static void add_body(struct flight *flight, uint32_t flags)
{
    if (flags & ENVELOPE_BINARYMIME)
        flight_text(flight, " BODY=BINARYMIME");
    else if ((flags & (ENVELOPE_HAS_8BIT | ENVELOPE_8BITMIME)) &&
             (flight->client->features & SMTP_EXT_8BITMIME))
        flight_text(flight, " BODY=8BITMIME");
}

/* RET and ENVID, RFC 3461 §4.3 and §4.4. */
static void add_return(struct flight *flight, const struct envelope *envelope)
{
    if (envelope->flags & ENVELOPE_RET_FULL)
        flight_text(flight, " RET=FULL");
    else if (envelope->flags & ENVELOPE_RET_HDRS)
        flight_text(flight, " RET=HDRS");
    if (envelope->envid.size > 0) {
        flight_text(flight, " ENVID=");
        flight_slice(flight, envelope->envid);
    }
}

/* Of what is converted nobody knows the size yet. */
static void add_mail(struct flight *flight, struct job *job)
{
    struct client *client = flight->client;

    flight_text(flight, "MAIL FROM:<");
    flight_slice(flight, job->envelope.sender);
    flight_text(flight, ">");
    if ((client->features & SMTP_EXT_SIZE) && job->convert == NULL) {
        flight_text(flight, " SIZE=");
        flight_number(flight, job->size);
    }
    add_body(flight, job->envelope.flags);
    if (job->envelope.flags & ENVELOPE_SMTPUTF8)
        flight_text(flight, " SMTPUTF8");
    if (client->features & SMTP_EXT_DSN)
        add_return(flight, &job->envelope);
    flight_text(flight, "\r\n");
    client_expect(client, COMMAND_MAIL, job, 0);
}

/* NOTIFY and ORCPT, RFC 3461 §4.1 and §4.2. */
static void add_notify(struct flight *flight, const struct recipient *recipient)
{
    static const struct {
        uint8_t bit;
        const char *word;
    } wishes[] = {{SMTP_NOTIFY_NEVER, "NEVER"},
                  {SMTP_NOTIFY_SUCCESS, "SUCCESS"},
                  {SMTP_NOTIFY_FAILURE, "FAILURE"},
                  {SMTP_NOTIFY_DELAY, "DELAY"}};
    const char *separator = " NOTIFY=";

    for (size_t i = 0; i < sizeof(wishes) / sizeof(wishes[0]); i++) {
        if (!(recipient->notify & wishes[i].bit))
            continue;
        flight_text(flight, separator);
        flight_text(flight, wishes[i].word);
        separator = ",";
    }
    if (recipient->orcpt.size > 0) {
        flight_text(flight, " ORCPT=");
        flight_slice(flight, recipient->orcpt);
    }
}

static void add_rcpt(struct flight *flight, struct job *job, uint32_t index)
{
    const struct queue_target *target = &job->delivery->targets[index];
    struct recipient recipient = recipient_decode(target->address, target->size);

    assert(target->outcome == QUEUE_RETRY);
    flight_text(flight, "RCPT TO:<");
    flight_slice(flight, recipient.address);
    flight_text(flight, ">");
    if (flight->client->features & SMTP_EXT_DSN)
        add_notify(flight, &recipient);
    flight_text(flight, "\r\n");
    client_expect(flight->client, COMMAND_RCPT, job, index);
}

static void add_data(struct flight *flight, struct job *job)
{
    flight_text(flight, "DATA\r\n");
    client_expect(flight->client, COMMAND_DATA, job, 0);
}

/* The replies to the end of content: one, or in LMTP one for each recipient, all of which are answered then.
 */
static void expect_end(struct client *client, enum client_command_kind kind, struct job *job)
{
    uint32_t left = job->accepted;

    if (!client_is_lmtp(client)) {
        client_expect(client, kind, job, 0);
        return;
    }
    for (uint32_t i = 0; i < job->delivery->target_count; i++) {
        if (job->delivery->targets[i].outcome != QUEUE_RETRY)
            continue;
        client_expect(client, kind, job, i);
        left--;
    }
    assert(left == 0);
}

/* All of the content in one chunk (RFC 3030 §2); its size is that of the octets that will follow. */
static void add_chunk(struct flight *flight, struct job *job)
{
    const struct queue_delivery *delivery = job->delivery;
    uint64_t size = 0;

    for (uint32_t i = 0; i < delivery->piece_count; i++)
        size += delivery->pieces[i].size;
    flight_text(flight, "BDAT ");
    flight_number(flight, size);
    flight_text(flight, " LAST\r\n");
    expect_end(flight->client, COMMAND_BDAT, job);
    flight->client->needs_reset = true; /* unless it is taken: a refused chunk leaves the transaction open */
}

void client_say_next(struct client *client, struct job *job)
{
    struct flight flight;
    const struct queue_delivery *delivery = job->delivery;

    flight_begin(&flight, client);
    assert(client->gear == GEAR_LOCKSTEP || job->carrier == CARRIER_LATE_CHUNK);
    assert(job->state == JOB_ENVELOPE);
    while (job->next_target < delivery->target_count &&
           delivery->targets[job->next_target].outcome != QUEUE_RETRY)
        job->next_target++;
    if (job->next_target < delivery->target_count) {
        add_rcpt(&flight, job, job->next_target++);
    } else if (job->accepted == 0) {
        client->needs_reset = true;
        client_job_done(client, job);
    } else if (job->carrier == CARRIER_DATA) {
        add_data(&flight, job);
    } else {
        add_chunk(&flight, job);
        flight_end(&flight);
        client_say_content(client, job);
    }
    flight_end(&flight);
}

/* --- Envelope --- */

static void add_recipients(struct flight *flight, struct job *job)
{
    const struct queue_delivery *delivery = job->delivery;

    for (uint32_t i = 0; i < delivery->target_count; i++) {
        if (delivery->targets[i].outcome == QUEUE_RETRY)
            add_rcpt(flight, job, i);
    }
    job->next_target = delivery->target_count;
}

static void say_envelope(struct client *client, struct job *job)
{
    struct flight flight;

    flight_begin(&flight, client);
    client_try(client, job);
    if (client->needs_reset) {
        flight_text(&flight, "RSET\r\n");
        client_expect(client, COMMAND_RSET, NULL, 0);
        client->needs_reset = false;
    }
    add_mail(&flight, job);
    if (client->gear > GEAR_LOCKSTEP) {
        add_recipients(&flight, job);
        if (job->carrier == CARRIER_DATA)
            add_data(&flight, job);
        else if (job->carrier == CARRIER_CHUNK)
            add_chunk(&flight, job);
    }
    flight_end(&flight);
    if (job->carrier == CARRIER_CHUNK)
        client_say_content(client, job);
}

void client_begin(struct client *client, struct job *job)
{
    struct outbound *outbound = client->site->outbound;
    bool was_silent = command_queue_head(&client->commands) == NULL;

    assert(client->room != CLIENT_ROOM_NONE && job->state == JOB_WAITING);
    assert(job->site == client->site && client_is_safe(client));
    if (!client_has_room_for(client, job->delivery->target_count)) {
        client_retire(client);
        site_push_job(client->site, job, true);
        return;
    }
    job->host = client->endpoint->text;
    job->began_ms = loop_now_wall_ms(outbound->options.loop);
    if (screen_message(client, job)) {
        job_over(job);
        return;
    }
    if (command_queue_reserve(&client->commands, outbound->options.pool, job->delivery->target_count + 4) <
        0) {
        outcome_rest(job, QUEUE_DEFER, SMTP_SLICE("4.3.0 out of memory"));
        job_over(job);
        return;
    }
    if (client->state == CLIENT_READY)
        client_enter(client, CLIENT_BUSY);
    job->client = client;
    job_enter(job, JOB_ENVELOPE);
    list_push_back(&client->jobs, &job->link);
    client->job_count++;
    client->messages++;
    client->has_overlapped |= client->job_count > 1;
    client->recipients += job->delivery->target_count;
    client_update_room(client);
    say_envelope(client, job);
    if (was_silent)
        client_arm(client);
}

/* --- Content --- */

static void give_up_content(struct client *client, struct job *job, enum feed_state state)
{
    struct smtp_slice reason = SMTP_SLICE("4.3.0 stored content cannot be read");

    /* Without its final dot nothing is delivered (RFC 5321 §4.1.1.4), but only the end of the connection says
     * so. */
    if (state == FEED_DAMAGED) {
        reason = SMTP_SLICE("5.3.0 stored content damaged");
        outcome_rest(job, QUEUE_DONE, reason);
    } else if (state == FEED_INCONVERTIBLE) {
        reason = SMTP_SLICE("5.6.3 message needs 8BITMIME, and cannot be converted");
        outcome_rest(job, QUEUE_DONE, reason);
    } else {
        outcome_rest(job, QUEUE_DEFER, reason);
    }
    client_end(client, CLIENT_END_CONTENT, reason);
}

static void say_dot(struct client *client)
{
    conn_send_static(&client->conn, ".\r\n", 3);
    client_count_queued(client, 3);
}

static void end_content(struct client *client, struct job *job)
{
    job->ended_us = loop_now_us(client->site->outbound->options.loop);
    job->end_at = client->queued_bytes;
    job_enter(job, JOB_ENDED);
    client_update_room(client);
}

void client_say_content(struct client *client, struct job *job)
{
    assert(client->state == CLIENT_BUSY);
    if (job->state == JOB_ENVELOPE) {
        job_enter(job, JOB_CONTENT);
        if (job->carrier == CARRIER_DATA)
            expect_end(client, COMMAND_END, job);
    }
    enum feed_state state = feed_more(job);
    if (state == FEED_MORE)
        return;
    if (state != FEED_ALL) {
        give_up_content(client, job, state);
        return;
    }
    if (job->carrier == CARRIER_DATA)
        say_dot(client);
    end_content(client, job);
}

void client_say_nothing(struct client *client, struct job *job)
{
    assert(job->carrier == CARRIER_DATA && !client_is_lmtp(client));
    say_dot(client);
    client_expect(client, COMMAND_END, job, 0);
    job->is_for_nobody = true;
    end_content(client, job);
}
