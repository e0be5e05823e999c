#include "proto/data_kernel.h"

#include <assert.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/*
 * A kernel is this loop around the way in which a CPU makes the masks of one block. It is a macro, not a
 * function, as a function cannot be inlined into one that is compiled for another instruction set through a
 * pointer.
 *
 * Where the NULs are matters only in a block that needs a decision; in those passed over it is enough to know
 * whether there was one. So the loop keeps `trace`, to which each block adds with less work than a mask
 * takes.
 */
#define PASS_BLOCKS(isa)                                                                                     \
    do {                                                                                                     \
        struct smtp_data_carry c = *carry;                                                                   \
        trace_##isa trace = trace_none_##isa();                                                              \
        size_t passed = 0;                                                                                   \
                                                                                                             \
        assert(c.after_cr <= 1 && c.line_start <= 1);                                                        \
        for (; passed < block_count; passed++) {                                                             \
            const char *at = bytes + passed * SMTP_DATA_BLOCK_SIZE;                                          \
            struct smtp_data_block b = masks_##isa(at);                                                      \
                                                                                                             \
            if (__builtin_expect(smtp_data_block_bare(&b, &c) || smtp_data_block_dotted(&b, &c), 0)) {       \
                trace_##isa here = trace_add_##isa(trace_none_##isa(), at);                                  \
                                                                                                             \
                if (trace_has_nul_##isa(here))                                                               \
                    b.nul = nuls_##isa(at);                                                                  \
                *block = b;                                                                                  \
                break;                                                                                       \
            }                                                                                                \
            trace = trace_add_##isa(trace, at);                                                              \
            smtp_data_carry_over(&c, &b);                                                                    \
        }                                                                                                    \
        c.nul |= trace_has_nul_##isa(trace);                                                                 \
        *carry = c;                                                                                          \
        return passed;                                                                                       \
    } while (0)

#define EVERY_OCTET UINT64_C(0x0101010101010101)
#define HIGH_BITS   (EVERY_OCTET << 7)

/* Bit i of the result is the high bit of octet i of the word, which has no other bits. */
static inline uint64_t gather_high_bits(uint64_t word)
{
    assert((word & ~HIGH_BITS) == 0);
    return (word >> 7) * UINT64_C(0x0102040810204080) >> 56;
}

/* The high bit of each octet that equals `octet`; exact for every octet, as no borrow leaves the low seven
 * bits. */
static inline uint64_t equal_octets(uint64_t word, char octet)
{
    uint64_t different = word ^ EVERY_OCTET * (uint8_t)octet;

    return ~(((different & ~HIGH_BITS) + ~HIGH_BITS) | different) & HIGH_BITS;
}

static inline uint64_t load_word(const char *bytes)
{
    uint64_t word;

    memcpy(&word, bytes, sizeof(word));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

static inline struct smtp_data_block masks_portable(const char *bytes)
{
    struct smtp_data_block block = {0};

    for (unsigned i = 0; i < SMTP_DATA_BLOCK_SIZE; i += 8) {
        uint64_t word = load_word(bytes + i);

        block.cr |= gather_high_bits(equal_octets(word, '\r')) << i;
        block.lf |= gather_high_bits(equal_octets(word, '\n')) << i;
        block.dot |= gather_high_bits(equal_octets(word, '.')) << i;
        block.high |= gather_high_bits(word & HIGH_BITS) << i;
    }
    return block;
}

static inline uint64_t nuls_portable(const char *bytes)
{
    uint64_t nuls = 0;

    for (unsigned i = 0; i < SMTP_DATA_BLOCK_SIZE; i += 8)
        nuls |= gather_high_bits(equal_octets(load_word(bytes + i), '\0')) << i;
    return nuls;
}

/* Some octet has its high bit once there was a NUL. A borrow marks an octet wrongly only behind a NUL in the
 * same word. */
typedef uint64_t trace_portable;

static inline trace_portable trace_none_portable(void)
{
    return 0;
}

static inline trace_portable trace_add_portable(trace_portable trace, const char *bytes)
{
    for (unsigned i = 0; i < SMTP_DATA_BLOCK_SIZE; i += 8) {
        uint64_t word = load_word(bytes + i);

        trace |= (word - EVERY_OCTET) & ~word;
    }
    return trace;
}

static inline uint64_t trace_has_nul_portable(trace_portable trace)
{
    return (trace & HIGH_BITS) != 0;
}

size_t smtp_data_kernel_portable(const char *bytes, size_t block_count, struct smtp_data_carry *carry,
                                 struct smtp_data_block *block)
{
    PASS_BLOCKS(portable);
}

#if defined(__x86_64__)

static inline uint64_t equal_sse2(const __m128i octets[4], char octet)
{
    __m128i wanted = _mm_set1_epi8(octet);
    uint64_t mask = 0;

    for (int i = 3; i >= 0; i--)
        mask = mask << 16 | (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(octets[i], wanted));
    return mask;
}

static inline struct smtp_data_block masks_sse2(const char *bytes)
{
    __m128i octets[4];
    uint64_t high = 0;

    for (int i = 3; i >= 0; i--) {
        octets[i] = _mm_loadu_si128((const __m128i_u *)(bytes + i * 16));
        high = high << 16 | (uint32_t)_mm_movemask_epi8(octets[i]);
    }
    return (struct smtp_data_block){
        .cr = equal_sse2(octets, '\r'),
        .lf = equal_sse2(octets, '\n'),
        .dot = equal_sse2(octets, '.'),
        .high = high,
    };
}

static inline uint64_t nuls_sse2(const char *bytes)
{
    __m128i octets[4];

    for (int i = 0; i < 4; i++)
        octets[i] = _mm_loadu_si128((const __m128i_u *)(bytes + i * 16));
    return equal_sse2(octets, '\0');
}

/* The least of all octets in each place. */
typedef __m128i trace_sse2;

static inline trace_sse2 trace_none_sse2(void)
{
    return _mm_set1_epi8(-1);
}

static inline trace_sse2 trace_add_sse2(trace_sse2 trace, const char *bytes)
{
    for (int i = 0; i < 4; i++)
        trace = _mm_min_epu8(trace, _mm_loadu_si128((const __m128i_u *)(bytes + i * 16)));
    return trace;
}

static inline uint64_t trace_has_nul_sse2(trace_sse2 trace)
{
    return _mm_movemask_epi8(_mm_cmpeq_epi8(trace, _mm_setzero_si128())) != 0;
}

size_t smtp_data_kernel_sse2(const char *bytes, size_t block_count, struct smtp_data_carry *carry,
                             struct smtp_data_block *block)
{
    PASS_BLOCKS(sse2);
}

__attribute__((target("avx2"))) static inline uint64_t equal_avx2(__m256i low, __m256i high, char octet)
{
    __m256i wanted = _mm256_set1_epi8(octet);
    uint64_t low_mask = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(low, wanted));
    uint64_t high_mask = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(high, wanted));

    return high_mask << 32 | low_mask;
}

__attribute__((target("avx2"))) static inline struct smtp_data_block masks_avx2(const char *bytes)
{
    __m256i low = _mm256_loadu_si256((const __m256i_u *)bytes);
    __m256i high = _mm256_loadu_si256((const __m256i_u *)(bytes + 32));

    return (struct smtp_data_block){
        .cr = equal_avx2(low, high, '\r'),
        .lf = equal_avx2(low, high, '\n'),
        .dot = equal_avx2(low, high, '.'),
        .high = (uint64_t)(uint32_t)_mm256_movemask_epi8(high) << 32 | (uint32_t)_mm256_movemask_epi8(low),
    };
}

__attribute__((target("avx2"))) static inline uint64_t nuls_avx2(const char *bytes)
{
    return equal_avx2(_mm256_loadu_si256((const __m256i_u *)bytes),
                      _mm256_loadu_si256((const __m256i_u *)(bytes + 32)), '\0');
}

/* The least of all octets in each place. */
typedef __m256i trace_avx2;

__attribute__((target("avx2"))) static inline trace_avx2 trace_none_avx2(void)
{
    return _mm256_set1_epi8(-1);
}

__attribute__((target("avx2"))) static inline trace_avx2 trace_add_avx2(trace_avx2 trace, const char *bytes)
{
    __m256i low = _mm256_loadu_si256((const __m256i_u *)bytes);
    __m256i high = _mm256_loadu_si256((const __m256i_u *)(bytes + 32));

    return _mm256_min_epu8(trace, _mm256_min_epu8(low, high));
}

__attribute__((target("avx2"))) static inline uint64_t trace_has_nul_avx2(trace_avx2 trace)
{
    return _mm256_movemask_epi8(_mm256_cmpeq_epi8(trace, _mm256_setzero_si256())) != 0;
}

__attribute__((target("avx2"))) size_t smtp_data_kernel_avx2(const char *bytes, size_t block_count,
                                                             struct smtp_data_carry *carry,
                                                             struct smtp_data_block *block)
{
    PASS_BLOCKS(avx2);
}

smtp_data_kernel *smtp_data_kernel_best(void)
{
    return __builtin_cpu_supports("avx2") ? smtp_data_kernel_avx2 : smtp_data_kernel_sse2;
}

#else

smtp_data_kernel *smtp_data_kernel_best(void)
{
    return smtp_data_kernel_portable;
}

#endif

static void find_decisions(struct smtp_data_stop *stop, const struct smtp_data_carry *carry)
{
    const struct smtp_data_block *block = &stop->block;
    uint64_t inside = smtp_data_bits_before(stop->valid);

    assert(stop->valid > 0 && stop->valid <= SMTP_DATA_BLOCK_SIZE);
    stop->bare = (block->lf ^ (block->cr << 1 | carry->after_cr)) & inside;
    if (stop->bare != 0)
        inside = (stop->bare & -stop->bare) - 1;
    stop->dots = block->dot & (block->lf << 1 | carry->line_start) & inside;
}

bool smtp_data_find_stop(smtp_data_kernel *kernel, const char *bytes, size_t size, size_t at,
                         struct smtp_data_carry *carry, struct smtp_data_stop *stop)
{
    assert(at <= size);
    size_t block_count = (size - at) / SMTP_DATA_BLOCK_SIZE;
    size_t passed = kernel(bytes + at, block_count, carry, &stop->block);

    assert(passed <= block_count);
    at += passed * SMTP_DATA_BLOCK_SIZE;
    stop->valid = SMTP_DATA_BLOCK_SIZE;
    if (passed == block_count) {
        /* The padding begins no line and is no NUL; behind a CR it stops the kernel, with nothing bare
         * inside. */
        char tail[SMTP_DATA_BLOCK_SIZE] = {0};

        stop->valid = size - at;
        assert(stop->valid < SMTP_DATA_BLOCK_SIZE);
        if (stop->valid == 0)
            return false;
        memset(tail + stop->valid, 'x', sizeof(tail) - stop->valid);
        memcpy(tail, bytes + at, stop->valid);
        if (kernel(tail, 1, carry, &stop->block) == 1)
            return false;
    }
    stop->at = at;
    find_decisions(stop, carry);
    return true;
}
