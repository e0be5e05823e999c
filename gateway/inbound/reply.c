#include "gateway/inbound/reply.h"

#include <assert.h>

static const struct reply replies[REPLY_COUNT] = {
#define REPLY(symbol, number, enhanced, text)                                                                \
    [REPLY_##symbol] = {                                                                                     \
        .line = {#number " " enhanced " " text "\r\n", sizeof(#number " " enhanced " " text "\r\n") - 1},    \
        .name = {#symbol, sizeof(#symbol) - 1},                                                              \
        .code = number,                                                                                      \
    },
#define REPLY_PLAIN(symbol, number, text)                                                                    \
    [REPLY_##symbol] = {                                                                                     \
        .line = {#number " " text "\r\n", sizeof(#number " " text "\r\n") - 1},                              \
        .name = {#symbol, sizeof(#symbol) - 1},                                                              \
        .code = number,                                                                                      \
    },
#include "gateway/inbound/replies.def"
};

const struct reply *reply_get(enum reply_id id)
{
    assert(id > REPLY_NONE && id < REPLY_COUNT);
    return &replies[id];
}
