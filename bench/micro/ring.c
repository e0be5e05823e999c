/* The ring between workers: the cost of a push and a pop on one thread, and of handing over from one thread
 * to another. */
#include "queue/ring.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "bench/micro/measure.h"

enum { BURST = 512, HANDED = 4 * 1000 * 1000 };

static void push_pop(void *context)
{
    struct ring *ring = context;
    int value;

    for (int i = 0; i < BURST; i++)
        measure_use(ring_push(ring, &value));
    for (int i = 0; i < BURST; i++)
        measure_use((uintptr_t)ring_pop(ring));
}

static void pop_empty(void *context)
{
    struct ring *ring = context;

    for (int i = 0; i < BURST; i++)
        measure_use((uintptr_t)ring_pop(ring));
}

static void *produce(void *context)
{
    struct ring *ring = context;
    static int value;

    for (int i = 0; i < HANDED; i++)
        while (!ring_push(ring, &value))
            sched_yield();
    return NULL;
}

static void hand_over(struct ring *ring)
{
    pthread_t thread;
    uint64_t begin = measure_now_ns();

    if (pthread_create(&thread, NULL, produce, ring) != 0)
        abort();
    for (int left = HANDED; left > 0;) {
        if (ring_pop(ring))
            left--;
        else
            sched_yield();
    }
    pthread_join(thread, NULL);
    measure_print("ring, thread to thread", (double)(measure_now_ns() - begin) / HANDED, 0);
}

int main(void)
{
    struct ring ring;

    if (ring_init(&ring, 1024) != 0)
        abort();
    measure("ring, push and pop", push_pop, &ring, BURST, 0);
    measure("ring, pop when empty", pop_empty, &ring, BURST, 0);
    hand_over(&ring);
    ring_deinit(&ring);
    return 0;
}
