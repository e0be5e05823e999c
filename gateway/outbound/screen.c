#include "gateway/outbound/screen.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "gateway/message/recipient.h"
#include "gateway/outbound/convert.h"
#include "gateway/outbound/outcome.h"
#include "gateway/outbound/site.h"

enum {
    SCREEN_REASON_SIZE = 128 + ENDPOINT_TEXT_SIZE,
    SCREEN_COUNT_MAX = 1 << 20, /* octets that are gone through before anything is said */
};

/* What stands in a command line must not end it. */
static bool fits_a_line(struct smtp_slice text)
{
    for (uint32_t i = 0; i < text.size; i++) {
        if ((unsigned char)text.data[i] < ' ')
            return false;
    }
    return true;
}

static bool is_sendable(const struct queue_target *target)
{
    if (target->size == 0 || target->size > QUEUE_ADDRESS_MAX)
        return false;
    struct recipient recipient = recipient_decode(target->address, target->size);
    return recipient.address.size > 0 && fits_a_line(recipient.address) && fits_a_line(recipient.orcpt);
}

/* The extension that the message cannot do without and the peer does not offer, with the status that says so;
 * NULL: there is none. */
static const char *missing_extension(const struct client *client, uint32_t flags)
{
    const uint32_t binary = SMTP_EXT_CHUNKING | SMTP_EXT_BINARYMIME;

    if ((flags & ENVELOPE_SMTPUTF8) && !(client->features & SMTP_EXT_SMTPUTF8))
        return "5.6.7 message needs SMTPUTF8";
    if ((flags & ENVELOPE_BINARYMIME) && (client->features & binary) != binary)
        return "5.6.3 message needs BINARYMIME";
    /* Undeclared, it was never promised to arrive unharmed; in life it mostly does, when it is sent as it is.
     */
    const uint32_t declared = ENVELOPE_HAS_8BIT | ENVELOPE_8BITMIME;
    if ((flags & declared) == declared && !(client->features & SMTP_EXT_8BITMIME))
        return "5.6.3 message needs 8BITMIME";
    return NULL;
}

/* `obstacle`: why the message cannot be changed so that it would do; NULL: that was not tried. */
static void refuse_for_lack(const struct client *client, struct job *job, const char *lack,
                            const char *obstacle)
{
    char text[SCREEN_REASON_SIZE];
    int size =
        snprintf(text, sizeof(text), "%s, which %s does not offer%s%s", lack, client->endpoint->text,
                 obstacle != NULL ? "; it cannot be converted: " : "", obstacle != NULL ? obstacle : "");

    assert(size > 0 && (size_t)size < sizeof(text));
    outcome_rest(job, QUEUE_DONE, (struct smtp_slice){text, (uint32_t)size});
}

/* With other lacks the message would need its 8 bits all the same. */
static bool may_convert(const struct client *client, uint32_t flags)
{
    return client->site->outbound->config->outbound.convert_8bit && (flags & ENVELOPE_HAS_8BIT) &&
           !(flags & (ENVELOPE_BINARYMIME | ENVELOPE_SMTPUTF8)) && !(client->features & SMTP_EXT_8BITMIME);
}

/* True: everybody has an outcome, for the message can go neither as it is nor converted. */
static bool screen_extensions(const struct client *client, struct job *job)
{
    const char *lack = missing_extension(client, job->envelope.flags);
    const char *obstacle = NULL;

    if (may_convert(client, job->envelope.flags)) {
        int verdict = convert_begin(job);
        if (verdict < 0) {
            outcome_rest(job, QUEUE_DEFER, SMTP_SLICE("4.3.0 out of memory"));
            return true;
        }
        if (verdict == RECODE_POSSIBLE || verdict == RECODE_NOTHING)
            return false;
        obstacle = recode_verdict_text((enum recode_verdict)verdict);
    }
    if (lack == NULL)
        return false;
    refuse_for_lack(client, job, lack, obstacle);
    return true;
}

static bool is_in_memory(const struct queue_delivery *delivery)
{
    for (uint32_t i = 0; i < delivery->piece_count; i++) {
        if (delivery->pieces[i].data == NULL)
            return false;
    }
    return true;
}

/*
 * A chunk that was announced can only be completed or the connection be closed, which would leave the
 * messages ahead of it without their replies. So content that has still to be read, and may prove unreadable,
 * waits until all before it is answered.
 */
static enum job_carrier choose_carrier(const struct client *client, const struct job *job)
{
    bool is_binary = job->envelope.flags & ENVELOPE_BINARYMIME;
    bool is_chunk = is_binary || !(job->envelope.flags & ENVELOPE_DOT_LINES);

    if (job->convert != NULL)
        return CARRIER_DATA; /* a chunk begins with its size */
    if (client_may_stream(client) && is_chunk && is_in_memory(job->delivery))
        return CARRIER_CHUNK;
    return is_binary ? CARRIER_LATE_CHUNK : CARRIER_DATA;
}

static bool screen_recipients(struct job *job)
{
    struct queue_delivery *delivery = job->delivery;
    uint32_t open = 0;

    for (uint32_t i = 0; i < delivery->target_count; i++) {
        if (is_sendable(&delivery->targets[i]))
            open++;
        else
            outcome_by_reply(job, &delivery->targets[i], 501, SMTP_SLICE("5.1.3 bad address syntax"));
    }
    return open == 0;
}

/* How many lines begin with a dot: each of those was stuffed (RFC 5321 §4.5.2). */
static uint64_t count_dot_lines(const struct queue_delivery *delivery)
{
    uint64_t count = 0;
    char before = '\n';

    for (uint32_t i = 0; i < delivery->piece_count; i++) {
        const char *at = delivery->pieces[i].data;
        const char *end = at + delivery->pieces[i].size;
        if (at == end)
            continue;
        count += before == '\n' && *at == '.';
        while ((at = memchr(at, '\n', (size_t)(end - at))) != NULL && ++at < end)
            count += *at == '.';
        before = end[-1];
    }
    return count;
}

/*
 * The peer counts without the stuffed dots (RFC 1870 §3), which are stored. Where it costs too much to count
 * them, they are a quarter at the most, as when nothing else stands in the lines: only what is too large even
 * so is refused here, the rest is left to the peer. True: everybody has an outcome.
 */
static bool screen_size(const struct client *client, struct job *job)
{
    const struct queue_delivery *delivery = job->delivery;
    uint64_t limit = client->size_limit != 0 ? client->size_limit : UINT64_MAX;
    uint64_t least = delivery->content_size;

    job->size = delivery->content_size;
    if (!(client->features & SMTP_EXT_SIZE))
        return false;
    if (job->envelope.flags & ENVELOPE_DOT_LINES) {
        bool is_known = delivery->content_size <= SCREEN_COUNT_MAX && is_in_memory(delivery);
        least -= is_known ? count_dot_lines(delivery) : least / 4;
        if (is_known || job->size > limit)
            job->size = is_known ? least : limit;
    }
    if (least <= limit)
        return false;
    outcome_rest(job, QUEUE_DONE, SMTP_SLICE("5.3.4 message is larger than the peer takes"));
    return true;
}

bool screen_message(const struct client *client, struct job *job)
{
    const struct queue_delivery *delivery = job->delivery;

    assert(job->state == JOB_WAITING);
    if (envelope_decode(delivery->meta, delivery->meta_size, &job->envelope) != 0 ||
        !fits_a_line(job->envelope.sender) || !fits_a_line(job->envelope.envid)) {
        outcome_rest(job, QUEUE_DEFER, SMTP_SLICE("4.3.0 stored envelope cannot be read"));
        return true;
    }
    if (screen_size(client, job) || screen_extensions(client, job))
        return true;
    job->carrier = choose_carrier(client, job);
    return screen_recipients(job);
}
