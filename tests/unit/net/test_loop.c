#include "net_test.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

#include "gateway/net/loop.h"

struct counter {
    struct completion completion;
    int done;
    int failed;
};

static void count_completion(struct completion *completion, int32_t result, uint32_t flags)
{
    struct counter *counter = list_entry(completion, struct counter, completion);
    counter->done++;
    counter->failed += result < 0;
}

static void full_submission_ring_is_submitted(void **state)
{
    struct loop_options options = {.sq_entries = 8, .cq_entries = 64};
    struct loop *loop = NULL;
    assert_int_equal(loop_new(&options, &loop), 0);
    loop_turn(loop, 0);
    struct counter counter = {.completion.fn = count_completion};
    for (int index = 0; index < 40; index++)
        io_uring_prep_nop(loop_sqe(loop, &counter.completion));
    turn_until(loop, counter.done == 40);
    assert_true(loop_stats(loop)->sq_full >= 4);
    loop_free(loop);
}

static void completions_beyond_the_ring_are_not_lost(void **state)
{
    struct loop_options options = {.sq_entries = 8, .cq_entries = 16};
    struct loop *loop = NULL;
    assert_int_equal(loop_new(&options, &loop), 0);
    loop_turn(loop, 0);
    struct counter counter = {.completion.fn = count_completion};
    for (int index = 0; index < 5000; index++)
        io_uring_prep_nop(loop_sqe(loop, &counter.completion));
    turn_until(loop, counter.done == 5000);
    assert_int_equal(counter.failed, 0);
    assert_true(loop_stats(loop)->overflows > 0);
    loop_free(loop);
}

static void bad_options_are_refused(void **state)
{
    struct loop_options options = {.receive_buffer_count = 3};
    struct loop *loop = NULL;
    assert_int_equal(loop_new(&options, &loop), -EINVAL);
    assert_null(loop);
    assert_non_null(loop_error_text(-ENOSYS));
}

struct hooked {
    struct loop_hook hook;
    int runs;
};

static void count_hook(struct loop_hook *hook)
{
    list_entry(hook, struct hooked, hook)->runs++;
}

static void hooks_run_once_a_turn(void **state)
{
    struct loop *loop = *state;
    struct hooked first = {.hook.fn = count_hook};
    struct hooked second = {.hook.fn = count_hook};
    loop_add_hook(loop, &first.hook);
    loop_add_hook(loop, &second.hook);
    for (int turn = 0; turn < 5; turn++)
        loop_turn(loop, 0);
    assert_int_equal(first.runs, 5);
    assert_int_equal(second.runs, 5);
}

static void wake_within_bounds_the_wait_of_one_turn(void **state)
{
    struct loop *loop = *state;
    uint64_t before_us = net_test_now_us();
    loop_turn(loop, 30000);
    assert_true(net_test_now_us() - before_us >= 30000);

    struct hooked idle = {.hook.fn = count_hook};
    loop_add_hook(loop, &idle.hook);
    loop_wake_within(loop, 0); /* asked for before the turn: forgotten when it begins */
    before_us = net_test_now_us();
    loop_turn(loop, 20000);
    assert_true(net_test_now_us() - before_us >= 20000);
}

static void ask_for_wake(struct loop_hook *hook);

struct asking {
    struct loop_hook hook;
    struct loop *loop;
};

static void ask_for_wake(struct loop_hook *hook)
{
    loop_wake_within(list_entry(hook, struct asking, hook)->loop, 2000);
}

static void count_nothing(struct loop_hook *hook)
{
}

static void a_hook_shortens_the_wait(void **state)
{
    struct asking asking = {.hook.fn = ask_for_wake, .loop = *state};
    loop_add_hook(*state, &asking.hook);
    uint64_t before_us = net_test_now_us();
    loop_turn(*state, UINT64_MAX);
    uint64_t took_us = net_test_now_us() - before_us;
    assert_in_range(took_us, 2000, 2000000);
}

/* Hooks have run when connections are flushed: what comes up then must not wait for the next event. */
static void a_late_look_shortens_the_wait(void **state)
{
    struct asking asking = {.loop = *state};
    asking.hook.fn = count_nothing;
    asking.hook.late = ask_for_wake;
    loop_add_hook(*state, &asking.hook);
    uint64_t before_us = net_test_now_us();
    loop_turn(*state, UINT64_MAX);
    assert_in_range(net_test_now_us() - before_us, 2000, 2000000);
}

static void cancel_brings_the_operation_home(void **state)
{
    struct loop *loop = *state;
    int pipe_fds[2];
    char byte = 0;
    assert_int_equal(pipe(pipe_fds), 0);
    struct counter counter = {.completion.fn = count_completion};
    io_uring_prep_read(loop_sqe(loop, &counter.completion), pipe_fds[0], &byte, 1, 0);
    loop_turn(loop, 0);
    loop_turn(loop, 0);
    assert_int_equal(counter.done, 0);
    loop_cancel(loop, &counter.completion);
    turn_until(loop, counter.done == 1);
    assert_int_equal(counter.failed, 1);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static void *stop_later(void *arg)
{
    usleep(50000);
    loop_stop(arg);
    return NULL;
}

static void stop_from_another_thread_ends_an_idle_loop(void **state)
{
    struct loop *loop = *state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, stop_later, loop), 0);
    loop_run(loop);
    pthread_join(thread, NULL);
    /* Nothing was due: it slept all the time instead of looking at the clock. */
    assert_true(loop_stats(loop)->turns <= 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_submission_ring_is_submitted),
        cmocka_unit_test(completions_beyond_the_ring_are_not_lost),
        cmocka_unit_test(bad_options_are_refused),
        cmocka_unit_test_setup_teardown(hooks_run_once_a_turn, net_test_setup, net_test_teardown),
        cmocka_unit_test_setup_teardown(wake_within_bounds_the_wait_of_one_turn, net_test_setup,
                                        net_test_teardown),
        cmocka_unit_test_setup_teardown(a_late_look_shortens_the_wait, net_test_setup, net_test_teardown),
        cmocka_unit_test_setup_teardown(a_hook_shortens_the_wait, net_test_setup, net_test_teardown),
        cmocka_unit_test_setup_teardown(cancel_brings_the_operation_home, net_test_setup, net_test_teardown),
        cmocka_unit_test_setup_teardown(stop_from_another_thread_ends_an_idle_loop, net_test_setup,
                                        net_test_teardown),
    };
    return cmocka_run_group_tests_name("net/loop", tests, NULL, NULL);
}
