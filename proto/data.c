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
 *     NEW_LINE       INSIDE     CR         bare LF       INSIDE
 *
 * The dot of DOT and the dot and CR of DOT_CR are held back. The kernels follow the same table within an
 * input, by masks of 64 octets; the states are needed only from one input to the next.
 *
 * NEW_LINE is behind a bare newline that was made a CRLF: like INSIDE, but that a dot must be stuffed. Every
 * bare newline ends an input, so to say: the scanner stops at it, and makes the CRLF with the lead of the
 * next call. So a new line begins at the first octet of an input, or behind a LF there, and nowhere else.
 */
enum data_state {
    DATA_LINE_START,
    DATA_INSIDE,
    DATA_CR,
    DATA_DOT,
    DATA_DOT_CR,
    DATA_NEW_LINE,
    DATA_OVER,
};

void smtp_data_scanner_init(struct smtp_data_scanner *scanner, enum smtp_data_mode mode)
{
    assert(mode <= SMTP_DATA_NORMALISE);
    *scanner = (struct smtp_data_scanner){
        .kernel = smtp_data_kernel_best(), .mode = (uint8_t)mode, .state = DATA_LINE_START};
}

struct scan {
    const char *bytes;
    size_t size;
    size_t start; /* of the body; octets before it were replaced by the lead */
    struct smtp_data_carry carry;
};

static enum smtp_data refuse(struct smtp_data_scanner *scanner, struct smtp_data_chunk *out,
                             enum smtp_data result, size_t consumed)
{
    assert(result == SMTP_DATA_BARE_LF || result == SMTP_DATA_BARE_CR);
    assert(scanner->mode == SMTP_DATA_STRICT);
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

static void set_lead(struct smtp_data_scanner *scanner, struct smtp_data_chunk *out, const char *lead)
{
    out->lead = lead;
    out->lead_size = strlen(lead);
    assert(out->lead_size <= SMTP_DATA_LEAD_MAX);
    scanner->size += out->lead_size;
}

static void hand_out(struct smtp_data_scanner *scanner, struct smtp_data_chunk *out, const struct scan *scan,
                     size_t end)
{
    assert(scan->start <= end && end <= scan->size);
    out->body = scan->bytes + scan->start;
    out->body_size = end - scan->start;
    scanner->size += out->body_size;
}

/* The scan stopped in a block: of its octets those in front of `end` count. */
static void note_octets(struct smtp_data_scanner *scanner, const struct scan *scan,
                        const struct smtp_data_stop *stop, size_t end)
{
    assert(end >= stop->at && end <= stop->at + stop->valid);
    uint64_t taken = smtp_data_bits_before(end - stop->at);

    scanner->has_8bit |= (scan->carry.high | (stop->block.high & taken)) != 0;
    scanner->has_nul |= (scan->carry.nul | (stop->block.nul & taken)) != 0;
}

/* The whole input was looked at; `held` octets at its end may be the end of the message. */
static enum smtp_data go_on(struct smtp_data_scanner *scanner, struct smtp_data_chunk *out,
                            const struct scan *scan, size_t held)
{
    static const uint8_t held_states[] = {[1] = DATA_DOT, [2] = DATA_DOT_CR};

    assert(held <= 2 && held <= scan->size);
    out->consumed = scan->size;
    hand_out(scanner, out, scan, scan->size - held);
    if (held > 0)
        scanner->state = held_states[held];
    else if (scan->bytes[scan->size - 1] == '\n')
        scanner->state = DATA_LINE_START;
    else
        scanner->state = scan->bytes[scan->size - 1] == '\r' ? DATA_CR : DATA_INSIDE;
    return SMTP_DATA_MORE;
}

/* Stops behind the first `consumed` octets; those from `end` on are not handed out. */
static enum smtp_data pause(struct smtp_data_scanner *scanner, struct smtp_data_chunk *out,
                            const struct scan *scan, size_t end, size_t consumed, enum data_state state)
{
    assert(scanner->mode == SMTP_DATA_NORMALISE);
    assert(consumed > 0 && end <= consumed);
    out->consumed = consumed;
    hand_out(scanner, out, scan, end);
    scanner->state = (uint8_t)state;
    return SMTP_DATA_MORE;
}

enum verdict {
    VERDICT_PASS, /* the dots are content */
    VERDICT_HELD, /* the input ends in what may be the end of the message */
    VERDICT_END,
    VERDICT_STUFFING, /* a dot that must go, as only a bare newline is behind it */
    VERDICT_BARE_LF,
    VERDICT_BARE_CR,
};

/* Judges the dot that begins a line at `at` by what is behind it. */
static enum verdict judge_dot(const struct scan *scan, size_t at)
{
    assert(scan->bytes[at] == '.');
    if (at + 1 == scan->size)
        return VERDICT_HELD;
    if (scan->bytes[at + 1] == '\n')
        return VERDICT_STUFFING;
    if (scan->bytes[at + 1] != '\r')
        return VERDICT_PASS;
    if (at + 2 == scan->size)
        return VERDICT_HELD;
    return scan->bytes[at + 2] == '\n' ? VERDICT_END : VERDICT_STUFFING;
}

/* Finds the first octet of the block that decides something; *where is its place in the input. */
static enum verdict judge_block(struct smtp_data_scanner *scanner, const struct scan *scan,
                                const struct smtp_data_stop *stop, size_t *where)
{
    for (uint64_t dots = stop->dots; dots != 0; dots &= dots - 1) {
        size_t at = stop->at + (size_t)__builtin_ctzll(dots);
        enum verdict verdict = judge_dot(scan, at);

        *where = at;
        /* A strict scanner refuses the bare newline behind such a dot, where it is. */
        if (verdict == VERDICT_STUFFING && scanner->mode == SMTP_DATA_STRICT)
            continue;
        if (verdict != VERDICT_PASS)
            return verdict;
        scanner->dot_lines = true;
    }
    if (stop->bare == 0)
        return VERDICT_PASS;
    *where = stop->at + (size_t)__builtin_ctzll(stop->bare);
    return (stop->block.lf & stop->bare & -stop->bare) != 0 ? VERDICT_BARE_LF : VERDICT_BARE_CR;
}

/* Acts on a verdict other than VERDICT_PASS. */
static enum smtp_data decide(struct smtp_data_scanner *scanner, const struct scan *scan, enum verdict verdict,
                             size_t where, struct smtp_data_chunk *out)
{
    switch (verdict) {
    case VERDICT_PASS:
        break;
    case VERDICT_HELD:
        return go_on(scanner, out, scan, scan->size - where);
    case VERDICT_END:
        hand_out(scanner, out, scan, where);
        return end_message(scanner, out, where + 3);
    case VERDICT_STUFFING:
        return pause(scanner, out, scan, where, where + 1, DATA_INSIDE);
    case VERDICT_BARE_LF:
        if (scanner->mode == SMTP_DATA_STRICT)
            return refuse(scanner, out, SMTP_DATA_BARE_LF, where + 1);
        return pause(scanner, out, scan, where, where, DATA_INSIDE);
    case VERDICT_BARE_CR:
        if (scanner->mode == SMTP_DATA_STRICT)
            return refuse(scanner, out, SMTP_DATA_BARE_CR, where);
        return pause(scanner, out, scan, where, where, DATA_CR);
    }
    __builtin_unreachable();
}

/* Everything from scan->start on: neither the rest of an end held back nor of a newline. */
static enum smtp_data scan_content(struct smtp_data_scanner *scanner, struct scan *scan,
                                   struct smtp_data_chunk *out)
{
    struct smtp_data_stop stop;
    size_t at = scan->start;

    while (smtp_data_find_stop(scanner->kernel, scan->bytes, scan->size, at, &scan->carry, &stop)) {
        size_t where = stop.at;
        enum verdict verdict = judge_block(scanner, scan, &stop, &where);

        if (verdict != VERDICT_PASS) {
            note_octets(scanner, scan, &stop, where);
            return decide(scanner, scan, verdict, where, out);
        }
        smtp_data_carry_over(&scan->carry, &stop.block);
        at = stop.at + stop.valid;
    }
    scanner->has_8bit |= scan->carry.high != 0;
    scanner->has_nul |= scan->carry.nul != 0;
    return go_on(scanner, out, scan, 0);
}

/* What makes the new line of a bare newline, and the same with the stuffing of the dot behind it. */
struct newline {
    const char *plain;
    const char *stuffed;
};

static const struct newline newline_crlf = {"\r\n", "\r\n."};
static const struct newline newline_lf = {"\n", "\n."}; /* behind a CR that was handed out */
static const struct newline newline_done = {"", "."};   /* behind one that an earlier call handed out */

/* A line begins with a newline that was bare; the first `taken` octets of the input were that newline. */
static enum smtp_data begin_line(struct smtp_data_scanner *scanner, struct scan *scan,
                                 struct smtp_data_chunk *out, const struct newline *newline, size_t taken)
{
    assert(scanner->mode == SMTP_DATA_NORMALISE);
    assert(taken <= 1 && taken <= scan->size);
    scan->start = taken;
    if (taken == scan->size) {
        set_lead(scanner, out, newline->plain);
        return pause(scanner, out, scan, taken, taken, DATA_NEW_LINE);
    }

    bool is_dot = scan->bytes[taken] == '.';

    set_lead(scanner, out, is_dot ? newline->stuffed : newline->plain);
    scanner->dot_lines |= is_dot;
    return scan_content(scanner, scan, out);
}

/* The input before this one ended in "." at the beginning of a line. */
static enum smtp_data resume_dot(struct smtp_data_scanner *scanner, struct scan *scan,
                                 struct smtp_data_chunk *out)
{
    bool is_strict = scanner->mode == SMTP_DATA_STRICT;

    assert(scanner->state == DATA_DOT);
    if (scan->bytes[0] == '\n' && !is_strict)
        return begin_line(scanner, scan, out, &newline_crlf, 1);
    if (scan->bytes[0] != '\r') {
        set_lead(scanner, out, ".");
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
    return is_strict ? refuse(scanner, out, SMTP_DATA_BARE_CR, 1) : scan_content(scanner, scan, out);
}

/* The input before this one ended in "." CR, or in that CR alone. */
static enum smtp_data resume_dot_cr(struct smtp_data_scanner *scanner, struct scan *scan,
                                    struct smtp_data_chunk *out)
{
    assert(scanner->state == DATA_DOT_CR);
    if (scan->bytes[0] == '\n')
        return end_message(scanner, out, 1);
    if (scanner->mode == SMTP_DATA_STRICT)
        return refuse(scanner, out, SMTP_DATA_BARE_CR, 0);
    return begin_line(scanner, scan, out, &newline_crlf, 0);
}

/* A bare newline at the beginning of the input or before it; NULL if there is none. */
static const struct newline *find_newline(const struct smtp_data_scanner *scanner, char first, size_t *taken)
{
    bool is_after_cr = scanner->state == DATA_CR;

    *taken = 0;
    if (is_after_cr)
        return first == '\n' ? NULL : &newline_lf;
    if (first == '\n') {
        *taken = 1;
        return &newline_crlf;
    }
    return scanner->state == DATA_NEW_LINE ? &newline_done : NULL;
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
    if (scanner->state == DATA_DOT_CR)
        return resume_dot_cr(scanner, &scan, out);
    if (scanner->mode == SMTP_DATA_NORMALISE) {
        size_t taken;
        const struct newline *newline = find_newline(scanner, bytes[0], &taken);

        if (newline != NULL)
            return begin_line(scanner, &scan, out, newline, taken);
    }
    scan.carry.after_cr = scanner->state == DATA_CR;
    scan.carry.line_start = scanner->state == DATA_LINE_START;
    return scan_content(scanner, &scan, out);
}
