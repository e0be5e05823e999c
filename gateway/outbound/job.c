#include "gateway/outbound/job.h"

#include <assert.h>

#include "gateway/outbound/feed.h"
#include "gateway/outbound/outcome.h"
#include "gateway/outbound/report.h"
#include "gateway/outbound/site.h"

/* What may follow each state. */
static const uint8_t job_next[JOB_STATE_COUNT] = {
    [JOB_WAITING] = 1 << JOB_ENVELOPE | 1 << JOB_OVER,
    [JOB_ENVELOPE] = 1 << JOB_CONTENT | 1 << JOB_ENDED | 1 << JOB_OVER,
    [JOB_CONTENT] = 1 << JOB_ENDED | 1 << JOB_OVER,
    [JOB_ENDED] = 1 << JOB_OVER,
    [JOB_OVER] = 0,
};

static void content_sent(struct conn_ref *ref)
{
    struct job *job = list_entry(ref, struct job, ref);
    feed_progressed(job);
    job_unhold(job);
}

/* Settles what belongs to this worker (report.h), sends the rest home. */
static void go_home(struct site *site, struct queue_delivery *delivery)
{
    struct outbound *outbound = site->outbound;

    if (outbound->options.is_local(outbound->options.context, delivery->queue))
        report_settle(outbound, delivery, site->name);
    else
        outbound->options.send_home(outbound->options.context, delivery);
}

struct job *job_new(struct site *site, struct queue_delivery *delivery)
{
    struct outbound *outbound = site->outbound;

    assert(delivery->target_count > 0);
    if (delivery->is_owed) {
        outcome_owed(site, delivery); /* only its sender is to be told */
        go_home(site, delivery);
        return NULL;
    }
    struct job *job = pool_alloc(outbound->options.pool, sizeof(*job));
    if (job == NULL) {
        for (uint32_t i = 0; i < delivery->target_count; i++)
            delivery->targets[i].outcome = QUEUE_DEFER;
        go_home(site, delivery);
        return NULL;
    }
    *job = (struct job){
        .delivery = delivery,
        .site = site,
        .owner_user = delivery->user,
        .ref = {content_sent},
        .state = JOB_WAITING,
        .is_guest = !outbound->options.is_local(outbound->options.context, delivery->queue),
    };
    if (envelope_decode(delivery->meta, delivery->meta_size, &job->envelope) < 0)
        job->envelope = (struct envelope){0}; /* for the log; client_begin decides about it */
    list_init(&job->link);
    delivery->user = job;
    site_use(site);
    return job;
}

void job_enter(struct job *job, enum job_state state)
{
    assert(state < JOB_STATE_COUNT);
    assert(job_next[job->state] & (1u << state));
    job->state = state;
}

struct queue_delivery *job_unwrap(struct job *job)
{
    struct queue_delivery *delivery = job->delivery;
    struct site *site = job->site;

    assert(job->holds == 0 && list_is_empty(&job->link));
    feed_end(job);
    delivery->user = job->owner_user;
    pool_free(site->outbound->options.pool, job, sizeof(*job));
    site_unuse(site);
    return delivery;
}

static void job_go_home(struct job *job)
{
    struct site *site = job->site;

    assert(job->state == JOB_OVER && job->holds == 0);
    site_use(site); /* its name is needed once more */
    go_home(site, job_unwrap(job));
    site_unuse(site);
}

void job_over(struct job *job)
{
    list_remove(&job->link);
    job->client = NULL;
    job_enter(job, JOB_OVER);
    if (job->holds == 0)
        job_go_home(job);
}

void job_unhold(struct job *job)
{
    assert(job->holds > 0);
    job->holds--;
    if (job->holds == 0 && job->state == JOB_OVER)
        job_go_home(job);
}

uint64_t delivery_age_ms(const struct outbound *outbound, const struct queue_delivery *delivery)
{
    int64_t age_ms = (int64_t)loop_now_wall_ms(outbound->options.loop) - delivery->arrival_ms;
    return age_ms > 0 ? (uint64_t)age_ms : 0;
}
