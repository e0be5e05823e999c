#include "gateway/outbound/outbound.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/panic.h"
#include "gateway/message/recipient.h"
#include "gateway/outbound/client.h"
#include "gateway/outbound/job.h"
#include "gateway/outbound/lane.h"
#include "gateway/outbound/rooms.h"
#include "gateway/outbound/site.h"

/* --- Life --- */

int outbound_init(struct outbound *outbound, const struct outbound_options *options)
{
    assert(options->worker_count > 0 && options->worker_index < options->worker_count);
    assert(options->send_home != NULL && options->is_local != NULL && options->read_piece != NULL);
    *outbound = (struct outbound){.options = *options};
    list_init(&outbound->leaving);
    list_init(&outbound->links);
    list_init(&outbound->dirty);
    list_init(&outbound->alarms);
    list_init(&outbound->feeding);
    outbound->random = loop_now_us(options->loop) * 2654435761u + options->worker_index + 1;
    if (outbound->random == 0)
        outbound->random = 1;
    outbound->nowhere = site_new(outbound, NULL);
    if (outbound->nowhere == NULL)
        return -ENOMEM;
    int result = outbound_set_config(outbound, options->config);
    if (result < 0) {
        site_free(outbound->nowhere);
        rooms_deinit(outbound);
        outbound->nowhere = NULL;
    }
    return result;
}

void outbound_deinit(struct outbound *outbound)
{
    struct list *link;

    if (outbound->nowhere == NULL)
        return;
    assert(outbound->session_count == 0);
    while ((link = list_pop_front(&outbound->links)) != NULL) {
        struct lane_link *lane = list_entry(link, struct lane_link, all_link);
        list_remove(&lane->ready_link);
        pool_free(outbound->options.pool, lane, sizeof(*lane));
    }
    while ((link = list_pop_front(&outbound->leaving)) != NULL)
        site_free(list_entry(link, struct site, leaving_link));
    for (uint32_t i = 0; i < outbound->site_count; i++)
        site_free(outbound->sites[i]);
    site_free(outbound->nowhere);
    free(outbound->sites);
    rooms_deinit(outbound);
    outbound->nowhere = NULL;
}

uint32_t outbound_session_count(const struct outbound *outbound)
{
    return outbound->session_count;
}

/* --- Routes --- */

static struct site *find_site(struct outbound *outbound, const char *domain, size_t size)
{
    const struct config_route *route = config_route_find(outbound->config, domain, size);

    if (route == NULL)
        return outbound->nowhere;
    assert(route->site->index < outbound->site_count);
    return outbound->sites[route->site->index];
}

/* The domain of an address; what has none (<postmaster>) is ours. */
static struct site *find_site_of(struct outbound *outbound, const struct queue_target *target)
{
    struct smtp_slice address = recipient_decode(target->address, target->size).address;
    const char *at = address.size > 0 ? memrchr(address.data, '@', address.size) : NULL;

    if (at == NULL)
        return find_site(outbound, outbound->config->hostname, strlen(outbound->config->hostname));
    return find_site(outbound, at + 1, (size_t)(address.data + address.size - at - 1));
}

static void map_lane(struct outbound *outbound, struct lane_link *link)
{
    uint32_t size;
    const char *key = queue_lane_key(link->lane, &size);

    list_remove(&link->ready_link);
    link->site = find_site(outbound, key, size);
    if (queue_lane_ready_count(link->lane) == 0)
        return;
    list_push_back(&link->site->ready, &link->ready_link);
    site_touch(link->site);
}

void outbound_lane_ready(struct outbound *outbound, struct queue_lane *lane)
{
    struct lane_link *link = queue_lane_user(lane);

    if (link == NULL) {
        link = pool_alloc(outbound->options.pool, sizeof(*link));
        if (link == NULL)
            panic("no memory to remember a lane of waiting mail");
        *link = (struct lane_link){.lane = lane};
        list_init(&link->all_link);
        list_init(&link->ready_link);
        list_push_back(&outbound->links, &link->all_link);
        queue_lane_set_user(lane, link);
        map_lane(outbound, link);
    } else if (list_is_empty(&link->ready_link)) {
        list_push_back(&link->site->ready, &link->ready_link);
    }
    site_touch(link->site);
}

void outbound_lane_gone(struct outbound *outbound, struct queue_lane *lane)
{
    struct lane_link *link = queue_lane_user(lane);

    if (link == NULL)
        return;
    assert(link->lane == lane);
    list_remove(&link->ready_link);
    list_remove(&link->all_link);
    queue_lane_set_user(lane, NULL);
    pool_free(outbound->options.pool, link, sizeof(*link));
}

/* --- Configuration --- */

static struct site *find_same(struct outbound *outbound, const struct config_site *config)
{
    for (uint32_t i = 0; i < outbound->site_count; i++) {
        if (outbound->sites[i] != NULL && site_is_same(outbound->sites[i], config))
            return outbound->sites[i];
    }
    return NULL;
}

/* A site for each of the snapshot's; those that are kept are taken out of outbound->sites only when all
 * succeeded. */
static struct site **prepare_sites(struct outbound *outbound, const struct config *config)
{
    struct site **sites = calloc(config->site_count > 0 ? config->site_count : 1, sizeof(struct site *));

    if (sites == NULL)
        return NULL;
    for (size_t i = 0; i < config->site_count; i++) {
        sites[i] = find_same(outbound, &config->sites[i]);
        if (sites[i] == NULL)
            sites[i] = site_new(outbound, &config->sites[i]);
        if (sites[i] != NULL)
            continue;
        while (i-- > 0) {
            if (find_same(outbound, &config->sites[i]) != sites[i])
                site_free(sites[i]);
        }
        free(sites);
        return NULL;
    }
    return sites;
}

static void replace_sites(struct outbound *outbound, const struct config *config, struct site **sites)
{
    for (uint32_t i = 0; i < outbound->site_count; i++)
        outbound->sites[i]->index = SITE_NO_INDEX;
    for (size_t i = 0; i < config->site_count; i++) {
        site_configure(sites[i], &config->sites[i]);
        site_touch(sites[i]);
    }
    for (uint32_t i = 0; i < outbound->site_count; i++) {
        if (outbound->sites[i]->index == SITE_NO_INDEX)
            site_leave(outbound->sites[i]);
    }
    free(outbound->sites);
    outbound->sites = sites;
    outbound->site_count = (uint32_t)config->site_count;
}

int outbound_set_config(struct outbound *outbound, const struct config *config)
{
    assert(config != NULL);
    if (rooms_reserve(outbound, (uint32_t)config->site_count) < 0)
        return -ENOMEM;
    struct site **sites = prepare_sites(outbound, config);
    if (sites == NULL)
        return -ENOMEM;
    replace_sites(outbound, config, sites);
    outbound->config = config;
    list_each(link, &outbound->links)
    {
        map_lane(outbound, list_entry(link, struct lane_link, all_link));
    }
    return 0;
}

/* --- Other workers --- */

void outbound_accept_handover(struct outbound *outbound, struct queue_delivery *delivery)
{
    assert(!outbound->options.is_local(outbound->options.context, delivery->queue));
    struct job *job = job_new(find_site_of(outbound, &delivery->targets[0]), delivery);
    if (job != NULL)
        site_push_job(job->site, job, false);
}

void outbound_come_home(struct outbound *outbound, struct queue_delivery *delivery)
{
    struct site *site = delivery->user; /* as it was when it was handed over */

    assert(site != NULL && site->handed > 0);
    site->handed--;
    site_touch(site);
    delivery_settle(outbound, delivery, site->name);
    site_unuse(site);
}

/* --- Turns --- */

static void feed_sessions(struct outbound *outbound)
{
    struct list *link;
    struct list now;

    list_init(&now);
    list_splice_back(&now, &outbound->feeding);
    while ((link = list_pop_front(&now)) != NULL)
        client_feed(list_entry(link, struct client, feeding_link));
}

static void ring_alarms(struct outbound *outbound, uint64_t now_us)
{
    list_each_safe(link, &outbound->alarms)
    {
        struct site *site = list_entry(link, struct site, alarm_link);
        if (site->alarm_us > now_us)
            continue;
        site->alarm_us = UINT64_MAX;
        list_remove(link);
        site_touch(site);
    }
}

/* When the next turn has to come although nothing else happens. */
static void ask_for_turn(struct outbound *outbound, uint64_t now_us)
{
    if (!list_is_empty(&outbound->dirty) || !list_is_empty(&outbound->feeding))
        loop_wake_within(outbound->options.loop, 0);
    list_each(link, &outbound->alarms)
    {
        uint64_t at_us = list_entry(link, struct site, alarm_link)->alarm_us;
        loop_wake_within(outbound->options.loop, at_us > now_us ? at_us - now_us : 0);
    }
}

void outbound_pump(struct outbound *outbound)
{
    uint64_t now_us = loop_now_us(outbound->options.loop);
    struct list *link;
    struct list now;

    feed_sessions(outbound);
    ring_alarms(outbound, now_us);
    list_init(&now);
    list_splice_back(&now, &outbound->dirty);
    while ((link = list_pop_front(&now)) != NULL)
        site_pump(list_entry(link, struct site, dirty_link));
    ask_for_turn(outbound, now_us);
}

static void each_site(struct outbound *outbound, void (*visit)(struct site *site))
{
    for (uint32_t i = 0; i < outbound->site_count; i++)
        visit(outbound->sites[i]);
    visit(outbound->nowhere);
    list_each_safe(link, &outbound->leaving)
    {
        visit(list_entry(link, struct site, leaving_link));
    }
}

void outbound_drain(struct outbound *outbound)
{
    outbound->is_draining = true;
    each_site(outbound, site_touch);
}

static void stop_site(struct site *site)
{
    site_return_jobs(site);
    list_each_safe(link, &site->sessions)
    {
        client_end(list_entry(link, struct client, site_link), CLIENT_END_STOPPED,
                   SMTP_SLICE("4.3.2 we are shutting down"));
    }
}

void outbound_stop(struct outbound *outbound)
{
    outbound_drain(outbound);
    each_site(outbound, stop_site);
}
