/* The delivering side: takes from lanes that said they are ready, checks every octet, settles by chance. */
#include "tests/sim/world.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/content.h"

enum {
    STREAMS = 4, /* as in oracle.c */
    READS_FAILED_MAX = 3,
};

static void next_piece(struct sim_delivery *out);

uint32_t deliver_lane(const struct queue_lane *lane)
{
    uint32_t size;
    const char *key = queue_lane_key(lane, &size);
    char expected[32];

    for (uint32_t i = 0; i < WORLD_LANES_MAX; i++)
        if (oracle_key(i, expected) == size && memcmp(key, expected, size) == 0)
            return i;
    violation("a lane with a key that nobody chose");
}

static bool match(void *context, struct queue_lane *lane)
{
    const struct sim_delivery *out = context;
    return out->lanes_mask >> deliver_lane(lane) & 1;
}

static void hold(struct sim_delivery *out)
{
    struct world *world = out->world;

    out->state = DELIVERY_HELD;
    out->settle_us = world->disk->now_us;
    if (!world->draining)
        out->settle_us += random_skewed(&world->random, 0, world->plan.sleeps ? 30 * 1000 * 1000 : 50000);
}

static void check_bytes(const struct sim_delivery *out, const struct queue_piece *piece, const void *bytes,
                        uint64_t offset)
{
    if (!content_equal(out->number * STREAMS, offset, bytes, piece->size))
        violation("message %llu: wrong octets at %llu..%llu, %s", (unsigned long long)out->number,
                  (unsigned long long)offset, (unsigned long long)(offset + piece->size),
                  piece->data ? "in memory" : "read back with a passing check");
}

static void piece_read(struct sim_delivery *out, const struct queue_piece *piece)
{
    const uint8_t *bytes = (const uint8_t *)out->buffer + out->range.skip;
    const struct oracle *oracle = &out->world->oracle;
    /* Where bits were flipped; or a copy of such content, wherever it lies now. */
    bool flipped =
        disk_flipped(out->world->disk, piece->slot, out->range.offset + out->range.skip, piece->size) ||
        (oracle->moved && oracle_hit(oracle, &oracle->messages[out->number]));

    out->world->read_back++;
    if (queue_piece_check(piece, bytes)) {
        check_bytes(out, piece, bytes, out->piece_offset);
    } else if (flipped) {
        out->damaged = true;
    } else if (out->world->disk->was_full && oracle->messages[out->number].returned) {
        /* On a full disk a settled message's segment may be written over before the outcome is safe. */
        out->damaged = true;
    } else {
        violation("message %llu: content fails its check and no bit was flipped",
                  (unsigned long long)out->number);
    }
    out->piece_offset += piece->size;
    out->piece++;
}

static void read_done(struct storage_op *op, int32_t result)
{
    struct sim_delivery *out =
        (struct sim_delivery *)(void *)((char *)op - offsetof(struct sim_delivery, read));

    assert(out->state == DELIVERY_READING);
    if (result == 0) {
        piece_read(out, &out->delivery->pieces[out->piece]);
    } else if (++out->reads_failed > READS_FAILED_MAX || out->world->dead) {
        out->unreadable = true;
    }
    free(out->buffer);
    out->buffer = NULL;
    next_piece(out);
}

static void start_read(struct sim_delivery *out, const struct queue_piece *piece)
{
    struct storage *storage = &out->world->disk->storage;

    out->range = queue_piece_range(piece);
    if (out->range.skip + piece->size > out->range.size)
        violation("message %llu: a piece reaches past its range", (unsigned long long)out->number);
    out->buffer = aligned_alloc(STORAGE_BLOCK, out->range.size);
    if (out->buffer == NULL)
        abort();
    out->state = DELIVERY_READING;
    out->read.done = read_done;
    storage->methods->read(storage, &out->read, piece->slot, out->range.offset, out->buffer, out->range.size);
}

/* Its segment was not found at the start. */
static void piece_missing(struct sim_delivery *out, const struct queue_piece *piece)
{
    const struct oracle *oracle = &out->world->oracle;

    if (!oracle_hit(oracle, &oracle->messages[out->number]))
        violation("message %llu: content lies nowhere and no bit was flipped",
                  (unsigned long long)out->number);
    out->damaged = true;
    out->piece_offset += piece->size;
    out->piece++;
}

/* Checks what lies in memory, and stops at the first piece that has to be read. */
static void next_piece(struct sim_delivery *out)
{
    const struct queue_delivery *delivery = out->delivery;

    while (out->piece < delivery->piece_count && !out->unreadable) {
        const struct queue_piece *piece = &delivery->pieces[out->piece];
        if (piece->data == NULL && piece->slot == UINT32_MAX) {
            piece_missing(out, piece);
            continue;
        }
        if (piece->data == NULL) {
            start_read(out, piece);
            return;
        }
        check_bytes(out, piece, piece->data, out->piece_offset);
        out->piece_offset += piece->size;
        out->piece++;
    }
    if (!out->unreadable && out->piece_offset != delivery->content_size)
        violation("message %llu: the pieces hold %llu octets of %llu", (unsigned long long)out->number,
                  (unsigned long long)out->piece_offset, (unsigned long long)delivery->content_size);
    hold(out);
}

static void check_lanes(const struct sim_delivery *out, const struct oracle_message *message)
{
    const struct queue_delivery *delivery = out->delivery;

    if (delivery->target_count > out->recipients_max)
        violation("message %llu: %u recipients taken", (unsigned long long)out->number,
                  delivery->target_count);
    for (uint32_t i = 0; i < delivery->target_count; i++)
        if (!(out->lanes_mask >> message->recipients[delivery->targets[i].index].lane & 1))
            violation("message %llu: recipient %u is of another lane", (unsigned long long)out->number,
                      delivery->targets[i].index);
}

static void taken(void *context, struct queue_delivery *delivery)
{
    struct sim_delivery *out = context;
    struct world *world = out->world;

    assert(out->state == DELIVERY_TAKING);
    if (delivery == NULL) {
        world->oracle.failed_reads++;
        world_note(world, "unreadable", 0, 0);
        bool excused = world->dead || world->disk->options.read_fails > 0 || world->disk->flip_count > 0;
        if (!excused)
            violation("an envelope could not be read although the disk is fine");
        out->state = DELIVERY_FREE;
        return;
    }
    out->delivery = delivery;
    if (world->dead) {
        out->state = DELIVERY_HELD;
        return;
    }
    const struct oracle_message *message = oracle_taken(&world->oracle, delivery);
    out->number = message->number;
    check_lanes(out, message);
    world_note(world, "taken", message->number, delivery->target_count);
    next_piece(out);
}

/* Old mail comes to the head of its lane; who takes it then is chance, as always. */
static void sweep(struct world *world)
{
    int64_t now_ms = world_now_ms(world);
    uint32_t budget = (uint32_t)random_below(&world->random, 100);
    int64_t old_ms = now_ms - (int64_t)random_skewed(&world->random, 1, 100000);
    int64_t late_ms = now_ms - (int64_t)random_skewed(&world->random, 1, 100000);
    const struct queue_lane *found = queue_sweep(world->queue, &budget, old_ms, late_ms);

    if (!found)
        return;
    int64_t arrival_ms = queue_lane_head_arrival_ms(found);
    if (arrival_ms >= old_ms && arrival_ms >= late_ms)
        violation("the sweep found something young");
}

static void take(struct world *world, struct sim_delivery *out, struct queue_lane *lane)
{
    uint32_t number = deliver_lane(lane);
    if (random_one_in(&world->random, 4))
        sweep(world);
    bool some = random_one_in(&world->random, 2);

    *out = (struct sim_delivery){.world = world, .state = DELIVERY_TAKING};
    out->lanes_mask = (some ? (uint32_t)random_next(&world->random) : 0) | 1U << number;
    /* An entry of the queue is never divided, so no fewer than its 64 recipients may be asked for. */
    out->recipients_max = (uint32_t)random_skewed(&world->random, 64, 200);
    bool ready = queue_lane_ready_count(lane) > 0;
    if (ready && queue_lane_head_arrival_ms(lane) > world_now_ms(world))
        violation("the head of lane %u arrived in the future", number);
    if (!queue_take(lane, out->recipients_max, some ? match : NULL, taken, out)) {
        if (ready)
            violation("lane %u has something ready and gives nothing", number);
        out->state = DELIVERY_FREE;
        world->ready[number] = NULL;
    } else if (!ready) {
        violation("lane %u gives something although nothing is ready", number);
    }
}

static enum queue_outcome draw_outcome(struct world *world, const struct sim_delivery *out)
{
    if (out->unreadable)
        return QUEUE_RETRY;
    if (world->draining || out->damaged)
        return QUEUE_DONE;
    if (random_percent(&world->random, world->plan.retry_percent))
        return QUEUE_RETRY;
    if (random_percent(&world->random, world->plan.owe_percent))
        return QUEUE_OWED;
    if (out->delivery->is_owed)
        return QUEUE_DONE;
    return random_percent(&world->random, world->plan.defer_percent) ? QUEUE_DEFER : QUEUE_DONE;
}

static int64_t delay_max_ms(const struct queue_options *options)
{
    int64_t longest = 0;

    for (uint32_t i = 0; i < options->retry_count; i++)
        if (options->retry_ms[i] > longest)
            longest = options->retry_ms[i];
    return longest + longest * options->retry_jitter_percent / 100 + 1;
}

/* What is out must not move: the octets are looked at once more before they are let go. */
static void check_again(const struct sim_delivery *out)
{
    const struct queue_delivery *delivery = out->delivery;
    uint64_t offset = 0;

    for (uint32_t i = 0; i < delivery->piece_count; i++) {
        if (delivery->pieces[i].data)
            check_bytes(out, &delivery->pieces[i], delivery->pieces[i].data, offset);
        offset += delivery->pieces[i].size;
    }
}

static void draw_outcomes(struct world *world, struct sim_delivery *out)
{
    const struct queue_delivery *delivery = out->delivery;
    bool alike = random_one_in(&world->random, 2);
    enum queue_outcome outcome = draw_outcome(world, out);

    for (uint32_t i = 0; i < delivery->target_count; i++) {
        delivery->targets[i].outcome = alike ? outcome : draw_outcome(world, out);
        if (random_one_in(&world->random, 3))
            delivery->targets[i].marked = random_one_in(&world->random, 2);
    }
    out->settling = (struct sim_settling){.drawn = true};
    uint32_t percent = world->draining ? world->plan.bond_percent / 4 : world->plan.bond_percent;
    out->settling.together = !out->unreadable && random_percent(&world->random, percent);
}

void deliver_note_delay(struct world *world, struct sim_delivery *out)
{
    int64_t delay = delay_max_ms(&world->options);
    out->delay_max_ms = delay > out->delay_max_ms ? delay : out->delay_max_ms;
}

/* Judged before or not, the outcomes are the same. */
static int64_t judge(struct world *world, const struct sim_delivery *out)
{
    if (!random_one_in(&world->random, 4))
        return 0;
    queue_judge(out->delivery, world_now_ms(world));
    return out->delivery->due_ms;
}

static void settle_alone(struct world *world, struct sim_delivery *out)
{
    struct queue_delivery *delivery = out->delivery;
    deliver_note_delay(world, out);
    int64_t due_ms = judge(world, out);

    out->state = DELIVERY_SETTLED;
    uint64_t records = queue_stats(world->queue).settles;
    queue_settle(delivery, world_now_ms(world));
    records = queue_stats(world->queue).settles - records;
    if (due_ms != 0 && delivery->due_ms != due_ms)
        violation("message %llu: judged until %lld, settled until %lld", (unsigned long long)out->number,
                  (long long)due_ms, (long long)delivery->due_ms);
    for (uint32_t i = 0; i < delivery->target_count; i++) {
        world_note(world, "settled", out->number, (uint64_t)delivery->targets[i].outcome);
        world->delivered += delivery->targets[i].outcome == QUEUE_DONE;
    }
    struct oracle_message *message = oracle_get(&world->oracle, out->number);
    message->damaged |= out->damaged;
    oracle_settled(&world->oracle, message, delivery, world_now_ms(world), out->delay_max_ms,
                   world->options.age_max_ms, records >= oracle_records(message, delivery));
    if (world->draining || random_one_in(&world->random, 2))
        out->settle_us = world->disk->now_us;
    else
        out->settle_us = world->disk->now_us + random_skewed(&world->random, 0, 10000);
}

static void settle(struct world *world, struct sim_delivery *out)
{
    if (!out->unreadable)
        check_again(out);
    if (!out->settling.drawn)
        draw_outcomes(world, out);
    world->oracle.tick_ms = world_now_ms(world);
    enum together together = out->settling.together ? together_step(world, out) : TOGETHER_FAILED;
    if (together == TOGETHER_WAITS)
        out->settle_us = world->disk->now_us + random_skewed(&world->random, 1, 2000);
    if (together == TOGETHER_FAILED)
        settle_alone(world, out);
}

static void proceed(struct world *world, struct sim_delivery *out)
{
    if (out->settle_us > world->disk->now_us)
        return;
    if (out->state == DELIVERY_HELD)
        settle(world, out);
    if (out->state == DELIVERY_SETTLED && out->settle_us <= world->disk->now_us) {
        queue_release(out->delivery);
        out->state = DELIVERY_FREE;
    }
}

static void take_some(struct world *world)
{
    for (uint32_t i = 0; i < world->plan.deliveries; i++) {
        struct sim_delivery *out = &world->deliveries[i];
        if (out->state != DELIVERY_FREE || (!world->draining && random_one_in(&world->random, 3)))
            continue;
        uint32_t first = (uint32_t)random_below(&world->random, WORLD_LANES_MAX);
        for (uint32_t j = 0; j < WORLD_LANES_MAX && out->state == DELIVERY_FREE; j++) {
            struct queue_lane *lane = world->ready[(first + j) % WORLD_LANES_MAX];
            if (lane)
                take(world, out, lane);
        }
    }
}

void deliver_turn(struct world *world)
{
    for (uint32_t i = 0; i < WORLD_DELIVERIES_MAX; i++)
        if (world->deliveries[i].state == DELIVERY_HELD || world->deliveries[i].state == DELIVERY_SETTLED)
            proceed(world, &world->deliveries[i]);
    if (world->draining || random_percent(&world->random, world->plan.take_percent))
        take_some(world);
}

uint64_t deliver_next_us(const struct world *world)
{
    uint64_t next = UINT64_MAX;

    for (uint32_t i = 0; i < WORLD_DELIVERIES_MAX; i++) {
        const struct sim_delivery *out = &world->deliveries[i];
        if ((out->state == DELIVERY_HELD || out->state == DELIVERY_SETTLED) && out->settle_us < next)
            next = out->settle_us;
    }
    return next;
}

void deliver_abandon(struct world *world)
{
    for (uint32_t i = 0; i < WORLD_DELIVERIES_MAX; i++) {
        struct sim_delivery *out = &world->deliveries[i];
        if (out->state == DELIVERY_FREE || out->state == DELIVERY_SETTLING)
            continue;
        assert(out->state == DELIVERY_HELD || out->state == DELIVERY_SETTLED);
        if (out->state == DELIVERY_HELD) {
            together_abandon(world, out);
            world->oracle.tick_ms = world_now_ms(world);
            for (uint32_t j = 0; j < out->delivery->target_count; j++)
                out->delivery->targets[j].outcome = QUEUE_RETRY;
            queue_settle(out->delivery, world_now_ms(world));
            if (!world->dead)
                oracle_settled(&world->oracle, oracle_get(&world->oracle, out->number), out->delivery,
                               world_now_ms(world), 1, 0, true);
        }
        queue_release(out->delivery);
        out->state = DELIVERY_FREE;
    }
}

void deliver_room(struct world *world)
{
    for (uint32_t i = 0; i < WORLD_DELIVERIES_MAX; i++)
        for (uint32_t j = 0; j < world->deliveries[i].settling.companion_count; j++)
            world->deliveries[i].settling.companions[j].blocked = false;
}

uint32_t deliver_count(const struct world *world)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < WORLD_DELIVERIES_MAX; i++)
        count += world->deliveries[i].state != DELIVERY_FREE;
    return count;
}
