#include "gateway/outbound/outcome.h"

#include <assert.h>

#include "gateway/message/recipient.h"
#include "gateway/outbound/classes.h"
#include "gateway/outbound/client.h"
#include "gateway/outbound/policy.h"
#include "gateway/outbound/report.h"
#include "gateway/outbound/site.h"
#include "gateway/outbound/told.h"
#include "proto/command.h"

enum { AGE_MARGIN_MS = 60000 }; /* between this moment and the one in which the message is home, at most */

/* What is said of one or more recipients at a time. */
struct verdict {
    struct job *job;
    enum queue_outcome outcome;
    enum log_event event;
    bool is_unknown; /* perhaps delivered all the same */
    bool is_answer;  /* the peer's, not our own */
    bool is_untried; /* nobody was asked */
    uint16_t code;   /* 0: none */
    struct smtp_slice reply;
    struct smtp_slice host; /* empty: no peer has to do with it */
    struct smtp_status status;
    enum notice_class class;
    const struct told_reply *told; /* once it was remembered */
};

static uint64_t span_ms(uint64_t from_ms, uint64_t to_ms)
{
    return to_ms > from_ms ? to_ms - from_ms : 0; /* the wall clock may have been set back */
}

/* --- Log --- */

static void log_recipient(struct log_line *line, const struct queue_target *target)
{
    struct recipient recipient = recipient_decode(target->address, target->size);
    log_path(line, "to", recipient.address.data, recipient.address.size);
}

static void log_outcome(const struct verdict *verdict, const struct queue_target *target)
{
    const struct job *job = verdict->job;
    const struct queue_delivery *delivery = job->delivery;
    struct outbound *outbound = job->site->outbound;
    uint64_t now_ms = loop_now_wall_ms(outbound->options.loop);
    uint64_t arrival_ms = delivery->arrival_ms > 0 ? (uint64_t)delivery->arrival_ms : 0;
    uint64_t began_ms = job->began_ms != 0 ? job->began_ms : now_ms;
    char tls[CLIENT_TLS_TEXT_SIZE];
    struct log_line line;

    if (!log_begin(outbound->options.log, &line, verdict->event, LOG_INFO))
        return;
    log_id(&line, delivery->id);
    log_path(&line, "from", job->envelope.sender.data, job->envelope.sender.size);
    log_recipient(&line, target);
    log_u64(&line, "size", delivery->content_size);
    log_text(&line, "site", job->site->name);
    log_text(&line, "host", job->host);
    if (job->client != NULL)
        log_text(&line, "tls", client_tls_text(job->client, tls, sizeof(tls)));
    log_str(&line, "reply", verdict->reply.data, verdict->reply.size);
    if (verdict->event != LOG_DELIVER)
        log_text(&line, "class", notice_class_name(verdict->class));
    if (verdict->is_unknown)
        log_bool(&line, "possible_duplicate", true);
    log_u64(&line, "attempt", delivery->attempt);
    log_u64(&line, "delay_ms", span_ms(arrival_ms, now_ms));
    log_u64(&line, "queue_ms", span_ms(arrival_ms, began_ms));
    log_end(&line);
}

static void count(const struct verdict *verdict)
{
    struct counters *counters = verdict->job->site->outbound->options.counters;

    if (verdict->event == LOG_DELIVER)
        COUNTER_ADD(counters, recipients_delivered, 1);
    else if (verdict->event == LOG_BOUNCE)
        COUNTER_ADD(counters, bounced, 1);
    else
        COUNTER_ADD(counters, deferred, 1);
    if (verdict->is_unknown)
        COUNTER_ADD(counters, duplicates_possible, 1);
}

/* --- What will have to be told --- */

static bool is_told_of_success(const struct job *job, uint8_t notify)
{
    if (!(notify & SMTP_NOTIFY_SUCCESS))
        return false;
    return job->client == NULL || !(job->client->features & SMTP_EXT_DSN); /* else the next hop tells */
}

/* A failure is told when the sender did not forbid it. Of a deferral we know only at home whether the message
 * has expired, or whether it is late for the first time. */
static bool is_to_be_remembered(const struct verdict *verdict, const struct queue_target *target)
{
    const struct job *job = verdict->job;
    const struct outbound *outbound = job->site->outbound;
    const uint64_t late_ms = outbound->config->retry.delay_warning_ms;
    const uint8_t notify = recipient_decode(target->address, target->size).notify;

    if (verdict->event == LOG_DEFER) {
        const uint64_t soon_ms = delivery_age_ms(outbound, job->delivery) + AGE_MARGIN_MS;
        return soon_ms >= outbound->config->retry.max_age_ms ||
               (!target->marked && report_wants_delay(notify) && late_ms > 0 && soon_ms >= late_ms);
    }
    if (job->envelope.sender.size == 0)
        return false;
    return verdict->event == LOG_DELIVER ? is_told_of_success(job, notify) : report_wants_failure(notify);
}

/* Of what a host of the site has taken. */
static enum notice_action arrival_at(const struct site *site)
{
    return site->hop == NULL || site->hop->is_lmtp ? NOTICE_DELIVERED : NOTICE_RELAYED;
}

static enum notice_action action_of(const struct verdict *verdict)
{
    if (verdict->event == LOG_BOUNCE)
        return NOTICE_FAILED;
    return verdict->event == LOG_DEFER ? NOTICE_DELAYED : arrival_at(verdict->job->site);
}

/* False: no memory. */
static bool remember(struct verdict *verdict, uint32_t number)
{
    struct job *job = verdict->job;

    if (verdict->told != NULL) {
        told_share(job->delivery, number, verdict->told);
        return true;
    }
    const struct told_reply reply = {
        .action = action_of(verdict),
        .class = verdict->class,
        .code = verdict->is_answer ? verdict->code : 0,
        .status = verdict->status,
        .reply = verdict->reply,
        .host = verdict->is_answer || verdict->event == LOG_DEFER ? verdict->host : SMTP_SLICE(""),
        .at_ms = verdict->is_untried ? 0 : (int64_t)loop_now_wall_ms(job->site->outbound->options.loop),
    };
    verdict->told = told_note(job->delivery, number, &reply);
    return verdict->told != NULL;
}

/* --- Verdicts --- */

static struct verdict verdict_of(struct job *job, uint16_t code, struct smtp_slice reply,
                                 enum log_event event)
{
    const struct outbound *outbound = job->site->outbound;
    const bool has_spoken = job->client != NULL; /* nobody was asked before that */
    if (code == 0 && has_spoken)
        code = told_code(reply);
    struct verdict verdict = {
        .job = job,
        .outcome = event == LOG_DEFER ? QUEUE_DEFER : QUEUE_DONE,
        .event = event,
        .is_answer = has_spoken && code != 0,
        .code = code,
        .reply = reply,
        .status = told_status(reply),
    };
    if (has_spoken) {
        const char *host = job->client->endpoint->host;
        verdict.host = (struct smtp_slice){host, (uint32_t)strlen(host)};
    }
    if (event == LOG_DELIVER)
        return verdict;
    const struct classes_reply question = {
        .code = code, .status = verdict.status, .text = reply, .host = verdict.host};
    verdict.class = classes_find(outbound->policy->classes, &question);
    return verdict;
}

/* Nobody would hear of it: it is tried again, and perhaps there is memory then. */
static void put_off(struct verdict *verdict)
{
    static const struct smtp_slice reason = SMTP_SLICE("4.3.0 out of memory");

    *verdict = verdict_of(verdict->job, 0, reason, LOG_DEFER);
}

static void decide(struct verdict *verdict, uint32_t number)
{
    struct queue_target *target = &verdict->job->delivery->targets[number];

    assert(target->outcome == QUEUE_RETRY);
    assert(verdict->outcome == QUEUE_DONE || verdict->outcome == QUEUE_DEFER);
    const bool is_forgotten = is_to_be_remembered(verdict, target) && !remember(verdict, number);
    if (is_forgotten && verdict->event == LOG_BOUNCE)
        put_off(verdict);
    target->outcome = is_forgotten && verdict->event == LOG_DELIVER ? QUEUE_OWED : verdict->outcome;
    count(verdict);
    log_outcome(verdict, target);
}

static uint32_t decide_rest(struct verdict *verdict)
{
    const struct queue_delivery *delivery = verdict->job->delivery;
    uint32_t decided = 0;

    for (uint32_t i = 0; i < delivery->target_count; i++) {
        if (delivery->targets[i].outcome != QUEUE_RETRY)
            continue;
        decide(verdict, i);
        decided++;
    }
    return decided;
}

static enum log_event event_of(uint16_t code)
{
    if (code >= 200 && code < 300)
        return LOG_DELIVER;
    return code >= 500 && code < 600 ? LOG_BOUNCE : LOG_DEFER;
}

/* The far side says that we are too fast. */
static void feel_pressure(const struct verdict *verdict)
{
    struct job *job = verdict->job;

    if (verdict->event == LOG_DELIVER || verdict->class != NOTICE_CLASS_RATE_LIMITED || !verdict->is_answer ||
        job->has_pressed)
        return;
    job->has_pressed = true;
    site_pressed(job->site, job->client->endpoint, SITE_PRESSURE_RATE);
}

void outcome_by_reply(struct job *job, struct queue_target *target, uint16_t code, struct smtp_slice reply)
{
    struct verdict verdict = verdict_of(job, code, reply, event_of(code));

    assert(target >= job->delivery->targets);
    decide(&verdict, (uint32_t)(target - job->delivery->targets));
    feel_pressure(&verdict);
}

void outcome_rest_by_reply(struct job *job, uint16_t code, struct smtp_slice reply)
{
    struct verdict verdict = verdict_of(job, code, reply, event_of(code));

    if (decide_rest(&verdict) > 0 && verdict.event == LOG_DELIVER)
        COUNTER_ADD(job->site->outbound->options.counters, messages_delivered, 1);
    feel_pressure(&verdict);
}

void outcome_rest(struct job *job, enum queue_outcome outcome, struct smtp_slice reason)
{
    assert(outcome != QUEUE_EXPIRED);
    if (outcome == QUEUE_RETRY)
        return; /* which is what they have */
    struct verdict verdict = verdict_of(job, 0, reason, outcome == QUEUE_DONE ? LOG_BOUNCE : LOG_DEFER);
    decide_rest(&verdict);
}

void outcome_rest_unknown(struct job *job, struct smtp_slice reason)
{
    assert(job->state == JOB_ENDED);
    struct verdict verdict = verdict_of(job, 0, reason, LOG_DEFER);
    verdict.is_unknown = true;
    decide_rest(&verdict);
}

/* --- Delay without an attempt --- */

void outcome_delay_due(struct job *job, struct smtp_slice reason)
{
    const struct outbound *outbound = job->site->outbound;
    const uint64_t late_ms = outbound->config->retry.delay_warning_ms;
    struct queue_delivery *delivery = job->delivery;
    struct verdict verdict = verdict_of(job, 0, reason, LOG_DEFER);

    assert(job->state == JOB_WAITING && job->client == NULL && !job->is_guest);
    verdict.is_untried = true;
    if (late_ms == 0 || delivery_age_ms(outbound, delivery) < late_ms)
        return;
    for (uint32_t i = 0; i < delivery->target_count; i++) {
        struct queue_target *target = &delivery->targets[i];
        const uint8_t notify = recipient_decode(target->address, target->size).notify;
        assert(target->outcome == QUEUE_RETRY);
        if (target->marked)
            continue;
        if (job->envelope.sender.size == 0 || !report_wants_delay(notify))
            target->marked = true; /* there is nobody to be told */
        else if (!remember(&verdict, i))
            return; /* no memory: at another time */
    }
}

/* --- Delivered before --- */

void outcome_owed(const struct site *site, struct queue_delivery *delivery)
{
    const struct told_reply reply = {
        .action = arrival_at(site),
        .reply = SMTP_SLICE("2.0.0 it arrived at an earlier time; what the host said then was not kept"),
    };
    const struct told_reply *told = NULL;

    assert(delivery->is_owed);
    for (uint32_t i = 0; i < delivery->target_count; i++) {
        assert(delivery->targets[i].outcome == QUEUE_RETRY);
        if (told != NULL)
            told_share(delivery, i, told);
        else
            told = told_note(delivery, i, &reply);
        delivery->targets[i].outcome = told != NULL ? QUEUE_DONE : QUEUE_OWED;
    }
}

/* --- Expiry --- */

static void log_expired(struct outbound *outbound, const struct queue_delivery *delivery, uint32_t number,
                        const char *site_name)
{
    const struct told_reply *told = told_of(delivery, number);
    struct envelope envelope;
    struct log_line line;

    if (!log_begin(outbound->options.log, &line, LOG_EXPIRE, LOG_INFO))
        return;
    log_id(&line, delivery->id);
    if (envelope_decode(delivery->meta, delivery->meta_size, &envelope) == 0)
        log_path(&line, "from", envelope.sender.data, envelope.sender.size);
    log_recipient(&line, &delivery->targets[number]);
    log_u64(&line, "size", delivery->content_size);
    log_text(&line, "site", site_name);
    if (told != NULL)
        log_str(&line, "reply", told->reply.data, told->reply.size);
    log_text(&line, "class", notice_class_name(told != NULL ? told->class : NOTICE_CLASS_EXPIRED));
    log_u64(&line, "attempt", delivery->attempt);
    log_u64(&line, "delay_ms", delivery_age_ms(outbound, delivery));
    log_end(&line);
}

void outcome_expired(struct outbound *outbound, const struct queue_delivery *delivery, const char *site_name)
{
    for (uint32_t i = 0; i < delivery->target_count; i++) {
        if (delivery->targets[i].outcome != QUEUE_EXPIRED)
            continue;
        COUNTER_ADD(outbound->options.counters, expired, 1);
        log_expired(outbound, delivery, i, site_name);
    }
}
