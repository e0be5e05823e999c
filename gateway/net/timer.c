#include "gateway/net/timer.h"

#include <assert.h>
#include <string.h>

#define TIMER_WORDS (TIMER_SLOTS / 64)

static_assert(TIMER_SLOTS % 64 == 0 && (TIMER_SLOTS & (TIMER_SLOTS - 1)) == 0, "slots are masked");

static uint32_t timer_slot(uint64_t tick)
{
    return (uint32_t)(tick & (TIMER_SLOTS - 1));
}

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now_us)
{
    memset(wheel, 0, sizeof(*wheel));
    wheel->tick = now_us >> TIMER_TICK_SHIFT;
    for (uint32_t slot = 0; slot < TIMER_SLOTS; slot++)
        list_init(&wheel->slots[slot]);
}

void timer_init(struct timer *timer, void (*fn)(struct timer *timer))
{
    assert(fn != NULL);
    list_init(&timer->link);
    timer->deadline_us = 0;
    timer->tick = 0;
    timer->fn = fn;
}

/* The first tick that begins at or after the deadline, within one round from now. */
static uint64_t timer_tick(const struct timer_wheel *wheel, uint64_t deadline_us)
{
    uint64_t tick = deadline_us >> TIMER_TICK_SHIFT;
    tick += (deadline_us & (TIMER_TICK_US - 1)) != 0;
    if (tick <= wheel->tick)
        tick = wheel->tick + 1;
    if (tick > wheel->tick + TIMER_SLOTS - 1)
        tick = wheel->tick + TIMER_SLOTS - 1;
    return tick;
}

static void timer_link(struct timer_wheel *wheel, struct timer *timer)
{
    timer->tick = timer_tick(wheel, timer->deadline_us);
    uint32_t slot = timer_slot(timer->tick);
    list_push_back(&wheel->slots[slot], &timer->link);
    wheel->occupied[slot / 64] |= UINT64_C(1) << (slot % 64);
    wheel->armed++;
}

static void timer_unlink(struct timer_wheel *wheel, struct timer *timer)
{
    assert(wheel->armed > 0);
    uint32_t slot = timer_slot(timer->tick);
    list_remove(&timer->link);
    if (list_is_empty(&wheel->slots[slot]))
        wheel->occupied[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
    wheel->armed--;
}

void timer_arm(struct timer_wheel *wheel, struct timer *timer, uint64_t deadline_us)
{
    timer->deadline_us = deadline_us;
    if (timer_is_armed(timer)) {
        if (timer_tick(wheel, deadline_us) >= timer->tick)
            return; /* the slot it is in will move it on */
        timer_unlink(wheel, timer);
    }
    timer_link(wheel, timer);
}

void timer_cancel(struct timer_wheel *wheel, struct timer *timer)
{
    if (timer_is_armed(timer))
        timer_unlink(wheel, timer);
}

/* Serves the timers of one slot whose tick has come. */
static void timer_wheel_serve(struct timer_wheel *wheel, uint32_t slot, uint64_t now_us)
{
    struct list due;
    list_init(&due);
    /* Set apart, so that a timer armed by a callback is not met again in this walk. */
    list_splice_back(&due, &wheel->slots[slot]);
    wheel->occupied[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
    for (struct list *link = list_first(&due); link != NULL; link = list_first(&due)) {
        struct timer *timer = list_entry(link, struct timer, link);
        timer_unlink(wheel, timer);
        if (timer->deadline_us > now_us)
            timer_link(wheel, timer);
        else
            timer->fn(timer);
    }
}

/* The distance in ticks from wheel->tick to the next occupied slot: 1..TIMER_SLOTS. */
static uint64_t timer_wheel_distance(const struct timer_wheel *wheel)
{
    assert(wheel->armed > 0);
    uint32_t start = timer_slot(wheel->tick + 1);
    for (uint32_t step = 0; step <= TIMER_WORDS; step++) {
        uint32_t word = (start / 64 + step) % TIMER_WORDS;
        uint64_t bits = wheel->occupied[word];
        if (step == 0)
            bits &= UINT64_MAX << (start % 64);
        if (bits == 0)
            continue;
        uint32_t slot = word * 64 + (uint32_t)__builtin_ctzll(bits);
        return timer_slot(slot - start) + 1;
    }
    assert(!"armed timers have an occupied slot");
    return 1;
}

void timer_wheel_expire(struct timer_wheel *wheel, uint64_t now_us)
{
    uint64_t now_tick = now_us >> TIMER_TICK_SHIFT;
    while (wheel->armed > 0 && wheel->tick < now_tick) {
        uint64_t next = wheel->tick + timer_wheel_distance(wheel);
        if (next > now_tick)
            break;
        wheel->tick = next;
        timer_wheel_serve(wheel, timer_slot(next), now_us);
    }
    if (wheel->tick < now_tick)
        wheel->tick = now_tick;
}

uint64_t timer_wheel_wait_us(const struct timer_wheel *wheel, uint64_t now_us)
{
    if (wheel->armed == 0)
        return UINT64_MAX;
    uint64_t due_us = (wheel->tick + timer_wheel_distance(wheel)) << TIMER_TICK_SHIFT;
    return due_us > now_us ? due_us - now_us : 0;
}
