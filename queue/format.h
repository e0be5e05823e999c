/* The log's format on disk, version 2. The prose is in queue/README.md; every integer is little-endian. */
#pragma once

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "queue/storage.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the log is written as it lies in memory");

enum {
    FORMAT_MAGIC = 0x31424c53, /* "SLB1" */
    FORMAT_VERSION = 2,
    FORMAT_VERSION_OLDEST = 1, /* that is still read: without marks and FORMAT_TOGETHER */
    FORMAT_ALIGN = 8,          /* of records */
};

/* Opens every batch. A batch is what one write made durable; it begins on a block, ends within its page, and
 * is padded with zeros to the next block. */
struct format_batch {
    uint32_t magic;
    uint32_t crc;      /* CRC32C of the rest of this header */
    uint64_t log;      /* identity of the log: a number drawn when it was made */
    uint64_t number;   /* counts up by one within a segment */
    uint64_t durable;  /* every batch up to this number was on disk when this one was written */
    uint64_t previous; /* number of the last good batch of the segment before */
    uint32_t segment;  /* sequence of the segment */
    uint32_t tail;     /* segments before this one hold nothing that is still needed */
    uint32_t size;     /* bytes used, with this header, without padding */
    uint16_t version;
    uint16_t shard;
    uint32_t page_size; /* of the writer: no record crosses a multiple of it */
    uint32_t life;      /* drawn at each start: the same in all batches of a segment */
};
_Static_assert(sizeof(struct format_batch) == 64, "batch header");

enum format_type {
    FORMAT_BODY = 1,   /* content of a message */
    FORMAT_COMMIT = 2, /* struct format_commit, pieces, meta, recipients */
    FORMAT_SETTLE = 3, /* struct format_settle, with or without its last field */
};

enum {
    /* The record belongs to the one right before it. Only matters where damaged batches are salvaged: an
     * outcome does not count without the messages that were queued because of it. */
    FORMAT_TOGETHER = 1,
};

struct format_record {
    uint32_t header_crc;  /* CRC32C of the rest of this header, begun with format_seed */
    uint32_t payload_crc; /* CRC32C of the payload */
    uint32_t size;        /* of the payload; the next record begins at the next multiple of FORMAT_ALIGN */
    uint8_t type;
    uint8_t flags;
    uint8_t reserved[2];
    uint64_t id; /* of the message */
};
_Static_assert(sizeof(struct format_record) == 24, "record header");

/* Where a run of content lies. */
struct format_piece {
    uint32_t segment; /* sequence */
    uint32_t offset;  /* of the first content byte in the segment */
    uint32_t size;
    uint32_t crc; /* CRC32C of the content */
};
_Static_assert(sizeof(struct format_piece) == 16, "piece");

struct format_commit {
    int64_t arrival_ms;
    uint64_t content_size;
    uint32_t piece_count;
    uint32_t meta_size;
    uint32_t recipients_size;
    uint32_t recipient_count;
};
_Static_assert(sizeof(struct format_commit) == 32, "commit");

/* What became of `count` recipients, at most 64, that share a lane key, counted from `first`. */
struct format_settle {
    uint64_t done;  /* bit n: recipient first+n is not to be served any more */
    int64_t due_ms; /* those still in the queue: not before this */
    uint32_t first;
    uint16_t count;
    uint16_t attempt; /* attempts made for these */
    uint64_t marked;  /* bit n: of recipient first+n; if that is done, it is still owed (QUEUE_OWED), else it
                         has  left the queue; left out when there is none */
};
_Static_assert(sizeof(struct format_settle) == 32, "settle");

enum { FORMAT_SETTLE_BARE = 24, FORMAT_SETTLE_RECIPIENTS = 64 };
_Static_assert(offsetof(struct format_settle, marked) == FORMAT_SETTLE_BARE, "settle without marks");

/* Before each recipient: address and lane key follow, in this order. */
struct format_recipient {
    uint16_t address_size;
    uint16_t key_size;
};
_Static_assert(sizeof(struct format_recipient) == 4, "recipient");

static inline uint64_t format_align(uint64_t value, uint64_t to)
{
    assert((to & (to - 1)) == 0);
    return (value + to - 1) & ~(to - 1);
}

/* What ties a record to its segment: one of the slot's former life does not check. */
static inline uint32_t format_seed(uint32_t segment, uint32_t life)
{
    return segment ^ life * UINT32_C(0x9e3779b1);
}

static inline uint32_t format_record_size(uint32_t payload)
{
    return (uint32_t)format_align(sizeof(struct format_record) + payload, FORMAT_ALIGN);
}

/* Bytes of the outcome's payload. */
static inline uint32_t format_settle_size(const struct format_settle *settle)
{
    return settle->marked ? sizeof(*settle) : FORMAT_SETTLE_BARE;
}

/* Reads an outcome's payload. False: it is none. */
bool format_settle_read(const struct format_record *record, struct format_settle *settle);

/* Checksums of headers; `seed` is the segment's format_seed. */
uint32_t format_batch_crc(const struct format_batch *batch);
uint32_t format_record_crc(const struct format_record *record, uint32_t seed);

/* Checks of what was read back: a batch's header; a record, of which `space` bytes are there, with its
 * payload. */
bool format_batch_check(const struct format_batch *batch);
bool format_record_check(const struct format_record *record, uint32_t space, uint32_t seed);
