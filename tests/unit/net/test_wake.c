/* Two threads, each with its own loop and a mailbox; also run under TSan. */

#include "net_test.h"

#include <pthread.h>
#include <stdatomic.h>

#include "gateway/net/loop.h"

#define WAKES 100000

struct player {
    struct loop *loop;
    struct player *other;
    _Atomic uint64_t sent; /* the mailbox: written by the other player or by a thread without a loop */
    uint64_t seen;         /* owner thread */
    uint64_t reply_limit;  /* 0: only listens */
};

/* Draining is answering: each message seen makes one for the other side. */
static bool player_drain(void *ctx)
{
    struct player *player = ctx;
    uint64_t sent = atomic_load_explicit(&player->sent, memory_order_acquire);
    if (sent == player->seen)
        return false;
    player->seen = sent;
    if (player->other != NULL) {
        atomic_fetch_add_explicit(&player->other->sent, 1, memory_order_release);
        loop_wake(player->other->loop, player->loop);
    }
    if (player->seen >= WAKES) {
        loop_stop(player->loop);
        if (player->other != NULL)
            loop_stop(player->other->loop);
    }
    return true;
}

static void player_init(struct player *player)
{
    *player = (struct player){0};
    struct loop_options options = {.receive_buffer_count = 2, .receive_buffer_size = 4096};
    assert_int_equal(loop_new(&options, &player->loop), 0);
    loop_set_wake_fn(player->loop, player_drain, player);
}

/* Only its own thread may free a loop, and only when nobody can wake it any more. */
static pthread_barrier_t all_done;

static void *player_run(void *arg)
{
    struct player *player = arg;
    loop_run(player->loop);
    pthread_barrier_wait(&all_done);
    loop_free(player->loop);
    return NULL;
}

/* A lost wake would leave both asleep: the test would never end. */
static void two_loops_play_ping_pong(void **state)
{
    struct player players[2];
    pthread_t threads[2];
    pthread_barrier_init(&all_done, NULL, 2);
    player_init(&players[0]);
    player_init(&players[1]);
    players[0].other = &players[1];
    players[1].other = &players[0];
    atomic_store(&players[0].sent, 1);
    for (int index = 0; index < 2; index++)
        assert_int_equal(pthread_create(&threads[index], NULL, player_run, &players[index]), 0);
    for (int index = 0; index < 2; index++)
        pthread_join(threads[index], NULL);
    pthread_barrier_destroy(&all_done);
    assert_true(players[0].seen >= WAKES || players[1].seen >= WAKES);
}

static void *shout(void *arg)
{
    struct player *player = arg;
    for (int index = 0; index < WAKES; index++) {
        atomic_fetch_add_explicit(&player->sent, 1, memory_order_release);
        loop_wake(player->loop, NULL);
    }
    pthread_barrier_wait(&all_done);
    return NULL;
}

static void a_thread_without_a_loop_wakes_one(void **state)
{
    struct player player;
    pthread_t threads[2];
    pthread_barrier_init(&all_done, NULL, 2);
    player_init(&player);
    assert_int_equal(pthread_create(&threads[0], NULL, player_run, &player), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, shout, &player), 0);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    pthread_barrier_destroy(&all_done);
    assert_int_equal(player.seen, WAKES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_loops_play_ping_pong),
        cmocka_unit_test(a_thread_without_a_loop_wakes_one),
    };
    return cmocka_run_group_tests_name("net/wake", tests, NULL, NULL);
}
