#include "gateway/outbound/site.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/outbound/client.h"
#include "gateway/outbound/group.h"
#include "gateway/outbound/job.h"
#include "gateway/outbound/probe.h"

enum {
    HOST_BACKOFF_MS = 30000,
    SITE_BACKOFF_MS = 1000,
    SITE_BACKOFF_GROWTH_MAX = 60,
    SITE_JITTER_PERCENT = 20,
    RENEW_US = 30000000,
};

static uint64_t now_of(const struct site *site)
{
    return loop_now_us(site->outbound->options.loop);
}

/* --- Finding and making --- */

static struct list *bucket_of(struct outbound *outbound, uint64_t hash)
{
    return &outbound->buckets[hash % OUTBOUND_BUCKETS];
}

static struct site *find(struct outbound *outbound, uint64_t hash, const char *key)
{
    list_each(link, bucket_of(outbound, hash))
    {
        struct site *site = list_entry(link, struct site, bucket_link);
        if (site->hash == hash && strcmp(site->key, key) == 0 && !site->is_leaving)
            return site;
    }
    return NULL;
}

void site_each(struct outbound *outbound, void (*visit)(struct site *site))
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

static struct site *site_new(struct outbound *outbound)
{
    struct site *site = calloc(1, sizeof(*site));

    if (site == NULL)
        return NULL;
    site->outbound = outbound;
    site->index = SITE_NO_INDEX;
    site->alarm_us = UINT64_MAX;
    site->handed_max = SITE_HANDED_MIN;
    struct list *lists[] = {
        &site->bucket_link, &site->dirty_link,    &site->alarm_link,   &site->unused_link, &site->spare_link,
        &site->endpoints,   &site->old_endpoints, &site->ready,        &site->jobs,        &site->sessions,
        &site->idle,        &site->half,          &site->waiting_link, &site->turn_link,
    };
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        list_init(lists[i]);
    return site;
}

static void enlist(struct site *site, uint64_t hash, const char *key)
{
    site->hash = hash;
    site->key = key;
    list_push_back(bucket_of(site->outbound, hash), &site->bucket_link);
    site->unused_since_us = now_of(site);
    list_push_back(&site->outbound->unused, &site->unused_link);
}

/* --- Limits --- */

static const struct config_limits *find_limits(const struct site *site)
{
    return next_hop_limits(site->outbound->config, site->hop);
}

/* Only a number of connections can be divided and still be used in full. It is for lists of hosts in the
 * configuration; what else shares their section is divided with them, or the section's limit would hold for
 * each sort of site by itself. */
static bool can_divide(const struct site *site, const struct config_limits *limits)
{
    bool has_list = limits->index != 0 ? limits->has_list : site->index != SITE_NO_INDEX;
    return has_list && limits->connections_per_host == 0 && limits->connections_per_second == 0 &&
           limits->messages_per_second == 0 && limits->messages_per_minute == 0 &&
           limits->messages_per_hour == 0;
}

static uint32_t part_of(uint32_t whole, uint32_t index, uint32_t count)
{
    return whole / count + (index < whole % count ? 1 : 0);
}

/* What the limits say about this worker's part. */
static void divide(struct site *site, const struct config_limits *limits)
{
    const struct outbound_options *options = &site->outbound->options;
    uint64_t hash = limits->index != 0 ? next_hop_hash(limits->pattern) : site->hop->hash;
    uint32_t owners = options->worker_count; /* the first so many may be it */

    site->limits = *limits;
    site->is_divided = can_divide(site, limits);
    site->is_spread = site->is_divided && site->index != SITE_NO_INDEX;
    if (site->is_divided && limits->connections < owners)
        owners = limits->connections; /* those that have a part */
    site->owner = (uint32_t)(hash % owners);
    if (site->is_divided) {
        site->share = part_of(limits->connections, options->worker_index, options->worker_count);
        site->limits.connections = site->share > 0 ? site->share : 1;
    } else {
        site->share = site->owner == options->worker_index ? limits->connections : 0;
    }
}

/* All sites of a section share one, on each worker. */
static struct group *find_group(struct site *site, const struct config_limits *limits)
{
    const char *key = limits->index != 0 ? limits->pattern : NULL;
    return group_find(site->outbound, key, &site->limits);
}

static int join_group(struct site *site, const struct config_limits *limits)
{
    divide(site, limits);
    site->group = find_group(site, limits);
    if (site->group == NULL)
        return -1;
    return 0;
}

static void leave_group(struct site *site)
{
    if (site->group == NULL)
        return;
    group_end_turn(site->group, site);
    group_end_wait(site->group, site);
    list_remove(&site->spare_link);
    group_release(site->group);
    site->group = NULL;
}

/* --- Life --- */

/* What the workers' sites of a next hop share, when several of them connect to it. */
static int join_probe(struct site *site)
{
    struct probes *probes = site->outbound->options.probes;

    if (!site->is_divided || probes == NULL)
        return 0;
    site->probe = probe_take(probes, site->hop->key);
    return site->probe != NULL ? 0 : -1;
}

static void leave_probe(struct site *site)
{
    site_stop_probing(site);
    probe_let_go(site->outbound->options.probes, site->probe);
    site->probe = NULL;
}

static struct site *new_with_hop(struct outbound *outbound, struct next_hop *hop, uint32_t index)
{
    struct site *site = site_new(outbound);

    if (site == NULL)
        return NULL;
    site->hop = next_hop_ref(hop);
    site->name = hop->name;
    site->index = index;
    site->renewed_us = now_of(site);
    site->worked_us = now_of(site);
    if (join_group(site, find_limits(site)) < 0 || join_probe(site) < 0 || site_take_hosts(site) < 0) {
        site_free(site);
        return NULL;
    }
    enlist(site, hop->hash, hop->key);
    return site;
}

/* The names are the same, the addresses may not be. Workers may have got different ones of many, so what is
 * new is kept for a while, unless it leads nowhere. */
static void renew_hop(struct site *site, struct next_hop *hop)
{
    struct next_hop *old = site->hop;

    if (hop == old || (now_of(site) - site->renewed_us < RENEW_US && site_has_endpoint(site)))
        return;
    site->hop = next_hop_ref(hop);
    if (site_take_hosts(site) < 0) {
        next_hop_unref(hop);
        site->hop = old;
        return;
    }
    site->renewed_us = now_of(site);
    site->key = hop->key;
    site->name = hop->name;
    next_hop_unref(old);
}

struct site *site_of_hop(struct outbound *outbound, struct next_hop *hop)
{
    struct site *site = find(outbound, hop->hash, hop->key);

    if (site == NULL)
        return new_with_hop(outbound, hop, SITE_NO_INDEX);
    renew_hop(site, hop);
    return site;
}

struct site *site_of_listed(struct outbound *outbound, struct next_hop *hop, uint32_t index)
{
    struct site *site = find(outbound, hop->hash, hop->key);

    if (site != NULL && site->index == SITE_NO_INDEX) {
        site_leave(site); /* it may be spread from now on */
        site = NULL;
    }
    if (site == NULL)
        return new_with_hop(outbound, hop, index);
    renew_hop(site, hop);
    site->index = index;
    return site;
}

struct site *site_of_verdict(struct outbound *outbound, uint16_t code, const char *text)
{
    assert(code == 250 || (code >= 400 && code < 600));
    uint64_t hash = next_hop_hash(text);
    struct site *site = find(outbound, hash, text);
    if (site != NULL)
        return site;
    site = site_new(outbound);
    if (site == NULL)
        return NULL;
    site->verdict_code = code;
    site->verdict_text = strdup(text);
    if (site->verdict_text == NULL) {
        site_free(site);
        return NULL;
    }
    enlist(site, hash, site->verdict_text);
    return site;
}

void site_free(struct site *site)
{
    if (site == NULL)
        return;
    assert(site->users == 0 && site->session_count == 0 && site->job_count == 0);
    struct list *links[] = {&site->bucket_link, &site->dirty_link, &site->alarm_link, &site->unused_link};
    for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
        list_remove(links[i]);
    site_drop_hosts(site);
    leave_probe(site);
    leave_group(site);
    next_hop_unref(site->hop);
    free(site->verdict_text);
    free(site);
}

static bool is_same_section(const struct site *site, const struct config_limits *limits)
{
    return strcmp(site->limits.pattern, limits->pattern) == 0;
}

/* In another group, or with another owner, all that is open begins anew: what it counted stays where it was.
 */
void site_configure(struct site *site)
{
    if (site->hop == NULL || site->is_leaving)
        return;
    const struct config_limits *limits = find_limits(site);
    if (!is_same_section(site, limits) || can_divide(site, limits) != site->is_divided) {
        site_leave(site);
        return;
    }
    divide(site, limits);
    group_set_limits(site->group, &site->limits);
    site_touch(site);
}

/* Out of the table at once: who asks for the key gets a new site. */
void site_leave(struct site *site)
{
    if (site->is_leaving)
        return;
    site->is_leaving = true;
    list_remove(&site->bucket_link);
    list_push_back(&site->outbound->leaving, &site->bucket_link);
    site_touch(site);
}

void site_touch(struct site *site)
{
    if (list_is_empty(&site->dirty_link))
        list_push_back(&site->outbound->dirty, &site->dirty_link);
}

void site_set_alarm(struct site *site, uint64_t at_us)
{
    if (at_us >= site->alarm_us)
        return;
    site->alarm_us = at_us;
    if (at_us < site->outbound->alarm_us)
        site->outbound->alarm_us = at_us;
    if (list_is_empty(&site->alarm_link))
        list_push_back(&site->outbound->alarms, &site->alarm_link);
}

void site_use(struct site *site)
{
    site->users++;
    assert(site->users != 0);
    list_remove(&site->unused_link);
}

void site_unuse(struct site *site)
{
    assert(site->users > 0);
    site->users--;
    if (site->users > 0)
        return;
    site->unused_since_us = now_of(site);
    list_push_back(&site->outbound->unused, &site->unused_link);
}

/* --- Sessions --- */

void site_session_opened(struct site *site, struct endpoint *endpoint)
{
    site->session_count++;
    site->connecting++;
    site->outbound->session_count++;
    endpoint->host_room->sessions++;
    shaper_connect_began(&site->group->shaper, now_of(site));
    site_use(site);
    COUNTER_ADD(site->outbound->options.counters, outbound_connections, 1);
}

void site_session_closed(struct site *site, struct endpoint *endpoint)
{
    assert(site->session_count > 0 && site->closing > 0 && endpoint->host_room->sessions > 0);
    site->session_count--;
    site->closing--;
    site->outbound->session_count--;
    endpoint->host_room->sessions--;
    shaper_connection_ended(&site->group->shaper, now_of(site));
    group_connection_ended(site->group);
    site_touch(site);
    site_release_endpoint(endpoint);
    site_unuse(site);
}

/* --- What goes wrong --- */

void site_set_reason(struct site *site, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    int size = vsnprintf(site->reason, sizeof(site->reason), format, arguments);
    va_end(arguments);
    assert(size >= 0);
}

static uint32_t grow_backoff(struct site *site, uint32_t last_ms)
{
    uint32_t first_ms = site->outbound->options.site_backoff_ms;
    if (first_ms == 0)
        first_ms = SITE_BACKOFF_MS;
    uint32_t longest_ms = first_ms * SITE_BACKOFF_GROWTH_MAX;
    uint32_t next_ms = last_ms == 0 ? first_ms : last_ms * 2;
    return next_ms < longest_ms ? next_ms : longest_ms;
}

static uint64_t jitter_us(struct site *site, uint32_t ms)
{
    uint64_t span = (uint64_t)ms * 1000 * SITE_JITTER_PERCENT / 100;
    uint64_t least = (uint64_t)ms * 1000 - span / 2;
    return least + outbound_random(site->outbound) % (span + 1);
}

static void log_site(struct site *site, enum log_event event, enum log_level level, const char *what)
{
    struct log_line line;

    if (!log_begin(site->outbound->options.log, &line, event, level))
        return;
    log_text(&line, "what", what);
    log_text(&line, "site", site->name);
    log_text(&line, "reply", site->state == SITE_UP ? NULL : site->reason);
    log_end(&line);
}

static void site_give_up(struct site *site, bool has_deferred)
{
    bool was_up = site->state == SITE_UP;

    if (site->state == SITE_DOWN)
        return;
    site->state = SITE_DOWN;
    site->down_backoff_ms = grow_backoff(site, site->down_backoff_ms);
    site->down_until_us = now_of(site) + jitter_us(site, site->down_backoff_ms);
    site_went_down(site);
    if (was_up)
        log_site(site, LOG_CAUTION, LOG_WARNING, "site is down");
    if (!has_deferred)
        site_defer_head(site);
}

void site_nothing_left(struct site *site)
{
    site_give_up(site, false);
}

void site_endpoint_failed(struct site *site, struct endpoint *endpoint, bool has_deferred)
{
    struct outbound *outbound = site->outbound;
    uint64_t now_us = now_of(site);
    uint32_t first_ms = outbound->options.host_backoff_ms;

    COUNTER_ADD(outbound->options.counters, outbound_failures, 1);
    if (endpoint->established > 0) {
        site_pressed(site, endpoint, SITE_PRESSURE_CONNECTION);
        return;
    }
    endpoint_fail(endpoint, now_us, first_ms != 0 ? first_ms : HOST_BACKOFF_MS);
    if (!site_has_endpoint(site))
        site_give_up(site, has_deferred);
}

void site_come_up(struct site *site)
{
    assert(site->state != SITE_UP);
    site->state = SITE_UP;
    site->down_backoff_ms = 0;
    site->claim_us = 0;
    log_site(site, LOG_CAUTION, LOG_NOTICE, "site is up again");
    site_touch(site);
}

void site_endpoint_worked(struct site *site, struct endpoint *endpoint, bool was_pressed)
{
    endpoint_succeed(endpoint);
    site->down_backoff_ms = 0;
    if (!was_pressed)
        shaper_worked(&site->group->shaper, now_of(site));
    group_wake(site->group); /* the window may have grown */
    if (site->state == SITE_UP)
        return;
    if (site->probe != NULL)
        probe_worked(site->probe);
    site_come_up(site);
}

void site_pressed(struct site *site, struct endpoint *endpoint, enum site_pressure pressure)
{
    uint32_t window = shaper_window(&site->group->shaper);
    uint32_t pace = shaper_pace(&site->group->shaper);
    struct log_line line;

    shaper_pressed(&site->group->shaper,
                   pressure == SITE_PRESSURE_RATE ? SHAPER_PRESSURE_RATE : SHAPER_PRESSURE_CONNECTION,
                   now_of(site));
    uint32_t new_window = shaper_window(&site->group->shaper);
    uint32_t new_pace = shaper_pace(&site->group->shaper);
    COUNTER_ADD(site->outbound->options.counters, outbound_slowed, 1);
    if ((window == new_window && pace == new_pace) ||
        !log_begin(site->outbound->options.log, &line, LOG_CAUTION, LOG_NOTICE))
        return;
    log_text(&line, "what", "slower");
    log_text(&line, "site", site->name);
    log_text(&line, "host", endpoint->text);
    log_u64(&line, "connections", new_window);
    if (new_pace != 0)
        log_u64(&line, "messages_per_minute", (uint64_t)new_pace * 60 / 1000);
    log_end(&line);
}
