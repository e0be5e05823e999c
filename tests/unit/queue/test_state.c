/* A full disk, a failing disk, full memory: what is told, and that it passes. */
#include "tests/unit/queue/stage.h"

#include <errno.h>
#include <string.h>

static const struct stage_recipient recipient = {"1@a", "a"};

/* Sends until the queue refuses; returns how many were acknowledged. */
static uint32_t fill(struct stage *stage, size_t size)
{
    static uint8_t octets[32 * 1024];
    uint32_t count = 0;

    for (uint32_t turns = 0; turns < 100000; turns++) {
        struct queue_draft *draft = queue_draft_new(stage->queue);
        if (draft == NULL)
            return count;
        int64_t taken = 0;
        for (size_t sent = 0; sent < size && taken >= 0; sent += (size_t)taken) {
            while ((taken = queue_draft_append(draft, octets, size - sent)) == -EAGAIN)
                stage_turn(stage);
            if (taken < 0)
                break;
        }
        if (taken < 0) {
            assert_int_equal(taken, -ENOSPC);
            queue_draft_abort(draft);
            return count;
        }
        struct stage_answer answer;
        stage_commit(stage, draft, &recipient, 1, &answer);
        stage_rest(stage);
        assert_int_equal(answer.error, 0);
        count++;
    }
    assert_true(false); /* it never gets full */
    return count;
}

static void drain(struct stage *stage, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t turns = 0; stage_lane(stage, "a") == NULL && turns < 1000; turns++)
            stage_turn(stage); /* a message that is being copied forward cannot be taken meanwhile */
        struct queue_delivery *out = stage_take(stage, "a", 1, NULL);
        assert_non_null(out);
        stage_settle(stage, out, QUEUE_DONE);
    }
}

static void a_full_disk_is_told_and_passes(void **state)
{
    struct stage stage;
    stage_begin(&stage);
    stage.disk_options.slots_max = 20;
    disk_init(&stage.disk, &stage.disk_options);
    stage_open(&stage);

    uint32_t count = fill(&stage, 20000);
    assert_true(count > 50);
    stage_turn(&stage);
    assert_int_equal(queue_state(stage.queue), QUEUE_DISK_FULL);
    assert_int_equal(stage.state, QUEUE_DISK_FULL);
    assert_int_equal(stage.state_error, -ENOSPC);
    assert_int_equal(queue_stats(stage.queue).messages, count);
    drain(&stage, count);
    for (uint32_t i = 0; i < 10 && queue_state(stage.queue) != QUEUE_OPEN; i++) {
        stage_rest(&stage);
        stage_wait(&stage, 1000);
    }
    stage_turn(&stage);
    assert_int_equal(queue_state(stage.queue), QUEUE_OPEN);
    assert_int_equal(stage.state, QUEUE_OPEN);
    stage_send_one(&stage, 1, 1000, "1@a", "a");
    stage_end(&stage);
}

static void a_failing_write_is_answered_and_told(void **state)
{
    struct stage_answer answer;
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);
    stage_send_one(&stage, 1, 1000, "1@a", "a");
    stage_rest(&stage);

    stage.disk.options.write_fails = 1000000;
    stage_commit(&stage, stage_draft(&stage, 2, 1000), &recipient, 1, &answer);
    for (uint32_t i = 0; i < 100 && !answer.called; i++)
        stage_turn(&stage);
    assert_true(answer.called);
    assert_int_equal(answer.error, -EIO);
    stage_turn(&stage);
    assert_int_equal(queue_state(stage.queue), QUEUE_FAILED);
    assert_int_equal(stage.state, QUEUE_FAILED);
    assert_null(queue_draft_new(stage.queue));
    assert_int_equal(queue_stats(stage.queue).messages, 1);
    assert_true(queue_stats(stage.queue).write_errors > 0);

    disk_heal(&stage.disk);
    for (uint32_t i = 0; i < 10 && queue_state(stage.queue) != QUEUE_OPEN; i++)
        stage_wait(&stage, 1000);
    assert_int_equal(queue_state(stage.queue), QUEUE_OPEN);
    stage_send_one(&stage, 3, 1000, "1@a", "a");
    struct queue_delivery *out = stage_take(&stage, "a", 1, NULL);
    stage_check(&stage, out, 1, 1000);
    stage_settle(&stage, out, QUEUE_DONE);
    out = stage_take(&stage, "a", 1, NULL);
    stage_check(&stage, out, 3, 1000);
    stage_settle(&stage, out, QUEUE_DONE);
    stage_restart(&stage);
    assert_int_equal(stage.recovery.messages, 0);
    stage_end(&stage);
}

static void an_outcome_survives_a_failing_write(void **state)
{
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);
    stage_send_one(&stage, 1, 1000, "1@a", "a");
    stage_rest(&stage);
    stage.disk.options.write_fails = 1000000;
    stage_settle(&stage, stage_take(&stage, "a", 1, NULL), QUEUE_DONE);
    for (uint32_t i = 0; i < 10; i++)
        stage_wait(&stage, 1000);
    disk_heal(&stage.disk);
    stage_wait(&stage, 2000);
    stage_rest(&stage);
    stage_crash(&stage);
    assert_int_equal(stage.recovery.messages, 0);
    stage_end(&stage);
}

static void full_memory_is_told_and_passes(void **state)
{
    struct stage stage;
    stage_begin(&stage);
    stage.options.memory_limit = 10 * STAGE_PAGE;
    stage_open(&stage);

    uint32_t count = fill(&stage, 10);
    assert_true(count > 500);
    stage_turn(&stage);
    assert_int_equal(queue_state(stage.queue), QUEUE_MEMORY_FULL);
    assert_int_equal(stage.state, QUEUE_MEMORY_FULL);
    drain(&stage, count);
    stage_turn(&stage);
    assert_int_equal(queue_state(stage.queue), QUEUE_OPEN);
    assert_int_equal(stage.state, QUEUE_OPEN);
    stage_end(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_disk_is_told_and_passes),
        cmocka_unit_test(a_failing_write_is_answered_and_told),
        cmocka_unit_test(an_outcome_survives_a_failing_write),
        cmocka_unit_test(full_memory_is_told_and_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
