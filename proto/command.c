#include "proto/command.h"

#include "proto/octet.h"

#include <assert.h>

void smtp_command_parser_init(struct smtp_command_parser *parser)
{
    smtp_line_init(&parser->line, SMTP_LINE_MAX);
}

/* What stands behind the verb: the parts below take from its front. */
struct arguments {
    const char *at;
    const char *end;
};

static size_t arguments_left(const struct arguments *args)
{
    assert(args->at <= args->end);
    return (size_t)(args->end - args->at);
}

static void skip_spaces(struct arguments *args)
{
    while (args->at < args->end && *args->at == ' ')
        args->at++;
}

/* Takes the octets up to, not including, the next `stop`, or all of them. */
static struct smtp_slice take_until(struct arguments *args, char stop)
{
    const char *start = args->at;
    const char *found = memchr(start, stop, arguments_left(args));

    args->at = found != NULL ? found : args->end;
    return (struct smtp_slice){start, (uint32_t)(args->at - start)};
}

static bool all_of_class(struct smtp_slice text, enum octet_class class)
{
    for (uint32_t i = 0; i < text.size; i++) {
        if (!octet_is(text.data[i], class))
            return false;
    }
    return true;
}

/* "HELO" SP Domain / "EHLO" SP ( Domain / address-literal ), RFC 5321 §4.1.1.1; the form of the name is not
 * judged. */
static enum smtp_refusal parse_hello(struct arguments args, struct smtp_command *command)
{
    struct smtp_slice name = {args.at, (uint32_t)arguments_left(&args)};

    if (name.size == 0 || name.size > SMTP_DOMAIN_MAX || !all_of_class(name, OCTET_HELLO))
        return SMTP_REFUSAL_HELLO_SYNTAX;
    command->argument = name;
    return SMTP_REFUSAL_NONE;
}

/* size-value = 1*20DIGIT, RFC 1870 §5 */
static enum smtp_refusal parse_size(struct smtp_slice value, struct smtp_command *command)
{
    uint64_t size = 0;

    if (value.size == 0 || value.size > 20 || !all_of_class(value, OCTET_DIGIT))
        return SMTP_REFUSAL_SIZE_SYNTAX;
    if (command->has_size)
        return SMTP_REFUSAL_PARAMETER_REPEATED;
    for (uint32_t i = 0; i < value.size; i++) {
        if (__builtin_mul_overflow(size, UINT64_C(10), &size) ||
            __builtin_add_overflow(size, (uint64_t)(value.data[i] - '0'), &size))
            return SMTP_REFUSAL_SIZE_TOO_BIG;
    }
    command->size = size;
    command->has_size = true;
    return SMTP_REFUSAL_NONE;
}

/* body-value = "7BIT" / "8BITMIME", RFC 6152 §3 */
static enum smtp_refusal parse_body(struct smtp_slice value, struct smtp_command *command)
{
    enum smtp_body body;

    if (smtp_slice_equals_nocase(value, SMTP_SLICE("8BITMIME")))
        body = SMTP_BODY_8BITMIME;
    else if (smtp_slice_equals_nocase(value, SMTP_SLICE("7BIT")))
        body = SMTP_BODY_7BIT;
    else
        return SMTP_REFUSAL_BODY_SYNTAX;
    if (command->body != SMTP_BODY_UNSTATED)
        return SMTP_REFUSAL_PARAMETER_REPEATED;
    command->body = body;
    return SMTP_REFUSAL_NONE;
}

/* esmtp-param = esmtp-keyword ["=" esmtp-value], RFC 5321 §4.1.2 */
static enum smtp_refusal parse_parameter(struct smtp_slice parameter, struct smtp_command *command)
{
    struct arguments rest = {parameter.data, parameter.data + parameter.size};
    struct smtp_slice keyword = take_until(&rest, '=');
    bool has_value = arguments_left(&rest) > 0;
    struct smtp_slice value = {rest.at + has_value, (uint32_t)(arguments_left(&rest) - has_value)};

    if (keyword.size == 0 || !octet_is(keyword.data[0], OCTET_LETDIG))
        return SMTP_REFUSAL_PARAMETER_SYNTAX;
    for (uint32_t i = 0; i < keyword.size; i++) {
        char octet = keyword.data[i];

        if (octet == '_' || (octet != '-' && !octet_is(octet, OCTET_LETDIG)))
            return SMTP_REFUSAL_PARAMETER_SYNTAX;
    }
    if (has_value && (value.size == 0 || !all_of_class(value, OCTET_VALUE)))
        return SMTP_REFUSAL_PARAMETER_SYNTAX;

    if (command->verb != SMTP_VERB_MAIL)
        return SMTP_REFUSAL_PARAMETER_UNKNOWN;
    if (smtp_slice_equals_nocase(keyword, SMTP_SLICE("SIZE")))
        return parse_size(value, command);
    if (smtp_slice_equals_nocase(keyword, SMTP_SLICE("BODY")))
        return parse_body(value, command);
    return SMTP_REFUSAL_PARAMETER_UNKNOWN;
}

/* Mail-parameters = esmtp-param *( SP esmtp-param ); more than one space is let pass */
static enum smtp_refusal parse_parameters(struct arguments args, struct smtp_command *command)
{
    for (skip_spaces(&args); arguments_left(&args) > 0; skip_spaces(&args)) {
        enum smtp_refusal refusal = parse_parameter(take_until(&args, ' '), command);

        if (refusal != SMTP_REFUSAL_NONE)
            return refusal;
    }
    return SMTP_REFUSAL_NONE;
}

static enum smtp_refusal path_refusal(enum smtp_path_fault fault, bool sender)
{
    switch (fault) {
    case SMTP_PATH_OK:
        return SMTP_REFUSAL_NONE;
    case SMTP_PATH_NO_BRACKET:
        return sender ? SMTP_REFUSAL_MAIL_SYNTAX : SMTP_REFUSAL_RCPT_SYNTAX;
    case SMTP_PATH_SYNTAX:
        return sender ? SMTP_REFUSAL_SENDER_SYNTAX : SMTP_REFUSAL_RECIPIENT_SYNTAX;
    case SMTP_PATH_TOO_LONG:
        return sender ? SMTP_REFUSAL_SENDER_TOO_LONG : SMTP_REFUSAL_RECIPIENT_TOO_LONG;
    case SMTP_PATH_NON_ASCII:
        return SMTP_REFUSAL_NON_ASCII_ADDRESS;
    }
    __builtin_unreachable();
}

/*
 * "MAIL FROM:" Reverse-path [SP Mail-parameters] / "RCPT TO:" Forward-path [SP Rcpt-parameters], RFC 5321
 * §4.1.1.2-3. Spaces behind the colon are wrong and common; they make nothing ambiguous.
 */
static enum smtp_refusal parse_envelope(struct arguments args, struct smtp_command *command)
{
    bool sender = command->verb == SMTP_VERB_MAIL;
    struct smtp_slice word = sender ? SMTP_SLICE("FROM:") : SMTP_SLICE("TO:");
    enum smtp_refusal syntax = sender ? SMTP_REFUSAL_MAIL_SYNTAX : SMTP_REFUSAL_RCPT_SYNTAX;
    uint32_t used = 0;

    if (arguments_left(&args) < word.size)
        return syntax;
    if (!smtp_slice_equals_nocase((struct smtp_slice){args.at, word.size}, word))
        return syntax;
    args.at += word.size;
    skip_spaces(&args);

    struct smtp_slice text = {args.at, (uint32_t)arguments_left(&args)};
    enum smtp_path_kind kind = sender ? SMTP_PATH_REVERSE : SMTP_PATH_FORWARD;
    enum smtp_path_fault fault = smtp_path_parse(text, kind, &command->path, &used);

    if (fault != SMTP_PATH_OK)
        return path_refusal(fault, sender);
    args.at += used;
    if (arguments_left(&args) > 0 && *args.at != ' ')
        return syntax;
    return parse_parameters(args, command);
}

static uint32_t fold_four(const char *octets)
{
    return (uint32_t)(uint8_t)(octets[0] | 0x20) << 24 | (uint32_t)(uint8_t)(octets[1] | 0x20) << 16 |
           (uint32_t)(uint8_t)(octets[2] | 0x20) << 8 | (uint32_t)(uint8_t)(octets[3] | 0x20);
}

#define FOUR(a, b, c, d) ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (uint32_t)(d))

/* Only letters become lower-case letters by the folding, so nothing else can pass for a verb. */
static enum smtp_verb known_verb(struct smtp_slice word)
{
    if (word.size != 4)
        return SMTP_VERB_NONE;
    switch (fold_four(word.data)) {
    case FOUR('h', 'e', 'l', 'o'):
        return SMTP_VERB_HELO;
    case FOUR('e', 'h', 'l', 'o'):
        return SMTP_VERB_EHLO;
    case FOUR('m', 'a', 'i', 'l'):
        return SMTP_VERB_MAIL;
    case FOUR('r', 'c', 'p', 't'):
        return SMTP_VERB_RCPT;
    case FOUR('d', 'a', 't', 'a'):
        return SMTP_VERB_DATA;
    case FOUR('r', 's', 'e', 't'):
        return SMTP_VERB_RSET;
    case FOUR('n', 'o', 'o', 'p'):
        return SMTP_VERB_NOOP;
    case FOUR('v', 'r', 'f', 'y'):
        return SMTP_VERB_VRFY;
    case FOUR('h', 'e', 'l', 'p'):
        return SMTP_VERB_HELP;
    case FOUR('q', 'u', 'i', 't'):
        return SMTP_VERB_QUIT;
    }
    return SMTP_VERB_NONE;
}

/* Verbs of SMTP and its extensions that a client may know and this server does not offer. */
static bool unsupported_verb(struct smtp_slice word)
{
    static const struct smtp_slice verbs[] = {
        {"STARTTLS", 8}, {"AUTH", 4}, {"BDAT", 4}, {"ETRN", 4}, {"EXPN", 4},    {"TURN", 4},
        {"ATRN", 4},     {"SEND", 4}, {"SOML", 4}, {"SAML", 4}, {"XCLIENT", 7}, {"XFORWARD", 8},
    };

    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (smtp_slice_equals_nocase(word, verbs[i]))
            return true;
    }
    return false;
}

static enum smtp_refusal parse_arguments(struct arguments args, struct smtp_command *command)
{
    switch (command->verb) {
    case SMTP_VERB_HELO:
    case SMTP_VERB_EHLO:
        return parse_hello(args, command);
    case SMTP_VERB_MAIL:
    case SMTP_VERB_RCPT:
        return parse_envelope(args, command);
    case SMTP_VERB_DATA:
    case SMTP_VERB_RSET:
    case SMTP_VERB_QUIT:
        return arguments_left(&args) > 0 ? SMTP_REFUSAL_NO_ARGUMENT_ALLOWED : SMTP_REFUSAL_NONE;
    case SMTP_VERB_VRFY:
    case SMTP_VERB_NOOP:
    case SMTP_VERB_HELP:
        if (command->verb == SMTP_VERB_VRFY && arguments_left(&args) == 0)
            return SMTP_REFUSAL_ARGUMENT_MISSING;
        command->argument = (struct smtp_slice){args.at, (uint32_t)arguments_left(&args)};
        return SMTP_REFUSAL_NONE;
    case SMTP_VERB_UNSUPPORTED:
        return SMTP_REFUSAL_UNSUPPORTED_COMMAND;
    case SMTP_VERB_NONE:
        return SMTP_REFUSAL_UNKNOWN_COMMAND;
    case SMTP_VERB_COUNT:
        break;
    }
    __builtin_unreachable();
}

/* Tab is a control too: where white space is let pass behind the last word, it was cut off before. */
static bool has_control(const char *octets, size_t size)
{
    unsigned found = 0;

    for (size_t i = 0; i < size; i++) {
        uint8_t octet = (uint8_t)octets[i];

        found |= (unsigned)(octet < ' ') | (unsigned)(octet == 0x7f);
    }
    return found != 0;
}

static enum smtp_refusal parse_line(struct smtp_slice line, struct smtp_command *command)
{
    struct arguments args = {line.data, line.data + line.size};

    while (args.at < args.end && (args.end[-1] == ' ' || args.end[-1] == '\t'))
        args.end--;
    if (has_control(args.at, arguments_left(&args)))
        return SMTP_REFUSAL_CONTROL_CHARACTER;

    struct smtp_slice word = take_until(&args, ' ');

    command->verb = known_verb(word);
    if (command->verb == SMTP_VERB_NONE && unsupported_verb(word))
        command->verb = SMTP_VERB_UNSUPPORTED;
    skip_spaces(&args);
    return parse_arguments(args, command);
}

static enum smtp_parse reject(struct smtp_command *command, enum smtp_verb verb, enum smtp_refusal refusal)
{
    assert(refusal != SMTP_REFUSAL_NONE);
    *command = (struct smtp_command){.verb = verb, .refusal = refusal};
    return SMTP_PARSE_REJECT;
}

enum smtp_parse smtp_command_parse(struct smtp_command_parser *parser, const char *bytes, size_t size,
                                   size_t *consumed, struct smtp_command *command)
{
    struct smtp_slice text;

    assert(parser->line.capacity == SMTP_LINE_MAX);
    assert(bytes != NULL || size == 0);
    switch (smtp_line_take(&parser->line, parser->spill, bytes, size, consumed, &text)) {
    case SMTP_LINE_MORE:
        assert(*consumed == size);
        return SMTP_PARSE_MORE;
    case SMTP_LINE_TOO_LONG:
        return reject(command, SMTP_VERB_NONE, SMTP_REFUSAL_LINE_TOO_LONG);
    case SMTP_LINE_BARE_LF:
        return reject(command, SMTP_VERB_NONE, SMTP_REFUSAL_BARE_LF);
    case SMTP_LINE_BARE_CR:
        return reject(command, SMTP_VERB_NONE, SMTP_REFUSAL_BARE_CR);
    case SMTP_LINE_COMPLETE:
        break;
    }
    assert(*consumed >= 1 && *consumed <= size);

    *command = (struct smtp_command){.verb = SMTP_VERB_NONE};

    enum smtp_refusal refusal = parse_line(text, command);

    return refusal == SMTP_REFUSAL_NONE ? SMTP_PARSE_DONE : reject(command, command->verb, refusal);
}
