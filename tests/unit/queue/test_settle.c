/* Outcomes: judged before they are settled, marked, and settled together with the messages that they cause.
 */
#include "tests/unit/queue/stage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "queue/format.h"

struct settling {
    struct stage *stage;
    bool called;
    int error;
};

/* What could not be settled is given back as not attempted, and not marked. */
static void settled(void *context, struct queue_delivery *delivery, int error)
{
    struct settling *settling = context;

    assert_false(settling->called);
    settling->called = true;
    settling->error = error;
    for (uint32_t i = 0; error && i < delivery->target_count; i++) {
        delivery->targets[i].outcome = QUEUE_RETRY;
        delivery->targets[i].marked = false;
    }
    if (error)
        queue_settle(delivery, stage_now_ms(settling->stage));
    queue_release(delivery);
}

/* Settles with a message to "s@sender" in lane "sender", whose meta has so many octets. */
static int settle_with(struct stage *stage, struct queue_delivery *out, uint32_t meta_size,
                       struct settling *settling)
{
    struct queue_draft *draft = stage_draft(stage, 77, 1000);
    uint8_t recipient[64];
    char *meta = calloc(1, meta_size);
    assert_non_null(meta);
    memcpy(meta, "meta", 4);
    const struct queue_envelope envelope = {
        .meta = meta,
        .meta_size = meta_size,
        .recipients = recipient,
        .recipients_size = (uint32_t)queue_recipient_encode(recipient, "s@sender", 8, "sender", 6),
        .recipient_count = 1,
    };
    const struct queue_companion companion = {draft, &envelope};
    *settling = (struct settling){.stage = stage};
    int error = queue_settle_with(out, &companion, 1, stage_now_ms(stage), settled, settling);
    if (error)
        queue_draft_abort(draft);
    free(meta);
    return error;
}

static void settle(struct stage *stage, struct queue_delivery *out)
{
    queue_settle(out, stage_now_ms(stage));
    queue_release(out);
}

static struct queue_delivery *take(struct stage *stage, enum queue_outcome outcome)
{
    struct queue_delivery *out = stage_take(stage, "a", 64, NULL);
    assert_non_null(out);
    for (uint32_t i = 0; i < out->target_count; i++)
        out->targets[i].outcome = outcome;
    return out;
}

static const struct stage_recipient three[] = {{"1@a", "a"}, {"2@a", "a"}, {"3@a", "a"}};

/* --- Marks --- */

static void a_mark_comes_back_with_the_deferred_and_the_untried(void **state)
{
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);
    stage_send(&stage, 1, 100, three, 3);

    struct queue_delivery *out = take(&stage, QUEUE_DEFER);
    for (uint32_t i = 0; i < 3; i++)
        assert_false(out->targets[i].marked);
    out->targets[1].marked = true;
    out->targets[2].marked = true;
    out->targets[2].outcome = QUEUE_RETRY;
    settle(&stage, out);
    stage_wait(&stage, 10000);

    out = take(&stage, QUEUE_RETRY);
    assert_int_equal(out->target_count, 3);
    assert_false(out->targets[0].marked);
    assert_true(out->targets[1].marked);
    assert_true(out->targets[2].marked);
    out->targets[2].marked = false;
    settle(&stage, out);

    out = take(&stage, QUEUE_DEFER);
    assert_true(out->targets[1].marked);
    assert_false(out->targets[2].marked);
    out->targets[1].marked = false;
    out->targets[0].outcome = QUEUE_DONE;
    settle(&stage, out);
    stage_wait(&stage, 100000);
    out = take(&stage, QUEUE_DONE);
    assert_int_equal(out->target_count, 2);
    assert_false(out->targets[0].marked);
    assert_false(out->targets[1].marked);
    settle(&stage, out);
    stage_end(&stage);
}

/* No attempt counts, its place is the first, and the mark is on disk, with a message about it or without. */
static void what_was_not_tried_can_be_marked(void **state)
{
    for (uint32_t together = 0; together < 2; together++) {
        struct settling settling;
        struct stage stage;
        stage_begin(&stage);
        stage_open(&stage);
        uint64_t id = stage_send(&stage, 1, 100, three, 3);
        stage_send_one(&stage, 2, 100, "4@a", "a");
        struct queue_delivery *out = take(&stage, QUEUE_RETRY);
        out->targets[1].marked = true;
        if (together)
            assert_int_equal(settle_with(&stage, out, 4, &settling), 0);
        else
            settle(&stage, out);
        stage_rest(&stage);
        for (uint32_t life = 0; life < 2; life++) {
            out = take(&stage, QUEUE_RETRY);
            assert_int_equal(out->id, id);
            if (life == 0)
                stage_settle(&stage, stage_take(&stage, "a", 64, NULL), QUEUE_DONE); /* that behind it */
            assert_int_equal(out->attempt, 1);
            for (uint32_t i = 0; i < 3; i++)
                assert_int_equal(out->targets[i].marked, i == 1);
            settle(&stage, out);
            stage_rest(&stage);
            stage_crash(&stage);
            assert_int_equal(stage.recovery.messages, 1 + together);
        }
        stage_end(&stage);
    }
}

static void marks_survive_a_power_cut_and_another_cutting_of_entries(void **state)
{
    static const uint32_t cuts[] = {64, 2, 3, 1, 64};
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);
    stage_send(&stage, 1, 100, three, 3);

    struct queue_delivery *out = take(&stage, QUEUE_DEFER);
    out->targets[0].outcome = QUEUE_DONE;
    out->targets[2].marked = true;
    settle(&stage, out);
    stage_rest(&stage);
    for (uint32_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
        struct queue_delivery *outs[3];
        uint32_t count = 0;
        uint32_t seen = 0;
        stage.options.entry_recipients = cuts[i];
        stage_crash(&stage);
        stage_wait(&stage, 1000);
        while (count < 3 && (outs[count] = stage_take(&stage, "a", 64, NULL)))
            count++;
        for (uint32_t n = 0; n < count; n++) {
            for (uint32_t j = 0; j < outs[n]->target_count; j++) {
                assert_int_equal(outs[n]->targets[j].marked, outs[n]->targets[j].index == 2);
                seen |= 1U << outs[n]->targets[j].index;
            }
            settle(&stage, outs[n]);
        }
        assert_int_equal(seen, 6);
    }
    stage_end(&stage);
}

/* The log is filled until the mover has written the straggler again. */
static void a_mark_is_copied_forward(void **state)
{
    struct stage stage;
    stage_begin(&stage);
    stage.options.retry_ms[0] = 1000 * 1000;
    stage_open(&stage);
    stage_send(&stage, 1, 100, three, 3);
    struct queue_delivery *out = take(&stage, QUEUE_DEFER);
    out->targets[1].marked = true;
    settle(&stage, out);

    stage_fill_until_moved(&stage);
    stage_crash(&stage);
    stage_wait(&stage, 1000 * 1000);
    out = take(&stage, QUEUE_DONE);
    assert_int_equal(out->target_count, 3);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(out->targets[i].marked, i == 1);
    settle(&stage, out);
    stage_end(&stage);
}

/* --- Judging --- */

static void judged_before_it_is_settled(void **state)
{
    struct stage stage;
    stage_begin(&stage);
    stage.options.age_max_ms = 5000;
    stage.options.retry_jitter_percent = 50;
    stage_open(&stage);
    stage_send(&stage, 1, 100, three, 3);

    struct queue_delivery *out = take(&stage, QUEUE_DEFER);
    queue_judge(out, stage_now_ms(&stage));
    int64_t due = out->due_ms;
    assert_in_range(due - stage_now_ms(&stage), 500, 1500);
    queue_judge(out, stage_now_ms(&stage));
    assert_int_equal(out->due_ms, due);
    queue_settle(out, stage_now_ms(&stage));
    assert_int_equal(out->due_ms, due);
    queue_release(out);

    stage_wait(&stage, 6000);
    out = take(&stage, QUEUE_DEFER);
    out->targets[2].outcome = QUEUE_DONE;
    queue_judge(out, stage_now_ms(&stage));
    assert_int_equal(out->targets[0].outcome, QUEUE_EXPIRED);
    assert_int_equal(out->targets[1].outcome, QUEUE_EXPIRED);
    assert_int_equal(out->targets[2].outcome, QUEUE_DONE);
    assert_int_equal(out->due_ms, 0);
    /* The taker could not tell the sender, and tries again later: then they stay, old as they are. */
    out->targets[0].outcome = QUEUE_DEFER;
    out->targets[2].outcome = QUEUE_DEFER;
    queue_settle(out, stage_now_ms(&stage));
    assert_int_equal(out->targets[0].outcome, QUEUE_DEFER);
    assert_true(out->due_ms > stage_now_ms(&stage));
    due = out->due_ms;
    queue_release(out);
    stage_wait(&stage, due - stage_now_ms(&stage));
    out = take(&stage, QUEUE_DEFER);
    assert_int_equal(out->target_count, 2);
    queue_settle(out, stage_now_ms(&stage));
    assert_int_equal(out->targets[0].outcome, QUEUE_EXPIRED);
    queue_release(out);
    assert_int_equal(queue_stats(stage.queue).messages, 0);
    stage_end(&stage);
}

/* --- Together --- */

static void in_force_together_once_on_disk(void **state)
{
    struct stage stage;
    struct settling settling;
    stage_begin(&stage);
    stage_open(&stage);
    stage_send(&stage, 1, 100, three, 3);
    stage_rest(&stage);

    struct queue_delivery *out = take(&stage, QUEUE_DONE);
    out->targets[1].outcome = QUEUE_DEFER;
    out->targets[1].marked = true;
    uint64_t writes = queue_stats(stage.queue).log_writes;
    assert_int_equal(settle_with(&stage, out, 4, &settling), 0);
    (void)queue_flush(stage.queue, stage.disk.now_us);
    assert_false(settling.called);
    assert_int_equal(queue_stats(stage.queue).recipients, 3);
    assert_null(stage_lane(&stage, "sender"));
    stage_rest(&stage);
    assert_true(settling.called);
    assert_int_equal(settling.error, 0);
    assert_int_equal(queue_stats(stage.queue).log_writes, writes + 1);
    assert_int_equal(queue_stats(stage.queue).messages, 2);
    assert_int_equal(queue_stats(stage.queue).recipients, 2);

    stage_crash(&stage);
    assert_int_equal(stage.recovery.messages, 2);
    assert_int_equal(stage.recovery.recipients, 2);
    out = stage_take(&stage, "sender", 1, NULL);
    assert_non_null(out);
    assert_memory_equal(out->targets[0].address, "s@sender", 8);
    stage_check(&stage, out, 77, 1000);
    stage_settle(&stage, out, QUEUE_DONE);
    stage_wait(&stage, 1000);
    out = take(&stage, QUEUE_DONE);
    assert_int_equal(out->target_count, 1);
    assert_int_equal(out->targets[0].index, 1);
    assert_true(out->targets[0].marked);
    assert_int_equal(out->attempt, 2);
    stage_settle(&stage, out, QUEUE_DONE);
    stage_end(&stage);
}

/* The write is torn: each sector is old or new. */
static void a_power_cut_takes_both_or_neither(void **state)
{
    static const uint32_t sizes[] = {4, 1000, 30000};
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct stage stage;
        struct settling settling;
        stage_begin(&stage);
        stage.disk_options.seed = seed;
        disk_init(&stage.disk, &stage.disk_options);
        stage_open(&stage);
        stage_send(&stage, 1, 100, three, 3);
        stage_rest(&stage);
        assert_int_equal(settle_with(&stage, take(&stage, QUEUE_DONE), sizes[seed % 3], &settling), 0);
        (void)queue_flush(stage.queue, stage.disk.now_us);
        assert_int_equal(stage.disk.pending_count, 1);
        stage_crash(&stage);
        assert_int_equal(settling.error, -EIO);
        assert_int_equal(stage.recovery.messages, 1);
        if (stage_lane(&stage, "sender"))
            assert_int_equal(stage.recovery.recipients, 1);
        else
            assert_int_equal(stage.recovery.recipients, 3);
        stage_end(&stage);
    }
}

static void a_failed_write_leaves_all_as_it_was(void **state)
{
    struct stage stage;
    struct settling settling;
    stage_begin(&stage);
    stage_open(&stage);
    stage_send(&stage, 1, 100, three, 3);
    stage_rest(&stage);

    stage.disk.options.write_fails = 1000000;
    struct queue_delivery *out = take(&stage, QUEUE_DEFER);
    out->targets[0].marked = true;
    assert_int_equal(settle_with(&stage, out, 4, &settling), 0);
    while (!settling.called)
        stage_turn(&stage);
    assert_int_equal(settling.error, -EIO);
    assert_int_equal(queue_stats(stage.queue).messages, 1);
    assert_int_equal(queue_stats(stage.queue).recipients, 3);
    stage.disk.options.write_fails = 0;
    out = take(&stage, QUEUE_DONE);
    assert_int_equal(out->attempt, 1);
    assert_false(out->targets[0].marked);
    assert_int_equal(queue_state(stage.queue), QUEUE_FAILED);
    stage_wait(&stage, 2000);
    assert_int_equal(settle_with(&stage, out, 4, &settling), 0);
    stage_rest(&stage);
    assert_int_equal(settling.error, 0);
    stage_crash(&stage);
    assert_int_equal(stage.recovery.messages, 1);
    assert_non_null(stage_lane(&stage, "sender"));
    stage_end(&stage);
}

static void more_than_one_write_holds_is_refused(void **state)
{
    struct stage stage;
    struct settling settling;
    stage_begin(&stage);
    stage_open(&stage);
    stage_send(&stage, 1, 100, three, 3);

    struct queue_delivery *out = take(&stage, QUEUE_DONE);
    assert_int_equal(settle_with(&stage, out, STAGE_PAGE, &settling), -EMSGSIZE);
    assert_int_equal(settle_with(&stage, out, QUEUE_ENVELOPE_MAX, &settling), -EMSGSIZE);
    assert_int_equal(settle_with(&stage, out, STAGE_PAGE - 1000, &settling), 0);
    stage_rest(&stage);
    assert_int_equal(settling.error, 0);
    assert_int_equal(queue_stats(stage.queue).messages, 1);
    stage_end(&stage);
}

/* Three messages, and outcomes in many lanes: still one write. */
static void several_companions_and_many_outcomes(void **state)
{
    enum { COUNT = 150 };
    struct stage_recipient recipients[COUNT];
    struct stage stage;
    struct settling settling = {.stage = &stage};
    struct queue_companion companions[QUEUE_COMPANIONS_MAX];
    struct queue_envelope envelopes[QUEUE_COMPANIONS_MAX];
    uint8_t buffers[QUEUE_COMPANIONS_MAX][64];
    stage_begin(&stage);
    stage.options.entry_recipients = 1;
    stage_open(&stage);
    for (uint32_t i = 0; i < COUNT; i++)
        recipients[i] = (struct stage_recipient){"x@a", "a"};
    stage_send(&stage, 1, 100, recipients, COUNT);
    stage_rest(&stage);

    struct queue_delivery *out = stage_take(&stage, "a", COUNT, NULL);
    assert_int_equal(out->target_count, COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        out->targets[i].outcome = i % 2 ? QUEUE_DONE : QUEUE_DEFER;
        out->targets[i].marked = i % 4 == 0;
    }
    for (uint32_t i = 0; i < QUEUE_COMPANIONS_MAX; i++) {
        char address[] = {(char)('p' + i), '@', 's'};
        envelopes[i] = (struct queue_envelope){
            .meta = "meta",
            .meta_size = 4,
            .recipients = buffers[i],
            .recipients_size = (uint32_t)queue_recipient_encode(buffers[i], address, 3, "sender", 6),
            .recipient_count = 1,
        };
        companions[i] = (struct queue_companion){stage_draft(&stage, i, 2000), &envelopes[i]};
    }
    uint64_t writes = queue_stats(stage.queue).log_writes;
    assert_int_equal(
        queue_settle_with(out, companions, QUEUE_COMPANIONS_MAX, stage_now_ms(&stage), settled, &settling),
        0);
    stage_rest(&stage);
    assert_true(settling.called);
    assert_int_equal(queue_stats(stage.queue).log_writes, writes + 1);
    stage_crash(&stage);
    assert_int_equal(stage.recovery.messages, 1 + QUEUE_COMPANIONS_MAX);
    assert_int_equal(stage.recovery.recipients, COUNT / 2 + QUEUE_COMPANIONS_MAX);
    for (uint32_t i = 0; i < QUEUE_COMPANIONS_MAX; i++) {
        out = stage_take(&stage, "sender", 1, NULL);
        stage_check(&stage, out, (uint64_t)(out->targets[0].address[0] - 'p'), 2000);
        stage_settle(&stage, out, QUEUE_DONE);
    }
    stage_wait(&stage, 1000);
    out = stage_take(&stage, "a", COUNT, NULL);
    assert_int_equal(out->target_count, COUNT / 2);
    for (uint32_t i = 0; i < out->target_count; i++)
        assert_int_equal(out->targets[i].marked, out->targets[i].index % 4 == 0);
    stage_settle(&stage, out, QUEUE_DONE);
    stage_end(&stage);
}

static void a_close_in_between_gives_the_delivery_back(void **state)
{
    struct stage stage;
    struct settling settling;
    stage_begin(&stage);
    stage_open(&stage);
    stage_send(&stage, 1, 100, three, 3);
    stage_rest(&stage);

    assert_int_equal(settle_with(&stage, take(&stage, QUEUE_DONE), 4, &settling), 0);
    queue_close(stage.queue);
    assert_true(settling.called);
    assert_int_equal(settling.error, -ECANCELED);
    stage_open(&stage);
    assert_int_equal(stage.recovery.messages, 1);
    assert_int_equal(stage.recovery.recipients, 3);
    stage_end(&stage);
}

/* --- What the disk may hold --- */

/* The first record of this kind about a message with this id, on whatever slot. */
static struct format_record *record_find(struct stage *stage, enum format_type type, uint64_t id)
{
    for (uint32_t i = 0; i < DISK_SLOTS_MAX; i++) {
        for (uint64_t at = 0; stage->disk.slots[i].exists && at + 64 < STAGE_SEGMENT; at += FORMAT_ALIGN) {
            struct format_record *record = (void *)(stage->disk.slots[i].bytes + at);
            if (record->type == type && record->id == id)
                return record;
        }
    }
    fail_msg("no such record");
    abort();
}

/* Salvage of a damaged batch: the outcome alone would mean that nobody is ever told. */
static void an_outcome_does_not_outlive_its_damaged_message(void **state)
{
    for (uint32_t which = 0; which < 2; which++) {
        struct stage stage;
        struct settling settling;
        stage_begin(&stage);
        stage_open(&stage);
        uint64_t id = stage_send(&stage, 1, 100, three, 3);
        stage_rest(&stage);
        assert_int_equal(settle_with(&stage, take(&stage, QUEUE_DONE), 4, &settling), 0);
        stage_rest(&stage);
        struct queue_delivery *notice = stage_take(&stage, "sender", 1, NULL);
        uint64_t notice_id = notice->id;
        stage_settle(&stage, notice, QUEUE_RETRY);
        stage_send_one(&stage, 2, 100, "later@b", "b");
        stage_close(&stage);

        struct format_record *record = which == 0 ? record_find(&stage, FORMAT_COMMIT, notice_id)
                                                  : record_find(&stage, FORMAT_SETTLE, id);
        assert_int_equal(record->flags, which == 0 ? 0 : FORMAT_TOGETHER);
        ((uint8_t *)(record + 1))[record->size - 1] ^= 4;
        stage_open(&stage);
        assert_int_equal(stage.recovery.damaged_batches, 1);
        assert_int_equal(stage_lane(&stage, "sender") != NULL, which == 1);
        assert_non_null(stage_lane(&stage, "a")); /* is attempted, and told, once more */
        assert_int_equal(queue_stats(stage.queue).recipients, which == 0 ? 4 : 5);
        stage_end(&stage);
    }
}

static void batches_change_version(struct stage *stage, uint16_t version)
{
    for (uint32_t i = 0; i < DISK_SLOTS_MAX; i++) {
        for (uint64_t at = 0; stage->disk.slots[i].exists && at < STAGE_SEGMENT; at += STORAGE_BLOCK) {
            struct format_batch *batch = (void *)(stage->disk.slots[i].bytes + at);
            if (batch->magic != FORMAT_MAGIC)
                continue;
            batch->version = version;
            batch->crc = format_batch_crc(batch);
        }
    }
}

/* Version 1 had no marks; outcomes without any are written as it wrote them. */
static void a_log_of_the_first_version_is_read(void **state)
{
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);
    uint64_t id = stage_send(&stage, 1, 100, three, 3);
    struct queue_delivery *out = take(&stage, QUEUE_DEFER);
    out->targets[0].outcome = QUEUE_DONE;
    settle(&stage, out);
    stage_close(&stage);
    assert_int_equal(record_find(&stage, FORMAT_SETTLE, id)->size, 24);
    batches_change_version(&stage, 1);
    stage_open(&stage);
    assert_int_equal(stage.recovery.recipients, 2);
    stage_wait(&stage, 1000);

    /* The log goes on in the new version, and both are read. */
    out = take(&stage, QUEUE_DEFER);
    assert_int_equal(out->attempt, 2);
    out->targets[1].marked = true;
    settle(&stage, out);
    stage_restart(&stage);
    stage_wait(&stage, 10000);
    out = take(&stage, QUEUE_DONE);
    assert_int_equal(out->target_count, 2);
    assert_false(out->targets[0].marked);
    assert_true(out->targets[1].marked);
    settle(&stage, out);
    stage_end(&stage);
}

static void a_log_of_a_later_version_is_refused(void **state)
{
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);
    stage_send(&stage, 1, 100, three, 3);
    stage_close(&stage);
    batches_change_version(&stage, FORMAT_VERSION + 1);
    assert_int_equal(
        queue_open(&stage.disk.storage, &stage.options, stage_now_ms(&stage), &stage.recovery, &stage.queue),
        -EPROTO);
    batches_change_version(&stage, 0);
    assert_int_equal(
        queue_open(&stage.disk.storage, &stage.options, stage_now_ms(&stage), &stage.recovery, &stage.queue),
        -EPROTO);
    stage.queue = NULL;
    stage_end(&stage);
}

static void the_longest_key(void **state)
{
    char key[QUEUE_KEY_MAX + 1];
    struct stage stage;
    memset(key, 'k', sizeof(key) - 1);
    key[sizeof(key) - 1] = 0;
    stage_begin(&stage);
    stage_open(&stage);
    stage_send_one(&stage, 1, 100, "a@k", key);
    stage_restart(&stage);
    assert_non_null(stage_lane(&stage, key));
    stage_settle(&stage, stage_take(&stage, key, 1, NULL), QUEUE_DONE);
    stage_end(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mark_comes_back_with_the_deferred_and_the_untried),
        cmocka_unit_test(what_was_not_tried_can_be_marked),
        cmocka_unit_test(marks_survive_a_power_cut_and_another_cutting_of_entries),
        cmocka_unit_test(a_mark_is_copied_forward),
        cmocka_unit_test(judged_before_it_is_settled),
        cmocka_unit_test(in_force_together_once_on_disk),
        cmocka_unit_test(a_power_cut_takes_both_or_neither),
        cmocka_unit_test(a_failed_write_leaves_all_as_it_was),
        cmocka_unit_test(more_than_one_write_holds_is_refused),
        cmocka_unit_test(several_companions_and_many_outcomes),
        cmocka_unit_test(a_close_in_between_gives_the_delivery_back),
        cmocka_unit_test(an_outcome_does_not_outlive_its_damaged_message),
        cmocka_unit_test(a_log_of_the_first_version_is_read),
        cmocka_unit_test(a_log_of_a_later_version_is_refused),
        cmocka_unit_test(the_longest_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
