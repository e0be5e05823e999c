/* A site that is down: when it is tried again, and by which worker. */
#include <assert.h>

#include "gateway/outbound/client.h"
#include "gateway/outbound/probe.h"
#include "gateway/outbound/site.h"

enum { LOOK_AGAIN_US = 1000000 }; /* what another worker finds is only seen by looking */

static uint64_t now_of(const struct site *site)
{
    return loop_now_us(site->outbound->options.loop);
}

static void look_again(struct site *site, uint64_t at_us)
{
    uint64_t soon_us = now_of(site) + LOOK_AGAIN_US;
    site_set_alarm(site, site->probe != NULL && soon_us < at_us ? soon_us : at_us);
}

static uint64_t probe_at(const struct site *site)
{
    return site->probe != NULL ? probe_at_us(site->probe) : site->down_until_us;
}

bool site_may_probe(struct site *site)
{
    uint64_t at_us = probe_at(site);

    assert(site->state == SITE_DOWN);
    if (at_us <= now_of(site))
        return true;
    look_again(site, at_us);
    return false;
}

static bool claim(struct site *site, uint64_t own_until_us)
{
    if (site->probe == NULL)
        return true;
    uint64_t claim_us = probe_claim(site->probe, own_until_us, now_of(site));
    if (claim_us == 0)
        return false;
    site->claim_us = claim_us;
    site->down_backoff_ms = probe_backoff_ms(site->probe); /* it doubles with each probe, whoever's */
    return true;
}

void site_went_down(struct site *site)
{
    assert(site->state == SITE_DOWN && site->down_until_us > now_of(site));
    if (site->probe != NULL)
        probe_failed(site->probe, site->claim_us, site->down_until_us, site->down_backoff_ms, now_of(site));
    site->claim_us = 0;
    look_again(site, probe_at(site));
}

void site_stop_probing(struct site *site)
{
    if (site->claim_us == 0)
        return;
    assert(site->probe != NULL);
    probe_give_back(site->probe, site->claim_us, now_of(site));
    site->claim_us = 0;
}

void site_found_session(struct site *site)
{
    assert(site->state == SITE_DOWN);
    if (claim(site, site->down_until_us))
        site->state = SITE_PROBING;
}

static void begin_probe(struct site *site)
{
    if (!site_may_probe(site))
        return;
    if (claim(site, 0)) {
        site->state = SITE_PROBING;
        site_allow_all(site);
    } else {
        look_again(site, probe_at(site));
    }
}

/* Its mail may have gone another way: a site whose probe is shared goes back, so that others can try. */
static void keep_probe(struct site *site)
{
    bool is_idle = site->session_count - site->closing == site->idle_count && site_waiting(site, 1) == 0;

    if (site->probe == NULL)
        return;
    if (is_idle) {
        site_stop_probing(site);
        site->state = SITE_DOWN;
        return;
    }
    site->claim_us = probe_renew(site->probe, site->claim_us, now_of(site));
}

/* What others found matters without mail of its own, too: it would get some of theirs, were it up. */
void site_look_up(struct site *site)
{
    if (site->state != SITE_UP && site->probe != NULL && probe_at(site) == 0) {
        site_allow_all(site);
        site_come_up(site);
    }
    if (site->state == SITE_DOWN && site_waiting(site, 1) > 0)
        begin_probe(site);
    if (site->state == SITE_PROBING)
        keep_probe(site);
    if (site->state != SITE_UP && site->probe != NULL)
        look_again(site, UINT64_MAX);
}
