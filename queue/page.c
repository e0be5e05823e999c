#include "queue/page.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "queue/segment.h"
#include "queue/storage.h"

enum {
    SPARE_MAX = 8,
    THIN_SHARE = 4, /* a page is thin when a quarter of it is left, */
    THIN_MAX = 8,   /* and the next ones to become so are likely to be empty soon */
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
    TAILQ_INIT(&pool->thin);
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

static void drop_all(struct page_pool *pool, struct page_list *pages)
{
    struct page *page;
    while ((page = TAILQ_FIRST(pages))) {
        page->pins = 0;
        page_drop(pool, page);
    }
}

void page_pool_deinit(struct page_pool *pool)
{
    drop_all(pool, &pool->resident);
    drop_all(pool, &pool->thin);
    struct page *page;
    while ((page = TAILQ_FIRST(&pool->spare)))
        slab_free(pool, page->slab);
    assert(pool->count == 0);
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

static bool page_evict(struct page_pool *pool, const struct page_list *pages)
{
    struct page *page;
    TAILQ_FOREACH(page, pages, link)
    {
        if (page->pins == 0) {
            pool->evicted++;
            page_drop(pool, page);
            return true;
        }
    }
    return false;
}

/* Sees to it that there is a spare page, if that can be. */
static void page_find(struct page_pool *pool)
{
    if (pool->thin_count > THIN_MAX && page_evict(pool, &pool->thin))
        return;
    if (pool->count >= pool->limit && (page_evict(pool, &pool->thin) || page_evict(pool, &pool->resident)))
        return;
    if (pool->count < pool->limit)
        slab_new(pool);
}

struct page *page_take(struct page_pool *pool, struct segment *segment, uint32_t index)
{
    assert(!segment->pages[index]);
    if (pool->spare_count == 0)
        page_find(pool);
    struct page *page = spare_take(pool);
    if (!page)
        return NULL;
    page->segment = segment;
    page->index = index;
    page->live = 0;
    page->claims = 0;
    page->pins = 0;
    page->limit = pool->page_size;
    page->open = 0;
    page->current = true;
    page->thin = false;
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

static void leave_list(struct page_pool *pool, struct page *page)
{
    if (page->thin) {
        assert(pool->thin_count > 0);
        pool->thin_count--;
    }
    TAILQ_REMOVE(page->thin ? &pool->thin : &pool->resident, page, link);
    page->thin = false;
}

void page_relax(struct page_pool *pool, struct page *page)
{
    if (page->current)
        return;
    if (page->live == 0 && page->pins == 0) {
        page_drop(pool, page);
        return;
    }
    if (page->thin || page->live == 0 || page->live > page->claims / THIN_SHARE)
        return;
    leave_list(pool, page);
    TAILQ_INSERT_TAIL(&pool->thin, page, link);
    page->thin = true;
    pool->thin_count++;
}

void page_drop(struct page_pool *pool, struct page *page)
{
    assert(!page->current && page->pins == 0);
    assert(page->segment->pages[page->index] == page);
    page->segment->pages[page->index] = NULL;
    page->segment = NULL;
    leave_list(pool, page);
    struct slab *slab = page->slab;
    spare_put(pool, page);
    if ((pool->spare_count > SPARE_MAX || pool->count > pool->limit) && slab->spare == slab->count)
        slab_free(pool, slab);
}
