/* Many producers, one consumer, a ring that is mostly full: nothing is lost, nothing comes twice, and what
 * one producer pushed comes out in its order. Made for -Db_sanitize=thread, which also checks the memory
 * orders. */
#include "queue/ring.h"

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

enum { PRODUCERS_MAX = 8 };

/* Not atomic on purpose: only the ring's own ordering makes it visible, and the thread sanitizer checks that
 * it does. */
struct parcel {
    uint32_t producer;
    uint32_t number;
    uint32_t check;
};

struct producer {
    struct ring *ring;
    struct parcel *parcels;
    uint32_t id;
    uint32_t count;
    uint64_t full;
    pthread_t thread;
};

static uint32_t parcel_check(uint32_t producer, uint32_t number)
{
    return (producer + 1) * 2654435761U ^ number * 40503U;
}

static void *produce(void *argument)
{
    struct producer *producer = argument;

    for (uint32_t i = 0; i < producer->count; i++) {
        struct parcel *parcel = &producer->parcels[i];
        parcel->producer = producer->id;
        parcel->number = i;
        parcel->check = parcel_check(producer->id, i);
        while (!ring_push(producer->ring, parcel)) {
            producer->full++;
            sched_yield();
        }
    }
    return NULL;
}

static void start(struct producer *producer, struct ring *ring, uint32_t id, uint32_t count)
{
    *producer = (struct producer){.ring = ring, .id = id, .count = count};
    producer->parcels = calloc(count, sizeof(*producer->parcels));
    if (producer->parcels == NULL || pthread_create(&producer->thread, NULL, produce, producer) != 0)
        abort();
}

/* The consumer's view: the next number that each producer has to deliver. */
static int consume(struct ring *ring, uint32_t producers, uint32_t count)
{
    uint32_t expected[PRODUCERS_MAX] = {0};

    for (uint64_t left = (uint64_t)producers * count; left > 0; left--) {
        while (!ring_ready(ring))
            sched_yield();
        struct parcel *parcel = ring_pop(ring);
        if (parcel == NULL || parcel->producer >= producers ||
            parcel->check != parcel_check(parcel->producer, parcel->number)) {
            fprintf(stderr, "ring: a parcel is not what was pushed\n");
            return 1;
        }
        if (parcel->number != expected[parcel->producer]) {
            fprintf(stderr, "ring: producer %u: got %u, expected %u\n", parcel->producer, parcel->number,
                    expected[parcel->producer]);
            return 1;
        }
        expected[parcel->producer]++;
    }
    return 0;
}

static int scene(uint32_t producers, uint32_t capacity, uint32_t count)
{
    struct producer all[PRODUCERS_MAX];
    static struct ring ring;
    uint64_t full = 0;

    assert(producers <= PRODUCERS_MAX);
    if (ring_init(&ring, capacity) != 0)
        abort();
    for (uint32_t i = 0; i < producers; i++)
        start(&all[i], &ring, i, count);
    int failed = consume(&ring, producers, count);
    if (failed)
        exit(1); /* the producers may wait for room that will never come */
    for (uint32_t i = 0; i < producers; i++) {
        pthread_join(all[i].thread, NULL);
        full += all[i].full;
        free(all[i].parcels);
    }
    if (ring_ready(&ring) || ring_pop(&ring) != NULL) {
        fprintf(stderr, "ring: something is left\n");
        failed = 1;
    }
    printf("%u producers, %u cells, %u each: found it full %lu times\n", producers, capacity, count,
           (unsigned long)full);
    ring_deinit(&ring);
    return failed;
}

/* What can be said without a second thread: full at exactly the capacity, empty at the end, in order, over
 * many rounds. */
static int alone(void)
{
    static struct ring ring;
    int values[8];
    int failed = 0;

    if (ring_init(&ring, 8) != 0)
        abort();
    for (uint32_t round = 0; round < 1000; round++) {
        for (uint32_t i = 0; i < 8; i++)
            failed |= !ring_push(&ring, &values[i]);
        failed |= ring_push(&ring, &values[0]);
        for (uint32_t i = 0; i < 8; i++)
            failed |= ring_pop(&ring) != &values[i];
        failed |= ring_pop(&ring) != NULL || ring_ready(&ring);
        failed |= !ring_push(&ring, &values[0]) || ring_pop(&ring) != &values[0];
    }
    ring_deinit(&ring);
    if (failed)
        fprintf(stderr, "ring: wrong even with one thread\n");
    return failed;
}

int main(int argc, char **argv)
{
    uint32_t count = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 50000;

    if (alone())
        return 1;
    if (scene(1, 2, count) || scene(2, 4, count) || scene(4, 64, count) || scene(PRODUCERS_MAX, 1024, count))
        return 1;
    return 0;
}
