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
 */
#define PASS_BLOCKS(make_masks)                                                                              \
    do {                                                                                                     \
        struct smtp_data_carry c = *carry;                                                                   \
        size_t passed = 0;                                                                                   \
                                                                                                             \
        assert(c.after_cr <= 1 && c.line_start <= 1);                                                        \
        for (; passed < block_count; passed++) {                                                             \
            struct smtp_data_block b = make_masks(bytes + passed * SMTP_DATA_BLOCK_SIZE);                    \
                                                                                                             \
            if (__builtin_expect(smtp_data_block_bare(&b, &c) || smtp_data_block_dotted(&b, &c), 0)) {       \
                *block = b;                                                                                  \
                break;                                                                                       \
            }                                                                                                \
            smtp_data_carry_over(&c, &b);                                                                    \
        }                                                                                                    \
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

static inline struct smtp_data_block masks_portable(const char *bytes)
{
    struct smtp_data_block block = {0};

    for (unsigned i = 0; i < SMTP_DATA_BLOCK_SIZE; i += 8) {
        uint64_t word;

        memcpy(&word, bytes + i, sizeof(word));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        word = __builtin_bswap64(word);
#endif
        block.cr |= gather_high_bits(equal_octets(word, '\r')) << i;
        block.lf |= gather_high_bits(equal_octets(word, '\n')) << i;
        block.dot |= gather_high_bits(equal_octets(word, '.')) << i;
        block.high |= gather_high_bits(word & HIGH_BITS) << i;
    }
    return block;
}

size_t smtp_data_kernel_portable(const char *bytes, size_t block_count, struct smtp_data_carry *carry,
                                 struct smtp_data_block *block)
{
    PASS_BLOCKS(masks_portable);
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

size_t smtp_data_kernel_sse2(const char *bytes, size_t block_count, struct smtp_data_carry *carry,
                             struct smtp_data_block *block)
{
    PASS_BLOCKS(masks_sse2);
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

__attribute__((target("avx2"))) size_t smtp_data_kernel_avx2(const char *bytes, size_t block_count,
                                                             struct smtp_data_carry *carry,
                                                             struct smtp_data_block *block)
{
    PASS_BLOCKS(masks_avx2);
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
