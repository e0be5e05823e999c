/* What two workers do for each other: one asks the DNS for both, one delivers for both, and what comes home
 * is settled where it was accepted. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/outbound/lane.h"
#include "gateway/outbound/probe.h"
#include "gateway/outbound/site.h"
#include "tests/unit/dns/peer.h"
#include "tests/unit/outbound/pair.h"
#include "tests/unit/outbound/taker.h"

enum { DOMAINS = 32 };

static struct pair pair;
static struct taker taker;
static char routes[4096];
static bool has_taker;

/* d0.test ... d19.test go to hosts that only the DNS knows, all at the taker's port. */
static void begin_at(uint16_t port, const char *more)
{
    char zone[4096];
    size_t zone_size = 0;
    size_t size = 0;

    for (int i = 0; i < DOMAINS; i++) {
        zone_size +=
            (size_t)snprintf(zone + zone_size, sizeof(zone) - zone_size, "mx%d.test A 127.0.0.1\n", i);
        size += (size_t)snprintf(routes + size, sizeof(routes) - size, "d%d.test smtp://mx%d.test:%u\n", i, i,
                                 port);
    }
    pair.routes = routes;
    pair_begin(&pair, zone, more);
}

static void begin(const char *more)
{
    taker_start(&taker, 1);
    has_taker = true;
    begin_at(taker.ports[0].port, more);
}

/* After a test that failed, too. */
static int end(void **state)
{
    pair_end(&pair);
    if (has_taker)
        taker_stop(&taker);
    has_taker = false;
    pair = (struct pair){0};
    taker.delay_ms = 0;
    return 0;
}

static void accept_mail(uint32_t worker, uint32_t domain, uint32_t count)
{
    char to[32];

    snprintf(to, sizeof(to), "x@d%u.test", domain);
    for (uint32_t i = 0; i < count; i++)
        pair_accept(&pair, worker, to, 0);
}

static uint64_t waiting(void)
{
    return pair_waiting(&pair, 0) + pair_waiting(&pair, 1);
}

static const char *name_of(uint32_t domain)
{
    static char name[32];
    snprintf(name, sizeof(name), "mx%u.test:%u", domain, taker.ports[0].port);
    return name;
}

/* A domain that this worker asks the DNS about. */
static uint32_t domain_asked_by(uint32_t worker)
{
    for (uint32_t i = 0; i < DOMAINS; i++) {
        char name[16];
        snprintf(name, sizeof(name), "d%u.test", i);
        if (pair_asks(name) == worker)
            return i;
    }
    fail_msg("no domain is asked for by worker %u", worker);
    abort();
}

/* A domain whose site belongs to this worker, and which the other asks about; mail for it has been
 * delivered. */
static uint32_t domain_owned_by(uint32_t worker)
{
    for (uint32_t i = 0; i < DOMAINS; i++) {
        char domain[16];
        snprintf(domain, sizeof(domain), "d%u.test", i);
        if (pair_asks(domain) == worker)
            continue;
        accept_mail(worker, i, 1);
        pair_until(&pair, pair_waiting(&pair, worker) == 0);
        const struct site *site = pair_site(&pair, worker, name_of(i));
        assert_non_null(site);
        if (site->owner == worker)
            return i;
    }
    /* ports differ from run to run, and so do hashes: one in many thousand gets here */
    fail_msg("no site belongs to worker %u", worker);
    abort();
}

/* --- Who asks --- */

static void a_domain_is_asked_for_once(void **state)
{
    begin("");
    for (uint32_t i = 0; i < DOMAINS; i++) {
        accept_mail(0, i, 1);
        accept_mail(1, i, 1);
    }
    pair_until(&pair, waiting() == 0);
    assert_int_equal(atomic_load(&taker.taken), 2 * DOMAINS);
    assert_int_equal(pair.names->udp_count, 2 * DOMAINS); /* A and AAAA */
    assert_int_equal(pair.workers[0].asked + pair.workers[1].asked, DOMAINS);
}

static void only_the_owner_connects(void **state)
{
    begin("");
    for (uint32_t i = 0; i < DOMAINS; i++) {
        accept_mail(0, i, 3);
        accept_mail(1, i, 3);
    }
    pair_until(&pair, waiting() == 0);
    assert_int_equal(atomic_load(&taker.taken), 6 * DOMAINS);
    for (uint32_t i = 0; i < DOMAINS; i++) {
        const struct site *first = pair_site(&pair, 0, name_of(i));
        const struct site *second = pair_site(&pair, 1, name_of(i));
        assert_non_null(first);
        assert_non_null(second);
        assert_int_equal(first->owner, second->owner);
        assert_int_equal((first->owner == 0 ? second : first)->session_count, 0);
        assert_int_equal((first->owner == 0 ? second : first)->share, 0);
    }
}

/* A site is all its hosts, whether they have an address at the moment or not: else it would be another one,
 * with limits of its own, while a name cannot be looked up. */
static void a_host_without_an_address_belongs_to_its_site(void **state)
{
    const struct site *site;

    snprintf(routes, sizeof(routes), "listed.test smtp://mx1.a.test:2525,smtp://mx2.a.test:2525\n");
    pair.routes = routes;
    pair_begin(&pair,
               "a.test MX 10 mx1.a.test\na.test MX 20 mx2.a.test\na.test MX 20 mx3.a.test\n"
               "mx2.a.test A 192.0.2.1\n",
               "route \"a.test\" { to = \"mx\" }");
    pair_accept(&pair, 0, "x@a.test", 0);
    pair_until(&pair, (site = pair_site(&pair, 0, "a.test")) != NULL);
    assert_int_equal(site->hop->host_count, 3);
    assert_string_equal(site->hop->hosts[0].name, "mx1.a.test");
    assert_int_equal(site->hop->hosts[0].address_count, 0);
    assert_int_equal(site->hop->hosts[1].preference, 1);
    assert_int_equal(site->hop->hosts[2].preference, 1);
    pair_accept(&pair, 0, "x@listed.test", 0);
    pair_until(&pair, (site = pair_site(&pair, 0, "mx1.a.test:2525")) != NULL);
    assert_int_equal(site->hop->host_count, 2);
}

/* --- Answers that come late --- */

static struct queue_lane *found_lane;

static void find_lane(void *context, struct queue_lane *lane)
{
    found_lane = lane;
}

static void an_answer_for_a_lane_that_is_gone(void **state)
{
    begin("");
    uint32_t domain = domain_asked_by(1);
    pair.workers[1].is_deaf = true;
    accept_mail(0, domain, 1);
    pair_run_ms(&pair, 5);
    assert_int_equal(pair.workers[0].outbound.query_count, 1);
    queue_each_lane(pair.workers[0].queue, find_lane, NULL);
    outbound_lane_gone(&pair.workers[0].outbound, found_lane);
    pair.workers[1].is_deaf = false;
    pair_until(&pair, pair.workers[0].outbound.query_count == 0);
    assert_int_equal(pair_waiting(&pair, 0), 1);
    outbound_lane_ready(&pair.workers[0].outbound, found_lane);
    pair_until(&pair, waiting() == 0);
    assert_int_equal(atomic_load(&taker.taken), 1);
}

static void an_answer_after_a_reload(void **state)
{
    begin("");
    uint32_t domain = domain_asked_by(1);
    pair.workers[1].is_deaf = true;
    accept_mail(0, domain, 1);
    for (uint32_t i = 0; i < 5; i++) {
        pair_run_ms(&pair, 2);
        pair_reload(&pair, 0, "");
    }
    assert_int_equal(pair.workers[0].outbound.query_count, 6);
    pair.workers[1].is_deaf = false;
    pair_until(&pair, waiting() == 0);
    assert_int_equal(pair.workers[0].outbound.query_count, 0);
    assert_int_equal(atomic_load(&taker.taken), 1);
    assert_int_equal(pair.names->udp_count, 2);
}

/* The worker that was asked had not taken over the new configuration yet; what it says holds for five
 * minutes. */
static void tls_is_as_the_asker_has_it(void **state)
{
    begin("site \"default\" { tls = \"may\" }");
    uint32_t domain = domain_asked_by(1);
    pair_reload(&pair, 0, "site \"default\" { tls = \"encrypt\" }");
    accept_mail(0, domain, 1);
    pair_until(&pair, pair_site(&pair, 0, name_of(domain)) != NULL);
    pair_reload(&pair, 1, "site \"default\" { tls = \"encrypt\" }");
    pair_run_ms(&pair, 100);
    assert_int_equal(pair_site(&pair, 0, name_of(domain))->hop->tls, CONFIG_SECURITY_ENCRYPT);
    assert_int_equal(atomic_load(&taker.taken), 0); /* it does not speak TLS */
    pair_until(&pair, pair_count(&pair, 0, COUNTER_deferred) + pair_count(&pair, 1, COUNTER_deferred) > 0);
}

static void an_answer_in_the_middle_of_a_drain(void **state)
{
    begin("");
    uint32_t domain = domain_asked_by(1);
    pair.workers[1].is_deaf = true;
    accept_mail(0, domain, 1);
    pair_run_ms(&pair, 5);
    outbound_drain(&pair.workers[0].outbound);
    pair_run_ms(&pair, 5);
    assert_false(outbound_is_quiet(&pair.workers[0].outbound));
    pair.workers[1].is_deaf = false;
    pair_until(&pair, outbound_is_quiet(&pair.workers[0].outbound));
    assert_int_equal(pair_waiting(&pair, 0), 1);
    assert_int_equal(atomic_load(&taker.taken), 0);
}

static void a_question_to_one_that_drains(void **state)
{
    begin("");
    uint32_t domain = domain_asked_by(1);
    outbound_drain(&pair.workers[1].outbound);
    accept_mail(0, domain, 1);
    pair_until(&pair, pair.workers[0].outbound.query_count == 0);
    pair_run_ms(&pair, 20);
    assert_int_equal(pair_waiting(&pair, 0), 1);
}

static void a_name_that_cannot_be_told_now_is_asked_for_again(void **state)
{
    begin("");
    uint32_t domain = domain_asked_by(1);
    char name[32];
    snprintf(name, sizeof(name), "mx%u.test", domain);
    peer_play(pair.names, name, PEER_SERVFAIL, UINT32_MAX);
    accept_mail(0, domain, 1);
    pair_until(&pair, pair_count(&pair, 0, COUNTER_deferred) > 0);
    assert_non_null(strstr(pair_log(&pair, 0), "4.4.3 no host of the route has an address"));
    assert_int_equal(pair_waiting(&pair, 0), 1);
}

/* --- What is given --- */

static void more_may_be_away_the_more_is_delivered(void **state)
{
    begin("site \"default\" { connections = 2 }\ntimeouts { outbound_idle = \"0\" }");
    uint32_t domain = domain_owned_by(1);
    pair_until(&pair, outbound_session_count(&pair.workers[0].outbound) +
                              outbound_session_count(&pair.workers[1].outbound) ==
                          0);
    pair_run_ms(&pair, 5);
    atomic_store(&taker.most_open, 0);
    uint64_t delivered = pair_count(&pair, 0, COUNTER_messages_delivered);
    pair.workers[1].is_deaf = true;
    accept_mail(0, domain, 300);
    pair_until(&pair, pair.workers[0].away > 0);
    pair_run_ms(&pair, 20);
    assert_in_range(pair.workers[0].away, SITE_HANDED_MIN, SITE_HANDED_MIN + 1);
    pair.workers[1].is_deaf = false;
    pair_until(&pair, waiting() == 0);
    assert_true(pair.workers[0].most_away > 2 * SITE_HANDED_MIN);
    assert_int_equal(pair_count(&pair, 0, COUNTER_messages_delivered), delivered);
    assert_true(pair_count(&pair, 1, COUNTER_messages_delivered) >= 300);
    assert_in_range(atomic_load(&taker.most_open), 1, 2);
    assert_int_equal(pair_site(&pair, 0, name_of(domain))->handed, 0);
}

static void each_outcome_is_settled_at_home(void **state)
{
    begin("");
    uint32_t domain = domain_owned_by(1);
    atomic_store(&taker.rcpt_reply, "450 4.2.1 later\r\n");
    accept_mail(0, domain, 1);
    pair_until(&pair, strstr(pair_log(&pair, 1), "4.2.1 later") != NULL);
    pair_run_ms(&pair, 5);
    assert_int_equal(pair_waiting(&pair, 0), 1);
    atomic_store(&taker.rcpt_reply, "550 5.1.1 nobody\r\n");
    pair_until(&pair, strstr(pair_log(&pair, 1), "5.1.1 nobody") != NULL);
    pair_until(&pair, strstr(pair_log(&pair, 0), "notice") != NULL); /* to the sender, from home */
    atomic_store(&taker.rcpt_reply, NULL);
    accept_mail(0, domain, 1);
    pair_until(&pair, pair.workers[0].away == 0 && strstr(pair_log(&pair, 1), "deliver id=") != NULL);
}

static void what_is_not_taken_stays(void **state)
{
    begin("");
    uint32_t domain = domain_owned_by(1);
    uint32_t taken = atomic_load(&taker.taken);
    pair.workers[1].is_unwilling = true;
    accept_mail(0, domain, 40);
    pair_run_ms(&pair, 60);
    assert_int_equal(pair_waiting(&pair, 0), 40);
    assert_int_equal(pair_site(&pair, 0, name_of(domain))->handed, 0);
    pair.workers[1].is_unwilling = false;
    pair_until(&pair, waiting() == 0);
    assert_int_equal(atomic_load(&taker.taken), taken + 40);
}

static void a_reload_while_deliveries_are_away(void **state)
{
    taker.delay_ms = 1;
    begin("site \"default\" { connections = 2 }");
    uint32_t domain = domain_owned_by(1);
    uint32_t before = atomic_load(&taker.taken);
    accept_mail(0, domain, 200);
    for (uint32_t i = 0; i < 20; i++) {
        pair_run_ms(&pair, 5);
        pair_reload(&pair, i % 2,
                    i % 4 < 2 ? "site \".test\" { connections = 2 }"
                              : "site \"default\" { connections = 2 }");
    }
    pair_reload(&pair, 0, "");
    pair_reload(&pair, 1, "");
    pair_until(&pair, waiting() == 0);
    assert_int_equal(atomic_load(&taker.taken), before + 200);
}

/* Its guests go home at once; they must not come back with each turn. */
static void one_that_drains_is_left_alone(void **state)
{
    begin("");
    uint32_t domain = domain_owned_by(1);
    outbound_drain(&pair.workers[1].outbound);
    pair_run_ms(&pair, 5);
    uint32_t before = pair.workers[1].gifts;
    accept_mail(0, domain, 20);
    pair_run_ms(&pair, 200);
    assert_int_equal(pair_waiting(&pair, 0), 20);
    assert_in_range(pair.workers[1].gifts - before, 0, 400);
}

/* One recipient that is to be tried later says nothing about the site. */
static void old_mail_is_tried_although_another_was_deferred(void **state)
{
    pair.age_max_ms = 3600000;
    begin("retry { max_age = \"1h\" }\nsite \"default\" { connections = 1 }");
    uint32_t domain = domain_owned_by(1);
    char to[32];
    snprintf(to, sizeof(to), "old@d%u.test", domain);
    atomic_store(&taker.rcpt_reply, "450 4.2.1 later\r\n");
    accept_mail(0, domain, 20);
    pair_accept(&pair, 0, to, 7200000);
    pair_accept(&pair, 0, to, 7200000);
    pair_until(&pair, pair_count(&pair, 0, COUNTER_expired) >= 2);
    assert_null(strstr(pair_log(&pair, 0), "cannot be reached"));
}

/* The owner has only guests to try with; its site is down, and they expire at home. */
static void mail_for_an_owner_that_is_down_expires(void **state)
{
    struct taker closed = {0};

    pair.age_max_ms = 1000;
    taker_start(&closed, 1);
    uint16_t port = closed.ports[0].port;
    taker_stop(&closed);
    taker.ports[0].port = port;
    begin_at(port, "retry { max_age = \"1s\" }");
    for (uint32_t i = 0; i < DOMAINS; i++)
        accept_mail(i % 2, i, 3);
    pair_until(&pair, waiting() == 0);
    assert_true(pair_count(&pair, 0, COUNTER_expired) + pair_count(&pair, 1, COUNTER_expired) >= 3 * DOMAINS);
}

/* --- Spread sites --- */

static void a_spread_site_that_is_down_is_probed_with_a_guest(void **state)
{
    struct taker closed = {0};
    char more[128];

    taker_start(&closed, 1);
    uint16_t port = closed.ports[0].port;
    taker_stop(&closed);
    snprintf(more, sizeof(more),
             "route \"*\" { to = \"smtp://127.0.0.1:%u\" }\nsite \"default\" { connections = 1 }", port);
    pair.routes = NULL;
    pair_begin(&pair, "", more);
    for (uint32_t i = 0; i < 5; i++)
        pair_accept(&pair, 1, "x@any.test", 0); /* the first worker alone has a share */
    pair_until(&pair, pair_count(&pair, 0, COUNTER_outbound_failures) >= 3);
    assert_int_equal(pair_waiting(&pair, 1), 5);
    taker_start_at(&taker, port);
    has_taker = true;
    pair_until(&pair, waiting() == 0);
    assert_int_equal(atomic_load(&taker.taken), 5);
    assert_int_equal(atomic_load(&taker.most_open), 1);
}

/* --- A spread site that is down --- */

static const char refusal[] = "421 4.3.2 not now\r\n";

/* A host that turns everybody away; the workers share the connections. */
static void begin_refused(uint32_t connections, uint32_t refusal_ms, const char *settings)
{
    char more[192];

    taker_start(&taker, 1);
    has_taker = true;
    atomic_store(&taker.refusal_ms, refusal_ms);
    atomic_store(&taker.refusal, refusal);
    snprintf(more, sizeof(more),
             "route \"*\" { to = \"smtp://127.0.0.1:%u\" }\nsite \"default\" { connections = %u }\n%s",
             taker.ports[0].port, connections, settings);
    pair.routes = NULL;
    pair_begin(&pair, "", more);
}

/* Each in a lane of its own. */
static void accept_any(uint32_t worker, uint32_t count)
{
    char to[32];

    for (uint32_t i = 0; i < count; i++) {
        snprintf(to, sizeof(to), "x@any%u.test", i);
        pair_accept(&pair, worker, to, 0);
    }
}

static struct site *spread_site(uint32_t worker)
{
    char name[32];

    snprintf(name, sizeof(name), "127.0.0.1:%u", taker.ports[0].port);
    struct site *site = pair_site(&pair, worker, name);
    assert_non_null(site);
    return site;
}

static bool both_are(enum site_state state)
{
    return spread_site(0)->state == state && spread_site(1)->state == state;
}

/* Until both workers know it, and the back-off has grown to its longest, 300 ms. */
static void wait_until_it_is_dead(void)
{
    pair_until(&pair, spread_site(0)->state != SITE_UP && spread_site(1)->state != SITE_UP);
    pair_until(&pair, probe_backoff_ms(spread_site(0)->probe) == 300);
    pair_until(&pair, both_are(SITE_DOWN) && spread_site(0)->session_count == 0 &&
                          spread_site(1)->session_count == 0);
    atomic_store(&taker.most_open, 0);
}

/* Rounds of probes follow each other by a back-off, less a tenth; one connection each. */
static void watch_rounds(uint64_t ms)
{
    uint64_t until_us = pair_clock_us() + ms * 1000;
    uint32_t first = atomic_load(&taker.ports[0].connections);
    uint32_t seen = first;
    uint64_t last_us = 0;

    while (pair_clock_us() < until_us) {
        pair_turn(&pair);
        uint32_t now = atomic_load(&taker.ports[0].connections);
        if (now == seen)
            continue;
        assert_int_equal(now, seen + 1);
        if (last_us != 0)
            assert_true(pair_clock_us() - last_us > 250000);
        last_us = pair_clock_us();
        seen = now;
    }
    assert_true(seen - first >= ms / 700);
    assert_int_equal(atomic_load(&taker.most_open), 1);
}

static void one_message_probes_for_all_workers(void **state)
{
    begin_refused(4, 10, "");
    accept_any(0, 30);
    accept_any(1, 30);
    wait_until_it_is_dead();
    uint64_t failures = pair_count(&pair, 0, COUNTER_outbound_failures);
    watch_rounds(3000);
    assert_int_equal(waiting(), 60);
    atomic_store(&taker.refusal, NULL);
    pair_until(&pair, both_are(SITE_UP));
    pair_until(&pair, waiting() == 0);
    assert_int_equal(atomic_load(&taker.taken), 60);
    assert_in_range(pair_count(&pair, 0, COUNTER_outbound_failures) - failures, 0, 12);
    assert_in_range(pair_count(&pair, 0, COUNTER_messages_delivered), 1, 59);
}

/* What another has is no reason to take it before it may be tried. */
static void a_guest_comes_when_it_may_be_tried(void **state)
{
    uint32_t looks = 0;

    begin_refused(1, 1, "");
    accept_any(1, 1); /* the first worker alone has a share */
    const struct probe *probe = spread_site(0)->probe;
    pair_until(&pair, probe_backoff_ms(probe) == 300);
    for (uint32_t turns = 0; turns < 2000; turns++) {
        pair_turn(&pair);
        uint64_t left_us = probe_at_us(probe) - pair_clock_us();
        if (left_us < 50000 || left_us > 200000)
            continue;
        looks++;
        assert_int_equal(pair.workers[1].away, 0);
    }
    assert_true(looks > 10);
    atomic_store(&taker.refusal, NULL);
    pair_until(&pair, waiting() == 0);
}

/* It has nothing to probe with, and need not. */
static void a_worker_without_mail_hears_that_the_site_works(void **state)
{
    begin_refused(4, 50, ""); /* time enough for both to have some */
    accept_any(0, 8);
    pair_until(&pair, spread_site(0)->state != SITE_UP && spread_site(1)->state != SITE_UP);
    pair.workers[1].is_unwilling = true;
    pair_until(&pair, pair.workers[0].away == 0);
    assert_int_not_equal(spread_site(1)->state, SITE_UP);
    uint32_t before = pair.workers[1].gifts;
    atomic_store(&taker.refusal, NULL);
    pair_until(&pair, both_are(SITE_UP) && waiting() == 0);
    assert_int_equal(pair.workers[1].gifts, before);
}

/* A greeting may take minutes: the probe stays its worker's, and is the other's when that one ends. */
static void a_probe_that_takes_long_stays_alone(void **state)
{
    begin_refused(4, 1, "");
    accept_any(0, 5);
    accept_any(1, 5);
    wait_until_it_is_dead();
    atomic_store(&taker.refusal_ms, 60000);
    pair_until(&pair, spread_site(0)->claim_us != 0 || spread_site(1)->claim_us != 0);
    uint32_t prober = spread_site(0)->claim_us != 0 ? 0 : 1;
    uint64_t claim_us = spread_site(prober)->claim_us;
    pair_run_ms(&pair, 2500);
    assert_true(spread_site(prober)->claim_us >= claim_us + 1000000);
    assert_int_equal(spread_site(1 - prober)->claim_us, 0);
    assert_int_equal(atomic_load(&taker.most_open), 1);
    uint64_t drained_us = pair_clock_us();
    outbound_drain(&pair.workers[prober].outbound);
    pair_until(&pair, spread_site(1 - prober)->claim_us != 0);
    assert_true(pair_clock_us() - drained_us < 3000000); /* it was given, and did not run out */
    assert_int_equal(spread_site(prober)->claim_us, 0);
}

/* Its worker has no probe of its own to fail. */
static void old_mail_expires_while_another_worker_probes(void **state)
{
    pair.age_max_ms = 3600000;
    begin_refused(4, 1, "retry { max_age = \"1h\" }");
    accept_any(0, 5);
    accept_any(1, 5);
    wait_until_it_is_dead();
    atomic_store(&taker.refusal_ms, 60000);
    pair_until(&pair, spread_site(0)->claim_us != 0 || spread_site(1)->claim_us != 0);
    uint32_t other = spread_site(0)->claim_us != 0 ? 1 : 0;
    pair_accept(&pair, other, "x@old.test", 7200000);
    pair_until(&pair, pair_count(&pair, other, COUNTER_expired) == 1);
    assert_int_equal(spread_site(other)->claim_us, 0);
    assert_int_equal(atomic_load(&taker.most_open), 1);
}

/* The same probe for the old site and the new one, whoever has which configuration. */
static void a_reload_keeps_the_probe(void **state)
{
    char more[2][160];

    begin_refused(4, 1, "");
    for (int i = 0; i < 2; i++)
        snprintf(more[i], sizeof(more[i]),
                 "route \"other.test\" { to = \"smtp://127.0.0.2:%d\" }\n"
                 "route \"*\" { to = \"smtp://127.0.0.1:%u\" }\nsite \"%s\" { connections = 6 }",
                 i + 1, taker.ports[0].port, i == 0 ? "default" : "127.0.0.1");
    accept_any(0, 10);
    accept_any(1, 10);
    wait_until_it_is_dead();
    const struct probe *probe = spread_site(0)->probe;
    pair_reload(&pair, 0, more[0]);
    pair_run_ms(&pair, 10);
    pair_reload(&pair, 1, more[0]);
    assert_ptr_equal(spread_site(0)->probe, probe);
    assert_ptr_equal(spread_site(1)->probe, probe);
    assert_int_equal(probe_backoff_ms(probe), 300);
    watch_rounds(1500);
    pair_reload(&pair, 0, more[1]); /* another section: the sites are made anew */
    pair_run_ms(&pair, 10);
    pair_reload(&pair, 1, more[1]);
    assert_ptr_equal(spread_site(0)->probe, probe);
    assert_ptr_equal(spread_site(1)->probe, probe);
    atomic_store(&taker.refusal, NULL);
    pair_until(&pair, waiting() == 0);
    assert_int_equal(atomic_load(&taker.taken), 20);
}

static void a_spread_site_uses_both_workers(void **state)
{
    char more[128];

    taker.delay_ms = 5;
    taker_start(&taker, 1);
    has_taker = true;
    snprintf(more, sizeof(more),
             "route \"*\" { to = \"smtp://127.0.0.1:%u\" }\nsite \"default\" { connections = 4 }",
             taker.ports[0].port);
    pair.routes = NULL;
    pair_begin(&pair, "", more);
    for (uint32_t i = 0; i < 200; i++)
        pair_accept(&pair, 1, "x@any.test", 0);
    pair_until(&pair, waiting() == 0);
    assert_int_equal(atomic_load(&taker.taken), 200);
    assert_in_range(atomic_load(&taker.most_open), 3, 4);
    assert_true(pair_count(&pair, 0, COUNTER_messages_delivered) > 20);
}

#define CASE(name) cmocka_unit_test_teardown(name, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_domain_is_asked_for_once),
        CASE(only_the_owner_connects),
        CASE(a_host_without_an_address_belongs_to_its_site),
        CASE(an_answer_for_a_lane_that_is_gone),
        CASE(an_answer_after_a_reload),
        CASE(tls_is_as_the_asker_has_it),
        CASE(an_answer_in_the_middle_of_a_drain),
        CASE(a_question_to_one_that_drains),
        CASE(a_name_that_cannot_be_told_now_is_asked_for_again),
        CASE(more_may_be_away_the_more_is_delivered),
        CASE(each_outcome_is_settled_at_home),
        CASE(what_is_not_taken_stays),
        CASE(a_reload_while_deliveries_are_away),
        CASE(one_that_drains_is_left_alone),
        CASE(old_mail_is_tried_although_another_was_deferred),
        CASE(mail_for_an_owner_that_is_down_expires),
        CASE(a_spread_site_that_is_down_is_probed_with_a_guest),
        CASE(one_message_probes_for_all_workers),
        CASE(a_guest_comes_when_it_may_be_tried),
        CASE(a_worker_without_mail_hears_that_the_site_works),
        CASE(a_probe_that_takes_long_stays_alone),
        CASE(old_mail_expires_while_another_worker_probes),
        CASE(a_reload_keeps_the_probe),
        CASE(a_spread_site_uses_both_workers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
