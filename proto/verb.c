#include "proto/verb.h"

static uint32_t fold_four(const char *octets)
{
    return (uint32_t)(uint8_t)(octets[0] | 0x20) << 24 | (uint32_t)(uint8_t)(octets[1] | 0x20) << 16 |
           (uint32_t)(uint8_t)(octets[2] | 0x20) << 8 | (uint32_t)(uint8_t)(octets[3] | 0x20);
}

#define FOUR(a, b, c, d) ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (uint32_t)(d))

/* Only letters become lower-case letters by the folding, so nothing else can pass for a verb. */
static enum smtp_verb verb_of_four(struct smtp_slice word)
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
    case FOUR('a', 'u', 't', 'h'):
        return SMTP_VERB_AUTH;
    case FOUR('b', 'd', 'a', 't'):
        return SMTP_VERB_BDAT;
    }
    return SMTP_VERB_NONE;
}

/* The verbs of other lengths, and those that clients may know and this server has no code for. */
static enum smtp_verb rarer_verb(struct smtp_slice word)
{
    static const struct {
        struct smtp_slice word;
        enum smtp_verb verb;
    } verbs[] = {
        {{"STARTTLS", 8}, SMTP_VERB_STARTTLS}, {{"XCLIENT", 7}, SMTP_VERB_XCLIENT},
        {{"XFORWARD", 8}, SMTP_VERB_XFORWARD}, {{"ETRN", 4}, SMTP_VERB_UNSUPPORTED},
        {{"EXPN", 4}, SMTP_VERB_UNSUPPORTED},  {{"TURN", 4}, SMTP_VERB_UNSUPPORTED},
        {{"ATRN", 4}, SMTP_VERB_UNSUPPORTED},  {{"SEND", 4}, SMTP_VERB_UNSUPPORTED},
        {{"SOML", 4}, SMTP_VERB_UNSUPPORTED},  {{"SAML", 4}, SMTP_VERB_UNSUPPORTED},
    };

    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (smtp_slice_equals_nocase(word, verbs[i].word))
            return verbs[i].verb;
    }
    return SMTP_VERB_NONE;
}

enum smtp_verb smtp_verb_find(struct smtp_slice word)
{
    enum smtp_verb verb = verb_of_four(word);

    return verb != SMTP_VERB_NONE ? verb : rarer_verb(word);
}

const uint32_t smtp_verb_extensions[SMTP_VERB_COUNT] = {
    [SMTP_VERB_STARTTLS] = SMTP_EXT_STARTTLS, [SMTP_VERB_AUTH] = SMTP_EXT_AUTH,
    [SMTP_VERB_BDAT] = SMTP_EXT_CHUNKING,     [SMTP_VERB_XCLIENT] = SMTP_EXT_XCLIENT,
    [SMTP_VERB_XFORWARD] = SMTP_EXT_XFORWARD,
};
