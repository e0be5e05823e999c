#include "net_test.h"

#include <stdlib.h>

#include "gateway/net/timer.h"

#define MS UINT64_C(1000)

struct alarm {
    struct timer timer;
    int fired;
    uint64_t deadline_us; /* 0: none */
};

static struct timer_wheel wheel;
static uint64_t now_us;

static void alarm_fired(struct timer *timer)
{
    struct alarm *alarm = list_entry(timer, struct alarm, timer);
    assert_false(timer_is_armed(timer));
    assert_true(now_us >= timer->deadline_us);
    alarm->fired++;
    alarm->deadline_us = 0;
}

static int wheel_setup(void **state)
{
    now_us = 123456789;
    timer_wheel_init(&wheel, now_us);
    return 0;
}

static void advance(uint64_t us)
{
    now_us += us;
    timer_wheel_expire(&wheel, now_us);
}

static void fires_once_and_never_early(void **state)
{
    struct alarm alarm = {0};
    timer_init(&alarm.timer, alarm_fired);
    timer_arm(&wheel, &alarm.timer, now_us + 300 * MS);
    advance(299 * MS);
    assert_int_equal(alarm.fired, 0);
    advance(1 * MS + TIMER_TICK_US);
    assert_int_equal(alarm.fired, 1);
    advance(10000 * MS);
    assert_int_equal(alarm.fired, 1);
}

static void later_deadline_stays_in_its_slot(void **state)
{
    struct alarm alarm = {0};
    timer_init(&alarm.timer, alarm_fired);
    timer_arm(&wheel, &alarm.timer, now_us + 200 * MS);
    uint64_t tick = alarm.timer.tick;
    timer_arm(&wheel, &alarm.timer, now_us + 900 * MS);
    assert_int_equal(alarm.timer.tick, tick);
    advance(899 * MS);
    assert_int_equal(alarm.fired, 0);
    advance(1 * MS + TIMER_TICK_US);
    assert_int_equal(alarm.fired, 1);
}

static void earlier_deadline_is_kept(void **state)
{
    struct alarm alarm = {0};
    timer_init(&alarm.timer, alarm_fired);
    timer_arm(&wheel, &alarm.timer, now_us + 500000 * MS);
    timer_arm(&wheel, &alarm.timer, now_us + 100 * MS);
    advance(100 * MS + TIMER_TICK_US);
    assert_int_equal(alarm.fired, 1);
}

static void deadline_beyond_one_round(void **state)
{
    struct alarm alarm = {0};
    timer_init(&alarm.timer, alarm_fired);
    timer_arm(&wheel, &alarm.timer, now_us + 300000 * MS);
    for (int second = 0; second < 299; second++)
        advance(1000 * MS);
    assert_int_equal(alarm.fired, 0);
    advance(1000 * MS + TIMER_TICK_US);
    assert_int_equal(alarm.fired, 1);
}

static void past_deadline_fires_at_the_next_tick(void **state)
{
    struct alarm alarm = {0};
    timer_init(&alarm.timer, alarm_fired);
    timer_arm(&wheel, &alarm.timer, 0);
    advance(TIMER_TICK_US);
    assert_int_equal(alarm.fired, 1);
}

static void wait_is_the_time_to_the_next_slot(void **state)
{
    struct alarm alarm = {0};
    timer_init(&alarm.timer, alarm_fired);
    assert_true(timer_wheel_wait_us(&wheel, now_us) == UINT64_MAX);
    timer_arm(&wheel, &alarm.timer, now_us + 5000 * MS);
    uint64_t wait_us = timer_wheel_wait_us(&wheel, now_us);
    assert_in_range(wait_us, 5000 * MS, 5000 * MS + TIMER_TICK_US);
    advance(wait_us);
    assert_int_equal(alarm.fired, 1);
    assert_true(timer_wheel_wait_us(&wheel, now_us) == UINT64_MAX);
}

static struct alarm victim;

static void cancel_victim(struct timer *timer)
{
    timer_cancel(&wheel, &victim.timer);
}

static void callback_cancels_one_of_its_own_slot(void **state)
{
    struct timer killer;
    victim = (struct alarm){0};
    timer_init(&killer, cancel_victim);
    timer_init(&victim.timer, alarm_fired);
    timer_arm(&wheel, &killer, now_us + 100 * MS);
    timer_arm(&wheel, &victim.timer, now_us + 100 * MS);
    advance(1000 * MS);
    assert_int_equal(victim.fired, 0);
    assert_false(timer_is_armed(&victim.timer));
    assert_int_equal(wheel.armed, 0);
}

static void rearm_at_once(struct timer *timer)
{
    alarm_fired(timer);
    timer_arm(&wheel, timer, now_us);
}

static void callback_that_rearms_fires_once_a_tick(void **state)
{
    struct alarm alarm = {0};
    timer_init(&alarm.timer, rearm_at_once);
    timer_arm(&wheel, &alarm.timer, now_us);
    for (int tick = 1; tick <= 10; tick++) {
        advance(TIMER_TICK_US);
        assert_int_equal(alarm.fired, tick);
    }
    timer_cancel(&wheel, &alarm.timer);
}

/* Against the simplest model: a table of deadlines. */
static void random_operations_match_the_model(void **state)
{
    enum { ALARMS = 200 };
    struct alarm *alarms = calloc(ALARMS, sizeof(*alarms));
    uint64_t seed = 42;
    for (int index = 0; index < ALARMS; index++)
        timer_init(&alarms[index].timer, alarm_fired);
    for (int step = 0; step < 200000; step++) {
        struct alarm *alarm = &alarms[net_test_random(&seed) % ALARMS];
        uint64_t draw = net_test_random(&seed) % 100;
        uint64_t span_us = net_test_random(&seed) % (draw < 80 ? 2000 * MS : 200000 * MS);
        if (draw < 90) {
            alarm->deadline_us = now_us + span_us;
            timer_arm(&wheel, &alarm->timer, alarm->deadline_us);
        } else {
            alarm->deadline_us = 0;
            timer_cancel(&wheel, &alarm->timer);
        }
        if (draw % 10 == 0)
            advance(net_test_random(&seed) % (300 * MS));
        if (draw != 77)
            continue;
        uint64_t next_us = timer_wheel_wait_us(&wheel, now_us);
        for (int index = 0; index < ALARMS; index++) {
            uint64_t deadline_us = alarms[index].deadline_us;
            assert_true(timer_is_armed(&alarms[index].timer) == (deadline_us != 0));
            if (deadline_us == 0)
                continue;
            assert_true(deadline_us + 2 * TIMER_TICK_US > now_us);
            assert_true(next_us <= deadline_us + TIMER_TICK_US - now_us || deadline_us < now_us);
        }
    }
    for (int index = 0; index < ALARMS; index++)
        timer_cancel(&wheel, &alarms[index].timer);
    assert_int_equal(wheel.armed, 0);
    free(alarms);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(fires_once_and_never_early, wheel_setup),
        cmocka_unit_test_setup(later_deadline_stays_in_its_slot, wheel_setup),
        cmocka_unit_test_setup(earlier_deadline_is_kept, wheel_setup),
        cmocka_unit_test_setup(deadline_beyond_one_round, wheel_setup),
        cmocka_unit_test_setup(past_deadline_fires_at_the_next_tick, wheel_setup),
        cmocka_unit_test_setup(wait_is_the_time_to_the_next_slot, wheel_setup),
        cmocka_unit_test_setup(callback_cancels_one_of_its_own_slot, wheel_setup),
        cmocka_unit_test_setup(callback_that_rearms_fires_once_a_tick, wheel_setup),
        cmocka_unit_test_setup(random_operations_match_the_model, wheel_setup),
    };
    return cmocka_run_group_tests_name("net/timer", tests, NULL, NULL);
}
