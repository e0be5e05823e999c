#include "proto/line.h"

#include <assert.h>

/*
 *                CR         LF                    other                  the limit is passed
 *     TEXT       TEXT_CR    BARE_LF               TEXT                   SKIP
 *     TEXT_CR    BARE_CR    TEXT, line complete   BARE_CR
 *     SKIP       SKIP_CR    BARE_LF               SKIP
 *     SKIP_CR    BARE_CR    TEXT, line too long   BARE_CR
 *     BARE_LF, BARE_CR: for good
 *
 * If the line is lenient, LF in TEXT and SKIP does what it does in TEXT_CR and SKIP_CR.
 *
 * These are the states between two inputs; within one, the octets are looked at where they lie.
 */
enum line_state {
    LINE_TEXT,
    LINE_TEXT_CR,
    LINE_SKIP,
    LINE_SKIP_CR,
    LINE_BARE_LF,
    LINE_BARE_CR,
};

void smtp_line_init(struct smtp_line *line, uint16_t capacity)
{
    assert(line != NULL);
    assert(capacity >= 2);
    *line = (struct smtp_line){.capacity = capacity, .state = LINE_TEXT};
}

static enum smtp_line_event line_break(struct smtp_line *line, enum line_state state)
{
    assert(state == LINE_BARE_LF || state == LINE_BARE_CR);
    line->state = (uint8_t)state;
    line->spill_size = 0;
    return state == LINE_BARE_LF ? SMTP_LINE_BARE_LF : SMTP_LINE_BARE_CR;
}

/* Keeps octets of an incomplete line, or gives the line up when it cannot end within the limit any more. */
static void line_keep(struct smtp_line *line, char *spill, const char *bytes, size_t size)
{
    size_t room = (size_t)line->capacity - 2 - line->spill_size;

    if (line->state == LINE_SKIP)
        return;
    assert(line->state == LINE_TEXT);
    if (size > room) {
        line->state = LINE_SKIP;
        line->spill_size = 0;
        return;
    }
    if (size > 0)
        memcpy(spill + line->spill_size, bytes, size);
    line->spill_size = (uint16_t)(line->spill_size + size);
}

/* Ends the line whose last `size` octets before CRLF are `bytes`, and hands it out where it lies. */
static enum smtp_line_event line_end(struct smtp_line *line, char *spill, const char *bytes, size_t size,
                                     struct smtp_slice *text)
{
    bool straddles = line->spill_size > 0;

    if (straddles)
        line_keep(line, spill, bytes, size);
    else if (size > (size_t)line->capacity - 2)
        line->state = LINE_SKIP;

    if (line->state == LINE_SKIP) {
        line->state = LINE_TEXT;
        return SMTP_LINE_TOO_LONG;
    }
    assert(line->state == LINE_TEXT);
    *text =
        straddles ? (struct smtp_slice){spill, line->spill_size} : (struct smtp_slice){bytes, (uint32_t)size};
    line->spill_size = 0;
    return SMTP_LINE_COMPLETE;
}

/* The octet after a CR that ended the earlier input: LF, or the CR was bare. */
static enum smtp_line_event line_resume_cr(struct smtp_line *line, char *spill, char octet, size_t *consumed,
                                           struct smtp_slice *text)
{
    assert(line->state == LINE_TEXT_CR || line->state == LINE_SKIP_CR);
    if (octet != '\n') {
        *consumed = 0;
        return line_break(line, LINE_BARE_CR);
    }
    *consumed = 1;
    line->state = line->state == LINE_TEXT_CR ? LINE_TEXT : LINE_SKIP;
    return line_end(line, spill, spill + line->spill_size, 0, text);
}

/*
 * The first CR or LF decides, whichever comes first, so that it is the same octet however the input is cut.
 * LF is looked for first: then no octet is looked at twice, whatever a client sends for line ends.
 */
static enum smtp_line_event line_scan(struct smtp_line *line, char *spill, const char *bytes, size_t size,
                                      size_t *consumed, struct smtp_slice *text)
{
    const char *lf = memchr(bytes, '\n', size);
    size_t before_lf = lf != NULL ? (size_t)(lf - bytes) : size;
    const char *cr = memchr(bytes, '\r', before_lf);
    size_t text_size = cr != NULL ? (size_t)(cr - bytes) : before_lf;

    if (cr != NULL && text_size + 1 < size && cr[1] != '\n') {
        *consumed = text_size + 1;
        return line_break(line, LINE_BARE_CR);
    }
    if (lf != NULL) {
        *consumed = before_lf + 1;
        if (cr == NULL && !line->lenient)
            return line_break(line, LINE_BARE_LF);
        return line_end(line, spill, bytes, text_size, text);
    }
    line_keep(line, spill, bytes, text_size);
    if (cr != NULL)
        line->state = line->state == LINE_TEXT ? LINE_TEXT_CR : LINE_SKIP_CR;
    *consumed = size;
    return SMTP_LINE_MORE;
}

enum smtp_line_event smtp_line_take(struct smtp_line *line, char *spill, const char *bytes, size_t size,
                                    size_t *consumed, struct smtp_slice *text)
{
    assert(line->spill_size <= line->capacity - 2);
    *consumed = size;
    if (line->state == LINE_BARE_LF)
        return SMTP_LINE_BARE_LF;
    if (line->state == LINE_BARE_CR)
        return SMTP_LINE_BARE_CR;
    if (size == 0)
        return SMTP_LINE_MORE;
    if (line->state == LINE_TEXT_CR || line->state == LINE_SKIP_CR)
        return line_resume_cr(line, spill, bytes[0], consumed, text);
    return line_scan(line, spill, bytes, size, consumed, text);
}
