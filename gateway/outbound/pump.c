/* The decisions of a site: who takes the next message, when another connection is worth it, what others may
 * take. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "gateway/outbound/client.h"
#include "gateway/outbound/job.h"
#include "gateway/outbound/outcome.h"
#include "gateway/outbound/rooms.h"
#include "gateway/outbound/site.h"

enum {
    CONNECTING_MAX = 2,         /* at once; more would only race each other to the same host */
    WAITING_PER_CONNECTION = 2, /* beyond that another connection is worth its cost */
    WAITING_MAX_US = 100000,    /* and so it is when something has waited for so long */
    OFFERS_MAX = 8,             /* deliveries handed over in one pump */
    OFFER_AGAIN_US = 20000,     /* nobody had room: ask again */
    STUCK_US = 60000000,        /* nobody had room for so long: look for mail that is too old */
    PUMP_MAX = 4096,            /* messages started in one pump */
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

/* A busy client with room saves the cost of a flight, but the message waits for the reply to the one before
 * it. */
static struct client *pick_session(struct site *site)
{
    bool half_first = site->half_count > 0 && (site->idle_count == 0 || site->end_us < QUICK_END_US);
    struct list *link = list_first(half_first ? &site->half : &site->idle);

    assert(link != NULL);
    return list_entry(link, struct client, room_link);
}

/* True when it stopped only because it has done enough for one turn. */
static bool fill(struct site *site)
{
    for (uint32_t i = 0; i < PUMP_MAX; i++) {
        uint32_t room = ready_room(site);
        if (room == 0)
            return false;
        if (list_is_empty(&site->jobs)) {
            if (site->taking >= room || !site_take(site))
                return false;
            continue;
        }
        client_begin(pick_session(site), site_pop_job(site));
    }
    return true;
}

/* --- More connections --- */

static void begin_probe(struct site *site)
{
    site->state = SITE_PROBING;
    for (uint32_t i = 0; i < site->endpoint_count; i++)
        site->endpoints[i].left_out_until_us = 0;
}

/* One connection, to the first host that can be reached at all. */
static void open_one(struct site *site)
{
    for (uint32_t i = 0; i < site->endpoint_count; i++) {
        struct endpoint *endpoint = site_endpoint(site);
        if (endpoint == NULL)
            return;
        int result = client_open(site, endpoint);
        if (result == 0)
            return;
        const char *what = strerrordesc_np(-result);
        site_set_reason(site, "4.4.1 %.160s: %s", endpoint->text, what != NULL ? what : "cannot connect");
        site_endpoint_failed(site, endpoint, false);
        if (site->open_after_us > now_of(site))
            return;
    }
}

static void probe(struct site *site)
{
    if (live_sessions(site) > 0 || site->session_count >= site->share)
        return;
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
        now_us - site->waiting_since_us >= WAITING_MAX_US)
        return true;
    site_set_alarm(site, site->waiting_since_us + WAITING_MAX_US);
    return false;
}

static void grow(struct site *site, uint64_t now_us)
{
    while (site->state == SITE_UP && site->connecting < CONNECTING_MAX && site->session_count < site->share) {
        if (!wants_another(site, now_us))
            return;
        if (now_us < site->open_after_us && live_sessions(site) > 0) {
            site_set_alarm(site, site->open_after_us);
            return;
        }
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

    if (site->share == 0 || site_waiting(site, 1) == 0) {
        site->waiting_since_us = 0;
        return;
    }
    if (site->state == SITE_DOWN) {
        if (now_us < site->down_until_us) {
            site_set_alarm(site, site->down_until_us);
            return;
        }
        begin_probe(site);
    }
    if (site->state == SITE_PROBING)
        probe(site);
    else
        grow(site, now_us);
}

/* --- Other workers --- */

/* The next delivery that may be given away, or NULL. */
static struct job *next_to_offer(struct site *site)
{
    if (list_is_empty(&site->jobs) && (!site_take(site) || list_is_empty(&site->jobs)))
        return NULL;
    struct job *job = site_pop_job(site);
    if (!job->is_guest)
        return job;
    site_push_job(site, job, true);
    return NULL;
}

static bool offer(struct site *site, struct job *job)
{
    struct outbound *outbound = site->outbound;

    site_use(site);
    struct queue_delivery *delivery = job_unwrap(job);
    delivery->user = site;
    if (outbound->options.hand_over(outbound->options.context, site->index, delivery)) {
        site->handed++;
        return true;
    }
    delivery->user = NULL;
    job = job_new(site, delivery);
    if (job != NULL)
        site_push_job(site, job, true);
    site_unuse(site);
    return false;
}

static void note_refusal(struct site *site, uint64_t now_us)
{
    if (site->share > 0)
        return;
    if (site->refused_since_us == 0)
        site->refused_since_us = now_us;
    if (now_us - site->refused_since_us >= STUCK_US) {
        site_set_reason(site, "4.4.1 no connection is free");
        site_defer_old(site);
        site->refused_since_us = now_us;
    }
    site_set_alarm(site, now_us + OFFER_AGAIN_US);
}

static void offer_to_others(struct site *site)
{
    const struct outbound_options *options = &site->outbound->options;

    if (options->hand_over == NULL || options->worker_count < 2 || site->state != SITE_UP)
        return;
    for (uint32_t i = 0; i < OFFERS_MAX && site->handed < OUTBOUND_HANDED_MAX; i++) {
        uint64_t ours = (uint64_t)live_sessions(site) * WAITING_PER_CONNECTION;
        if (site->share == 0)
            ours = 0;
        else if (ours == 0)
            ours = WAITING_PER_CONNECTION;
        if (site_waiting(site, ours + 1) <= ours)
            return;
        struct job *job = next_to_offer(site);
        if (job == NULL)
            return;
        if (!offer(site, job)) {
            note_refusal(site, now_of(site));
            return;
        }
        site->refused_since_us = 0;
    }
}

static void publish_room(struct site *site)
{
    uint32_t room = 0;

    if (site->state == SITE_UP && site_waiting(site, 1) == 0) {
        uint32_t more = site->share > site->session_count ? site->share - site->session_count : 0;
        room = ready_room(site) + (more < CONNECTING_MAX ? more : CONNECTING_MAX);
    }
    rooms_publish(site->outbound, site->index, room);
}

/* --- All of it --- */

static void retire_sessions(struct site *site)
{
    list_each_safe(link, &site->sessions)
    {
        client_retire(list_entry(link, struct client, site_link));
    }
}

/* Domains without a route: RFC 3463's 4.4.4, since the next configuration may well have one. */
static bool refuse_all(struct site *site)
{
    for (uint32_t i = 0; i < PUMP_MAX; i++) {
        if (site_waiting(site, 1) == 0 || site->taking > 0)
            return false;
        site_defer_head(site);
    }
    return true;
}

void site_pump(struct site *site)
{
    bool again = false;

    if (site->is_leaving || site->outbound->is_draining) {
        site_return_jobs(site);
        retire_sessions(site);
        if (site->index != SITE_NO_INDEX)
            rooms_publish(site->outbound, site->index, 0);
    } else if (site->endpoint_count == 0) {
        again = refuse_all(site);
    } else {
        again = fill(site);
        open_sessions(site);
        offer_to_others(site);
        publish_room(site);
    }
    list_remove(&site->dirty_link); /* what was touched in here was seen in here */
    if (again)
        site_touch(site);
    if (site->is_leaving && site->users == 0)
        site_free(site);
}
