#pragma once

/*
 * What the tests of gateway/net share: a loop for each test, pairs of connected sockets on loopback, seeded
 * bytes, and turning the loop until something is true.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/net/loop.h"

/* Turns the loop until `condition` holds; fails the test when that takes more than ten seconds. */
#define turn_until(loop, condition)                                                                          \
    do {                                                                                                     \
        uint64_t turn_deadline_us = net_test_now_us() + 10000000;                                            \
        while (!(condition)) {                                                                               \
            if (net_test_now_us() > turn_deadline_us)                                                        \
                fail_msg("ten seconds are over, still not: %s", #condition);                                 \
            loop_turn(loop, 2000);                                                                           \
        }                                                                                                    \
    } while (0)

uint64_t net_test_now_us(void);

/* cmocka fixture: *state is a struct loop with default options. */
int net_test_setup(void **state);
int net_test_teardown(void **state);

struct loop *net_test_loop(uint32_t buffer_count, uint32_t buffer_size);

/* Two connected TCP sockets on loopback. */
void net_test_pair(int fds[2]);

/* A listening socket on 127.0.0.1 with a free port. */
int net_test_listen(struct sockaddr_storage *address);

/* Deterministic random numbers (xorshift); the state must not be 0. */
uint64_t net_test_random(uint64_t *state);

/* The byte at `offset` of a stream that looks random. */
unsigned char net_test_byte(uint64_t offset);
void net_test_fill(char *bytes, size_t size, uint64_t offset);
/* Fails the test where the bytes differ from the stream. */
void net_test_check(const char *bytes, size_t size, uint64_t offset);

/* Whole writes and reads on a plain blocking socket. */
void net_test_write(int fd, const void *bytes, size_t size);
size_t net_test_read_all(int fd, char *bytes, size_t size);

/* Closes so that the peer gets a RST. */
void net_test_reset(int fd);
