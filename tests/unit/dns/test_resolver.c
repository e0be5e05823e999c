#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/outbound/dns/resolver_inner.h"
#include "world.h"

static const char zone[] = "host.test A 192.0.2.1\n"
                           "host.test A 192.0.2.2\n"
                           "host.test AAAA 2001:db8::1\n"
                           "short.test 1 A 192.0.2.3\n"
                           "long.test 999999 A 192.0.2.4\n"
                           "text.test TXT v=spf1 -all\n"
                           "alias.test 100 CNAME other.test\n"
                           "other.test 200 CNAME host.test\n"
                           "dangling.test CNAME nowhere.test\n"
                           "circle.test CNAME square.test\n"
                           "square.test CNAME circle.test\n"
                           "odd.test CNAME strange\\032name.test\n"
                           "mail.test MX 20 b.test\n"
                           "mail.test MX 10 A.Test\n"
                           "mail.test MX 30 bad\\032name.test\n";

static struct world *start(void **state)
{
    struct world *world = *state;
    peer_zone(world->peers[0], zone);
    peer_zone(world->peers[1], zone);
    world_start(world);
    return world;
}

static void records_come_as_the_zone_has_them(void **state)
{
    struct world *world = start(state);
    struct probe probe;
    const struct dns_records *records = probe_get(world, &probe, "HOST.test.", DNS_A);
    assert_int_equal(records->status, DNS_OK);
    assert_int_equal(records->count, 2);
    assert_int_equal(records->records[0].a.s_addr, inet_addr("192.0.2.1"));
    assert_int_equal(records->records[1].a.s_addr, inet_addr("192.0.2.2"));
    assert_int_equal(records->ttl_s, 300);
    assert_string_equal(records->name, "host.test");
    assert_false(records->is_authentic);
    probe_end(&probe);

    records = probe_get(world, &probe, "host.test", DNS_AAAA);
    struct in6_addr wanted;
    assert_int_equal(inet_pton(AF_INET6, "2001:db8::1", &wanted), 1);
    assert_int_equal(records->count, 1);
    assert_memory_equal(&records->records[0].aaaa, &wanted, sizeof(wanted));
    probe_end(&probe);

    records = probe_get(world, &probe, "mail.test", DNS_MX);
    assert_int_equal(records->count, 3);
    assert_string_equal(records->records[0].mx.exchange, "a.test");
    assert_int_equal(records->records[0].mx.preference, 10);
    assert_string_equal(records->records[1].mx.exchange, "b.test");
    assert_string_equal(records->records[2].mx.exchange, DNS_EXCHANGE_BAD);
    probe_end(&probe);

    records = probe_get(world, &probe, "text.test", DNS_TXT);
    assert_int_equal(records->count, 1);
    assert_int_equal(records->records[0].txt.size, 11);
    assert_memory_equal(records->records[0].txt.bytes, "v=spf1 -all", 11);
    probe_end(&probe);

    assert_int_equal(world->peers[0]->edns_count, 4);
    assert_int_equal(world->peers[0]->ad_count, 0);
    assert_int_equal(world_count(world, COUNTER_dns_queries), 4);
    assert_int_equal(world_count(world, COUNTER_dns_answers), 4);
}

static void the_cache_answers_the_second_time(void **state)
{
    struct world *world = start(state);
    for (int time = 0; time < 3; time++)
        expect(world, time == 1 ? "Host.Test" : "host.test", DNS_A, DNS_OK, 2);
    assert_int_equal(world->peers[0]->udp_count, 1);
    assert_int_equal(world_count(world, COUNTER_dns_cache_hits), 2);
    assert_int_equal(resolver_load(world->resolver).cache_entries, 1);
    resolver_flush(world->resolver);
    expect(world, "host.test", DNS_A, DNS_OK, 2);
    assert_int_equal(world->peers[0]->udp_count, 2);
}

static void equal_questions_are_asked_once(void **state)
{
    struct world *world = start(state);
    struct probe probes[50];
    for (int index = 0; index < 50; index++)
        probe_ask(world, &probes[index], "host.test", DNS_A);
    assert_int_equal(resolver_load(world->resolver).lookups, 1);
    for (int index = 0; index < 50; index++) {
        world_until(world, probes[index].calls == 1);
        assert_ptr_equal(probes[index].records, probes[0].records);
    }
    for (int index = 0; index < 50; index++)
        probe_end(&probes[index]);
    assert_int_equal(world->peers[0]->udp_count, 1);
}

static void a_cancelled_question_is_not_answered(void **state)
{
    struct world *world = start(state);
    struct probe gone;
    struct probe stays;
    probe_ask(world, &gone, "host.test", DNS_A);
    probe_ask(world, &stays, "host.test", DNS_A);
    resolver_cancel(&gone.query);
    resolver_cancel(&gone.query);
    world_until(world, stays.calls == 1);
    probe_end(&stays);
    /* Its answer is in the cache already: cancelled between the question and the hook. */
    probe_ask(world, &gone, "host.test", DNS_A);
    resolver_cancel(&gone.query);
    for (int turn = 0; turn < 5; turn++)
        world_turn(world);
    assert_int_equal(gone.calls, 0);
    struct resolver_query never = {0};
    resolver_cancel(&never);
}

static void what_does_not_exist_is_remembered_by_its_soa(void **state)
{
    struct world *world = start(state);
    struct probe probe;
    const struct dns_records *records = probe_get(world, &probe, "nowhere.test", DNS_A);
    assert_int_equal(records->status, DNS_NXDOMAIN);
    assert_int_equal(records->ttl_s, 60); /* the SOA's minimum */
    probe_end(&probe);
    world->peers[0]->soa_ttl_s = 30;
    records = probe_get(world, &probe, "text.test", DNS_A);
    assert_int_equal(records->status, DNS_NODATA);
    assert_int_equal(records->ttl_s, 30); /* the SOA's own */
    probe_end(&probe);
    world->peers[0]->soa_ttl_s = world->peers[0]->soa_minimum_s = 1000000;
    records = probe_get(world, &probe, "text.test", DNS_MX);
    assert_int_equal(records->ttl_s, RESOLVER_TTL_NEGATIVE_MAX_S);
    probe_end(&probe);
    peer_play(world->peers[0], "text.test", PEER_NO_SOA, 1);
    records = probe_get(world, &probe, "text.test", DNS_AAAA);
    assert_int_equal(records->status, DNS_NODATA);
    assert_int_equal(records->ttl_s, RESOLVER_TTL_MIN_S);
    probe_end(&probe);
    expect(world, "nowhere.test", DNS_A, DNS_NXDOMAIN, 0);
    assert_int_equal(world->peers[0]->udp_count, 4);
}

static void times_to_live_have_limits(void **state)
{
    struct world *world = start(state);
    struct probe probe;
    assert_int_equal(probe_get(world, &probe, "short.test", DNS_A)->ttl_s, RESOLVER_TTL_MIN_S);
    probe_end(&probe);
    assert_int_equal(probe_get(world, &probe, "long.test", DNS_A)->ttl_s, RESOLVER_TTL_MAX_S);
    probe_end(&probe);
}

static void aliases_are_followed(void **state)
{
    struct world *world = start(state);
    struct probe probe;
    const struct dns_records *records = probe_get(world, &probe, "alias.test", DNS_A);
    assert_int_equal(records->count, 2);
    assert_string_equal(records->name, "host.test");
    assert_int_equal(records->ttl_s, 100); /* the shortest of the chain */
    probe_end(&probe);
    expect(world, "dangling.test", DNS_A, DNS_NXDOMAIN, 0);
    expect(world, "other.test", DNS_TXT, DNS_NODATA, 0);
    assert_int_equal(world->peers[0]->udp_count, 3);
}

static void aliases_told_one_at_a_time_are_asked_for(void **state)
{
    struct world *world = start(state);
    peer_play(world->peers[0], "alias.test", PEER_NO_CHASE, 1);
    peer_play(world->peers[0], "other.test", PEER_NO_CHASE, 1);
    struct probe probe;
    const struct dns_records *records = probe_get(world, &probe, "alias.test", DNS_A);
    assert_int_equal(records->count, 2);
    assert_string_equal(records->name, "host.test");
    assert_int_equal(records->ttl_s, 100);
    probe_end(&probe);
    assert_int_equal(world->peers[0]->udp_count, 3);
}

static void a_circle_of_aliases_ends(void **state)
{
    struct world *world = start(state);
    expect(world, "circle.test", DNS_A, DNS_TEMPORARY, 0);
    peer_play(world->peers[0], "circle.test", PEER_NO_CHASE, UINT32_MAX);
    peer_play(world->peers[0], "square.test", PEER_NO_CHASE, UINT32_MAX);
    uint32_t before = world->peers[0]->udp_count;
    expect(world, "square.test", DNS_MX, DNS_TEMPORARY, 0);
    assert_true(world->peers[0]->udp_count - before <= RESOLVER_ALIASES_MAX + 1);
    expect(world, "odd.test", DNS_A, DNS_TEMPORARY, 0);
}

static void strays_are_overlooked(void **state)
{
    struct world *world = start(state);
    peer_play(world->peers[0], "host.test", PEER_STRAYS, 1);
    struct probe probe;
    const struct dns_records *records = probe_get(world, &probe, "host.test", DNS_A);
    assert_int_equal(records->count, 2);
    assert_int_equal(records->records[1].a.s_addr, inet_addr("192.0.2.2"));
    probe_end(&probe);
    assert_int_equal(world->peers[0]->udp_count, 1);
    assert_int_equal(world_count(world, COUNTER_dns_timeouts), 0);
}

static void a_flood_of_wrong_ids_leads_to_tcp(void **state)
{
    struct world *world = start(state);
    peer_play(world->peers[0], "host.test", PEER_FLOODS, 1);
    expect(world, "host.test", DNS_A, DNS_OK, 2);
    assert_int_equal(world->peers[0]->udp_count, 1);
    assert_int_equal(world->peers[0]->tcp_count, 1);
}

static void a_truncated_answer_is_asked_for_over_tcp(void **state)
{
    struct world *world = start(state);
    peer_play(world->peers[0], "host.test", PEER_TRUNCATES, 2);
    expect(world, "host.test", DNS_A, DNS_OK, 2);
    assert_int_equal(world->peers[0]->tcp_count, 1);
    assert_int_equal(world_count(world, COUNTER_dns_tcp), 1);
    assert_int_equal(world_count(world, COUNTER_dns_queries), 2);
}

static void a_server_that_fails_over_tcp_is_passed_over(void **state)
{
    struct world *world = start(state);
    peer_play(world->peers[0], "host.test", PEER_CLOSES_TCP, UINT32_MAX);
    expect(world, "host.test", DNS_A, DNS_OK, 2);
    peer_play(world->peers[0], "text.test", PEER_TRUNCATES_TCP, UINT32_MAX);
    expect(world, "text.test", DNS_TXT, DNS_OK, 1);
    assert_int_equal(world->peers[1]->udp_count, 2);
}

static void large_sets_come_over_tcp(void **state)
{
    struct world *world = start(state);
    char line[64];
    for (unsigned index = 0; index < 1500; index++) {
        /* The best come last. */
        snprintf(line, sizeof(line), "many.test MX %u m%u.test", 1500 - index, index);
        peer_zone(world->peers[0], line);
    }
    struct probe probe;
    const struct dns_records *records = probe_get(world, &probe, "many.test", DNS_MX);
    assert_int_equal(records->status, DNS_OK);
    assert_int_equal(records->count, DNS_RECORDS_MAX);
    assert_int_equal(records->records[0].mx.preference, 1);
    assert_string_equal(records->records[0].mx.exchange, "m1499.test");
    for (uint32_t index = 1; index < records->count; index++)
        assert_true(records->records[index - 1].mx.preference <= records->records[index].mx.preference);
    probe_end(&probe);
    assert_int_equal(world->peers[0]->tcp_count, 1);
}

static void a_server_without_edns_is_asked_without(void **state)
{
    struct world *world = start(state);
    peer_play(world->peers[0], "host.test", PEER_HATES_EDNS, UINT32_MAX);
    expect(world, "host.test", DNS_A, DNS_OK, 2);
    assert_int_equal(world->peers[0]->udp_count, 2);
    assert_int_equal(world->peers[0]->edns_count, 1);
}

static void the_next_server_answers_for_a_silent_one(void **state)
{
    struct world *world = start(state);
    world->peers[0]->is_deaf = true;
    expect(world, "host.test", DNS_A, DNS_OK, 2);
    assert_int_equal(world->peers[0]->udp_count, 1);
    assert_int_equal(world->peers[1]->udp_count, 1);
    assert_int_equal(world_count(world, COUNTER_dns_timeouts), 1);
    /* After three silences it is asked no more. */
    expect(world, "host.test", DNS_AAAA, DNS_OK, 1);
    expect(world, "text.test", DNS_TXT, DNS_OK, 1);
    assert_int_equal(world->peers[0]->udp_count, 3);
    expect(world, "mail.test", DNS_MX, DNS_OK, 3);
    assert_int_equal(world->peers[0]->udp_count, 3);
}

static void a_lost_packet_is_sent_again(void **state)
{
    struct world *world = *state;
    world->options.settings.server_count = 1;
    start(state);
    peer_play(world->peers[0], "host.test", PEER_SILENT, 2);
    expect(world, "host.test", DNS_A, DNS_OK, 2);
    assert_int_equal(world->peers[0]->udp_count, 3);
}

static void a_cut_packet_is_no_answer(void **state)
{
    struct world *world = start(state);
    peer_play(world->peers[0], "host.test", PEER_CUTS, UINT32_MAX);
    expect(world, "host.test", DNS_A, DNS_OK, 2);
    assert_int_equal(world->peers[1]->udp_count, 1);
}

static void silence_ends_in_time(void **state)
{
    struct world *world = start(state);
    world->peers[0]->is_deaf = true;
    world->peers[1]->is_deaf = true;
    uint64_t begin_us = world_clock_us();
    expect(world, "host.test", DNS_A, DNS_TEMPORARY, 0);
    uint64_t took_ms = (world_clock_us() - begin_us) / 1000;
    assert_true(took_ms >= 1500 && took_ms <= 8000);
    /* It is remembered for a moment. */
    uint32_t before = world->peers[0]->udp_count;
    expect(world, "host.test", DNS_A, DNS_TEMPORARY, 0);
    assert_int_equal(world->peers[0]->udp_count, before);
}

static void failing_servers_are_asked_once_each(void **state)
{
    struct world *world = start(state);
    peer_play(world->peers[0], "host.test", PEER_SERVFAIL, UINT32_MAX);
    peer_play(world->peers[1], "host.test", PEER_REFUSED, UINT32_MAX);
    struct probe probe;
    const struct dns_records *records = probe_get(world, &probe, "host.test", DNS_A);
    assert_int_equal(records->status, DNS_TEMPORARY);
    assert_string_equal(records->reason, "the name server refuses to answer");
    assert_int_equal(records->ttl_s, RESOLVER_TTL_FAILURE_S);
    probe_end(&probe);
    assert_int_equal(world->peers[0]->udp_count, 1);
    assert_int_equal(world->peers[1]->udp_count, 1);
    peer_play(world->peers[0], "text.test", PEER_REFERS, UINT32_MAX);
    expect(world, "text.test", DNS_TXT, DNS_OK, 1);
    assert_int_equal(world->peers[1]->udp_count, 2);
}

/* As if the name had failed so many seconds ago, and that been remembered for `ttl_s`. */
static void remember_failure(struct world *world, uint32_t ttl_s, uint32_t ago_s)
{
    struct dns_records_draft draft = {
        .status = DNS_TEMPORARY,
        .type = DNS_A,
        .ttl_s = ttl_s,
        .now_us = loop_now_us(world->loop) - (uint64_t)ago_s * 1000000,
        .reason = "it failed",
        .name = "host.test",
    };
    struct dns_records *records = dns_records_new(&world->pool, &draft);
    assert_non_null(records);
    dns_cache_put(&world->resolver->cache, "host.test", DNS_A, records);
    dns_records_release(&world->pool, records);
}

static void expect_failure(struct world *world, uint32_t ttl_s)
{
    struct probe probe;
    const struct dns_records *records = probe_get(world, &probe, "host.test", DNS_A);
    assert_int_equal(records->status, DNS_TEMPORARY);
    assert_int_equal(records->ttl_s, ttl_s);
    probe_end(&probe);
}

static void a_failure_that_comes_again_is_remembered_longer(void **state)
{
    struct world *world = start(state);
    peer_play(world->peers[0], "host.test", PEER_SERVFAIL, UINT32_MAX);
    peer_play(world->peers[1], "host.test", PEER_SERVFAIL, UINT32_MAX);
    static const struct {
        uint32_t ttl_s, ago_s, next_s;
    } cases[] = {{10, 11, 20}, {20, 250, 40}, {200, 201, 300}, {300, 400, 300}, {300, 700, 10}};
    for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
        remember_failure(world, cases[index].ttl_s, cases[index].ago_s);
        expect_failure(world, cases[index].next_s);
    }
    remember_failure(world, 10, 11);
    world->peers[0]->trick_count = 0;
    expect(world, "host.test", DNS_A, DNS_OK, 2);
}

/* Who hears nothing from anybody has lost his name servers: that says nothing of the zone. */
static void a_silent_zone_is_told_from_silent_servers(void **state)
{
    struct world *world = start(state);
    world->peers[0]->is_deaf = true;
    world->peers[1]->is_deaf = true;
    remember_failure(world, 100, 101);
    expect_failure(world, RESOLVER_TTL_FAILURE_S);
    world->peers[0]->is_deaf = false;
    world->peers[0]->deaf_to = "host";
    remember_failure(world, 100, 101);
    struct probe probe;
    struct probe other;
    probe_ask(world, &probe, "host.test", DNS_A);
    probe_get(world, &other, "text.test", DNS_TXT);
    world_until(world, probe.calls > 0);
    assert_int_equal(probe.records->status, DNS_TEMPORARY);
    assert_int_equal(probe.records->ttl_s, 200);
    probe_end(&probe);
    probe_end(&other);
}

static void a_server_that_is_not_there_costs_no_time(void **state)
{
    struct world *world = *state;
    struct peer *gone = peer_new();
    world->servers[0] = gone->address;
    peer_free(gone);
    start(state);
    expect(world, "host.test", DNS_A, DNS_OK, 2);
    assert_int_equal(world_count(world, COUNTER_dns_timeouts), 0);
    assert_int_equal(world->peers[1]->udp_count, 1);
}

static void only_a_trusted_server_makes_it_authentic(void **state)
{
    struct world *world = start(state);
    world->peers[0]->is_authenticated = true;
    struct probe probe;
    assert_false(probe_get(world, &probe, "host.test", DNS_A)->is_authentic);
    probe_end(&probe);
    struct resolver_settings settings = world->options.settings;
    settings.trust_ad = true;
    assert_int_equal(resolver_configure(world->resolver, &settings), 0);
    assert_int_equal(resolver_load(world->resolver).cache_entries, 0);
    assert_true(probe_get(world, &probe, "host.test", DNS_A)->is_authentic);
    probe_end(&probe);
    assert_int_equal(world->peers[0]->ad_count, 1);
    assert_true(probe_get(world, &probe, "nowhere.test", DNS_A)->is_authentic);
    probe_end(&probe);
    world->peers[0]->is_authenticated = false;
    assert_false(probe_get(world, &probe, "text.test", DNS_TXT)->is_authentic);
    probe_end(&probe);
}

static int compare_ports(const void *a, const void *b)
{
    return *(const uint16_t *)a - *(const uint16_t *)b;
}

static void ports_and_ids_cannot_be_guessed(void **state)
{
    struct world *world = start(state);
    for (int index = 0; index < 64; index++) {
        char name[32];
        snprintf(name, sizeof(name), "n%d.test", index);
        expect(world, name, DNS_A, DNS_NXDOMAIN, 0);
    }
    uint16_t *lists[] = {world->peers[0]->ports, world->peers[0]->ids};
    for (int list = 0; list < 2; list++) {
        uint32_t rising = 0;
        for (int index = 1; index < 64; index++)
            rising += lists[list][index] > lists[list][index - 1];
        assert_true(rising > 10 && rising < 54);
        qsort(lists[list], 64, sizeof(uint16_t), compare_ports);
        uint32_t different = 1;
        for (int index = 1; index < 64; index++)
            different += lists[list][index] != lists[list][index - 1];
        assert_true(different > 56);
    }
}

static void more_questions_than_sockets_wait(void **state)
{
    struct world *world = *state;
    world->options.sockets_max = 3;
    start(state);
    static struct probe probes[200];
    for (int index = 0; index < 200; index++) {
        char name[32];
        snprintf(name, sizeof(name), "n%d.test", index);
        probe_ask(world, &probes[index], name, DNS_A);
    }
    for (int turn = 0; turn < 2; turn++)
        world_turn(world);
    assert_true(world->peers[0]->udp_count <= 6);
    for (int index = 0; index < 200; index++) {
        world_until(world, probes[index].calls == 1);
        assert_int_equal(probes[index].records->status, DNS_NXDOMAIN);
        probe_end(&probes[index]);
    }
    assert_int_equal(world->peers[0]->udp_count, 200);
}

static void the_cache_stays_within_its_bounds(void **state)
{
    struct world *world = *state;
    world->options.cache_entries = 10;
    world->options.cache_bytes = 2000;
    start(state);
    for (int index = 0; index < 30; index++) {
        char name[32];
        snprintf(name, sizeof(name), "n%d.test", index);
        expect(world, name, DNS_A, DNS_NXDOMAIN, 0);
        expect(world, "host.test", DNS_A, DNS_OK, 2);
        assert_true(resolver_load(world->resolver).cache_entries <= 10);
        assert_true(resolver_load(world->resolver).cache_bytes <= 2000);
    }
    /* The one that was used again and again was never the oldest. */
    assert_int_equal(world->peers[0]->udp_count, 31);
}

static void names_that_cannot_be_are_not_asked_for(void **state)
{
    struct world *world = start(state);
    static const char *const names[] = {
        "", ".", "a..b", ".a", "with space.test", "[192.0.2.1]", "\xc3\xa4.test"};
    for (size_t index = 0; index < sizeof(names) / sizeof(names[0]); index++)
        expect(world, names[index], DNS_A, DNS_NXDOMAIN, 0);
    char long_name[300];
    memset(long_name, 'a', sizeof(long_name));
    long_name[299] = '\0';
    expect(world, long_name, DNS_A, DNS_NXDOMAIN, 0);
    assert_int_equal(world->peers[0]->udp_count, 0);
}

static void the_end_answers_all_who_wait(void **state)
{
    struct world *world = *state;
    world->options.sockets_max = 1;
    start(state);
    world->peers[0]->is_deaf = true;
    struct probe probes[3];
    probe_ask(world, &probes[0], "host.test", DNS_A);
    probe_ask(world, &probes[1], "host.test", DNS_AAAA);
    world_turn(world);
    resolver_drop_pending(world->resolver);
    probe_ask(world, &probes[2], "text.test", DNS_TXT);
    for (int index = 0; index < 3; index++) {
        world_until(world, probes[index].calls == 1);
        assert_int_equal(probes[index].records->status, DNS_TEMPORARY);
        probe_end(&probes[index]);
    }
    world_until(world, resolver_is_idle(world->resolver));
    assert_int_equal(resolver_load(world->resolver).cache_entries, 0);
}

static struct probe second;

static void ask_again(struct resolver_query *query, const struct dns_records *records)
{
    struct world *world = query->ctx;
    probe_ask(world, &second, "host.test", DNS_A);
}

static void who_is_answered_may_ask_again(void **state)
{
    struct world *world = start(state);
    struct resolver_query query = {.ctx = world};
    resolver_ask(world->resolver, &query, "host.test", DNS_A, ask_again);
    second.calls = 0;
    world_until(world, second.calls == 1);
    assert_int_equal(second.records->count, 2);
    probe_end(&second);
    assert_int_equal(world->peers[0]->udp_count, 1);
}

static struct {
    struct loop_hook hook;
    struct world *world;
    struct probe probe;
    bool has_asked;
} late;

static void ask_late(struct loop_hook *hook)
{
    if (!late.has_asked)
        probe_ask(late.world, &late.probe, "host.test", DNS_A);
    late.has_asked = true;
}

static void what_is_asked_late_in_a_turn_does_not_sleep(void **state)
{
    struct world *world = start(state);
    expect(world, "host.test", DNS_A, DNS_OK, 2);
    while (!resolver_is_idle(world->resolver))
        world_turn(world);
    late.world = world;
    late.hook.fn = ask_late; /* after the resolver's own hook */
    loop_add_hook(world->loop, &late.hook);
    uint64_t begin_us = world_clock_us();
    while (!late.has_asked)
        loop_turn(world->loop, 3000000);
    assert_true(world_clock_us() - begin_us < 1000000);
    loop_turn(world->loop, 0);
    assert_int_equal(late.probe.calls, 1);
    probe_end(&late.probe);
}

int main(void)
{
#define WORLD_TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        WORLD_TEST(records_come_as_the_zone_has_them),
        WORLD_TEST(the_cache_answers_the_second_time),
        WORLD_TEST(equal_questions_are_asked_once),
        WORLD_TEST(a_cancelled_question_is_not_answered),
        WORLD_TEST(what_does_not_exist_is_remembered_by_its_soa),
        WORLD_TEST(times_to_live_have_limits),
        WORLD_TEST(aliases_are_followed),
        WORLD_TEST(aliases_told_one_at_a_time_are_asked_for),
        WORLD_TEST(a_circle_of_aliases_ends),
        WORLD_TEST(strays_are_overlooked),
        WORLD_TEST(a_flood_of_wrong_ids_leads_to_tcp),
        WORLD_TEST(a_truncated_answer_is_asked_for_over_tcp),
        WORLD_TEST(a_server_that_fails_over_tcp_is_passed_over),
        WORLD_TEST(large_sets_come_over_tcp),
        WORLD_TEST(a_server_without_edns_is_asked_without),
        WORLD_TEST(the_next_server_answers_for_a_silent_one),
        WORLD_TEST(a_lost_packet_is_sent_again),
        WORLD_TEST(a_cut_packet_is_no_answer),
        WORLD_TEST(silence_ends_in_time),
        WORLD_TEST(failing_servers_are_asked_once_each),
        WORLD_TEST(a_failure_that_comes_again_is_remembered_longer),
        WORLD_TEST(a_silent_zone_is_told_from_silent_servers),
        WORLD_TEST(a_server_that_is_not_there_costs_no_time),
        WORLD_TEST(only_a_trusted_server_makes_it_authentic),
        WORLD_TEST(ports_and_ids_cannot_be_guessed),
        WORLD_TEST(more_questions_than_sockets_wait),
        WORLD_TEST(the_cache_stays_within_its_bounds),
        WORLD_TEST(names_that_cannot_be_are_not_asked_for),
        WORLD_TEST(the_end_answers_all_who_wait),
        WORLD_TEST(who_is_answered_may_ask_again),
        WORLD_TEST(what_is_asked_late_in_a_turn_does_not_sleep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
