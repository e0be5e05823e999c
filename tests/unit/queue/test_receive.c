/* Content that is received straight into the log's page. */
#include "tests/unit/queue/stage.h"

#include <errno.h>
#include <string.h>

#include "tests/sim/content.h"

static const struct stage_recipient somebody = {"a@example.org", "example.org"};

/* Receives octets from..to of the content, `step` at a time. */
static void receive(struct stage *stage, struct queue_draft *draft, uint64_t seed, size_t from, size_t to,
                    size_t step)
{
    uint32_t turns = 0;

    while (from < to) {
        size_t size = to - from;
        int error = 0;
        void *room = queue_draft_reserve(draft, &size, &error);
        if (room == NULL) {
            assert_int_equal(error, -EAGAIN);
            stage_turn(stage);
            assert_true(++turns < 1000);
            continue;
        }
        assert_true(size >= 1 && size <= to - from);
        size = size < step ? size : step;
        content_fill(seed, from, room, size);
        queue_draft_filled(draft, size);
        from += size;
        assert_int_equal(queue_draft_size(draft), from);
    }
}

static struct queue_delivery *take(struct stage *stage, uint64_t seed, size_t size)
{
    struct queue_delivery *out = stage_take(stage, "example.org", 1, NULL);
    assert_non_null(out);
    stage_check(stage, out, seed, size);
    return out;
}

static void content_of_every_size(void **state)
{
    static const size_t sizes[] = {1,
                                   4095,
                                   4096,
                                   4097,
                                   STAGE_PAGE / 4,
                                   STAGE_PAGE / 4 + 1,
                                   STAGE_PAGE,
                                   3 * STAGE_PAGE + 5,
                                   STAGE_SEGMENT,
                                   3 * STAGE_SEGMENT + 77};
    static const size_t steps[] = {SIZE_MAX, 5000, 4096};
    struct stage stage;
    struct stage_answer answer;
    stage_begin(&stage);
    stage_open(&stage);

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (size_t j = 0; j < sizeof(steps) / sizeof(steps[0]); j++) {
            struct queue_draft *draft = queue_draft_new(stage.queue);
            assert_non_null(draft);
            receive(&stage, draft, i, 0, sizes[i], steps[j]);
            stage_commit(&stage, draft, &somebody, 1, &answer);
            stage_rest(&stage);
            assert_true(answer.called);
            stage_settle(&stage, take(&stage, i, sizes[i]), QUEUE_DONE);
        }
    }
    assert_int_equal(queue_stats(stage.queue).messages, 0);
    stage_end(&stage);
}

/* The large pages of the gateway: pieces of 128 KiB in writes of 256 KiB. */
static void a_large_message(void **state)
{
    enum { SIZE = 5 * 1024 * 1024 + 12345 };
    struct stage stage;
    struct stage_answer answer;
    stage_begin(&stage);
    stage.options.page_size = QUEUE_PAGE_SIZE;
    stage.disk_options.segment_size = 4 * QUEUE_PAGE_SIZE;
    disk_init(&stage.disk, &stage.disk_options);
    stage_open(&stage);

    struct queue_draft *draft = queue_draft_new(stage.queue);
    receive(&stage, draft, 1, 0, SIZE, 100000);
    stage_commit(&stage, draft, &somebody, 1, &answer);
    stage_rest(&stage);
    struct queue_stats stats = queue_stats(stage.queue);
    assert_true(stats.log_writes <= SIZE / (256 * 1024) + 12);
    assert_true(stats.log_write_bytes < SIZE + 64 * 1024);
    struct queue_delivery *out = take(&stage, 1, SIZE);
    for (uint32_t i = 0; i < out->piece_count; i++)
        assert_true(out->pieces[i].size <= 128 * 1024);
    stage_settle(&stage, out, QUEUE_DONE);
    stage_end(&stage);
}

static void received_and_copied_content_in_turns(void **state)
{
    enum { ROUNDS = 200 };
    struct stage stage;
    struct stage_answer answer;
    uint8_t octets[700];
    size_t at = 0;
    stage_begin(&stage);
    stage_open(&stage);

    struct queue_draft *draft = queue_draft_new(stage.queue);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        size_t size = 1 + i * 37 % sizeof(octets);
        content_fill(5, at, octets, size);
        for (size_t done = 0; done < size;) {
            int64_t taken = queue_draft_append(draft, octets + done, size - done);
            done += taken > 0 ? (size_t)taken : 0;
            if (taken < 0)
                stage_turn(&stage);
        }
        at += size;
        if (i % 3 == 0) {
            receive(&stage, draft, 5, at, at + i * 53, SIZE_MAX);
            at += i * 53;
        }
    }
    stage_commit(&stage, draft, &somebody, 1, &answer);
    stage_crash(&stage);
    assert_null(stage_take(&stage, "example.org", 1, NULL));

    draft = queue_draft_new(stage.queue);
    receive(&stage, draft, 6, 0, 30000, 1000);
    stage_commit(&stage, draft, &somebody, 1, &answer);
    stage_rest(&stage);
    stage_crash(&stage);
    stage_settle(&stage, take(&stage, 6, 30000), QUEUE_DONE);
    stage_end(&stage);
}

/* Somebody's receive stays open for ever; everybody else is written and acknowledged meanwhile. */
static void nobody_waits_for_an_open_reservation(void **state)
{
    enum { COUNT = 40 };
    struct stage stage;
    struct stage_answer answer;
    size_t size = 10000;
    int error = 0;
    stage_begin(&stage);
    stage_open(&stage);
    stage_rest(&stage);

    struct queue_draft *slow = queue_draft_new(stage.queue);
    uint8_t *room = queue_draft_reserve(slow, &size, &error);
    assert_non_null(room);
    assert_int_equal(size, 10000);
    for (uint32_t i = 0; i < COUNT; i++)
        stage_send_one(&stage, i, 20000, "a@example.org", "example.org");
    assert_true(queue_idle(stage.queue));
    content_fill(99, 0, room, size);
    queue_draft_filled(slow, size);
    stage_commit(&stage, slow, &somebody, 1, &answer);
    stage_rest(&stage);
    assert_int_equal(answer.error, 0);
    for (uint32_t i = 0; i < COUNT; i++)
        stage_settle(&stage, take(&stage, i, 20000), QUEUE_DONE);
    stage_settle(&stage, take(&stage, 99, 10000), QUEUE_DONE);
    stage_end(&stage);
}

/* Slow receivers hold a quarter of memory at most; beyond that one copies. */
static void open_reservations_do_not_take_all_memory(void **state)
{
    enum { COUNT = 100 };
    struct queue_draft *drafts[COUNT];
    uint32_t refused = 0;
    struct stage stage;
    stage_begin(&stage);
    stage.options.memory_limit = 16 * STAGE_PAGE;
    stage_open(&stage);
    stage_rest(&stage);

    for (uint32_t i = 0; i < COUNT; i++) {
        size_t size = 16384;
        int error = 0;
        drafts[i] = queue_draft_new(stage.queue);
        assert_non_null(drafts[i]);
        if (queue_draft_reserve(drafts[i], &size, &error))
            continue;
        assert_int_equal(error, -ENOBUFS);
        refused++;
    }
    assert_true(refused > COUNT / 2 && refused < COUNT - 5);
    for (uint32_t i = 0; i < COUNT; i++) {
        stage_send_one(&stage, i, 20000, "a@example.org", "example.org");
        stage_settle(&stage, take(&stage, i, 20000), QUEUE_DONE);
        assert_true(queue_stats(stage.queue).pages <= 16);
    }
    for (uint32_t i = 0; i < COUNT; i++)
        queue_draft_abort(drafts[i]);
    stage_end(&stage);
}

static void given_up_room_is_used_again(void **state)
{
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);
    stage_rest(&stage);

    for (uint32_t i = 0; i < 1000; i++) {
        size_t size = 16384;
        int error = 0;
        struct queue_draft *draft = queue_draft_new(stage.queue);
        assert_non_null(queue_draft_reserve(draft, &size, &error));
        if (i % 2 == 0)
            queue_draft_filled(draft, i % 4 == 0 ? 0 : 100);
        queue_draft_abort(draft);
    }
    stage_send_one(&stage, 1, 100, "a@example.org", "example.org");
    assert_int_equal(queue_stats(stage.queue).segments, 1);
    stage_settle(&stage, take(&stage, 1, 100), QUEUE_DONE);
    stage_end(&stage);
}

static void commit_waits_for_what_was_received(void **state)
{
    struct stage stage;
    struct stage_answer answer = {0};
    uint8_t recipient[64];
    size_t size = 16384;
    int error = 0;
    stage_begin(&stage);
    stage_open(&stage);
    stage_rest(&stage);

    struct queue_draft *draft = queue_draft_new(stage.queue);
    void *room = queue_draft_reserve(draft, &size, &error);
    assert_non_null(room);
    content_fill(3, 0, room, size);
    queue_draft_filled(draft, size);
    const struct queue_envelope envelope = {
        .meta = "meta",
        .meta_size = 4,
        .recipients = recipient,
        .recipients_size = (uint32_t)queue_recipient_encode(recipient, "a", 1, "example.org", 11),
        .recipient_count = 1,
    };
    uint32_t rooms = stage.rooms;
    assert_int_equal(queue_draft_commit(draft, &envelope, 1, NULL, NULL), -EAGAIN);
    (void)queue_flush(stage.queue, stage.disk.now_us);
    assert_int_equal(stage.rooms, rooms); /* not before it makes sense */
    while (stage.rooms == rooms)
        stage_turn(&stage);
    assert_int_equal(stage.disk.pending_count, 0);
    stage_commit(&stage, draft, &somebody, 1, &answer);
    stage_rest(&stage);
    assert_true(answer.called);
    stage_end(&stage);
}

static void a_failed_write_ends_the_draft(void **state)
{
    struct stage stage;
    struct stage_answer answer;
    size_t size = 16384;
    int error = 0;
    stage_begin(&stage);
    stage_open(&stage);
    stage_rest(&stage);

    struct queue_draft *draft = queue_draft_new(stage.queue);
    struct queue_draft *other = queue_draft_new(stage.queue);
    void *room = queue_draft_reserve(draft, &size, &error);
    assert_non_null(room);
    content_fill(3, 0, room, size);
    stage.disk.options.write_fails = 1000000;
    queue_draft_filled(draft, size);
    while (stage.disk.writes_failed == 0)
        stage_turn(&stage);
    stage.disk.options.write_fails = 0;
    assert_int_equal(queue_draft_append(draft, "x", 1), -EIO);
    assert_null(queue_draft_reserve(draft, &size, &error));
    assert_int_equal(error, -EIO);
    queue_draft_abort(draft);
    assert_int_equal(queue_state(stage.queue), QUEUE_FAILED);
    stage_wait(&stage, 2000);
    receive(&stage, other, 4, 0, 50000, SIZE_MAX);
    stage_commit(&stage, other, &somebody, 1, &answer);
    stage_rest(&stage);
    assert_int_equal(answer.error, 0);
    stage_settle(&stage, take(&stage, 4, 50000), QUEUE_DONE);
    stage_end(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(content_of_every_size),
        cmocka_unit_test(a_large_message),
        cmocka_unit_test(received_and_copied_content_in_turns),
        cmocka_unit_test(nobody_waits_for_an_open_reservation),
        cmocka_unit_test(open_reservations_do_not_take_all_memory),
        cmocka_unit_test(given_up_room_is_used_again),
        cmocka_unit_test(commit_waits_for_what_was_received),
        cmocka_unit_test(a_failed_write_ends_the_draft),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
