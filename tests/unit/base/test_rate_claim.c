/*
 * The rate table under every kind of interleaving: threads are played by coroutines that may change places at
 * each access to an atomic, in an order drawn from a seed. So a failure comes back when its seed does. Weaker
 * orders of memory are not seen here; ThreadSanitizer and the threads of test_rate_table.c look for those.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

#include "cmocka_base.h"

/* Somebody else may run here. */
static void step(void);

static uint64_t step_load(const _Atomic uint64_t *object)
{
    step();
    return atomic_load(object);
}

static void step_store(_Atomic uint64_t *object, uint64_t value)
{
    step();
    atomic_store(object, value);
}

static bool step_swap(_Atomic uint64_t *object, uint64_t *expected, uint64_t desired)
{
    step();
    return atomic_compare_exchange_strong(object, expected, desired);
}

/* The code below is compiled once more, with these in the place of the real ones. */
#undef atomic_load
#undef atomic_load_explicit
#undef atomic_store
#undef atomic_store_explicit
#undef atomic_compare_exchange_strong
#undef atomic_compare_exchange_weak_explicit
#define atomic_load(object)                                       step_load(object)
#define atomic_load_explicit(object, order)                       step_load(object)
#define atomic_store(object, value)                               step_store(object, value)
#define atomic_store_explicit(object, value, order)               step_store(object, value)
#define atomic_compare_exchange_strong(object, expected, desired) step_swap(object, expected, desired)
#define atomic_compare_exchange_weak_explicit(object, expected, desired, success, failure)                   \
    step_swap(object, expected, desired)

#include "gateway/base/rate_table.c"

enum {
    ACTORS = 3,
    OPERATIONS = 3,
    STACK_SIZE = 1 << 16,
    SCHEDULES = 10000,
    NOW_MS = 10000000,
    KEYS = 3,       /* 1 and 2 are entered, 3 is only added to */
    OLD_KEYS = 100, /* what is in the bucket before */
};

struct actor {
    ucontext_t context;
    char stack[STACK_SIZE] __attribute__((aligned(64)));
    bool is_done;
};

static struct actor actors[ACTORS];
static ucontext_t scheduler;
static struct actor *running; /* NULL: the test itself, which nobody interrupts */
static struct rate_table *table;
static uint32_t open_counts[KEYS + 1];
static uint32_t added;
static uint64_t random_state;

static uint32_t draw(uint32_t below)
{
    random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)((random_state >> 33) % below);
}

static void step(void)
{
    if (running != NULL && draw(3) == 0)
        swapcontext(&running->context, &scheduler);
}

static void operate(uint32_t *entered)
{
    uint64_t key = 1 + draw(2);
    switch (draw(4)) {
    case 0:
        added++;
        rate_add(table, 3, RATE_ERRORS, 1, NOW_MS);
        return;
    case 1:
        for (uint64_t mine = 1; mine <= 2; mine++) {
            for (; entered[mine] > 0; entered[mine]--, open_counts[mine]--)
                rate_leave(table, mine);
        }
        return;
    default:
        if (rate_enter(table, key, NOW_MS) > 0) {
            entered[key]++;
            open_counts[key]++;
        }
    }
}

static void act(void)
{
    uint32_t entered[KEYS] = {0};
    struct actor *self = running;
    for (unsigned operation = 0; operation < OPERATIONS; operation++)
        operate(entered);
    self->is_done = true;
    swapcontext(&self->context, &scheduler);
}

/* A bucket with `pinned` entries that are open; the rest is free, or used at different times. */
static void set_up(uint32_t pinned)
{
    struct bucket *bucket = table->buckets;
    memset(bucket, 0, sizeof(*bucket));
    memset(open_counts, 0, sizeof(open_counts));
    added = 0;
    for (uint32_t way = 0; way < RATE_BUCKET_ENTRIES; way++) {
        uint32_t place = (way + pinned) % RATE_BUCKET_ENTRIES;
        bool is_pinned = way < pinned;
        uint32_t used = used_time(NOW_MS) - draw(8);
        enum rate_status status = is_pinned || draw(2) == 0 ? RATE_COMMITTED : RATE_FREE;
        bucket->keys[place] = OLD_KEYS + way;
        bucket->entries[place].state = state_pack(status, is_pinned, used, 0);
    }
    for (unsigned index = 0; index < ACTORS; index++) {
        actors[index].is_done = false;
        getcontext(&actors[index].context);
        actors[index].context.uc_stack = (stack_t){.ss_sp = actors[index].stack, .ss_size = STACK_SIZE};
        makecontext(&actors[index].context, act, 0);
    }
}

static bool has_one_entry_each(void)
{
    for (uint64_t key = 1; key <= KEYS; key++) {
        unsigned count = 0;
        for (unsigned way = 0; way < RATE_BUCKET_ENTRIES; way++)
            count += state_for_key(table->buckets, way, key) != 0 &&
                     state_status(table->buckets->entries[way].state) == RATE_COMMITTED;
        if (count > 1)
            return false;
    }
    return true;
}

/* Runs the actors to their ends; false as soon as a key has two entries. */
static bool run_schedule(void)
{
    unsigned left = ACTORS;
    while (left > 0) {
        struct actor *actor = &actors[draw(ACTORS)];
        if (actor->is_done)
            continue;
        running = actor;
        swapcontext(&scheduler, &actor->context);
        running = NULL;
        left -= actor->is_done;
        if (!has_one_entry_each())
            return false;
    }
    return true;
}

static void check_end(uint64_t seed, uint32_t pinned, uint64_t overflows)
{
    bool is_good = true;
    for (uint64_t key = 1; key <= KEYS; key++)
        is_good = is_good && rate_open(table, key) == open_counts[key];
    for (uint32_t way = 0; way < pinned; way++)
        is_good = is_good && rate_open(table, OLD_KEYS + way) == 1;
    for (unsigned way = 0; way < RATE_BUCKET_ENTRIES; way++) {
        enum rate_status status = state_status(table->buckets->entries[way].state);
        is_good = is_good && (status == RATE_FREE || status == RATE_COMMITTED);
    }
    /* What was added to one key never shows at another. */
    is_good = is_good && rate_get(table, 1, RATE_ERRORS, NOW_MS) == 0;
    is_good = is_good && rate_get(table, 2, RATE_ERRORS, NOW_MS) == 0;
    is_good = is_good && rate_get(table, 3, RATE_ERRORS, NOW_MS) <= added;
    /* Three keys and three claims at once find room. */
    is_good = is_good && (overflows == 0 || pinned > RATE_BUCKET_ENTRIES - KEYS - ACTORS);
    if (!is_good)
        fail_msg("seed %llu: wrong at the end", (unsigned long long)seed);
}

static void every_interleaving_keeps_one_entry_a_key(void **state)
{
    uint64_t overflows = 0;
    assert_int_equal(rate_table_new(RATE_BUCKET_ENTRIES, 1, &table), 0);
    for (uint64_t seed = 1; seed <= SCHEDULES; seed++) {
        random_state = seed * 0x9e3779b97f4a7c15ULL;
        uint32_t pinned = draw(RATE_BUCKET_ENTRIES);
        set_up(pinned);
        uint64_t before = rate_table_overflows(table);
        if (!run_schedule())
            fail_msg("seed %llu: a key has two entries", (unsigned long long)seed);
        overflows += rate_table_overflows(table) - before;
        check_end(seed, pinned, rate_table_overflows(table) - before);
    }
    /* The schedules went where it hurts. */
    assert_true(overflows > 0);
    assert_true(rate_table_evictions(table) > SCHEDULES / 10);
    rate_table_free(table);
}

int main(void)
{
#ifdef __SANITIZE_THREAD__
    return 77; /* it does not follow coroutines */
#endif
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_interleaving_keeps_one_entry_a_key)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
