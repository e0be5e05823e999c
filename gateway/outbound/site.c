#include "gateway/outbound/site.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/outbound/client.h"
#include "gateway/outbound/job.h"

enum {
    HOST_BACKOFF_MS = 30000,
    SITE_BACKOFF_MS = 1000,
    SITE_BACKOFF_GROWTH_MAX = 60,
    SITE_JITTER_PERCENT = 20,
};

/* --- Life --- */

static uint32_t count_addresses(const struct config_site *config)
{
    size_t count = 0;
    for (size_t i = 0; i < config->host_count; i++)
        count += config->hosts[i].address_count;
    return (uint32_t)count;
}

static int copy_endpoints(struct site *site, const struct config_site *config)
{
    uint32_t count = count_addresses(config);

    assert(count > 0);
    site->endpoints = calloc(count, sizeof(*site->endpoints));
    site->name = strdup(config->name);
    if (site->endpoints == NULL || site->name == NULL)
        return -1;
    for (size_t i = 0; i < config->host_count; i++) {
        const struct config_host *host = &config->hosts[i];
        for (size_t j = 0; j < host->address_count; j++)
            endpoint_init(&site->endpoints[site->endpoint_count++], host->name, &host->addresses[j]);
    }
    assert(site->endpoint_count == count);
    return 0;
}

struct site *site_new(struct outbound *outbound, const struct config_site *config)
{
    struct site *site = calloc(1, sizeof(*site));

    if (site == NULL)
        return NULL;
    site->outbound = outbound;
    site->index = SITE_NO_INDEX;
    site->recipients_per_message = 100;
    site->alarm_us = UINT64_MAX;
    struct list *lists[] = {&site->dirty_link, &site->alarm_link, &site->leaving_link, &site->ready,
                            &site->jobs,       &site->sessions,   &site->idle,         &site->half};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        list_init(lists[i]);
    if (config == NULL) {
        site_set_reason(site, "4.4.4 no route to the domain");
        return site;
    }
    if (copy_endpoints(site, config) < 0) {
        site_free(site);
        return NULL;
    }
    site_configure(site, config);
    return site;
}

void site_free(struct site *site)
{
    if (site == NULL)
        return;
    assert(site->users == 0 && site->session_count == 0 && site->job_count == 0);
    list_remove(&site->dirty_link);
    list_remove(&site->alarm_link);
    list_remove(&site->leaving_link);
    free(site->endpoints);
    free(site->name);
    free(site);
}

bool site_is_same(const struct site *site, const struct config_site *config)
{
    uint32_t next = 0;

    if (site->name == NULL || strcmp(site->name, config->name) != 0 ||
        site->endpoint_count != count_addresses(config))
        return false;
    for (size_t i = 0; i < config->host_count; i++) {
        const struct config_host *host = &config->hosts[i];
        for (size_t j = 0; j < host->address_count; j++) {
            struct endpoint endpoint;
            endpoint_init(&endpoint, host->name, &host->addresses[j]);
            if (strcmp(endpoint.text, site->endpoints[next++].text) != 0)
                return false;
        }
    }
    return true;
}

void site_configure(struct site *site, const struct config_site *config)
{
    uint32_t workers = site->outbound->options.worker_count;
    uint32_t index = site->outbound->options.worker_index;

    assert(index < workers);
    site->index = config->index;
    site->limit = config->connections;
    site->share = site->limit / workers + (index < site->limit % workers ? 1 : 0);
    site->messages_per_connection = config->messages_per_connection;
    site->recipients_per_message = config->recipients_per_message > 0 ? config->recipients_per_message : 1;
}

void site_leave(struct site *site)
{
    assert(!site->is_leaving);
    site->is_leaving = true;
    site->index = SITE_NO_INDEX;
    list_push_back(&site->outbound->leaving, &site->leaving_link);
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
    if (list_is_empty(&site->alarm_link))
        list_push_back(&site->outbound->alarms, &site->alarm_link);
}

void site_use(struct site *site)
{
    site->users++;
    assert(site->users != 0);
}

void site_unuse(struct site *site)
{
    assert(site->users > 0);
    site->users--;
    if (site->users == 0 && site->is_leaving)
        site_touch(site);
}

/* --- Hosts --- */

struct endpoint *site_endpoint(struct site *site)
{
    uint64_t now_us = loop_now_us(site->outbound->options.loop);

    for (uint32_t i = 0; i < site->endpoint_count; i++) {
        if (endpoint_is_usable(&site->endpoints[i], now_us))
            return &site->endpoints[i];
    }
    return NULL;
}

void site_set_reason(struct site *site, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    int size = vsnprintf(site->reason, sizeof(site->reason), format, arguments);
    va_end(arguments);
    assert(size >= 0);
}

static uint64_t next_random(struct outbound *outbound)
{
    uint64_t x = outbound->random; /* xorshift64: jitter needs no more */
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    outbound->random = x;
    return x;
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
    return least + next_random(site->outbound) % (span + 1);
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
    site->down_until_us = loop_now_us(site->outbound->options.loop) + jitter_us(site, site->down_backoff_ms);
    site_set_alarm(site, site->down_until_us);
    if (was_up)
        log_site(site, LOG_CAUTION, LOG_WARNING, "site is down");
    if (!has_deferred)
        site_defer_head(site);
    site_defer_old(site);
}

void site_endpoint_failed(struct site *site, struct endpoint *endpoint, bool has_deferred)
{
    struct outbound *outbound = site->outbound;
    uint64_t now_us = loop_now_us(outbound->options.loop);
    uint32_t first_ms = outbound->options.host_backoff_ms;

    COUNTER_ADD(outbound->options.counters, outbound_failures, 1);
    if (endpoint->established > 0) {
        /* It serves others of us at this moment, so it is not dead: it only wants no more connections. */
        site->open_backoff_ms = grow_backoff(site, site->open_backoff_ms);
        site->open_after_us = now_us + jitter_us(site, site->open_backoff_ms);
        return;
    }
    endpoint_fail(endpoint, now_us, first_ms != 0 ? first_ms : HOST_BACKOFF_MS);
    if (site_endpoint(site) == NULL)
        site_give_up(site, has_deferred);
}

void site_endpoint_worked(struct site *site, struct endpoint *endpoint)
{
    endpoint_succeed(endpoint);
    site->down_backoff_ms = 0;
    if (site->state == SITE_UP)
        return;
    site->state = SITE_UP;
    log_site(site, LOG_CAUTION, LOG_NOTICE, "site is up again");
    site_touch(site);
}
