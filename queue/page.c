#include "queue/page.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "queue/segment.h"
#include "queue/storage.h"

enum {
    SPARE_MAX = 8,
    HUGE = 2 << 20, /* the kernel's large page: a burst that stays in memory would else cost a fault for each
                       4 KiB */
};

/* Pages that were allocated together, and so leave memory together. */
struct slab {
    uint8_t *bytes;
    uint32_t count;
    uint32_t spare; /* in pool.spare */
    struct page pages[];
};

void page_pool_init(struct page_pool *pool, uint32_t page_size, uint64_t limit)
{
    assert(page_size % STORAGE_BLOCK == 0);
    *pool = (struct page_pool){.page_size = page_size, .limit = limit};
    TAILQ_INIT(&pool->resident);
    TAILQ_INIT(&pool->spare);
}

static void spare_put(struct page_pool *pool, struct page *page)
{
    TAILQ_INSERT_HEAD(&pool->spare, page, link);
    pool->spare_count++;
    page->slab->spare++;
    assert(page->slab->spare <= page->slab->count);
}

static struct page *spare_take(struct page_pool *pool)
{
    struct page *page = TAILQ_FIRST(&pool->spare);
    if (!page)
        return NULL;
    TAILQ_REMOVE(&pool->spare, page, link);
    pool->spare_count--;
    page->slab->spare--;
    return page;
}

/* All of its pages are spare. */
static void slab_free(struct page_pool *pool, struct slab *slab)
{
    assert(slab->spare == slab->count && pool->count >= slab->count);
    for (uint32_t i = 0; i < slab->count; i++)
        TAILQ_REMOVE(&pool->spare, &slab->pages[i], link);
    pool->spare_count -= slab->count;
    pool->count -= slab->count;
    free(slab->bytes);
    free(slab);
}

void page_pool_deinit(struct page_pool *pool)
{
    struct page *page;
    while ((page = TAILQ_FIRST(&pool->spare)))
        slab_free(pool, page->slab);
    assert(TAILQ_EMPTY(&pool->resident));
}

void page_pool_limit(struct page_pool *pool, uint64_t limit)
{
    pool->limit = limit;
}

/* Makes spare pages: as many as a large page of the kernel's holds, if the limit has room for them. */
static void slab_new(struct page_pool *pool)
{
    uint32_t count = pool->page_size < HUGE && pool->page_size >= HUGE / 2 ? HUGE / pool->page_size : 1;
    if (pool->count + count > pool->limit)
        count = 1;
    struct slab *slab = calloc(1, sizeof(*slab) + count * sizeof(slab->pages[0]));
    if (!slab)
        return;
    size_t size = (size_t)count * pool->page_size;
    slab->bytes = aligned_alloc(count > 1 ? HUGE : STORAGE_BLOCK, size);
    if (!slab->bytes) {
        free(slab);
        return;
    }
    if (size % HUGE == 0)
        (void)madvise(slab->bytes, size, MADV_HUGEPAGE); /* where there are none, small ones do */
    slab->count = count;
    for (uint32_t i = 0; i < count; i++) {
        slab->pages[i] = (struct page){.slab = slab, .data = slab->bytes + (size_t)i * pool->page_size};
        spare_put(pool, &slab->pages[i]);
    }
    pool->count += count;
}

static bool page_evict(struct page_pool *pool)
{
    struct page *page;
    TAILQ_FOREACH(page, &pool->resident, link)
    {
        if (page->pins == 0) {
            pool->evicted++;
            page_drop(pool, page);
            return true;
        }
    }
    return false;
}

struct page *page_take(struct page_pool *pool, struct segment *segment, uint32_t index)
{
    assert(!segment->pages[index]);
    if (pool->spare_count == 0 && pool->count >= pool->limit)
        page_evict(pool);
    if (pool->spare_count == 0 && pool->count < pool->limit)
        slab_new(pool);
    struct page *page = spare_take(pool);
    if (!page)
        return NULL;
    page->segment = segment;
    page->index = index;
    page->live = 0;
    page->pins = 0;
    page->limit = pool->page_size;
    page->open = 0;
    page->current = true;
    segment->pages[index] = page;
    return page;
}

void page_seal(struct page_pool *pool, struct page *page)
{
    assert(page->current);
    page->current = false;
    TAILQ_INSERT_TAIL(&pool->resident, page, link);
    page_relax(pool, page);
}

void page_relax(struct page_pool *pool, struct page *page)
{
    if (!page->current && page->live == 0 && page->pins == 0)
        page_drop(pool, page);
}

void page_drop(struct page_pool *pool, struct page *page)
{
    assert(!page->current && page->pins == 0);
    assert(page->segment->pages[page->index] == page);
    page->segment->pages[page->index] = NULL;
    page->segment = NULL;
    TAILQ_REMOVE(&pool->resident, page, link);
    struct slab *slab = page->slab;
    spare_put(pool, page);
    if ((pool->spare_count > SPARE_MAX || pool->count > pool->limit) && slab->spare == slab->count)
        slab_free(pool, slab);
}
