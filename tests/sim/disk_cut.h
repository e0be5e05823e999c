/* What reaches the plates: the whole of a write, some sectors of it, or something else altogether. Inner
 * header of the disk. */
#pragma once

#include "tests/sim/disk.h"

/* Makes slot `number` exist with at least `size` bytes; new ones are zero. */
void disk_slot_make(struct disk *disk, uint32_t number, uint64_t size);

/* The write is complete. */
void disk_apply(struct disk *disk, const struct disk_pending *pending);

/* The write was cut short: each sector is old or new, and one may be neither. */
void disk_tear(struct disk *disk, const struct disk_pending *pending);

void disk_volatiles_free(struct disk *disk);
