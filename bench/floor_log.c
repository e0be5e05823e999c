// The floor's log: a ring on disk and the same ring in memory. A record is written once and delivered from
// where it lies; its place is used again when it and all before it are settled.
#include "bench/floor.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

static_assert(FLOOR_LOG_SIZE % FLOOR_BLOCK == 0, "the log ends on a block");
static_assert((FLOOR_MESSAGES & (FLOOR_MESSAGES - 1)) == 0, "indexes are masked");

// Enough for a recovery to tell a fresh record from the ring's last lap, and the settled from the unsettled.
struct record {
    uint64_t sequence;
    uint64_t settled_before; // every sequence number below this one is settled
    uint32_t size;
    uint32_t recipients;
};

static struct message *message_at(struct log *log, uint64_t sequence)
{
    return &log->messages[sequence & (FLOOR_MESSAGES - 1)];
}

static uint64_t round_up(uint64_t position, uint64_t unit)
{
    return (position + unit - 1) / unit * unit;
}

static void write_zeros(const struct log *log)
{
    const size_t chunk = 1 << 20;
    for (off_t at = 0; at < FLOOR_LOG_SIZE; at += (off_t)chunk) {
        if (pwrite(log->fd, log->image, chunk, at) != (ssize_t)chunk)
            floor_die("pre-write of the log", errno ? errno : EIO);
    }
    if (fsync(log->fd) < 0)
        floor_die("fsync of the log", errno);
}

void log_init(struct floor *floor, const char *path)
{
    struct log *log = &floor->log;
    log->image = mmap(NULL, FLOOR_LOG_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (log->image == MAP_FAILED)
        floor_die("image of the log", errno);
    madvise(log->image, FLOOR_LOG_SIZE, MADV_HUGEPAGE);
    log->fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_DIRECT, 0600);
    if (log->fd < 0)
        floor_die(path, errno);
    write_zeros(log);
    if (close(log->fd) < 0)
        floor_die(path, errno);
    log->fd = open(path, O_WRONLY | O_CLOEXEC | O_DIRECT | O_DSYNC);
    if (log->fd < 0)
        floor_die(path, errno);
    // Refused where locked memory is scarce; then each write pins its pages itself.
    struct iovec image = {.iov_base = log->image, .iov_len = FLOOR_LOG_SIZE};
    log->fixed = io_uring_register_buffers(&floor->ring, &image, 1) == 0;
}

// Everything from here on may still be read by a delivery or by a recovery.
static uint64_t oldest_position(struct log *log)
{
    if (log->head == log->tail)
        return log->write_position;
    return message_at(log, log->head)->position - sizeof(struct record);
}

// A record never wraps: the rest of the lap is skipped.
static uint64_t place(const struct log *log, size_t need)
{
    uint64_t start = round_up(log->tail_position, sizeof(uint64_t));
    uint64_t left = FLOOR_LOG_SIZE - start % FLOOR_LOG_SIZE;
    return left < need ? start + left : start;
}

struct message *log_append(struct floor *floor, struct session *session, const unsigned char *data,
                           size_t size, uint32_t recipients)
{
    struct log *log = &floor->log;
    size_t need = sizeof(struct record) + size;
    uint64_t start = place(log, need);
    assert(size > 0 && size <= FLOOR_MESSAGE_SIZE_MAX);
    // The next write starts on a block of its own, so room is counted in blocks.
    if (round_up(start + need, FLOOR_BLOCK) - oldest_position(log) > FLOOR_LOG_SIZE ||
        log->tail - log->head == FLOOR_MESSAGES)
        return NULL;

    struct record record = {
        .sequence = log->tail, .settled_before = log->head, .size = (uint32_t)size, .recipients = recipients};
    unsigned char *at = log->image + start % FLOOR_LOG_SIZE;
    memcpy(at, &record, sizeof(record));
    memcpy(at + sizeof(record), data, size);
    struct message *message = message_at(log, log->tail++);
    *message = (struct message){.position = start + sizeof(record),
                                .size = (uint32_t)size,
                                .recipients = recipients,
                                .session = session};
    if (log->write_position == log->tail_position)
        log->write_position = start / FLOOR_BLOCK * FLOOR_BLOCK;
    log->tail_position = start + need;
    return message;
}

void log_commit(struct floor *floor)
{
    struct log *log = &floor->log;
    if (log->writing || log->write_position == log->tail_position)
        return;
    uint64_t start = log->write_position;
    uint64_t offset = start % FLOOR_LOG_SIZE;
    uint64_t end = round_up(log->tail_position, FLOOR_BLOCK);
    uint64_t lap_end = start - offset + FLOOR_LOG_SIZE;
    if (end > lap_end)
        end = lap_end;
    else
        log->tail_position = end; // a block under way is never touched again
    assert(start % FLOOR_BLOCK == 0 && end > start);

    unsigned length = (unsigned)(end - start);
    struct io_uring_sqe *sqe = floor_sqe(floor, FLOOR_LOG_WRITE, log);
    if (log->fixed)
        io_uring_prep_write_fixed(sqe, log->fd, log->image + offset, length, offset, 0);
    else
        io_uring_prep_write(sqe, log->fd, log->image + offset, length, offset);
    log->write_position = end;
    log->write_length = length;
    log->writing = true;
    floor->stats.log_writes++;
    floor->stats.log_bytes += length;
}

// Messages of the write that now lies behind `end`; one cut off by the end of the lap waits for the next
// write.
static void tell_committed(struct floor *floor, uint64_t end)
{
    struct log *log = &floor->log;
    while (log->durable < log->tail) {
        struct message *message = message_at(log, log->durable);
        if (message->position + message->size > end)
            return;
        log->durable++;
        floor->stats.accepted++;
        struct session *session = message->session;
        message->session = NULL;
        if (session != NULL)
            session_committed(floor, session);
    }
}

void log_on_write(struct floor *floor, const struct io_uring_cqe *cqe)
{
    struct log *log = &floor->log;
    assert(log->writing);
    if (cqe->res < 0)
        floor_die("write of the log", -cqe->res);
    if ((unsigned)cqe->res != log->write_length)
        floor_die("short write of the log", EIO);
    log->writing = false;
    tell_committed(floor, log->write_position);
}

struct message *log_take(struct floor *floor)
{
    struct log *log = &floor->log;
    struct message *message = log->retry;
    if (message != NULL) {
        log->retry = message->retry;
        return message;
    }
    return log->deliver < log->durable ? message_at(log, log->deliver++) : NULL;
}

void log_give_back(struct floor *floor, struct message *message)
{
    assert(!message->settled);
    message->retry = floor->log.retry;
    floor->log.retry = message;
}

void log_settle(struct floor *floor, struct message *message)
{
    struct log *log = &floor->log;
    assert(!message->settled);
    message->settled = true;
    while (log->head < log->deliver && message_at(log, log->head)->settled)
        log->head++;
    sessions_resume(floor);
}

const unsigned char *log_content(const struct floor *floor, const struct message *message)
{
    return floor->log.image + message->position % FLOOR_LOG_SIZE;
}
