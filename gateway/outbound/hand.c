/* What a site gives to other workers: to the one that it belongs to, or, if it is spread, to those with room;
 * what comes from others, and what comes home. */
#include <assert.h>

#include "gateway/outbound/job.h"
#include "gateway/outbound/site.h"

enum {
    OFFERS_MAX = 8,         /* deliveries offered in one pump */
    GIFTS_MAX = 256,        /* deliveries given to the owner in one pump */
    OFFERED_MAX = 64,       /* deliveries of one site that others may hold, if it is spread */
    OFFER_AGAIN_US = 20000, /* nobody had room: ask again */
    WAITING_PER_CONNECTION = 2,
    UNWILLING_US =
        20000, /* the other worker ends, or has another configuration: it gets nothing for so long */
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
            if (site->share == 0)
                site_set_alarm(site, now_us + OFFER_AGAIN_US);
            return;
        }
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

/* --- From other workers --- */

void outbound_accept_handover(struct outbound *outbound, struct queue_delivery *delivery)
{
    const struct outbound_gift *gift = delivery->user;

    assert(!outbound->options.is_local(outbound->options.context, delivery->queue));
    assert(gift != NULL && gift->hop != NULL);
    struct site *site = outbound->is_draining ? NULL : site_of_hop(outbound, gift->hop);
    /* While a new configuration is taken over by one worker after the other, the giver may know another
     * owner. */
    if (site == NULL || !site_is_ours(site)) {
        outbound->options.send_home(outbound->options.context, delivery); /* untried */
        return;
    }
    struct job *job = job_new(site, delivery);
    if (job != NULL)
        site_push_job(site, job, false);
}

static bool is_done(const struct queue_delivery *delivery)
{
    for (uint32_t i = 0; i < delivery->target_count; i++) {
        if (delivery->targets[i].outcome != QUEUE_DONE && delivery->targets[i].outcome != QUEUE_OWED)
            return false;
    }
    return true;
}

static bool is_untried(const struct queue_delivery *delivery)
{
    for (uint32_t i = 0; i < delivery->target_count; i++) {
        if (delivery->targets[i].outcome != QUEUE_RETRY)
            return false;
    }
    return true;
}

/* How many may be at the owner at a time grows with each that it delivers. */
static void learn_from(struct site *site, const struct queue_delivery *delivery)
{
    uint64_t now_us = loop_now_us(site->outbound->options.loop);

    if (is_untried(delivery)) {
        site->give_after_us = now_us + UNWILLING_US;
    } else if (is_done(delivery)) {
        site->handed_max += site->handed_max < SITE_HANDED_MAX ? 1 : 0;
        site->worked_us = now_us;
    } else if (site->handed_max > SITE_HANDED_MIN) {
        site->handed_max--;
    }
}

void outbound_come_home(struct outbound *outbound, struct queue_delivery *delivery)
{
    struct outbound_gift *gift = delivery->user;
    struct site *site = gift->site;

    assert(site->outbound == outbound && site->handed > 0);
    next_hop_unref(gift->hop);
    pool_free(outbound->options.pool, gift, sizeof(*gift));
    delivery->user = NULL;
    site->handed--;
    learn_from(site, delivery);
    site_touch(site);
    if (is_untried(delivery) && site_is_late(site, delivery))
        site_judge_late(site, delivery);
    else
        report_settle(outbound, delivery, site->name);
    site_unuse(site);
}
