#include "tests/unit/queue/stage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/content.h"

enum { TURNS_MAX = 100000 };

static const int64_t begin_ms = 1767225600000LL; /* 2026-01-01 */

static void lane_ready(void *context, struct queue_lane *lane)
{
    struct stage *stage = context;

    assert_true(queue_lane_ready_count(lane) > 0);
    for (uint32_t i = 0; i < stage->ready_count; i++)
        if (stage->ready[i] == lane)
            return;
    assert_true(stage->ready_count < STAGE_READY_MAX);
    stage->ready[stage->ready_count++] = lane;
}

static void lane_gone(void *context, struct queue_lane *lane)
{
    struct stage *stage = context;

    stage->lanes_gone++;
    for (uint32_t i = 0; i < stage->ready_count; i++)
        if (stage->ready[i] == lane)
            stage->ready[i--] = stage->ready[--stage->ready_count];
}

static void room(void *context)
{
    struct stage *stage = context;
    stage->rooms++;
}

static void state(void *context, enum queue_state state, int error)
{
    struct stage *stage = context;

    stage->states++;
    stage->state = state;
    stage->state_error = error;
}

static const struct queue_callbacks callbacks = {
    .lane_ready = lane_ready,
    .lane_gone = lane_gone,
    .room = room,
    .state = state,
};

void stage_begin(struct stage *stage)
{
    memset(stage, 0, sizeof(*stage));
    content_init();
    stage->disk_options = (struct disk_options){
        .seed = 1,
        .segment_size = STAGE_SEGMENT,
        .slots_max = 200,
        .latency_min_us = 50,
        .latency_max_us = 100,
    };
    stage->options = (struct queue_options){
        .shard = 3,
        .page_size = STAGE_PAGE,
        .memory_limit = 16 * 1024 * 1024,
        .writes_max = 4,
        .retry_count = 3,
        .retry_ms = {1000, 10000, 60000},
        .entry_recipients = 64,
        .age_max_ms = 3600 * 1000,
        .seed = 7,
        .callbacks = &callbacks,
        .context = stage,
    };
    disk_init(&stage->disk, &stage->disk_options);
}

void stage_open(struct stage *stage)
{
    assert_int_equal(queue_open(&stage->disk.storage, &stage->options, stage_now_ms(stage), &stage->recovery,
                                &stage->queue),
                     0);
    stage->ready_count = 0;
    stage_turn(stage);
}

void stage_close(struct stage *stage)
{
    stage_rest(stage);
    queue_close(stage->queue);
    stage->queue = NULL;
    stage->ready_count = 0;
}

void stage_restart(struct stage *stage)
{
    stage_close(stage);
    stage_open(stage);
}

void stage_crash(struct stage *stage)
{
    disk_cut(&stage->disk);
    while (disk_step(&stage->disk))
        ;
    queue_close(stage->queue);
    stage->queue = NULL;
    disk_restore(&stage->disk);
    stage_open(stage);
}

void stage_end(struct stage *stage)
{
    if (stage->queue)
        stage_close(stage);
    disk_deinit(&stage->disk);
}

int64_t stage_now_ms(const struct stage *stage)
{
    return begin_ms + (int64_t)(stage->disk.now_us / 1000);
}

void stage_turn(struct stage *stage)
{
    stage->tick_ms = queue_tick(stage->queue, stage_now_ms(stage));
    uint64_t flush = queue_flush(stage->queue, stage->disk.now_us);
    uint64_t next = disk_next_us(&stage->disk);

    if (flush != UINT64_MAX && stage->disk.now_us + flush < next)
        next = stage->disk.now_us + flush;
    if (next != UINT64_MAX && next > stage->disk.now_us)
        stage->disk.now_us = next;
    while (disk_step(&stage->disk))
        ;
}

void stage_rest(struct stage *stage)
{
    uint32_t turns = 0;

    do {
        stage_turn(stage);
        assert_true(++turns < TURNS_MAX);
    } while (!queue_idle(stage->queue));
}

void stage_wait(struct stage *stage, int64_t ms)
{
    stage->disk.now_us += (uint64_t)ms * 1000;
    stage_turn(stage);
}

struct queue_draft *stage_draft(struct stage *stage, uint64_t seed, size_t size)
{
    static uint8_t piece[10000];
    struct queue_draft *draft = queue_draft_new(stage->queue);
    uint32_t turns = 0;

    assert_non_null(draft);
    for (size_t sent = 0; sent < size;) {
        size_t part = size - sent < sizeof(piece) ? size - sent : sizeof(piece);
        content_fill(seed, sent, piece, part);
        int64_t taken = queue_draft_append(draft, piece, part);
        if (taken == -EAGAIN) {
            stage_turn(stage);
            assert_true(++turns < TURNS_MAX);
            continue;
        }
        assert_true(taken > 0 && (size_t)taken <= part);
        sent += (size_t)taken;
    }
    assert_int_equal(queue_draft_size(draft), size);
    return draft;
}

static void committed(void *context, uint64_t id, int error)
{
    struct stage_answer *answer = context;

    assert_false(answer->called);
    *answer = (struct stage_answer){.called = true, .id = id, .error = error};
}

void stage_commit(struct stage *stage, struct queue_draft *draft, const struct stage_recipient *recipients,
                  uint32_t count, struct stage_answer *answer)
{
    uint8_t *buffer = malloc(QUEUE_ENVELOPE_MAX);
    size_t size = 0;
    uint32_t turns = 0;
    int error;

    assert_non_null(buffer);
    for (uint32_t i = 0; i < count; i++)
        size += queue_recipient_encode(buffer + size, recipients[i].address, strlen(recipients[i].address),
                                       recipients[i].key, strlen(recipients[i].key));
    const struct queue_envelope envelope = {
        .meta = "meta",
        .meta_size = 4,
        .recipients = buffer,
        .recipients_size = (uint32_t)size,
        .recipient_count = count,
    };
    *answer = (struct stage_answer){0};
    while ((error = queue_draft_commit(draft, &envelope, stage_now_ms(stage), committed, answer)) ==
           -EAGAIN) {
        stage_turn(stage);
        assert_true(++turns < TURNS_MAX);
    }
    assert_int_equal(error, 0);
    assert_false(answer->called);
    free(buffer);
}

uint64_t stage_send(struct stage *stage, uint64_t seed, size_t size, const struct stage_recipient *recipients,
                    uint32_t count)
{
    struct stage_answer answer;
    uint32_t turns = 0;

    stage_commit(stage, stage_draft(stage, seed, size), recipients, count, &answer);
    while (!answer.called) {
        stage_turn(stage);
        assert_true(++turns < TURNS_MAX);
    }
    assert_int_equal(answer.error, 0);
    return answer.id;
}

uint64_t stage_send_one(struct stage *stage, uint64_t seed, size_t size, const char *address, const char *key)
{
    const struct stage_recipient recipient = {address, key};
    return stage_send(stage, seed, size, &recipient, 1);
}

struct queue_lane *stage_lane(struct stage *stage, const char *key)
{
    for (uint32_t i = 0; i < stage->ready_count; i++) {
        uint32_t size;
        const char *its_key = queue_lane_key(stage->ready[i], &size);
        if (size == strlen(key) && memcmp(its_key, key, size) == 0)
            return stage->ready[i];
    }
    return NULL;
}

struct taking {
    bool called;
    struct queue_delivery *delivery;
};

static void taken(void *context, struct queue_delivery *delivery)
{
    struct taking *taking = context;

    assert_false(taking->called);
    *taking = (struct taking){.called = true, .delivery = delivery};
}

struct queue_delivery *stage_take(struct stage *stage, const char *key, uint32_t recipients_max,
                                  queue_match *match)
{
    struct queue_lane *lane = stage_lane(stage, key);
    struct taking taking = {0};

    if (lane == NULL || !queue_take(lane, recipients_max, match, taken, &taking))
        return NULL;
    while (!taking.called)
        stage_turn(stage);
    assert_non_null(taking.delivery);
    assert_int_equal(taking.delivery->meta_size, 4);
    assert_memory_equal(taking.delivery->meta, "meta", 4);
    return taking.delivery;
}

static void read_done(struct storage_op *op, int32_t result)
{
    assert_int_equal(result, 0);
    op->impl[0] = 1;
}

static void check_piece(struct stage *stage, const struct queue_piece *piece, uint64_t seed, uint64_t offset)
{
    if (piece->data) {
        assert_true(content_equal(seed, offset, piece->data, piece->size));
        return;
    }
    struct queue_piece_range range = queue_piece_range(piece);
    uint8_t *buffer = aligned_alloc(STORAGE_BLOCK, range.size);
    struct storage_op op = {.done = read_done};
    assert_non_null(buffer);
    stage->disk.storage.methods->read(&stage->disk.storage, &op, piece->slot, range.offset, buffer,
                                      range.size);
    while (!op.impl[0])
        stage_turn(stage);
    assert_true(queue_piece_check(piece, buffer + range.skip));
    assert_true(content_equal(seed, offset, buffer + range.skip, piece->size));
    buffer[range.skip] ^= 1;
    assert_false(queue_piece_check(piece, buffer + range.skip));
    free(buffer);
}

void stage_check(struct stage *stage, const struct queue_delivery *delivery, uint64_t seed, size_t size)
{
    uint64_t offset = 0;

    assert_int_equal(delivery->content_size, size);
    for (uint32_t i = 0; i < delivery->piece_count; i++) {
        check_piece(stage, &delivery->pieces[i], seed, offset);
        offset += delivery->pieces[i].size;
    }
    assert_int_equal(offset, size);
}

int64_t stage_settle(struct stage *stage, struct queue_delivery *delivery, enum queue_outcome outcome)
{
    for (uint32_t i = 0; i < delivery->target_count; i++)
        delivery->targets[i].outcome = outcome;
    queue_settle(delivery, stage_now_ms(stage));
    int64_t due_ms = delivery->due_ms;
    queue_release(delivery);
    return due_ms;
}

void stage_fill_until_moved(struct stage *stage)
{
    while (queue_stats(stage->queue).moved == 0) {
        stage_send_one(stage, 2, 50000, "b@b", "b");
        stage_settle(stage, stage_take(stage, "b", 1, NULL), QUEUE_DONE);
    }
    stage_rest(stage);
}
