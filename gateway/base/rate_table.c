#include "gateway/base/rate_table.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/rate_word.h"
#include "gateway/base/siphash.h"

/*
 * An entry's life. Its state is one word, so each arrow is one compare-and-swap, and the generation in it
 * makes a swap fail when the entry has changed hands in between.
 *
 *                    fill                publish               settle
 *      FREE ───────────────▶ FILLING ─────────────▶ TENTATIVE ───────▶ COMMITTED ─┐ enter, leave, use
 *        ▲                      ▲                       │                │   ▲    │
 *        └──────────────────────┼───── another won ─────┘                │   └────┘
 *                               └─────────── nothing is open ────────────┘
 *
 * Two threads may claim an entry for one key at once, but only one may win, or what is open would be split.
 * So a claim is published as tentative first, and only then does the claimer look at the whole bucket: it
 * frees the other tentative entries of the key and commits the first (settle). Anyone may do that for anyone,
 * so a thread that was put to sleep halfway holds nobody up.
 *
 * Why there are never two: say X and Y were both committed. Who committed X looked at Y's entry after X was
 * published, and saw nothing there, so Y was published later. The same holds with X and Y exchanged, and both
 * cannot be later. Publishing and looking are sequentially consistent for this reason.
 */

/* On a cache line of its own. All fields: any thread (atomic). */
struct entry {
    alignas(64) _Atomic uint64_t state;
    _Atomic uint64_t events[RATE_EVENT_COUNT]; /* carry the generation, too: adding after an eviction fails */
};

/* The keys stand together, so that finding one reads one line, and its entry is the second. */
struct bucket {
    alignas(64) _Atomic uint64_t keys[RATE_BUCKET_ENTRIES]; /* written while the entry is FILLING */
    struct entry entries[RATE_BUCKET_ENTRIES];
};

_Static_assert(sizeof(struct entry) == 64, "an entry is a cache line");
_Static_assert(sizeof(struct bucket) == 64 + 64 * RATE_BUCKET_ENTRIES, "a bucket wastes nothing");

struct rate_table {
    /* immutable after new */
    struct bucket *buckets;
    uint32_t bucket_mask;
    struct siphash_key hash_key;
    /* any thread (atomic); nothing else depends on them */
    alignas(64) _Atomic uint64_t overflows;
    _Atomic uint64_t evictions;
};

/* An entry as it was found. */
struct place {
    struct entry *entry;
    uint64_t state;
};

enum { CLAIM_ROUNDS_MAX = 64 }; /* each one lost means that others got on; nobody is meant to see this many */

int rate_table_new(uint32_t entries, uint64_t seed, struct rate_table **table)
{
    assert(entries >= RATE_BUCKET_ENTRIES && (entries & (entries - 1)) == 0);
    uint32_t bucket_count = entries / RATE_BUCKET_ENTRIES;
    size_t size = bucket_count * sizeof(struct bucket);
    struct rate_table *made = aligned_alloc(alignof(struct rate_table), sizeof(*made));
    struct bucket *buckets = aligned_alloc(alignof(struct bucket), size);
    if (made == NULL || buckets == NULL) {
        free(made);
        free(buckets);
        return -ENOMEM;
    }
    memset(buckets, 0, size); /* FREE, generation 0 */
    memset(made, 0, sizeof(*made));
    made->buckets = buckets;
    made->bucket_mask = bucket_count - 1;
    made->hash_key = (struct siphash_key){{seed, ~seed}};
    *table = made;
    return 0;
}

void rate_table_free(struct rate_table *table)
{
    if (table == NULL)
        return;
    free(table->buckets);
    free(table);
}

uint64_t rate_table_overflows(const struct rate_table *table)
{
    return atomic_load_explicit(&table->overflows, memory_order_relaxed);
}

uint64_t rate_table_evictions(const struct rate_table *table)
{
    return atomic_load_explicit(&table->evictions, memory_order_relaxed);
}

static void count_up(_Atomic uint64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* The two low bits of a key. */
enum key_kind { KEY_ADDRESS = 1, KEY_NETWORK, KEY_LOGIN };

static uint64_t make_key(const struct rate_table *table, enum key_kind kind, const void *bytes, size_t size)
{
    return (siphash(&table->hash_key, bytes, size) & ~3ULL) | kind;
}

/* IPv4 in its mapped form, so that a client has one key on either kind of socket; the size of the network
   that one customer is usually given, in bytes. Zeros for other families. */
static size_t address_bytes(const struct sockaddr *address, unsigned char bytes[static 16])
{
    static const unsigned char mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};
    memset(bytes, 0, 16);
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;
        memcpy(bytes, mapped_prefix, sizeof(mapped_prefix));
        memcpy(bytes + sizeof(mapped_prefix), &v4->sin_addr, 4);
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)address;
        memcpy(bytes, &v6->sin6_addr, 16);
    }
    return memcmp(bytes, mapped_prefix, sizeof(mapped_prefix)) == 0 ? 15 : 8;
}

uint64_t rate_key_address(const struct rate_table *table, const struct sockaddr *address)
{
    unsigned char bytes[16];
    address_bytes(address, bytes);
    return make_key(table, KEY_ADDRESS, bytes, sizeof(bytes));
}

uint64_t rate_key_network(const struct rate_table *table, const struct sockaddr *address)
{
    unsigned char bytes[16];
    size_t network_size = address_bytes(address, bytes);
    return make_key(table, KEY_NETWORK, bytes, network_size);
}

uint64_t rate_key_login(const struct rate_table *table, const char *login, size_t size)
{
    return make_key(table, KEY_LOGIN, login, size);
}

static struct bucket *bucket_of(const struct rate_table *table, uint64_t key)
{
    assert(key != 0);
    return &table->buckets[key >> 32 & table->bucket_mask];
}

/* The committed entry of the key. The state is read between two looks at the key; should the entry have
   changed hands twice in between, the generation is another one and whatever is done with the place fails. */
static bool find(struct bucket *bucket, uint64_t key, struct place *place)
{
    for (unsigned way = 0; way < RATE_BUCKET_ENTRIES; way++) {
        /* Both acquire loads of the key pair with the release store in fill. */
        if (atomic_load_explicit(&bucket->keys[way], memory_order_acquire) != key)
            continue;
        struct entry *entry = &bucket->entries[way];
        /* Pairs with the swap to COMMITTED in settle. */
        uint64_t state = atomic_load_explicit(&entry->state, memory_order_acquire);
        if (state_status(state) == RATE_COMMITTED &&
            atomic_load_explicit(&bucket->keys[way], memory_order_acquire) == key) {
            *place = (struct place){entry, state};
            return true;
        }
    }
    return false;
}

/* One entry's state when it is the key's, tentative or committed; else 0. */
static uint64_t state_for_key(struct bucket *bucket, unsigned way, uint64_t key)
{
    uint64_t state = atomic_load(&bucket->entries[way].state);
    if (state_status(state) != RATE_TENTATIVE && state_status(state) != RATE_COMMITTED)
        return 0;
    return atomic_load(&bucket->keys[way]) == key ? state : 0;
}

static bool swap_state(struct entry *entry, uint64_t from, uint64_t to)
{
    return atomic_compare_exchange_strong(&entry->state, &from, to);
}

/* The key's committed entry, else its first tentative one. */
static bool first_of_key(struct bucket *bucket, uint64_t key, struct place *place)
{
    bool is_found = false;
    for (unsigned way = 0; way < RATE_BUCKET_ENTRIES; way++) {
        uint64_t state = state_for_key(bucket, way, key);
        if (state == 0 || (is_found && state_status(state) == RATE_TENTATIVE))
            continue;
        *place = (struct place){&bucket->entries[way], state};
        is_found = true;
        if (state_status(state) == RATE_COMMITTED)
            return true;
    }
    return is_found;
}

enum settled { SETTLED, SETTLE_AGAIN, SETTLED_NONE };

/* Makes one of the key's tentative entries its committed one, unless there is one. */
static enum settled settle(struct bucket *bucket, uint64_t key, struct place *place)
{
    struct place first;
    if (!first_of_key(bucket, key, &first))
        return SETTLED_NONE;
    if (state_status(first.state) == RATE_COMMITTED) {
        *place = first;
        return SETTLED;
    }
    /* A second look, since the first may have passed other entries before this one was published. */
    for (unsigned way = 0; way < RATE_BUCKET_ENTRIES; way++) {
        struct entry *other = &bucket->entries[way];
        uint64_t state = state_for_key(bucket, way, key);
        if (other == first.entry || state == 0)
            continue;
        /* The first in order wins, so that two who settle never undo each other's choice for ever. */
        if (state_status(state) == RATE_COMMITTED || other < first.entry)
            return SETTLE_AGAIN;
        if (!swap_state(other, state, state_with_status(state, RATE_FREE)))
            return SETTLE_AGAIN;
    }
    uint64_t committed = state_with_status(first.state, RATE_COMMITTED);
    if (!swap_state(first.entry, first.state, committed))
        return SETTLE_AGAIN;
    *place = (struct place){first.entry, committed};
    return SETTLED;
}

/* A free entry, else the one with nothing open that was used least recently. */
static bool choose_victim(struct bucket *bucket, uint32_t now, struct place *victim)
{
    bool is_found = false;
    uint32_t oldest = 0;
    for (unsigned way = 0; way < RATE_BUCKET_ENTRIES; way++) {
        struct entry *entry = &bucket->entries[way];
        /* Whatever is read is verified by the swap in fill. */
        uint64_t state = atomic_load_explicit(&entry->state, memory_order_relaxed);
        enum rate_status status = state_status(state);
        if (status == RATE_FREE) {
            *victim = (struct place){entry, state};
            return true;
        }
        uint32_t age = state_age(state, now);
        if (status != RATE_COMMITTED || state_open(state) > 0 || (is_found && age <= oldest))
            continue;
        *victim = (struct place){entry, state};
        oldest = age;
        is_found = true;
    }
    return is_found;
}

/* Gives the entry to the key, tentatively; `place` then holds it. False: it has changed meanwhile. */
static bool fill(struct rate_table *table, struct bucket *bucket, uint64_t key, uint32_t now,
                 struct place *place)
{
    uint64_t old = place->state;
    uint64_t filling = state_pack(RATE_FILLING, 0, now, state_generation(old) + 1);
    if (!swap_state(place->entry, old, filling))
        return false;
    if (state_status(old) == RATE_COMMITTED)
        count_up(&table->evictions);
    /* The events go first: whoever sees the new key (acquire, in find) sees the new generation in them. */
    for (unsigned event = 0; event < RATE_EVENT_COUNT; event++)
        atomic_store_explicit(&place->entry->events[event], event_new(state_generation(filling)),
                              memory_order_relaxed);
    atomic_store_explicit(&bucket->keys[place->entry - bucket->entries], key, memory_order_release);
    place->state = state_with_status(filling, RATE_TENTATIVE);
    atomic_store(&place->entry->state, place->state);
    return true;
}

/* Finds or makes the key's entry. False: all others in the bucket are busy. */
static bool claim(struct rate_table *table, uint64_t key, uint32_t now, struct place *place)
{
    struct bucket *bucket = bucket_of(table, key);
    struct place own = {0};
    struct place victim;
    enum settled settled = SETTLE_AGAIN;
    for (unsigned round = 0; round < CLAIM_ROUNDS_MAX && settled != SETTLED; round++) {
        settled = settle(bucket, key, place);
        if (settled != SETTLED_NONE)
            continue;
        if (!choose_victim(bucket, now, &victim))
            break;
        if (fill(table, bucket, key, now, &victim))
            own = victim;
    }
    /* Ours may be left over beside a committed one; the swap fails if it was settled, either way. */
    if (own.entry != NULL)
        swap_state(own.entry, own.state, state_with_status(own.state, RATE_FREE));
    return settled == SETTLED;
}

static bool find_or_claim(struct rate_table *table, uint64_t key, uint32_t now, struct place *place)
{
    if (find(bucket_of(table, key), key, place) || claim(table, key, now, place))
        return true;
    count_up(&table->overflows);
    return false;
}

/* Keeps the entry from looking old. Losing the race is harmless: somebody else has just used it. */
static void touch(const struct place *place, uint32_t now)
{
    if (state_age(place->state, now) > 0)
        swap_state(place->entry, place->state, state_with_used(place->state, now));
}

/* False: the entry is another key's by now. */
static bool add_event(const struct place *place, enum rate_event event, uint32_t n, uint64_t now_ms,
                      uint32_t *sum)
{
    _Atomic uint64_t *word = &place->entry->events[event];
    /* Pairs with nothing but itself: the counts guard no other memory, and the generation is in the word. */
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed);
    uint64_t next;
    do {
        if (event_generation(old) != event_generation(event_new(state_generation(place->state))))
            return false;
        next = event_add(old, n, now_ms);
    } while (
        !atomic_compare_exchange_weak_explicit(word, &old, next, memory_order_relaxed, memory_order_relaxed));
    *sum = event_sum(next, now_ms);
    return true;
}

uint32_t rate_add(struct rate_table *table, uint64_t key, enum rate_event event, uint32_t n, uint64_t now_ms)
{
    assert(event >= 0 && event < RATE_EVENT_COUNT);
    uint32_t now = used_time(now_ms);
    struct place place;
    uint32_t sum;
    do {
        if (!find_or_claim(table, key, now, &place))
            return n;
        touch(&place, now);
    } while (!add_event(&place, event, n, now_ms, &sum));
    return sum;
}

uint32_t rate_get(const struct rate_table *table, uint64_t key, enum rate_event event, uint64_t now_ms)
{
    assert(event >= 0 && event < RATE_EVENT_COUNT);
    struct place place;
    while (find(bucket_of(table, key), key, &place)) {
        uint64_t word = atomic_load_explicit(&place.entry->events[event], memory_order_relaxed);
        if (event_generation(word) == event_generation(event_new(state_generation(place.state))))
            return event_sum(word, now_ms);
    }
    return 0;
}

uint32_t rate_enter(struct rate_table *table, uint64_t key, uint64_t now_ms)
{
    uint32_t now = used_time(now_ms);
    struct place place;
    while (find_or_claim(table, key, now, &place)) {
        uint32_t open = state_open(place.state);
        if (open == RATE_OPEN_MAX) {
            count_up(&table->overflows);
            return 0;
        }
        uint64_t entered = state_with_open(place.state, open + 1);
        if (state_age(entered, now) > 0)
            entered = state_with_used(entered, now);
        if (swap_state(place.entry, place.state, entered))
            return open + 1;
    }
    return 0;
}

void rate_leave(struct rate_table *table, uint64_t key)
{
    struct place place;
    while (find(bucket_of(table, key), key, &place)) {
        uint32_t open = state_open(place.state);
        if (open == 0 || swap_state(place.entry, place.state, state_with_open(place.state, open - 1)))
            return;
    }
}

uint32_t rate_open(const struct rate_table *table, uint64_t key)
{
    struct place place;
    return find(bucket_of(table, key), key, &place) ? state_open(place.state) : 0;
}
