#include "proto/parameter.h"

#include "proto/octet.h"
#include "proto/xtext.h"

#include <assert.h>

bool smtp_number_parse(struct smtp_slice digits, uint64_t *number)
{
    uint64_t value = 0;

    assert(digits.size > 0);
    for (uint32_t i = 0; i < digits.size; i++) {
        assert(octet_is(digits.data[i], OCTET_DIGIT));
        if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
            __builtin_add_overflow(value, (uint64_t)(digits.data[i] - '0'), &value))
            return false;
    }
    *number = value;
    return true;
}

/* size-value = 1*20DIGIT, RFC 1870 §5 */
static enum smtp_refusal parse_size(struct smtp_slice value, uint32_t extensions,
                                    struct smtp_command *command)
{
    if (value.size == 0 || value.size > 20 || !octet_all_are(value, OCTET_DIGIT))
        return SMTP_REFUSAL_SIZE_SYNTAX;
    if (command->has_size)
        return SMTP_REFUSAL_PARAMETER_REPEATED;
    command->has_size = true;
    return smtp_number_parse(value, &command->size) ? SMTP_REFUSAL_NONE : SMTP_REFUSAL_SIZE_TOO_BIG;
}

/* body-value = "7BIT" / "8BITMIME" / "BINARYMIME", RFC 6152 §3 and RFC 3030 §3 */
static enum smtp_refusal parse_body(struct smtp_slice value, uint32_t extensions,
                                    struct smtp_command *command)
{
    enum smtp_body body;

    if (smtp_slice_equals_nocase(value, SMTP_SLICE("8BITMIME")))
        body = SMTP_BODY_8BITMIME;
    else if (smtp_slice_equals_nocase(value, SMTP_SLICE("7BIT")))
        body = SMTP_BODY_7BIT;
    else if ((extensions & SMTP_EXT_BINARYMIME) != 0 &&
             smtp_slice_equals_nocase(value, SMTP_SLICE("BINARYMIME")))
        body = SMTP_BODY_BINARYMIME;
    else
        return SMTP_REFUSAL_BODY_SYNTAX;
    if (command->body != SMTP_BODY_UNSTATED)
        return SMTP_REFUSAL_PARAMETER_REPEATED;
    command->body = body;
    return SMTP_REFUSAL_NONE;
}

/* RFC 6531 §3.4: the keyword alone */
static enum smtp_refusal parse_smtputf8(struct smtp_slice value, uint32_t extensions,
                                        struct smtp_command *command)
{
    if (value.size > 0)
        return SMTP_REFUSAL_SMTPUTF8_SYNTAX;
    if (command->is_smtputf8)
        return SMTP_REFUSAL_PARAMETER_REPEATED;
    command->is_smtputf8 = true;
    return SMTP_REFUSAL_NONE;
}

/* ret-value = "FULL" / "HDRS", RFC 3461 §4.3 */
static enum smtp_refusal parse_ret(struct smtp_slice value, uint32_t extensions, struct smtp_command *command)
{
    bool full = smtp_slice_equals_nocase(value, SMTP_SLICE("FULL"));

    if (!full && !smtp_slice_equals_nocase(value, SMTP_SLICE("HDRS")))
        return SMTP_REFUSAL_RET_SYNTAX;
    if (command->ret != SMTP_RET_UNSTATED)
        return SMTP_REFUSAL_PARAMETER_REPEATED;
    command->ret = full ? SMTP_RET_FULL : SMTP_RET_HDRS;
    return SMTP_REFUSAL_NONE;
}

/* xtext that stands for at most `most` octets, each of them printable ASCII. */
static bool is_printable_xtext(struct smtp_slice text, size_t most)
{
    char decoded[SMTP_ORCPT_MAX];

    assert(most <= sizeof(decoded));
    int size = smtp_xtext_decode(text, decoded, most);

    for (int i = 0; i < size; i++) {
        if (!octet_is_ascii(decoded[i]))
            return false;
    }
    return size > 0;
}

/* RFC 3461 §4.4 */
static enum smtp_refusal parse_envid(struct smtp_slice value, uint32_t extensions,
                                     struct smtp_command *command)
{
    if (!is_printable_xtext(value, SMTP_ENVID_MAX))
        return SMTP_REFUSAL_ENVID_SYNTAX;
    if (command->envid.size > 0)
        return SMTP_REFUSAL_PARAMETER_REPEATED;
    command->envid = value;
    return SMTP_REFUSAL_NONE;
}

/* RFC 4954 §5; "<>" is xtext like any other */
static enum smtp_refusal parse_auth(struct smtp_slice value, uint32_t extensions,
                                    struct smtp_command *command)
{
    if (value.size == 0 || !smtp_xtext_check(value))
        return SMTP_REFUSAL_AUTH_PARAMETER_SYNTAX;
    if (command->has_auth)
        return SMTP_REFUSAL_PARAMETER_REPEATED;
    command->auth = value;
    command->has_auth = true;
    return SMTP_REFUSAL_NONE;
}

static uint8_t notify_bit(struct smtp_slice word)
{
    if (smtp_slice_equals_nocase(word, SMTP_SLICE("SUCCESS")))
        return SMTP_NOTIFY_SUCCESS;
    if (smtp_slice_equals_nocase(word, SMTP_SLICE("FAILURE")))
        return SMTP_NOTIFY_FAILURE;
    if (smtp_slice_equals_nocase(word, SMTP_SLICE("DELAY")))
        return SMTP_NOTIFY_DELAY;
    return smtp_slice_equals_nocase(word, SMTP_SLICE("NEVER")) ? SMTP_NOTIFY_NEVER : 0;
}

/* notify-value = "NEVER" / 1#( "SUCCESS" / "FAILURE" / "DELAY" ), RFC 3461 §4.1 */
static enum smtp_refusal parse_notify(struct smtp_slice value, uint32_t extensions,
                                      struct smtp_command *command)
{
    uint8_t bits = 0;

    for (bool more = true; more;) {
        struct smtp_slice word = {value.data, octet_find(value, ',')};
        uint8_t bit = notify_bit(word);

        if (bit == 0)
            return SMTP_REFUSAL_NOTIFY_SYNTAX;
        bits |= bit;
        more = word.size < value.size;
        if (more)
            value = octet_skip(value, word.size + 1);
    }
    if ((bits & SMTP_NOTIFY_NEVER) != 0 && bits != SMTP_NOTIFY_NEVER)
        return SMTP_REFUSAL_NOTIFY_SYNTAX;
    if (command->notify != 0)
        return SMTP_REFUSAL_PARAMETER_REPEATED;
    command->notify = bits;
    return SMTP_REFUSAL_NONE;
}

/*
 * EmbeddedUnicodeChar = "\x{" HEXPOINT "}", RFC 6533 §3: a character beyond ASCII, or one of the four that
 * may not stand for themselves there. Returns its size in octets, 0 if it is none or stands for a control.
 */
static uint32_t embedded_size(struct smtp_slice text)
{
    uint32_t size = 3;
    uint32_t character = 0;

    if (text.size < 4 || memcmp(text.data, "\\x{0", 3) != 0 || text.data[3] == '0')
        return 0;
    for (; size < text.size && size < 9 && octet_is(text.data[size], OCTET_HEX); size++) {
        char digit = smtp_ascii_lower(text.data[size]);

        character = character * 16 + (uint32_t)(digit <= '9' ? digit - '0' : digit - 'a' + 10);
    }
    if (size == text.size || text.data[size] != '}')
        return 0;

    bool ascii = character == ' ' || character == '+' || character == '=' || character == '\\';
    bool surrogate = (character & ~0x7ffu) == 0xd800;

    return ascii || (character >= 0xa0 && character <= 0x10ffff && !surrogate) ? size + 1 : 0;
}

/* utf-8-enc-addr = 1*( QUCHAR / EmbeddedUnicodeChar ), RFC 6533 §3; QUCHAR is xchar without "\", and UTF-8 */
static bool is_utf8_address(struct smtp_slice text)
{
    for (uint32_t at = 0, size; at < text.size; at += size) {
        struct smtp_slice rest = octet_skip(text, at);

        if (rest.data[0] == '\\')
            size = embedded_size(rest);
        else if (!octet_is_ascii(rest.data[0]))
            size = octet_utf8(rest.data, rest.size);
        else
            size = octet_is_graphic(rest.data[0]) && rest.data[0] != '+' && rest.data[0] != '=';
        if (size == 0)
            return false;
    }
    return text.size > 0;
}

/*
 * original-recipient-address = addr-type ";" xtext, RFC 3461 §4.2; the type "utf-8" has forms of its own. A
 * type is an atom, but here one without "+": whoever decodes the value as a whole would find something in it.
 */
static enum smtp_refusal parse_orcpt(struct smtp_slice value, uint32_t extensions,
                                     struct smtp_command *command)
{
    struct smtp_slice type = {value.data, octet_find(value, ';')};

    if (type.size == 0 || type.size == value.size || value.size > SMTP_ORCPT_MAX ||
        !octet_all_are(type, OCTET_ATEXT) || octet_find(type, '+') < type.size)
        return SMTP_REFUSAL_ORCPT_SYNTAX;

    struct smtp_slice address = octet_skip(value, type.size + 1);
    bool is_utf8 = smtp_slice_equals_nocase(type, SMTP_SLICE("utf-8"));

    if (!(is_utf8 ? is_utf8_address(address) : is_printable_xtext(address, SMTP_ORCPT_MAX)))
        return SMTP_REFUSAL_ORCPT_SYNTAX;
    if (command->orcpt.size > 0)
        return SMTP_REFUSAL_PARAMETER_REPEATED;
    command->orcpt = value;
    return SMTP_REFUSAL_NONE;
}

/* value is empty if there is none; "KEYWORD=" does not get here. */
typedef enum smtp_refusal parse_value(struct smtp_slice value, uint32_t extensions,
                                      struct smtp_command *command);

static const struct {
    struct smtp_slice keyword;
    enum smtp_verb verb;
    uint32_t extension; /* that must be in force */
    parse_value *parse;
} parameters[] = {
    {{"SIZE", 4}, SMTP_VERB_MAIL, SMTP_EXT_SIZE, parse_size},
    {{"BODY", 4}, SMTP_VERB_MAIL, SMTP_EXT_8BITMIME, parse_body},
    {{"SMTPUTF8", 8}, SMTP_VERB_MAIL, SMTP_EXT_SMTPUTF8, parse_smtputf8},
    {{"RET", 3}, SMTP_VERB_MAIL, SMTP_EXT_DSN, parse_ret},
    {{"ENVID", 5}, SMTP_VERB_MAIL, SMTP_EXT_DSN, parse_envid},
    {{"AUTH", 4}, SMTP_VERB_MAIL, SMTP_EXT_AUTH, parse_auth},
    {{"NOTIFY", 6}, SMTP_VERB_RCPT, SMTP_EXT_DSN, parse_notify},
    {{"ORCPT", 5}, SMTP_VERB_RCPT, SMTP_EXT_DSN, parse_orcpt},
};

/* esmtp-keyword = ( ALPHA / DIGIT ) *( ALPHA / DIGIT / "-" ), RFC 5321 §4.1.2 */
static bool is_keyword(struct smtp_slice text)
{
    if (text.size == 0 || text.data[0] == '-')
        return false;
    for (uint32_t i = 0; i < text.size; i++) {
        if (text.data[i] == '_' || (text.data[i] != '-' && !octet_is(text.data[i], OCTET_LETDIG)))
            return false;
    }
    return true;
}

/* esmtp-value = 1*( %d33-60 / %d62-126 ), RFC 5321 §4.1.2, and UTF-8 where SMTPUTF8 is in force, RFC 6531
 * §3.3 */
static bool is_value(struct smtp_slice text, bool allow_utf8)
{
    for (uint32_t at = 0; at < text.size;) {
        uint32_t size = octet_is(text.data[at], OCTET_VALUE);

        if (size == 0 && allow_utf8)
            size = octet_utf8(text.data + at, text.size - at);
        if (size == 0)
            return false;
        at += size;
    }
    return text.size > 0;
}

/* esmtp-param = esmtp-keyword ["=" esmtp-value], RFC 5321 §4.1.2 */
static enum smtp_refusal parse_parameter(struct smtp_slice text, uint32_t extensions,
                                         struct smtp_command *command)
{
    struct smtp_slice keyword = {text.data, octet_find(text, '=')};
    bool has_value = keyword.size < text.size;
    struct smtp_slice value = octet_skip(text, keyword.size + has_value);

    if (!is_keyword(keyword) || (has_value && !is_value(value, (extensions & SMTP_EXT_SMTPUTF8) != 0)))
        return SMTP_REFUSAL_PARAMETER_SYNTAX;
    for (size_t i = 0; i < sizeof(parameters) / sizeof(parameters[0]); i++) {
        if (parameters[i].verb != command->verb || (parameters[i].extension & extensions) == 0)
            continue;
        if (smtp_slice_equals_nocase(keyword, parameters[i].keyword))
            return parameters[i].parse(value, extensions, command);
    }
    return SMTP_REFUSAL_PARAMETER_UNKNOWN;
}

/* Mail-parameters = esmtp-param *( SP esmtp-param ); more than one space is let pass */
enum smtp_refusal smtp_parameters_parse(struct smtp_slice text, uint32_t extensions,
                                        struct smtp_command *command)
{
    assert(command->verb == SMTP_VERB_MAIL || command->verb == SMTP_VERB_RCPT);
    while (text.size > 0) {
        uint32_t size = octet_find(text, ' ');

        if (size > 0) {
            struct smtp_slice parameter = {text.data, size};
            enum smtp_refusal refusal = parse_parameter(parameter, extensions, command);

            if (refusal != SMTP_REFUSAL_NONE)
                return refusal;
        }
        text = octet_skip(text, size < text.size ? size + 1 : size);
    }
    return SMTP_REFUSAL_NONE;
}
