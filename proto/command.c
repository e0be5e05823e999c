#include "proto/command.h"

#include "proto/octet.h"
#include "proto/parameter.h"
#include "proto/verb.h"

#include <assert.h>

void smtp_command_parser_init(struct smtp_command_parser *parser, uint32_t extensions)
{
    smtp_line_init(&parser->line, SMTP_LINE_MAX);
    parser->extensions = extensions;
    parser->lenient = false;
    parser->broken = SMTP_REFUSAL_NONE;
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

static struct smtp_slice arguments_text(const struct arguments *args)
{
    return (struct smtp_slice){args->at, (uint32_t)arguments_left(args)};
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

/* "HELO" SP Domain / "EHLO" SP ( Domain / address-literal ), RFC 5321 §4.1.1.1; the form of the name is not
 * judged. */
static enum smtp_refusal parse_hello(struct arguments args, struct smtp_command *command)
{
    struct smtp_slice name = arguments_text(&args);

    if (name.size == 0 || name.size > SMTP_DOMAIN_MAX || !octet_all_are(name, OCTET_HELLO))
        return SMTP_REFUSAL_HELLO_SYNTAX;
    command->argument = name;
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
static enum smtp_refusal parse_envelope(struct arguments args, uint32_t extensions,
                                        struct smtp_command *command)
{
    bool sender = command->verb == SMTP_VERB_MAIL;
    bool allow_utf8 = (extensions & SMTP_EXT_SMTPUTF8) != 0;
    struct smtp_slice word = sender ? SMTP_SLICE("FROM:") : SMTP_SLICE("TO:");
    enum smtp_refusal syntax = sender ? SMTP_REFUSAL_MAIL_SYNTAX : SMTP_REFUSAL_RCPT_SYNTAX;
    uint32_t used = 0;

    if (arguments_left(&args) < word.size)
        return syntax;
    if (!smtp_slice_equals_nocase((struct smtp_slice){args.at, word.size}, word))
        return syntax;
    args.at += word.size;
    skip_spaces(&args);

    enum smtp_path_kind kind = sender ? SMTP_PATH_REVERSE : SMTP_PATH_FORWARD;
    enum smtp_path_fault fault =
        smtp_path_parse(arguments_text(&args), kind, allow_utf8, &command->path, &used);

    if (fault != SMTP_PATH_OK)
        return path_refusal(fault, sender);
    args.at += used;
    if (arguments_left(&args) > 0 && *args.at != ' ')
        return syntax;

    enum smtp_refusal refusal = SMTP_REFUSAL_NONE;

    if (arguments_left(&args) > 0)
        refusal = smtp_parameters_parse(arguments_text(&args), extensions, command);
    /* What RCPT may say follows from the MAIL before it, which is not known here. */
    if (refusal == SMTP_REFUSAL_NONE && sender && command->path.is_utf8 && !command->is_smtputf8)
        return SMTP_REFUSAL_NON_ASCII_ADDRESS;
    return refusal;
}

/* The argument ends with SP and the word. */
static bool ends_with_word(struct smtp_slice text, struct smtp_slice word)
{
    return text.size > word.size + 1 && text.data[text.size - word.size - 1] == ' ' &&
           smtp_slice_equals_nocase((struct smtp_slice){text.data + text.size - word.size, word.size}, word);
}

static bool is_ascii_or_utf8(struct smtp_slice text, bool *is_ascii)
{
    *is_ascii = true;
    for (uint32_t at = 0; at < text.size;) {
        bool ascii = octet_is_ascii(text.data[at]);
        unsigned size = ascii ? 1 : octet_utf8(text.data + at, text.size - at);

        if (size == 0)
            return false;
        *is_ascii &= ascii;
        at += size;
    }
    return true;
}

/* "VRFY" SP String [SP "SMTPUTF8"], RFC 5321 §4.1.1.6 and RFC 6531 §3.7.4.2; the form of the string is not
 * judged */
static enum smtp_refusal parse_verify(struct arguments args, uint32_t extensions,
                                      struct smtp_command *command)
{
    static const struct smtp_slice word = {"SMTPUTF8", 8};
    bool is_ascii = false;

    command->argument = arguments_text(&args);
    if (command->argument.size == 0)
        return SMTP_REFUSAL_ARGUMENT_MISSING;
    if ((extensions & SMTP_EXT_SMTPUTF8) != 0 && ends_with_word(command->argument, word)) {
        command->is_smtputf8 = true;
        command->argument.size -= word.size;
        while (command->argument.data[command->argument.size - 1] == ' ')
            command->argument.size--;
    }

    bool well_formed = is_ascii_or_utf8(command->argument, &is_ascii);

    if (!command->is_smtputf8)
        return well_formed && is_ascii ? SMTP_REFUSAL_NONE : SMTP_REFUSAL_NON_ASCII_ADDRESS;
    return well_formed ? SMTP_REFUSAL_NONE : SMTP_REFUSAL_RECIPIENT_SYNTAX;
}

/* "AUTH" SP sasl-mech [SP initial-response], RFC 4954 §4; a client that writes the name in lower case is let
 * pass */
static enum smtp_refusal parse_auth(struct arguments args, struct smtp_command *command)
{
    struct smtp_slice mechanism = take_until(&args, ' ');

    if (mechanism.size == 0 || mechanism.size > SMTP_AUTH_MECHANISM_MAX)
        return SMTP_REFUSAL_AUTH_SYNTAX;
    for (uint32_t i = 0; i < mechanism.size; i++) {
        if (mechanism.data[i] != '-' && !octet_is(mechanism.data[i], OCTET_LETDIG))
            return SMTP_REFUSAL_AUTH_SYNTAX;
    }
    skip_spaces(&args);

    struct smtp_slice initial = take_until(&args, ' ');

    if (arguments_left(&args) > 0)
        return SMTP_REFUSAL_AUTH_SYNTAX;
    command->mechanism = mechanism;
    command->has_initial = initial.size > 0;
    command->initial = smtp_slice_equals(initial, SMTP_SLICE("=")) ? (struct smtp_slice){0} : initial;
    return SMTP_REFUSAL_NONE;
}

/*
 * "BDAT" SP chunk-size [SP "LAST"], RFC 3030 §2. The chunk follows at once, so a size that cannot be read is
 * fatal: nobody can say where the chunk ends, and content must not be taken for commands.
 */
static enum smtp_refusal parse_bdat(struct arguments args, struct smtp_command *command)
{
    struct smtp_slice digits = take_until(&args, ' ');

    if (digits.size == 0 || !octet_all_are(digits, OCTET_DIGIT))
        return SMTP_REFUSAL_BDAT_SYNTAX;
    skip_spaces(&args);
    command->is_last = arguments_left(&args) > 0;
    if (command->is_last && !smtp_slice_equals_nocase(arguments_text(&args), SMTP_SLICE("LAST")))
        return SMTP_REFUSAL_BDAT_SYNTAX;
    return smtp_number_parse(digits, &command->chunk_size) ? SMTP_REFUSAL_NONE : SMTP_REFUSAL_BDAT_TOO_BIG;
}

static enum smtp_refusal parse_anything(struct arguments args, bool needed, struct smtp_command *command)
{
    command->argument = arguments_text(&args);
    return needed && command->argument.size == 0 ? SMTP_REFUSAL_ARGUMENT_MISSING : SMTP_REFUSAL_NONE;
}

static enum smtp_refusal parse_nothing(struct arguments args)
{
    return arguments_left(&args) > 0 ? SMTP_REFUSAL_NO_ARGUMENT_ALLOWED : SMTP_REFUSAL_NONE;
}

static enum smtp_refusal parse_arguments(struct arguments args, uint32_t extensions,
                                         struct smtp_command *command)
{
    assert(command->verb < SMTP_VERB_COUNT);
    if ((smtp_verb_extensions[command->verb] & ~extensions) != 0)
        return SMTP_REFUSAL_UNSUPPORTED_COMMAND;
    switch (command->verb) {
    case SMTP_VERB_HELO:
    case SMTP_VERB_EHLO:
        return parse_hello(args, command);
    case SMTP_VERB_MAIL:
    case SMTP_VERB_RCPT:
        return parse_envelope(args, extensions, command);
    case SMTP_VERB_DATA:
    case SMTP_VERB_RSET:
    case SMTP_VERB_QUIT:
    case SMTP_VERB_STARTTLS:
        return parse_nothing(args);
    case SMTP_VERB_NOOP:
    case SMTP_VERB_HELP:
        return parse_anything(args, false, command);
    case SMTP_VERB_XCLIENT:
    case SMTP_VERB_XFORWARD:
        return parse_anything(args, true, command);
    case SMTP_VERB_VRFY:
        return parse_verify(args, extensions, command);
    case SMTP_VERB_AUTH:
        return parse_auth(args, command);
    case SMTP_VERB_BDAT:
        return parse_bdat(args, command);
    case SMTP_VERB_UNSUPPORTED:
        return SMTP_REFUSAL_UNSUPPORTED_COMMAND;
    case SMTP_VERB_NONE:
        return SMTP_REFUSAL_UNKNOWN_COMMAND;
    case SMTP_VERB_COUNT:
        break;
    }
    __builtin_unreachable();
}

#define EACH_OCTET(value) (UINT64_C(0x0101010101010101) * (value))

/* Whether one of eight octets is below 32 or is 127: the highest bit of an octet shows what the subtraction
 * borrows, and octets above 127 are masked out. */
static bool eight_have_control(const char *octets)
{
    uint64_t eight;

    memcpy(&eight, octets, sizeof(eight));

    uint64_t low = (eight - EACH_OCTET(' ')) & ~eight;
    uint64_t del = eight ^ EACH_OCTET(0x7f);

    return ((low | ((del - EACH_OCTET(1)) & ~del)) & EACH_OCTET(0x80)) != 0;
}

/* Tab is a control too: where white space is let pass behind the last word, it was cut off before. */
static bool has_control(const char *octets, size_t size)
{
    bool found = false;

    if (size >= 8) {
        for (size_t at = 0; at + 8 < size; at += 8)
            found |= eight_have_control(octets + at);
        return found | eight_have_control(octets + size - 8);
    }
    for (size_t at = 0; at < size; at++)
        found |= (uint8_t)octets[at] < ' ' || octets[at] == 0x7f;
    return found;
}

static enum smtp_refusal parse_line(struct smtp_slice line, uint32_t extensions, struct smtp_command *command)
{
    struct arguments args = {line.data, line.data + line.size};

    while (args.at < args.end && (args.end[-1] == ' ' || args.end[-1] == '\t'))
        args.end--;

    bool control = has_control(args.at, arguments_left(&args));

    command->verb = smtp_verb_find(take_until(&args, ' '));
    if (control && command->verb == SMTP_VERB_BDAT && (extensions & SMTP_EXT_CHUNKING) != 0)
        return SMTP_REFUSAL_BDAT_SYNTAX;
    if (control)
        return SMTP_REFUSAL_CONTROL_CHARACTER;
    skip_spaces(&args);
    return parse_arguments(args, extensions, command);
}

/* In blocks, because compilers have a slow way to clear one piece of this size, which every command would pay
 * for. */
static void clear(struct smtp_command *command)
{
    enum { BLOCK = 64, SIZE = sizeof(*command) };
    char *octets = (char *)command;

    static_assert(SIZE > 3 * BLOCK && SIZE <= 4 * BLOCK, "as many blocks as are cleared here");
    memset(octets, 0, BLOCK);
    memset(octets + BLOCK, 0, BLOCK);
    memset(octets + 2 * BLOCK, 0, BLOCK);
    memset(octets + 3 * BLOCK, 0, SIZE - 3 * BLOCK);
}

/* A fatal refusal is for good: what comes behind it has no meaning any more. */
static enum smtp_refusal refuse(struct smtp_command_parser *parser, enum smtp_refusal refusal)
{
    assert(refusal > SMTP_REFUSAL_NONE && refusal < SMTP_REFUSAL_COUNT);
    if (smtp_refusal_reply(refusal)->fatal)
        parser->broken = (uint8_t)refusal;
    return refusal;
}

static_assert(SMTP_REFUSAL_COUNT <= UINT8_MAX, "smtp_command_parser.broken holds every refusal");

/* One line, for both kinds of reader: they differ in what they say of one that is too long. */
static enum smtp_parse read_line(struct smtp_command_parser *parser, enum smtp_refusal too_long,
                                 const char *bytes, size_t size, size_t *consumed, struct smtp_slice *text,
                                 enum smtp_refusal *refusal)
{
    assert(parser->line.capacity == SMTP_LINE_MAX);
    assert(bytes != NULL || size == 0);
    if (parser->broken != SMTP_REFUSAL_NONE) {
        *consumed = size;
        *refusal = (enum smtp_refusal)parser->broken;
        return SMTP_PARSE_REJECT;
    }
    parser->line.lenient = parser->lenient;
    switch (smtp_line_take(&parser->line, parser->spill, bytes, size, consumed, text)) {
    case SMTP_LINE_MORE:
        assert(*consumed == size);
        return SMTP_PARSE_MORE;
    case SMTP_LINE_COMPLETE:
        assert(*consumed >= 1 && *consumed <= size);
        return SMTP_PARSE_DONE;
    case SMTP_LINE_TOO_LONG:
        *refusal = too_long;
        break;
    case SMTP_LINE_BARE_LF:
        *refusal = refuse(parser, SMTP_REFUSAL_BARE_LF);
        break;
    case SMTP_LINE_BARE_CR:
        *refusal = refuse(parser, SMTP_REFUSAL_BARE_CR);
        break;
    }
    return SMTP_PARSE_REJECT;
}

enum smtp_parse smtp_command_line(struct smtp_command_parser *parser, const char *bytes, size_t size,
                                  size_t *consumed, struct smtp_slice *text, enum smtp_refusal *refusal)
{
    return read_line(parser, SMTP_REFUSAL_AUTH_LINE_TOO_LONG, bytes, size, consumed, text, refusal);
}

enum smtp_parse smtp_command_parse(struct smtp_command_parser *parser, const char *bytes, size_t size,
                                   size_t *consumed, struct smtp_command *command)
{
    struct smtp_slice text;
    enum smtp_refusal refusal = SMTP_REFUSAL_NONE;
    enum smtp_verb verb = SMTP_VERB_NONE;

    switch (read_line(parser, SMTP_REFUSAL_LINE_TOO_LONG, bytes, size, consumed, &text, &refusal)) {
    case SMTP_PARSE_MORE:
        return SMTP_PARSE_MORE;
    case SMTP_PARSE_REJECT:
        break;
    case SMTP_PARSE_DONE:
        clear(command);
        refusal = parse_line(text, parser->extensions, command);
        if (refusal == SMTP_REFUSAL_NONE)
            return SMTP_PARSE_DONE;
        verb = command->verb;
        refusal = refuse(parser, refusal);
        break;
    }
    *command = (struct smtp_command){.verb = verb, .refusal = refusal};
    return SMTP_PARSE_REJECT;
}
