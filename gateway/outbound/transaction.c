/* What a client says: the commands of a message in flights as large as the gear allows, and its content. */
#include <assert.h>
#include <string.h>

#include "gateway/outbound/client.h"
#include "gateway/outbound/feed.h"
#include "gateway/outbound/outcome.h"
#include "gateway/outbound/site.h"

/* --- A flight: commands that are collected before they are handed to the connection --- */

enum { FLIGHT_SIZE = 4096 };

struct flight {
    struct client *client;
    size_t size;
    char bytes[FLIGHT_SIZE];
};

static void count_sent(struct client *client, uint64_t size)
{
    COUNTER_ADD(client->site->outbound->options.counters, bytes_sent, size);
}

/* Its bytes stay as they are: there is nothing to clear. */
static void flight_begin(struct flight *flight, struct client *client)
{
    flight->client = client;
    flight->size = 0;
}

static void flight_end(struct flight *flight)
{
    if (flight->size > 0)
        conn_send_copy(&flight->client->conn, flight->bytes, flight->size);
    count_sent(flight->client, flight->size);
    flight->size = 0;
}

static void flight_add(struct flight *flight, const char *bytes, size_t size)
{
    if (FLIGHT_SIZE - flight->size < size)
        flight_end(flight);
    assert(size <= FLIGHT_SIZE);
    memcpy(flight->bytes + flight->size, bytes, size);
    flight->size += size;
}

static void flight_text(struct flight *flight, const char *text)
{
    flight_add(flight, text, strlen(text));
}

static void flight_number(struct flight *flight, uint64_t number)
{
    char digits[20];
    size_t first = sizeof(digits);

    do {
        digits[--first] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    flight_add(flight, digits + first, sizeof(digits) - first);
}

static void expect(struct client *client, enum client_command_kind kind, struct job *job, uint32_t target)
{
    command_queue_push(&client->commands,
                       (struct client_command){.job = job, .target = target, .kind = kind});
}

/* --- Commands --- */

void client_say_hello(struct client *client, enum client_command_kind kind)
{
    struct flight flight;

    flight_begin(&flight, client);
    assert(kind == COMMAND_EHLO || kind == COMMAND_HELO);
    flight_text(&flight, kind == COMMAND_EHLO ? "EHLO " : "HELO ");
    flight_text(&flight, client->site->outbound->config->hostname);
    flight_text(&flight, "\r\n");
    expect(client, kind, NULL, 0);
    flight_end(&flight);
}

void client_say_quit(struct client *client)
{
    client_enter(client, CLIENT_QUITTING);
    client->is_retiring = true;
    client_update_room(client);
    expect(client, COMMAND_QUIT, NULL, 0);
    conn_send_static(&client->conn, "QUIT\r\n", 6);
    client_arm(client);
}

/* The form on the wire is the form stored, so the size is exact (RFC 1870 §3). A peer without 8BITMIME gets
 * 8-bit content as it is: nearly all can stand it, and a relay may not rewrite a signed message. */
static void add_mail(struct flight *flight, struct job *job)
{
    struct client *client = flight->client;
    const uint32_t is_8bit = ENVELOPE_HAS_8BIT | ENVELOPE_8BITMIME;

    flight_text(flight, "MAIL FROM:<");
    flight_add(flight, job->envelope.sender.data, job->envelope.sender.size);
    flight_text(flight, ">");
    if (client->features & SMTP_EXT_SIZE) {
        flight_text(flight, " SIZE=");
        flight_number(flight, job->delivery->content_size);
    }
    if ((client->features & SMTP_EXT_8BITMIME) && (job->envelope.flags & is_8bit))
        flight_text(flight, " BODY=8BITMIME");
    flight_text(flight, "\r\n");
    expect(client, COMMAND_MAIL, job, 0);
}

static void add_rcpt(struct flight *flight, struct job *job, uint32_t index)
{
    const struct queue_target *target = &job->delivery->targets[index];

    assert(target->outcome == QUEUE_RETRY);
    flight_text(flight, "RCPT TO:<");
    flight_add(flight, target->address, target->size);
    flight_text(flight, ">\r\n");
    expect(flight->client, COMMAND_RCPT, job, index);
}

static void add_data(struct flight *flight, struct job *job)
{
    flight_text(flight, "DATA\r\n");
    expect(flight->client, COMMAND_DATA, job, 0);
}

void client_say_next(struct client *client, struct job *job)
{
    struct flight flight;
    const struct queue_delivery *delivery = job->delivery;

    flight_begin(&flight, client);
    assert(client->gear == GEAR_LOCKSTEP);
    assert(job->state == JOB_ENVELOPE);
    while (job->next_target < delivery->target_count &&
           delivery->targets[job->next_target].outcome != QUEUE_RETRY)
        job->next_target++;
    if (job->next_target < delivery->target_count) {
        add_rcpt(&flight, job, job->next_target++);
    } else if (job->accepted > 0) {
        add_data(&flight, job);
    } else {
        client->needs_reset = true;
        client_job_done(client, job);
    }
    flight_end(&flight);
}

/* --- Envelope --- */

static bool is_sendable(const struct queue_target *target)
{
    return target->size > 0 && target->size <= QUEUE_ADDRESS_MAX &&
           memchr(target->address, '\r', target->size) == NULL &&
           memchr(target->address, '\n', target->size) == NULL;
}

/* Decides what can be decided without asking the peer. True: nothing is left to ask for. */
static bool decide_alone(struct client *client, struct job *job)
{
    struct queue_delivery *delivery = job->delivery;
    uint32_t open = 0;

    if (envelope_decode(delivery->meta, delivery->meta_size, &job->envelope) != 0) {
        outcome_rest(job, QUEUE_DEFER, SMTP_SLICE("4.3.0 stored envelope cannot be read"));
        return true;
    }
    if ((client->features & SMTP_EXT_SIZE) && client->size_limit != 0 &&
        delivery->content_size > client->size_limit) {
        outcome_rest(job, QUEUE_DONE, SMTP_SLICE("5.3.4 message is larger than the peer takes"));
        return true;
    }
    for (uint32_t i = 0; i < delivery->target_count; i++) {
        if (!is_sendable(&delivery->targets[i]))
            outcome_by_reply(job, &delivery->targets[i], 501, SMTP_SLICE("5.1.3 bad address syntax"));
        else
            open++;
    }
    return open == 0;
}

static void say_envelope(struct client *client, struct job *job)
{
    struct flight flight;
    const struct queue_delivery *delivery = job->delivery;

    flight_begin(&flight, client);
    if (client->needs_reset) {
        flight_text(&flight, "RSET\r\n");
        expect(client, COMMAND_RSET, NULL, 0);
        client->needs_reset = false;
    }
    add_mail(&flight, job);
    if (client->gear > GEAR_LOCKSTEP) {
        for (uint32_t i = 0; i < delivery->target_count; i++) {
            if (delivery->targets[i].outcome == QUEUE_RETRY)
                add_rcpt(&flight, job, i);
        }
        add_data(&flight, job);
    }
    flight_end(&flight);
}

void client_begin(struct client *client, struct job *job)
{
    struct outbound *outbound = client->site->outbound;
    bool was_silent = command_queue_head(&client->commands) == NULL;

    assert(client->room != CLIENT_ROOM_NONE && job->state == JOB_WAITING);
    assert(job->site == client->site);
    job->host = client->endpoint->text;
    job->began_ms = loop_now_wall_ms(outbound->options.loop);
    if (decide_alone(client, job)) {
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
    } else {
        outcome_rest(job, QUEUE_DEFER, reason);
    }
    client_end(client, CLIENT_END_CONTENT, reason);
}

void client_say_content(struct client *client, struct job *job)
{
    assert(client->state == CLIENT_BUSY);
    if (job->state == JOB_ENVELOPE) {
        job_enter(job, JOB_CONTENT);
        expect(client, COMMAND_END, job, 0);
    }
    enum feed_state state = feed_more(job);
    if (state == FEED_MORE)
        return;
    if (state != FEED_ALL) {
        give_up_content(client, job, state);
        return;
    }
    conn_send_static(&client->conn, ".\r\n", 3);
    count_sent(client, job->delivery->content_size + 3);
    job->ended_us = loop_now_us(client->site->outbound->options.loop);
    job_enter(job, JOB_ENDED);
    client_update_room(client);
}

void client_say_nothing(struct client *client, struct job *job)
{
    conn_send_static(&client->conn, ".\r\n", 3);
    count_sent(client, 3);
    expect(client, COMMAND_END, job, 0);
    job->is_for_nobody = true;
    job->ended_us = loop_now_us(client->site->outbound->options.loop);
    job_enter(job, JOB_ENDED);
    client_update_room(client);
}
