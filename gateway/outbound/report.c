#include "gateway/outbound/report.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "gateway/outbound/job.h"
#include "gateway/outbound/outbound.h"
#include "gateway/outbound/outcome.h"
#include "gateway/outbound/report_inner.h"
#include "gateway/outbound/site.h"
#include "gateway/outbound/told.h"

static int64_t now_of(const struct outbound *outbound)
{
    return (int64_t)loop_now_wall_ms(outbound->options.loop);
}

void reports_init(struct reports *reports)
{
    *reports = (struct reports){0};
    list_init(&reports->waiting);
    list_init(&reports->open);
}

uint32_t report_count(const struct outbound *outbound)
{
    return outbound->reports.waiting_count + outbound->reports.open_count;
}

bool reports_are_many(const struct outbound *outbound)
{
    return outbound->reports.are_many;
}

/* --- Who is told --- */

/* enum notice_kind, or REPORT_NOBODY. The outcomes are final: queue_judge has seen them. */
static uint8_t kind_of(const struct outbound *outbound, const struct queue_delivery *delivery,
                       uint32_t number)
{
    const struct queue_target *target = &delivery->targets[number];
    const uint8_t notify = recipient_decode(target->address, target->size).notify;
    const struct told_reply *told = told_of(delivery, number);
    const uint64_t late_ms = outbound->config->retry.delay_warning_ms;

    switch (target->outcome) {
    case QUEUE_RETRY:
        if (told != NULL) /* outcome_delay_due */
            return NOTICE_DELAY;
        break;
    case QUEUE_DONE:
        if (told != NULL) /* only of what is to be told */
            return told->action == NOTICE_FAILED ? NOTICE_FAILURE : NOTICE_SUCCESS;
        break;
    case QUEUE_EXPIRED:
        if (report_wants_failure(notify))
            return NOTICE_FAILURE;
        break;
    case QUEUE_DEFER:
        if (late_ms > 0 && !target->marked && report_wants_delay(notify) &&
            delivery_age_ms(outbound, delivery) >= late_ms)
            return NOTICE_DELAY;
        break;
    case QUEUE_OWED:
        break;
    }
    return REPORT_NOBODY;
}

static bool has_anything(const struct outbound *outbound, const struct queue_delivery *delivery)
{
    for (uint32_t i = 0; i < delivery->target_count; i++) {
        if (kind_of(outbound, delivery, i) != REPORT_NOBODY)
            return true;
    }
    return false;
}

/* Ordinary mail was delivered, and nothing is remembered of it. */
static bool is_ordinary(const struct queue_delivery *delivery)
{
    if (delivery->told != NULL)
        return false;
    for (uint32_t i = 0; i < delivery->target_count; i++) {
        if (delivery->targets[i].outcome == QUEUE_DEFER)
            return false;
    }
    return true;
}

/* --- Home --- */

static void release(struct outbound *outbound, struct queue_delivery *delivery, const char *site_name)
{
    outcome_expired(outbound, delivery, site_name);
    told_free(delivery);
    queue_release(delivery);
}

static void settle_silently(struct outbound *outbound, struct queue_delivery *delivery, const char *site_name)
{
    queue_settle(delivery, now_of(outbound));
    release(outbound, delivery, site_name);
}

static void set_marks(struct report *report, bool marked)
{
    for (uint32_t i = 0; i < report->delivery->target_count; i++) {
        if (report->kinds[i] == NOTICE_DELAY)
            report->delivery->targets[i].marked = marked;
    }
}

/* --- A report's life --- */

/* NULL: no memory. */
static struct report *report_new(struct outbound *outbound, struct queue_delivery *delivery,
                                 const struct envelope *envelope, const char *site_name)
{
    const size_t name_size = site_name != NULL ? strlen(site_name) + 1 : 0;
    const size_t size = sizeof(struct report) + delivery->target_count + name_size;
    struct report *report = pool_alloc(outbound->options.pool, size);

    if (report == NULL)
        return NULL;
    *report = (struct report){
        .outbound = outbound,
        .delivery = delivery,
        .envelope = *envelope,
        .size = size,
    };
    list_init(&report->link);
    for (uint32_t i = 0; i < delivery->target_count; i++)
        report->kinds[i] = kind_of(outbound, delivery, i);
    if (site_name != NULL)
        report->site_name = memcpy(report->kinds + delivery->target_count, site_name, name_size);
    return report;
}

static void report_free(struct report *report)
{
    struct reports *reports = &report->outbound->reports;

    report_close(report);
    if (!list_is_empty(&report->link)) {
        uint32_t *count = report->state == REPORT_WAITING ? &reports->waiting_count : &reports->open_count;
        assert(*count > 0);
        (*count)--;
        list_remove(&report->link);
    }
    pool_free(report->outbound->options.pool, report, report->size);
}

/* All is recorded, or nobody is told: the delivery goes, and the report. */
static void end(struct report *report)
{
    struct outbound *outbound = report->outbound;
    struct queue_delivery *delivery = report->delivery;

    report_close(report); /* before the memory that it reads from */
    release(outbound, delivery, report->site_name);
    report_free(report);
}

/* Of what cannot be told now: what was given up stays, as the next attempt will end in the same way; what has
 * arrived is not sent again, and its sender is still owed the notice. */
static enum queue_outcome outcome_untold(enum notice_kind kind)
{
    return kind == NOTICE_FAILURE ? QUEUE_DEFER : QUEUE_OWED;
}

static bool is_too_old(const struct report *report)
{
    return delivery_age_ms(report->outbound, report->delivery) >= report->outbound->config->retry.max_age_ms;
}

/* The notices cannot be stored. */
static void give_up(struct report *report, int error)
{
    struct queue_delivery *delivery = report->delivery;

    report_log_failure(report, error);
    report_close(report);
    if (is_too_old(report))
        report_suppress(report, NOTICE_SUCCESS, "max-age");
    for (uint32_t i = 0; i < delivery->target_count; i++) {
        if (report->kinds[i] == NOTICE_FAILURE || report->kinds[i] == NOTICE_SUCCESS)
            delivery->targets[i].outcome = outcome_untold(report->kinds[i]);
    }
    set_marks(report, false);
    queue_settle(delivery, now_of(report->outbound));
    end(report);
}

/* The queue closes: all of it is done again after the next start. */
static void give_back(struct report *report)
{
    struct queue_delivery *delivery = report->delivery;

    for (uint32_t i = 0; i < delivery->target_count; i++)
        delivery->targets[i].outcome = QUEUE_RETRY;
    set_marks(report, false);
    queue_settle(delivery, now_of(report->outbound));
    end(report);
}

static void settled(void *context, struct queue_delivery *delivery, int error)
{
    struct report *report = context;

    assert(report->state == REPORT_SETTLING && report->delivery == delivery);
    if (error == -ECANCELED) {
        give_back(report);
    } else if (error < 0) {
        give_up(report, error);
    } else {
        COUNTER_ADD(report->outbound->options.counters, notices_sent, report->notice_count);
        for (uint32_t i = 0; i < report->notice_count; i++)
            report_log_notice(report, &report->work->notices[i]);
        end(report);
    }
}

static int store(struct report *report)
{
    struct queue_companion companions[REPORT_NOTICES_MAX];
    struct report_work *work = report->work;

    for (uint32_t i = 0; i < report->notice_count; i++) {
        work->envelopes[i] = (struct queue_envelope){
            .meta = work->notices[i].meta,
            .meta_size = work->notices[i].meta_size,
            .recipients = work->address,
            .recipients_size = work->address_size,
            .recipient_count = 1,
        };
        companions[i] = (struct queue_companion){work->notices[i].draft, &work->envelopes[i]};
    }
    set_marks(report, true);
    const int error = queue_settle_with(report->delivery, companions, report->notice_count,
                                        now_of(report->outbound), settled, report);
    for (uint32_t i = 0; error == 0 && i < report->notice_count; i++)
        work->notices[i].draft = NULL; /* the queue's */
    return error;
}

/* One state further. 0, -EAGAIN: again later; else a negative errno: it cannot be stored. */
static int step(struct report *report)
{
    int error = 0;

    switch (report->state) {
    case REPORT_WAITING:
        return -EAGAIN;
    case REPORT_OPENING:
        error = report_open(report);
        break;
    case REPORT_READING:
        error = report_read_header(report);
        break;
    case REPORT_WRITING:
        error = report_write(report);
        break;
    case REPORT_STORING:
        error = store(report);
        break;
    case REPORT_SETTLING:
        return -EAGAIN;
    }
    if (error == 0)
        report->state++;
    return error;
}

/* A notice with the whole content can be more than the log takes, at all or while it is so busy. */
static bool is_too_much(const struct report *report, int error)
{
    return (error == -EMSGSIZE || error == -ETIMEDOUT) && !report->without_content &&
           (report->state == REPORT_WRITING || report->state == REPORT_STORING);
}

static void go_on(struct report *report)
{
    int error;

    do {
        error = step(report);
        if (is_too_much(report, error)) {
            report_rewind(report);
            report->state = REPORT_WRITING;
            error = 0;
        }
    } while (error == 0);
    if (error != -EAGAIN)
        give_up(report, error);
}

/* --- The door --- */

static void push_waiting(struct reports *reports, struct report *report)
{
    list_push_back(&reports->waiting, &report->link);
    reports->waiting_count++;
    if (reports->waiting_count >= REPORTS_MANY)
        reports->are_many = true;
}

/* Between the two marks lies enough for the sites to be worth waking. */
static void allow_more(struct outbound *outbound)
{
    struct reports *reports = &outbound->reports;

    if (!reports->are_many || reports->waiting_count > REPORTS_MANY / 2)
        return;
    reports->are_many = false;
    site_each(outbound, site_touch);
    loop_wake_within(outbound->options.loop, 0);
}

static void open_some(struct reports *reports)
{
    while (reports->open_count < REPORTS_OPEN_MAX && !list_is_empty(&reports->waiting)) {
        struct report *report = list_entry(list_pop_front(&reports->waiting), struct report, link);
        assert(report->state == REPORT_WAITING);
        report->state = REPORT_OPENING;
        list_push_back(&reports->open, &report->link);
        reports->waiting_count--;
        reports->open_count++;
    }
}

void report_pump(struct outbound *outbound)
{
    struct reports *reports = &outbound->reports;

    open_some(reports);
    list_each_safe(link, &reports->open)
    {
        go_on(list_entry(link, struct report, link));
    }
    if (reports->open_count < REPORTS_OPEN_MAX && !list_is_empty(&reports->waiting))
        loop_wake_within(outbound->options.loop, 0);
    allow_more(outbound);
}

static void report_begin(struct report *report)
{
    struct outbound *outbound = report->outbound;

    if (!report_apply_limits(report)) {
        queue_settle(report->delivery, now_of(outbound));
        end(report);
    } else {
        push_waiting(&outbound->reports, report);
        loop_wake_within(outbound->options.loop, 0);
    }
}

/* There is not even the memory to decide. */
static void settle_for_now(struct outbound *outbound, struct queue_delivery *delivery, const char *site_name)
{
    for (uint32_t i = 0; i < delivery->target_count; i++) {
        const uint8_t kind = kind_of(outbound, delivery, i);
        if (kind == NOTICE_FAILURE || kind == NOTICE_SUCCESS)
            delivery->targets[i].outcome = outcome_untold(kind);
    }
    settle_silently(outbound, delivery, site_name);
}

void report_settle(struct outbound *outbound, struct queue_delivery *delivery, const char *site_name)
{
    struct envelope envelope;

    assert(outbound->options.is_local(outbound->options.context, delivery->queue));
    if (is_ordinary(delivery)) {
        settle_silently(outbound, delivery, site_name);
        return;
    }
    queue_judge(delivery, now_of(outbound));
    if (!has_anything(outbound, delivery) ||
        envelope_decode(delivery->meta, delivery->meta_size, &envelope) != 0 || envelope.sender.size == 0) {
        settle_silently(outbound, delivery, site_name);
        return;
    }
    struct report *report = report_new(outbound, delivery, &envelope, site_name);
    if (report != NULL)
        report_begin(report);
    else
        settle_for_now(outbound, delivery, site_name);
}
