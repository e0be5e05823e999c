/* The spool: queue/storage.h on real files, with a worker's io_uring.
 *
 * One shard's slots are the files DATA_DIR/shard-NNN/NNNNNN.segment. They are written with O_DIRECT and
 * O_DSYNC, so that a completed write is on disk; where a file system refuses direct I/O, writes are followed
 * by fdatasync. Slots are filled with zeros before their first use, so that a later write changes no
 * metadata.
 *
 * Threads: the owner's, but for spool_read, which any worker calls with its own loop for a slot that a live
 * message of the shard lies in.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "gateway/net/loop.h"
#include "queue/storage.h"

enum { SPOOL_SLOTS_MAX = 1 << 16 };

struct spool_limits {
    uint64_t min_free_bytes;   /* of the file system; below it no slot is prepared */
    uint32_t min_free_percent; /* the same as a share of its size */
};

struct spool {
    struct storage storage; /* first: the storage is the spool */
    struct loop *loop;
    struct spool_limits limits;
    int directory;
    bool direct; /* O_DIRECT works here */
    int *fds;    /* by slot; -1: none */
};

/* Opens, and makes if missing, the folder of a shard. 0 or a negative errno. The loop is set by spool_attach
 * before the first asynchronous call. */
int spool_init(struct spool *spool, const char *data_dir, uint32_t shard, uint64_t segment_size,
               const struct spool_limits *limits) __attribute__((warn_unused_result));
void spool_deinit(struct spool *spool);
void spool_attach(struct spool *spool, struct loop *loop);

/* storage.read on behalf of another worker: completes on `loop`. */
void spool_read(struct spool *spool, struct loop *loop, struct storage_op *op, uint32_t slot, uint64_t offset,
                void *buffer, size_t size);

/* How many shards DATA_DIR holds: one more than the highest number. Negative errno. */
int spool_count_shards(const char *data_dir);
