/* What the files of the log share: wal.c (room, appending, content in memory), wal_batch.c (writing),
 * wal_commit.c (group commit), wal_extent.c (content received in place). Owner thread.
 */
#pragma once

#include "queue/wal.h"

enum { WAL_SPARE_WANTED = 2 /* prepared segments: one to go on with, one kept for what frees space */ };

/* The batch `index` places behind the oldest one. */
struct wal_batch *wal_batch_at(struct wal *wal, uint32_t index);

static inline uint8_t *wal_batch_bytes(const struct wal_batch *batch)
{
    return batch->page->data + batch->begin;
}

/* Of the records that are appended now. */
static inline uint32_t wal_seed(const struct wal *wal)
{
    return format_seed(wal->segment->sequence, wal->segment->life);
}

/* True when nothing has been appended to the open batch, or there is none. */
bool wal_batch_empty(const struct wal *wal);

/* How many batches are being written. */
uint32_t wal_writing(struct wal *wal);

/* Starts the write of the open batch. */
void wal_batch_submit(struct wal *wal);

/* The last content record of the batch gets its final checksum: it grows no more. */
void wal_body_finish(struct wal *wal);

/* Bytes that the open batch may still take. */
uint32_t wal_batch_space(const struct wal *wal);

/* The next append goes to the next page; the open batch is on its way. */
void wal_page_end(struct wal *wal);

/* Nothing more goes into the current page, or segment. */
void wal_page_leave(struct wal *wal);
void wal_segment_leave(struct wal *wal);

/* Keeps an outcome until there is room for it in the log. */
void wal_unlogged_add(struct wal *wal, uint64_t id, const struct format_settle *settle);
