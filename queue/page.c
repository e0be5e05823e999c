#include "queue/page.h"

#include <assert.h>
#include <stdlib.h>

#include "queue/segment.h"
#include "queue/storage.h"

enum { SPARE_MAX = 8 };

void page_pool_init(struct page_pool *pool, uint32_t page_size, uint64_t limit)
{
    assert(page_size % STORAGE_BLOCK == 0);
    *pool = (struct page_pool){.page_size = page_size, .limit = limit};
    TAILQ_INIT(&pool->resident);
    TAILQ_INIT(&pool->spare);
}

static void page_free(struct page_pool *pool, struct page *page)
{
    assert(pool->count > 0);
    pool->count--;
    free(page->data);
    free(page);
}

void page_pool_deinit(struct page_pool *pool)
{
    struct page *page;
    while ((page = TAILQ_FIRST(&pool->spare))) {
        TAILQ_REMOVE(&pool->spare, page, link);
        page_free(pool, page);
    }
    assert(TAILQ_EMPTY(&pool->resident));
}

void page_pool_limit(struct page_pool *pool, uint64_t limit)
{
    pool->limit = limit;
}

static struct page *page_new(struct page_pool *pool)
{
    struct page *page = calloc(1, sizeof(*page));
    if (!page)
        return NULL;
    page->data = aligned_alloc(STORAGE_BLOCK, pool->page_size);
    if (!page->data) {
        free(page);
        return NULL;
    }
    pool->count++;
    return page;
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
    struct page *page = TAILQ_FIRST(&pool->spare);
    if (page) {
        TAILQ_REMOVE(&pool->spare, page, link);
        pool->spare_count--;
    } else if (pool->count < pool->limit) {
        page = page_new(pool);
    }
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
    if (pool->spare_count < SPARE_MAX && pool->count <= pool->limit) {
        TAILQ_INSERT_HEAD(&pool->spare, page, link);
        pool->spare_count++;
    } else {
        page_free(pool, page);
    }
}
