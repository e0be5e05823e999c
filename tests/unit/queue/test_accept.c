/* In, onto the disk, out: what is sent is what is delivered. */
#include "tests/unit/queue/stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void one_message_goes_through(void **state)
{
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);

    uint64_t id = stage_send_one(&stage, 1, 5000, "a@example.org", "example.org");
    struct queue_delivery *out = stage_take(&stage, "example.org", 10, NULL);
    assert_non_null(out);
    assert_int_equal(out->id, id);
    assert_int_equal(out->attempt, 1);
    assert_int_equal(out->target_count, 1);
    assert_int_equal(out->targets[0].size, 13);
    assert_memory_equal(out->targets[0].address, "a@example.org", 13);
    assert_int_equal(out->targets[0].outcome, QUEUE_RETRY);
    stage_check(&stage, out, 1, 5000);
    assert_int_equal(stage_settle(&stage, out, QUEUE_DONE), 0);
    assert_int_equal(queue_stats(stage.queue).messages, 0);
    assert_int_equal(stage.lanes_gone, 1);
    stage_end(&stage);
}

static void content_of_every_size(void **state)
{
    static const size_t sizes[] = {0,
                                   1,
                                   7,
                                   8,
                                   4095,
                                   4096,
                                   4097,
                                   STAGE_PAGE - 64,
                                   STAGE_PAGE,
                                   STAGE_PAGE + 1,
                                   3 * STAGE_PAGE + 5,
                                   STAGE_SEGMENT,
                                   3 * STAGE_SEGMENT + 77};
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        stage_send_one(&stage, i, sizes[i], "a@example.org", "example.org");
        struct queue_delivery *out = stage_take(&stage, "example.org", 10, NULL);
        assert_non_null(out);
        stage_check(&stage, out, i, sizes[i]);
        stage_settle(&stage, out, QUEUE_DONE);
    }
    stage_end(&stage);
}

static void drafts_side_by_side(void **state)
{
    enum { COUNT = 5, STEPS = 40 };
    const struct stage_recipient recipient = {"a@example.org", "example.org"};
    struct stage_answer answers[COUNT];
    struct queue_draft *drafts[COUNT];
    struct stage stage;
    uint8_t octets[1500];
    stage_begin(&stage);
    stage_open(&stage);
    stage_rest(&stage);

    for (uint32_t i = 0; i < COUNT; i++)
        drafts[i] = stage_draft(&stage, 0, 0);
    for (uint32_t step = 0; step < STEPS; step++) {
        for (uint32_t i = 0; i < COUNT; i++) {
            memset(octets, (int)(i * 50 + step), sizeof(octets));
            for (size_t sent = 0; sent < sizeof(octets);) {
                int64_t taken = queue_draft_append(drafts[i], octets + sent, sizeof(octets) - sent);
                if (taken > 0)
                    sent += (size_t)taken;
                else
                    stage_turn(&stage);
            }
        }
    }
    queue_draft_abort(drafts[2]);
    for (uint32_t i = 0; i < COUNT; i++)
        if (i != 2)
            stage_commit(&stage, drafts[i], &recipient, 1, &answers[i]);
    stage_rest(&stage);
    for (uint32_t i = 0; i < COUNT; i++) {
        if (i == 2)
            continue;
        struct queue_delivery *out = stage_take(&stage, "example.org", 1, NULL);
        assert_non_null(out);
        assert_int_equal(out->id, answers[i].id);
        assert_int_equal(out->content_size, STEPS * sizeof(octets));
        uint64_t offset = 0;
        for (uint32_t p = 0; p < out->piece_count; p++) {
            const uint8_t *at = out->pieces[p].data;
            assert_non_null(at);
            for (uint32_t j = 0; j < out->pieces[p].size; j++, offset++)
                assert_int_equal(at[j], (uint8_t)(i * 50 + offset / sizeof(octets)));
        }
        stage_settle(&stage, out, QUEUE_DONE);
    }
    assert_null(stage_take(&stage, "example.org", 1, NULL));
    stage_end(&stage);
}

static void nothing_is_acknowledged_before_it_is_written(void **state)
{
    const struct stage_recipient recipient = {"a@example.org", "example.org"};
    struct stage_answer answer;
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);
    stage_rest(&stage);

    stage_commit(&stage, stage_draft(&stage, 1, 100), &recipient, 1, &answer);
    uint64_t writes = stage.disk.writes;
    for (uint32_t i = 0; i < 100 && stage.disk.writes == writes; i++) {
        (void)queue_flush(stage.queue, stage.disk.now_us);
        stage.disk.now_us += 10;
    }
    assert_true(stage.disk.writes > writes);
    assert_false(answer.called);
    assert_null(stage_lane(&stage, "example.org"));
    stage_rest(&stage);
    assert_true(answer.called);
    assert_int_equal(answer.error, 0);
    assert_non_null(stage_lane(&stage, "example.org"));
    stage_end(&stage);
}

static void many_messages_share_a_write(void **state)
{
    enum { COUNT = 30 };
    const struct stage_recipient recipient = {"a@example.org", "example.org"};
    struct stage_answer answers[COUNT];
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);
    stage_rest(&stage);

    uint64_t writes = queue_stats(stage.queue).log_writes;
    for (uint32_t i = 0; i < COUNT; i++)
        stage_commit(&stage, stage_draft(&stage, i, 500), &recipient, 1, &answers[i]);
    stage_rest(&stage);
    assert_true(queue_stats(stage.queue).log_writes - writes <= 2);
    assert_int_equal(queue_stats(stage.queue).commits, COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_true(answers[i].called);
        for (uint32_t j = 0; j < i; j++)
            assert_int_not_equal(answers[i].id, answers[j].id);
    }
    stage_end(&stage);
}

/* As large as a session of 1,000 recipients makes it; needs pages as large as the gateway's. */
static void a_large_envelope(void **state)
{
    enum { COUNT = 1000 };
    struct stage_recipient *recipients = calloc(COUNT, sizeof(*recipients));
    char(*addresses)[160] = calloc(COUNT, sizeof(*addresses));
    struct stage stage;
    stage_begin(&stage);
    stage.options.page_size = QUEUE_PAGE_SIZE;
    stage.disk_options.segment_size = 4 * QUEUE_PAGE_SIZE;
    disk_init(&stage.disk, &stage.disk_options);
    stage_open(&stage);
    assert_non_null(recipients);
    assert_non_null(addresses);

    for (uint32_t i = 0; i < COUNT; i++) {
        snprintf(addresses[i], sizeof(addresses[i]), "%0140u@example.org", i);
        recipients[i] = (struct stage_recipient){addresses[i], "example.org"};
    }
    stage_send(&stage, 9, 1000, recipients, COUNT);
    uint32_t seen = 0;
    struct queue_delivery *out;
    while ((out = stage_take(&stage, "example.org", COUNT, NULL))) {
        for (uint32_t i = 0; i < out->target_count; i++) {
            assert_int_equal(out->targets[i].size, strlen(addresses[out->targets[i].index]));
            assert_memory_equal(out->targets[i].address, addresses[out->targets[i].index],
                                out->targets[i].size);
        }
        seen += out->target_count;
        stage_settle(&stage, out, QUEUE_DONE);
    }
    assert_int_equal(seen, COUNT);
    assert_int_equal(queue_stats(stage.queue).messages, 0);
    stage_end(&stage);
    free(recipients);
    free(addresses);
}

/* Little memory: what waits is evicted, and read back when it is taken. */
static void content_leaves_memory_and_comes_back(void **state)
{
    enum { COUNT = 60 };
    struct stage stage;
    stage_begin(&stage);
    stage.options.memory_limit = 8 * STAGE_PAGE;
    stage_open(&stage);

    for (uint32_t i = 0; i < COUNT; i++)
        stage_send_one(&stage, i, 30000, "a@example.org", "example.org");
    stage_rest(&stage);
    assert_true(queue_stats(stage.queue).pages_evicted > 0);
    assert_true(queue_stats(stage.queue).pages <= 8);
    for (uint32_t i = 0; i < COUNT; i++) {
        struct queue_delivery *out = stage_take(&stage, "example.org", 1, NULL);
        assert_non_null(out);
        stage_check(&stage, out, i, 30000);
        stage_settle(&stage, out, QUEUE_DONE);
    }
    assert_true(queue_stats(stage.queue).envelope_reads > 0);
    stage_end(&stage);
}

static void deliver(struct stage *stage, const char *key, uint32_t seed)
{
    struct queue_delivery *out = stage_take(stage, key, 1, NULL);
    assert_non_null(out);
    stage_check(stage, out, seed, 3000);
    stage_settle(stage, out, QUEUE_DONE);
}

/* One message of ten is for somebody who does not answer, so every page keeps some: memory does not grow with
 * what goes to the others. */
static void the_dead_keep_no_memory_warm(void **state)
{
    enum { COUNT = 1200, OF = 10 };
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);

    for (uint32_t i = 0; i < COUNT; i++) {
        stage_send_one(&stage, i, 3000, "a@example.org", i % OF == 0 ? "dead.example" : "example.org");
        if (i % OF != 0)
            deliver(&stage, "example.org", i);
    }
    assert_in_range(queue_stats(stage.queue).pages, 1, 16);
    assert_int_equal(queue_stats(stage.queue).envelope_reads, 0);
    assert_true(queue_stats(stage.queue).moved > 0);
    for (uint32_t i = 0; i < COUNT; i += OF) { /* still in order, though some were copied forward */
        stage_rest(&stage);                    /* what is being copied is not taken */
        deliver(&stage, "dead.example", i);
    }
    assert_true(queue_stats(stage.queue).envelope_reads > COUNT / OF / 2);
    stage_end(&stage);
}

/* Mail that waits for its turn stays in memory while there is some, however much there is of it. */
static void a_backlog_is_not_read_back(void **state)
{
    enum { COUNT = 1200, BEHIND = 400 };
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);

    for (uint32_t i = 0; i < COUNT + BEHIND; i++) {
        if (i < COUNT)
            stage_send_one(&stage, i, 3000, "a@example.org", i % 2 == 0 ? "one.example" : "two.example");
        if (i >= BEHIND)
            deliver(&stage, (i - BEHIND) % 2 == 0 ? "one.example" : "two.example", i - BEHIND);
    }
    assert_int_equal(queue_stats(stage.queue).pages_evicted, 0);
    assert_int_equal(queue_stats(stage.queue).messages, 0);
    stage_end(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_message_goes_through),
        cmocka_unit_test(content_of_every_size),
        cmocka_unit_test(drafts_side_by_side),
        cmocka_unit_test(nothing_is_acknowledged_before_it_is_written),
        cmocka_unit_test(many_messages_share_a_write),
        cmocka_unit_test(a_large_envelope),
        cmocka_unit_test(content_leaves_memory_and_comes_back),
        cmocka_unit_test(the_dead_keep_no_memory_warm),
        cmocka_unit_test(a_backlog_is_not_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
