#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/outbound/far_side.h"

#include "gateway/base/config.h"

static uint64_t random_state = 1;

void random_begin(uint64_t seed)
{
    random_state = seed;
}

uint32_t random_below(uint32_t count)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((random_state >> 33) % count);
}

static void push(struct world *world, uint64_t at, enum event_kind kind, uint32_t connection)
{
    assert_true(world->event_count < EVENTS_MAX);
    uint32_t index = world->event_count++;
    for (; index > 0 && world->events[(index - 1) / 2].at > at; index = (index - 1) / 2)
        world->events[index] = world->events[(index - 1) / 2];
    world->events[index] = (struct event){.at = at, .kind = kind, .connection = connection};
}

static struct event pop(struct world *world)
{
    struct event first = world->events[0];
    struct event last = world->events[--world->event_count];
    uint32_t index = 0, child;
    for (; (child = 2 * index + 1) < world->event_count; index = child) {
        if (child + 1 < world->event_count && world->events[child + 1].at < world->events[child].at)
            child++;
        if (last.at <= world->events[child].at)
            break;
        world->events[index] = world->events[child];
    }
    world->events[index] = last;
    return first;
}

/* Half a round trip, give or take a tenth. */
static uint64_t travel(struct world *world)
{
    uint32_t half = world->far.latency_us / 2;
    return half - half / 10 + random_below(half / 5 + 1);
}

static struct second *second_of(struct world *world)
{
    uint64_t index = (world->now - START) / SECOND;
    assert_true(index < SECONDS_MAX);
    return &world->seconds[index];
}

static bool far_takes(struct far_side *far, uint64_t now)
{
    if (far->per_second == 0)
        return true;
    switch (far->counting) {
    case COUNTING_SLIDING:
        if (far->seen_count >= far->per_second &&
            far->seen[(far->seen_count - far->per_second) % RATE_MAX] + SECOND > now)
            return false;
        far->seen[far->seen_count++ % RATE_MAX] = now;
        return true;
    case COUNTING_FIXED:
        if (now / SECOND != far->second) {
            far->second = now / SECOND;
            far->in_second = 0;
        }
        return far->in_second < far->per_second && ++far->in_second > 0;
    default:
        far->tokens += (double)(now - far->tokens_at) * far->per_second / (double)SECOND;
        far->tokens_at = now;
        if (far->tokens > far->per_second)
            far->tokens = far->per_second;
        if (far->tokens < 1)
            return false;
        far->tokens--;
        return true;
    }
}

static void hang_up(struct world *world, uint32_t connection)
{
    push(world, world->now + travel(world), EVENT_QUIT, connection);
}

static void send_mail(struct world *world)
{
    uint32_t connection = world->idle[--world->idle_count];
    world->backlog--;
    world->sent[connection]++;
    shaper_message_began(&world->shaper, world->now);
    push(world, world->now + travel(world), EVENT_MAIL, connection);
}

static void open_connection(struct world *world)
{
    assert_true(world->free_count > 0);
    uint32_t connection = world->free[--world->free_count];
    world->sent[connection] = 0;
    world->connecting++;
    shaper_connect_began(&world->shaper, world->now);
    push(world, world->now + 2 * travel(world), EVENT_GREET, connection);
}

static void wake(struct world *world, uint64_t at)
{
    if (at == UINT64_MAX || (world->wake_at > world->now && world->wake_at <= at))
        return;
    world->wake_at = at;
    push(world, at, EVENT_WAKE, 0);
}

static void pump(struct world *world)
{
    while (world->backlog > 0) {
        uint64_t at = shaper_message_at(&world->shaper, world->now);
        if (at > world->now) {
            wake(world, at + random_below(1000)); /* timers are late */
            return;
        }
        if (world->idle_count > 0) {
            send_mail(world);
            continue;
        }
        if (world->connecting >= CONNECTING_MAX)
            return;
        at = shaper_connect_at(&world->shaper, world->now);
        if (at > world->now) {
            wake(world, at);
            return;
        }
        open_connection(world);
    }
}

static void answered(struct world *world, uint32_t connection)
{
    if (world->sent[connection] >= MESSAGES_PER_CONNECTION)
        hang_up(world, connection);
    else
        world->idle[world->idle_count++] = connection;
}

static void closed(struct world *world, uint32_t connection)
{
    shaper_connection_ended(&world->shaper, world->now);
    world->free[world->free_count++] = connection;
}

static void happen_there(struct world *world, const struct event *event)
{
    struct far_side *far = &world->far;
    uint64_t back = world->now + travel(world);
    switch (event->kind) {
    case EVENT_GREET:
        if (far->open >= far->connections) {
            push(world, back, EVENT_TURNED_AWAY, event->connection);
            return;
        }
        far->open++;
        push(world, back, EVENT_GREETED, event->connection);
        return;
    case EVENT_MAIL:
        if (far->open > far->connections) { /* its limit fell */
            far->open--;
            push(world, back, EVENT_TURNED_AWAY, event->connection);
            return;
        }
        push(world, back, far_takes(far, world->now) ? EVENT_TAKEN : EVENT_REFUSED, event->connection);
        return;
    default:
        assert_int_equal(event->kind, EVENT_QUIT);
        far->open--;
        push(world, back, EVENT_CLOSED, event->connection);
    }
}

static void happen_here(struct world *world, const struct event *event)
{
    switch (event->kind) {
    case EVENT_GREETED:
        world->connecting--;
        world->idle[world->idle_count++] = event->connection;
        return;
    case EVENT_TURNED_AWAY:
        if (world->sent[event->connection] == 0)
            world->connecting--;
        else
            world->backlog++;
        second_of(world)->turned_away++;
        shaper_pressed(&world->shaper, SHAPER_PRESSURE_CONNECTION, world->now);
        closed(world, event->connection);
        return;
    case EVENT_TAKEN:
        second_of(world)->taken++;
        shaper_worked(&world->shaper, world->now);
        answered(world, event->connection);
        return;
    case EVENT_REFUSED:
        second_of(world)->refused++;
        world->backlog++;
        shaper_pressed(&world->shaper, SHAPER_PRESSURE_RATE, world->now);
        answered(world, event->connection);
        return;
    case EVENT_CLOSED:
        closed(world, event->connection);
        return;
    default:
        assert_int_equal(event->kind, EVENT_WAKE);
    }
}

void run_until(struct world *world, uint64_t end)
{
    pump(world);
    while (world->event_count > 0 && world->events[0].at <= end) {
        struct event event = pop(world);
        assert_true(event.at >= world->now);
        world->now = event.at;
        if (event.kind == EVENT_GREET || event.kind == EVENT_MAIL || event.kind == EVENT_QUIT)
            happen_there(world, &event);
        else
            happen_here(world, &event);
        pump(world);
        struct second *second = second_of(world);
        second->window = shaper_window(&world->shaper);
        second->pace = shaper_pace(&world->shaper);
    }
    world->now = end;
}

struct world *world_new(uint32_t connections, uint32_t per_second, uint32_t latency_ms)
{
    struct world *world = calloc(1, sizeof(*world));
    assert_non_null(world);
    struct config_limits limits = {.connections = 300};
    world->now = START;
    world->backlog = UINT64_MAX / 2;
    world->far.connections = connections;
    world->far.per_second = per_second;
    world->far.latency_us = latency_ms * 1000;
    world->far.tokens = per_second;
    world->far.tokens_at = START;
    for (; world->free_count < CONNECTIONS_MAX; world->free_count++)
        world->free[world->free_count] = world->free_count;
    shaper_init(&world->shaper, &limits, world->now);
    return world;
}

double capacity(const struct world *world)
{
    double rate = (double)world->far.connections * 1e6 / world->far.latency_us;
    return world->far.per_second > 0 && world->far.per_second < rate ? world->far.per_second : rate;
}

double taken_rate(const struct world *world, uint32_t from, uint32_t to)
{
    double sum = 0;
    for (uint32_t second = from; second < to; second++)
        sum += world->seconds[second].taken;
    return sum / (to - from);
}

double refused_part(const struct world *world, uint32_t from, uint32_t to)
{
    double refused = 0, taken = 0;
    for (uint32_t second = from; second < to; second++) {
        refused += world->seconds[second].refused + world->seconds[second].turned_away;
        taken += world->seconds[second].taken;
    }
    return refused / (refused + taken);
}

uint32_t seconds_to_use(const struct world *world, uint32_t from, uint32_t end)
{
    for (uint32_t second = from; second + 5 <= end; second++) {
        if (taken_rate(world, second, second + 5) >= 0.9 * capacity(world))
            return second - from;
    }
    return UINT32_MAX;
}

uint32_t world_second(const struct world *world)
{
    return (uint32_t)((world->now - START) / SECOND);
}

void run_for(struct world *world, uint32_t seconds)
{
    run_until(world, world->now + seconds * SECOND);
}
