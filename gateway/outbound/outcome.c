#include "gateway/outbound/outcome.h"

#include <assert.h>

#include "gateway/message/recipient.h"
#include "gateway/outbound/site.h"

static uint64_t span_ms(uint64_t from_ms, uint64_t to_ms)
{
    return to_ms > from_ms ? to_ms - from_ms : 0; /* the wall clock may have been set back */
}

static void log_recipient(struct log_line *line, const struct queue_target *target)
{
    struct recipient recipient = recipient_decode(target->address, target->size);
    log_path(line, "to", recipient.address.data, recipient.address.size);
}

static void log_outcome(const struct job *job, const struct queue_target *target, enum log_event event,
                        struct smtp_slice reply, bool is_unknown)
{
    const struct queue_delivery *delivery = job->delivery;
    struct outbound *outbound = job->site->outbound;
    uint64_t now_ms = loop_now_wall_ms(outbound->options.loop);
    uint64_t arrival_ms = delivery->arrival_ms > 0 ? (uint64_t)delivery->arrival_ms : 0;
    uint64_t began_ms = job->began_ms != 0 ? job->began_ms : now_ms;
    struct log_line line;

    if (!log_begin(outbound->options.log, &line, event, LOG_INFO))
        return;
    log_id(&line, delivery->id);
    log_path(&line, "from", job->envelope.sender.data, job->envelope.sender.size);
    log_recipient(&line, target);
    log_u64(&line, "size", delivery->content_size);
    log_text(&line, "site", job->site->name);
    log_text(&line, "host", job->host);
    log_str(&line, "reply", reply.data, reply.size);
    if (is_unknown)
        log_bool(&line, "possible_duplicate", true);
    log_u64(&line, "attempt", delivery->attempt);
    log_u64(&line, "delay_ms", span_ms(arrival_ms, now_ms));
    log_u64(&line, "queue_ms", span_ms(arrival_ms, began_ms));
    log_end(&line);
}

static void decide(struct job *job, struct queue_target *target, enum queue_outcome outcome,
                   enum log_event event, struct smtp_slice reply, bool is_unknown)
{
    struct counters *counters = job->site->outbound->options.counters;

    assert(target->outcome == QUEUE_RETRY);
    assert(outcome == QUEUE_DONE || outcome == QUEUE_DEFER);
    target->outcome = outcome;
    if (event == LOG_DELIVER)
        COUNTER_ADD(counters, recipients_delivered, 1);
    else if (event == LOG_BOUNCE)
        COUNTER_ADD(counters, bounced, 1);
    else
        COUNTER_ADD(counters, deferred, 1);
    if (is_unknown)
        COUNTER_ADD(counters, duplicates_possible, 1);
    log_outcome(job, target, event, reply, is_unknown);
}

void outcome_by_reply(struct job *job, struct queue_target *target, uint16_t code, struct smtp_slice reply)
{
    if (code >= 200 && code < 300)
        decide(job, target, QUEUE_DONE, LOG_DELIVER, reply, false);
    else if (code >= 500 && code < 600)
        decide(job, target, QUEUE_DONE, LOG_BOUNCE, reply, false);
    else
        decide(job, target, QUEUE_DEFER, LOG_DEFER, reply, false);
}

void outcome_rest_by_reply(struct job *job, uint16_t code, struct smtp_slice reply)
{
    uint32_t decided = 0;

    for (uint32_t i = 0; i < job->delivery->target_count; i++) {
        struct queue_target *target = &job->delivery->targets[i];
        if (target->outcome != QUEUE_RETRY)
            continue;
        outcome_by_reply(job, target, code, reply);
        decided++;
    }
    if (decided > 0 && code >= 200 && code < 300)
        COUNTER_ADD(job->site->outbound->options.counters, messages_delivered, 1);
}

void outcome_rest(struct job *job, enum queue_outcome outcome, struct smtp_slice reason)
{
    assert(outcome != QUEUE_EXPIRED);
    if (outcome == QUEUE_RETRY)
        return; /* which is what they have */
    for (uint32_t i = 0; i < job->delivery->target_count; i++) {
        struct queue_target *target = &job->delivery->targets[i];
        if (target->outcome == QUEUE_RETRY)
            decide(job, target, outcome, outcome == QUEUE_DONE ? LOG_BOUNCE : LOG_DEFER, reason, false);
    }
}

void outcome_rest_unknown(struct job *job, struct smtp_slice reason)
{
    assert(job->state == JOB_ENDED);
    for (uint32_t i = 0; i < job->delivery->target_count; i++) {
        struct queue_target *target = &job->delivery->targets[i];
        if (target->outcome == QUEUE_RETRY)
            decide(job, target, QUEUE_DEFER, LOG_DEFER, reason, true);
    }
}

static void log_expired(struct outbound *outbound, const struct queue_delivery *delivery,
                        const struct queue_target *target, const char *site_name)
{
    uint64_t now_ms = loop_now_wall_ms(outbound->options.loop);
    struct envelope envelope;
    struct log_line line;

    if (!log_begin(outbound->options.log, &line, LOG_EXPIRE, LOG_INFO))
        return;
    log_id(&line, delivery->id);
    if (envelope_decode(delivery->meta, delivery->meta_size, &envelope) == 0)
        log_path(&line, "from", envelope.sender.data, envelope.sender.size);
    log_recipient(&line, target);
    log_u64(&line, "size", delivery->content_size);
    log_text(&line, "site", site_name);
    log_u64(&line, "attempt", delivery->attempt);
    log_u64(&line, "delay_ms",
            span_ms(delivery->arrival_ms > 0 ? (uint64_t)delivery->arrival_ms : 0, now_ms));
    log_end(&line);
}

void outcome_expired(struct outbound *outbound, const struct queue_delivery *delivery, const char *site_name)
{
    for (uint32_t i = 0; i < delivery->target_count; i++) {
        if (delivery->targets[i].outcome != QUEUE_EXPIRED)
            continue;
        COUNTER_ADD(outbound->options.counters, expired, 1);
        log_expired(outbound, delivery, &delivery->targets[i], site_name);
    }
}
