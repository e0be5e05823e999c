#pragma once

/*
 * The operator's log: one line an event, as text (key=value) or as JSON, never at a worker's expense.
 *
 * `struct log` is the process's log: destination, format, level, and its writers. The control thread owns it.
 * `struct log_writer` is one thread's way into it: a ring of bytes that only this thread fills and only the
 * control thread empties. Writing a line takes no lock, no allocation and no system call. When the ring is
 * full the line is dropped and counted, and the next log_drain() reports how many were lost.
 *
 *     struct log_line line;
 *     if (log_begin(writer, &line, LOG_ACCEPT, LOG_INFO)) {
 *         log_id(&line, id);
 *         log_path(&line, "from", from, from_size);
 *         log_u64(&line, "size", size);
 *         log_end(&line);
 *     }
 *
 * Values come from the network. Text values that hold anything but harmless characters are quoted and
 * escaped, JSON values are escaped, so that no value can pose as another field or line. Field names are ours:
 * short constants of [a-z0-9_]. Lines of one writer keep their order; lines of different writers may change
 * places within one drain.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct counters;
struct log;
struct log_writer;
struct sockaddr;

enum log_level { LOG_DEBUG, LOG_INFO, LOG_NOTICE, LOG_WARNING, LOG_ERROR, LOG_LEVEL_COUNT };
enum log_format { LOG_TEXT, LOG_JSON };

enum log_event {
#define LOG_EVENT(symbol, name, help) LOG_##symbol,
#include "gateway/base/log_events.def"
    LOG_EVENT_COUNT
};

enum {
    LOG_RING_SIZE = 1 << 20, /* bytes a writer can be ahead of the control thread */
    LOG_LINE_SIZE = 4096,    /* longest line with its newline; what exceeds it is left out and marked */
    LOG_VALUE_SIZE = 512,    /* longest value taken from the caller; the rest is cut and marked with "..." */
    LOG_WRITERS_MAX = 512,
};

const char *log_level_name(enum log_level level);
const char *log_event_name(enum log_event event);
const char *log_event_help(enum log_event event);

/* The control thread's side. */

/* Makes the log and its control-thread writer. `path` is copied; NULL or "stderr": standard error. A file is
   made if missing (mode 0640) and appended to. Negative errno when it cannot be opened. */
int log_new(const char *path, enum log_format format, enum log_level level, struct log **log)
    __attribute__((warn_unused_result));

/* Drains once more, then frees the log with its writers; their threads must have ended. NULL is ignored. */
void log_free(struct log *log);

/* A writer for one thread; `counters` (may be NULL) is that thread's, for log_lines_dropped. Made and freed
   with the log. -ENOMEM. Must be called before the thread starts; LOG_WRITERS_MAX at most. */
int log_writer_new(struct log *log, struct counters *counters, struct log_writer **writer)
    __attribute__((warn_unused_result));

/* The writer of the control thread itself. Its time stamp is read from the clock for each line. */
struct log_writer *log_control(struct log *log);

/* Takes over format and level (at the next line of each writer) and destination (as log_new). When the new
   destination cannot be opened the old one stays, and the negative errno is returned. */
int log_configure(struct log *log, const char *path, enum log_format format, enum log_level level)
    __attribute__((warn_unused_result));

/* Opens a file destination again by its name, for log rotation; standard error stays. Negative errno: the old
   file stays in use. */
int log_reopen(struct log *log) __attribute__((warn_unused_result));

/* Writes what the rings hold to the destination and returns the bytes written. Waits for no one: what a slow
   reader of a pipe does not take stays in the rings. What a failing file does not take is lost and counted.
 */
size_t log_drain(struct log *log);

/* Lines lost so far, by full rings or a failing destination. */
uint64_t log_lines_lost(const struct log *log);

/* The owner thread's side. */

/* One line under construction; lives on the stack, and only one per writer at a time. */
struct log_line {
    struct log_writer *writer; /* NULL: the level is not wanted, every call is a no-op */
    char *cursor;
    char *limit; /* fields must end before it; what closes the line fits behind it */
    enum log_format format;
    bool is_cut;
};

/* The wall time of the lines to come, in microseconds: once a loop turn. */
void log_set_time(struct log_writer *writer, uint64_t wall_us);

/* True when lines of `level` are wanted. */
bool log_wants(const struct log_writer *writer, enum log_level level);

/* Starts a line. False when the level is not wanted: the field calls and log_end may be skipped or made. */
bool log_begin(struct log_writer *writer, struct log_line *line, enum log_event event, enum log_level level);

/* Hands the line over to the control thread. */
void log_end(struct log_line *line);

/* Bytes of any kind, and a zero-terminated text (NULL: the field is left out). */
void log_str(struct log_line *line, const char *name, const char *bytes, size_t size);
void log_text(struct log_line *line, const char *name, const char *text);

/* A mail path without its angle brackets: from=<a@b> as text, "from":"a@b" as JSON; the null path is empty.
 */
void log_path(struct log_line *line, const char *name, const char *bytes, size_t size);

void log_u64(struct log_line *line, const char *name, uint64_t value);
void log_i64(struct log_line *line, const char *name, int64_t value);
void log_bool(struct log_line *line, const char *name, bool value);

/* The field `id`: a message's id in its 13-character form (base/id.h). */
void log_id(struct log_line *line, uint64_t id);

/* An address with its port: 192.0.2.1:25, [2001:db8::1]:25; an unknown family as "unknown". */
void log_addr(struct log_line *line, const char *name, const struct sockaddr *address);

/* An error number, positive or negative, as its symbol: error=ENOSPC. */
void log_errno(struct log_line *line, const char *name, int error);
