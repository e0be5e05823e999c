#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/address.h"
#include "gateway/base/clock.h"
#include "gateway/base/counters.h"
#include "gateway/base/id.h"
#include "gateway/base/log_inner.h"

/* The owner thread's side: a line is built in the writer's scratch space, then copied into the ring. */

enum {
    NAME_SIZE_MAX = 48,
    NUMBER_SIZE_MAX = 20,
    TAIL_SIZE = 32, /* room that is kept for what closes a line, whatever its fields did */
};

static const char *const event_names[LOG_EVENT_COUNT] = {
#define LOG_EVENT(symbol, name, help) [LOG_##symbol] = name,
#include "gateway/base/log_events.def"
};

static const char *const event_helps[LOG_EVENT_COUNT] = {
#define LOG_EVENT(symbol, name, help) [LOG_##symbol] = help,
#include "gateway/base/log_events.def"
};

static const char *const level_names[LOG_LEVEL_COUNT] = {"debug", "info", "notice", "warning", "error"};

const char *log_level_name(enum log_level level)
{
    assert(level < LOG_LEVEL_COUNT);
    return level_names[level];
}

const char *log_event_name(enum log_event event)
{
    assert(event < LOG_EVENT_COUNT);
    return event_names[event];
}

const char *log_event_help(enum log_event event)
{
    assert(event < LOG_EVENT_COUNT);
    return event_helps[event];
}

int log_writer_init(struct log_writer *writer, const struct log_options *options, struct counters *counters)
{
    memset(writer, 0, sizeof(*writer));
    writer->ring = malloc(LOG_RING_SIZE);
    if (writer->ring == NULL)
        return -ENOMEM;
    writer->options = options;
    writer->counters = counters;
    writer->second = UINT64_MAX;
    log_set_time(writer, clock_wall_us());
    return 0;
}

void log_writer_deinit(struct log_writer *writer)
{
    free(writer->ring);
    writer->ring = NULL;
}

static char *put(char *cursor, const char *text, size_t size)
{
    memcpy(cursor, text, size);
    return cursor + size;
}

/* Exactly `digits` digits, with zeros in front. */
static char *put_padded(char *cursor, uint64_t number, size_t digits)
{
    for (size_t index = digits; index-- > 0; number /= 10)
        cursor[index] = (char)('0' + number % 10);
    assert(number == 0);
    return cursor + digits;
}

static char *put_u64(char *cursor, uint64_t number)
{
    char digits[NUMBER_SIZE_MAX];
    size_t begin = sizeof(digits);
    do {
        digits[--begin] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    return put(cursor, digits + begin, sizeof(digits) - begin);
}

struct date {
    uint64_t year;
    uint64_t month;
    uint64_t day;
};

/* Days since 1970-01-01 to a Gregorian date. Years are counted from March 1 of year 0, so that the leap day
   ends a year and the lengths of months repeat every five (153 days). */
static struct date date_of_days(uint64_t days)
{
    enum { DAYS_TO_EPOCH = 719468, DAYS_PER_ERA = 146097 };
    days += DAYS_TO_EPOCH;
    uint64_t era = days / DAYS_PER_ERA; /* 400 years */
    uint64_t day_of_era = days % DAYS_PER_ERA;
    uint64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    uint64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    uint64_t shifted_month = (5 * day_of_year + 2) / 153; /* 0: March */
    struct date date = {
        .year = era * 400 + year_of_era + (shifted_month >= 10),
        .month = shifted_month < 10 ? shifted_month + 3 : shifted_month - 9,
        .day = day_of_year - (153 * shifted_month + 2) / 5 + 1,
    };
    assert(date.month >= 1 && date.month <= 12);
    assert(date.day >= 1 && date.day <= 31);
    return date;
}

static void render_second(struct log_writer *writer, uint64_t second)
{
    struct date date = date_of_days(second / 86400);
    char *cursor = writer->second_text;
    cursor = put_padded(cursor, date.year, 4);
    *cursor++ = '-';
    cursor = put_padded(cursor, date.month, 2);
    *cursor++ = '-';
    cursor = put_padded(cursor, date.day, 2);
    *cursor++ = 'T';
    cursor = put_padded(cursor, second / 3600 % 24, 2);
    *cursor++ = ':';
    cursor = put_padded(cursor, second / 60 % 60, 2);
    *cursor++ = ':';
    cursor = put_padded(cursor, second % 60, 2);
    assert(cursor == writer->second_text + LOG_SECOND_SIZE);
    writer->second = second;
}

void log_set_time(struct log_writer *writer, uint64_t wall_us)
{
    writer->wall_us = wall_us;
    if (wall_us / 1000000 != writer->second)
        render_second(writer, wall_us / 1000000);
}

bool log_wants(const struct log_writer *writer, enum log_level level)
{
    return (int)level >= atomic_load_explicit(&writer->options->level, memory_order_relaxed);
}

static char *put_time(char *cursor, const struct log_writer *writer)
{
    cursor = put(cursor, writer->second_text, LOG_SECOND_SIZE);
    *cursor++ = '.';
    cursor = put_padded(cursor, writer->wall_us % 1000000, 6);
    *cursor++ = 'Z';
    return cursor;
}

bool log_begin(struct log_writer *writer, struct log_line *line, enum log_event event, enum log_level level)
{
    assert(event < LOG_EVENT_COUNT);
    line->writer = NULL;
    if (!log_wants(writer, level))
        return false;
    assert(!writer->has_open_line);
    writer->has_open_line = true;
    if (writer->reads_clock)
        log_set_time(writer, clock_wall_us());

    line->writer = writer;
    line->limit = writer->scratch + LOG_LINE_SIZE - TAIL_SIZE;
    line->is_cut = false;
    line->format = (enum log_format)atomic_load_explicit(&writer->options->format, memory_order_relaxed);

    const char *name = event_names[event];
    char *cursor = writer->scratch;
    if (line->format == LOG_JSON) {
        cursor = put(cursor, "{\"time\":\"", 9);
        cursor = put_time(cursor, writer);
        cursor = put(cursor, "\",\"event\":\"", 11);
        cursor = put(cursor, name, strlen(name));
        *cursor++ = '"';
    } else {
        cursor = put_time(cursor, writer);
        *cursor++ = ' ';
        cursor = put(cursor, name, strlen(name));
    }
    line->cursor = cursor;
    if (level != LOG_INFO)
        log_text(line, "level", level_names[level]);
    return true;
}

/* Writes what stands before a value; NULL when the line has no room or is not wanted. The caller moves the
   line's cursor only when the value has come out whole. */
static char *begin_field(struct log_line *line, const char *name)
{
    size_t size = strlen(name);
    assert(size > 0 && size <= NAME_SIZE_MAX);
    if (line->writer == NULL)
        return NULL;
    if (line->limit - line->cursor < (ptrdiff_t)(size + NUMBER_SIZE_MAX + 8)) {
        line->is_cut = true;
        return NULL;
    }
    char *cursor = line->cursor;
    if (line->format == LOG_JSON) {
        *cursor++ = ',';
        *cursor++ = '"';
        cursor = put(cursor, name, size);
        *cursor++ = '"';
        *cursor++ = ':';
    } else {
        *cursor++ = ' ';
        cursor = put(cursor, name, size);
        *cursor++ = '=';
    }
    return cursor;
}

static void end_field(struct log_line *line, char *cursor)
{
    if (cursor == NULL) {
        line->is_cut = true;
        return;
    }
    assert(cursor <= line->limit);
    line->cursor = cursor;
}

void log_str(struct log_line *line, const char *name, const char *bytes, size_t size)
{
    char *cursor = begin_field(line, name);
    if (cursor == NULL)
        return;
    if (line->format == LOG_JSON)
        end_field(line, log_escape_json(cursor, line->limit, bytes, size));
    else
        end_field(line, log_escape_text(cursor, line->limit, bytes, size));
}

void log_text(struct log_line *line, const char *name, const char *text)
{
    if (text != NULL)
        log_str(line, name, text, strlen(text));
}

void log_path(struct log_line *line, const char *name, const char *bytes, size_t size)
{
    char *cursor = begin_field(line, name);
    if (cursor == NULL)
        return;
    if (line->format == LOG_JSON)
        end_field(line, log_escape_json(cursor, line->limit, bytes, size));
    else
        end_field(line, log_escape_path(cursor, line->limit, bytes, size));
}

void log_u64(struct log_line *line, const char *name, uint64_t value)
{
    char *cursor = begin_field(line, name);
    if (cursor != NULL)
        end_field(line, put_u64(cursor, value));
}

void log_i64(struct log_line *line, const char *name, int64_t value)
{
    char *cursor = begin_field(line, name);
    if (cursor == NULL)
        return;
    if (value < 0)
        *cursor++ = '-';
    end_field(line, put_u64(cursor, value < 0 ? -(uint64_t)value : (uint64_t)value));
}

void log_bool(struct log_line *line, const char *name, bool value)
{
    char *cursor = begin_field(line, name);
    if (cursor != NULL)
        end_field(line, value ? put(cursor, "true", 4) : put(cursor, "false", 5));
}

void log_id(struct log_line *line, uint64_t id)
{
    char text[ID_TEXT_SIZE];
    id_format(id, text);
    log_str(line, "id", text, sizeof(text));
}

void log_addr(struct log_line *line, const char *name, const struct sockaddr *address)
{
    char text[ADDRESS_TEXT_SIZE];
    size_t size = address_format(address, text);
    log_str(line, name, text, size);
}

void log_errno(struct log_line *line, const char *name, int error)
{
    const char *symbol = strerrorname_np(error < 0 ? -error : error);
    if (symbol != NULL)
        log_text(line, name, symbol);
    else
        log_i64(line, name, error);
}

static void copy_into_ring(struct log_writer *writer, uint64_t head, const char *bytes, size_t size)
{
    size_t at = (size_t)(head & (LOG_RING_SIZE - 1));
    size_t first = size < LOG_RING_SIZE - at ? size : LOG_RING_SIZE - at;
    memcpy(writer->ring + at, bytes, first);
    memcpy(writer->ring, bytes + first, size - first);
}

static void count_dropped(struct log_writer *writer)
{
    uint64_t dropped = atomic_load_explicit(&writer->dropped, memory_order_relaxed);
    atomic_store_explicit(&writer->dropped, dropped + 1, memory_order_relaxed);
    if (writer->counters != NULL)
        COUNTER_ADD(writer->counters, log_lines_dropped, 1);
}

static void push(struct log_writer *writer, const char *bytes, size_t size)
{
    uint64_t head = atomic_load_explicit(&writer->head, memory_order_relaxed); /* ours */
    if (head + size - writer->tail_seen > LOG_RING_SIZE) {
        /* acquire pairs with the release in log_drain: what lies before `tail` may be overwritten */
        writer->tail_seen = atomic_load_explicit(&writer->tail, memory_order_acquire);
        if (head + size - writer->tail_seen > LOG_RING_SIZE) {
            count_dropped(writer);
            return;
        }
    }
    copy_into_ring(writer, head, bytes, size);
    /* release pairs with the acquire in log_drain: the bytes are there before the position says so */
    atomic_store_explicit(&writer->head, head + size, memory_order_release);
}

void log_end(struct log_line *line)
{
    struct log_writer *writer = line->writer;
    if (writer == NULL)
        return;
    assert(writer->has_open_line);
    char *cursor = line->cursor;
    if (line->format == LOG_JSON) {
        if (line->is_cut)
            cursor = put(cursor, ",\"truncated\":true", 17);
        *cursor++ = '}';
    } else if (line->is_cut) {
        cursor = put(cursor, " truncated=true", 15);
    }
    *cursor++ = '\n';
    assert(cursor <= writer->scratch + LOG_LINE_SIZE);
    push(writer, writer->scratch, (size_t)(cursor - writer->scratch));
    writer->has_open_line = false;
    line->writer = NULL;
}
