/* What waits for a site: in the lanes of the queue, and here. */
#include <assert.h>

#include "gateway/outbound/job.h"
#include "gateway/outbound/lane.h"
#include "gateway/outbound/outcome.h"
#include "gateway/outbound/site.h"

enum {
    VERDICT_RECIPIENTS = 1000, /* of a message that share a verdict */
    NO_MEMORY_US = 100000,     /* the queue had none for a delivery: ask again */
};

static bool lane_rides(void *context, struct queue_lane *lane)
{
    const struct lane_link *link = queue_lane_user(lane);
    return link != NULL && link->site == context;
}

static struct smtp_slice slice_of(const char *text)
{
    return (struct smtp_slice){text, (uint32_t)strlen(text)};
}

/* Our own verdicts begin with an enhanced code; those that look like a reply were said by a route, or stand
 * in an RFC as one. */
static bool is_reply(const char *text)
{
    return text[0] >= '2' && text[0] <= '5' && text[1] != '.';
}

static void defer_job(struct job *job)
{
    const struct site *site = job->site;

    if (site->hop != NULL)
        outcome_rest(job, QUEUE_DEFER, slice_of(site->reason));
    else if (is_reply(site->verdict_text))
        outcome_rest_by_reply(job, site->verdict_code, slice_of(site->verdict_text));
    else
        outcome_rest(job, site->verdict_code >= 500 ? QUEUE_DONE : QUEUE_DEFER, slice_of(site->verdict_text));
    job_over(job);
}

void site_push_job(struct site *site, struct job *job, bool first)
{
    assert(job->site == site && job->state == JOB_WAITING);
    if (first)
        list_push_front(&site->jobs, &job->link);
    else
        list_push_back(&site->jobs, &job->link);
    site->job_count++;
    site_touch(site);
}

struct job *site_pop_job(struct site *site)
{
    struct list *link = list_pop_front(&site->jobs);

    if (link == NULL)
        return NULL;
    assert(site->job_count > 0);
    site->job_count--;
    return list_entry(link, struct job, link);
}

void site_return_job(struct site *site, struct job *job)
{
    list_remove(&job->link);
    assert(site->job_count > 0);
    site->job_count--;
    job_over(job); /* its targets still say QUEUE_RETRY */
}

void site_return_jobs(struct site *site)
{
    struct job *job;
    while ((job = site_pop_job(site)) != NULL)
        job_over(job); /* its targets still say QUEUE_RETRY */
    assert(site->job_count == 0);
}

/* The common part of both kinds of queue_taken. */
static struct job *taken(struct site *site, struct queue_delivery *delivery)
{
    struct job *job = NULL;

    assert(site->taking > 0);
    site->taking--;
    site_touch(site); /* it may have waited for this one only */
    if (delivery != NULL) {
        delivery->user = NULL;
        job = job_new(site, delivery);
    }
    site_unuse(site);
    return job;
}

static void taken_to_wait(void *context, struct queue_delivery *delivery)
{
    struct site *site = context;
    struct job *job = taken(site, delivery);
    if (job != NULL)
        site_push_job(site, job, false);
}

static void taken_to_defer(void *context, struct queue_delivery *delivery)
{
    struct job *job = taken(context, delivery);
    if (job != NULL)
        defer_job(job);
}

static bool is_too_old(const struct job *job)
{
    const struct outbound *outbound = job->site->outbound;
    return delivery_age_ms(outbound, job->delivery) >= outbound->config->retry.max_age_ms;
}

static void judge_late(struct job *job)
{
    if (is_too_old(job)) {
        defer_job(job);
        return;
    }
    outcome_delay_due(job, slice_of(job->site->reason));
    job_over(job);
}

static void taken_late(void *context, struct queue_delivery *delivery)
{
    struct job *job = taken(context, delivery);
    if (job != NULL)
        judge_late(job);
}

void site_judge_late(struct site *site, struct queue_delivery *delivery)
{
    struct job *job = job_new(site, delivery);
    if (job != NULL)
        judge_late(job);
}

/* Of one message. */
static uint32_t recipients_max(const struct site *site)
{
    uint32_t most = site->limits.recipients_per_message;
    uint32_t per_connection = site->limits.recipients_per_connection;

    if (site->hop == NULL)
        return VERDICT_RECIPIENTS;
    return per_connection != 0 && per_connection < most ? per_connection : most;
}

static bool take_from(struct site *site, struct lane_link *link, queue_taken *then)
{
    site->taking++;
    site_use(site);
    if (queue_take(link->lane, recipients_max(site), lane_rides, then, site))
        return true; /* the lane, and `link` with it, may be gone */
    site->taking--;
    site_unuse(site);
    if (queue_lane_ready_count(link->lane) == 0)
        list_remove(&link->ready_link); /* lane_ready brings it back */
    else
        site_set_alarm(site, loop_now_us(site->outbound->options.loop) + NO_MEMORY_US);
    return false;
}

/* The lanes take turns. A lane that never empties asks again in passing when the answer of the DNS is too
 * old, and may lead elsewhere then. */
static struct lane_link *next_lane(struct site *site)
{
    struct outbound *outbound = site->outbound;
    struct list *first;

    while ((first = list_first(&site->ready)) != NULL) {
        struct lane_link *link = list_entry(first, struct lane_link, ready_link);
        list_remove(first);
        list_push_back(&site->ready, first);
        if (lane_is_stale(link, loop_now_us(outbound->options.loop)))
            lane_route(outbound, link);
        if (link->site == site)
            return link;
    }
    return NULL;
}

static bool take_next(struct site *site, queue_taken *then)
{
    struct lane_link *link;

    while ((link = next_lane(site)) != NULL) {
        if (take_from(site, link, then))
            return true;
        if (!list_is_empty(&link->ready_link))
            return false; /* no memory */
    }
    return false;
}

bool site_take(struct site *site)
{
    return !reports_are_many(site->outbound) && take_next(site, taken_to_wait);
}

void site_defer_head(struct site *site)
{
    struct job *job = site_pop_job(site);
    if (job != NULL)
        defer_job(job);
    else
        (void)take_next(site, taken_to_defer);
}

bool site_take_late(struct site *site, struct lane_link *link)
{
    return take_from(site, link, taken_late);
}

uint64_t site_waiting(struct site *site, uint64_t enough)
{
    uint64_t count = (uint64_t)site->job_count + site->taking;

    list_each_safe(item, &site->ready)
    {
        if (count >= enough)
            break;
        struct lane_link *link = list_entry(item, struct lane_link, ready_link);
        uint64_t ready = queue_lane_ready_count(link->lane);
        if (ready == 0)
            list_remove(item); /* emptied by a ride; lane_ready brings it back */
        count += ready;
    }
    return count;
}
