/* Which host and which address the next connection, or the next message, goes to; and new addresses while
 * there are sessions at the old ones. */
#include <stdio.h>
#include <string.h>

#include "gateway/outbound/client.h"
#include "gateway/outbound/group.h"
#include "gateway/outbound/site.h"
#include "tests/unit/outbound/hops.h"
#include "tests/unit/outbound/peer.h"
#include "tests/unit/outbound/world.h"

enum { PICKS = 8000 };

static struct world world;

static int begin(void **state)
{
    world_init(&world, (uint16_t[]){peer_dead_port(), 0}, "");
    return 0;
}

static int end(void **state)
{
    world_deinit(&world);
    return 0;
}

static uint64_t now_us(void)
{
    return loop_now_us(world.loop);
}

static bool is_at(const struct endpoint *endpoint, const char *host)
{
    return endpoint != NULL && strcmp(endpoint->host, host) == 0;
}

/* How many of the picks went to this host, in percent. */
static void check_part(const uint32_t *counts, uint32_t index, uint32_t picks, double percent)
{
    double got = 100.0 * counts[index] / picks;
    if (got < percent - 3 || got > percent + 3)
        fail_msg("host %u got %.1f %% and not %.1f %%", index, got, percent);
}

/* --- Connections --- */

static void the_best_preference_that_can_be_reached(void **state)
{
    struct site *site =
        site_at(&world, "10 a.test [2001:db8::1] 192.0.2.2; 20 b.test 192.0.2.3; 30 c.test 192.0.2.4", 25);

    assert_ptr_equal(site_endpoint(site), endpoint_at(site, "[2001:db8::1]"));
    endpoint_fail(endpoint_at(site, "[2001:db8::1]"), now_us(), 1000);
    assert_ptr_equal(site_endpoint(site), endpoint_at(site, "192.0.2.2"));
    endpoint_fail(endpoint_at(site, "192.0.2.2"), now_us(), 1000);
    assert_ptr_equal(site_endpoint(site), endpoint_at(site, "192.0.2.3"));
    endpoint_fail(endpoint_at(site, "192.0.2.3"), now_us(), 1000);
    assert_ptr_equal(site_endpoint(site), endpoint_at(site, "192.0.2.4"));
    assert_true(site_has_endpoint(site));
    endpoint_fail(endpoint_at(site, "192.0.2.4"), now_us(), 1000);
    assert_null(site_endpoint(site));
    assert_false(site_has_endpoint(site));
    endpoint_succeed(endpoint_at(site, "192.0.2.2"));
    assert_ptr_equal(site_endpoint(site), endpoint_at(site, "192.0.2.2"));
    site_allow_all(site);
    assert_ptr_equal(site_endpoint(site), endpoint_at(site, "[2001:db8::1]"));
}

static void equals_have_as_many_sessions(void **state)
{
    struct site *site =
        site_at(&world, "0 a.test 192.0.2.1; 0 b.test 192.0.2.2; 0 c.test 192.0.2.3; 1 d.test 192.0.2.4", 25);
    static const char *const addresses[] = {"192.0.2.1", "192.0.2.2", "192.0.2.3"};

    for (uint32_t i = 0; i < 300; i++)
        site_endpoint(site)->host_room->sessions++;
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(endpoint_at(site, addresses[i])->host_room->sessions, 100);
        endpoint_at(site, addresses[i])->host_room->sessions = 0;
    }
    assert_int_equal(endpoint_at(site, "192.0.2.4")->host_room->sessions, 0);
}

/* The first connection of each of many senders must not always go to one host: RFC 5321 §5.1. */
static void equals_without_sessions_get_equal_parts(void **state)
{
    struct site *site =
        site_at(&world, "0 a.test 192.0.2.1; 0 b.test 192.0.2.2 192.0.2.3 192.0.2.4; 0 c.test 192.0.2.5", 25);
    uint32_t counts[3] = {0};

    for (uint32_t i = 0; i < PICKS; i++) {
        struct endpoint *endpoint = site_endpoint(site);
        assert_non_null(endpoint);
        counts[endpoint->host[0] - 'a']++;
    }
    for (uint32_t i = 0; i < 3; i++)
        check_part(counts, i, PICKS, 100.0 / 3);
}

/* So many sessions as if they had been opened one after the other; no longer. */
static void open_many(struct site *site, uint32_t count, uint32_t *opened)
{
    for (uint32_t i = 0; i < count; i++)
        site_endpoint(site)->users++;
    count = 0;
    list_each(link, &site->endpoints)
    {
        struct endpoint *endpoint = list_entry(link, struct endpoint, link);
        opened[count++] = endpoint->users;
        endpoint->users = 0;
    }
}

static void the_addresses_of_a_host_have_as_many_sessions(void **state)
{
    struct site *site = site_at(&world, "0 a.test 192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4", 25);
    uint32_t opened[4];
    uint32_t firsts[4] = {0};

    open_many(site, 400, opened);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(opened[i], 100);
    endpoint_fail(endpoint_at(site, "192.0.2.2"), now_us(), 60000);
    open_many(site, 300, opened);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(opened[i], i == 1 ? 0 : 100);
    endpoint_succeed(endpoint_at(site, "192.0.2.2"));
    for (uint32_t i = 0; i < PICKS; i++) {
        open_many(site, 1, opened);
        for (uint32_t j = 0; j < 4; j++)
            firsts[j] += opened[j];
    }
    for (uint32_t i = 0; i < 4; i++)
        check_part(firsts, i, PICKS, 25);
}

/* Both families are ways to one host: the other is for when the first address fails. */
static void the_first_family_that_works_has_all_sessions(void **state)
{
    struct site *site =
        site_at(&world, "0 a.test [2001:db8::1] 192.0.2.1 [2001:db8::2] 192.0.2.2; 1 b.test 192.0.2.3", 25);
    uint32_t opened[5];

    open_many(site, 100, opened);
    assert_int_equal(opened[0], 50);
    assert_int_equal(opened[2], 50);
    endpoint_fail(endpoint_at(site, "[2001:db8::1]"), now_us(), 60000);
    open_many(site, 100, opened);
    assert_int_equal(opened[1], 50);
    assert_int_equal(opened[3], 50);
}

static void a_weighted_host_is_served_at_one_address(void **state)
{
    struct site *site = site_at(&world, "0/2 a.test 192.0.2.1 192.0.2.2; 0/1 b.test 192.0.2.3", 25);

    for (uint32_t i = 0; i < 100; i++)
        assert_ptr_not_equal(site_endpoint(site), endpoint_at(site, "192.0.2.2"));
}

static void a_full_host_is_waited_for(void **state)
{
    world_reload(&world, (uint16_t[]){peer_dead_port(), 0}, "site \"default\" { connections_per_host = 2 }");
    struct site *site =
        site_at(&world, "0 a.test 192.0.2.1 192.0.2.2; 0 b.test 192.0.2.3; 5 c.test 192.0.2.4", 25);
    struct group_host *a = endpoint_at(site, "192.0.2.1")->host_room;
    struct group_host *b = endpoint_at(site, "192.0.2.3")->host_room;

    assert_ptr_equal(endpoint_at(site, "192.0.2.2")->host_room, a);
    for (uint32_t i = 0; i < 4; i++)
        site_endpoint(site)->host_room->sessions++;
    assert_int_equal(a->sessions, 2);
    assert_int_equal(b->sessions, 2);
    assert_null(site_endpoint(site));
    assert_true(site_has_endpoint(site)); /* it is not down */
    endpoint_fail(endpoint_at(site, "192.0.2.1"), now_us(), 1000);
    assert_null(site_endpoint(site));
    endpoint_fail(endpoint_at(site, "192.0.2.2"), now_us(), 1000);
    assert_null(site_endpoint(site)); /* b is still there */
    endpoint_fail(endpoint_at(site, "192.0.2.3"), now_us(), 1000);
    assert_true(is_at(site_endpoint(site), "c.test"));
    a->sessions = b->sessions = 0;
}

/* --- Messages, by weights --- */

/* So many messages, one after the other; counts how many went to the hosts a, b and c. */
static void deal(struct site *site, uint32_t picks, uint32_t *counts)
{
    memset(counts, 0, 3 * sizeof(*counts));
    for (uint32_t i = 0; i < picks; i++) {
        struct endpoint *endpoint = site_weighted_endpoint(site);
        assert_non_null(endpoint);
        counts[endpoint->host[0] - 'a']++;
        site_count_sent(site, endpoint);
    }
}

static void messages_go_by_weight(void **state)
{
    struct site *site =
        site_at(&world, "0/5 a.test 192.0.2.1; 0/3 b.test 192.0.2.2; 0/2 c.test 192.0.2.3", 25);
    uint32_t counts[3];

    deal(site, 10, counts); /* not in long runs */
    assert_int_equal(counts[0], 5);
    assert_int_equal(counts[1], 3);
    for (uint32_t i = 0; i < 5; i++) {
        deal(site, PICKS, counts);
        check_part(counts, 0, PICKS, 50);
        check_part(counts, 1, PICKS, 30);
        check_part(counts, 2, PICKS, 20);
    }
}

static void the_greatest_weights_are_kept_to(void **state)
{
    struct site *site = site_at(&world, "0/1000 a.test 192.0.2.1; 0/1 b.test 192.0.2.2", 25);
    uint32_t counts[3];

    deal(site, 3000000, counts);
    assert_in_range(counts[1], 2800, 3200);
}

static void without_weights_messages_go_anywhere(void **state)
{
    assert_null(site_weighted_endpoint(site_at(&world, "0 a.test 192.0.2.1; 0 b.test 192.0.2.2", 25)));
}

/* A name with an address of each family is one host. */
static void a_second_address_is_no_second_part(void **state)
{
    struct site *site = site_at(&world, "0/3 a.test 192.0.2.1; 0/1 b.test 192.0.2.2 192.0.2.3 192.0.2.4", 25);
    uint32_t counts[3];

    deal(site, PICKS, counts);
    check_part(counts, 0, PICKS, 75);
    check_part(counts, 1, PICKS, 25);
}

static void a_host_that_is_back_is_not_flooded(void **state)
{
    struct site *site =
        site_at(&world, "0/2 a.test 192.0.2.1; 0/1 b.test 192.0.2.2; 0/1 c.test 192.0.2.3", 25);
    struct endpoint *b = endpoint_at(site, "192.0.2.2");
    uint32_t counts[3];

    deal(site, 400, counts);
    endpoint_fail(b, now_us(), 3600000);
    deal(site, PICKS, counts);
    assert_int_equal(counts[1], 0);
    check_part(counts, 0, PICKS, 100.0 * 2 / 3);
    endpoint_succeed(b);
    deal(site, 400, counts);
    assert_in_range(counts[1], 98, 102);
    assert_in_range(counts[0], 196, 204);
}

static void nobody_is_left_for_a_message_when_all_are_left_out(void **state)
{
    struct site *site = site_at(&world, "0/2 a.test 192.0.2.1; 0/1 b.test 192.0.2.2", 25);

    endpoint_fail(endpoint_at(site, "192.0.2.1"), now_us(), 1000);
    assert_true(is_at(site_weighted_endpoint(site), "b.test"));
    endpoint_fail(endpoint_at(site, "192.0.2.2"), now_us(), 1000);
    assert_null(site_weighted_endpoint(site));
}

/* --- New addresses --- */

/* A new answer of the DNS, when the one before has been used for long enough. */
static struct site *renew(struct site *site, const char *text, uint16_t port)
{
    if (site != NULL)
        site->renewed_us = 0;
    struct site *same = site_at(&world, text, port);
    assert_true(site == NULL || same == site);
    return same;
}

static void an_address_that_stays_keeps_what_it_learned(void **state)
{
    struct site *site = site_at(&world, "0 a.test 192.0.2.1 192.0.2.2; 1 b.test 192.0.2.3", 25);
    struct endpoint *kept = endpoint_at(site, "192.0.2.2");
    struct endpoint *other = endpoint_at(site, "192.0.2.3");

    endpoint_fail(kept, now_us(), 60000);
    endpoint_confused(kept, GEAR_STREAM, now_us());
    for (uint32_t i = 0; i < 1000; i++) {
        char text[96];
        snprintf(text, sizeof(text), "0 a.test 192.0.2.2 198.51.100.%u; 1 b.test 192.0.2.3", i % 250 + 1);
        renew(site, text, 25);
        assert_ptr_equal(endpoint_at(site, "192.0.2.2"), kept);
        assert_ptr_equal(endpoint_at(site, "192.0.2.3"), other);
        assert_true(list_is_empty(&site->old_endpoints));
    }
    assert_false(endpoint_is_usable(kept, now_us()));
    assert_int_equal(endpoint_gear(kept, now_us()), GEAR_OVERLAP);
    assert_true(is_at(site_endpoint(site), "a.test")); /* by the address that came last */
}

static void addresses_come_in_the_order_of_the_last_answer(void **state)
{
    struct site *site = site_at(&world, "0 a.test [2001:db8::1] 192.0.2.2", 25);

    renew(site, "0 a.test 192.0.2.2 [2001:db8::1]", 25);
    assert_ptr_equal(site_endpoint(site), endpoint_at(site, "192.0.2.2"));
}

static void other_ports_and_preferences_are_other_sites(void **state)
{
    struct site *site = site_at(&world, "0 a.test 192.0.2.1; 1 b.test 192.0.2.2", 25);

    assert_ptr_not_equal(site_at(&world, "0 a.test 192.0.2.1; 1 b.test 192.0.2.2", 26), site);
    assert_ptr_not_equal(site_at(&world, "0 a.test 192.0.2.1; 0 b.test 192.0.2.2", 25), site);
    assert_ptr_equal(site_at(&world, "0 a.test 192.0.2.1; 1 b.test 192.0.2.2", 25), site);
}

static uint32_t count_old(struct site *site)
{
    uint32_t count = 0;
    list_each(link, &site->old_endpoints)
    {
        count++;
    }
    return count;
}

static void run_until_sessions(const struct site *site, uint32_t count)
{
    for (uint32_t i = 0; i < 1000 && site->session_count > count; i++)
        loop_turn(world.loop, 1000);
    assert_int_equal(site->session_count, count);
}

static void retire_old(struct site *site)
{
    list_each_safe(link, &site->sessions)
    {
        struct client *client = list_entry(link, struct client, site_link);
        if (client->endpoint->is_old)
            client_retire(client);
    }
}

static void an_address_goes_with_its_last_session(void **state)
{
    uint16_t port;
    int mute = mute_open(&port);
    struct site *site = renew(NULL, "0 a.test 127.0.0.1", port);

    assert_int_equal(client_open(site, endpoint_at(site, "127.0.0.1")), 0);
    assert_int_equal(client_open(site, endpoint_at(site, "127.0.0.1")), 0);
    world_run_ms(&world, 5);
    renew(site, "0 a.test 127.0.0.2", port);
    assert_int_equal(count_old(site), 1);
    assert_int_equal(site->session_count, 2); /* they are as good as before */
    assert_int_equal(client_open(site, endpoint_at(site, "127.0.0.2")), 0);
    retire_old(site);
    run_until_sessions(site, 1);
    assert_int_equal(count_old(site), 0);
    mute_close(mute);
}

static void a_thousand_answers_leave_nothing_behind(void **state)
{
    uint16_t port;
    int mute = mute_open(&port);
    struct site *site = NULL;
    uint32_t most = 0;

    for (uint32_t i = 0; i < 1000; i++) {
        char text[64];
        char address[32];
        snprintf(address, sizeof(address), "127.0.%u.%u", i / 100 + 1, i % 100 + 1);
        snprintf(text, sizeof(text), "0 a.test %s", address);
        site = renew(site, text, port);
        if (i % 10 == 0)
            retire_old(site);
        assert_int_equal(client_open(site, endpoint_at(site, address)), 0);
        loop_turn(world.loop, 100);
        most = count_old(site) > most ? count_old(site) : most;
    }
    retire_old(site);
    run_until_sessions(site, 1);
    assert_int_equal(count_old(site), 0);
    assert_in_range(most, 9, 100);
    assert_int_equal(endpoint_at(site, "127.0.10.100")->host_room->sessions, 1);
    mute_close(mute);
}

/* Two workers' resolvers were told different addresses of many: what they give us takes turns all the time.
 */
static void answers_that_take_turns_disturb_nobody(void **state)
{
    uint16_t port;
    int mute = mute_open(&port);
    struct site *site = site_at(&world, "0 a.test 127.0.0.1", port);

    assert_int_equal(client_open(site, endpoint_at(site, "127.0.0.1")), 0);
    for (uint32_t i = 0; i < 100; i++) {
        assert_ptr_equal(site_at(&world, i % 2 == 0 ? "0 a.test 127.0.0.2" : "0 a.test 127.0.0.1", port),
                         site);
        loop_turn(world.loop, 100);
    }
    assert_int_equal(site->session_count, 1);
    assert_int_equal(site->closing, 0);
    assert_int_equal(count_old(site), 0);
    mute_close(mute);
}

/* But an answer that came while nothing can be reached is not to be waited with. */
static void a_new_answer_counts_at_once_when_the_old_leads_nowhere(void **state)
{
    struct site *site = site_at(&world, "0 a.test 192.0.2.1", 25);

    endpoint_fail(endpoint_at(site, "192.0.2.1"), now_us(), 60000);
    assert_null(site_endpoint(site));
    assert_ptr_equal(site_at(&world, "0 a.test 192.0.2.2", 25), site);
    assert_ptr_equal(site_endpoint(site), endpoint_at(site, "192.0.2.2"));
}

/* --- How long what was learned is kept --- */

static struct site *wanted;
static bool is_found;

static void find(struct site *site)
{
    is_found |= site == wanted;
}

/* Ten minutes after its last use, and the sites are looked through. */
static bool is_kept(struct site *site)
{
    site->unused_since_us = now_us() - 600000001;
    world.outbound.swept_us = now_us() - 2000000;
    world_run_ms(&world, 5);
    wanted = site;
    is_found = false;
    site_each(&world.outbound, find);
    return is_found;
}

static void what_is_still_to_be_heeded_is_not_forgotten(void **state)
{
    struct site *site = site_at(&world, "0 a.test 192.0.2.1; 5 b.test 192.0.2.2", 25);
    struct endpoint *endpoint = endpoint_at(site, "192.0.2.2");

    endpoint_confused(endpoint, GEAR_STREAM, now_us());
    assert_true(is_kept(site));
    endpoint->rest_until_us = now_us();
    endpoint->tls_bad_until_us = now_us() + 1000000;
    assert_true(is_kept(site));
    endpoint->tls_bad_until_us = now_us();
    endpoint->helo_only_until_us = now_us() + 1000000;
    assert_true(is_kept(site));
    endpoint->helo_only_until_us = now_us();
    assert_false(is_kept(site));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(the_best_preference_that_can_be_reached),
        CASE(equals_have_as_many_sessions),
        CASE(equals_without_sessions_get_equal_parts),
        CASE(the_addresses_of_a_host_have_as_many_sessions),
        CASE(the_first_family_that_works_has_all_sessions),
        CASE(a_weighted_host_is_served_at_one_address),
        CASE(a_full_host_is_waited_for),
        CASE(messages_go_by_weight),
        CASE(the_greatest_weights_are_kept_to),
        CASE(without_weights_messages_go_anywhere),
        CASE(a_second_address_is_no_second_part),
        CASE(a_host_that_is_back_is_not_flooded),
        CASE(nobody_is_left_for_a_message_when_all_are_left_out),
        CASE(an_address_that_stays_keeps_what_it_learned),
        CASE(addresses_come_in_the_order_of_the_last_answer),
        CASE(other_ports_and_preferences_are_other_sites),
        CASE(an_address_goes_with_its_last_session),
        CASE(a_thousand_answers_leave_nothing_behind),
        CASE(answers_that_take_turns_disturb_nobody),
        CASE(a_new_answer_counts_at_once_when_the_old_leads_nowhere),
        CASE(what_is_still_to_be_heeded_is_not_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
