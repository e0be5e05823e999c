/* Mail that waits for too long without being tried: senders hear that it is late, and in the end it is given
 * up. What is tried learns that when it is deferred; this is for the rest, behind a site that is down, or one
 * that takes less than comes. */
#include "gateway/outbound/job.h"
#include "gateway/outbound/lane.h"
#include "gateway/outbound/outbound.h"
#include "gateway/outbound/site.h"

enum {
    LOOKED_PER_MS = 20, /* a million in less than a minute, for some thousandths of a CPU */
    LOOKED_MAX = 20000, /* at once: some milliseconds */
    TAKEN_MAX = 1000,
    VAIN_US = 60000000,  /* without a delivery by its owner: the site counts as down */
    STUCK_US = 10000000, /* at a site that is down deliveries of others do not wait longer */
};

static bool is_served(const struct site *site, uint64_t now_us)
{
    if (site_is_ours(site))
        return site->state == SITE_UP;
    return now_us - site->worked_us < VAIN_US;
}

static void say_why(struct site *site, bool served)
{
    if (served)
        site_set_reason(site, "4.4.5 it waits for its turn: the site is given no more at a time");
    else if (!site_is_ours(site))
        site_set_reason(site, "4.4.1 the site cannot be reached");
}

/* Waits here for longer than `limit_ms`, and does so because of the site. What came back with us from a long
 * outage is to be tried first, where that can be: it has waited for us. */
static bool has_waited(struct site *site, uint64_t limit_ms)
{
    uint64_t now_us = loop_now_us(site->outbound->options.loop);

    if (site->hop == NULL || site->is_leaving || site->outbound->is_draining)
        return false;
    bool served = is_served(site, now_us);
    if (served && now_us - site->outbound->began_us < limit_ms * 1000)
        return false;
    say_why(site, served);
    return true;
}

bool site_is_late(struct site *site, const struct queue_delivery *delivery)
{
    const struct outbound *outbound = site->outbound;
    uint64_t old_ms = outbound->config->retry.max_age_ms;
    uint64_t late_ms = outbound->config->retry.delay_warning_ms;
    uint64_t age_ms = delivery_age_ms(outbound, delivery);

    if (age_ms >= old_ms)
        return has_waited(site, old_ms);
    if (late_ms == 0 || age_ms < late_ms)
        return false;
    for (uint32_t i = 0; i < delivery->target_count; i++) {
        if (!delivery->targets[i].marked)
            return has_waited(site, late_ms);
    }
    return false;
}

/* Only its own worker can tell a message's sender, or learn that its domain has other hosts now. */
void site_send_late_home(struct site *site)
{
    uint64_t now_us = loop_now_us(site->outbound->options.loop);
    bool is_stuck = site->state != SITE_UP && now_us - site->returned_us >= STUCK_US;

    if (is_stuck)
        site->returned_us = now_us;
    list_each_safe(link, &site->jobs)
    {
        struct job *job = list_entry(link, struct job, link);
        if (job->is_guest && (is_stuck || site_is_late(site, job->delivery)))
            site_return_job(site, job);
    }
}

void outbound_sweep(struct outbound *outbound, struct queue *queue, uint64_t since_us)
{
    const struct config *config = outbound->config;
    int64_t now_ms = (int64_t)loop_now_wall_ms(outbound->options.loop);
    int64_t old_ms = now_ms - (int64_t)config->retry.max_age_ms;
    uint64_t late_after_ms = config->retry.delay_warning_ms;
    int64_t late_ms = late_after_ms != 0 ? now_ms - (int64_t)late_after_ms : INT64_MIN;
    uint64_t budget = since_us / 1000 * LOOKED_PER_MS;
    uint32_t left = budget < LOOKED_MAX ? (uint32_t)budget : LOOKED_MAX;

    for (uint32_t taken = 0; taken < TAKEN_MAX && !reports_are_many(outbound);) {
        struct queue_lane *lane = queue_sweep(queue, &left, old_ms, late_ms);
        if (lane == NULL)
            return;
        struct lane_link *link = queue_lane_user(lane);
        bool is_old = queue_lane_head_arrival_ms(lane) < old_ms;
        uint64_t limit_ms = is_old ? config->retry.max_age_ms : late_after_ms;
        if (link != NULL && link->site != NULL && has_waited(link->site, limit_ms))
            taken += site_take_late(link->site, link);
    }
}
