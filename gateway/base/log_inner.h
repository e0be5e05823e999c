#pragma once

/*
 * What the files of the log share: the writer with its ring, and the escaping of values. Not for other rooms.
 */

#include <stdalign.h>

#include "gateway/base/log.h"

_Static_assert((LOG_RING_SIZE & (LOG_RING_SIZE - 1)) == 0, "positions are masked");
_Static_assert(LOG_RING_SIZE >= 2 * LOG_LINE_SIZE, "a ring must hold lines");

enum { LOG_SECOND_SIZE = 19 }; /* 2026-11-21T22:19:42 */

/* Any thread (atomic): written by the control thread, read at the start of each line. Relaxed: each is one
   value without company, and a line more or less in the old form does no harm. */
struct log_options {
    _Atomic int format;
    _Atomic int level;
};

struct log_writer {
    /* Immutable after init. */
    const struct log_options *options;
    struct counters *counters;
    char *ring;
    bool reads_clock; /* the control thread's writer has no loop that sets its time */

    /* Owner thread. */
    alignas(64) uint64_t wall_us;
    uint64_t second;
    uint64_t tail_seen; /* the last known value of `tail`: saves reading the other side's cache line */
    bool has_open_line;
    char second_text[LOG_SECOND_SIZE];
    char scratch[LOG_LINE_SIZE];

    /* Any thread (atomic). Bytes from `tail` to `head` wait to be written out; both only grow.
       The owner's release store of `head` pairs with the control thread's acquire load: it sees whole lines.
       The control thread's release store of `tail` pairs with the owner's acquire load: it has been read. */
    alignas(64) _Atomic uint64_t head;
    _Atomic uint64_t dropped; /* lines; relaxed, a statistic */
    alignas(64) _Atomic uint64_t tail;
};

int log_writer_init(struct log_writer *writer, const struct log_options *options, struct counters *counters)
    __attribute__((warn_unused_result));
void log_writer_deinit(struct log_writer *writer);

/* Both write the value with its quotes, if it needs them, from `cursor` on and return where it ends, or NULL
   when it does not fit before `limit`. A value longer than LOG_VALUE_SIZE ends in "...". */
char *log_escape_text(char *cursor, const char *limit, const char *bytes, size_t size);
char *log_escape_json(char *cursor, const char *limit, const char *bytes, size_t size);

/* For a mail path: in angle brackets, which stand inside the quotes if it needs any. */
char *log_escape_path(char *cursor, const char *limit, const char *bytes, size_t size);
