/* Deliveries that are settled together with messages: the messages are begun, filled, and offered with the
 * outcomes. Whatever fails on the way, the outcomes are settled alone. */
#include "tests/sim/world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/bond.h"

enum { TRIES_MAX = 300 };

static bool begin(struct world *world, struct sim_settling *settling)
{
    uint32_t count = (uint32_t)random_between(&world->random, 1, QUEUE_COMPANIONS_MAX);

    for (uint32_t i = 0; i < count; i++) {
        struct sim_draft *draft = &settling->companions[settling->companion_count];
        if (!receive_begin(world, draft, random_one_in(&world->random, 8) ? world->plan.content_max : 1000))
            return false;
        settling->companion_count++;
    }
    return true;
}

/* Steps of all of them. TOGETHER_TAKEN: they are complete. */
static enum together fill(struct world *world, struct sim_settling *settling)
{
    uint32_t complete = 0;

    for (uint32_t i = 0; i < settling->companion_count; i++) {
        struct sim_draft *draft = &settling->companions[i];
        bool done = false;
        for (uint32_t step = 0; step < 4 && !done && draft->draft && !draft->blocked; step++)
            done = receive_step(world, draft);
        if (!draft->draft)
            return TOGETHER_FAILED;
        complete += done;
    }
    return complete == settling->companion_count ? TOGETHER_TAKEN : TOGETHER_WAITS;
}

/* The queue is going down, or its disk is: the delivery only has to be given back. */
static void settled_dead(struct world *world, struct sim_delivery *out, int error)
{
    if (!error)
        violation("message %llu: settled on a dead disk", (unsigned long long)out->number);
    for (uint32_t i = 0; i < out->delivery->target_count; i++)
        out->delivery->targets[i].outcome = QUEUE_RETRY;
    queue_settle(out->delivery, world_now_ms(world));
    queue_release(out->delivery);
    out->settling = (struct sim_settling){0};
    out->state = DELIVERY_FREE;
}

static void settled(void *context, struct queue_delivery *delivery, int error)
{
    struct sim_delivery *out = context;
    struct sim_settling *settling = &out->settling;
    struct world *world = out->world;
    struct oracle *oracle = &world->oracle;

    if (out->state != DELIVERY_SETTLING || delivery != out->delivery || world->quiet || error > 0)
        violation("message %llu: settled() comes out of turn", (unsigned long long)out->number);
    if (world->dead) {
        settled_dead(world, out, error);
        return;
    }
    world_note(world, "together", out->number, (uint64_t)-error);
    bond_answered(oracle, settling->bond, error);
    for (uint32_t i = 0; i < settling->companion_count; i++)
        oracle_answered(oracle, settling->companions[i].number, settling->ids[i], error);
    if (error) {
        out->state = DELIVERY_HELD;
        world->refused += settling->companion_count;
    } else {
        struct oracle_message *message = oracle_get(oracle, out->number);
        message->damaged |= out->damaged;
        oracle_settled(oracle, message, delivery, settling->now_ms, out->delay_max_ms, settling->age_max_ms,
                       true);
        bond_durable(oracle, settling->bond);
        for (uint32_t i = 0; i < delivery->target_count; i++)
            world->delivered += delivery->targets[i].outcome == QUEUE_DONE;
        out->state = DELIVERY_SETTLED;
        world->together++;
        world->acked += settling->companion_count;
    }
    *settling = (struct sim_settling){0};
    out->settle_us = world->disk->now_us + random_skewed(&world->random, 0, 10000);
}

static int offer(struct world *world, struct sim_delivery *out, struct queue_companion *companions,
                 struct queue_envelope *envelopes)
{
    struct sim_settling *settling = &out->settling;

    for (uint32_t i = 0; i < settling->companion_count; i++) {
        struct oracle_message *message = oracle_get(&world->oracle, settling->companions[i].number);
        message->arrival_ms = world_now_ms(world);
        companions[i] = (struct queue_companion){settling->companions[i].draft, &envelopes[i]};
        settling->ids[i] = queue_draft_id(settling->companions[i].draft);
    }
    settling->now_ms = world_now_ms(world);
    settling->age_max_ms = world->options.age_max_ms;
    world->quiet = true;
    int error = queue_settle_with(out->delivery, companions, settling->companion_count, settling->now_ms,
                                  settled, out);
    world->quiet = false;
    return error;
}

static void taken(struct world *world, struct sim_delivery *out)
{
    struct sim_settling *settling = &out->settling;
    uint64_t numbers[QUEUE_COMPANIONS_MAX] = {0};

    for (uint32_t i = 0; i < settling->companion_count; i++) {
        numbers[i] = settling->companions[i].number;
        settling->companions[i].draft = NULL;
        oracle_get(&world->oracle, numbers[i])->state = MESSAGE_OFFERED;
        world_note(world, "companion", out->number, numbers[i]);
    }
    settling->bond =
        bond_begin(&world->oracle, out->number, out->delivery, numbers, settling->companion_count);
    out->state = DELIVERY_SETTLING;
}

static enum together settle_with(struct world *world, struct sim_delivery *out)
{
    struct queue_companion companions[QUEUE_COMPANIONS_MAX];
    struct queue_envelope envelopes[QUEUE_COMPANIONS_MAX];
    uint8_t *buffers[QUEUE_COMPANIONS_MAX];
    uint32_t count = out->settling.companion_count;

    for (uint32_t i = 0; i < count; i++)
        buffers[i] =
            receive_encode(oracle_get(&world->oracle, out->settling.companions[i].number), &envelopes[i]);
    deliver_note_delay(world, out);
    if (random_one_in(&world->random, 2))
        queue_judge(out->delivery, world_now_ms(world));
    int error = offer(world, out, companions, envelopes);
    for (uint32_t i = 0; i < count; i++) {
        memset(buffers[i], 0xdd, envelopes[i].meta_size + envelopes[i].recipients_size);
        free(buffers[i]);
    }
    if (!error) {
        taken(world, out);
        return TOGETHER_TAKEN;
    }
    world_note(world, "apart", out->number, (uint64_t)-error);
    if (error != -EAGAIN && error != -ENOSPC && error != -EIO && error != -ETIMEDOUT && error != -EMSGSIZE)
        violation("message %llu: settled together: %d", (unsigned long long)out->number, error);
    for (uint32_t i = 0; i < count; i++)
        out->settling.companions[i].blocked = error == -EAGAIN;
    return error == -EAGAIN ? TOGETHER_WAITS : TOGETHER_FAILED;
}

enum together together_step(struct world *world, struct sim_delivery *out)
{
    struct sim_settling *settling = &out->settling;
    enum together next = TOGETHER_TAKEN;

    if (settling->companion_count == 0 && !begin(world, settling))
        next = TOGETHER_FAILED;
    else if (++settling->tries > TRIES_MAX)
        next = TOGETHER_FAILED;
    if (next == TOGETHER_TAKEN)
        next = fill(world, settling);
    if (next == TOGETHER_TAKEN)
        next = settle_with(world, out);
    if (next == TOGETHER_FAILED)
        together_abandon(world, out);
    return next;
}

void together_abandon(struct world *world, struct sim_delivery *out)
{
    struct sim_settling *settling = &out->settling;

    for (uint32_t i = 0; i < settling->companion_count; i++)
        if (settling->companions[i].draft)
            receive_give_up(world, &settling->companions[i]);
    *settling = (struct sim_settling){0};
}
