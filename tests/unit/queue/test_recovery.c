/* Restarts, with and without a power cut, and what the disk looks like after a long day. */
#include "tests/unit/queue/stage.h"

#include <errno.h>
#include <string.h>

static void a_new_disk_holds_nothing(void **state)
{
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);
    assert_int_equal(stage.recovery.messages, 0);
    assert_int_equal(stage.recovery.segments, 0);
    assert_int_equal(stage.recovery.damaged_batches, 0);
    stage_end(&stage);
}

static void what_was_acknowledged_survives_a_power_cut(void **state)
{
    enum { COUNT = 40 };
    uint64_t ids[COUNT];
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);
    for (uint32_t i = 0; i < COUNT; i++)
        ids[i] = stage_send_one(&stage, i, 1000 * i, "1@a", "a");

    stage_crash(&stage);
    assert_int_equal(stage.recovery.messages, COUNT);
    assert_int_equal(stage.recovery.recipients, COUNT);
    assert_int_equal(stage.recovery.damaged_batches, 0);
    assert_int_equal(queue_stats(stage.queue).messages, COUNT);
    for (uint32_t n = 0; n < COUNT; n++) {
        stage_rest(&stage); /* a message that is being copied forward cannot be taken meanwhile */
        struct queue_delivery *out = stage_take(&stage, "a", 1, NULL);
        assert_non_null(out);
        uint32_t i = 0;
        while (i < COUNT && ids[i] != out->id)
            i++;
        assert_true(i < COUNT);
        ids[i] = 0;
        stage_check(&stage, out, i, 1000 * i);
        stage_settle(&stage, out, QUEUE_DONE);
    }
    assert_null(stage_take(&stage, "a", 1, NULL));
    stage_end(&stage);
}

static void what_was_settled_does_not_come_back(void **state)
{
    static const struct stage_recipient two[] = {{"1@a", "a"}, {"2@b", "b"}};
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);
    stage_send(&stage, 1, 100, two, 2);
    stage_send(&stage, 2, 100, two, 2);
    stage_settle(&stage, stage_take(&stage, "a", 1, NULL), QUEUE_DONE);
    stage_settle(&stage, stage_take(&stage, "a", 1, NULL), QUEUE_DONE);
    stage_settle(&stage, stage_take(&stage, "b", 1, NULL), QUEUE_DONE);
    stage_rest(&stage);

    stage_crash(&stage);
    assert_int_equal(stage.recovery.messages, 1);
    assert_int_equal(stage.recovery.recipients, 1);
    assert_null(stage_take(&stage, "a", 1, NULL));
    struct queue_delivery *out = stage_take(&stage, "b", 1, NULL);
    assert_non_null(out);
    stage_check(&stage, out, 2, 100);
    assert_int_equal(out->targets[0].index, 1);
    stage_settle(&stage, out, QUEUE_DONE);
    stage_end(&stage);
}

static void a_draft_that_was_not_committed_is_gone(void **state)
{
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);
    struct queue_draft *draft = stage_draft(&stage, 1, 3 * STAGE_PAGE);
    stage_send_one(&stage, 2, 100, "1@a", "a");
    queue_draft_abort(draft);

    stage_crash(&stage);
    assert_int_equal(stage.recovery.messages, 1);
    stage_settle(&stage, stage_take(&stage, "a", 1, NULL), QUEUE_DONE);
    stage_end(&stage);
}

static void restart_after_restart(void **state)
{
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);
    for (uint32_t i = 0; i < 12; i++) {
        stage_send_one(&stage, i, 5000, "1@a", "a");
        if (i % 3 == 2)
            stage_crash(&stage);
        else
            stage_restart(&stage);
        assert_int_equal(stage.recovery.messages, i + 1);
        assert_int_equal(stage.recovery.damaged_batches, 0);
        assert_int_equal(stage.recovery.missing_segments, 0);
    }
    stage_end(&stage);
}

/* The format's records do not cross a page of their writer, so another page size cannot read them. */
static void another_page_size_is_refused(void **state)
{
    struct stage stage;
    struct queue *queue;
    stage_begin(&stage);
    stage_open(&stage);
    stage_send_one(&stage, 1, 5000, "1@a", "a");
    stage_close(&stage);

    struct queue_options other = stage.options;
    other.page_size = 2 * STAGE_PAGE;
    assert_int_equal(queue_open(&stage.disk.storage, &other, stage_now_ms(&stage), &stage.recovery, &queue),
                     -EPROTO);
    stage_open(&stage);
    assert_int_equal(stage.recovery.messages, 1);
    stage_end(&stage);
}

static void wrong_options_are_refused(void **state)
{
    static const uint32_t page_sizes[] = {0, 4096, 3 * 8192, 2 * STAGE_SEGMENT};
    struct stage stage;
    struct queue *queue;
    stage_begin(&stage);
    for (uint32_t i = 0; i < 4; i++) {
        struct queue_options options = stage.options;
        options.page_size = page_sizes[i];
        assert_int_equal(queue_open(&stage.disk.storage, &options, 1, &stage.recovery, &queue), -EINVAL);
    }
    struct queue_options options = stage.options;
    options.writes_max = 9;
    assert_int_equal(queue_open(&stage.disk.storage, &options, 1, &stage.recovery, &queue), -EINVAL);
    options = stage.options;
    options.shard = 256;
    assert_int_equal(queue_open(&stage.disk.storage, &options, 1, &stage.recovery, &queue), -EINVAL);
    stage_end(&stage);
}

static void a_flipped_bit_costs_one_message_and_is_told(void **state)
{
    enum { COUNT = 10 };
    uint32_t whole = 0;
    uint64_t left;
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);
    for (uint32_t i = 0; i < COUNT; i++) {
        stage_send_one(&stage, i, 3000, "1@a", "a");
        stage_rest(&stage);
    }
    stage_close(&stage);
    /* in the middle of the log, after a header */
    uint32_t slot = 0;
    while (!stage.disk.slots[slot].exists || stage.disk.slots[slot].bytes[0] == 0)
        slot++;
    stage.disk.slots[slot].bytes[4 * 4096 + 300] ^= 4;
    stage_open(&stage);
    left = stage.recovery.messages;
    assert_true(left >= COUNT - 1);
    assert_int_equal(stage.recovery.damaged_batches, 1);
    struct queue_delivery *out;
    while ((out = stage_take(&stage, "a", 1, NULL))) {
        const struct queue_piece *piece = &out->pieces[0];
        assert_null(piece->data);
        whole += queue_piece_check(piece, stage.disk.slots[piece->slot].bytes + piece->offset);
        stage_settle(&stage, out, QUEUE_DONE);
    }
    assert_int_equal(whole, COUNT - 1);
    stage_end(&stage);
}

static void the_disk_shrinks_after_a_backlog(void **state)
{
    enum { COUNT = 300 };
    struct stage stage;
    stage_begin(&stage);
    stage.options.memory_limit = 64 * STAGE_PAGE;
    stage_open(&stage);
    for (uint32_t i = 0; i < COUNT; i++)
        stage_send_one(&stage, i, 20000, "1@a", "a");
    uint32_t most = stage.disk.slot_count;
    assert_true(most > 20);

    for (uint32_t i = 0; i < COUNT; i++)
        stage_settle(&stage, stage_take(&stage, "a", 1, NULL), QUEUE_DONE);
    for (uint32_t i = 0; i < 4; i++) {
        stage_send_one(&stage, i, 10, "1@a", "a");
        stage_settle(&stage, stage_take(&stage, "a", 1, NULL), QUEUE_DONE);
        stage_rest(&stage);
    }
    assert_true(queue_stats(stage.queue).segments <= 2);
    assert_true(stage.disk.slot_count <= 12);
    stage_end(&stage);
}

/* A few deferred messages in an old part of the log are copied forward and do not hold all that came after
 * them. */
static void stragglers_do_not_pin_the_disk(void **state)
{
    enum { STRAGGLERS = 3, COUNT = 400 };
    struct stage stage;
    stage_begin(&stage);
    stage.options.retry_ms[0] = 3000 * 1000;
    stage_open(&stage);
    for (uint32_t i = 0; i < STRAGGLERS; i++) {
        stage_send_one(&stage, 1000 + i, 20000, "s@slow", "slow");
        stage_settle(&stage, stage_take(&stage, "slow", 1, NULL), QUEUE_DEFER);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        stage_send_one(&stage, i, 20000, "1@a", "a");
        stage_settle(&stage, stage_take(&stage, "a", 1, NULL), QUEUE_DONE);
    }
    stage_rest(&stage);
    assert_true(queue_stats(stage.queue).moved >= STRAGGLERS);
    assert_true(queue_stats(stage.queue).segments <= 10);
    stage_crash(&stage);
    assert_int_equal(stage.recovery.messages, STRAGGLERS);
    stage_wait(&stage, 3000 * 1000);
    for (uint32_t i = 0; i < STRAGGLERS; i++) {
        struct queue_delivery *out = stage_take(&stage, "slow", 1, NULL);
        assert_non_null(out);
        assert_int_equal(out->attempt, 2);
        stage_settle(&stage, out, QUEUE_DONE);
    }
    stage_end(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_disk_holds_nothing),
        cmocka_unit_test(what_was_acknowledged_survives_a_power_cut),
        cmocka_unit_test(what_was_settled_does_not_come_back),
        cmocka_unit_test(a_draft_that_was_not_committed_is_gone),
        cmocka_unit_test(restart_after_restart),
        cmocka_unit_test(another_page_size_is_refused),
        cmocka_unit_test(wrong_options_are_refused),
        cmocka_unit_test(a_flipped_bit_costs_one_message_and_is_told),
        cmocka_unit_test(the_disk_shrinks_after_a_backlog),
        cmocka_unit_test(stragglers_do_not_pin_the_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
