#include "proto/extension.h"

#include "proto/octet.h"

static const struct {
    struct smtp_slice keyword;
    uint32_t bit;
} extensions[] = {
    {{"PIPELINING", 10}, SMTP_EXT_PIPELINING},
    {{"SIZE", 4}, SMTP_EXT_SIZE},
    {{"8BITMIME", 8}, SMTP_EXT_8BITMIME},
    {{"ENHANCEDSTATUSCODES", 19}, SMTP_EXT_ENHANCEDSTATUSCODES},
    {{"CHUNKING", 8}, SMTP_EXT_CHUNKING},
    {{"BINARYMIME", 10}, SMTP_EXT_BINARYMIME},
    {{"STARTTLS", 8}, SMTP_EXT_STARTTLS},
    {{"SMTPUTF8", 8}, SMTP_EXT_SMTPUTF8},
    {{"DSN", 3}, SMTP_EXT_DSN},
    {{"AUTH", 4}, SMTP_EXT_AUTH},
    {{"XCLIENT", 7}, SMTP_EXT_XCLIENT},
    {{"XFORWARD", 8}, SMTP_EXT_XFORWARD},
};

/* A number that does not fit says no more than none: the server will speak for itself at MAIL. */
static uint64_t parse_limit(struct smtp_slice text, uint32_t at)
{
    uint64_t limit = 0;

    for (; at < text.size && octet_is(text.data[at], OCTET_DIGIT); at++) {
        if (__builtin_mul_overflow(limit, UINT64_C(10), &limit) ||
            __builtin_add_overflow(limit, (uint64_t)(text.data[at] - '0'), &limit))
            return 0;
    }
    return at == text.size || text.data[at] == ' ' ? limit : 0;
}

/* ehlo-keyword *( SP ehlo-param ); a few servers write "AUTH=PLAIN" for "AUTH PLAIN" */
uint32_t smtp_ehlo_keyword(struct smtp_slice text, uint64_t *size_limit)
{
    struct smtp_slice keyword = {text.data, 0};

    while (keyword.size < text.size && text.data[keyword.size] != ' ' && text.data[keyword.size] != '=')
        keyword.size++;
    for (size_t i = 0; i < sizeof(extensions) / sizeof(extensions[0]); i++) {
        if (!smtp_slice_equals_nocase(keyword, extensions[i].keyword))
            continue;
        if (extensions[i].bit == SMTP_EXT_SIZE)
            *size_limit = parse_limit(text, keyword.size < text.size ? keyword.size + 1 : keyword.size);
        return extensions[i].bit;
    }
    return 0;
}
