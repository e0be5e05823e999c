/*
 * The kernels are the part of the data scanner that differs from CPU to CPU: they pass over content in which
 * there is nothing to decide, 64 octets at a time. Private to proto/ and its tests. Pure; any thread may call
 * them.
 */
#pragma once

#include "proto/data.h"

#define SMTP_DATA_BLOCK_SIZE 64 /* octets; one bit each in the masks */

/* What the octet before a block was; each 0 or 1. */
struct smtp_data_carry {
    uint64_t after_cr;   /* it was a CR, so LF must follow */
    uint64_t line_start; /* it was the LF of CRLF, or there was none at all */
    uint64_t high;       /* not 0: some octet of the blocks passed was above 127; only ever added to */
    uint64_t nul;        /* not 0: some octet of the blocks passed was NUL; only ever added to */
};

/* Which octets of a block are of which kind: bit 0 is the first octet. */
struct smtp_data_block {
    uint64_t cr;
    uint64_t lf;
    uint64_t dot;
    uint64_t high; /* above 127 */
    uint64_t nul;  /* NUL */
};

/*
 * Each kernel is a smtp_data_kernel: it passes over blocks from the first on and returns how many it passed.
 * It stops in front of a block with a bare CR or LF, or with a dot that begins a line, and describes that
 * block in *block, which is otherwise unspecified. *carry is kept up to date for the octet behind the blocks
 * passed.
 */
smtp_data_kernel smtp_data_kernel_portable;
#if defined(__x86_64__)
smtp_data_kernel smtp_data_kernel_sse2;
smtp_data_kernel smtp_data_kernel_avx2; /* only where the CPU has AVX2 */
#endif

/* The fastest kernel that this CPU can run. */
smtp_data_kernel *smtp_data_kernel_best(void) __attribute__((returns_nonnull));

/* True if the block needs a decision; the masks and the carry say of what kind. */
static inline bool smtp_data_block_bare(const struct smtp_data_block *block,
                                        const struct smtp_data_carry *carry)
{
    return block->lf != (block->cr << 1 | carry->after_cr);
}

static inline bool smtp_data_block_dotted(const struct smtp_data_block *block,
                                          const struct smtp_data_carry *carry)
{
    return (block->dot & (block->lf << 1 | carry->line_start)) != 0;
}

static inline void smtp_data_carry_over(struct smtp_data_carry *carry, const struct smtp_data_block *block)
{
    carry->after_cr = block->cr >> 63;
    carry->line_start = block->lf >> 63;
    carry->high |= block->high;
    carry->nul |= block->nul;
}

/* The bits in front of bit `index`, which may be 64: then all. */
static inline uint64_t smtp_data_bits_before(size_t index)
{
    return index >= SMTP_DATA_BLOCK_SIZE ? ~UINT64_C(0) : (UINT64_C(1) << index) - 1;
}

/* A block that needs a decision, as the scanners see it. */
struct smtp_data_stop {
    struct smtp_data_block block;
    size_t at; /* its place in the input */
    uint64_t
        bare; /* bit 0 is the octet at `at`: a LF without its CR, or what is behind a CR without its LF */
    uint64_t dots; /* those that begin a line, as far as the first bare bit */
    size_t valid;  /* its octets that are in the input; no mask has a bit behind them */
};

/*
 * Lets the kernel pass over what it can of bytes[at..size), and keeps *carry up to date. False when nothing
 * is left; otherwise *stop is the block to decide about. To go on behind it: smtp_data_carry_over(), then
 * again from stop->at + stop->valid.
 */
bool smtp_data_find_stop(smtp_data_kernel *kernel, const char *bytes, size_t size, size_t at,
                         struct smtp_data_carry *carry, struct smtp_data_stop *stop)
    __attribute__((warn_unused_result));
