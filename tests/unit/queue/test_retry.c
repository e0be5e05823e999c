/* What is deferred comes back when it should, and not forever. */
#include "tests/unit/queue/stage.h"

#include <string.h>

static void the_schedule_is_kept(void **state)
{
    static const int64_t expected[] = {1000, 10000, 60000, 60000, 60000};
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);
    stage_send_one(&stage, 1, 100, "a@example.org", "example.org");

    for (uint32_t i = 0; i < 5; i++) {
        struct queue_delivery *out = stage_take(&stage, "example.org", 1, NULL);
        assert_non_null(out);
        assert_int_equal(out->attempt, i + 1);
        int64_t due = stage_settle(&stage, out, QUEUE_DEFER);
        assert_int_equal(due - stage_now_ms(&stage), expected[i]);
        assert_int_equal(queue_stats(stage.queue).deferred, 1);
        assert_null(stage_take(&stage, "example.org", 1, NULL));
        stage_turn(&stage);
        assert_int_equal(stage.tick_ms, due);
        stage_wait(&stage, due - stage_now_ms(&stage) - 1);
        assert_null(stage_take(&stage, "example.org", 1, NULL));
        stage_wait(&stage, 1);
    }
    stage_end(&stage);
}

static void jitter_stays_within_bounds_and_spreads(void **state)
{
    int64_t least = INT64_MAX;
    int64_t most = 0;
    struct stage stage;
    stage_begin(&stage);
    stage.options.retry_jitter_percent = 20;
    stage.options.retry_ms[0] = 100000;
    stage_open(&stage);

    for (uint32_t i = 0; i < 300; i++) {
        stage_send_one(&stage, i, 10, "a@example.org", "example.org");
        struct queue_delivery *out = stage_take(&stage, "example.org", 1, NULL);
        assert_non_null(out);
        int64_t delay = stage_settle(&stage, out, QUEUE_DEFER) - stage_now_ms(&stage);
        assert_in_range(delay, 80000, 120000);
        least = delay < least ? delay : least;
        most = delay > most ? delay : most;
    }
    assert_true(least < 85000);
    assert_true(most > 115000);
    stage_end(&stage);
}

static void what_is_too_old_expires(void **state)
{
    struct stage stage;
    uint32_t attempts = 0;
    stage_begin(&stage);
    stage.options.age_max_ms = 100000;
    stage_open(&stage);
    stage_send_one(&stage, 1, 100, "a@example.org", "example.org");
    int64_t arrival = stage_now_ms(&stage);

    for (;;) {
        struct queue_delivery *out = stage_take(&stage, "example.org", 1, NULL);
        assert_non_null(out);
        assert_true(++attempts < 20);
        out->targets[0].outcome = QUEUE_DEFER;
        queue_settle(out, stage_now_ms(&stage));
        enum queue_outcome outcome = out->targets[0].outcome;
        int64_t due = out->due_ms;
        queue_release(out);
        if (outcome == QUEUE_EXPIRED) {
            assert_int_equal(due, 0);
            break;
        }
        assert_int_equal(outcome, QUEUE_DEFER);
        stage_wait(&stage, due - stage_now_ms(&stage));
    }
    assert_true(stage_now_ms(&stage) - arrival >= 100000 - 60000);
    assert_true(stage_now_ms(&stage) - arrival <= 100000 + 60000);
    assert_true(attempts >= 4);
    assert_int_equal(queue_stats(stage.queue).messages, 0);
    stage_end(&stage);
}

static void not_attempted_is_not_counted_and_keeps_its_place(void **state)
{
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);
    uint64_t first = stage_send_one(&stage, 1, 100, "a@example.org", "example.org");
    uint64_t second = stage_send_one(&stage, 2, 100, "b@example.org", "example.org");

    for (uint32_t i = 0; i < 3; i++) {
        struct queue_delivery *out = stage_take(&stage, "example.org", 1, NULL);
        assert_non_null(out);
        assert_int_equal(out->id, first);
        assert_int_equal(out->attempt, 1);
        assert_int_equal(stage_settle(&stage, out, QUEUE_RETRY), 0);
    }
    stage_settle(&stage, stage_take(&stage, "example.org", 1, NULL), QUEUE_DONE);
    struct queue_delivery *out = stage_take(&stage, "example.org", 1, NULL);
    assert_non_null(out);
    assert_int_equal(out->id, second);
    stage_settle(&stage, out, QUEUE_DONE);
    stage_end(&stage);
}

static void a_new_schedule_holds_from_now_on(void **state)
{
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);
    stage_send_one(&stage, 1, 100, "a@example.org", "example.org");

    struct queue_options changed = stage.options;
    changed.retry_count = 1;
    changed.retry_ms[0] = 5000;
    queue_set_retry(stage.queue, &changed);
    struct queue_delivery *out = stage_take(&stage, "example.org", 1, NULL);
    assert_non_null(out);
    assert_int_equal(stage_settle(&stage, out, QUEUE_DEFER) - stage_now_ms(&stage), 5000);
    stage_wait(&stage, 5000);
    out = stage_take(&stage, "example.org", 1, NULL);
    assert_non_null(out);
    assert_int_equal(stage_settle(&stage, out, QUEUE_DEFER) - stage_now_ms(&stage), 5000);
    stage_end(&stage);
}

static void deferral_survives_a_restart(void **state)
{
    struct stage stage;
    stage_begin(&stage);
    stage.options.retry_ms[0] = 600000;
    stage_open(&stage);
    stage_send_one(&stage, 1, 100, "a@example.org", "example.org");
    struct queue_delivery *out = stage_take(&stage, "example.org", 1, NULL);
    assert_non_null(out);
    int64_t due = stage_settle(&stage, out, QUEUE_DEFER);

    stage_restart(&stage);
    assert_int_equal(stage.recovery.messages, 1);
    assert_null(stage_take(&stage, "example.org", 1, NULL));
    assert_int_equal(stage.tick_ms, due);
    stage_wait(&stage, due - stage_now_ms(&stage));
    out = stage_take(&stage, "example.org", 1, NULL);
    assert_non_null(out);
    assert_int_equal(out->attempt, 2);
    stage_settle(&stage, out, QUEUE_DONE);
    stage_end(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_schedule_is_kept),
        cmocka_unit_test(jitter_stays_within_bounds_and_spreads),
        cmocka_unit_test(what_is_too_old_expires),
        cmocka_unit_test(not_attempted_is_not_counted_and_keeps_its_place),
        cmocka_unit_test(a_new_schedule_holds_from_now_on),
        cmocka_unit_test(deferral_survives_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
