#include <string.h>

#include "cmocka_base.h"
#include "gateway/base/counters.h"
#include "gateway/base/pool.h"

static void blocks_are_powers_of_two_and_aligned(void **state)
{
    assert_int_equal(pool_block_size(1), 64);
    assert_int_equal(pool_block_size(64), 64);
    assert_int_equal(pool_block_size(65), 128);
    assert_int_equal(pool_block_size(POOL_BLOCK_SIZE_MAX), POOL_BLOCK_SIZE_MAX);
    assert_int_equal(pool_block_size(POOL_BLOCK_SIZE_MAX + 1), POOL_BLOCK_SIZE_MAX + 64);

    struct pool pool;
    pool_init(&pool, NULL, SIZE_MAX);
    for (size_t size = 1; size <= POOL_BLOCK_SIZE_MAX; size = size * 2 + 1) {
        char *block = pool_alloc(&pool, size);
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % 64, 0);
        memset(block, 0xa5, pool_block_size(size));
        pool_free(&pool, block, size);
    }
    pool_deinit(&pool);
}

static void steady_traffic_never_calls_malloc(void **state)
{
    enum { BLOCKS = 100 };
    static struct counters counters;
    struct pool pool;
    counters_init(&counters);
    pool_init(&pool, &counters, SIZE_MAX);
    void *blocks[BLOCKS];
    for (unsigned round = 0; round < 100; round++) {
        for (size_t index = 0; index < BLOCKS; index++) {
            blocks[index] = pool_alloc(&pool, index * 700 + 1);
            assert_non_null(blocks[index]);
        }
        for (size_t index = 0; index < BLOCKS; index++)
            pool_free(&pool, blocks[index], index * 700 + 1);
        assert_int_equal(pool.heap_allocations, BLOCKS);
    }
    assert_int_equal(counter_get(&counters, COUNTER_heap_allocations), BLOCKS);
    assert_int_equal(pool.used_bytes, 0);
    pool_deinit(&pool);
}

static void more_than_the_limit_is_not_kept(void **state)
{
    struct pool pool;
    pool_init(&pool, NULL, 1000);
    void *first = pool_alloc(&pool, 512);
    void *second = pool_alloc(&pool, 512);
    void *large = pool_alloc(&pool, 2 << 20);
    pool_free(&pool, first, 512);
    pool_free(&pool, second, 512);
    pool_free(&pool, large, 2 << 20);
    assert_int_equal(pool.kept_bytes, 512);
    assert_int_equal(pool.heap_allocations, 3);
    pool_free(&pool, NULL, 512);
    pool_deinit(&pool);
}

static void deinit_of_a_zeroed_pool_is_harmless(void **state)
{
    struct pool pool = {0};
    pool_deinit(&pool);
    assert_int_equal(pool.kept_bytes, 0);
}

static void counters_add_up_over_workers(void **state)
{
    static struct counters workers[3];
    uint64_t sums[COUNTER_COUNT] = {0};
    for (size_t index = 0; index < 3; index++) {
        counters_init(&workers[index]);
        COUNTER_ADD(&workers[index], messages_accepted, index + 1);
        COUNTER_ADD(&workers[index], connections_open, 2);
        COUNTER_SUB(&workers[index], connections_open, 1);
        counters_sum(sums, &workers[index]);
    }
    assert_int_equal(sums[COUNTER_messages_accepted], 6);
    assert_int_equal(sums[COUNTER_connections_open], 3);
    assert_int_equal(sums[COUNTER_expired], 0);
    assert_string_equal(counter_name(COUNTER_log_write_us), "log_write_us");
    for (int counter = 0; counter < COUNTER_COUNT; counter++)
        assert_true(strlen(counter_help((enum counter)counter)) > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_powers_of_two_and_aligned),
        cmocka_unit_test(steady_traffic_never_calls_malloc),
        cmocka_unit_test(more_than_the_limit_is_not_kept),
        cmocka_unit_test(deinit_of_a_zeroed_pool_is_harmless),
        cmocka_unit_test(counters_add_up_over_workers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
