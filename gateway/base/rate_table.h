#pragma once

/*
 * What each client did in the last minute, and what it has open now, in memory of a fixed size.
 *
 * One table is shared by all threads: any thread may call any function but new and free, at any time. Nothing
 * blocks: a call tries again only when another thread's has succeeded meanwhile, and never waits for one that
 * is in the middle of something. Time is passed in, in milliseconds of the monotonic clock; the threads'
 * times may lie some seconds apart.
 *
 * A key has its place in one of the eight entries of a bucket. When it has none yet, the entry of the bucket
 * that was used least recently and has nothing open is given to it, and what that one counted is forgotten.
 * So a flood of addresses costs accuracy, never memory, and what is open is never forgotten.
 *
 * The table fails open: when all eight have something open, the new key is not counted, mail goes on, and
 * rate_table_overflows() tells.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum rate_event {
    RATE_CONNECTIONS,
    RATE_MESSAGES,
    RATE_RECIPIENTS,
    RATE_ERRORS,
    RATE_HANDSHAKES,
    RATE_LOGIN_FAILURES,
    RATE_EVENT_COUNT
};

enum {
    RATE_BUCKET_ENTRIES = 8,
    RATE_COUNT_MAX = (1 << 22) - 1, /* events a minute; more count as this many */
    RATE_OPEN_MAX = (1 << 20) - 1,  /* open at once; one more is not counted */
};

struct rate_table;

/* `entries`: a power of two, at least RATE_BUCKET_ENTRIES; each takes 72 bytes. `seed`: a secret random
   number, so that nobody can choose addresses that push each other out. 0 or -ENOMEM. The caller frees. */
int rate_table_new(uint32_t entries, uint64_t seed, struct rate_table **table)
    __attribute__((warn_unused_result));

/* NULL is ignored; no thread may be using the table. */
void rate_table_free(struct rate_table *table);

/* How often something could not be counted because no entry was to be had, since the table was made. */
uint64_t rate_table_overflows(const struct rate_table *table);

/* How often an entry that had been used was given to another key, since the table was made. */
uint64_t rate_table_evictions(const struct rate_table *table);

/* Keys: a secret hash of 62 bits, and two bits that say which of the three kinds it is, so keys of different
   kinds are never equal; never 0. An IPv4 address and its form mapped into IPv6 are one; ports do not count.
   Addresses of other families share one key. A network is the address's /24 (IPv4) or /64 (IPv6). A login
   counts byte by byte as it is given. */
uint64_t rate_key_address(const struct rate_table *table, const struct sockaddr *address);
uint64_t rate_key_network(const struct rate_table *table, const struct sockaddr *address);
uint64_t rate_key_login(const struct rate_table *table, const char *login, size_t size);

/* Adds `n` and returns how many events there were in the last 60 s, with these: those of the running minute,
   and of the one before it the share that the last 60 s still cover, as if they had come evenly; rounded up,
   so an event is seen for at least a minute and at most two. Where the key cannot be counted, returns `n`. */
uint32_t rate_add(struct rate_table *table, uint64_t key, enum rate_event event, uint32_t n, uint64_t now_ms);

/* The same number without adding; 0 for a key that has no entry. Does not count as a use. */
uint32_t rate_get(const struct rate_table *table, uint64_t key, enum rate_event event, uint64_t now_ms);

/* One more is open. Returns how many are open now, with this one: at least 1, exact; the caller owes one
   rate_leave. Returns 0 when it could not be counted: the caller lets it pass, and must not leave. */
uint32_t rate_enter(struct rate_table *table, uint64_t key, uint64_t now_ms)
    __attribute__((warn_unused_result));

/* What rate_enter counted is closed. Harmless for a key that has nothing open. */
void rate_leave(struct rate_table *table, uint64_t key);

/* How many are open now. */
uint32_t rate_open(const struct rate_table *table, uint64_t key);
