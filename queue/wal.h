/* The write-ahead log of one shard: records go into the current page, batches of them to disk, and whoever
 * waits for a batch hears when it and all before it are durable. Format: queue/format.h. Owner thread.
 *
 * A write that fails ends its segment: all batches not yet durable fail with it, their outcome records are
 * kept for the next segment, and drafts that are open then are dead (`epoch` moves on).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "queue/format.h"
#include "queue/memory.h"
#include "queue/page.h"
#include "queue/segment.h"
#include "queue/storage.h"

enum {
    WAL_BATCHES = 16,
    WAL_ROOM_MIN = 512,         /* bytes in a page below which no content is begun in it */
    WAL_PIECE_MAX = 128 * 1024, /* content in one record: the unit in which it is read back */
    WAL_EXTENT_MAX = 256 * 1024,
    WAL_EXTENTS = 64, /* that are open or being written at a time */
};

/* Room for content that is received where it stays. Extents are carved from a page's end, blocks that no
 * batch comes to, and each is one durable write of its own, begun when it is closed. Nothing in the log says
 * what lies in them but the pieces of a commit record, which must not be appended before done() said that
 * they are on disk. Open ones and those being written pin their page. */
struct wal_extent {
    struct storage_op op;
    struct wal *wal;
    struct page *page; /* NULL: this place in the table is free */
    uint32_t begin;    /* in the page */
    uint32_t size;     /* both multiples of STORAGE_BLOCK */
    uint32_t used;
    bool writing; /* else it is open */
    uint64_t submitted_us;
    void *owner; /* NULL: nobody is told */
    void (*done)(void *owner, int error);
};

/* Who waits for durability. done() may append. */
struct wal_waiter {
    struct wal_waiter *next;
    void (*done)(struct wal_waiter *waiter, int error);
};

enum wal_batch_state { WAL_BATCH_OPEN, WAL_BATCH_WRITING, WAL_BATCH_WRITTEN, WAL_BATCH_FAILED };

struct wal_batch {
    struct storage_op op;
    struct wal *wal;
    uint64_t number;
    struct page *page;
    uint32_t begin; /* in the page */
    uint32_t used;
    uint32_t tail; /* the tail that its header names */
    bool outcomes; /* holds some */
    bool urgent;   /* its wait has begun: commit_us */
    enum wal_batch_state state;
    int error;
    uint64_t submitted_us;
    struct wal_waiter *first;
    struct wal_waiter **last;
};

struct wal_part {
    const void *bytes;
    uint32_t size;
};

struct wal_options {
    struct storage *storage;
    uint32_t shard;
    uint32_t page_size;
    uint64_t pages_max;
    uint32_t writes_max;
    uint32_t commit_delay_us;
};

struct wal {
    struct storage *storage;
    struct segment_table segments;
    struct page_pool pages;
    uint64_t identity; /* of the log */
    uint32_t life;     /* of this start */
    uint32_t shard;
    uint32_t writes_max;
    uint32_t commit_delay_us;

    /* where the next record goes */
    struct segment *segment;    /* NULL: the next append opens one */
    struct page *page;          /* NULL: the next append takes one */
    uint32_t offset;            /* in the segment: of the next batch, when none is open */
    struct wal_batch *batch;    /* the open one, or NULL */
    struct format_record *body; /* the batch's last record if it is content that may still grow */

    /* batches in order of number; those before the open one are being written */
    struct wal_batch batches[WAL_BATCHES];
    uint32_t batch_first; /* index of the oldest */
    uint32_t batch_count;
    uint64_t next_number;
    uint64_t durable; /* number of the last durable batch */

    struct wal_extent extents[WAL_EXTENTS];
    uint32_t extents_writing;
    uint32_t pages_open; /* with an open extent */

    /* outcomes that are not in the log yet: no room, or their batch failed */
    struct wal_unlogged {
        uint64_t id;
        struct format_settle settle;
    } * unlogged;
    uint32_t unlogged_count;
    uint32_t unlogged_capacity;

    uint64_t epoch; /* counts failed writes */
    bool failing;   /* a write failed; others are still under way */
    int error;      /* of the last failed write, 0 after a good one */
    bool wanted;    /* somebody was answered -EAGAIN */
    bool full;      /* no segment for drafts could be had */
    bool draining;
    uint64_t now_us;
    uint64_t retry_us;   /* no append before this, after an error */
    uint64_t prepare_us; /* no new attempt to prepare before this */
    uint64_t commit_us;  /* when the open batch became urgent */
    uint64_t joined;     /* waiters of the open batch when its delay began */
    uint32_t waiters;    /* of the open batch */
    uint32_t delay_skip; /* batches that go without delay, since waiting brought no company */

    uint64_t writes;
    uint64_t write_bytes;
    uint64_t write_us;
    uint64_t write_errors;
    uint64_t settles;
};

int wal_init(struct wal *wal, const struct wal_options *options) __attribute__((warn_unused_result));
void wal_deinit(struct wal *wal);
/* Whoever waits for a batch is told that it will not come. No write is under way. */
void wal_cancel(struct wal *wal);

enum wal_flags {
    WAL_PRIVILEGED = 1, /* may use the last spare segment: for what frees space */
    WAL_TOGETHER = 2,   /* the record gets FORMAT_TOGETHER */
};

/* Appends one record made of parts. *piece says where its payload lies. 0, -EAGAIN (no room now: wal->wanted
 * is set), -ENOSPC, -EIO, -EMSGSIZE. */
int wal_append(struct wal *wal, enum format_type type, uint64_t id, const struct wal_part *parts,
               uint32_t count, unsigned flags, struct format_piece *piece)
    __attribute__((warn_unused_result));

/* Appends content, as much as fits into the page: returns how much, or an error as above. If it could be
 * joined to `piece`, which must be the caller's last one, or a piece of size 0, *piece grows; otherwise
 * *piece is a new one and *is_new is true. */
int64_t wal_append_body(struct wal *wal, uint64_t id, const void *bytes, size_t size, bool privileged,
                        struct format_piece *piece, bool *is_new) __attribute__((warn_unused_result));

/* The next `size` bytes of records will go into one batch. Errors as above. */
int wal_reserve(struct wal *wal, uint32_t size, bool privileged) __attribute__((warn_unused_result));

/* Carves an extent for content of this message, of at most `size` bytes; 0 and *extent, which is the caller's
 * to fill; -ENOBUFS: none now, append instead; or an error as above. */
int wal_extent_begin(struct wal *wal, uint64_t id, size_t size, struct wal_extent **extent)
    __attribute__((warn_unused_result));

/* Where the next byte goes. */
uint8_t *wal_extent_next(const struct wal_extent *extent);

/* `size` bytes at wal_extent_next are content: they go into *piece if `grows`, up to WAL_PIECE_MAX, else
 * *piece becomes a new one. Returns how many of them were taken. */
uint32_t wal_extent_fill(struct wal_extent *extent, uint32_t size, bool grows, struct format_piece *piece);

/* Writes what is in the extent, and calls done() when that is on disk, or failed. Without anything in it: as
 * wal_extent_drop, and false is returned. */
bool wal_extent_close(struct wal_extent *extent, void *owner, void (*done)(void *owner, int error));

/* Gives up an open extent. */
void wal_extent_drop(struct wal_extent *extent);

/* The owner of extents that are being written does not want to hear of them any more. */
void wal_extents_disown(struct wal *wal, const void *owner);

/* Waits for the open batch, which holds what was just appended. */
void wal_await(struct wal *wal, struct wal_waiter *waiter);

/* Records an outcome; never fails: what finds no room is kept and goes as soon as there is some. */
void wal_settle(struct wal *wal, uint64_t id, const struct format_settle *settle);

/* Records an outcome together with the record that was appended last. There must be room: wal_reserve. If its
 * batch fails it is not kept. */
void wal_settle_together(struct wal *wal, uint64_t id, const struct format_settle *settle);

/* No outcome that was recorded earlier is still to be appended; else -EAGAIN. */
int wal_catch_up(struct wal *wal) __attribute__((warn_unused_result));

/* Decides about the write of the open batch; `receiving`: messages that are being received and might join.
 * Returns within how many µs to call again, or UINT64_MAX. */
uint64_t wal_flush(struct wal *wal, uint64_t now_us, uint32_t receiving);

/* True if an append of a draft would find room now. */
bool wal_has_room(struct wal *wal);

bool wal_idle(const struct wal *wal);

/* Content in memory: its bytes, or NULL. The piece must be of a live segment. */
const void *wal_resident(const struct wal *wal, const struct format_piece *piece);
void wal_pin(struct wal *wal, const struct format_piece *piece);
void wal_unpin(struct wal *wal, const struct format_piece *piece);
/* Says that the piece will / will not be needed soon. No effect when it is not in memory. */
void wal_claim(struct wal *wal, const struct format_piece *piece);
void wal_unclaim(struct wal *wal, const struct format_piece *piece);
