#pragma once

/*
 * A hashed timing wheel for many deadlines that are nearly always moved on before they come: arming, moving
 * and cancelling are O(1), and moving a deadline to a later time touches no list at all.
 *
 * Deadlines are monotonic microseconds (loop_now_us). A timer never fires early and at most TIMER_TICK_US
 * late, plus the turn. A wheel and its timers belong to one thread; the owner keeps a timer's memory until it
 * has fired or was cancelled.
 */

#include <stdbool.h>
#include <stdint.h>

#include "gateway/base/list.h"

#define TIMER_TICK_SHIFT 16 /* 65.5 ms */
#define TIMER_TICK_US    ((uint64_t)1 << TIMER_TICK_SHIFT)
#define TIMER_SLOTS      1024 /* one round: 67 s; later deadlines wait more than one round */

struct timer {
    struct list link;
    uint64_t deadline_us; /* may be later than the slot: then the slot moves it on */
    uint64_t tick;        /* of the slot it is linked in */
    void (*fn)(struct timer *timer);
};

struct timer_wheel {
    uint64_t tick; /* every slot up to and including this tick has been served */
    uint64_t armed;
    uint64_t occupied[TIMER_SLOTS / 64];
    struct list slots[TIMER_SLOTS];
};

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now_us);

/* Fires every due timer, each at most once. `fn` may arm, cancel or free any timer, its own too. */
void timer_wheel_expire(struct timer_wheel *wheel, uint64_t now_us);

/* Microseconds until the next slot has to be looked at; UINT64_MAX when no timer is armed. */
uint64_t timer_wheel_wait_us(const struct timer_wheel *wheel, uint64_t now_us);

void timer_init(struct timer *timer, void (*fn)(struct timer *timer));

/* Arms the timer, or moves the one that is armed. */
void timer_arm(struct timer_wheel *wheel, struct timer *timer, uint64_t deadline_us);

/* Harmless when not armed. */
void timer_cancel(struct timer_wheel *wheel, struct timer *timer);

static inline bool timer_is_armed(const struct timer *timer)
{
    return !list_is_empty(&timer->link);
}
