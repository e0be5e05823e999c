/* Pages: the log's memory. A page holds one aligned part of a segment, from when its first byte is appended
 * until nobody needs it in memory. It is the buffer that is written to disk and the one that content is sent
 * from.
 *
 * `live` counts what is likely to be sent soon (content and envelopes of messages never yet attempted): a
 * page without any goes at once. `pins` count what must not move: a write under way, a delivery that is out,
 * an extent that is being filled.
 * A page without pins may be evicted when memory is short, live or not: its content can be read back. And
 * before memory is taken that the program did not have yet, a page goes of which most was sent and the rest
 * has stayed for long: a destination that does not answer would else leave its few messages in every page,
 * and all other mail would have to go through memory that no cache has seen. Owner thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct segment;

struct slab;

struct page {
    struct slab *slab;      /* what it was allocated with */
    TAILQ_ENTRY(page) link; /* in one of the pool's lists, or in none while it is being appended to */
    uint8_t *data;
    struct segment *segment;
    uint32_t index; /* in the segment */
    uint32_t live;
    uint32_t claims; /* how often `live` was raised: it falls while the page still grows */
    uint32_t pins;
    uint32_t limit; /* batches end before this offset: what follows are extents (queue/wal.h) */
    uint32_t open;  /* extents in it that are not filled yet */
    bool current;   /* being appended to */
    bool thin;      /* in the pool's list of those */
};

TAILQ_HEAD(page_list, page);

struct page_pool {
    struct page_list resident; /* sealed, by age */
    struct page_list thin; /* sealed, and most of what was live in them is not any more; by when that came */
    struct page_list spare;
    uint32_t page_size;
    uint32_t thin_count;
    uint32_t spare_count;
    uint64_t count; /* in memory, spare ones included */
    uint64_t limit;
    uint64_t evicted;
};

void page_pool_init(struct page_pool *pool, uint32_t page_size, uint64_t limit);
/* Drops all pages, pinned or not; none is current, and their segments are still there. */
void page_pool_deinit(struct page_pool *pool);

/* How many pages there may be from now on. */
void page_pool_limit(struct page_pool *pool, uint64_t limit);

/* A page for part `index` of the segment, current. Rather than take new memory it evicts a page that has been
 * thin for long; at the limit, any that nobody pins, the oldest. NULL: all are pinned, or the system has no
 * memory. */
struct page *page_take(struct page_pool *pool, struct segment *segment, uint32_t index);

/* The page is full: from now on it goes when it is not needed. */
void page_seal(struct page_pool *pool, struct page *page);

/* Call after `live` or `pins` went down. The page may be gone afterwards. */
void page_relax(struct page_pool *pool, struct page *page);

/* Takes the page out of memory, whatever it holds. Not pinned, not current. */
void page_drop(struct page_pool *pool, struct page *page);
