/* Storage: the one interface between the log and a disk. The gateway implements it with io_uring on real
 * files, the simulator with memory that tears, loses and flips what it was given.
 *
 * A store is a set of numbered slots; each prepared slot holds one segment of `segment_size` bytes. All calls
 * come from the shard's owner thread, but for read(), which any worker may call on a storage of its own over
 * the same slots. Offsets, sizes and buffers of read and write are multiples of STORAGE_BLOCK.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STORAGE_BLOCK = 4096 };

/* An operation under way. The caller owns it and keeps it and the buffer until done() was called. done() is
 * never called from within the call that started the operation. `result` is 0 or a negative errno. */
struct storage_op {
    void (*done)(struct storage_op *op, int32_t result);
    uint64_t impl[12]; /* the implementation's own */
};

struct storage;

struct storage_methods {
    /* Before the first write: fills `slots` with the numbers of the slots that exist, at most `max`; returns
     * how many there are, or a negative errno. Synchronous. */
    int (*list)(struct storage *storage, uint32_t *slots, uint32_t max);

    /* Reads for recovery, synchronously: returns the bytes read (fewer at the slot's end) or a negative
     * errno. */
    int64_t (*load)(struct storage *storage, uint32_t slot, uint64_t offset, void *buffer, size_t size);

    /* Makes a slot of segment_size bytes whose blocks are allocated, so that a write to it can neither fail
     * for lack of space nor change the file system's metadata. Durable, with its name, when done. -ENOSPC
     * when the disk, or the share of it that may be used, is full. */
    void (*prepare)(struct storage *storage, struct storage_op *op, uint32_t slot);

    /* Writes; when done with 0 the bytes survive a power cut. After an error what the blocks hold is
     * undefined. With `durable` false the bytes may be lost; the log always asks for durable. */
    void (*write)(struct storage *storage, struct storage_op *op, uint32_t slot, uint64_t offset,
                  const void *buffer, size_t size, bool durable);

    void (*read)(struct storage *storage, struct storage_op *op, uint32_t slot, uint64_t offset, void *buffer,
                 size_t size);

    /* Gives a slot's space back. Returns 0 or a negative errno. */
    int (*discard)(struct storage *storage, uint32_t slot);
};

struct storage {
    const struct storage_methods *methods;
    uint64_t segment_size; /* bytes of each slot; a multiple of the queue's page size */
};
