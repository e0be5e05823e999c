#include "gateway/outbound/outbound.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/panic.h"
#include "gateway/outbound/client.h"
#include "gateway/outbound/group.h"
#include "gateway/outbound/job.h"
#include "gateway/outbound/lane.h"
#include "gateway/outbound/rooms.h"
#include "gateway/outbound/site.h"

enum {
    SWEEP_US = 1000000,          /* how often sites are looked through */
    UNUSED_VERDICT_US = 1000000, /* so long one is kept: of a verdict nothing is learned */
    UNUSED_HOP_US = 600000000,   /* of hosts: what was learned is worth something */
    UNUSED_MAX_PER_SWEEP = 1024,
};

/* --- Life --- */

static int init_buckets(struct outbound *outbound)
{
    outbound->buckets = malloc(2 * OUTBOUND_BUCKETS * sizeof(struct list));
    if (outbound->buckets == NULL)
        return -ENOMEM;
    outbound->hosts = outbound->buckets + OUTBOUND_BUCKETS;
    for (uint32_t i = 0; i < 2 * OUTBOUND_BUCKETS; i++)
        list_init(&outbound->buckets[i]);
    return 0;
}

static void init_lists(struct outbound *outbound)
{
    struct list *lists[] = {&outbound->leaving, &outbound->links,  &outbound->dirty, &outbound->alarms,
                            &outbound->feeding, &outbound->groups, &outbound->unused};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        list_init(lists[i]);
}

static int make_resolver(struct outbound *outbound)
{
    const struct outbound_options *options = &outbound->options;
    struct sockaddr_storage addresses[POLICY_ADDRESSES_MAX];
    struct resolver_options resolver = {
        .loop = options->loop,
        .log = options->log,
        .counters = options->counters,
        .pool = options->pool,
        .settings = policy_resolver(options->policy, addresses),
        .resolv_conf = options->resolv_conf,
    };
    return resolver_new(&resolver, &outbound->resolver);
}

static int init_parts(struct outbound *outbound)
{
    int result = init_buckets(outbound);

    if (result == 0)
        result = make_resolver(outbound);
    if (result < 0)
        return result;
    outbound->no_memory = site_of_verdict(outbound, 451, "4.3.0 no memory to find the next hop");
    if (outbound->no_memory == NULL)
        return -ENOMEM;
    site_use(outbound->no_memory);
    return outbound_set_policy(outbound, outbound->options.policy, true);
}

int outbound_init(struct outbound *outbound, const struct outbound_options *options)
{
    assert(options->worker_count > 0 && options->worker_index < options->worker_count);
    assert(options->send_home != NULL && options->is_local != NULL && options->read_piece != NULL);
    assert(options->worker_count == 1 || (options->hand_to && options->ask && options->answer));
    *outbound = (struct outbound){.options = *options, .alarm_us = UINT64_MAX};
    init_lists(outbound);
    reports_init(&outbound->reports);
    outbound->began_us = loop_now_us(options->loop);
    outbound->random = outbound->began_us * 2654435761u + options->worker_index + 1;
    if (outbound->random == 0)
        outbound->random = 1;
    int result = init_parts(outbound);
    if (result < 0)
        outbound_deinit(outbound);
    return result;
}

/* The lane itself may be gone already. */
static void free_link(struct outbound *outbound, struct lane_link *link)
{
    lane_forget_query(link);
    list_remove(&link->ready_link);
    list_remove(&link->all_link);
    if (link->site != NULL)
        site_unuse(link->site);
    pool_free(outbound->options.pool, link, sizeof(*link));
}

static void free_sites(struct list *sites)
{
    struct list *link;
    while ((link = list_first(sites)) != NULL)
        site_free(list_entry(link, struct site, bucket_link));
}

void outbound_deinit(struct outbound *outbound)
{
    struct list *link;

    if (outbound->buckets == NULL)
        return;
    assert(outbound->session_count == 0 && outbound->query_count == 0);
    while ((link = list_pop_front(&outbound->links)) != NULL)
        free_link(outbound, list_entry(link, struct lane_link, all_link));
    if (outbound->no_memory != NULL)
        site_unuse(outbound->no_memory);
    for (uint32_t i = 0; i < OUTBOUND_BUCKETS; i++)
        free_sites(&outbound->buckets[i]);
    free_sites(&outbound->leaving);
    groups_sweep(outbound, true);
    free(outbound->buckets);
    outbound->buckets = NULL;
    resolver_free(outbound->resolver);
    rooms_deinit(outbound);
}

uint32_t outbound_session_count(const struct outbound *outbound)
{
    return outbound->session_count;
}

bool outbound_is_quiet(const struct outbound *outbound)
{
    return outbound->session_count == 0 && outbound->query_count == 0 && report_count(outbound) == 0 &&
           resolver_is_idle(outbound->resolver);
}

uint64_t outbound_random(struct outbound *outbound)
{
    uint64_t x = outbound->random; /* xorshift64 */
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    outbound->random = x;
    return x;
}

/* --- Lanes --- */

static struct lane_link *new_link(struct outbound *outbound, struct queue_lane *lane)
{
    struct lane_link *link = pool_alloc(outbound->options.pool, sizeof(*link));

    if (link == NULL)
        panic("no memory to remember a lane of waiting mail");
    *link = (struct lane_link){.lane = lane, .expires_us = UINT64_MAX};
    list_init(&link->all_link);
    list_init(&link->ready_link);
    list_push_back(&outbound->links, &link->all_link);
    queue_lane_set_user(lane, link);
    lane_route(outbound, link);
    return link;
}

void outbound_lane_ready(struct outbound *outbound, struct queue_lane *lane)
{
    struct lane_link *link = queue_lane_user(lane);

    if (link == NULL)
        link = new_link(outbound, lane);
    else if (lane_is_stale(link, loop_now_us(outbound->options.loop)))
        lane_route(outbound, link);
    if (link->site == NULL)
        return; /* the answer of the DNS brings it */
    if (list_is_empty(&link->ready_link))
        list_push_back(&link->site->ready, &link->ready_link);
    site_touch(link->site);
}

void outbound_lane_gone(struct outbound *outbound, struct queue_lane *lane)
{
    struct lane_link *link = queue_lane_user(lane);

    if (link == NULL)
        return;
    assert(link->lane == lane);
    queue_lane_set_user(lane, NULL);
    free_link(outbound, link);
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

/* Thousands of sites may have one, so they are gone through only when one is due. */
static void ring_alarms(struct outbound *outbound, uint64_t now_us)
{
    if (now_us < outbound->alarm_us)
        return;
    outbound->alarm_us = UINT64_MAX;
    list_each_safe(link, &outbound->alarms)
    {
        struct site *site = list_entry(link, struct site, alarm_link);
        if (site->alarm_us > now_us) {
            outbound->alarm_us = site->alarm_us < outbound->alarm_us ? site->alarm_us : outbound->alarm_us;
            continue;
        }
        site->alarm_us = UINT64_MAX;
        list_remove(link);
        site_touch(site);
    }
}

static bool is_worn_out(const struct site *site, uint64_t now_us)
{
    uint64_t keep_us = site->hop != NULL ? UNUSED_HOP_US : UNUSED_VERDICT_US;
    bool is_listed = site->index != SITE_NO_INDEX;

    if (site->is_leaving)
        return true;
    return !is_listed && now_us - site->unused_since_us >= keep_us && !site_remembers(site, now_us);
}

static void sweep_sites(struct outbound *outbound, uint64_t now_us)
{
    bool is_time = now_us - outbound->swept_us >= SWEEP_US;
    uint32_t looked = 0;

    if (!is_time && list_is_empty(&outbound->leaving))
        return;
    if (is_time) {
        outbound->swept_us = now_us;
        site_each(outbound, site_send_late_home);
        groups_sweep(outbound, false);
    }
    list_each_safe(link, &outbound->unused)
    {
        struct site *site = list_entry(link, struct site, unused_link);
        if (looked++ >= UNUSED_MAX_PER_SWEEP)
            return;
        if (is_worn_out(site, now_us))
            site_free(site);
        else
            list_remove(link),
                list_push_back(&outbound->unused, link); /* so that the next look sees others */
    }
}

void outbound_ask_for_turn(struct outbound *outbound)
{
    uint64_t now_us = loop_now_us(outbound->options.loop);

    if (!list_is_empty(&outbound->dirty) || !list_is_empty(&outbound->feeding))
        loop_wake_within(outbound->options.loop, 0);
    if (outbound->alarm_us != UINT64_MAX)
        loop_wake_within(outbound->options.loop,
                         outbound->alarm_us > now_us ? outbound->alarm_us - now_us : 0);
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
    report_pump(outbound);
    sweep_sites(outbound, now_us);
}

void outbound_drain(struct outbound *outbound)
{
    outbound->is_draining = true;
    resolver_drop_pending(outbound->resolver);
    site_each(outbound, site_touch);
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
    site_each(outbound, stop_site);
}
