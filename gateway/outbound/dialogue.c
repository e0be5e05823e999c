/* What each reply means: the table at the end says which function reads the reply to which command. */
#include <assert.h>
#include <stdio.h>

#include "gateway/outbound/client.h"
#include "gateway/outbound/outcome.h"
#include "gateway/outbound/site.h"

static bool is_positive(uint16_t code)
{
    return code >= 200 && code < 300;
}

static bool is_negative(uint16_t code)
{
    return code >= 400 && code < 600;
}

static void end_broken(struct client *client, enum client_command_kind kind, struct smtp_slice reply)
{
    char text[256];
    int size = snprintf(text, sizeof(text), "4.5.0 unexpected reply to %s: %.*s", client_command_name(kind),
                        (int)(reply.size < 160 ? reply.size : 160), reply.data);
    assert(size > 0 && (size_t)size < sizeof(text));
    client_end(client, CLIENT_END_BROKEN, (struct smtp_slice){text, (uint32_t)size});
}

/* The reply is not one that may follow the command: nothing the peer says later can be trusted either. */
static void break_off(struct client *client, enum client_command_kind kind, struct smtp_slice reply)
{
    client_out_of_step(client, reply);
    end_broken(client, kind, reply);
}

/* The peer does not want to talk to us. */
static void turn_away(struct client *client, enum client_command_kind kind, struct smtp_slice reply)
{
    char text[256];
    int size = snprintf(text, sizeof(text), "4.3.2 %.100s refused the %s: %.*s", client->endpoint->text,
                        client_command_name(kind), (int)(reply.size < 100 ? reply.size : 100), reply.data);
    assert(size > 0 && (size_t)size < sizeof(text));
    client_end(client, CLIENT_END_REFUSED, (struct smtp_slice){text, (uint32_t)size});
}

static enum client_command_kind first_hello(const struct client *client)
{
    uint64_t now_us = loop_now_us(client->site->outbound->options.loop);
    bool is_old = now_us < client->endpoint->helo_only_until_us;

    if (client_is_lmtp(client))
        return COMMAND_LHLO;
    return is_old && !client_must_encrypt(client) && !client_must_log_in(client) ? COMMAND_HELO
                                                                                 : COMMAND_EHLO;
}

static void on_greeting(struct client *client, struct client_command command, uint16_t code,
                        struct smtp_slice reply)
{
    if (code != 220) {
        turn_away(client, command.kind, reply);
        return;
    }
    client_enter(client, CLIENT_HELLO);
    client_say_hello(client, first_hello(client));
}

static void on_hello(struct client *client, struct client_command command, uint16_t code,
                     struct smtp_slice reply)
{
    if (code == 250) {
        client_go_on(client);
    } else if (command.kind == COMMAND_EHLO && code >= 500) {
        client->features = 0; /* RFC 5321 §3.2: an old server, try HELO */
        client->mechanisms = 0;
        client_say_hello(client, COMMAND_HELO);
    } else {
        turn_away(client, command.kind, reply);
    }
}

static void on_starttls(struct client *client, struct client_command command, uint16_t code,
                        struct smtp_slice reply)
{
    client_on_starttls(client, code, reply);
}

static void on_auth(struct client *client, struct client_command command, uint16_t code,
                    struct smtp_slice reply)
{
    if (code == 334 || code == 235 || is_negative(code))
        client_on_auth(client, code, reply);
    else
        break_off(client, command.kind, reply);
}

/* Never called: while hands are shaken nothing of what the peer says is a reply. */
static void on_nothing(struct client *client, struct client_command command, uint16_t code,
                       struct smtp_slice reply)
{
    break_off(client, command.kind, reply);
}

static void on_reset(struct client *client, struct client_command command, uint16_t code,
                     struct smtp_slice reply)
{
    if (!is_positive(code)) {
        break_off(client, command.kind, reply);
        return;
    }
    if (!client->has_free_reset)
        client->resets++;
    client->has_free_reset = false;
}

/* The peer contradicts what it announced, or what it was told: it cannot follow in this gear. */
static void lose_way(struct client *client, enum client_command_kind kind, struct smtp_slice reply)
{
    endpoint_confused(client->endpoint, client->gear, loop_now_us(client->site->outbound->options.loop));
    end_broken(client, kind, reply);
}

static void on_mail(struct client *client, struct client_command command, uint16_t code,
                    struct smtp_slice reply)
{
    struct job *job = command.job;

    if (code == 503 && client->gear == GEAR_STREAM && client->concluded > 0) {
        lose_way(client, command.kind, reply);
    } else if (is_negative(code)) {
        outcome_rest_by_reply(job, code, reply);
        job->mail_refused = true;
        if (client->gear == GEAR_LOCKSTEP) {
            client->needs_reset = true;
            client_job_done(client, job);
        }
    } else if (!is_positive(code)) {
        break_off(client, command.kind, reply);
    } else if (client->gear == GEAR_LOCKSTEP) {
        client_say_next(client, job);
    }
}

static void on_rcpt(struct client *client, struct client_command command, uint16_t code,
                    struct smtp_slice reply)
{
    struct job *job = command.job;

    assert(command.target < job->delivery->target_count);
    if (!job->mail_refused) {
        if (!is_positive(code) && !is_negative(code)) {
            break_off(client, command.kind, reply);
            return;
        }
        job->answered++;
        if (is_positive(code))
            job->accepted++;
        else
            outcome_by_reply(job, &job->delivery->targets[command.target], code, reply);
    }
    bool is_last = command_queue_head(&client->commands) == NULL;
    if (client->gear == GEAR_LOCKSTEP || (job->carrier == CARRIER_LATE_CHUNK && is_last))
        client_say_next(client, job);
}

/* The connection ends, and it is nobody's fault but the peer's way of speaking. */
static void end_concluded(struct client *client, struct smtp_slice reply)
{
    client->concluded++;
    site_endpoint_worked(client->site, client->endpoint, false);
    client_end(client, CLIENT_END_CONTENT, reply);
}

static void on_data(struct client *client, struct client_command command, uint16_t code,
                    struct smtp_slice reply)
{
    struct job *job = command.job;

    if (code == 354) {
        client_in_step(client);
        if (job->accepted > 0)
            client_say_content(client, job);
        else if (client_is_lmtp(client))
            end_concluded(client, reply); /* how many replies there would be to a lone dot, nobody knows */
        else
            client_say_nothing(client, job); /* RFC 2920 §3.1: it asked for content of a message to nobody */
    } else if (is_negative(code)) {
        outcome_rest_by_reply(job, code, reply);
        client->needs_reset = true;
        client_job_done(client, job);
    } else {
        break_off(client, command.kind, reply);
    }
}

/* The peer decided before it had all: its answer holds if it is a refusal, and only a close stops our
 * sending. */
static void on_early_end(struct client *client, struct client_command command, uint16_t code,
                         struct smtp_slice reply)
{
    if (!is_negative(code)) {
        break_off(client, command.kind, reply);
        return;
    }
    if (client_is_lmtp(client))
        outcome_by_reply(command.job, &command.job->delivery->targets[command.target], code, reply);
    else
        outcome_rest_by_reply(command.job, code, reply);
    end_concluded(client, reply);
}

static void measure_end(struct client *client, const struct job *job)
{
    struct site *site = client->site;
    uint64_t took_us = loop_now_us(site->outbound->options.loop) - job->ended_us;
    uint32_t sample_us = took_us < UINT32_MAX / 8 ? (uint32_t)took_us : UINT32_MAX / 8;

    site->end_us = site->end_us - site->end_us / 8 + sample_us / 8;
}

/* RFC 2033 §4.2: an answer for each recipient that was accepted, in their order. */
static void take_share(struct client *client, struct client_command command, uint16_t code,
                       struct smtp_slice reply)
{
    struct job *job = command.job;
    const struct client_command *next = command_queue_head(&client->commands);

    outcome_by_reply(job, &job->delivery->targets[command.target], code, reply);
    client->has_delivered |= is_positive(code);
    if (next != NULL && next->job == job)
        return;
    if (client->has_delivered) {
        COUNTER_ADD(client->site->outbound->options.counters, messages_delivered, 1);
        client->has_free_reset = true;
    }
    client->has_delivered = false;
    measure_end(client, job);
    client_job_done(client, job);
}

static void on_end(struct client *client, struct client_command command, uint16_t code,
                   struct smtp_slice reply)
{
    struct job *job = command.job;
    bool is_early = job->state == JOB_CONTENT || !client_has_sent(client, job);
    /* A chunk that was refused is read to its end all the same: its size is known (RFC 3030 §2). */
    bool is_in_step = command.kind == COMMAND_BDAT && job->state == JOB_ENDED && is_negative(code);

    if (is_early && !is_in_step) {
        on_early_end(client, command, code, reply);
    } else if (!is_positive(code) && !is_negative(code)) {
        break_off(client, command.kind, reply);
    } else if (client_is_lmtp(client)) {
        take_share(client, command, code, reply);
    } else {
        assert(job->state == JOB_ENDED);
        if (!job->is_for_nobody)
            outcome_rest_by_reply(job, code, reply);
        if (is_positive(code))
            client->has_free_reset = true;
        measure_end(client, job);
        client_job_done(client, job);
    }
}

/* Recipients were accepted, and yet the peer does not know what to do with the chunk; then it may even read
 * the content as commands. */
static bool is_confused(const struct client *client, const struct job *job, uint16_t code)
{
    return client->gear == GEAR_STREAM && job->accepted > 0 && code >= 500 && code <= 504 &&
           !(job->envelope.flags & ENVELOPE_BINARYMIME); /* which could not be sent in any other way */
}

static void on_chunk(struct client *client, struct client_command command, uint16_t code,
                     struct smtp_slice reply)
{
    struct job *job = command.job;

    if (is_confused(client, job, code)) {
        lose_way(client, command.kind, reply);
        return;
    }
    if (is_positive(code) && client->job_count == 1)
        client->needs_reset = false;
    if (is_positive(code))
        client->unproven++;
    on_end(client, command, code, reply);
}

static void on_quit(struct client *client, struct client_command command, uint16_t code,
                    struct smtp_slice reply)
{
    if (code != 221 && client->unproven > 0)
        client_out_of_step(client, reply);
    client_end(client, CLIENT_END_DONE, reply);
}

typedef void reply_reader(struct client *client, struct client_command command, uint16_t code,
                          struct smtp_slice reply);

static reply_reader *const readers[] = {
    [COMMAND_GREETING] = on_greeting, [COMMAND_EHLO] = on_hello,        [COMMAND_HELO] = on_hello,
    [COMMAND_LHLO] = on_hello,        [COMMAND_STARTTLS] = on_starttls, [COMMAND_TLS] = on_nothing,
    [COMMAND_AUTH] = on_auth,         [COMMAND_RSET] = on_reset,        [COMMAND_MAIL] = on_mail,
    [COMMAND_RCPT] = on_rcpt,         [COMMAND_DATA] = on_data,         [COMMAND_END] = on_end,
    [COMMAND_BDAT] = on_chunk,        [COMMAND_QUIT] = on_quit,
};

/* RFC 5321 §3.8: may come at any time, and ends the conversation. */
static void on_farewell(struct client *client, const struct client_command *head, struct smtp_slice reply)
{
    bool is_end = head != NULL && client_command_is_end(head->kind);
    if (is_end && client_is_lmtp(client))
        outcome_by_reply(head->job, &head->job->delivery->targets[head->target], 421, reply);
    client_end(client, CLIENT_END_CLOSING, reply);
}

void client_on_reply(struct client *client, uint16_t code, struct smtp_slice reply)
{
    const struct client_command *head = command_queue_head(&client->commands);

    assert(client->state != CLIENT_CLOSING);
    if (code == 421) {
        on_farewell(client, head, reply);
        return;
    }
    if (head == NULL) {
        client_out_of_step(client, reply);
        client_end(client, CLIENT_END_BROKEN, SMTP_SLICE("4.5.0 reply without a command"));
        return;
    }
    struct client_command command = *head;
    assert(command.kind < sizeof(readers) / sizeof(readers[0]));
    command_queue_pop(&client->commands);
    client->current = command.job;
    readers[command.kind](client, command, code, reply);
    client->current = NULL;
}
