#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmocka_base.h"
#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/base/log.h"

/* Workers write as fast as they can while the control thread drains: no line is torn, none is lost uncounted,
   and each worker's lines stay in order. */

enum { WORKERS = 3, LINES = 60000 };

struct worker {
    struct counters counters;
    struct log_writer *writer;
    unsigned number;
    pthread_t thread;
};

static atomic_uint running;

static void *work(void *context)
{
    struct worker *worker = context;
    for (uint64_t index = 0; index < LINES; index++) {
        struct log_line line;
        if (index % 64 == 0)
            log_set_time(worker->writer, clock_wall_us());
        log_begin(worker->writer, &line, LOG_DELIVER, LOG_INFO);
        log_u64(&line, "worker", worker->number);
        log_u64(&line, "line", index);
        log_str(&line, "pad", "vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv", index % 40);
        log_end(&line);
    }
    atomic_fetch_sub(&running, 1);
    return NULL;
}

/* Returns the number of lines of workers in the file. */
static uint64_t check_file(const char *path)
{
    uint64_t next[WORKERS] = {0};
    uint64_t lines = 0;
    char text[512];
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(text, sizeof(text), file) != NULL) {
        unsigned worker;
        unsigned long long index;
        char pad[64];
        if (strstr(text, " dropped level=warning lines=") != NULL)
            continue;
        if (sscanf(text, "%*s deliver worker=%u line=%llu pad=%63s\n", &worker, &index, pad) != 3)
            fail_msg("torn: %s", text);
        assert_true(worker < WORKERS);
        assert_true(index >= next[worker]);
        size_t expected = index % 40 == 0 ? 2 : index % 40; /* an empty value is "" */
        assert_int_equal(strlen(pad), expected);
        next[worker] = index + 1;
        lines++;
    }
    fclose(file);
    return lines;
}

static void workers_and_control_thread_together(void **state)
{
    char path[] = "/tmp/sluice-log-XXXXXX";
    static struct worker workers[WORKERS];
    struct log *log;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(log_new(path, LOG_TEXT, LOG_INFO, &log), 0);

    atomic_store(&running, WORKERS);
    for (unsigned index = 0; index < WORKERS; index++) {
        workers[index].number = index;
        counters_init(&workers[index].counters);
        assert_int_equal(log_writer_new(log, &workers[index].counters, &workers[index].writer), 0);
    }
    for (unsigned index = 0; index < WORKERS; index++)
        assert_int_equal(pthread_create(&workers[index].thread, NULL, work, &workers[index]), 0);
    while (atomic_load(&running) > 0) {
        log_drain(log);
        usleep(500);
    }
    uint64_t dropped = 0;
    for (unsigned index = 0; index < WORKERS; index++) {
        pthread_join(workers[index].thread, NULL);
        dropped += counter_get(&workers[index].counters, COUNTER_log_lines_dropped);
    }
    log_drain(log);
    assert_int_equal(log_lines_lost(log), dropped);
    log_free(log);
    assert_int_equal(check_file(path) + dropped, (uint64_t)WORKERS * LINES);
    unlink(path);
}

/* The budget is 400 ns a line; the limit here leaves room for slow and busy machines, and for sanitizers. */
static void a_line_is_cheap(void **state)
{
    enum { ROUNDS = 200, LINES_PER_ROUND = 1000, LIMIT_NS = 20000 };
    struct log *log;
    struct log_writer *writer;
    uint64_t spent_us = 0;
    assert_int_equal(log_new("/dev/null", LOG_TEXT, LOG_INFO, &log), 0);
    assert_int_equal(log_writer_new(log, NULL, &writer), 0);
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t begin = clock_monotonic_us();
        for (uint64_t index = 0; index < LINES_PER_ROUND; index++) {
            struct log_line line;
            log_begin(writer, &line, LOG_DELIVER, LOG_INFO);
            log_id(&line, index);
            log_path(&line, "from", "somebody@example.com", 20);
            log_path(&line, "to", "somebody.else@example.org", 25);
            log_u64(&line, "size", 10240);
            log_text(&line, "host", "192.0.2.1:25");
            log_text(&line, "reply", "250 2.0.0 Ok: queued as 4bXyZ");
            log_u64(&line, "delay_ms", 17);
            log_end(&line);
        }
        spent_us += clock_monotonic_us() - begin;
        while (log_drain(log) > 0)
            ;
    }
    assert_int_equal(log_lines_lost(log), 0);
    log_free(log);
    uint64_t line_ns = spent_us * 1000 / (ROUNDS * LINES_PER_ROUND);
    print_message("%llu ns a line\n", (unsigned long long)line_ns);
    assert_true(line_ns < LIMIT_NS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(workers_and_control_thread_together),
        cmocka_unit_test(a_line_is_cheap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
