/* How many events the sink saw in any stretch of time: each figure is compared with a plain count. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "bench/sink.h"

enum { SPAN = 1000 };

_Noreturn void sink_die(const char *what)
{
    (void)what;
    abort();
}

static void an_event_counts_until_the_span_is_over(void **state)
{
    struct sink_window window;

    (void)state;
    sink_window_init(&window, SPAN);
    assert_int_equal(sink_window_count(&window, 5), 0);
    sink_window_add(&window, 10);
    sink_window_add(&window, 500);
    assert_int_equal(sink_window_count(&window, 1009), 2);
    assert_int_equal(sink_window_count(&window, 1010), 1);
    assert_int_equal(sink_window_count(&window, 1499), 1);
    assert_int_equal(sink_window_count(&window, 1500), 0);
    free(window.at_ns);
}

static void the_most_is_that_of_any_span_and_stays(void **state)
{
    struct sink_window window;

    (void)state;
    sink_window_init(&window, SPAN);
    /* Three on either side of a clock's second, six in one that begins in its midst. */
    for (uint64_t index = 0; index < 6; index++)
        sink_window_add(&window, SPAN - 3 + index);
    assert_int_equal(window.most, 6);
    sink_window_add(&window, 10 * SPAN);
    assert_int_equal(window.most, 6);
    assert_int_equal(window.count, 1);
    free(window.at_ns);
}

/* Two threads look at the clock, and the one that looked first comes last. */
static void a_moment_before_the_last_one_is_counted(void **state)
{
    struct sink_window window;

    (void)state;
    sink_window_init(&window, SPAN);
    sink_window_add(&window, 2000);
    sink_window_add(&window, 1998);
    assert_int_equal(window.count, 2);
    assert_int_equal(sink_window_count(&window, 1999), 2);
    assert_int_equal(sink_window_count(&window, 3000), 0);
    free(window.at_ns);
}

static uint32_t count_plainly(const uint64_t *at, uint32_t count, uint64_t span, uint64_t now)
{
    uint32_t found = 0;
    for (uint32_t index = 0; index < count; index++)
        found += at[index] + span > now;
    return found;
}

/* Bursts and pauses, so that the ring turns and grows, also while it lies across its end. */
static void any_number_of_events_is_counted_as_by_hand(void **state)
{
    enum { EVENTS = 3000 };
    static uint64_t at[EVENTS];

    (void)state;
    for (uint32_t round = 0; round < 50; round++) {
        struct sink_window window;
        uint64_t now = 1;
        uint32_t most = 0;
        srandom(round);
        sink_window_init(&window, SPAN);
        for (uint32_t index = 0; index < EVENTS; index++) {
            now += (uint64_t)random() % (index / 500 % 2 == 0 ? 100 : 3);
            at[index] = now;
            sink_window_add(&window, now);
            uint32_t plain = count_plainly(at, index + 1, SPAN, now);
            assert_int_equal(window.count, plain);
            most = plain > most ? plain : most;
        }
        assert_int_equal(window.most, most);
        assert_true(window.size > 64);
        now += (uint64_t)random() % SPAN;
        assert_int_equal(sink_window_count(&window, now), count_plainly(at, EVENTS, SPAN, now));
        free(window.at_ns);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_event_counts_until_the_span_is_over),
        cmocka_unit_test(the_most_is_that_of_any_span_and_stays),
        cmocka_unit_test(a_moment_before_the_last_one_is_counted),
        cmocka_unit_test(any_number_of_events_is_counted_as_by_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
