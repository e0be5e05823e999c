#include <arpa/inet.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cmocka_base.h"
#include "gateway/base/address.h"
#include "gateway/base/rate_table.h"

enum { MINUTE_MS = 60000, START_MS = 1000 * MINUTE_MS };

static struct rate_table *new_table(uint32_t entries)
{
    struct rate_table *table;
    assert_int_equal(rate_table_new(entries, 42, &table), 0);
    return table;
}

static uint64_t address_key(const struct rate_table *table, const char *text, uint16_t port)
{
    struct sockaddr_storage address;
    assert_int_equal(parse_ip(text, port, &address), 0);
    return rate_key_address(table, (struct sockaddr *)&address);
}

static uint64_t network_key(const struct rate_table *table, const char *text)
{
    struct sockaddr_storage address;
    assert_int_equal(parse_ip(text, 25, &address), 0);
    return rate_key_network(table, (struct sockaddr *)&address);
}

static void keys_tell_clients_apart(void **state)
{
    struct rate_table *table = new_table(8);
    struct rate_table *other;
    assert_int_equal(rate_table_new(8, 43, &other), 0);
    uint64_t key = address_key(table, "192.0.2.1", 1);
    assert_true(key == address_key(table, "192.0.2.1", 2));
    assert_true(key == address_key(table, "::ffff:192.0.2.1", 3));
    assert_true(key != address_key(table, "192.0.2.2", 1));
    assert_true(key != address_key(table, "::1", 1));
    assert_true(key != address_key(other, "192.0.2.1", 1));
    assert_true(address_key(table, "2001:db8::1", 1) != address_key(table, "2001:db8::2", 1));

    key = network_key(table, "192.0.2.1");
    assert_true(key == network_key(table, "192.0.2.255"));
    assert_true(key == network_key(table, "::ffff:192.0.2.7"));
    assert_true(key != network_key(table, "192.0.3.1"));
    key = network_key(table, "2001:db8:1:2::1");
    assert_true(key == network_key(table, "2001:db8:1:2:ffff:ffff:ffff:ffff"));
    assert_true(key != network_key(table, "2001:db8:1:3::1"));

    assert_true(rate_key_login(table, "alice", 5) != rate_key_login(table, "Alice", 5));
    assert_true(rate_key_login(table, "alice", 5) == rate_key_login(table, "alice@", 5));
    rate_table_free(table);
    rate_table_free(other);
    rate_table_free(NULL);
}

/* Whatever the hashes are, the kind stands in bits of its own. */
static void kinds_of_keys_never_meet(void **state)
{
    struct rate_table *table = new_table(8);
    uint64_t address_bits = address_key(table, "192.0.2.1", 1) & 3;
    uint64_t network_bits = network_key(table, "192.0.2.1") & 3;
    uint64_t login_bits = rate_key_login(table, "", 0) & 3;
    assert_true(address_bits != network_bits && network_bits != login_bits && login_bits != address_bits);
    assert_true(address_bits != 0 && network_bits != 0 && login_bits != 0);
    for (uint32_t host = 0; host < 1000; host++) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(host)};
        assert_int_equal(rate_key_address(table, (struct sockaddr *)&address) & 3, address_bits);
        assert_int_equal(rate_key_network(table, (struct sockaddr *)&address) & 3, network_bits);
        assert_int_equal(rate_key_login(table, (const char *)&host, sizeof(host)) & 3, login_bits);
    }
    struct sockaddr local = {.sa_family = AF_UNIX};
    assert_int_equal(rate_key_address(table, &local) & 3, address_bits);
    rate_table_free(table);
}

static void events_are_counted_apart(void **state)
{
    struct rate_table *table = new_table(64);
    uint64_t key = rate_key_login(table, "alice", 5);
    assert_int_equal(rate_get(table, key, RATE_ERRORS, START_MS), 0);
    for (int event = 0; event < RATE_EVENT_COUNT; event++) {
        assert_int_equal(rate_add(table, key, (enum rate_event)event, 1, START_MS), 1);
        assert_int_equal(rate_add(table, key, (enum rate_event)event, (uint32_t)event + 1, START_MS),
                         event + 2);
    }
    for (int event = 0; event < RATE_EVENT_COUNT; event++)
        assert_int_equal(rate_get(table, key, (enum rate_event)event, START_MS), event + 2);
    assert_int_equal(rate_get(table, rate_key_login(table, "bob", 3), RATE_ERRORS, START_MS), 0);
    assert_int_equal(rate_add(table, key, RATE_ERRORS, 0, START_MS), RATE_ERRORS + 2);
    rate_table_free(table);
}

static void the_last_minute_slides(void **state)
{
    static const struct {
        uint64_t after_ms;
        uint32_t expected;
    } cases[] = {
        {0, 60},
        {MINUTE_MS - 1, 60},
        {MINUTE_MS, 60},     /* the new window has just begun */
        {MINUTE_MS + 1, 60}, /* rounded up */
        {MINUTE_MS + 1000, 59},
        {MINUTE_MS + 30000, 30},
        {2 * MINUTE_MS - 1, 1}, /* the last of them is still seen */
        {2 * MINUTE_MS, 0},
        {5 * MINUTE_MS, 0},
        {16384ULL * MINUTE_MS - 2 * MINUTE_MS, 0}, /* long idle, just before the window wraps */
    };
    struct rate_table *table = new_table(64);
    uint64_t key = rate_key_login(table, "alice", 5);
    assert_int_equal(rate_add(table, key, RATE_MESSAGES, 60, START_MS), 60);
    for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++)
        assert_int_equal(rate_get(table, key, RATE_MESSAGES, START_MS + cases[index].after_ms),
                         cases[index].expected);

    /* Both windows together. */
    assert_int_equal(rate_add(table, key, RATE_MESSAGES, 10, START_MS + MINUTE_MS + 30000), 40);
    assert_int_equal(rate_get(table, key, RATE_MESSAGES, START_MS + 2 * MINUTE_MS), 10);
    assert_int_equal(rate_add(table, key, RATE_MESSAGES, 1, START_MS + 9 * MINUTE_MS), 1);
    rate_table_free(table);
}

/* A thread whose time is a little behind finds that another has begun the next window. */
static void a_late_thread_adds_to_the_window_that_has_begun(void **state)
{
    struct rate_table *table = new_table(64);
    uint64_t key = rate_key_login(table, "alice", 5);
    assert_int_equal(rate_add(table, key, RATE_ERRORS, 20, START_MS - 1), 20);
    assert_int_equal(rate_add(table, key, RATE_ERRORS, 1, START_MS), 21);
    assert_int_equal(rate_add(table, key, RATE_ERRORS, 1, START_MS - 1), 22);
    assert_int_equal(rate_add(table, key, RATE_ERRORS, 1, START_MS), 23);
    assert_int_equal(rate_get(table, key, RATE_ERRORS, START_MS + 30000), 13);
    rate_table_free(table);
}

static void counts_stop_at_the_greatest(void **state)
{
    struct rate_table *table = new_table(64);
    uint64_t key = rate_key_login(table, "alice", 5);
    assert_int_equal(rate_add(table, key, RATE_RECIPIENTS, RATE_COUNT_MAX - 1, START_MS), RATE_COUNT_MAX - 1);
    assert_int_equal(rate_add(table, key, RATE_RECIPIENTS, 5, START_MS), RATE_COUNT_MAX);
    assert_int_equal(rate_add(table, key, RATE_RECIPIENTS, UINT32_MAX, START_MS), RATE_COUNT_MAX);
    assert_int_equal(rate_add(table, key, RATE_RECIPIENTS, UINT32_MAX, START_MS + MINUTE_MS), RATE_COUNT_MAX);
    assert_int_equal(rate_get(table, key, RATE_RECIPIENTS, START_MS + 3 * MINUTE_MS), 0);
    assert_int_equal(rate_get(table, key, RATE_MESSAGES, START_MS), 0);
    rate_table_free(table);
}

static void what_is_open(void **state)
{
    struct rate_table *table = new_table(64);
    uint64_t key = rate_key_login(table, "alice", 5);
    rate_leave(table, key);
    assert_int_equal(rate_open(table, key), 0);
    assert_int_equal(rate_enter(table, key, START_MS), 1);
    assert_int_equal(rate_enter(table, key, START_MS + 999 * MINUTE_MS), 2);
    assert_int_equal(rate_open(table, key), 2);
    rate_leave(table, rate_key_login(table, "bob", 3));
    rate_leave(table, key);
    assert_int_equal(rate_enter(table, key, START_MS), 2);
    rate_leave(table, key);
    rate_leave(table, key);
    rate_leave(table, key); /* one too many */
    assert_int_equal(rate_open(table, key), 0);
    assert_int_equal(rate_enter(table, key, START_MS), 1);
    assert_int_equal(rate_table_overflows(table), 0);
    rate_table_free(table);
}

static void more_than_can_be_open_is_not_counted(void **state)
{
    struct rate_table *table = new_table(64);
    uint64_t key = rate_key_login(table, "alice", 5);
    for (uint32_t index = 1; index <= RATE_OPEN_MAX; index++)
        assert_true(rate_enter(table, key, START_MS) == index);
    assert_int_equal(rate_enter(table, key, START_MS), 0);
    assert_int_equal(rate_table_overflows(table), 1);
    rate_leave(table, key);
    assert_int_equal(rate_enter(table, key, START_MS), RATE_OPEN_MAX);
    rate_table_free(table);
}

/* In a table of eight entries all keys share the one bucket. */
static void the_least_recently_used_makes_room(void **state)
{
    struct rate_table *table = new_table(8);
    for (uint64_t key = 1; key <= 8; key++)
        assert_int_equal(rate_add(table, key, RATE_ERRORS, (uint32_t)key, START_MS + key * 1000), key);
    assert_int_equal(rate_table_evictions(table), 0);
    /* 1 is used again; 2 is then the oldest. A look at 2 is no use. */
    assert_int_equal(rate_add(table, 1, RATE_MESSAGES, 1, START_MS + 10000), 1);
    assert_int_equal(rate_get(table, 2, RATE_ERRORS, START_MS + 10000), 2);
    assert_int_equal(rate_add(table, 9, RATE_ERRORS, 1, START_MS + 11000), 1);
    assert_int_equal(rate_table_evictions(table), 1);
    assert_int_equal(rate_get(table, 2, RATE_ERRORS, START_MS + 11000), 0);
    assert_int_equal(rate_get(table, 1, RATE_ERRORS, START_MS + 11000), 1);
    for (uint64_t key = 3; key <= 8; key++)
        assert_int_equal(rate_get(table, key, RATE_ERRORS, START_MS + 11000), key);
    rate_table_free(table);
}

/* The times of use wrap after three days; what another thread used a moment ahead of us is not old. */
static void age_survives_wrapping_and_skew(void **state)
{
    const uint64_t wrap_ms = 256ULL << 20;
    struct rate_table *table = new_table(8);
    for (uint64_t key = 1; key <= 8; key++)
        assert_int_equal(rate_add(table, key, RATE_ERRORS, 1, wrap_ms - 4096 + key * 1024), 1);
    assert_int_equal(rate_add(table, 9, RATE_ERRORS, 1, wrap_ms + 2048), 1);
    assert_int_equal(rate_get(table, 1, RATE_ERRORS, wrap_ms), 0);
    assert_int_equal(rate_get(table, 8, RATE_ERRORS, wrap_ms), 1);
    rate_table_free(table);
}

static void what_is_open_is_never_evicted(void **state)
{
    struct rate_table *table = new_table(8);
    for (uint64_t key = 1; key <= 7; key++)
        assert_int_equal(rate_enter(table, key, START_MS), 1);
    for (uint64_t key = 100; key < 1100; key++)
        assert_int_equal(rate_add(table, key, RATE_CONNECTIONS, 3, START_MS + key * MINUTE_MS), 3);
    assert_int_equal(rate_table_evictions(table), 999);
    assert_int_equal(rate_table_overflows(table), 0);
    for (uint64_t key = 1; key <= 7; key++)
        assert_int_equal(rate_open(table, key), 1);

    /* The eighth, too: now nobody else can be counted, and nobody is refused. */
    assert_int_equal(rate_enter(table, 8, START_MS), 1);
    assert_int_equal(rate_enter(table, 9, START_MS), 0);
    assert_int_equal(rate_add(table, 9, RATE_CONNECTIONS, 5, START_MS), 5);
    assert_int_equal(rate_get(table, 9, RATE_CONNECTIONS, START_MS), 0);
    assert_int_equal(rate_open(table, 9), 0);
    assert_int_equal(rate_table_overflows(table), 2);
    rate_leave(table, 9);
    rate_leave(table, 3);
    assert_int_equal(rate_enter(table, 9, START_MS), 1);
    assert_int_equal(rate_open(table, 3), 0);
    rate_table_free(table);
}

/* A client that keeps coming is still known after a flood of others that is no larger than the table, save
   where nine of them fell into one bucket. */
static void a_flood_evicts_no_more_than_it_must(void **state)
{
    enum { ENTRIES = 4096, KNOWN = 256, FLOOD = ENTRIES / 2 };
    struct rate_table *table = new_table(ENTRIES);
    for (uint32_t index = 0; index < KNOWN; index++)
        rate_add(table, rate_key_login(table, (char *)&index, sizeof(index)), RATE_ERRORS, 7, START_MS);
    for (uint32_t index = KNOWN; index < KNOWN + FLOOD; index++)
        rate_add(table, rate_key_login(table, (char *)&index, sizeof(index)), RATE_ERRORS, 1,
                 START_MS + 1000);
    uint32_t lost = 0;
    for (uint32_t index = 0; index < KNOWN; index++)
        lost += rate_get(table, rate_key_login(table, (char *)&index, sizeof(index)), RATE_ERRORS,
                         START_MS + 1000) != 7;
    assert_true(lost <= rate_table_evictions(table));
    assert_true(rate_table_evictions(table) < FLOOD / 20);
    assert_int_equal(rate_table_overflows(table), 0);
    rate_table_free(table);
}

/* Threads. The barrier makes all of them claim the same new keys at once, again and again, in one bucket
   whose other entries are claimed at the same time, too. */

enum { THREADS = 4, ROUNDS = 3000, KEYS = 3, ENTERS = 4 };

struct crowd {
    struct rate_table *table;
    pthread_barrier_t barrier;
    /* What the enters of one round returned, for each key; index 0: not counted. */
    uint32_t returned[THREADS][KEYS][THREADS * ENTERS + 1];
    bool is_wrong;
};

struct member {
    struct crowd *crowd;
    unsigned number;
    pthread_t thread;
};

static uint64_t round_key(unsigned round, unsigned index)
{
    return (uint64_t)round * KEYS + index + 1;
}

static void enter_all(struct member *member, unsigned round)
{
    struct crowd *crowd = member->crowd;
    uint32_t(*returned)[THREADS * ENTERS + 1] = crowd->returned[member->number];
    memset(returned, 0, sizeof(crowd->returned[0]));
    for (unsigned turn = 0; turn < KEYS * ENTERS; turn++) {
        unsigned index = (turn + round) % KEYS;
        uint32_t count = rate_enter(crowd->table, round_key(round, index), START_MS + round);
        returned[index][count]++;
    }
}

/* Each number from 1 to the number of all who entered was given exactly once: there was one entry, not two.
 */
static bool is_round_exact(const struct crowd *crowd, unsigned round)
{
    for (unsigned index = 0; index < KEYS; index++) {
        uint32_t entered = 0;
        for (uint32_t count = 1; count <= THREADS * ENTERS; count++) {
            uint32_t times = 0;
            for (unsigned thread = 0; thread < THREADS; thread++)
                times += crowd->returned[thread][index][count];
            if (times > 1 || (times == 1 && count != entered + 1))
                return false;
            entered += times;
        }
        if (rate_open(crowd->table, round_key(round, index)) != entered)
            return false;
    }
    return true;
}

static void leave_all(struct member *member, unsigned round)
{
    for (unsigned index = 0; index < KEYS; index++) {
        for (uint32_t count = 1; count <= THREADS * ENTERS; count++) {
            for (uint32_t left = member->crowd->returned[member->number][index][count]; left > 0; left--) {
                rate_leave(member->crowd->table, round_key(round, index));
                /* Others press for the entries as soon as they come free. */
                rate_add(member->crowd->table, round_key(round + ROUNDS, left), RATE_ERRORS, 1, START_MS);
            }
        }
    }
}

static void *crowd_in(void *context)
{
    struct member *member = context;
    struct crowd *crowd = member->crowd;
    for (unsigned round = 0; round < ROUNDS; round++) {
        pthread_barrier_wait(&crowd->barrier);
        enter_all(member, round);
        pthread_barrier_wait(&crowd->barrier);
        if (member->number == 0 && !is_round_exact(crowd, round))
            crowd->is_wrong = true;
        pthread_barrier_wait(&crowd->barrier);
        leave_all(member, round);
        pthread_barrier_wait(&crowd->barrier);
        for (unsigned index = 0; index < KEYS && member->number == 0; index++)
            crowd->is_wrong = crowd->is_wrong || rate_open(crowd->table, round_key(round, index)) != 0;
    }
    return NULL;
}

static void many_threads_claim_one_entry(void **state)
{
    static struct crowd crowd;
    struct member members[THREADS];
    crowd.table = new_table(8);
    assert_int_equal(pthread_barrier_init(&crowd.barrier, NULL, THREADS), 0);
    for (unsigned index = 0; index < THREADS; index++) {
        members[index] = (struct member){.crowd = &crowd, .number = index};
        assert_int_equal(pthread_create(&members[index].thread, NULL, crowd_in, &members[index]), 0);
    }
    for (unsigned index = 0; index < THREADS; index++)
        assert_int_equal(pthread_join(members[index].thread, NULL), 0);
    assert_false(crowd.is_wrong);
    /* At most three keys are open and three more tentative; there was always room. */
    assert_true(rate_table_overflows(crowd.table) < ROUNDS / 100);
    assert_true(rate_table_evictions(crowd.table) > ROUNDS);
    pthread_barrier_destroy(&crowd.barrier);
    rate_table_free(crowd.table);
}

enum { ADDS = 100000, ADD_KEYS = 5 };

static void *add_often(void *context)
{
    struct rate_table *table = context;
    for (uint64_t index = 0; index < ADDS; index++) {
        uint64_t key = index % ADD_KEYS + 1;
        rate_add(table, key, RATE_MESSAGES, 2, START_MS + index / 1000);
        rate_add(table, key, RATE_ERRORS, 1, START_MS + index / 1000);
    }
    return NULL;
}

static void no_event_is_lost_between_threads(void **state)
{
    struct rate_table *table = new_table(8);
    pthread_t threads[THREADS];
    for (unsigned index = 0; index < THREADS; index++)
        assert_int_equal(pthread_create(&threads[index], NULL, add_often, table), 0);
    for (unsigned index = 0; index < THREADS; index++)
        assert_int_equal(pthread_join(threads[index], NULL), 0);
    for (uint64_t key = 1; key <= ADD_KEYS; key++) {
        assert_int_equal(rate_get(table, key, RATE_MESSAGES, START_MS + 1000), 2 * THREADS * ADDS / ADD_KEYS);
        assert_int_equal(rate_get(table, key, RATE_ERRORS, START_MS + 1000), THREADS * ADDS / ADD_KEYS);
    }
    assert_int_equal(rate_table_evictions(table), 0);
    assert_int_equal(rate_table_overflows(table), 0);
    rate_table_free(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_tell_clients_apart),
        cmocka_unit_test(kinds_of_keys_never_meet),
        cmocka_unit_test(events_are_counted_apart),
        cmocka_unit_test(the_last_minute_slides),
        cmocka_unit_test(a_late_thread_adds_to_the_window_that_has_begun),
        cmocka_unit_test(counts_stop_at_the_greatest),
        cmocka_unit_test(what_is_open),
        cmocka_unit_test(more_than_can_be_open_is_not_counted),
        cmocka_unit_test(the_least_recently_used_makes_room),
        cmocka_unit_test(age_survives_wrapping_and_skew),
        cmocka_unit_test(what_is_open_is_never_evicted),
        cmocka_unit_test(a_flood_evicts_no_more_than_it_must),
        cmocka_unit_test(many_threads_claim_one_entry),
        cmocka_unit_test(no_event_is_lost_between_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
