#include "queue/crc32c.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

#define POLYNOMIAL UINT32_C(0x82f63b78)

static uint32_t table_entry(uint32_t byte)
{
    for (int bit = 0; bit < 8; bit++)
        byte = (byte >> 1) ^ (byte & 1 ? POLYNOMIAL : 0);
    return byte;
}

uint32_t crc32c_portable(uint32_t crc, const void *bytes, size_t size)
{
    static uint32_t table[256];
    static atomic_bool ready;
    if (!atomic_load_explicit(&ready, memory_order_acquire)) {
        /* Threads that race here write the same values. */
        for (uint32_t i = 0; i < 256; i++)
            __atomic_store_n(&table[i], table_entry(i), __ATOMIC_RELAXED);
        atomic_store_explicit(&ready, true, memory_order_release);
    }
    const uint8_t *p = bytes;
    crc = ~crc;
    for (size_t i = 0; i < size; i++)
        crc = (crc >> 8) ^ __atomic_load_n(&table[(crc ^ p[i]) & 0xff], __ATOMIC_RELAXED);
    return ~crc;
}

#if defined(__x86_64__)
/* One instruction is in flight for three cycles; three independent streams keep the unit busy. The streams
 * are joined by multiplying with x^(8*LANE) modulo the polynomial, done by shifting in zeros through a table
 * made once. */
enum { LANE = 1024 };

struct shift_table {
    uint32_t word[4][256];
};

static struct shift_table shift_lane;
static atomic_int shift_state; /* 0 unmade, 1 being made, 2 ready */

__attribute__((target("sse4.2"))) static uint32_t shift_slow(uint32_t crc)
{
    uint64_t c = crc;
    for (int i = 0; i < LANE / 8; i++)
        c = _mm_crc32_u64(c, 0);
    return (uint32_t)c;
}

static bool shift_ready(void)
{
    int state = atomic_load_explicit(&shift_state, memory_order_acquire);
    if (state == 2)
        return true;
    int unmade = 0;
    if (state == 1 || !atomic_compare_exchange_strong(&shift_state, &unmade, 1))
        return false;
    for (uint32_t byte = 0; byte < 4; byte++)
        for (uint32_t i = 0; i < 256; i++)
            shift_lane.word[byte][i] = shift_slow(i << (8 * byte));
    atomic_store_explicit(&shift_state, 2, memory_order_release);
    return true;
}

static uint32_t shift(uint32_t crc)
{
    return shift_lane.word[0][crc & 0xff] ^ shift_lane.word[1][(crc >> 8) & 0xff] ^
           shift_lane.word[2][(crc >> 16) & 0xff] ^ shift_lane.word[3][crc >> 24];
}

static uint64_t word_at(const uint8_t *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof(word));
    return word;
}

__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const uint8_t *p, size_t size)
{
    uint64_t a = ~crc;
    while (size >= 3 * LANE && shift_ready()) {
        uint64_t b = 0;
        uint64_t c = 0;
        for (int i = 0; i < LANE; i += 8) {
            a = _mm_crc32_u64(a, word_at(p + i));
            b = _mm_crc32_u64(b, word_at(p + LANE + i));
            c = _mm_crc32_u64(c, word_at(p + 2 * LANE + i));
        }
        a = shift(shift((uint32_t)a) ^ (uint32_t)b) ^ (uint32_t)c;
        p += (size_t)3 * LANE;
        size -= (size_t)3 * LANE;
    }
    for (; size >= 8; p += 8, size -= 8)
        a = _mm_crc32_u64(a, word_at(p));
    for (; size > 0; p++, size--)
        a = _mm_crc32_u8((uint32_t)a, *p);
    return ~(uint32_t)a;
}
#endif

uint32_t crc32c(uint32_t crc, const void *bytes, size_t size)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2"))
        return crc32c_sse42(crc, bytes, size);
#endif
    return crc32c_portable(crc, bytes, size);
}
