#include "gateway/outbound/outbound.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/panic.h"
#include "gateway/outbound/client.h"
#include "gateway/outbound/job.h"
#include "gateway/outbound/lane.h"
#include "gateway/outbound/rooms.h"
#include "gateway/outbound/site.h"

enum {
    SWEEP_US = 1000000,          /* how often unused sites are looked through */
    UNUSED_VERDICT_US = 1000000, /* so long one is kept: of a verdict nothing is learned */
    UNUSED_HOP_US = 600000000,   /* of hosts: what was learned is worth something */
    UNUSED_MAX_PER_SWEEP = 1024,
    UNWILLING_US =
        20000,          /* the other worker ends, or has another configuration: it gets nothing for so long */
    VAIN_US = 60000000, /* without a delivery by its owner: the site counts as down */
};

/* --- Life --- */

static int init_buckets(struct outbound *outbound)
{
    outbound->buckets = malloc(OUTBOUND_BUCKETS * sizeof(struct list));
    if (outbound->buckets == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < OUTBOUND_BUCKETS; i++)
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

/* Whose names and addresses mail must not come back to. */
static struct resolver_settings resolver_settings(const struct config *config,
                                                  struct sockaddr_storage *addresses, size_t capacity)
{
    size_t count = 0;

    for (size_t i = 0; i < config->listener_count; i++) {
        for (size_t j = 0; j < config->listeners[i].bind_count && count < capacity; j++)
            addresses[count++] = config->listeners[i].binds[j];
    }
    return (struct resolver_settings){
        .servers = config->dns.servers,
        .server_count = config->dns.server_count,
        .trust_ad = config->dns.trust_ad,
        .own_names = &config->hostname,
        .own_name_count = 1,
        .own_addresses = addresses,
        .own_address_count = count,
    };
}

enum { OWN_ADDRESSES_MAX = 256 };

static int make_resolver(struct outbound *outbound)
{
    const struct outbound_options *options = &outbound->options;
    struct sockaddr_storage addresses[OWN_ADDRESSES_MAX];
    struct resolver_options resolver = {
        .loop = options->loop,
        .log = options->log,
        .counters = options->counters,
        .pool = options->pool,
        .settings = resolver_settings(options->policy->config, addresses, OWN_ADDRESSES_MAX),
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
    outbound->random = loop_now_us(options->loop) * 2654435761u + options->worker_index + 1;
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

static bool is_stale(const struct outbound *outbound, const struct lane_link *link)
{
    return link->query == NULL && link->expires_us <= loop_now_us(outbound->options.loop);
}

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
    else if (is_stale(outbound, link))
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

/* --- Policy --- */

static void each_site(struct outbound *outbound, void (*visit)(struct site *site))
{
    for (uint32_t i = 0; i < OUTBOUND_BUCKETS; i++) {
        list_each_safe(link, &outbound->buckets[i])
        {
            visit(list_entry(link, struct site, bucket_link));
        }
    }
    list_each_safe(link, &outbound->leaving)
    {
        visit(list_entry(link, struct site, bucket_link));
    }
}

/* Until one of the new configuration's lists claims it. */
static void disown(struct site *site)
{
    site->is_disowned = site->index != SITE_NO_INDEX;
}

static void leave_if_disowned(struct site *site)
{
    if (site->is_disowned)
        site_leave(site);
    else
        site_configure(site);
    site->is_disowned = false;
}

/* The sites of the lists of hosts in the configuration are there from the beginning: they are few, and other
 * workers look for their room. */
static int claim_sites(struct outbound *outbound, const struct config *config)
{
    for (size_t i = 0; i < config->destination_count; i++) {
        const struct destination *destination = &config->destinations[i];
        if (destination->host_count == 0)
            continue;
        struct next_hop *hop = next_hop_of_destination(config, destination);
        struct site *site = hop != NULL ? site_of_listed(outbound, hop, (uint32_t)i) : NULL;
        next_hop_unref(hop);
        if (site == NULL)
            return -ENOMEM;
        site->is_disowned = false;
    }
    return 0;
}

static void return_jobs(struct site *site)
{
    site_return_jobs(site);
    site_touch(site);
}

static int take_config(struct outbound *outbound, const struct outbound_policy *policy)
{
    struct sockaddr_storage addresses[OWN_ADDRESSES_MAX];
    const struct config *config = policy->config;
    const struct resolver_settings settings = resolver_settings(config, addresses, OWN_ADDRESSES_MAX);

    if (rooms_reserve(outbound, (uint32_t)config->destination_count) < 0 ||
        resolver_configure(outbound->resolver, &settings) < 0)
        return -ENOMEM;
    outbound->config = config;
    outbound->policy = policy;
    each_site(outbound, disown);
    int result = claim_sites(outbound, config);
    each_site(outbound, leave_if_disowned);
    if (result == 0)
        result = claim_sites(outbound, config); /* those whose section changed have just left */
    if (result < 0)
        panic("no memory to take over a new configuration");
    return 0;
}

int outbound_set_policy(struct outbound *outbound, const struct outbound_policy *policy, bool is_new_config)
{
    assert(policy != NULL && policy->config != NULL && policy->tls != NULL && policy->classes != NULL);
    bool is_new_route =
        is_new_config || outbound->policy == NULL || outbound->policy->routes.file != policy->routes.file;
    if (is_new_config && take_config(outbound, policy) < 0)
        return -ENOMEM;
    outbound->policy = policy;
    outbound->config = policy->config;
    if (!is_new_route)
        return 0;
    each_site(outbound, return_jobs);
    list_each(link, &outbound->links)
    {
        lane_route(outbound, list_entry(link, struct lane_link, all_link));
    }
    return 0;
}

/* --- Other workers --- */

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

static bool has_deferred(const struct queue_delivery *delivery)
{
    for (uint32_t i = 0; i < delivery->target_count; i++) {
        if (delivery->targets[i].outcome == QUEUE_DEFER)
            return true;
    }
    return false;
}

static bool is_done(const struct queue_delivery *delivery)
{
    for (uint32_t i = 0; i < delivery->target_count; i++) {
        if (delivery->targets[i].outcome != QUEUE_DONE)
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

/* At the owner the site seems to be down: it takes no more than one message to find out, so what is too old
 * here would wait for ever. */
static void expire_old(struct site *site)
{
    uint64_t now_us = loop_now_us(site->outbound->options.loop);

    if (site->outbound->is_draining || site->is_leaving || now_us - site->worked_us < VAIN_US)
        return;
    site_set_reason(site, "4.4.1 the site cannot be reached");
    site_defer_old(site);
}

void outbound_come_home(struct outbound *outbound, struct queue_delivery *delivery)
{
    struct outbound_gift *gift = delivery->user;
    struct site *site = gift->site;
    bool was_deferred = has_deferred(delivery);

    assert(site->outbound == outbound && site->handed > 0);
    next_hop_unref(gift->hop);
    pool_free(outbound->options.pool, gift, sizeof(*gift));
    delivery->user = NULL;
    site->handed--;
    learn_from(site, delivery);
    site_touch(site);
    report_settle(outbound, delivery, site->name);
    if (was_deferred)
        expire_old(site);
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
    return !is_listed && now_us - site->unused_since_us >= keep_us;
}

static void sweep_unused(struct outbound *outbound, uint64_t now_us)
{
    uint32_t looked = 0;

    if (now_us - outbound->swept_us < SWEEP_US && list_is_empty(&outbound->leaving))
        return;
    outbound->swept_us = now_us;
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

/* When the next turn has to come although nothing else happens. */
static void ask_for_turn(struct outbound *outbound, uint64_t now_us)
{
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
    sweep_unused(outbound, now_us);
    ask_for_turn(outbound, now_us);
}

void outbound_drain(struct outbound *outbound)
{
    outbound->is_draining = true;
    resolver_drop_pending(outbound->resolver);
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
