/* What a site gives to other workers: to the one that it belongs to, or, if it is spread, to those with room.
 */
#include <assert.h>

#include "gateway/outbound/job.h"
#include "gateway/outbound/site.h"

enum {
    OFFERS_MAX = 8,         /* deliveries offered in one pump */
    GIFTS_MAX = 256,        /* deliveries given to the owner in one pump */
    OFFERED_MAX = 64,       /* deliveries of one site that others may hold, if it is spread */
    OFFER_AGAIN_US = 20000, /* nobody had room: ask again */
    STUCK_US = 60000000,    /* nobody had room for so long: look for mail that is too old */
    WAITING_PER_CONNECTION = 2,
};

/* The next delivery that may be given away, or NULL. */
static struct job *next_to_give(struct site *site)
{
    if (list_is_empty(&site->jobs) && (!site_take(site) || list_is_empty(&site->jobs)))
        return NULL;
    struct job *job = site_pop_job(site);
    if (!job->is_guest)
        return job;
    site_push_job(site, job, true);
    return NULL;
}

static bool send_away(struct site *site, struct queue_delivery *delivery)
{
    const struct outbound_options *options = &site->outbound->options;

    if (site->is_spread)
        return options->hand_over(options->context, site->index, delivery);
    return options->hand_to(options->context, site->owner, delivery);
}

/* From the moment it is sent, the delivery and its gift are the other worker's. */
static bool give(struct site *site, struct job *job)
{
    struct pool *pool = site->outbound->options.pool;
    struct outbound_gift *gift = pool_alloc(pool, sizeof(*gift));

    if (gift == NULL) {
        site_push_job(site, job, true);
        return false;
    }
    *gift = (struct outbound_gift){site, next_hop_ref(site->hop)};
    site_use(site);
    site->handed++;
    struct queue_delivery *delivery = job_unwrap(job);
    delivery->user = gift;
    if (send_away(site, delivery))
        return true;
    site->handed--;
    next_hop_unref(gift->hop);
    pool_free(pool, gift, sizeof(*gift));
    delivery->user = NULL;
    job = job_new(site, delivery);
    if (job != NULL)
        site_push_job(site, job, true);
    site_unuse(site);
    return false;
}

/* Nobody takes what waits. */
static void note_refusal(struct site *site, uint64_t now_us)
{
    if (site->share > 0)
        return;
    if (site->refused_since_us == 0)
        site->refused_since_us = now_us;
    if (now_us - site->refused_since_us >= STUCK_US) {
        site_set_reason(site, "4.4.1 no connection is free");
        site_defer_old(site);
        site->refused_since_us = now_us;
    }
    site_set_alarm(site, now_us + OFFER_AGAIN_US);
}

static void offer_to_all(struct site *site, uint64_t now_us)
{
    uint64_t sessions = site->session_count - site->closing;
    uint64_t ours = (sessions > 0 ? sessions : 1) * WAITING_PER_CONNECTION;

    if (site->share == 0)
        ours = 0;
    for (uint32_t i = 0; i < OFFERS_MAX && site->handed < OFFERED_MAX; i++) {
        if (site_waiting(site, ours + 1) <= ours)
            return;
        struct job *job = next_to_give(site);
        if (job == NULL)
            return;
        if (!give(site, job)) {
            note_refusal(site, now_us);
            return;
        }
        site->refused_since_us = 0;
    }
}

static void give_to_owner(struct site *site, uint64_t now_us)
{
    for (uint32_t i = 0; i < GIFTS_MAX && site->handed < site->handed_max; i++) {
        if (site_waiting(site, 1) == 0)
            return;
        struct job *job = next_to_give(site);
        if (job == NULL)
            return;
        if (!give(site, job)) {
            site_set_alarm(site, now_us + OFFER_AGAIN_US);
            return;
        }
    }
}

void site_hand_over(struct site *site)
{
    const struct outbound_options *options = &site->outbound->options;
    uint64_t now_us = loop_now_us(options->loop);

    if (options->worker_count < 2)
        return;
    if (now_us < site->give_after_us) {
        site_set_alarm(site, site->give_after_us);
        return;
    }
    if (!site->is_spread && site->share == 0)
        give_to_owner(site, now_us);
    else if (site->is_spread && options->hand_over != NULL && site->state == SITE_UP)
        offer_to_all(site, now_us);
}
