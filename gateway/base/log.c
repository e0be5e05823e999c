#include "gateway/base/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "gateway/base/log_inner.h"

_Static_assert(LOG_LINE_SIZE <= PIPE_BUF, "a line fits what a pipe takes whole");

/* Control thread, but for `options`, which the writers read. */
struct log {
    struct log_options options;
    struct log_writer *control;
    struct log_writer *writers[LOG_WRITERS_MAX];
    size_t writer_count;
    char *path; /* NULL: standard error */
    int fd;
    bool is_file; /* takes any amount; what is not a regular file gets whole lines in small pieces */
    uint64_t lost_at_destination;
    uint64_t lost_reported;
    bool is_failing; /* the last write failed: a report about lost lines would be lost too */
};

struct destination {
    char *path;
    int fd;
    bool is_file;
};

static void destination_close(struct destination *destination)
{
    if (destination->path != NULL)
        close(destination->fd);
    free(destination->path);
}

static int destination_open(const char *path, struct destination *destination)
{
    struct destination result = {.path = NULL, .fd = STDERR_FILENO};
    if (path != NULL && strcmp(path, "stderr") != 0) {
        result.path = strdup(path);
        if (result.path == NULL)
            return -ENOMEM;
        result.fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
        if (result.fd < 0) {
            int error = -errno;
            free(result.path);
            return error;
        }
    }
    struct stat status;
    result.is_file = fstat(result.fd, &status) == 0 && S_ISREG(status.st_mode);
    *destination = result;
    return 0;
}

/* Takes over the destination and closes the one before. */
static void use_destination(struct log *log, struct destination *destination)
{
    struct destination old = {.path = log->path, .fd = log->fd};
    log->path = destination->path;
    log->fd = destination->fd;
    log->is_file = destination->is_file;
    destination_close(&old);
}

static void set_options(struct log *log, enum log_format format, enum log_level level)
{
    assert(level < LOG_LEVEL_COUNT);
    atomic_store_explicit(&log->options.format, (int)format, memory_order_relaxed);
    atomic_store_explicit(&log->options.level, (int)level, memory_order_relaxed);
}

static int new_writer(const struct log_options *options, struct counters *counters,
                      struct log_writer **writer)
{
    struct log_writer *result = aligned_alloc(_Alignof(struct log_writer), sizeof(*result));
    if (result == NULL)
        return -ENOMEM;
    int error = log_writer_init(result, options, counters);
    if (error < 0) {
        free(result);
        return error;
    }
    *writer = result;
    return 0;
}

static void free_writer(struct log_writer *writer)
{
    log_writer_deinit(writer);
    free(writer);
}

int log_new(const char *path, enum log_format format, enum log_level level, struct log **log)
{
    struct log *result = calloc(1, sizeof(*result));
    if (result == NULL)
        return -ENOMEM;
    set_options(result, format, level);

    int error = new_writer(&result->options, NULL, &result->control);
    if (error < 0) {
        free(result);
        return error;
    }
    result->control->reads_clock = true;

    struct destination destination = {0};
    error = destination_open(path, &destination);
    if (error < 0) {
        free_writer(result->control);
        free(result);
        return error;
    }
    use_destination(result, &destination);
    *log = result;
    return 0;
}

void log_free(struct log *log)
{
    if (log == NULL)
        return;
    log_drain(log);
    for (size_t index = 0; index < log->writer_count; index++)
        free_writer(log->writers[index]);
    free_writer(log->control);
    struct destination destination = {.path = log->path, .fd = log->fd};
    destination_close(&destination);
    free(log);
}

int log_writer_new(struct log *log, struct counters *counters, struct log_writer **writer)
{
    assert(log->writer_count < LOG_WRITERS_MAX);
    int error = new_writer(&log->options, counters, &log->writers[log->writer_count]);
    if (error < 0)
        return error;
    *writer = log->writers[log->writer_count++];
    return 0;
}

struct log_writer *log_control(struct log *log)
{
    return log->control;
}

int log_configure(struct log *log, const char *path, enum log_format format, enum log_level level)
{
    struct destination destination = {0};
    int error = destination_open(path, &destination);
    if (error < 0)
        return error;
    log_drain(log); /* what was said before belongs to the old destination */
    use_destination(log, &destination);
    set_options(log, format, level);
    return 0;
}

int log_reopen(struct log *log)
{
    struct destination destination = {0};
    int error = destination_open(log->path, &destination);
    if (error < 0)
        return error;
    log_drain(log);
    use_destination(log, &destination);
    return 0;
}

/* The waiting bytes, in at most two pieces because the ring has an end. */
static size_t ring_pieces(const struct log_writer *writer, uint64_t tail, size_t size,
                          struct iovec pieces[static 2])
{
    size_t at = (size_t)(tail & (LOG_RING_SIZE - 1));
    size_t first = size < LOG_RING_SIZE - at ? size : LOG_RING_SIZE - at;
    pieces[0] = (struct iovec){.iov_base = writer->ring + at, .iov_len = first};
    pieces[1] = (struct iovec){.iov_base = writer->ring, .iov_len = size - first};
    return size > first ? 2 : 1;
}

static char ring_byte(const struct log_writer *writer, uint64_t position)
{
    return writer->ring[position & (LOG_RING_SIZE - 1)];
}

/* What one write may offer. A pipe that poll() calls writable takes PIPE_BUF bytes without blocking; the
   piece ends with a line, so that lines of different writers never mix. */
static size_t offer_size(const struct log *log, const struct log_writer *writer, uint64_t tail, uint64_t head)
{
    size_t size = (size_t)(head - tail);
    if (log->is_file || size <= LOG_LINE_SIZE)
        return size;
    size = LOG_LINE_SIZE;
    while (size > 1 && ring_byte(writer, tail + size - 1) != '\n')
        size--;
    return size;
}

static bool is_writable(const struct log *log)
{
    if (log->is_file)
        return true;
    struct pollfd ready = {.fd = log->fd, .events = POLLOUT};
    return poll(&ready, 1, 0) == 1; /* an error counts as writable: the write will name it */
}

static uint64_t count_lines(const struct log_writer *writer, uint64_t from, uint64_t to)
{
    uint64_t lines = 0;
    for (uint64_t position = from; position < to; position++)
        lines += ring_byte(writer, position) == '\n';
    return lines;
}

/* Negative: the destination takes nothing more now (-EAGAIN) or is broken. */
static ssize_t write_some(struct log *log, const struct log_writer *writer, uint64_t tail, uint64_t head)
{
    if (!is_writable(log))
        return -EAGAIN;
    struct iovec pieces[2];
    size_t count = ring_pieces(writer, tail, offer_size(log, writer, tail, head), pieces);
    ssize_t written;
    do
        written = writev(log->fd, pieces, (int)count);
    while (written < 0 && errno == EINTR);
    return written < 0 ? -errno : written;
}

static size_t drain_writer(struct log *log, struct log_writer *writer)
{
    uint64_t begin = atomic_load_explicit(&writer->tail, memory_order_relaxed); /* ours */
    uint64_t tail = begin;
    /* acquire pairs with the release in log_end: the lines before `head` are whole */
    uint64_t head = atomic_load_explicit(&writer->head, memory_order_acquire);
    uint64_t lost = 0;
    while (tail < head) {
        ssize_t written = write_some(log, writer, tail, head);
        if (written == -EAGAIN)
            break;
        log->is_failing = written <= 0;
        if (log->is_failing) {
            log->lost_at_destination += count_lines(writer, tail, head);
            lost = head - tail;
            tail = head;
            break;
        }
        tail += (uint64_t)written;
    }
    /* release pairs with the acquire in log_end: these bytes have been read */
    atomic_store_explicit(&writer->tail, tail, memory_order_release);
    return (size_t)(tail - begin - lost);
}

uint64_t log_lines_lost(const struct log *log)
{
    uint64_t lost = log->lost_at_destination;
    lost += atomic_load_explicit(&log->control->dropped, memory_order_relaxed);
    for (size_t index = 0; index < log->writer_count; index++)
        lost += atomic_load_explicit(&log->writers[index]->dropped, memory_order_relaxed);
    return lost;
}

static void report_lost(struct log *log)
{
    uint64_t lost = log_lines_lost(log);
    if (lost == log->lost_reported || log->is_failing)
        return;
    struct log_line line;
    if (log_begin(log->control, &line, LOG_DROPPED, LOG_WARNING)) {
        log_u64(&line, "lines", lost - log->lost_reported);
        log_end(&line);
    }
    log->lost_reported = lost;
}

size_t log_drain(struct log *log)
{
    size_t written = 0;
    for (size_t index = 0; index < log->writer_count; index++)
        written += drain_writer(log, log->writers[index]);
    if (!log->control->has_open_line)
        report_lost(log);
    return written + drain_writer(log, log->control);
}
