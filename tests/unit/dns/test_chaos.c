/*
 * Anything at any time: questions of every kind, servers that misbehave at random, questions that are
 * cancelled, settings that change. Every question that was not cancelled is answered, once, and nothing is
 * left behind.
 */
#include <stdio.h>
#include <string.h>

#include "world.h"

enum { ROUNDS = 3000, SLOTS = 40, NAMES = 60 };

struct slot {
    struct mx_query mx;
    struct resolver_query query;
    bool is_busy;
    bool is_mx;
    char name[32];
};

struct chaos {
    struct world *world;
    struct slot slots[SLOTS];
    uint64_t random;
    uint32_t answered;
    uint32_t asked;
    uint32_t cancelled;
    uint32_t outcomes[DNS_TEMPORARY + 1];
};

static uint32_t draw(struct chaos *chaos, uint32_t limit)
{
    chaos->random = chaos->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(chaos->random >> 33) % limit;
}

static struct chaos chaos;

static void on_records(struct resolver_query *query, const struct dns_records *records)
{
    struct slot *slot = query->ctx;
    assert_true(slot->is_busy && !slot->is_mx);
    slot->is_busy = false;
    chaos.answered++;
    chaos.outcomes[records->status]++;
}

static void on_result(struct mx_query *query, struct mx_result *result)
{
    struct slot *slot = query->ctx;
    assert_true(slot->is_busy && slot->is_mx);
    slot->is_busy = false;
    chaos.answered++;
    assert_non_null(result);
    for (uint32_t index = 0; index < result->host_count; index++)
        assert_true(result->hosts[index].address_count > 0);
    mx_result_free(result);
}

static void ask(struct slot *slot)
{
    static const enum dns_type types[] = {DNS_A, DNS_AAAA, DNS_MX, DNS_TXT};
    memset(slot, 0, sizeof(*slot));
    char *name = slot->name;
    snprintf(name, sizeof(slot->name), "n%u.test", draw(&chaos, NAMES));
    slot->is_busy = true;
    slot->is_mx = draw(&chaos, 2) == 0;
    slot->mx.ctx = slot;
    slot->query.ctx = slot;
    chaos.asked++;
    if (slot->is_mx)
        mx_ask(chaos.world->resolver, &slot->mx, name, on_result);
    else
        resolver_ask(chaos.world->resolver, &slot->query, name, types[draw(&chaos, 4)], on_records);
}

static void cancel(struct slot *slot)
{
    slot->is_busy = false;
    chaos.cancelled++;
    if (slot->is_mx)
        mx_cancel(&slot->mx);
    else
        resolver_cancel(&slot->query);
}

/* Every name has something: an address, an alias, or an exchange. */
static void fill_zone(struct peer *peer)
{
    char line[128];
    for (uint32_t index = 0; index < NAMES; index++) {
        switch (index % 5) {
        case 0:
            snprintf(line, sizeof(line), "n%u.test CNAME n%u.test", index, (index * 7 + 1) % NAMES);
            break;
        case 1:
        case 2:
            snprintf(line, sizeof(line), "n%u.test MX %u n%u.test\nn%u.test A 192.0.2.%u", index, index % 3,
                     (index * 3 + 2) % NAMES, index, index);
            break;
        default:
            snprintf(line, sizeof(line), "n%u.test AAAA 2001:db8::%u\nn%u.test TXT text", index, index,
                     index);
        }
        peer_zone(peer, line);
    }
}

static void misbehave(struct peer *peer)
{
    peer->trick_count = 0;
    for (int count = 0; count < 20; count++) {
        char name[32];
        snprintf(name, sizeof(name), "n%u.test", draw(&chaos, NAMES));
        peer_play(peer, name, (enum peer_trick)draw(&chaos, PEER_NO_SOA + 1), 1 + draw(&chaos, 3));
    }
    peer->is_deaf = draw(&chaos, 8) == 0;
}

static void change_settings(struct world *world)
{
    struct resolver_settings settings = world->options.settings;
    settings.trust_ad = draw(&chaos, 2) == 0;
    settings.server_count = 1 + draw(&chaos, 2);
    assert_int_equal(resolver_configure(world->resolver, &settings), 0);
}

static void play_round(struct world *world)
{
    for (int slot = 0; slot < SLOTS; slot++) {
        if (!chaos.slots[slot].is_busy)
            ask(&chaos.slots[slot]);
        else if (draw(&chaos, 30) == 0)
            cancel(&chaos.slots[slot]);
    }
    if (draw(&chaos, 10) == 0)
        misbehave(world->peers[draw(&chaos, 2)]);
    if (draw(&chaos, 40) == 0)
        change_settings(world);
    if (draw(&chaos, 20) == 0)
        resolver_flush(world->resolver);
    world_turn(world);
}

static bool is_any_busy(void)
{
    for (int slot = 0; slot < SLOTS; slot++) {
        if (chaos.slots[slot].is_busy)
            return true;
    }
    return false;
}

static void play(struct world *world, uint64_t seed)
{
    memset(&chaos, 0, sizeof(chaos));
    chaos.world = world;
    chaos.random = seed;
    world->options.attempt_ms = 70;
    world->options.total_ms = 400;
    world->options.sockets_max = 8;
    world->options.mx_max = 6;
    world->options.cache_entries = 50;
    fill_zone(world->peers[0]);
    fill_zone(world->peers[1]);
    world_start(world);
    for (int round = 0; round < ROUNDS; round++)
        play_round(world);
}

static void every_question_is_answered(void **state)
{
    struct world *world = *state;
    play(world, 1);
    world_until(world, !is_any_busy());
    assert_int_equal(chaos.asked, chaos.answered + chaos.cancelled);
    assert_true(chaos.outcomes[DNS_OK] > 10);
    assert_true(chaos.outcomes[DNS_NODATA] > 10);
    assert_int_equal(chaos.outcomes[DNS_NXDOMAIN], 0); /* every name exists */
    world_until(world, resolver_is_idle(world->resolver));
}

static void the_end_may_come_at_any_time(void **state)
{
    struct world *world = *state;
    play(world, 2);
    resolver_drop_pending(world->resolver);
    world_until(world, !is_any_busy());
    assert_int_equal(chaos.asked, chaos.answered + chaos.cancelled);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_question_is_answered, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(the_end_may_come_at_any_time, world_setup, world_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
