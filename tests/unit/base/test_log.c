#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmocka_base.h"
#include "gateway/base/address.h"
#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/base/log.h"

enum { WALL_TIME_US = 1795299582 }; /* 2026-11-21T22:19:42, in seconds */

#define STAMP "2026-11-21T22:19:42.123456Z"

struct fixture {
    char folder[64];
    char path[96];
    struct counters counters;
    struct log *log;
    struct log_writer *writer;
};

static int set_up(void **state)
{
    struct fixture *fixture = aligned_alloc(_Alignof(struct fixture), sizeof(*fixture));
    assert_non_null(fixture);
    memset(fixture, 0, sizeof(*fixture));
    strcpy(fixture->folder, "/tmp/sluice-log-XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    snprintf(fixture->path, sizeof(fixture->path), "%s/log", fixture->folder);
    counters_init(&fixture->counters);
    assert_int_equal(log_new(fixture->path, LOG_TEXT, LOG_INFO, &fixture->log), 0);
    assert_int_equal(log_writer_new(fixture->log, &fixture->counters, &fixture->writer), 0);
    log_set_time(fixture->writer, WALL_TIME_US * 1000000ULL + 123456);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    log_free(fixture->log);
    unlink(fixture->path);
    rmdir(fixture->folder);
    free(fixture);
    return 0;
}

/* Drains the log and returns all that the file holds; the file is empty afterwards. */
static const char *take(struct fixture *fixture)
{
    static char text[4 << 20];
    log_drain(fixture->log);
    int fd = open(fixture->path, O_RDWR);
    assert_true(fd >= 0);
    ssize_t size = read(fd, text, sizeof(text) - 1);
    assert_true(size >= 0);
    text[size] = '\0';
    assert_int_equal(ftruncate(fd, 0), 0);
    close(fd);
    return text;
}

static void a_line_of_each_kind(void **state)
{
    struct fixture *fixture = *state;
    struct sockaddr_storage client;
    struct log_line line;
    assert_int_equal(parse_ip("2001:db8::1", 52525, &client), 0);
    assert_true(log_begin(fixture->writer, &line, LOG_ACCEPT, LOG_INFO));
    log_id(&line, 1);
    log_path(&line, "from", "a@b", 3);
    log_u64(&line, "size", 123);
    log_i64(&line, "delta", -5);
    log_bool(&line, "tls", false);
    log_text(&line, "none", NULL);
    log_errno(&line, "error", -ENOSPC);
    log_addr(&line, "client", (struct sockaddr *)&client);
    log_end(&line);
    assert_string_equal(take(fixture),
                        STAMP " accept id=0000000000001 from=<a@b> size=123 delta=-5 tls=false "
                              "error=ENOSPC client=[2001:db8::1]:52525\n");

    assert_int_equal(log_configure(fixture->log, fixture->path, LOG_JSON, LOG_INFO), 0);
    assert_true(log_begin(fixture->writer, &line, LOG_DISK_FULL, LOG_ERROR));
    log_id(&line, 1);
    log_path(&line, "from", "", 0);
    log_u64(&line, "size", 0);
    log_end(&line);
    assert_string_equal(take(fixture), "{\"time\":\"" STAMP "\",\"event\":\"disk-full\",\"level\":\"error\","
                                       "\"id\":\"0000000000001\",\"from\":\"\",\"size\":0}\n");
}

static void no_value_can_forge_a_field_or_a_line(void **state)
{
    static const struct {
        const char *value;
        const char *text;
        const char *path;
    } cases[] = {
        {"plain", "plain", "<plain>"},
        {"", "\"\"", "<>"},
        {"a b", "\"a b\"", "\"<a b>\""},
        {"x size=1", "\"x size=1\"", "\"<x size=1>\""},
        {"a=b", "\"a=b\"", "\"<a=b>\""},
        {"\"", "\"\\\"\"", "\"<\\\">\""},
        {"\\", "\"\\\\\"", "\"<\\\\>\""},
        {"\\\" id=1", "\"\\\\\\\" id=1\"", "\"<\\\\\\\" id=1>\""},
        {"a\n2026-11-21T22:19:42.123456Z accept", "\"a\\n2026-11-21T22:19:42.123456Z accept\"",
         "\"<a\\n2026-11-21T22:19:42.123456Z accept>\""},
        {"\r\t\x01\x1b[2J\x7f", "\"\\r\\t\\x01\\x1b[2J\\x7f\"", "\"<\\r\\t\\x01\\x1b[2J\\x7f>\""},
        {"j\xc3\xb6rg", "\"j\xc3\xb6rg\"", "\"<j\xc3\xb6rg>\""},
        {"\xff\xc3", "\"\\xff\\xc3\"", "\"<\\xff\\xc3>\""},
        {"\xc0\xaf", "\"\\xc0\\xaf\"", "\"<\\xc0\\xaf>\""},               /* overlong '/' */
        {"\xed\xa0\x80", "\"\\xed\\xa0\\x80\"", "\"<\\xed\\xa0\\x80>\""}, /* a surrogate */
        {"\xc2\x85", "\"\\xc2\\x85\"", "\"<\\xc2\\x85>\""},               /* next line */
        {"\xe2\x80\xae"
         "abc",
         "\"\\xe2\\x80\\xaeabc\"", "\"<\\xe2\\x80\\xaeabc>\""}, /* right-to-left */
        {"\xf0\x9f\x92\x8c", "\"\xf0\x9f\x92\x8c\"", "\"<\xf0\x9f\x92\x8c>\""},
        {"> to=<x", "\"> to=<x\"", "\"<> to=<x>\""},
    };
    struct fixture *fixture = *state;
    for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
        char expected[512];
        struct log_line line;
        log_begin(fixture->writer, &line, LOG_REJECT, LOG_INFO);
        log_str(&line, "value", cases[index].value, strlen(cases[index].value));
        log_path(&line, "from", cases[index].value, strlen(cases[index].value));
        log_end(&line);
        snprintf(expected, sizeof(expected), STAMP " reject value=%s from=%s\n", cases[index].text,
                 cases[index].path);
        assert_string_equal(take(fixture), expected);
    }
}

static void a_zero_byte_is_a_value_like_others(void **state)
{
    struct fixture *fixture = *state;
    struct log_line line;
    log_begin(fixture->writer, &line, LOG_REJECT, LOG_INFO);
    log_str(&line, "helo", "a\0b", 3);
    log_end(&line);
    assert_string_equal(take(fixture), STAMP " reject helo=\"a\\x00b\"\n");
}

static void long_values_are_cut_between_characters(void **state)
{
    struct fixture *fixture = *state;
    char value[2000];
    struct log_line line;
    memset(value, 'x', sizeof(value));
    memcpy(value + LOG_VALUE_SIZE - 2, "\xe2\x82\xac", 3); /* ends one byte behind the limit */
    log_begin(fixture->writer, &line, LOG_REJECT, LOG_INFO);
    log_str(&line, "reply", value, sizeof(value));
    log_end(&line);
    const char *text = take(fixture);
    const char *reply = strstr(text, "reply=\"");
    assert_non_null(reply);
    assert_int_equal(strspn(reply + 7, "x"), LOG_VALUE_SIZE - 2);
    assert_string_equal(reply + 7 + LOG_VALUE_SIZE - 2, "...\"\n");
}

static void a_full_line_says_that_it_is_cut(void **state)
{
    struct fixture *fixture = *state;
    char value[LOG_VALUE_SIZE];
    memset(value, '\n', sizeof(value));
    for (int format = LOG_TEXT; format <= LOG_JSON; format++) {
        assert_int_equal(log_configure(fixture->log, fixture->path, (enum log_format)format, LOG_INFO), 0);
        struct log_line line;
        log_begin(fixture->writer, &line, LOG_REJECT, LOG_INFO);
        for (unsigned index = 0; index < 10; index++)
            log_str(&line, "value", value, sizeof(value));
        log_u64(&line, "last", 1); /* small enough for what is left */
        log_end(&line);
        const char *text = take(fixture);
        size_t size = strlen(text);
        assert_true(size <= LOG_LINE_SIZE);
        const char *end =
            format == LOG_JSON ? ",\"last\":1,\"truncated\":true}\n" : " last=1 truncated=true\n";
        assert_string_equal(text + size - strlen(end), end);
    }
}

static void lines_below_the_level_cost_nothing_and_say_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct log_line line;
    assert_false(log_wants(fixture->writer, LOG_DEBUG));
    assert_false(log_begin(fixture->writer, &line, LOG_CONNECT, LOG_DEBUG));
    log_u64(&line, "size", 1);
    log_path(&line, "from", "a", 1);
    log_end(&line);
    assert_string_equal(take(fixture), "");

    assert_int_equal(log_configure(fixture->log, fixture->path, LOG_TEXT, LOG_DEBUG), 0);
    assert_true(log_begin(fixture->writer, &line, LOG_CONNECT, LOG_DEBUG));
    log_end(&line);
    assert_string_equal(take(fixture), STAMP " connect level=debug\n");
}

/* Checked against the C library over four centuries of days. */
static void dates_are_right(void **state)
{
    struct fixture *fixture = *state;
    for (uint64_t day = 0; day < 366 * 400; day += 13) {
        time_t second = (time_t)(day * 86400 + day % 86400);
        char expected[128];
        struct tm broken;
        struct log_line line;
        log_set_time(fixture->writer, (uint64_t)second * 1000000);
        log_begin(fixture->writer, &line, LOG_STATS, LOG_INFO);
        log_end(&line);
        gmtime_r(&second, &broken);
        strftime(expected, sizeof(expected), "%Y-%m-%dT%H:%M:%S.000000Z stats\n", &broken);
        assert_string_equal(take(fixture), expected);
    }
}

static uint64_t count_lines(const char *text)
{
    uint64_t lines = 0;
    for (; *text != '\0'; text++)
        lines += *text == '\n';
    return lines;
}

static void write_lines(struct fixture *fixture, size_t count)
{
    char value[100];
    memset(value, 'v', sizeof(value));
    for (size_t index = 0; index < count; index++) {
        struct log_line line;
        log_begin(fixture->writer, &line, LOG_DELIVER, LOG_INFO);
        log_str(&line, "value", value, sizeof(value));
        log_end(&line);
    }
}

static void a_full_ring_drops_and_says_how_many(void **state)
{
    enum { LINES = 10000 };
    struct fixture *fixture = *state;
    write_lines(fixture, LINES);
    uint64_t dropped = counter_get(&fixture->counters, COUNTER_log_lines_dropped);
    assert_true(dropped > 0 && dropped < LINES);
    assert_int_equal(log_lines_lost(fixture->log), dropped);

    char expected[64];
    snprintf(expected, sizeof(expected), "Z dropped level=warning lines=%llu\n", (unsigned long long)dropped);
    const char *text = take(fixture);
    assert_int_equal(count_lines(text), LINES - dropped + 1);
    assert_string_equal(text + strlen(text) - strlen(expected), expected);

    write_lines(fixture, 1); /* there is room again, and nothing is said twice */
    assert_int_equal(count_lines(take(fixture)), 1);
}

static void rotation_opens_the_file_anew(void **state)
{
    struct fixture *fixture = *state;
    char old_path[128];
    snprintf(old_path, sizeof(old_path), "%s.1", fixture->path);
    write_lines(fixture, 2);
    assert_int_equal(rename(fixture->path, old_path), 0);
    assert_int_equal(log_reopen(fixture->log), 0);
    write_lines(fixture, 3);
    assert_int_equal(count_lines(take(fixture)), 3);
    assert_int_equal(rename(old_path, fixture->path), 0);
    assert_int_equal(count_lines(take(fixture)), 2);
    assert_int_equal(log_reopen(fixture->log), 0);
}

static void a_wrong_destination_leaves_the_old_one(void **state)
{
    struct fixture *fixture = *state;
    struct log *other = NULL;
    assert_int_equal(log_configure(fixture->log, "/nonexistent/log", LOG_JSON, LOG_ERROR), -ENOENT);
    assert_int_equal(log_new("/nonexistent/log", LOG_JSON, LOG_ERROR, &other), -ENOENT);
    assert_null(other);
    write_lines(fixture, 1);
    assert_int_equal(count_lines(take(fixture)), 1);
}

static void what_a_failing_destination_takes_not_is_counted(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(log_configure(fixture->log, "/dev/full", LOG_TEXT, LOG_INFO), 0);
    write_lines(fixture, 3);
    assert_int_equal(log_drain(fixture->log), 0);
    log_drain(fixture->log);
    log_drain(fixture->log);
    assert_int_equal(log_lines_lost(fixture->log), 3);
    assert_int_equal(log_configure(fixture->log, fixture->path, LOG_TEXT, LOG_INFO), 0);
    write_lines(fixture, 1);
    take(fixture);
    write_lines(fixture, 0);
    assert_int_equal(log_lines_lost(fixture->log), 3);
}

/* A reader that does not read must not stop the control thread, and finds whole lines when it reads again. */
static void a_stuck_pipe_blocks_nobody(void **state)
{
    struct fixture *fixture = *state;
    char fifo[128];
    snprintf(fifo, sizeof(fifo), "%s/fifo", fixture->folder);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    int reader = open(fifo, O_RDONLY | O_NONBLOCK);
    assert_true(reader >= 0);
    assert_int_equal(log_configure(fixture->log, fifo, LOG_TEXT, LOG_INFO), 0);

    static char text[1 << 20];
    size_t size = 0;
    write_lines(fixture, 3000);
    size_t first = log_drain(fixture->log);
    assert_true(first > 0 && first < 3000 * 100);
    assert_int_equal(log_drain(fixture->log), 0);
    for (unsigned round = 0; round < 1000; round++) {
        ssize_t got = read(reader, text + size, sizeof(text) - 1 - size);
        if (got > 0)
            size += (size_t)got;
        log_drain(fixture->log);
    }
    text[size] = '\0';
    assert_int_equal(count_lines(text), 3000);
    assert_int_equal(text[size - 1], '\n');
    assert_int_equal(log_lines_lost(fixture->log), 0);
    close(reader);
    assert_int_equal(log_configure(fixture->log, fixture->path, LOG_TEXT, LOG_INFO), 0);
    unlink(fifo);
}

static void names_are_those_of_the_contract(void **state)
{
    assert_string_equal(log_event_name(LOG_START), "start");
    assert_string_equal(log_event_name(LOG_DISK_FULL), "disk-full");
    assert_string_equal(log_event_name(LOG_STOP), "stop");
    assert_string_equal(log_level_name(LOG_NOTICE), "notice");
    for (int event = 0; event < LOG_EVENT_COUNT; event++)
        assert_true(strlen(log_event_help((enum log_event)event)) > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_line_of_each_kind, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_value_can_forge_a_field_or_a_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_zero_byte_is_a_value_like_others, set_up, tear_down),
        cmocka_unit_test_setup_teardown(long_values_are_cut_between_characters, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_full_line_says_that_it_is_cut, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lines_below_the_level_cost_nothing_and_say_nothing, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(dates_are_right, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_full_ring_drops_and_says_how_many, set_up, tear_down),
        cmocka_unit_test_setup_teardown(rotation_opens_the_file_anew, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_wrong_destination_leaves_the_old_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_a_failing_destination_takes_not_is_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stuck_pipe_blocks_nobody, set_up, tear_down),
        cmocka_unit_test(names_are_those_of_the_contract),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
