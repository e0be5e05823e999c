/* A disk in memory that behaves as badly as a disk may: struct storage with virtual time, a seeded order of
 * completions, failures, power cuts that tear what was in flight, and bits that flip while it is off.
 *
 * A write becomes visible when it completes. The disk also watches its user: a buffer that changes while it
 * is being written, a write outside a prepared slot or an unaligned one is a violation of queue/storage.h and
 * ends the run (disk_options.violation). Single-threaded; the caller owns the struct and moves its clock.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "queue/storage.h"
#include "tests/sim/random.h"

enum {
    DISK_SECTOR = 512, /* what a power cut leaves whole */
    DISK_SLOTS_MAX = 256,
    DISK_PENDING_MAX = 256,
    DISK_FLIPS_MAX = 64,
};

struct disk_options {
    uint64_t seed;
    uint64_t segment_size; /* bytes */
    uint32_t slots_max;    /* slots that fit: one more is -ENOSPC */
    uint32_t latency_min_us;
    uint32_t latency_max_us;
    /* Chances of a failure, in a million. */
    uint32_t prepare_fails;
    uint32_t write_fails;
    uint32_t read_fails;
    uint32_t load_fails;
    uint32_t discard_fails;
    /* Called when the user of the disk breaks its rules; must not return. NULL: abort. */
    void (*violation)(const char *what);
};

enum disk_kind {
    DISK_PREPARE,
    DISK_WRITE,
    DISK_READ,
};

/* An operation under way. */
struct disk_pending {
    struct storage_op *op;
    enum disk_kind kind;
    bool durable;
    bool is_batch; /* of the log; else content alone */
    uint32_t slot;
    uint64_t offset;
    uint64_t size;
    uint64_t due_us;
    uint64_t number; /* of the write: counts up over the disk's whole life, from 1 */
    uint64_t sum;    /* of the buffer when the write began */
    const uint8_t *source;
    uint8_t *target;
};

/* A write that completed without `durable`: what was there before comes back, sector by sector, in a power
 * cut. */
struct disk_volatile {
    struct disk_volatile *older;
    uint32_t slot;
    uint64_t offset;
    uint64_t size;
    uint8_t before[];
};

struct disk_slot {
    bool exists;
    bool prepared;
    uint64_t size;    /* less than segment_size when a power cut came while it was made */
    uint8_t *bytes;   /* segment_size of them, or NULL; kept for the next use */
    uint64_t *writer; /* number of the write that last touched each block */
};

/* A bit that was flipped while the power was off. */
struct disk_flip {
    uint32_t slot;
    uint64_t offset;
    uint64_t writer; /* the write that the byte came from, 0 when none */
    bool overwritten;
};

struct disk {
    struct storage storage; /* hand out &disk.storage */
    struct disk_options options;
    struct random random;
    uint64_t now_us;
    bool dead; /* after disk_cut: everything fails, nothing changes */
    struct disk_slot slots[DISK_SLOTS_MAX];
    uint32_t slot_count; /* that exist */
    struct disk_pending pending[DISK_PENDING_MAX];
    uint32_t pending_count;
    struct disk_volatile *volatiles; /* newest first */
    struct disk_flip flips[DISK_FLIPS_MAX];
    uint32_t flip_count;
    uint64_t writes;         /* begun */
    uint64_t writes_failed;  /* completed with an error */
    uint64_t writes_through; /* all writes up to this number are complete, failed ones included */
    uint64_t batch_through;  /* the last of them that was a batch of the log */
    uint64_t batch_good;     /* the last batch that was written without an error, so far */
    bool finished[1024];     /* ring: which writes beyond writes_through are complete */
    bool batches[1024];      /* ring: which writes are batches */
    uint64_t completions;
    bool was_full; /* -ENOSPC was answered at some time */
};

/* Begins with no slot. A disk may be initialised again; memory of its slots is kept until disk_deinit. */
void disk_init(struct disk *disk, const struct disk_options *options);
void disk_deinit(struct disk *disk);

/* When the next operation completes, or UINT64_MAX. */
uint64_t disk_next_us(const struct disk *disk);

/* Completes the one operation that is due first, if it is due; false when there is none. */
bool disk_step(struct disk *disk);

/* Ends all failures, for good. */
void disk_heal(struct disk *disk);

/* Cuts the power: what is in flight is torn, what was not made durable is lost. Operations under way then
 * complete with -EIO at the next steps, and so does all that is begun until disk_restore: the old life's
 * callbacks see a dead disk. */
void disk_cut(struct disk *disk);

/* The power is back. No operation may be under way. */
void disk_restore(struct disk *disk);

/* Flips one bit somewhere in what was written; false when nothing was. */
bool disk_flip(struct disk *disk);

/* Whether a flipped bit lies in the range and was not overwritten since. */
bool disk_flipped(const struct disk *disk, uint32_t slot, uint64_t offset, uint64_t size);

/* Whether a bit was flipped in what the writes first..last left behind. */
bool disk_flipped_writes(const struct disk *disk, uint64_t first, uint64_t last);
