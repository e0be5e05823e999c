#include "gateway/outbound/group.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/outbound/client.h"
#include "gateway/outbound/site.h"

#define TURN_US UINT64_C(2000000) /* so long a session is left alone, whoever waits */

static uint64_t now_of(const struct outbound *outbound)
{
    return loop_now_us(outbound->options.loop);
}

static struct group *group_new(struct outbound *outbound, const char *key, const struct config_limits *limits)
{
    struct group *group = calloc(1, sizeof(*group));

    if (group == NULL)
        return NULL;
    if (key != NULL) {
        group->key = strdup(key);
        if (group->key == NULL) {
            free(group);
            return NULL;
        }
    }
    group->outbound = outbound;
    group->limits = *limits;
    struct list *lists[] = {&group->link,         &group->waiting, &group->growing,
                            &group->host_waiting, &group->turns,   &group->spare};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        list_init(lists[i]);
    shaper_init(&group->shaper, limits, now_of(outbound));
    if (key != NULL)
        list_push_back(&outbound->groups, &group->link);
    return group;
}

/* What can change without a new `site` section. */
static bool limits_equal(const struct config_limits *a, const struct config_limits *b)
{
    return a->connections == b->connections && a->connections_per_host == b->connections_per_host &&
           a->connections_per_second == b->connections_per_second &&
           a->messages_per_second == b->messages_per_second &&
           a->messages_per_minute == b->messages_per_minute && a->messages_per_hour == b->messages_per_hour;
}

static struct group *find_shared(const struct outbound *outbound, const char *key)
{
    list_each(link, &outbound->groups)
    {
        struct group *group = list_entry(link, struct group, link);
        if (strcmp(group->key, key) == 0)
            return group;
    }
    return NULL;
}

struct group *group_find(struct outbound *outbound, const char *key, const struct config_limits *limits)
{
    struct group *group = key != NULL ? find_shared(outbound, key) : NULL;

    if (group == NULL)
        group = group_new(outbound, key, limits);
    else
        group_set_limits(group, limits);
    if (group != NULL)
        group->users++;
    return group;
}

void group_set_limits(struct group *group, const struct config_limits *limits)
{
    if (!limits_equal(&group->limits, limits))
        shaper_set_limits(&group->shaper, limits, now_of(group->outbound));
    group->limits = *limits;
}

static void group_free(struct group *group)
{
    assert(list_is_empty(&group->waiting) && list_is_empty(&group->growing));
    assert(list_is_empty(&group->host_waiting) && list_is_empty(&group->turns));
    assert(list_is_empty(&group->spare) && group->host_count == 0);
    list_remove(&group->link);
    free(group->key);
    free(group);
}

/* Its sites come and go within minutes, its limits may be for an hour. */
static bool is_kept(const struct group *group)
{
    return group->key != NULL && !shaper_is_at_rest(&group->shaper, now_of(group->outbound));
}

void group_release(struct group *group)
{
    assert(group->users > 0);
    if (--group->users == 0 && !is_kept(group))
        group_free(group);
}

void groups_sweep(struct outbound *outbound, bool all)
{
    list_each_safe(link, &outbound->groups)
    {
        struct group *group = list_entry(link, struct group, link);
        if (group->users == 0 && (all || !is_kept(group)))
            group_free(group);
    }
}

/* --- Hosts --- */

/* One table for all groups: most have a host or two, some have thousands. */
static struct list *bucket_of(const struct group *group, uint64_t hash)
{
    return &group->outbound->hosts[(hash ^ (uintptr_t)group >> 6) % OUTBOUND_BUCKETS];
}

struct group_host *group_host_find(struct group *group, const char *name)
{
    uint64_t hash = next_hop_hash(name);

    list_each(link, bucket_of(group, hash))
    {
        struct group_host *host = list_entry(link, struct group_host, link);
        if (host->group == group && host->hash == hash && strcmp(host->name, name) == 0) {
            host->users++;
            return host;
        }
    }
    size_t size = strlen(name) + 1;
    struct group_host *host = malloc(sizeof(*host) + size);
    if (host == NULL)
        return NULL;
    *host = (struct group_host){.group = group, .hash = hash, .users = 1};
    memcpy(host->name, name, size);
    list_init(&host->link);
    list_push_back(bucket_of(group, hash), &host->link);
    group->host_count++;
    return host;
}

void group_host_release(struct group_host *host)
{
    assert(host->users > 0);
    if (--host->users > 0)
        return;
    assert(host->sessions == 0 && host->group->host_count > 0);
    host->group->host_count--;
    list_remove(&host->link);
    free(host);
}

bool group_host_has_room(const struct group_host *host)
{
    uint32_t most = host->group->limits.connections_per_host;
    return most == 0 || host->sessions < most;
}

/* --- Sharing --- */

void group_keep_turn(struct group *group, struct site *site)
{
    assert(site->group == group);
    if (list_is_empty(&site->turn_link))
        list_push_back(&group->turns, &site->turn_link);
}

bool group_has_turn(struct group *group, struct site *site)
{
    if (list_is_empty(&group->turns) || list_first(&group->turns) == &site->turn_link)
        return true;
    group_keep_turn(group, site);
    return false;
}

void group_end_turn(struct group *group, struct site *site)
{
    struct list *first = list_first(&group->turns);

    if (list_is_empty(&site->turn_link))
        return;
    list_remove(&site->turn_link);
    if (first == &site->turn_link && !list_is_empty(&group->turns))
        site_touch(list_entry(list_first(&group->turns), struct site, turn_link));
}

static bool is_full(const struct group *group)
{
    return shaper_connect_at(&group->shaper, now_of(group->outbound)) == UINT64_MAX;
}

static struct list *next_in_line(const struct group *group)
{
    struct list *link = list_first(&group->waiting);
    return link != NULL ? link : list_first(&group->growing);
}

bool group_is_next(const struct group *group, const struct site *site)
{
    return next_in_line(group) == &site->waiting_link;
}

void group_wake(struct group *group)
{
    struct list *link = next_in_line(group);
    if (link != NULL && !is_full(group))
        site_touch(list_entry(link, struct site, waiting_link));
}

void group_end_wait(struct group *group, struct site *site)
{
    bool was_next = group_is_next(group, site);

    list_remove(&site->waiting_link);
    if (was_next)
        group_wake(group);
}

static void stand_in(struct group *group, struct site *site, struct list *line)
{
    assert(site->group == group);
    group_end_wait(group, site);
    site->line = line;
    list_push_back(line, &site->waiting_link);
}

void group_wait_for_host(struct group *group, struct site *site)
{
    stand_in(group, site, &group->host_waiting);
}

void group_connection_ended(struct group *group)
{
    struct list *link;

    if (group->yielding > 0)
        group->yielding--;
    group_wake(group);
    while ((link = list_pop_front(&group->host_waiting)) != NULL)
        site_touch(list_entry(link, struct site, waiting_link));
}

/* --- Making room --- */

/* More sites wait for their first connection than are about to get one. */
static bool needs_room(const struct group *group)
{
    uint32_t count = 0;

    list_each(link, &group->waiting)
    {
        if (count++ >= group->yielding)
            return is_full(group);
    }
    return false;
}

/* The session of the site that was used least lately; NULL: the site needs all that it has. */
static struct client *spare_session(struct site *site)
{
    if (site->idle_count == 0 || site_waiting(site, 1) > 0)
        return NULL;
    return list_entry(site->idle.prev, struct client, room_link);
}

/* Each look closes a session or takes a site out of the list, so it costs no more than there is to gain. */
static void make_room(struct group *group)
{
    struct list *link;

    while ((link = list_first(&group->spare)) != NULL && needs_room(group)) {
        struct client *client = spare_session(list_entry(link, struct site, spare_link));
        if (client == NULL) {
            list_remove(link);
            continue;
        }
        group->yielding++;
        client_retire(client);
    }
}

void group_wait(struct group *group, struct site *site, bool has_none)
{
    struct list *line = has_none ? &group->waiting : &group->growing;

    if (list_is_empty(&site->waiting_link) || site->line != line)
        stand_in(group, site, line);
    if (has_none)
        make_room(group);
}

void group_offer_idle(struct group *group, struct site *site)
{
    assert(site->group == group);
    list_remove(&site->spare_link);
    if (spare_session(site) == NULL)
        return;
    list_push_back(&group->spare, &site->spare_link);
    make_room(group);
}

bool group_must_yield(struct group *group, const struct client *client)
{
    uint64_t now_us = now_of(group->outbound);

    if (list_is_empty(&group->waiting) || client->messages == 0 || now_us < client->ready_us + TURN_US ||
        !shaper_connects_are_due(&group->shaper, now_us) || !needs_room(group))
        return false;
    group->yielding++;
    return true;
}
