/* The right to probe: who gets it, how long it holds, and that only one thread has it at a time. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/outbound/probe.h"

enum { THREADS = 4, TRIES = 20000 };

static struct probes *probes;
static struct probe *probe;

static int begin(void **state)
{
    assert_int_equal(probes_new(&probes), 0);
    probe = probe_take(probes, "hop");
    assert_non_null(probe);
    return 0;
}

static int end(void **state)
{
    probe_let_go(probes, probe);
    probes_free(probes);
    return 0;
}

static void a_key_has_one_probe_until_the_last_lets_go(void **state)
{
    struct probe *same = probe_take(probes, "hop");
    struct probe *other = probe_take(probes, "another");

    assert_ptr_equal(same, probe);
    assert_ptr_not_equal(other, probe);
    probe_failed(probe, 0, 500, 7, 100);
    probe_let_go(probes, same);
    probe_let_go(probes, other);
    same = probe_take(probes, "hop");
    assert_int_equal(probe_at_us(same), 500);
    probe_let_go(probes, same);
}

static void one_claims_when_the_time_has_come(void **state)
{
    probe_failed(probe, 0, 500, 7, 100);
    assert_int_equal(probe_backoff_ms(probe), 7);
    assert_int_equal(probe_claim(probe, 0, 499), 0);
    assert_int_equal(probe_claim(probe, 0, 500), 500 + PROBE_CLAIM_US);
    assert_int_equal(probe_claim(probe, 0, 501), 0);
    assert_int_equal(probe_claim(probe, 500, 501), 0);
}

/* A connection that was late needs no new one. */
static void who_set_the_time_may_come_before_it(void **state)
{
    probe_failed(probe, 0, 500, 7, 100);
    assert_int_equal(probe_claim(probe, 499, 200), 0);
    assert_int_equal(probe_claim(probe, 500, 200), 200 + PROBE_CLAIM_US);
}

static void a_claim_holds_as_long_as_it_is_renewed(void **state)
{
    uint64_t now_us = 100;
    uint64_t claim = probe_claim(probe, 0, now_us);

    assert_int_not_equal(claim, 0);
    for (int i = 0; i < 5; i++) {
        now_us += PROBE_CLAIM_US - 1;
        assert_int_equal(probe_claim(probe, 0, now_us), 0);
        claim = probe_renew(probe, claim, now_us);
        assert_int_equal(claim, now_us + PROBE_CLAIM_US);
    }
    now_us += PROBE_CLAIM_US;
    assert_int_not_equal(probe_claim(probe, 0, now_us), 0);
    assert_int_equal(probe_renew(probe, claim, now_us + 1), 0);
    probe_give_back(probe, claim, now_us + 1); /* it is another's */
    assert_int_equal(probe_at_us(probe), now_us + PROBE_CLAIM_US);
}

static void what_was_given_back_can_be_claimed(void **state)
{
    uint64_t claim = probe_claim(probe, 0, 100);

    probe_give_back(probe, claim, 200);
    assert_int_not_equal(probe_at_us(probe), 0); /* nobody saw it work */
    assert_int_not_equal(probe_claim(probe, 0, 200), 0);
}

static void who_does_not_probe_leaves_the_time_alone(void **state)
{
    uint64_t claim = probe_claim(probe, 0, 100);

    probe_failed(probe, 0, 900, 9, 200);
    assert_int_equal(probe_at_us(probe), claim);
    probe_failed(probe, claim, 500, 7, 200);
    assert_int_equal(probe_at_us(probe), 500);
    probe_failed(probe, 0, 900, 9, 300);
    assert_int_equal(probe_at_us(probe), 500);
    assert_int_equal(probe_backoff_ms(probe), 7);
    probe_worked(probe);
    assert_int_equal(probe_at_us(probe), 0);
    assert_int_equal(probe_backoff_ms(probe), 0);
}

/* --- Threads --- */

static _Atomic uint64_t ticks = 1;
static _Atomic uint32_t inside;
static _Atomic uint32_t claims;
static _Atomic uint32_t clashes;

static void *contend(void *context)
{
    for (uint32_t i = 0; i < TRIES; i++) {
        uint64_t now_us = atomic_fetch_add(&ticks, 1);
        uint64_t claim = probe_claim(probe, 0, now_us);
        if (claim == 0)
            continue;
        if (atomic_fetch_add(&inside, 1) != 0)
            atomic_fetch_add(&clashes, 1);
        atomic_fetch_add(&claims, 1);
        claim = probe_renew(probe, claim, now_us + 1);
        atomic_fetch_sub(&inside, 1);
        if (claim % 3 == 0)
            probe_give_back(probe, claim, now_us);
        else
            probe_failed(probe, claim, now_us + 3, 1, now_us);
    }
    return context;
}

static void one_thread_at_a_time_has_it(void **state)
{
    pthread_t threads[THREADS];

    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, contend, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&clashes), 0);
    assert_true(atomic_load(&claims) > TRIES / 10);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_key_has_one_probe_until_the_last_lets_go),
        CASE(one_claims_when_the_time_has_come),
        CASE(who_set_the_time_may_come_before_it),
        CASE(a_claim_holds_as_long_as_it_is_renewed),
        CASE(what_was_given_back_can_be_claimed),
        CASE(who_does_not_probe_leaves_the_time_alone),
        CASE(one_thread_at_a_time_has_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
