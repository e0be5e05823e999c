#include "tests/unit/outbound/home.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/outbound/classes.h"
#include "gateway/outbound/report.h"

enum { PAGE_SIZE = 64 * 1024, SEGMENT_SIZE = 512 * 1024, TURNS_MAX = 100000 };

/* --- What the queue asks for --- */

static void lane_ready(void *context, struct queue_lane *lane)
{
    struct home *home = context;

    for (uint32_t i = 0; i < home->lane_count; i++)
        if (home->lanes[i] == lane)
            return;
    assert_true(home->lane_count < HOME_LANES_MAX);
    home->lanes[home->lane_count++] = lane;
}

static void lane_gone(void *context, struct queue_lane *lane)
{
    struct home *home = context;

    for (uint32_t i = 0; i < home->lane_count; i++)
        if (home->lanes[i] == lane)
            home->lanes[i--] = home->lanes[--home->lane_count];
}

static void room(void *context)
{
    struct home *home = context;
    report_pump(&home->outbound);
}

static const struct queue_callbacks callbacks = {
    .lane_ready = lane_ready, .lane_gone = lane_gone, .room = room};

static void open_queue(struct home *home)
{
    struct queue_recovery recovery;

    home->lane_count = 0;
    assert_int_equal(queue_open(&home->disk.storage, &home->queue_options, (int64_t)clock_wall_ms(),
                                &recovery, &home->queue),
                     0);
    home_rest(home);
}

/* --- What outbound asks for --- */

static bool is_local(void *context, const struct queue *shard)
{
    const struct home *home = context;
    return shard == home->queue;
}

static void read_piece(void *context, struct outbound_read *read)
{
    struct home *home = context;

    assert_true(home->read_count < HOME_READS_MAX);
    assert_int_equal((uintptr_t)read->buffer % STORAGE_BLOCK, 0);
    home->reads[home->read_count++] = read;
}

static void answer_reads(struct home *home)
{
    while (home->read_count > 0) {
        struct outbound_read *read = home->reads[--home->read_count];
        const struct disk_slot *slot = &home->disk.slots[read->piece->slot];
        memcpy(read->buffer, slot->bytes + read->range.offset, read->range.size);
        if (home->is_damaged)
            ((char *)read->buffer)[read->range.skip] ^= 1;
        read->done(read, home->read_error);
    }
}

/* --- Life --- */

static void begin_outbound(struct home *home)
{
    struct classes *classes;

    assert_int_equal(classes_new(&classes), 0);
    home->policy = (struct outbound_policy){
        .config = home->config, .routes = {.config = home->config}, .classes = classes};
    home->outbound = (struct outbound){
        .options = {.loop = home->loop,
                    .policy = &home->policy,
                    .log = home->writer,
                    .counters = &home->counters,
                    .pool = &home->pool,
                    .worker_count = 1,
                    .context = home,
                    .is_local = is_local,
                    .read_piece = read_piece},
        .policy = &home->policy,
        .config = home->config,
    };
    reports_init(&home->outbound.reports);
    home->outbound.buckets = calloc(OUTBOUND_BUCKETS, sizeof(struct list));
    assert_non_null(home->outbound.buckets);
    for (uint32_t i = 0; i < OUTBOUND_BUCKETS; i++)
        list_init(&home->outbound.buckets[i]);
    list_init(&home->outbound.leaving);
    list_init(&home->outbound.dirty);
    home->site = (struct site){.outbound = &home->outbound, .name = "site.test"};
    list_init(&home->site.dirty_link);
    list_init(&home->site.bucket_link);
    list_push_back(&home->outbound.buckets[0], &home->site.bucket_link);
}

static void read_config(struct home *home, const char *more)
{
    char text[2048];
    struct config_error error;

    snprintf(text, sizeof(text),
             "hostname = \"relay.test\"\nlistener \"l\" { bind = {\"127.0.0.1:2525\"} }\n"
             "route \"*\" { to = {\"smtp://127.0.0.1:25\"} }\n"
             "retry { max_age = \"5d\" delay_warning = \"4h\" }\n%s\n",
             more);
    if (config_load_text("test", text, &home->config, &error) < 0)
        fail_msg("%s", error.text);
}

static void begin_queue(struct home *home)
{
    home->disk_options = (struct disk_options){.seed = 1,
                                               .segment_size = SEGMENT_SIZE,
                                               .slots_max = 200,
                                               .latency_min_us = 50,
                                               .latency_max_us = 100};
    home->queue_options = (struct queue_options){
        .page_size = PAGE_SIZE,
        .memory_limit = 64 << 20,
        .writes_max = 4,
        .retry_count = 1,
        .retry_ms = {1},
        .entry_recipients = 64,
        .age_max_ms = (int64_t)home->config->retry.max_age_ms,
        .seed = 7,
        .callbacks = &callbacks,
        .context = home,
    };
    disk_init(&home->disk, &home->disk_options);
    open_queue(home);
}

void home_begin(struct home *home, const char *more)
{
    memset(home, 0, sizeof(*home));
    strcpy(home->log_path, "/tmp/sluice-report-XXXXXX");
    close(mkstemp(home->log_path));
    assert_int_equal(loop_new(NULL, &home->loop), 0);
    counters_init(&home->counters);
    assert_int_equal(log_new(home->log_path, LOG_TEXT, LOG_DEBUG, &home->log), 0);
    assert_int_equal(log_writer_new(home->log, &home->counters, &home->writer), 0);
    pool_init(&home->pool, &home->counters, SIZE_MAX);
    read_config(home, more);
    begin_outbound(home);
    begin_queue(home);
}

void home_end(struct home *home)
{
    home_rest(home);
    queue_close(home->queue);
    disk_deinit(&home->disk);
    classes_free((struct classes *)(uintptr_t)home->policy.classes);
    free(home->outbound.buckets);
    assert_int_equal(home->pool.used_bytes, 0);
    pool_deinit(&home->pool);
    config_free(home->config);
    loop_free(home->loop);
    log_free(home->log);
    unlink(home->log_path);
}

void home_restart(struct home *home)
{
    home_rest(home);
    queue_close(home->queue);
    open_queue(home);
}

void home_crash(struct home *home)
{
    disk_cut(&home->disk);
    for (uint32_t turns = 0; turns < 100; turns++) { /* the old life sees a dead disk */
        report_pump(&home->outbound);
        (void)queue_flush(home->queue, home->disk.now_us);
        while (disk_step(&home->disk))
            ;
    }
    queue_close(home->queue);
    assert_int_equal(report_count(&home->outbound), 0);
    disk_restore(&home->disk);
    open_queue(home);
}

void home_turn(struct home *home)
{
    loop_turn(home->loop, 0);
    log_set_time(home->writer, clock_wall_us());
    answer_reads(home);
    (void)queue_tick(home->queue, (int64_t)clock_wall_ms());
    report_pump(&home->outbound);
    if (home->outbound.reports.open_count > home->most_open)
        home->most_open = home->outbound.reports.open_count;
    const uint64_t flush_us = queue_flush(home->queue, home->disk.now_us);
    uint64_t next_us = disk_next_us(&home->disk);
    if (flush_us != UINT64_MAX && home->disk.now_us + flush_us < next_us)
        next_us = home->disk.now_us + flush_us;
    if (next_us != UINT64_MAX && next_us > home->disk.now_us)
        home->disk.now_us = next_us;
    while (disk_step(&home->disk))
        ;
}

void home_rest(struct home *home)
{
    uint32_t turns = 0;

    do {
        home_turn(home);
        assert_true(++turns < TURNS_MAX);
    } while (!queue_idle(home->queue) || report_count(&home->outbound) > 0);
}

const char *home_log(struct home *home)
{
    log_drain(home->log);
    FILE *file = fopen(home->log_path, "r");
    assert_non_null(file);
    const size_t size = fread(home->log_text, 1, HOME_TEXT_MAX - 1, file);
    fclose(file);
    home->log_text[size] = 0;
    return home->log_text;
}

uint64_t home_sent(const struct home *home)
{
    return counter_get(&home->counters, COUNTER_notices_sent);
}

uint64_t home_suppressed(const struct home *home)
{
    return counter_get(&home->counters, COUNTER_notices_suppressed);
}
