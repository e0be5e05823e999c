#include "proto/data.h"

#include "proto/data_kernel.h"

#include <assert.h>
#include <string.h>

/*
 * What came last, when an input ends, and what the next octet makes of it:
 *
 *                    "."        CR         LF            other
 *     LINE_START     DOT        CR         bare LF       INSIDE
 *     INSIDE         INSIDE     CR         bare LF       INSIDE
 *     CR             bare CR    bare CR    LINE_START    bare CR
 *     DOT            INSIDE     DOT_CR     bare LF       INSIDE
 *     DOT_CR         bare CR    bare CR    the end       bare CR
 *
 * The dot of DOT and the dot and CR of DOT_CR are held back. The kernels follow the same table within an
 * input, by masks of 64 octets; the states are needed only from one input to the next.
 */
enum data_state {
    DATA_LINE_START,
    DATA_INSIDE,
    DATA_CR,
    DATA_DOT,
    DATA_DOT_CR,
    DATA_OVER,
};

void smtp_data_scanner_init(struct smtp_data_scanner *scanner)
{
    *scanner = (struct smtp_data_scanner){.kernel = smtp_data_kernel_best(), .state = DATA_LINE_START};
}

static enum smtp_data refuse(struct smtp_data_scanner *scanner, struct smtp_data_chunk *out,
                             enum smtp_data result, size_t consumed)
{
    assert(result == SMTP_DATA_BARE_LF || result == SMTP_DATA_BARE_CR);
    scanner->state = DATA_OVER;
    *out = (struct smtp_data_chunk){.consumed = consumed, .lead = "", .body = ""};
    return result;
}

static enum smtp_data end_message(struct smtp_data_scanner *scanner, struct smtp_data_chunk *out,
                                  size_t consumed)
{
    assert(out->body_size <= consumed);
    scanner->state = DATA_OVER;
    out->consumed = consumed;
    return SMTP_DATA_END;
}

static void hand_out(struct smtp_data_scanner *scanner, struct smtp_data_chunk *out, const char *bytes,
                     size_t size)
{
    out->body = bytes;
    out->body_size = size;
    scanner->size += size;
}

/* The whole input was looked at; `held` octets at its end may be the end of the message. */
static enum smtp_data go_on(struct smtp_data_scanner *scanner, struct smtp_data_chunk *out, const char *bytes,
                            size_t size, size_t held)
{
    static const uint8_t held_states[] = {[1] = DATA_DOT, [2] = DATA_DOT_CR};

    assert(held <= 2 && held <= size);
    out->consumed = size;
    hand_out(scanner, out, bytes, size - held);
    if (held > 0)
        scanner->state = held_states[held];
    else if (bytes[size - 1] == '\n')
        scanner->state = DATA_LINE_START;
    else
        scanner->state = bytes[size - 1] == '\r' ? DATA_CR : DATA_INSIDE;
    return SMTP_DATA_MORE;
}

struct scan {
    const char *bytes;
    size_t size;
    struct smtp_data_carry carry;
};

/* A block that needs a decision, at `at`; octets from `valid` on are not part of the input. */
struct stop {
    struct smtp_data_block block;
    size_t at;
    size_t valid;
};

enum verdict {
    VERDICT_PASS, /* the dots are content */
    VERDICT_HELD, /* the input ends in what may be the end of the message */
    VERDICT_END,
    VERDICT_BARE_LF,
    VERDICT_BARE_CR,
};

/* Judges the dot that begins a line at `at` by what is behind it; a bare CR there is found where it is. */
static enum verdict judge_dot(const struct scan *scan, size_t at)
{
    assert(scan->bytes[at] == '.');
    if (at + 1 == scan->size)
        return VERDICT_HELD;
    if (scan->bytes[at + 1] != '\r')
        return VERDICT_PASS;
    if (at + 2 == scan->size)
        return VERDICT_HELD;
    return scan->bytes[at + 2] == '\n' ? VERDICT_END : VERDICT_PASS;
}

/* Finds the first octet of the block that decides something; *where is its place in the input. */
static enum verdict judge_block(const struct scan *scan, const struct stop *stop, size_t *where,
                                bool *dot_lines)
{
    const struct smtp_data_block *block = &stop->block;
    uint64_t inside = stop->valid == SMTP_DATA_BLOCK_SIZE ? ~UINT64_C(0) : (UINT64_C(1) << stop->valid) - 1;
    uint64_t bare = (block->lf ^ (block->cr << 1 | scan->carry.after_cr)) & inside;
    uint64_t before_bare = bare != 0 ? (bare & -bare) - 1 : inside;
    uint64_t dots = block->dot & (block->lf << 1 | scan->carry.line_start) & before_bare;

    for (; dots != 0; dots &= dots - 1) {
        size_t at = stop->at + (size_t)__builtin_ctzll(dots);
        enum verdict verdict = judge_dot(scan, at);

        *where = at;
        if (verdict != VERDICT_PASS)
            return verdict;
        *dot_lines = true;
    }
    if (bare == 0)
        return VERDICT_PASS;
    *where = stop->at + (size_t)__builtin_ctzll(bare);
    return (block->lf & bare & -bare) != 0 ? VERDICT_BARE_LF : VERDICT_BARE_CR;
}

/* Lets the kernel pass over what it can from `at` on; false when nothing is left. */
static bool find_stop(const struct smtp_data_scanner *scanner, struct scan *scan, size_t at,
                      struct stop *stop)
{
    size_t block_count = (scan->size - at) / SMTP_DATA_BLOCK_SIZE;
    size_t passed = scanner->kernel(scan->bytes + at, block_count, &scan->carry, &stop->block);

    assert(passed <= block_count);
    at += passed * SMTP_DATA_BLOCK_SIZE;
    stop->at = at;
    if (passed < block_count) {
        stop->valid = SMTP_DATA_BLOCK_SIZE;
        return true;
    }

    char tail[SMTP_DATA_BLOCK_SIZE] = {0};

    stop->valid = scan->size - at;
    assert(stop->valid < SMTP_DATA_BLOCK_SIZE);
    if (stop->valid == 0)
        return false;
    memcpy(tail, scan->bytes + at, stop->valid);
    return scanner->kernel(tail, 1, &scan->carry, &stop->block) == 0;
}

/* Everything from the first octet on that is not the rest of an end held back. */
static enum smtp_data scan_content(struct smtp_data_scanner *scanner, struct scan *scan,
                                   struct smtp_data_chunk *out)
{
    struct stop stop;
    size_t at = 0;

    while (at < scan->size && find_stop(scanner, scan, at, &stop)) {
        size_t where = 0;
        enum verdict verdict = judge_block(scan, &stop, &where, &scanner->dot_lines);

        switch (verdict) {
        case VERDICT_PASS:
            smtp_data_carry_over(&scan->carry, &stop.block);
            at = stop.at + stop.valid;
            continue;
        case VERDICT_HELD:
            scanner->has_8bit |= (scan->carry.high | stop.block.high) != 0;
            return go_on(scanner, out, scan->bytes, scan->size, scan->size - where);
        case VERDICT_END:
            stop.block.high &= (UINT64_C(1) << (where - stop.at)) - 1;
            scanner->has_8bit |= (scan->carry.high | stop.block.high) != 0;
            hand_out(scanner, out, scan->bytes, where);
            return end_message(scanner, out, where + 3);
        case VERDICT_BARE_LF:
            return refuse(scanner, out, SMTP_DATA_BARE_LF, where + 1);
        case VERDICT_BARE_CR:
            return refuse(scanner, out, SMTP_DATA_BARE_CR, where);
        }
    }
    scanner->has_8bit |= scan->carry.high != 0;
    return go_on(scanner, out, scan->bytes, scan->size, 0);
}

/* The input before this one ended in "." at the beginning of a line. */
static enum smtp_data resume_dot(struct smtp_data_scanner *scanner, struct scan *scan,
                                 struct smtp_data_chunk *out)
{
    assert(scanner->state == DATA_DOT);
    if (scan->bytes[0] != '\r') {
        out->lead = ".";
        out->lead_size = 1;
        scanner->size++;
        scanner->dot_lines = true;
        return scan_content(scanner, scan, out);
    }
    if (scan->size == 1) {
        scanner->state = DATA_DOT_CR;
        out->consumed = 1;
        return SMTP_DATA_MORE;
    }
    if (scan->bytes[1] == '\n')
        return end_message(scanner, out, 2);
    return refuse(scanner, out, SMTP_DATA_BARE_CR, 1);
}

enum smtp_data smtp_data_scan(struct smtp_data_scanner *scanner, const char *bytes, size_t size,
                              struct smtp_data_chunk *out)
{
    struct scan scan = {.bytes = bytes, .size = size};

    assert(scanner->state < DATA_OVER);
    assert(bytes != NULL || size == 0);
    *out = (struct smtp_data_chunk){.lead = "", .body = ""};
    if (size == 0)
        return SMTP_DATA_MORE;
    if (scanner->state == DATA_DOT)
        return resume_dot(scanner, &scan, out);
    if (scanner->state == DATA_DOT_CR) {
        if (bytes[0] == '\n')
            return end_message(scanner, out, 1);
        return refuse(scanner, out, SMTP_DATA_BARE_CR, 0);
    }
    scan.carry.after_cr = scanner->state == DATA_CR;
    scan.carry.line_start = scanner->state == DATA_LINE_START;
    return scan_content(scanner, &scan, out);
}
