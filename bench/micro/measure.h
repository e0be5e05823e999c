/* Timing for the micro-benchmarks: runs a body until enough time has passed, several times, and prints the
 * best. The best, because on a shared machine noise only ever adds. */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <time.h>

enum { MEASURE_ROUNDS = 5, MEASURE_ROUND_MS = 100 };

static inline uint64_t measure_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

/* Prints one line: ns for each operation, and GB/s when an operation handles octets. */
static inline void measure_print(const char *name, double ns, uint64_t octets)
{
    printf("%-32s %10.1f ns/op", name, ns);
    if (octets > 0)
        printf(" %8.2f GB/s", (double)octets / ns);
    printf("\n");
}

/* Calls body(context) again and again; each call does `operations` of `octets` octets. */
static inline void measure(const char *name, void (*body)(void *context), void *context, uint64_t operations,
                           uint64_t octets)
{
    double best = 0;

    body(context); /* warms caches and page tables */
    for (int round = 0; round < MEASURE_ROUNDS; round++) {
        uint64_t begin = measure_now_ns();
        uint64_t calls = 0;
        uint64_t spent;
        do {
            body(context);
            calls++;
            spent = measure_now_ns() - begin;
        } while (spent < MEASURE_ROUND_MS * 1000000ULL);
        double ns = (double)spent / (double)(calls * operations);
        best = round == 0 || ns < best ? ns : best;
    }
    measure_print(name, best, octets);
}

/* Keeps the compiler from leaving out what computes `value`. */
static inline void measure_use(uint64_t value)
{
    __asm__ volatile("" : : "r"(value) : "memory");
}
