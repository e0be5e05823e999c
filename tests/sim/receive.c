/* The sending side: drafts that grow in pieces, side by side, are committed or given up, and wait for room.
 */
#include "tests/sim/world.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/content.h"

enum {
    STREAMS = 4, /* as in oracle.c: the content is stream number*4 */
    BLOCKED_MAX_US = 120 * 1000 * 1000,
};

static uint32_t draw_recipients(struct world *world)
{
    struct random *random = &world->random;

    if (random_percent(random, world->plan.many_percent))
        return (uint32_t)random_between(random, 2, 200);
    return random_one_in(random, 3) ? (uint32_t)random_between(random, 2, 6) : 1;
}

/* The envelope must fit into a page with room to spare. */
static uint32_t draw_message(struct world *world, uint64_t content_max)
{
    struct random *random = &world->random;
    uint32_t count = draw_recipients(world);
    struct oracle_message *message = oracle_add(&world->oracle, count);
    uint32_t budget = world->plan.page_size / 4;
    bool one_lane = random_one_in(random, 3);
    uint16_t lane = (uint16_t)random_below(random, world->plan.lanes);

    for (uint32_t i = 0; i < count; i++) {
        struct oracle_recipient *recipient = &message->recipients[i];
        recipient->lane = one_lane ? lane : (uint16_t)random_below(random, world->plan.lanes);
        uint32_t padding = random_one_in(random, 8) ? (uint32_t)random_skewed(random, 0, 900) : 0;
        recipient->padding = (uint16_t)(padding < budget ? padding : 0);
        budget -= recipient->padding;
    }
    message->size = random_one_in(random, 16) ? 0 : random_skewed(random, 1, content_max);
    message->meta_size = 8 + (uint32_t)random_skewed(random, 0, random_one_in(random, 16) ? 2000 : 100);
    return (uint32_t)message->number;
}

bool receive_begin(struct world *world, struct sim_draft *draft, uint64_t content_max)
{
    enum queue_state state = queue_state(world->queue);
    world->quiet = true;
    struct queue_draft *begun = queue_draft_new(world->queue);
    world->quiet = false;
    if (begun == NULL) {
        if (state == QUEUE_OPEN)
            violation("no draft although the queue is open and there is memory");
        world->refused++;
        return false;
    }
    if (state != QUEUE_OPEN)
        violation("a draft although the queue is in state %d", (int)state);
    *draft = (struct sim_draft){.draft = begun, .number = draw_message(world, content_max)};
    draft->aborts = random_percent(&world->random, world->plan.abort_percent);
    world_note(world, "draft", draft->number, oracle_get(&world->oracle, draft->number)->size);
    return true;
}

void receive_give_up(struct world *world, struct sim_draft *draft)
{
    world_note(world, "abort", draft->number, draft->appended);
    world->quiet = true;
    queue_draft_abort(draft->draft);
    world->quiet = false;
    oracle_get(&world->oracle, draft->number)->state = MESSAGE_NEVER;
    *draft = (struct sim_draft){0};
}

static void stopped(struct world *world, struct sim_draft *draft, int error)
{
    world_note(world, "stopped", draft->number, (uint64_t)-error);
    if (error == -EAGAIN) {
        draft->blocked = true;
        draft->since_us = world->disk->now_us;
        return;
    }
    if (error != -ENOSPC && error != -EIO && error != -ETIMEDOUT)
        violation("draft %llu: answer %d", (unsigned long long)draft->number, error);
    world->refused++;
    receive_give_up(world, draft);
}

static void append(struct world *world, struct sim_draft *draft)
{
    static uint8_t piece[64 * 1024];
    struct oracle_message *message = oracle_get(&world->oracle, draft->number);
    uint64_t left = message->size - draft->appended;
    size_t size = random_one_in(&world->random, 2) ? left : random_skewed(&world->random, 1, left);

    if (size > sizeof(piece))
        size = sizeof(piece);
    content_fill(message->number * STREAMS, draft->appended, piece, size);
    world->quiet = true;
    int64_t taken = queue_draft_append(draft->draft, piece, size);
    world->quiet = false;
    memset(piece, 0xdd, size); /* the queue must have copied it */
    if (taken < 0) {
        stopped(world, draft, (int)taken);
        return;
    }
    if (draft->lost)
        violation("draft %llu goes on although content was lost", (unsigned long long)draft->number);
    if (taken == 0 || (uint64_t)taken > size)
        violation("draft %llu: %lld of %zu octets taken", (unsigned long long)draft->number, (long long)taken,
                  size);
    draft->appended += (uint64_t)taken;
    if (queue_draft_size(draft->draft) != draft->appended)
        violation("draft %llu: size %llu", (unsigned long long)draft->number,
                  (unsigned long long)queue_draft_size(draft->draft));
    world_note(world, "append", draft->number, draft->appended);
    if ((uint64_t)taken < size)
        stopped(world, draft, -EAGAIN);
}

static void reserve(struct world *world, struct sim_draft *draft)
{
    uint64_t left = oracle_get(&world->oracle, draft->number)->size - draft->appended;
    size_t asked = random_one_in(&world->random, 2) ? left : random_skewed(&world->random, 1, left);
    size_t size = asked;
    int error = 0;

    world->quiet = true;
    draft->room = queue_draft_reserve(draft->draft, &size, &error);
    world->quiet = false;
    if (draft->room == NULL && error == -ENOBUFS) {
        append(world, draft);
    } else if (draft->room == NULL) {
        stopped(world, draft, error);
    } else if (draft->lost || size == 0 || size > asked) {
        violation("draft %llu: room for %zu octets of %zu", (unsigned long long)draft->number, size, asked);
    } else {
        draft->room_size = size;
        draft->room_done = 0;
        memset(draft->room, 0xee, size);
        world_note(world, "reserve", draft->number, size);
    }
}

/* Some octets come; sometimes fewer of them count than came. */
static void receive_some(struct world *world, struct sim_draft *draft)
{
    uint64_t left = draft->room_size - draft->room_done;
    uint64_t size = random_one_in(&world->random, 2) ? left : random_skewed(&world->random, 1, left);

    content_fill(draft->number * STREAMS, draft->appended + draft->room_done, draft->room + draft->room_done,
                 size);
    draft->room_done += size;
    if (draft->room_done < draft->room_size && !random_one_in(&world->random, 3))
        return;
    uint64_t counts = draft->room_done;
    if (random_one_in(&world->random, 8) && !world->draining)
        counts = random_below(&world->random, counts + 1);
    world->quiet = true;
    queue_draft_filled(draft->draft, counts);
    world->quiet = false;
    draft->room = NULL;
    uint64_t taken = queue_draft_size(draft->draft) - draft->appended;
    if (taken != counts && taken != 0)
        violation("draft %llu: %llu of %llu octets count", (unsigned long long)draft->number,
                  (unsigned long long)taken, (unsigned long long)counts);
    draft->lost = taken != counts;
    draft->appended += taken;
    world->received++;
    world_note(world, "filled", draft->number, draft->appended);
}

bool receive_step(struct world *world, struct sim_draft *draft)
{
    uint64_t size = oracle_get(&world->oracle, draft->number)->size;

    if (draft->room)
        receive_some(world, draft);
    else if (draft->appended == size)
        return true;
    else if (random_percent(&world->random, world->plan.place_percent))
        reserve(world, draft);
    else
        append(world, draft);
    return false;
}

struct answer {
    struct world *world;
    uint64_t number;
};

static void committed(void *context, uint64_t id, int error)
{
    struct answer *answer = context;
    struct world *world = answer->world;

    if (!world->dead) {
        if (world->quiet)
            violation("committed() was called from within a draft's call");
        oracle_answered(&world->oracle, answer->number, id, error);
        world_note(world, error ? "refused" : "acked", answer->number, error ? (uint64_t)-error : id);
        world->acked += error == 0;
        world->refused += error != 0;
    }
}

uint8_t *receive_encode(const struct oracle_message *message, struct queue_envelope *envelope)
{
    char address[QUEUE_ADDRESS_MAX];
    char key[32];
    uint8_t *buffer = malloc(message->meta_size + message->recipient_count * 100 + QUEUE_ENVELOPE_MAX);
    if (buffer == NULL)
        abort();
    uint8_t *at = buffer + message->meta_size;

    oracle_meta(message, buffer);
    for (uint32_t i = 0; i < message->recipient_count; i++) {
        uint32_t address_size = oracle_address(message, i, address);
        uint32_t key_size = oracle_key(message->recipients[i].lane, key);
        size_t size = queue_recipient_encode(at, address, address_size, key, key_size);
        if (size != queue_recipient_size(address_size, key_size))
            violation("an encoded recipient has %zu octets", size);
        at += size;
    }
    *envelope = (struct queue_envelope){
        .meta = buffer,
        .meta_size = message->meta_size,
        .recipients = buffer + message->meta_size,
        .recipients_size = (uint32_t)(at - buffer) - message->meta_size,
        .recipient_count = message->recipient_count,
    };
    return buffer;
}

static void commit(struct world *world, struct sim_draft *draft)
{
    struct oracle_message *message = oracle_get(&world->oracle, draft->number);
    struct queue_envelope envelope;
    uint8_t *buffer = receive_encode(message, &envelope);
    struct answer *answer = message->answer ? message->answer : malloc(sizeof(*answer));
    if (answer == NULL)
        abort();

    *answer = (struct answer){.world = world, .number = draft->number};
    message->answer = answer;
    message->arrival_ms = world_now_ms(world);
    world->quiet = true;
    int error = queue_draft_commit(draft->draft, &envelope, message->arrival_ms, committed, answer);
    world->quiet = false;
    memset(buffer, 0xdd, message->meta_size + envelope.recipients_size);
    free(buffer);
    if (error) {
        stopped(world, draft, error);
        return;
    }
    world_note(world, "offered", draft->number, message->recipient_count);
    message->state = MESSAGE_OFFERED;
    draft->draft = NULL;
}

static void proceed(struct world *world, struct sim_draft *draft)
{
    if (draft->blocked) {
        if (random_one_in(&world->random, 200) && !world->draining)
            receive_give_up(world, draft);
        else if (world->draining && world->disk->now_us - draft->since_us > BLOCKED_MAX_US)
            violation("draft %llu waits for room forever", (unsigned long long)draft->number);
        return;
    }
    if (draft->aborts && !world->draining && random_one_in(&world->random, 4))
        receive_give_up(world, draft);
    else if (receive_step(world, draft))
        commit(world, draft);
}

void receive_turn(struct world *world)
{
    uint32_t steps = (uint32_t)random_skewed(&world->random, 1, 24);

    for (uint32_t i = 0; i < steps; i++) {
        struct sim_draft *draft = &world->drafts[random_below(&world->random, world->plan.drafts)];
        if (draft->draft == NULL)
            (void)receive_begin(world, draft, world->plan.content_max);
        else
            proceed(world, draft);
    }
}

void receive_one(struct world *world)
{
    if (world->drafts[0].draft == NULL)
        (void)receive_begin(world, &world->drafts[0], 1000);
}

bool receive_finish(struct world *world)
{
    bool left = false;

    for (uint32_t i = 0; i < WORLD_DRAFTS_MAX; i++) {
        if (world->drafts[i].draft)
            proceed(world, &world->drafts[i]);
        left |= world->drafts[i].draft != NULL;
    }
    return left;
}

void receive_abandon(struct world *world)
{
    for (uint32_t i = 0; i < WORLD_DRAFTS_MAX; i++)
        if (world->drafts[i].draft)
            receive_give_up(world, &world->drafts[i]);
}

void receive_room(struct world *world)
{
    for (uint32_t i = 0; i < WORLD_DRAFTS_MAX; i++)
        world->drafts[i].blocked = false;
}
