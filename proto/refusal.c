#include "proto/refusal.h"

#include <assert.h>

#define REPLY_LINE(code, enhanced, text) #code " " enhanced " " text "\r\n"

static const struct smtp_refusal_reply replies[SMTP_REFUSAL_COUNT] = {
#define SMTP_REFUSAL(name, code, enhanced, text, fatal)                                                      \
    [SMTP_REFUSAL_##name] = {                                                                                \
        {REPLY_LINE(code, enhanced, text), sizeof(REPLY_LINE(code, enhanced, text)) - 1},                    \
        {#name, sizeof(#name) - 1},                                                                          \
        code,                                                                                                \
        fatal,                                                                                               \
    },
#include "proto/refusal.def"
#undef SMTP_REFUSAL
};

const struct smtp_refusal_reply *smtp_refusal_reply(enum smtp_refusal refusal)
{
    assert(refusal > SMTP_REFUSAL_NONE);
    assert(refusal < SMTP_REFUSAL_COUNT);
    return &replies[refusal];
}
