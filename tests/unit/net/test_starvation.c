/* More connections with bytes than receive buffers. */

#include "conn_test.h"

#include <sys/resource.h>
#include <unistd.h>

#define CONNS 100

struct crowd {
    struct probe probes[CONNS];
    int peers[CONNS];
};

static struct crowd crowd;

static void crowd_open(struct loop *loop)
{
    for (int index = 0; index < CONNS; index++)
        crowd.peers[index] = probe_open(&crowd.probes[index], loop);
    for (int turn = 0; turn < 3; turn++)
        loop_turn(loop, 1000);
}

static void crowd_close(struct loop *loop)
{
    for (int index = 0; index < CONNS; index++) {
        probe_end(&crowd.probes[index], loop);
        close(crowd.peers[index]);
    }
}

static void crowd_write(int rounds)
{
    static const char bytes[100] = "some bytes";
    for (int round = 0; round < rounds; round++) {
        for (int index = 0; index < CONNS; index++)
            net_test_write(crowd.peers[index], bytes, sizeof(bytes));
    }
}

static int crowd_served(size_t size)
{
    int served = 0;
    for (int index = 0; index < CONNS; index++)
        served += crowd.probes[index].received == size;
    return served;
}

static void everyone_is_served_with_four_buffers(void **state)
{
    struct loop *loop = net_test_loop(4, 128);
    crowd_open(loop);
    crowd_write(20);
    turn_until(loop, crowd_served(2000) == CONNS);
    assert_true(loop_stats(loop)->starved > 0);
    /* And nobody was forgotten on the list of the starved. */
    crowd_write(1);
    turn_until(loop, crowd_served(2100) == CONNS);
    crowd_close(loop);
    loop_free(loop);
}

/* Those who pause keep bytes, but the buffers go on serving the one who reads. */
static void paused_crowd_does_not_starve_the_others(void **state)
{
    struct loop *loop = net_test_loop(8, 256);
    crowd_open(loop);
    for (int index = 1; index < CONNS; index++)
        conn_pause(&crowd.probes[index].conn);
    crowd_write(10);
    turn_until(loop, crowd.probes[0].received == 1000);
    assert_true(loop_stats(loop)->allocations > 0);
    for (int index = 1; index < CONNS; index++)
        conn_resume(&crowd.probes[index].conn);
    turn_until(loop, crowd_served(1000) == CONNS);
    crowd_close(loop);
    loop_free(loop);
}

static void closing_while_starved(void **state)
{
    struct loop *loop = net_test_loop(2, 128);
    crowd_open(loop);
    crowd_write(20);
    loop_turn(loop, 0);
    loop_turn(loop, 0);
    crowd_close(loop);
    loop_free(loop);
}

static void a_wide_ring_opens_its_window_when_starved(void **state)
{
    struct loop *loop = net_test_loop(512, 256);
    crowd_open(loop);
    for (int round = 0; round < 20; round++) {
        crowd_write(3);
        turn_until(loop, crowd_served((size_t)(round + 1) * 300) == CONNS);
    }
    uint64_t starved = loop_stats(loop)->starved;
    for (int round = 20; round < 40; round++) {
        crowd_write(1);
        turn_until(loop, crowd_served(6000 + (size_t)(round - 19) * 100) == CONNS);
    }
    assert_int_equal(loop_stats(loop)->starved, starved);
    crowd_close(loop);
    loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everyone_is_served_with_four_buffers),
        cmocka_unit_test(paused_crowd_does_not_starve_the_others),
        cmocka_unit_test(closing_while_starved),
        cmocka_unit_test(a_wide_ring_opens_its_window_when_starved),
    };
    return cmocka_run_group_tests_name("net/starvation", tests, NULL, NULL);
}
