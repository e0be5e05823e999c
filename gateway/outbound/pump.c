/* The decisions of a site: who takes the next message, when another connection is worth it. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "gateway/outbound/client.h"
#include "gateway/outbound/group.h"
#include "gateway/outbound/job.h"
#include "gateway/outbound/outcome.h"
#include "gateway/outbound/rooms.h"
#include "gateway/outbound/site.h"

enum {
    CONNECTING_MIN = 2,         /* at once; more would only race each other to the same host, */
    LIVE_PER_CONNECTING = 4,    /* unless it serves so many already for each of them */
    WAITING_PER_CONNECTION = 2, /* beyond that another connection is worth its cost */
    WAITING_MAX_US = 100000,    /* and so it is when something has waited for so long */
    PUMP_MAX = 4096,            /* messages started in one pump */
    LOOK_AGAIN_US = 1000000,    /* something waits, and nothing else would bring the next turn */
    QUICK_END_US = 20000,       /* such a peer answers so soon that a message can well wait behind another */
};

static uint64_t now_of(const struct site *site)
{
    return loop_now_us(site->outbound->options.loop);
}

static uint32_t live_sessions(const struct site *site)
{
    assert(site->closing <= site->session_count);
    return site->session_count - site->closing;
}

/* --- Messages for the sessions that are there --- */

/* How many messages could start at once. */
static uint32_t ready_room(const struct site *site)
{
    switch (site->state) {
    case SITE_UP:
        return site->idle_count + site->half_count;
    case SITE_PROBING:
        return live_sessions(site) == 1 ? site->idle_count : 0;
    case SITE_DOWN:
        break;
    }
    return 0;
}

static struct client *find_at(struct list *sessions, const struct endpoint *endpoint)
{
    list_each(link, sessions)
    {
        struct client *client = list_entry(link, struct client, room_link);
        if (client->endpoint == endpoint)
            return client;
    }
    return NULL;
}

/* By weights: a session with the host whose turn it is, if it has one with room. */
static struct client *pick_weighted(struct site *site)
{
    const struct endpoint *endpoint = site_weighted_endpoint(site);

    if (endpoint == NULL)
        return NULL;
    struct client *client = find_at(&site->idle, endpoint);
    return client != NULL ? client : find_at(&site->half, endpoint);
}

/* A busy client with room saves the cost of a flight, but the message waits for the reply to the one before
 * it. */
static struct client *pick_session(struct site *site)
{
    struct client *client = pick_weighted(site);
    bool half_first = site->half_count > 0 && (site->idle_count == 0 || site->end_us < QUICK_END_US);
    struct list *link = list_first(half_first ? &site->half : &site->idle);

    assert(link != NULL);
    return client != NULL ? client : list_entry(link, struct client, room_link);
}

static void begin(struct site *site, struct job *job)
{
    struct client *client = pick_session(site);

    if (!client_has_room_for(client, job->delivery->target_count) || group_must_yield(site->group, client)) {
        client_retire(client);
        site_push_job(site, job, true);
        return;
    }
    shaper_message_began(&site->group->shaper, now_of(site));
    site_count_sent(site, client->endpoint);
    client_begin(client, job);
}

/* True when it stopped only because it has done enough for one turn. What has to wait for the shaper waits in
 * its lane. */
static bool fill(struct site *site)
{
    for (uint32_t i = 0; i < PUMP_MAX; i++) {
        uint32_t room = ready_room(site);
        if (room == 0 || site_waiting(site, 1) == 0) {
            group_end_turn(site->group, site); /* others can use it */
            return false;
        }
        if (!group_has_turn(site->group, site))
            return false;
        uint64_t at_us = shaper_message_at(&site->group->shaper, now_of(site));
        if (at_us > now_of(site)) {
            group_keep_turn(site->group, site);
            site_set_alarm(site, at_us);
            return false;
        }
        if (list_is_empty(&site->jobs) && (site->taking >= room || !site_take(site))) {
            group_end_turn(site->group, site);
            return false;
        }
        if (list_is_empty(&site->jobs))
            continue; /* it is being read back */
        begin(site, site_pop_job(site));
        group_end_turn(site->group, site);
    }
    return true;
}

/* --- More connections --- */

/* By the limits, and whoever came first comes first. False: not now; the site is in line, and is pumped when
 * it may be. */
static bool may_connect(struct site *site, uint64_t now_us)
{
    uint64_t at_us = shaper_connect_at(&site->group->shaper, now_us);

    group_wait(site->group, site, live_sessions(site) == 0);
    bool is_next = group_is_next(site->group, site);
    if (is_next && at_us <= now_us)
        return true;
    if (is_next && at_us != UINT64_MAX)
        site_set_alarm(site, at_us);
    else
        group_wake(site->group);
    site->stays_in_line = true;
    return false;
}

/* By weights, a host whose turn it is and that has no session yet. */
static struct endpoint *missing_endpoint(struct site *site)
{
    struct endpoint *endpoint = site_weighted_endpoint(site);
    return endpoint != NULL && endpoint->users == 0 && group_host_has_room(endpoint->host_room) ? endpoint
                                                                                                : NULL;
}

/* Nothing that the host could help: too many open files, no memory. */
static bool is_our_lack(int error)
{
    return error == -EMFILE || error == -ENFILE || error == -ENOMEM || error == -ENOBUFS;
}

/* One connection, to the first host that can be reached at all. */
static void open_one(struct site *site)
{
    for (uint32_t tries = 0; tries < NEXT_HOP_HOSTS_MAX; tries++) {
        struct endpoint *endpoint = missing_endpoint(site);
        if (endpoint == NULL)
            endpoint = site_endpoint(site);
        if (endpoint == NULL && !site_has_endpoint(site)) {
            site_set_reason(site, "4.4.1 every host of the site is left out");
            site_nothing_left(site);
            return;
        }
        if (endpoint == NULL) {
            group_wait_for_host(site->group, site);
            site->stays_in_line = true;
            return;
        }
        int result = client_open(site, endpoint);
        if (result == 0)
            return;
        if (is_our_lack(result)) {
            site_set_alarm(site, now_of(site) + LOOK_AGAIN_US);
            return;
        }
        const char *what = strerrordesc_np(-result);
        site_set_reason(site, "4.4.1 %.160s: %s", endpoint->text, what != NULL ? what : "cannot connect");
        site_endpoint_failed(site, endpoint, false);
        if (site->state == SITE_DOWN || endpoint->established > 0)
            return;
    }
}

static void probe(struct site *site, uint64_t now_us)
{
    if (live_sessions(site) > 0 || site->session_count >= site->share || !may_connect(site, now_us))
        return;
    if (!site_has_endpoint(site)) /* a late connection began the probe */
        site_allow_all(site);
    open_one(site);
}

static bool wants_another(struct site *site, uint64_t now_us)
{
    uint64_t live = live_sessions(site);
    uint64_t waiting = site_waiting(site, live * WAITING_PER_CONNECTION + 1);

    if (waiting == 0) {
        site->waiting_since_us = 0;
        return false;
    }
    if (site->waiting_since_us == 0)
        site->waiting_since_us = now_us;
    if (live == 0 || waiting > live * WAITING_PER_CONNECTION ||
        now_us - site->waiting_since_us >= WAITING_MAX_US || missing_endpoint(site) != NULL)
        return true;
    site_set_alarm(site, site->waiting_since_us + WAITING_MAX_US);
    return false;
}

static uint32_t connecting_max(const struct site *site)
{
    return CONNECTING_MIN + (live_sessions(site) - site->connecting) / LIVE_PER_CONNECTING;
}

static void grow(struct site *site, uint64_t now_us)
{
    if (live_sessions(site) > 0 && shaper_message_at(&site->group->shaper, now_us) > now_us)
        return; /* those that are there have nothing to do either */
    while (site->state == SITE_UP && site->connecting < connecting_max(site) &&
           site->session_count < site->share) {
        if (!wants_another(site, now_us) || !may_connect(site, now_us))
            return;
        uint32_t before = site->session_count;
        open_one(site);
        if (site->session_count == before)
            return;
        site->waiting_since_us = now_us;
    }
}

static void open_sessions(struct site *site)
{
    uint64_t now_us = now_of(site);

    if (site_waiting(site, 1) == 0) {
        site->waiting_since_us = 0;
        return;
    }
    if (site->state == SITE_DOWN)
        return;
    if (site->state == SITE_PROBING)
        probe(site, now_us);
    else
        grow(site, now_us);
}

/* A site that is down and has nothing of its own to try with would never learn that it is up again: it takes
 * one delivery of others as its probe. */
static uint32_t room_while_down(struct site *site)
{
    if (live_sessions(site) > 0 || (site->state == SITE_DOWN && !site_may_probe(site)))
        return 0;
    return 1;
}

static uint32_t room_now(struct site *site)
{
    if (site->share == 0 || site_waiting(site, 1) > 0)
        return 0;
    if (site->state != SITE_UP)
        return room_while_down(site);
    uint32_t more = site->share > site->session_count ? site->share - site->session_count : 0;
    return ready_room(site) + (more < CONNECTING_MIN ? more : CONNECTING_MIN);
}

static void publish_room(struct site *site)
{
    if (site->is_spread && !site->is_leaving)
        rooms_publish(site->outbound, site->index, room_now(site));
}

/* --- All of it --- */

static void retire_sessions(struct site *site)
{
    list_each_safe(link, &site->sessions)
    {
        client_retire(list_entry(link, struct client, site_link));
    }
}

/* All that waits gets the verdict. */
static bool judge_all(struct site *site)
{
    for (uint32_t i = 0; i < PUMP_MAX; i++) {
        if (site_waiting(site, 1) == 0 || site->taking > 0 || reports_are_many(site->outbound))
            return false;
        site_defer_head(site);
    }
    return true;
}

/* Mail must not wait for an event that does not come: without a session, a place in a line or an alarm the
 * site looks again by itself. */
static void keep_looking(struct site *site)
{
    if (site->session_count > 0 || site->taking > 0 || site->alarm_us != UINT64_MAX ||
        !list_is_empty(&site->waiting_link) || site_waiting(site, 1) == 0)
        return;
    site_set_alarm(site, now_of(site) + LOOK_AGAIN_US);
}

static bool work(struct site *site)
{
    if (site->hop == NULL)
        return judge_all(site);
    bool again = false;
    if (site_is_ours(site)) {
        site_look_up(site);
        again = fill(site);
        site->stays_in_line = false;
        open_sessions(site);
        if (!site->stays_in_line)
            group_end_wait(site->group, site);
    }
    site_hand_over(site);
    publish_room(site);
    if (site_is_ours(site)) {
        group_offer_idle(site->group, site);
        keep_looking(site);
    }
    return again;
}

void site_pump(struct site *site)
{
    bool again = false;

    if (site->is_leaving || site->outbound->is_draining) {
        if (site->group != NULL) {
            group_end_turn(site->group, site);
            group_end_wait(site->group, site);
        }
        site_return_jobs(site);
        retire_sessions(site);
        site_stop_probing(site);
        if (site->is_spread && !site->is_leaving)
            rooms_publish(site->outbound, site->index, 0);
    } else {
        again = work(site);
    }
    list_remove(&site->dirty_link); /* what was touched in here was seen in here */
    if (again)
        site_touch(site);
}
