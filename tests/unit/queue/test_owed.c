/* Recipients that are owed: delivered, never to be sent again, and still to be told of. */
#include "tests/unit/queue/stage.h"

#include "queue/format.h"

static const struct stage_recipient three[] = {{"1@a", "a"}, {"2@a", "a"}, {"3@a", "a"}};

static void settle(struct stage *stage, struct queue_delivery *out)
{
    queue_settle(out, stage_now_ms(stage));
    queue_release(out);
}

/* Fails unless exactly the recipients in `indices`, a bit for each, come out, owed or not. */
static struct queue_delivery *take(struct stage *stage, bool is_owed, uint32_t indices)
{
    struct queue_delivery *out = stage_take(stage, "a", 64, NULL);
    uint32_t found = 0;

    assert_non_null(out);
    assert_int_equal(out->is_owed, is_owed);
    for (uint32_t i = 0; i < out->target_count; i++) {
        assert_int_equal(out->targets[i].outcome, QUEUE_RETRY);
        found |= 1U << out->targets[i].index;
    }
    assert_int_equal(found, indices);
    return out;
}

static void set_all(struct queue_delivery *out, enum queue_outcome outcome)
{
    for (uint32_t i = 0; i < out->target_count; i++)
        out->targets[i].outcome = outcome;
}

static void what_is_owed_comes_back_until_it_is_told(void **state)
{
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);
    stage_send(&stage, 1, 100, three, 3);

    struct queue_delivery *out = take(&stage, false, 7);
    out->targets[0].outcome = QUEUE_DONE;
    out->targets[1].outcome = QUEUE_OWED;
    out->targets[2].outcome = QUEUE_OWED;
    queue_judge(out, stage_now_ms(&stage));
    assert_true(out->due_ms > stage_now_ms(&stage));
    settle(&stage, out);
    assert_int_equal(queue_stats(stage.queue).recipients, 2);
    assert_null(stage_take(&stage, "a", 64, NULL)); /* not due yet */
    stage_wait(&stage, 10000);
    out = take(&stage, true, 6);
    assert_int_equal(out->attempt, 2);
    stage_check(&stage, out, 1, 100);
    settle(&stage, out); /* untried: at once */
    out = take(&stage, true, 6);
    assert_int_equal(out->attempt, 2);
    out->targets[0].outcome = QUEUE_OWED;
    out->targets[1].outcome = QUEUE_DONE;
    settle(&stage, out);
    stage_wait(&stage, 100000);
    out = take(&stage, true, 2);
    assert_int_equal(out->attempt, 3);
    set_all(out, QUEUE_DONE);
    settle(&stage, out);
    assert_int_equal(queue_stats(stage.queue).messages, 0);
    assert_int_equal(queue_stats(stage.queue).recipients, 0);
    stage_end(&stage);
}

/* They would otherwise hold up what is still to be sent, or be sent with it. */
static void what_is_owed_comes_alone_and_last(void **state)
{
    struct stage stage;
    stage_begin(&stage);
    stage.options.entry_recipients = 2;
    stage_open(&stage);
    stage_send(&stage, 1, 100, three, 3);

    struct queue_delivery *out = take(&stage, false, 7);
    out->targets[0].outcome = QUEUE_OWED;
    out->targets[1].outcome = QUEUE_DEFER;
    out->targets[1].marked = true;
    out->targets[2].outcome = QUEUE_OWED; /* alone in its entry */
    settle(&stage, out);
    stage_wait(&stage, 10000);
    uint32_t seen = 0;
    for (uint32_t i = 0; i < 2; i++) {
        out = stage_take(&stage, "a", 64, NULL);
        assert_non_null(out);
        assert_int_equal(out->target_count, 1);
        assert_int_equal(out->targets[0].index, out->is_owed ? 2 : 1);
        assert_int_equal(out->targets[0].marked, !out->is_owed);
        seen |= 1U << out->targets[0].index;
        set_all(out, QUEUE_DONE);
        settle(&stage, out);
    }
    assert_int_equal(seen, 6);
    out = take(&stage, true, 1); /* nobody else is left in its entry */
    set_all(out, QUEUE_DONE);
    settle(&stage, out);
    assert_int_equal(queue_stats(stage.queue).messages, 0);
    stage_end(&stage);
}

static void what_is_owed_never_expires(void **state)
{
    struct stage stage;
    stage_begin(&stage);
    stage.options.age_max_ms = 5000;
    stage_open(&stage);
    stage_send(&stage, 1, 100, three, 1);

    struct queue_delivery *out = take(&stage, false, 1);
    set_all(out, QUEUE_OWED);
    settle(&stage, out);
    for (uint32_t i = 0; i < 3; i++) {
        stage_wait(&stage, 100000);
        out = take(&stage, true, 1);
        set_all(out, QUEUE_OWED);
        queue_judge(out, stage_now_ms(&stage));
        assert_int_equal(out->targets[0].outcome, QUEUE_OWED);
        assert_true(out->due_ms > stage_now_ms(&stage));
        queue_settle(out, stage_now_ms(&stage));
        assert_int_equal(out->targets[0].outcome, QUEUE_OWED);
        queue_release(out);
    }
    stage_end(&stage);
}

static void what_is_owed_survives_power_cuts_and_another_cutting_of_entries(void **state)
{
    static const uint32_t cuts[] = {64, 2, 3, 1, 64};
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);
    stage_send(&stage, 1, 100, three, 3);

    struct queue_delivery *out = take(&stage, false, 7);
    set_all(out, QUEUE_OWED);
    out->targets[1].outcome = QUEUE_DONE;
    settle(&stage, out);
    stage_rest(&stage);
    for (uint32_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
        uint32_t seen = 0;
        struct queue_delivery *outs[3];
        uint32_t count = 0;
        stage.options.entry_recipients = cuts[i];
        stage_crash(&stage);
        assert_int_equal(stage.recovery.messages, 1);
        assert_int_equal(stage.recovery.recipients, 2);
        stage_wait(&stage, 1000);
        while (count < 3 && (outs[count] = stage_take(&stage, "a", 64, NULL)))
            count++;
        for (uint32_t n = 0; n < count; n++) {
            assert_true(outs[n]->is_owed);
            for (uint32_t j = 0; j < outs[n]->target_count; j++)
                seen |= 1U << outs[n]->targets[j].index;
            settle(&stage, outs[n]);
        }
        assert_int_equal(seen, 5);
    }
    stage_end(&stage);
}

static void what_is_owed_is_copied_forward(void **state)
{
    struct stage stage;
    stage_begin(&stage);
    stage.options.retry_ms[0] = 1000 * 1000;
    stage_open(&stage);
    stage_send(&stage, 1, 100, three, 3);
    struct queue_delivery *out = take(&stage, false, 7);
    set_all(out, QUEUE_DONE);
    out->targets[2].outcome = QUEUE_OWED;
    settle(&stage, out);

    stage_fill_until_moved(&stage);
    stage_crash(&stage);
    stage_wait(&stage, 1000 * 1000);
    out = take(&stage, true, 4);
    stage_check(&stage, out, 1, 100);
    set_all(out, QUEUE_DONE);
    settle(&stage, out);
    stage_end(&stage);
}

/* A program that knows nothing of what is owed reads `done`: the mail is not sent twice. */
static void on_disk_it_is_done_and_marked(void **state)
{
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);
    uint64_t id = stage_send(&stage, 1, 100, three, 3);
    struct queue_delivery *out = take(&stage, false, 7);
    set_all(out, QUEUE_DEFER);
    out->targets[0].outcome = QUEUE_OWED;
    out->targets[1].marked = true;
    settle(&stage, out);
    stage_rest(&stage);

    uint32_t found = 0;
    for (uint32_t slot = 0; slot < stage.disk.slot_count; slot++) {
        const uint8_t *bytes = stage.disk.slots[slot].bytes;
        for (uint32_t at = 0; bytes != NULL && at + 64 < STAGE_SEGMENT; at += FORMAT_ALIGN) {
            const struct format_record *record = (const void *)(bytes + at);
            struct format_settle settle;
            if (record->id != id || record->type != FORMAT_SETTLE || !format_settle_read(record, &settle))
                continue;
            assert_int_equal(settle.done, 1);
            assert_int_equal(settle.marked, 3);
            found++;
        }
    }
    assert_int_equal(found, 1);
    stage_end(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_owed_comes_back_until_it_is_told),
        cmocka_unit_test(what_is_owed_comes_alone_and_last),
        cmocka_unit_test(what_is_owed_never_expires),
        cmocka_unit_test(what_is_owed_survives_power_cuts_and_another_cutting_of_entries),
        cmocka_unit_test(what_is_owed_is_copied_forward),
        cmocka_unit_test(on_disk_it_is_done_and_marked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
