#include "proto/bdat.h"

#include "proto/data_kernel.h"

#include <assert.h>
#include <string.h>

/*
 * What came last when an input ends. Within an input the kernels follow, as for data.c; the scanner stops in
 * front of each dot that begins a line and of each bare newline, so that what they need goes into the lead
 * of the next call.
 */
enum bdat_state {
    BDAT_LINE_START,
    BDAT_INSIDE,
    BDAT_CR,
    BDAT_OVER,
};

void smtp_bdat_scanner_init(struct smtp_bdat_scanner *scanner, enum smtp_bdat_mode mode)
{
    assert(mode <= SMTP_BDAT_BINARY);
    *scanner = (struct smtp_bdat_scanner){
        .kernel = smtp_data_kernel_best(), .mode = (uint8_t)mode, .state = BDAT_LINE_START};
}

struct scan {
    const char *bytes;
    size_t size;
    size_t start; /* of the body: a LF before it was replaced by the lead */
    struct smtp_data_carry carry;
};

static void set_lead(struct smtp_bdat_scanner *scanner, struct smtp_data_chunk *out, const char *lead)
{
    out->lead = lead;
    out->lead_size = strlen(lead);
    assert(out->lead_size <= SMTP_DATA_LEAD_MAX);
    scanner->size += out->lead_size;
}

static enum smtp_data refuse(struct smtp_bdat_scanner *scanner, struct smtp_data_chunk *out,
                             enum smtp_data result, size_t consumed)
{
    assert(result == SMTP_DATA_BARE_LF || result == SMTP_DATA_BARE_CR);
    assert(scanner->mode == SMTP_BDAT_TEXT);
    scanner->state = BDAT_OVER;
    *out = (struct smtp_data_chunk){.consumed = consumed, .lead = "", .body = ""};
    return result;
}

/* Takes the input up to `end`, all of which is content. */
static enum smtp_data take(struct smtp_bdat_scanner *scanner, const struct scan *scan, size_t end,
                           struct smtp_data_chunk *out)
{
    assert(end > 0 && scan->start <= end && end <= scan->size);
    out->body = scan->bytes + scan->start;
    out->body_size = end - scan->start;
    out->consumed = end;
    scanner->size += out->body_size;
    if (scan->bytes[end - 1] == '\n')
        scanner->state = BDAT_LINE_START;
    else
        scanner->state = scan->bytes[end - 1] == '\r' ? BDAT_CR : BDAT_INSIDE;
    return SMTP_DATA_MORE;
}

/* Octets that are not lines: the kernel stops often, and nothing is to be decided then. */
static enum smtp_data scan_binary(struct smtp_bdat_scanner *scanner, struct scan *scan,
                                  struct smtp_data_chunk *out)
{
    struct smtp_data_stop stop;
    size_t at = 0;

    assert(scanner->mode == SMTP_BDAT_BINARY && scan->start == 0);
    while (smtp_data_find_stop(scanner->kernel, scan->bytes, scan->size, at, &scan->carry, &stop)) {
        stop.block.high &= smtp_data_bits_before(stop.valid);
        stop.block.nul &= smtp_data_bits_before(stop.valid);
        smtp_data_carry_over(&scan->carry, &stop.block);
        at = stop.at + stop.valid;
    }
    scanner->has_8bit |= scan->carry.high != 0;
    scanner->has_nul |= scan->carry.nul != 0;
    return take(scanner, scan, scan->size, out);
}

/* The scan stopped in a block, in front of the octet at `where`. */
static enum smtp_data stop_at(struct smtp_bdat_scanner *scanner, const struct scan *scan,
                              const struct smtp_data_stop *stop, size_t where, struct smtp_data_chunk *out)
{
    assert(where >= stop->at && where - stop->at < stop->valid);
    size_t index = where - stop->at;
    uint64_t taken = smtp_data_bits_before(index);
    bool is_bare = (stop->bare >> index & 1) != 0;

    if (is_bare && scanner->mode == SMTP_BDAT_TEXT) {
        bool is_lf = scan->bytes[where] == '\n';

        return refuse(scanner, out, is_lf ? SMTP_DATA_BARE_LF : SMTP_DATA_BARE_CR, where + is_lf);
    }
    scanner->has_8bit |= (scan->carry.high | (stop->block.high & taken)) != 0;
    scanner->has_nul |= (scan->carry.nul | (stop->block.nul & taken)) != 0;
    return take(scanner, scan, where, out);
}

/* Text from scan->start on, whose first octet needs nothing. */
static enum smtp_data scan_text(struct smtp_bdat_scanner *scanner, struct scan *scan,
                                struct smtp_data_chunk *out)
{
    struct smtp_data_stop stop;
    size_t at = scan->start;

    assert(scanner->mode != SMTP_BDAT_BINARY);
    while (smtp_data_find_stop(scanner->kernel, scan->bytes, scan->size, at, &scan->carry, &stop)) {
        uint64_t reasons = stop.dots | stop.bare;

        if (reasons != 0)
            return stop_at(scanner, scan, &stop, stop.at + (size_t)__builtin_ctzll(reasons), out);
        smtp_data_carry_over(&scan->carry, &stop.block);
        at = stop.at + stop.valid;
    }
    scanner->has_8bit |= scan->carry.high != 0;
    scanner->has_nul |= scan->carry.nul != 0;
    return take(scanner, scan, scan->size, out);
}

/* A line begins at scan->start; `newline` is what is still owed of the newline before it. */
static enum smtp_data begin_line(struct smtp_bdat_scanner *scanner, struct scan *scan, const char *newline,
                                 const char *stuffed, struct smtp_data_chunk *out)
{
    if (scan->start == scan->size) {
        set_lead(scanner, out, newline);
        return take(scanner, scan, scan->size, out);
    }

    bool is_dot = scan->bytes[scan->start] == '.';

    set_lead(scanner, out, is_dot ? stuffed : newline);
    scanner->dot_lines |= is_dot;
    return scan_text(scanner, scan, out);
}

enum smtp_data smtp_bdat_scan(struct smtp_bdat_scanner *scanner, const char *bytes, size_t size,
                              struct smtp_data_chunk *out)
{
    struct scan scan = {.bytes = bytes, .size = size};

    assert(scanner->state < BDAT_OVER);
    assert(bytes != NULL || size == 0);
    *out = (struct smtp_data_chunk){.lead = "", .body = ""};
    if (size == 0)
        return SMTP_DATA_MORE;
    if (scanner->mode == SMTP_BDAT_BINARY)
        return scan_binary(scanner, &scan, out);
    if (scanner->mode == SMTP_BDAT_TEXT_NORMALISE) {
        if (scanner->state == BDAT_CR && bytes[0] != '\n')
            return begin_line(scanner, &scan, "\n", "\n.", out);
        if (scanner->state != BDAT_CR && bytes[0] == '\n') {
            scan.start = 1;
            return begin_line(scanner, &scan, "\r\n", "\r\n.", out);
        }
    }
    if (scanner->state == BDAT_LINE_START)
        return begin_line(scanner, &scan, "", ".", out);
    scan.carry.after_cr = scanner->state == BDAT_CR;
    return scan_text(scanner, &scan, out);
}

enum smtp_data smtp_bdat_end(struct smtp_bdat_scanner *scanner, struct smtp_data_chunk *out)
{
    uint8_t state = scanner->state;

    assert(state < BDAT_OVER);
    *out = (struct smtp_data_chunk){.lead = "", .body = ""};
    if (scanner->mode == SMTP_BDAT_TEXT && state == BDAT_CR)
        return refuse(scanner, out, SMTP_DATA_BARE_CR, 0);
    if (scanner->mode != SMTP_BDAT_BINARY && state != BDAT_LINE_START)
        set_lead(scanner, out, state == BDAT_CR ? "\n" : "\r\n");
    scanner->state = BDAT_OVER;
    return SMTP_DATA_END;
}
