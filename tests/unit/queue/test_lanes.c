/* Lanes: who may take what, together with whom, and what the callbacks say. */
#include "tests/unit/queue/stage.h"

#include <stdio.h>
#include <string.h>

static bool everything(void *context, struct queue_lane *lane)
{
    return true;
}

static bool only_b(void *context, struct queue_lane *lane)
{
    uint32_t size;
    const char *key = queue_lane_key(lane, &size);
    return size == 1 && key[0] == 'b';
}

static const struct stage_recipient three[] = {{"1@a", "a"}, {"2@b", "b"}, {"3@c", "c"}};

static void without_match_each_lane_goes_alone(void **state)
{
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);
    stage_send(&stage, 1, 100, three, 3);

    for (uint32_t i = 0; i < 3; i++) {
        struct queue_delivery *out = stage_take(&stage, three[i].key, 100, NULL);
        assert_non_null(out);
        assert_int_equal(out->target_count, 1);
        assert_int_equal(out->targets[0].index, i);
        stage_settle(&stage, out, QUEUE_DONE);
        assert_int_equal(queue_stats(stage.queue).messages, i < 2);
    }
    stage_end(&stage);
}

static void those_that_match_ride_along(void **state)
{
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);
    stage_send(&stage, 1, 100, three, 3);

    struct queue_delivery *out = stage_take(&stage, "a", 100, only_b);
    assert_non_null(out);
    assert_int_equal(out->target_count, 2);
    assert_memory_equal(out->targets[0].address, "1@a", 3);
    assert_memory_equal(out->targets[1].address, "2@b", 3);
    assert_null(stage_take(&stage, "b", 100, NULL));
    struct queue_delivery *other = stage_take(&stage, "c", 100, everything);
    assert_non_null(other);
    assert_int_equal(other->target_count, 1);
    assert_int_equal(other->id, out->id);
    stage_settle(&stage, out, QUEUE_DONE);
    stage_settle(&stage, other, QUEUE_DONE);
    assert_int_equal(queue_stats(stage.queue).messages, 0);
    stage_end(&stage);
}

/* One joined delivery, three outcomes. */
static void outcomes_are_each_recipients_own(void **state)
{
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);
    stage_send(&stage, 1, 100, three, 3);

    struct queue_delivery *out = stage_take(&stage, "a", 100, everything);
    assert_non_null(out);
    assert_int_equal(out->target_count, 3);
    out->targets[0].outcome = QUEUE_DONE;
    out->targets[1].outcome = QUEUE_DEFER;
    out->targets[2].outcome = QUEUE_RETRY;
    queue_settle(out, stage_now_ms(&stage));
    assert_int_equal(out->due_ms - stage_now_ms(&stage), 1000);
    queue_release(out);
    assert_int_equal(queue_stats(stage.queue).recipients, 2);
    assert_null(stage_take(&stage, "a", 100, NULL));
    assert_null(stage_take(&stage, "b", 100, NULL));
    out = stage_take(&stage, "c", 100, everything);
    assert_non_null(out);
    assert_int_equal(out->attempt, 1);
    stage_settle(&stage, out, QUEUE_DONE);
    stage_wait(&stage, 1000);
    out = stage_take(&stage, "b", 100, NULL);
    assert_non_null(out);
    assert_int_equal(out->attempt, 2);
    stage_settle(&stage, out, QUEUE_DONE);
    stage_end(&stage);
}

static void more_than_64_recipients_in_one_lane(void **state)
{
    enum { COUNT = 150 };
    struct stage_recipient recipients[COUNT];
    char addresses[COUNT][16];
    bool seen[COUNT] = {false};
    uint32_t total = 0;
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);

    for (uint32_t i = 0; i < COUNT; i++) {
        snprintf(addresses[i], sizeof(addresses[i]), "%u@a", i);
        recipients[i] = (struct stage_recipient){addresses[i], "a"};
    }
    stage_send(&stage, 1, 100, recipients, COUNT);
    assert_int_equal(queue_stats(stage.queue).recipients, COUNT);
    struct queue_delivery *out;
    while ((out = stage_take(&stage, "a", 100, NULL))) {
        assert_in_range(out->target_count, 1, 100);
        for (uint32_t i = 0; i < out->target_count; i++) {
            uint32_t index = out->targets[i].index;
            assert_true(index < COUNT && !seen[index]);
            seen[index] = true;
            assert_memory_equal(out->targets[i].address, addresses[index], out->targets[i].size);
        }
        total += out->target_count;
        stage_settle(&stage, out, QUEUE_DONE);
    }
    assert_int_equal(total, COUNT);
    assert_int_equal(queue_stats(stage.queue).messages, 0);
    stage_end(&stage);
}

static void a_lane_says_what_waits_in_it(void **state)
{
    struct stage stage;
    int mine;
    uint32_t size;
    stage_begin(&stage);
    stage_open(&stage);
    int64_t arrival = stage_now_ms(&stage);
    stage_send_one(&stage, 1, 100, "1@a", "a");
    stage_wait(&stage, 500);
    stage_send_one(&stage, 2, 100, "2@a", "a");

    struct queue_lane *lane = stage_lane(&stage, "a");
    assert_non_null(lane);
    assert_null(queue_lane_user(lane));
    queue_lane_set_user(lane, &mine);
    assert_ptr_equal(queue_lane_user(lane), &mine);
    assert_memory_equal(queue_lane_key(lane, &size), "a", 1);
    assert_int_equal(size, 1);
    assert_int_equal(queue_lane_ready_count(lane), 2);
    assert_in_range(queue_lane_head_arrival_ms(lane) - arrival, 0, 10);
    struct queue_delivery *first = stage_take(&stage, "a", 1, NULL);
    assert_int_equal(queue_lane_ready_count(lane), 1);
    assert_true(queue_lane_head_arrival_ms(lane) - arrival >= 500);
    struct queue_delivery *second = stage_take(&stage, "a", 1, NULL);
    assert_int_equal(queue_lane_head_arrival_ms(lane), INT64_MAX);
    assert_int_equal(stage.lanes_gone, 0);
    stage_settle(&stage, first, QUEUE_DONE);
    assert_int_equal(stage.lanes_gone, 0);
    stage_settle(&stage, second, QUEUE_DONE);
    assert_int_equal(stage.lanes_gone, 1);
    stage_end(&stage);
}

static void count(void *context, struct queue_lane *lane)
{
    uint32_t *lanes = context;
    (*lanes)++;
}

static void many_lanes(void **state)
{
    enum { COUNT = 400 };
    char key[16];
    uint32_t lanes = 0;
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);

    for (uint32_t i = 0; i < COUNT; i++) {
        snprintf(key, sizeof(key), "lane%u", i);
        stage_send_one(&stage, i, 10, "x@y", key);
    }
    queue_each_lane(stage.queue, count, &lanes);
    assert_int_equal(lanes, COUNT);
    assert_int_equal(stage.ready_count, COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        snprintf(key, sizeof(key), "lane%u", i);
        struct queue_delivery *out = stage_take(&stage, key, 1, NULL);
        assert_non_null(out);
        stage_check(&stage, out, i, 10);
        stage_settle(&stage, out, QUEUE_DONE);
    }
    assert_int_equal(stage.lanes_gone, COUNT);
    stage_end(&stage);
}

/* Sweeps all there is once, and takes what is found; returns how many. */
static uint32_t sweep_all(struct stage *stage, int64_t old_ms, int64_t late_ms, struct queue_delivery **found)
{
    uint32_t count = 0;
    uint32_t budget = 10000;
    struct queue_lane *lane;
    while ((lane = queue_sweep(stage->queue, &budget, old_ms, late_ms))) {
        uint32_t size;
        char key[8] = {0};
        memcpy(key, queue_lane_key(lane, &size), 1);
        assert_int_equal(size, 1);
        found[count] = stage_take(stage, key, 1, NULL);
        assert_non_null(found[count]);
        assert_true(found[count]->arrival_ms < old_ms || found[count]->arrival_ms < late_ms);
        count++;
    }
    assert_int_equal(budget, 0);
    return count;
}

static void the_sweep_finds_what_is_old_or_late(void **state)
{
    static const char *const keys[] = {"a", "b", "c"};
    struct queue_delivery *found[16];
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);
    for (uint32_t i = 0; i < 9; i++) {
        stage_send_one(&stage, i, 100, "x@y", keys[i % 3]);
        stage_wait(&stage, 1000);
    }
    int64_t now_ms = stage_now_ms(&stage);

    assert_int_equal(sweep_all(&stage, 0, 0, found), 0);
    assert_int_equal(sweep_all(&stage, now_ms - 6500, 0, found), 3); /* the three eldest, one in each lane */
    for (uint32_t i = 0; i < 3; i++) {
        found[i]->targets[0].marked = true;
        stage_settle(&stage, found[i], QUEUE_DEFER);
    }
    stage_wait(&stage, 1000 * 1000); /* they are back, behind the others */
    assert_int_equal(sweep_all(&stage, 0, now_ms, found), 6);
    for (uint32_t i = 0; i < 6; i++)
        stage_settle(&stage, found[i], QUEUE_RETRY);
    assert_int_equal(sweep_all(&stage, now_ms, 0, found), 9); /* marked or not */
    for (uint32_t i = 0; i < 9; i++)
        stage_settle(&stage, found[i], QUEUE_DONE);
    assert_int_equal(stage.lanes_gone, 3);
    stage_end(&stage);
}

/* The place of the sweep is in a lane that goes, and comes again. */
static void the_sweep_goes_on_without_its_lane(void **state)
{
    struct queue_delivery *found[1];
    struct stage stage;
    stage_begin(&stage);
    stage_open(&stage);
    for (uint32_t i = 0; i < 20; i++) {
        stage_send_one(&stage, i, 100, "x@y", "a");
        stage_send_one(&stage, i, 100, "x@y", "a");
        uint32_t budget = 2 + i % 3; /* into the lane, and some steps */
        assert_null(queue_sweep(stage.queue, &budget, 0, 0));
        for (uint32_t j = 0; j < 2; j++)
            stage_settle(&stage, stage_take(&stage, "a", 1, NULL), QUEUE_DONE);
        assert_int_equal(stage.lanes_gone, i + 1);
    }
    assert_int_equal(sweep_all(&stage, INT64_MAX, 0, found), 0);
    stage_send_one(&stage, 1, 100, "x@y", "a");
    uint32_t budget = 2;
    assert_null(queue_sweep(stage.queue, &budget, 0, 0));
    stage_end(&stage); /* with the place in a lane */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_match_each_lane_goes_alone),
        cmocka_unit_test(those_that_match_ride_along),
        cmocka_unit_test(outcomes_are_each_recipients_own),
        cmocka_unit_test(more_than_64_recipients_in_one_lane),
        cmocka_unit_test(a_lane_says_what_waits_in_it),
        cmocka_unit_test(many_lanes),
        cmocka_unit_test(the_sweep_finds_what_is_old_or_late),
        cmocka_unit_test(the_sweep_goes_on_without_its_lane),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
