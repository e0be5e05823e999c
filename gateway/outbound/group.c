#include "gateway/outbound/group.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/outbound/client.h"
#include "gateway/outbound/site.h"

enum { STEAL_LOOKS_MAX = 64 }; /* members that are looked at for an idle session */

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
    list_init(&group->link);
    list_init(&group->waiting);
    list_init(&group->host_waiting);
    list_init(&group->turns);
    list_init(&group->members);
    list_init(&group->hosts);
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

void group_release(struct group *group)
{
    assert(group->users > 0);
    if (--group->users > 0)
        return;
    assert(list_is_empty(&group->members) && list_is_empty(&group->waiting));
    assert(list_is_empty(&group->host_waiting) && list_is_empty(&group->turns));
    assert(list_is_empty(&group->hosts));
    list_remove(&group->link);
    free(group->key);
    free(group);
}

/* --- Hosts --- */

struct group_host *group_host_find(struct group *group, const char *name)
{
    list_each(link, &group->hosts)
    {
        struct group_host *host = list_entry(link, struct group_host, link);
        if (strcmp(host->name, name) == 0) {
            host->users++;
            return host;
        }
    }
    size_t size = strlen(name) + 1;
    struct group_host *host = malloc(sizeof(*host) + size);
    if (host == NULL)
        return NULL;
    *host = (struct group_host){.group = group, .users = 1};
    memcpy(host->name, name, size);
    list_init(&host->link);
    list_push_back(&group->hosts, &host->link);
    return host;
}

void group_host_release(struct group_host *host)
{
    assert(host->users > 0);
    if (--host->users > 0)
        return;
    assert(host->sessions == 0);
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

void group_wait(struct group *group, struct site *site)
{
    assert(site->group == group);
    if (list_is_empty(&site->waiting_link))
        list_push_back(&group->waiting, &site->waiting_link);
}

void group_wait_for_host(struct group *group, struct site *site)
{
    assert(site->group == group);
    list_remove(&site->waiting_link);
    list_push_back(&group->host_waiting, &site->waiting_link);
}

void group_wake_all(struct group *group)
{
    struct list *link;

    group_wake(group);
    while ((link = list_pop_front(&group->host_waiting)) != NULL)
        site_touch(list_entry(link, struct site, waiting_link));
}

void group_wake(struct group *group)
{
    struct list *link = list_pop_front(&group->waiting);
    if (link != NULL)
        site_touch(list_entry(link, struct site, waiting_link));
}

void group_steal_idle(struct group *group, const struct site *thief)
{
    for (uint32_t looks = 0; looks < STEAL_LOOKS_MAX; looks++) {
        struct list *link = list_pop_front(&group->members);
        if (link == NULL)
            return;
        list_push_back(&group->members, link); /* the next look begins behind it */
        struct site *site = list_entry(link, struct site, member_link);
        if (site == thief || site->idle_count == 0 || site_waiting(site, 1) > 0)
            continue;
        struct list *last = site->idle.prev;
        client_retire(list_entry(last, struct client, room_link));
        return;
    }
}
