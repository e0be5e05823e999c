#include "world.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/base/clock.h"

uint64_t world_clock_us(void)
{
    return clock_monotonic_us();
}

int world_setup(void **state)
{
    struct world *world = aligned_alloc(64, (sizeof(struct world) + 63) / 64 * 64);
    assert_non_null(world);
    memset(world, 0, sizeof(*world));
    assert_int_equal(loop_new(NULL, &world->loop), 0);
    counters_init(&world->counters);
    pool_init(&world->pool, NULL, SIZE_MAX);
    for (int index = 0; index < 2; index++) {
        world->peers[index] = peer_new();
        world->servers[index] = world->peers[index]->address;
    }
    world->options = (struct resolver_options){
        .loop = world->loop,
        .counters = &world->counters,
        .pool = &world->pool,
        .settings = {.servers = world->servers, .server_count = 2},
        .attempt_ms = 250,
        .total_ms = 2500,
    };
    loop_turn(world->loop, 0);
    *state = world;
    return 0;
}

void world_start(struct world *world)
{
    assert_null(world->resolver);
    assert_int_equal(resolver_new(&world->options, &world->resolver), 0);
}

int world_teardown(void **state)
{
    struct world *world = *state;
    if (world->resolver != NULL) {
        resolver_drop_pending(world->resolver);
        world_until(world, resolver_is_idle(world->resolver));
    }
    /* The closing of the last sockets was asked for; the hook's last turn is over. */
    resolver_free(world->resolver);
    assert_int_equal(world->pool.used_bytes, 0);
    pool_deinit(&world->pool);
    loop_free(world->loop);
    peer_free(world->peers[0]);
    peer_free(world->peers[1]);
    free(world);
    return 0;
}

void world_turn(struct world *world)
{
    loop_turn(world->loop, 2000);
    peer_serve(world->peers[0]);
    peer_serve(world->peers[1]);
}

uint64_t world_count(const struct world *world, enum counter counter)
{
    return counter_get(&world->counters, counter);
}

static void on_answer(struct resolver_query *query, const struct dns_records *records)
{
    struct probe *probe = query->ctx;
    assert_ptr_equal(query, &probe->query);
    assert_int_equal(probe->calls, 0);
    probe->calls++;
    probe->records = dns_records_ref(records);
}

void probe_ask(struct world *world, struct probe *probe, const char *name, enum dns_type type)
{
    *probe = (struct probe){.world = world, .query.ctx = probe};
    resolver_ask(world->resolver, &probe->query, name, type, on_answer);
    assert_int_equal(probe->calls, 0);
}

const struct dns_records *probe_get(struct world *world, struct probe *probe, const char *name,
                                    enum dns_type type)
{
    probe_ask(world, probe, name, type);
    world_until(world, probe->calls > 0);
    return probe->records;
}

void probe_end(struct probe *probe)
{
    resolver_cancel(&probe->query);
    dns_records_release(&probe->world->pool, probe->records);
    probe->records = NULL;
}

void expect(struct world *world, const char *name, enum dns_type type, enum dns_status status, uint32_t count)
{
    struct probe probe;
    const struct dns_records *records = probe_get(world, &probe, name, type);
    if (records->status != status || records->count != count)
        fail_msg("%s: status %d with %u records (%s)", name, (int)records->status, records->count,
                 records->reason);
    assert_true((records->reason[0] == '\0') == (status == DNS_OK));
    probe_end(&probe);
}
