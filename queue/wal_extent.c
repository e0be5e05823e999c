/* Extents: content that is received where it stays.
 *
 *     page   ┌────────┬────────┬─ ─ ─ ─ ─ ─ ┬──────────┬────────────────┐
 *            │ batch  │ batch ▶│            │ extent 2 │ extent 1       │
 *            └────────┴────────┴─ ─ ─ ─ ─ ─ ┴──────────┴────────────────┘
 *                                         limit
 *
 * Batches grow from the front and extents from the end, so neither waits for the other: a batch may be sealed
 * and written at any time while an extent behind it is still being filled. The reader of the log goes from
 * the last batch before the limit to the one at the next page's beginning, as it does over any unused rest.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "queue/crc32c.h"
#include "queue/wal_inner.h"

enum {
    SHARE_OF_PAGE = 4,        /* the largest extent is so much of a page */
    LEAST_SHARE_OF_PAGE = 16, /* a rest of the page that is smaller is not worth a write of its own */
    SHARE_OF_PAGES = 4,       /* so much of all memory may be held by open extents */
    RETRY_US = 1000000,
};

static struct wal_extent *extent_find_free(struct wal *wal)
{
    for (uint32_t i = 0; i < WAL_EXTENTS; i++)
        if (!wal->extents[i].page)
            return &wal->extents[i];
    return NULL;
}

/* Whole blocks between the open batch, which keeps some room to grow, and the page's limit. */
static uint32_t page_room(const struct wal *wal)
{
    uint32_t taken = wal->batch->begin + wal->batch->used + WAL_ROOM_MIN;
    uint32_t low = (uint32_t)format_align(taken, STORAGE_BLOCK);
    return wal->page->limit > low ? wal->page->limit - low : 0;
}

/* Content that comes slowly must not keep all memory from those who are quick. */
static bool may_open(const struct wal *wal, bool in_this_page)
{
    uint64_t most = wal->pages.limit / SHARE_OF_PAGES;
    return (in_this_page && wal->page->open > 0) || wal->pages_open < (most > 0 ? most : 1);
}

/* A page without a batch at its beginning would be a gap to the reader of the log. */
static void page_ensure_batch(struct wal *wal, uint64_t id)
{
    if (wal->batch->begin > 0 || !wal_batch_empty(wal))
        return;
    struct format_piece nothing;
    int error = wal_append(wal, FORMAT_BODY, id, NULL, 0, 0, &nothing);
    assert(!error); /* there is room */
}

static void extent_open(struct wal *wal, struct wal_extent *extent, uint32_t size)
{
    struct page *page = wal->page;
    assert(size > 0 && size % STORAGE_BLOCK == 0 && page->limit % STORAGE_BLOCK == 0);
    page->limit -= size;
    *extent = (struct wal_extent){.wal = wal, .page = page, .begin = page->limit, .size = size};
    page->pins++;
    wal->pages_open += page->open++ == 0;
    assert(wal->batch->begin + wal->batch->used <= page->limit);
}

int wal_extent_begin(struct wal *wal, uint64_t id, size_t size, struct wal_extent **extent)
{
    assert(size > 0);
    struct wal_extent *opened = extent_find_free(wal);
    if (!opened)
        return -ENOBUFS;
    int error = wal_reserve(wal, WAL_ROOM_MIN, false);
    if (error)
        return error;
    uint32_t most = wal->pages.page_size / SHARE_OF_PAGE;
    most = most < WAL_EXTENT_MAX ? most : WAL_EXTENT_MAX;
    uint32_t wanted = (uint32_t)format_align(size < most ? size : most, STORAGE_BLOCK);
    uint32_t least = wal->pages.page_size / LEAST_SHARE_OF_PAGE;
    bool fits = page_room(wal) >= (wanted < least ? wanted : least) && page_room(wal) > 0;
    if (!may_open(wal, fits))
        return -ENOBUFS;
    if (!fits) {
        wal_page_end(wal);
        error = wal_reserve(wal, WAL_ROOM_MIN, false);
        if (error)
            return error;
    }
    page_ensure_batch(wal, id);
    uint32_t room = page_room(wal);
    extent_open(wal, opened, wanted < room ? wanted : room);
    *extent = opened;
    return 0;
}

uint8_t *wal_extent_next(const struct wal_extent *extent)
{
    return extent->page->data + extent->begin + extent->used;
}

uint32_t wal_extent_fill(struct wal_extent *extent, uint32_t size, bool grows, struct format_piece *piece)
{
    assert(!extent->writing && size > 0 && size <= extent->size - extent->used);
    uint32_t offset = extent->page->index * extent->wal->pages.page_size + extent->begin + extent->used;
    if (!grows || piece->size == WAL_PIECE_MAX)
        *piece = (struct format_piece){.segment = extent->page->segment->sequence, .offset = offset};
    assert(piece->offset + piece->size == offset && piece->segment == extent->page->segment->sequence);
    uint32_t taken = WAL_PIECE_MAX - piece->size < size ? WAL_PIECE_MAX - piece->size : size;
    piece->crc = crc32c(piece->crc, wal_extent_next(extent), taken);
    piece->size += taken;
    extent->used += taken;
    return taken;
}

/* The place in the table is free again; the page may be gone afterwards. */
static void extent_free(struct wal_extent *extent)
{
    struct page *page = extent->page;
    extent->page = NULL;
    page->pins--;
    page_relax(&extent->wal->pages, page);
}

static void extent_not_open(struct wal_extent *extent)
{
    assert(extent->page->open > 0 && !extent->writing);
    extent->wal->pages_open -= --extent->page->open == 0;
}

void wal_extent_drop(struct wal_extent *extent)
{
    struct page *page = extent->page;
    extent_not_open(extent);
    if (page->current && page->limit == extent->begin)
        page->limit += extent->size;
    extent_free(extent);
}

static void extent_written(struct storage_op *op, int32_t result)
{
    struct wal_extent *extent = (struct wal_extent *)(void *)((char *)op - offsetof(struct wal_extent, op));
    struct wal *wal = extent->wal;
    assert(extent->writing && wal->extents_writing > 0);
    wal->extents_writing--;
    wal->writes++;
    wal->write_us += wal->now_us > extent->submitted_us ? wal->now_us - extent->submitted_us : 0;
    if (result < 0) {
        /* No batch is missing, so the log may go on in this segment; only its slot is not used again. */
        extent->page->segment->bad = true;
        wal->write_errors++;
        wal->error = result;
        wal->retry_us = wal->now_us + RETRY_US;
    }
    void (*done)(void *owner, int error) = extent->done;
    void *owner = extent->owner;
    extent_free(extent);
    if (owner)
        done(owner, result);
}

bool wal_extent_close(struct wal_extent *extent, void *owner, void (*done)(void *owner, int error))
{
    if (extent->used == 0) {
        wal_extent_drop(extent);
        return false;
    }
    struct wal *wal = extent->wal;
    struct page *page = extent->page;
    extent_not_open(extent);
    uint32_t padded = (uint32_t)format_align(extent->used, STORAGE_BLOCK);
    memset(wal_extent_next(extent), 0, padded - extent->used);
    extent->owner = owner;
    extent->done = done;
    extent->writing = true;
    extent->submitted_us = wal->now_us;
    extent->op.done = extent_written;
    wal->extents_writing++;
    wal->write_bytes += padded;
    uint64_t offset = (uint64_t)page->index * wal->pages.page_size + extent->begin;
    wal->storage->methods->write(wal->storage, &extent->op, page->segment->slot, offset,
                                 page->data + extent->begin, padded, true);
    return true;
}

void wal_extents_disown(struct wal *wal, const void *owner)
{
    for (uint32_t i = 0; i < WAL_EXTENTS; i++)
        if (wal->extents[i].page && wal->extents[i].owner == owner)
            wal->extents[i].owner = NULL;
}
