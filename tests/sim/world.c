/* Lives: open, turn after turn, a power cut or an orderly end, and at the very end everything must come out.
 */
#include "tests/sim/world.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    DRAIN_TURNS_MAX = 1000000,
    IDLE_TURNS_MAX = 4000,
    OPEN_ATTEMPTS_MAX = 200,
    RESTART_US = 2000, /* no program starts faster */
};

static const uint64_t wall_begin_ms = 1767225600000ULL; /* 2026-01-01 */

int64_t world_now_ms(const struct world *world)
{
    return (int64_t)(wall_begin_ms + world->disk->now_us / 1000);
}

void world_note(struct world *world, const char *what, uint64_t a, uint64_t b)
{
    uint64_t sum = world->hash ^ a * 0x9e3779b97f4a7c15ULL ^ b * 0xc2b2ae3d27d4eb4fULL;

    for (const char *at = what; *at; at++)
        sum = (sum ^ (uint8_t)*at) * 0x100000001b3ULL;
    world->hash = random_mix(sum + world->disk->now_us);
    world->notes++;
    if (world->verbose)
        printf("%12llu us  %-12s %llu %llu\n", (unsigned long long)world->disk->now_us, what,
               (unsigned long long)a, (unsigned long long)b);
}

static void lane_ready(void *context, struct queue_lane *lane)
{
    struct world *world = context;

    if (world->dead)
        return;
    if (world->quiet)
        violation("lane_ready from within a draft's call");
    if (queue_lane_ready_count(lane) == 0)
        violation("lane_ready for a lane with nothing to take");
    uint32_t number = deliver_lane(lane);
    if (world->ready[number] && world->ready[number] != lane)
        violation("two lanes with the key of lane %u", number);
    world->ready[number] = lane;
    queue_lane_set_user(lane, &world->ready[number]);
}

static void lane_gone(void *context, struct queue_lane *lane)
{
    struct world *world = context;

    if (world->dead)
        return;
    uint32_t number = deliver_lane(lane);
    void *user = queue_lane_user(lane);
    if (user && user != &world->ready[number])
        violation("lane %u lost its user", number);
    world->ready[number] = NULL;
}

static void room(void *context)
{
    struct world *world = context;

    if (world->dead)
        return;
    if (world->quiet)
        violation("room from within a draft's call");
    world_note(world, "room", 0, 0);
    receive_room(world);
    deliver_room(world);
}

static void state(void *context, enum queue_state state, int error)
{
    struct world *world = context;

    if (!world->dead)
        world_note(world, "state", (uint64_t)state, (uint64_t)-error);
}

static const struct queue_callbacks callbacks = {
    .lane_ready = lane_ready,
    .lane_gone = lane_gone,
    .room = room,
    .state = state,
};

static void *counted_alloc(void *context, size_t size)
{
    struct world *world = context;
    void *memory = malloc(size);

    if (memory) {
        memset(memory, 0xa5, size);
        world->allocated += size;
    }
    return memory;
}

static void counted_free(void *context, void *memory, size_t size)
{
    struct world *world = context;

    if (size > world->allocated)
        violation("more memory is given back than was had");
    world->allocated -= size;
    free(memory);
}

static void check_counts(const struct world *world, const char *when)
{
    struct oracle_range range = oracle_range(&world->oracle);
    struct queue_stats stats = queue_stats(world->queue);
    /* Flipped bits may have taken messages, or brought them back. */
    if (world->disk->flip_count > 0)
        return;
    if (stats.messages < range.messages_low || stats.messages > range.messages_high)
        violation("%s: %llu messages, should be %llu to %llu", when, (unsigned long long)stats.messages,
                  (unsigned long long)range.messages_low, (unsigned long long)range.messages_high);
    if (stats.recipients < range.recipients_low || stats.recipients > range.recipients_high)
        violation("%s: %llu recipients, should be %llu to %llu", when, (unsigned long long)stats.recipients,
                  (unsigned long long)range.recipients_low, (unsigned long long)range.recipients_high);
}

static void check_recovery(const struct world *world, bool clean)
{
    const struct queue_recovery *recovery = &world->recovery;

    /* A log on a full disk writes to segments that it needs no more before that is on disk: a power cut then
     * looks like damage, and costs nothing. */
    if (world->disk->flip_count > 0 || world->disk->was_full)
        return;
    /* R7: behind a tail that no segment before it is left to vouch for, segments that saw nothing but failed
     * writes cannot be told from lost ones. */
    uint64_t missing = world->disk->writes_failed > 0 ? 0 : recovery->missing_segments;
    if (recovery->damaged_batches > 0 || recovery->damaged_records > 0 || missing > 0)
        violation("recovery speaks of damage (%llu batches, %llu records, %llu segments) and there is none",
                  (unsigned long long)recovery->damaged_batches,
                  (unsigned long long)recovery->damaged_records,
                  (unsigned long long)recovery->missing_segments);
    if (clean && recovery->torn_tails > 0 && world->disk->writes_failed == 0 && world->crashes == 0)
        violation("recovery speaks of a torn tail after an orderly end");
}

static void open_queue(struct world *world, bool clean)
{
    int error = -EIO;

    for (uint32_t i = 0; error == -EIO && i < OPEN_ATTEMPTS_MAX; i++) {
        /* A long log may hardly ever be read through without a failure: then the disk is mended. */
        if (i == OPEN_ATTEMPTS_MAX / 2)
            world->disk->options.load_fails = 0;
        error = queue_open(&world->disk->storage, &world->options, world_now_ms(world), &world->recovery,
                           &world->queue);
        if (error && world->allocated > 0)
            violation("a start that failed keeps %llu octets", (unsigned long long)world->allocated);
        if (error == -EIO && world->disk->options.load_fails == 0)
            break;
    }
    if (error)
        violation("start: %s", strerror(-error));
    world->dead = false;
    world->oracle.tick_ms = world_now_ms(world);
    world->tick_ms = 0;
    world_note(world, "open", world->recovery.messages, world->recovery.recipients);
    check_recovery(world, clean);
    check_counts(world, "after the start");
}

static void count_lane(void *context, struct queue_lane *lane)
{
    uint32_t *count = context;
    (*count)++;
}

/* The queue's last moments: frees it, and sees that nothing is left of it. */
static void close_queue(struct world *world)
{
    world->moved += queue_stats(world->queue).moved;
    queue_close(world->queue);
    world->queue = NULL;
    if (world->allocated > 0)
        violation("%llu octets are left after queue_close", (unsigned long long)world->allocated);
    memset(world->ready, 0, sizeof(world->ready));
}

static void retry_changes(struct world *world)
{
    struct queue_options changed = world->options;

    changed.retry_jitter_percent = (uint32_t)random_below(&world->random, 51);
    if (random_one_in(&world->random, 2)) {
        changed.entry_recipients = (uint32_t)random_between(&world->random, 1, 64);
        world->oracle.recut = true;
    }
    changed.retry_ms[0] = (int64_t)random_skewed(&world->random, 10, 3600 * 1000);
    world->options = changed;
    queue_set_retry(world->queue, &changed);
}

static bool one_completion(struct world *world)
{
    struct disk *disk = world->disk;
    uint64_t failed = disk->writes_failed;
    uint64_t through = disk->batch_through;

    if (disk_next_us(disk) > disk->now_us)
        return false;
    bool stepped = disk_step(disk);
    if (disk->writes_failed > failed)
        oracle_write_failed(&world->oracle, through);
    return stepped;
}

/* What the clock says next, and how far it jumps. */
static void advance(struct world *world, uint64_t flush_us, bool busy)
{
    uint64_t now = world->disk->now_us;
    uint64_t next = disk_next_us(world->disk);
    uint64_t other = deliver_next_us(world);
    uint64_t flush = flush_us == UINT64_MAX ? UINT64_MAX : now + flush_us;
    uint64_t tick = world->tick_ms == UINT64_MAX ? UINT64_MAX : (world->tick_ms - wall_begin_ms) * 1000;

    next = other < next ? other : next;
    next = flush < next ? flush : next;
    if (busy) {
        uint64_t step = now + random_skewed(&world->random, 1, 5000);
        /* Mostly up to what comes next; sometimes past it, so that several completions come at once. */
        bool late = random_one_in(&world->random, 4);
        next = step < next || late ? step : next;
        if (world->plan.sleeps && random_one_in(&world->random, 40))
            next = now + random_skewed(&world->random, 1000, 7200ULL * 1000 * 1000);
    } else {
        next = tick < next ? tick : next;
    }
    if (next == UINT64_MAX)
        next = now + 1000;
    if (next > now)
        world->disk->now_us = next;
}

static void tick(struct world *world)
{
    int64_t now_ms = world_now_ms(world);

    if ((uint64_t)now_ms < world->tick_ms && !random_one_in(&world->random, 16))
        return;
    world->oracle.tick_ms = now_ms;
    int64_t next = queue_tick(world->queue, now_ms);
    if (next <= now_ms)
        violation("queue_tick wants to be called again in the past");
    world->tick_ms = next == INT64_MAX ? UINT64_MAX : (uint64_t)next;
}

/* One turn of the loop. False: the power went in the middle of it. */
static bool turn(struct world *world, bool busy)
{
    tick(world);
    if (busy && random_percent(&world->random, world->plan.send_percent))
        receive_turn(world);
    deliver_turn(world);
    uint64_t flush_us = queue_flush(world->queue, world->disk->now_us);
    if (queue_stats(world->queue).moved > 0)
        world->oracle.moved = true;
    if (queue_idle(world->queue)) {
        if (world->disk->writes_through != world->disk->writes)
            violation("idle although a write is under way");
        oracle_idle(&world->oracle);
    }
    advance(world, flush_us, busy);
    while (world->disk->completions < world->crash_at && one_completion(world))
        ;
    return world->disk->completions < world->crash_at;
}

static void flip_bits(struct world *world)
{
    if (!world->plan.flips || !random_one_in(&world->random, 2))
        return;
    uint64_t count = random_skewed(&world->random, 1, 8);
    for (uint64_t i = 0; i < count; i++)
        if (disk_flip(world->disk))
            world_note(world, "flip", world->disk->flips[world->disk->flip_count - 1].slot,
                       world->disk->flips[world->disk->flip_count - 1].offset);
}

static void crash(struct world *world)
{
    world_note(world, "crash", world->disk->pending_count, world->disk->writes);
    world->crashes++;
    disk_cut(world->disk);
    oracle_crashed(&world->oracle);
    world->dead = true;
    for (uint32_t i = 0; disk_step(world->disk); i++)
        if (i > 100000)
            violation("the queue goes on forever with a dead disk");
    for (uint32_t i = 0; i < WORLD_DRAFTS_MAX; i++) {
        if (world->drafts[i].draft)
            queue_draft_abort(world->drafts[i].draft);
        world->drafts[i].draft = NULL;
    }
    deliver_abandon(world);
    while (disk_step(world->disk))
        ;
    close_queue(world);
    disk_restore(world->disk);
    world->disk->now_us += random_skewed(&world->random, RESTART_US, 600ULL * 1000 * 1000);
    flip_bits(world);
}

static bool is_reading(const struct world *world)
{
    for (uint32_t i = 0; i < WORLD_DELIVERIES_MAX; i++)
        if (world->deliveries[i].state == DELIVERY_READING || world->deliveries[i].state == DELIVERY_TAKING)
            return true;
    return false;
}

/* Turns without new work until nothing is under way. False: that does not happen, for the disk fails. */
static bool come_to_rest(struct world *world)
{
    queue_drain(world->queue);
    for (uint32_t i = 0; i < IDLE_TURNS_MAX; i++) {
        if (i > IDLE_TURNS_MAX / 4)
            receive_abandon(world);
        bool sending = receive_finish(world);
        if (!turn(world, false))
            return false;
        if (sending || is_reading(world))
            continue;
        deliver_abandon(world);
        if (queue_idle(world->queue) && world->disk->pending_count == 0) {
            oracle_idle(&world->oracle);
            return true;
        }
    }
    return false;
}

/* One life, to its end by a power cut or in order. */
static bool live(struct world *world)
{
    bool orderly = random_one_in(&world->random, 4);
    uint64_t turns = random_between(&world->random, 1, world->plan.turns);

    world->crash_at = UINT64_MAX;
    if (!orderly && random_one_in(&world->random, 2))
        world->crash_at = world->disk->completions + random_skewed(&world->random, 1, world->plan.turns);
    for (uint64_t i = 0; i < turns; i++) {
        if (!turn(world, true)) {
            crash(world);
            return false;
        }
        if (i % 64 == 63)
            check_counts(world, "in between");
        if (random_one_in(&world->random, 100))
            retry_changes(world);
        if (world->plan.phases && random_one_in(&world->random, 30))
            plan_phase(world);
    }
    if (!orderly || !come_to_rest(world)) {
        crash(world);
        return false;
    }
    world_note(world, "end", 0, 0);
    check_counts(world, "at rest");
    oracle_crashed(&world->oracle);
    world->dead = true;
    close_queue(world);
    disk_cut(world->disk);
    disk_restore(world->disk);
    world->disk->now_us += RESTART_US;
    flip_bits(world);
    return true;
}

static bool is_drained(const struct world *world)
{
    struct queue_stats stats = queue_stats(world->queue);
    return stats.messages == 0 && stats.recipients == 0 && deliver_count(world) == 0 &&
           queue_idle(world->queue);
}

static void drain(struct world *world)
{
    uint32_t turns = 0;

    while (receive_finish(world) || !is_drained(world)) {
        (void)turn(world, false);
        if (++turns > DRAIN_TURNS_MAX) {
            struct queue_stats stats = queue_stats(world->queue);
            violation(
                "after %u turns %llu messages, %llu recipients (%llu deferred) are still there, state %d",
                turns, (unsigned long long)stats.messages, (unsigned long long)stats.recipients,
                (unsigned long long)stats.deferred, (int)queue_state(world->queue));
        }
    }
}

/* The last life: a healthy disk, everything is delivered, the disk's space comes back. */
static void last_life(struct world *world)
{
    uint32_t lanes = 0;

    disk_heal(world->disk);
    world->draining = true;
    world->crash_at = UINT64_MAX;
    drain(world);
    oracle_drained(&world->oracle);
    /* The space of the last messages comes back with the writes that follow. */
    for (uint32_t i = 0; i < 4; i++) {
        uint64_t before = world->acked;
        receive_one(world);
        drain(world);
        if (world->acked == before)
            violation("an empty queue takes no message: state %d", (int)queue_state(world->queue));
    }
    struct queue_stats stats = queue_stats(world->queue);
    if (stats.segments > 2)
        violation("an empty queue keeps %llu segments", (unsigned long long)stats.segments);
    queue_each_lane(world->queue, count_lane, &lanes);
    if (lanes > 0)
        violation("an empty queue keeps %u lanes", lanes);
    oracle_drained(&world->oracle);
    oracle_crashed(&world->oracle);
    world->dead = true;
    close_queue(world);
}

static void check_end(struct world *world)
{
    open_queue(world, true);
    if (world->recovery.messages > 0 && world->disk->flip_count == 0)
        violation("%llu messages come back from nothing", (unsigned long long)world->recovery.messages);
    world->dead = true;
    close_queue(world);
}

uint64_t world_run(struct world *world, struct disk *disk, uint64_t seed, bool verbose,
                   void (*disk_violation)(const char *what))
{
    struct disk_options options;

    memset(world, 0, sizeof(*world));
    world->seed = seed;
    world->verbose = verbose;
    world->disk = disk;
    world->random.state = random_mix(seed + 1);
    plan_draw(world, &options);
    options.violation = disk_violation;
    world->options.callbacks = &callbacks;
    world->options.context = world;
    world->options.alloc = counted_alloc;
    world->options.free = counted_free;
    world->options.alloc_context = world;
    disk_init(disk, &options);
    oracle_init(&world->oracle, disk);

    open_queue(world, true);
    for (uint32_t i = 0; i < world->plan.lives; i++) {
        bool clean = live(world);
        plan_redraw(world);
        open_queue(world, clean);
    }
    last_life(world);
    check_end(world);
    world->duplicates = world->oracle.duplicates;
    oracle_deinit(&world->oracle);
    return world->hash;
}
