#include "proto/reply.h"

#include "proto/octet.h"

#include <assert.h>

void smtp_reply_parser_init(struct smtp_reply_parser *parser)
{
    smtp_line_init(&parser->line, SMTP_REPLY_LINE_MAX);
    parser->code = 0;
    parser->line_count = 0;
    parser->fault = SMTP_REPLY_FAULT_NONE;
}

const char *smtp_reply_fault_text(enum smtp_reply_fault fault)
{
    static const char *const texts[SMTP_REPLY_FAULT_COUNT] = {
        [SMTP_REPLY_FAULT_BARE_LF] = "bare LF in reply",
        [SMTP_REPLY_FAULT_BARE_CR] = "bare CR in reply",
        [SMTP_REPLY_FAULT_TOO_LONG] = "reply line too long",
        [SMTP_REPLY_FAULT_CODE] = "reply without a valid code",
        [SMTP_REPLY_FAULT_CODES] = "lines of one reply differ in their code",
        [SMTP_REPLY_FAULT_TOO_MANY] = "reply of too many lines",
    };

    assert(fault > SMTP_REPLY_FAULT_NONE && fault < SMTP_REPLY_FAULT_COUNT);
    return texts[fault];
}

static bool digit_between(char octet, char least, char most)
{
    return octet >= least && octet <= most;
}

/* Reply-code = %x32-35 %x30-35 %x30-39; 0 if there is none. Servers send 571 and the like, and mean what the
 * first digit says: the second one may be any. */
static uint16_t parse_code(struct smtp_slice line)
{
    const char *digits = line.data;

    if (line.size < 3 || !digit_between(digits[0], '2', '5') || !digit_between(digits[1], '0', '9') ||
        !digit_between(digits[2], '0', '9'))
        return 0;
    return (uint16_t)((digits[0] - '0') * 100 + (digits[1] - '0') * 10 + (digits[2] - '0'));
}

/* 1*3DIGIT; moves *at behind them, or answers -1. */
static int parse_number(struct smtp_slice text, uint32_t *at)
{
    uint32_t start = *at;
    int value = 0;

    while (*at < text.size && octet_is(text.data[*at], OCTET_DIGIT)) {
        if (*at - start == 3)
            return -1;
        value = value * 10 + (text.data[(*at)++] - '0');
    }
    return *at > start ? value : -1;
}

/* status-code = class "." subject "." detail (RFC 3463 §2); one that contradicts the reply's code is none. */
static struct smtp_status parse_status(struct smtp_slice text, uint16_t code)
{
    struct smtp_status none = {0};
    uint16_t class = code / 100;
    uint32_t at = 2;

    if (text.size < 5 || class == 3 || text.data[0] != (char)('0' + class) || text.data[1] != '.')
        return none;

    int subject = parse_number(text, &at);

    if (subject < 0 || at == text.size || text.data[at++] != '.')
        return none;

    int detail = parse_number(text, &at);

    if (detail < 0 || (at < text.size && text.data[at] != ' '))
        return none;
    return (struct smtp_status){class, (uint16_t)subject, (uint16_t)detail};
}

/*
 *     Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF
 *
 * *found is set also when the line is refused afterwards, as the caller hands it out only when it is not.
 */
static enum smtp_reply_fault parse_line(struct smtp_slice line, struct smtp_reply_line *found)
{
    uint16_t code = parse_code(line);

    if (code == 0 || (line.size > 3 && line.data[3] != ' ' && line.data[3] != '-'))
        return SMTP_REPLY_FAULT_CODE;

    uint32_t text_at = line.size > 3 ? 4 : 3;
    struct smtp_slice text = {line.data + text_at, line.size - text_at};

    *found = (struct smtp_reply_line){
        .line = line,
        .text = text,
        .status = parse_status(text, code),
        .code = code,
        .last = line.size == 3 || line.data[3] == ' ',
    };
    return SMTP_REPLY_FAULT_NONE;
}

static enum smtp_reply_fault add_to_reply(struct smtp_reply_parser *parser,
                                          const struct smtp_reply_line *line)
{
    assert((parser->code == 0) == (parser->line_count == 0));
    if (parser->code != 0 && line->code != parser->code)
        return SMTP_REPLY_FAULT_CODES;
    if (parser->line_count == SMTP_REPLY_LINES_MAX)
        return SMTP_REPLY_FAULT_TOO_MANY;
    parser->code = line->last ? 0 : line->code;
    parser->line_count = line->last ? 0 : (uint16_t)(parser->line_count + 1);
    return SMTP_REPLY_FAULT_NONE;
}

static enum smtp_reply_fault line_fault(enum smtp_line_event event)
{
    switch (event) {
    case SMTP_LINE_TOO_LONG:
        return SMTP_REPLY_FAULT_TOO_LONG;
    case SMTP_LINE_BARE_LF:
        return SMTP_REPLY_FAULT_BARE_LF;
    case SMTP_LINE_BARE_CR:
        return SMTP_REPLY_FAULT_BARE_CR;
    case SMTP_LINE_MORE:
    case SMTP_LINE_COMPLETE:
        break;
    }
    return SMTP_REPLY_FAULT_NONE;
}

enum smtp_parse smtp_reply_parse(struct smtp_reply_parser *parser, const char *bytes, size_t size,
                                 size_t *consumed, struct smtp_reply_line *line)
{
    struct smtp_slice text;
    struct smtp_reply_line found;

    assert(parser->line.capacity == SMTP_REPLY_LINE_MAX);
    assert(bytes != NULL || size == 0);
    if (parser->fault != SMTP_REPLY_FAULT_NONE) {
        *consumed = size;
        return SMTP_PARSE_REJECT;
    }

    enum smtp_line_event event = smtp_line_take(&parser->line, parser->spill, bytes, size, consumed, &text);

    if (event == SMTP_LINE_MORE)
        return SMTP_PARSE_MORE;

    enum smtp_reply_fault fault = event == SMTP_LINE_COMPLETE ? parse_line(text, &found) : line_fault(event);

    if (fault == SMTP_REPLY_FAULT_NONE)
        fault = add_to_reply(parser, &found);
    if (fault != SMTP_REPLY_FAULT_NONE) {
        parser->fault = (uint8_t)fault;
        return SMTP_PARSE_REJECT;
    }
    *line = found;
    return SMTP_PARSE_DONE;
}
