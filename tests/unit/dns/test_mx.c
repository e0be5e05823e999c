#include <arpa/inet.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/address.h"
#include "world.h"

static const char zone[] = "one.test MX 10 mx.one.test\n"
                           "mx.one.test A 192.0.2.1\n"
                           "mx.one.test AAAA 2001:db8::1\n"
                           "order.test MX 20 c.order.test\n"
                           "order.test MX 5 a.order.test\n"
                           "order.test MX 10 b.order.test\n"
                           "a.order.test A 192.0.2.11\n"
                           "b.order.test A 192.0.2.12\n"
                           "c.order.test 77 A 192.0.2.13\n"
                           "equal.test MX 10 mx.one.test\n"
                           "equal.test MX 10 a.order.test\n"
                           "implicit.test A 192.0.2.2\n"
                           "null.test MX 0 .\n"
                           "notnull.test MX 0 .\n"
                           "notnull.test MX 10 mx.one.test\n"
                           "empty.test TXT nothing\n"
                           "deadhosts.test MX 10 nowhere.test\n"
                           "deadhosts.test MX 20 empty.test\n"
                           "badhost.test MX 10 bad\\032name.test\n"
                           "badhost.test A 192.0.2.66\n"
                           "literal.test MX 10 192.0.2.3\n"
                           "aliased.test MX 10 alias.test\n"
                           "alias.test CNAME mx.one.test\n"
                           "domainalias.test CNAME one.test\n"
                           "hostalias.test CNAME implicit.test\n"
                           "backup.test MX 10 mx.one.test\n"
                           "backup.test MX 20 us.test\n"
                           "backup.test MX 20 a.order.test\n"
                           "backup.test MX 30 b.order.test\n"
                           "ours.test MX 10 US.test\n"
                           "ours.test MX 20 mx.one.test\n"
                           "us.test A 192.0.2.99\n"
                           "byaddress.test MX 10 a.order.test\n"
                           "byaddress.test MX 20 secret.test\n"
                           "byaddress.test MX 30 b.order.test\n"
                           "secret.test A 192.0.2.98\n"
                           "byequal.test MX 10 a.order.test\n"
                           "byequal.test MX 20 b.order.test\n"
                           "byequal.test MX 20 secret.test\n"
                           "onlyaddress.test MX 10 secret.test\n"
                           "twice.test MX 10 mx.one.test\n"
                           "twice.test MX 20 MX.one.test\n"
                           "half.test MX 10 broken.test\n"
                           "half.test MX 20 mx.one.test\n"
                           "broken.test A 192.0.2.4\n"
                           "broken.test AAAA 2001:db8::4\n"
                           "allbroken.test MX 10 broken.test\n"
                           "allbroken.test MX 20 nowhere.test\n"
                           "brokenbackup.test MX 10 broken.test\n"
                           "brokenbackup.test MX 20 us.test\n"
                           "v6broken.test MX 10 mixed.test\n"
                           "mixed.test A 192.0.2.5\n";

struct mx_probe {
    struct mx_query query;
    uint32_t calls;
    struct mx_result *result;
};

static const char *const own_names[] = {"us.test", "not a name", "Other-Us.test"};

static struct world *start(void **state)
{
    static struct sockaddr_storage own[2];
    struct world *world = *state;
    assert_int_equal(parse_ip("192.0.2.98", 25, &own[0]), 0);
    assert_int_equal(parse_ip("192.0.2.1", 2525, &own[1]), 0); /* not where the world reaches us */
    world->options.settings.own_names = own_names;
    world->options.settings.own_name_count = 3;
    world->options.settings.own_addresses = own;
    world->options.settings.own_address_count = 2;
    world->options.settings.server_count = 1;
    peer_zone(world->peers[0], zone);
    world_start(world);
    return world;
}

static void on_result(struct mx_query *query, struct mx_result *result)
{
    struct mx_probe *probe = query->ctx;
    assert_int_equal(probe->calls++, 0);
    probe->result = result;
}

/* The caller's to free. */
static struct mx_result *get(struct world *world, const char *domain)
{
    struct mx_probe probe = {.query.ctx = &probe};
    mx_ask(world->resolver, &probe.query, domain, on_result);
    assert_int_equal(probe.calls, 0);
    world_until(world, probe.calls == 1);
    assert_non_null(probe.result);
    assert_true(probe.result->ttl_s > 0);
    assert_true((probe.result->status == MX_OK) == (probe.result->host_count > 0));
    assert_true((probe.result->status == MX_OK) == (probe.result->reason[0] == '\0'));
    return probe.result;
}

/* "NAME=ADDRESS,ADDRESS NAME=ADDRESS" */
static void describe(const struct mx_result *result, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t index = 0; index < result->host_count; index++) {
        const struct mx_host *host = &result->hosts[index];
        used += (size_t)snprintf(text + used, size - used, "%s%s=", index > 0 ? " " : "", host->name);
        for (uint32_t at = 0; at < host->address_count; at++) {
            char address[ADDRESS_TEXT_SIZE];
            address_format((const struct sockaddr *)&host->addresses[at], address);
            used += (size_t)snprintf(text + used, size - used, "%s%s", at > 0 ? "," : "", address);
        }
    }
}

/* An outcome, and where the mail goes when it goes. */
static void expect_mx(struct world *world, const char *domain, enum mx_status status, const char *hosts)
{
    char found[4096];
    struct mx_result *result = get(world, domain);
    describe(result, found, sizeof(found));
    if (result->status != status || strcmp(found, hosts) != 0)
        fail_msg("%s: status %d, \"%s\" (%s)", domain, (int)result->status, found, result->reason);
    mx_result_free(result);
}

static void the_outcome_of_each_kind_of_domain(void **state)
{
    struct world *world = start(state);
    peer_play(world->peers[0], "broken.test", PEER_SERVFAIL, UINT32_MAX);
    peer_play(world->peers[0], "servfail.test", PEER_SERVFAIL, UINT32_MAX);
    static const struct {
        const char *domain;
        enum mx_status status;
        const char *hosts;
    } cases[] = {
        {"order.test", MX_OK,
         "a.order.test=192.0.2.11:25 b.order.test=192.0.2.12:25 c.order.test=192.0.2.13:25"},
        {"implicit.test", MX_OK, "implicit.test=192.0.2.2:25"},
        {"null.test", MX_NULL, ""},
        {"empty.test", MX_NONE, ""},
        {"deadhosts.test", MX_NONE, ""},
        {"badhost.test", MX_NONE, ""}, /* an MX that leads nowhere does not make the domain its own host */
        {"nowhere.test", MX_NXDOMAIN, ""},
        {"a..b", MX_NXDOMAIN, ""},
        {"", MX_NXDOMAIN, ""},
        {"servfail.test", MX_TEMPORARY, ""},
        {"literal.test", MX_OK, "192.0.2.3=192.0.2.3:25"},
        {"hostalias.test", MX_OK, "implicit.test=192.0.2.2:25"},
        {"[192.0.2.7]", MX_OK, "[192.0.2.7]=192.0.2.7:25"},
        {"[ipv6:2001:db8::7]", MX_OK, "[ipv6:2001:db8::7]=[2001:db8::7]:25"},
        {"[2001:db8::7]", MX_NXDOMAIN, ""},
        {"[192.0.2.7", MX_NXDOMAIN, ""},
        {"[example]", MX_NXDOMAIN, ""},
        {"[192.0.2.98]", MX_LOOP, ""},
        {"us.test", MX_LOOP, ""},
        {"ours.test", MX_LOOP, ""},
        {"onlyaddress.test", MX_LOOP, ""},
        {"byaddress.test", MX_OK, "a.order.test=192.0.2.11:25"},
        {"allbroken.test", MX_TEMPORARY, ""},
        {"brokenbackup.test", MX_TEMPORARY, ""},
    };
    for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++)
        expect_mx(world, cases[index].domain, cases[index].status, cases[index].hosts);
}

/* Both addresses of mx.one.test, in the order that the routes of this machine call for. */
static void expect_host_one(struct world *world, const char *domain, const char *name)
{
    struct mx_result *result = get(world, domain);
    assert_int_equal(result->status, MX_OK);
    assert_int_equal(result->host_count, 1);
    assert_string_equal(result->hosts[0].name, name);
    assert_int_equal(result->hosts[0].address_count, 2);
    assert_true(result->hosts[0].addresses[0].ss_family != result->hosts[0].addresses[1].ss_family);
    mx_result_free(result);
}

static void both_families_are_there(void **state)
{
    struct world *world = start(state);
    expect_host_one(world, "one.test", "mx.one.test");
    expect_host_one(world, "notnull.test", "mx.one.test");
    expect_host_one(world, "aliased.test", "alias.test");
    expect_host_one(world, "domainalias.test", "mx.one.test");
    expect_host_one(world, "twice.test", "mx.one.test");
    expect_host_one(world, "backup.test", "mx.one.test");
    peer_play(world->peers[0], "broken.test", PEER_SERVFAIL, UINT32_MAX);
    expect_host_one(world, "half.test", "mx.one.test");
}

static void families_take_turns(void **state)
{
    struct world *world = start(state);
    peer_zone(world->peers[0],
              "turns.test AAAA 2001:db8::21\nturns.test A 192.0.2.21\nturns.test A 192.0.2.22\n"
              "turns.test A 192.0.2.23\nturns.test AAAA 2001:db8::22\n");
    struct mx_result *result = get(world, "turns.test");
    assert_int_equal(result->hosts[0].address_count, 5);
    const struct sockaddr_storage *addresses = result->hosts[0].addresses;
    assert_true(addresses[0].ss_family != addresses[1].ss_family);
    assert_true(addresses[1].ss_family != addresses[2].ss_family);
    assert_true(addresses[2].ss_family != addresses[3].ss_family);
    assert_int_equal(addresses[4].ss_family, AF_INET);
    mx_result_free(result);
}

static void one_family_may_fail(void **state)
{
    struct world *world = start(state);
    /* The first question about the host is the one for AAAA. */
    peer_play(world->peers[0], "mixed.test", PEER_SERVFAIL, 1);
    expect_mx(world, "v6broken.test", MX_OK, "mixed.test=192.0.2.5:25");
}

static void who_stands_beside_us_is_cut_too(void **state)
{
    struct world *world = start(state);
    /* Equals come in random order: we are before the other, and behind it. */
    for (int time = 0; time < 30; time++)
        expect_mx(world, "byequal.test", MX_OK, "a.order.test=192.0.2.11:25");
}

static void equals_share_the_load(void **state)
{
    struct world *world = start(state);
    uint32_t first = 0;
    for (int time = 0; time < 200; time++) {
        struct mx_result *result = get(world, "equal.test");
        assert_int_equal(result->host_count, 2);
        first += strcmp(result->hosts[0].name, "mx.one.test") == 0;
        mx_result_free(result);
    }
    assert_true(first > 50 && first < 150);
    assert_int_equal(world->peers[0]->udp_count, 5);
}

static void a_thousand_hosts_are_bounded(void **state)
{
    struct world *world = start(state);
    char line[96];
    for (int index = 0; index < 1000; index++) {
        snprintf(line, sizeof(line), "many.test MX %d h%d.test\nh%d.test A 10.0.%d.%d\n", 2000 - index, index,
                 index, index / 250, index % 250);
        peer_zone(world->peers[0], line);
    }
    struct mx_result *result = get(world, "many.test");
    assert_int_equal(result->host_count, MX_HOSTS_MAX);
    assert_string_equal(result->hosts[0].name, "h999.test");
    assert_string_equal(result->hosts[MX_HOSTS_MAX - 1].name, "h980.test");
    mx_result_free(result);
    assert_int_equal(world->peers[0]->udp_count + world->peers[0]->tcp_count, 2 + 2 * MX_HOSTS_MAX);
}

/* The names that were chosen, in the alphabet. */
static void names_of(struct mx_result *result, char names[static MX_HOSTS_MAX][DNS_NAME_SIZE])
{
    assert_int_equal(result->host_count, MX_HOSTS_MAX);
    for (uint32_t index = 0; index < MX_HOSTS_MAX; index++)
        snprintf(names[index], DNS_NAME_SIZE, "%s", result->hosts[index].name);
    qsort(names, MX_HOSTS_MAX, DNS_NAME_SIZE, (int (*)(const void *, const void *))strcmp);
}

/* Else each answer would make another site of them, with limits of its own. */
static void of_a_thousand_equals_the_same_are_chosen(void **state)
{
    static char first[MX_HOSTS_MAX][DNS_NAME_SIZE];
    static char names[MX_HOSTS_MAX][DNS_NAME_SIZE];
    struct world *world = start(state);
    struct peer *peer = world->peers[0];
    char line[96];
    size_t begin = peer->record_count;
    for (int index = 0; index < 1000; index++) {
        snprintf(line, sizeof(line), "equals.test MX 10 %s%d.test\n", index % 2 == 0 ? "h" : "H",
                 1000 + index);
        peer_zone(peer, line);
    }
    size_t end = peer->record_count;
    for (int index = 0; index < 1000; index++) {
        snprintf(line, sizeof(line), "h%d.test A 10.0.%d.%d\n", 1000 + index, index / 250, index % 250);
        peer_zone(peer, line);
    }
    for (int time = 0; time < 3; time++) {
        struct mx_result *result = get(world, "equals.test");
        names_of(result, time == 0 ? first : names);
        mx_result_free(result);
        if (time > 0)
            assert_memory_equal(names, first, sizeof(names));
        resolver_flush(world->resolver);
        /* As name servers do: the next answer begins elsewhere. */
        for (size_t index = begin; index < end; index++) {
            struct peer_record moved = peer->records[index];
            size_t other = begin + (index * 7919) % 1000;
            peer->records[index] = peer->records[other];
            peer->records[other] = moved;
        }
    }
    assert_string_equal(first[0], "h1000.test");
    assert_string_equal(first[MX_HOSTS_MAX - 1], "h1019.test");
}

static void hosts_without_an_address_are_told_too(void **state)
{
    struct world *world = start(state);
    peer_play(world->peers[0], "broken.test", PEER_SERVFAIL, UINT32_MAX);
    struct mx_result *result = get(world, "half.test");
    assert_int_equal(result->host_count, 1);
    assert_int_equal(result->absent_count, 1);
    assert_string_equal(result->hosts[1].name, "broken.test");
    assert_int_equal(result->hosts[1].preference, 10);
    assert_int_equal(result->hosts[1].address_count, 0);
    mx_result_free(result);
    result = get(world, "deadhosts.test");
    assert_int_equal(result->absent_count, 0);
    mx_result_free(result);
}

static void the_result_is_as_old_as_its_oldest_part(void **state)
{
    struct world *world = start(state);
    struct mx_result *result = get(world, "order.test");
    assert_true(result->ttl_s <= 60 && result->ttl_s >= 58); /* that there is no AAAA, by the SOA */
    mx_result_free(result);
}

static void what_is_authentic_is_told(void **state)
{
    struct world *world = *state;
    world->options.settings.trust_ad = true;
    world->peers[0]->is_authenticated = true;
    start(state);
    struct mx_result *result = get(world, "one.test");
    assert_true(result->is_authentic);
    assert_true(result->hosts[0].is_authentic);
    mx_result_free(result);
    world->peers[0]->is_authenticated = false;
    result = get(world, "equal.test");
    assert_false(result->is_authentic);
    assert_false(result->hosts[0].is_authentic);
    mx_result_free(result);
    world->peers[0]->is_authenticated = true;
    result = get(world, "literal.test");
    assert_true(result->is_authentic);
    mx_result_free(result);
}

/* Nobody listens at port 25 here, and no wildcard is bound: it is us all the same. */
static void loopback_is_ourselves(void **state)
{
    struct world *world = start(state);
    peer_zone(world->peers[0], "loop.test A 127.0.0.1\n"
                               "far-loop.test A 127.0.0.77\n"
                               "zero.test A 0.0.0.0\n"
                               "six.test AAAA ::1\n"
                               "none.test AAAA ::\n"
                               "mapped.test AAAA ::ffff:127.0.0.1\n"
                               "mapped-own.test AAAA ::ffff:192.0.2.98\n"
                               "lies.test MX 10 loop.test\n"
                               "literally.test MX 10 127.0.0.1\n"
                               "before.test MX 10 a.order.test\n"
                               "before.test MX 20 loop.test\n"
                               "before.test MX 30 b.order.test\n"
                               "near.test A 128.0.0.1\n");
    static const char *const own[] = {
        "loop.test",       "far-loop.test", "zero.test",      "six.test",    "none.test",  "mapped.test",
        "mapped-own.test", "lies.test",     "literally.test", "[127.0.0.1]", "[ipv6:::1]", "[0.0.0.0]",
    };
    for (size_t index = 0; index < sizeof(own) / sizeof(own[0]); index++)
        expect_mx(world, own[index], MX_LOOP, "");
    expect_mx(world, "before.test", MX_OK, "a.order.test=192.0.2.11:25");
    expect_mx(world, "near.test", MX_OK, "near.test=128.0.0.1:25");
}

/* Who names a smarthost means what he says. */
static void a_smarthost_may_be_at_loopback(void **state)
{
    struct world *world = start(state);
    peer_zone(world->peers[0], "loop.test A 127.0.0.1\n");
    struct mx_probe probe = {.query.ctx = &probe};
    mx_ask_host(world->resolver, &probe.query, "loop.test", on_result);
    world_until(world, probe.calls == 1);
    assert_int_equal(probe.result->status, MX_OK);
    mx_result_free(probe.result);
}

static void a_wildcard_is_this_machine(void **state)
{
    static struct sockaddr_storage any;
    struct world *world = start(state);
    peer_zone(world->peers[0], "far.test A 240.0.0.9\n");
    struct ifaddrs *interfaces = NULL;
    assert_int_equal(getifaddrs(&interfaces), 0);
    char domain[80] = "[127.0.0.1]";
    for (const struct ifaddrs *entry = interfaces; entry != NULL; entry = entry->ifa_next) {
        if (entry->ifa_addr == NULL || entry->ifa_addr->sa_family != AF_INET)
            continue;
        char text[INET_ADDRSTRLEN];
        assert_non_null(inet_ntop(AF_INET, &((struct sockaddr_in *)(void *)entry->ifa_addr)->sin_addr, text,
                                  sizeof(text)));
        if (strncmp(text, "127.", 4) == 0)
            continue;
        snprintf(domain, sizeof(domain), "[%s]", text);
        struct mx_result *result = get(world, domain);
        assert_int_equal(result->status, MX_OK); /* not bound */
        mx_result_free(result);
    }
    freeifaddrs(interfaces);
    assert_int_equal(parse_ip("0.0.0.0", 25, &any), 0);
    struct resolver_settings settings = world->options.settings;
    settings.own_addresses = &any;
    settings.own_address_count = 1;
    assert_int_equal(resolver_configure(world->resolver, &settings), 0);
    expect_mx(world, domain, MX_LOOP, "");
    /* No interface has an address of class E. */
    expect_mx(world, "far.test", MX_OK, "far.test=240.0.0.9:25");
}

static void a_cancelled_question_is_forgotten(void **state)
{
    struct world *world = start(state);
    for (int turns = 0; turns < 6; turns++) {
        struct mx_probe probe = {.query.ctx = &probe};
        mx_ask(world->resolver, &probe.query, "order.test", on_result);
        for (int turn = 0; turn < turns && probe.calls == 0; turn++)
            world_turn(world);
        mx_cancel(&probe.query);
        mx_cancel(&probe.query);
        for (int turn = 0; turn < 4; turn++)
            world_turn(world);
        assert_true(probe.calls <= 1);
        mx_result_free(probe.result);
        resolver_flush(world->resolver);
    }
    struct mx_query never = {0};
    mx_cancel(&never);
}

static void the_end_answers_who_waits(void **state)
{
    struct world *world = start(state);
    struct mx_probe probe = {.query.ctx = &probe};
    mx_ask(world->resolver, &probe.query, "order.test", on_result);
    resolver_drop_pending(world->resolver);
    world_until(world, probe.calls == 1);
    assert_int_equal(probe.result->status, MX_TEMPORARY);
    mx_result_free(probe.result);
}

int main(void)
{
#define WORLD_TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        WORLD_TEST(the_outcome_of_each_kind_of_domain),
        WORLD_TEST(both_families_are_there),
        WORLD_TEST(families_take_turns),
        WORLD_TEST(one_family_may_fail),
        WORLD_TEST(who_stands_beside_us_is_cut_too),
        WORLD_TEST(equals_share_the_load),
        WORLD_TEST(a_thousand_hosts_are_bounded),
        WORLD_TEST(of_a_thousand_equals_the_same_are_chosen),
        WORLD_TEST(hosts_without_an_address_are_told_too),
        WORLD_TEST(the_result_is_as_old_as_its_oldest_part),
        WORLD_TEST(what_is_authentic_is_told),
        WORLD_TEST(loopback_is_ourselves),
        WORLD_TEST(a_smarthost_may_be_at_loopback),
        WORLD_TEST(a_wildcard_is_this_machine),
        WORLD_TEST(a_cancelled_question_is_forgotten),
        WORLD_TEST(the_end_answers_who_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
