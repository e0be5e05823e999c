#include "gateway/message/envelope.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum {
    ENVELOPE_VERSION = 1,
    OFFSET_VERSION = 0,
    OFFSET_FLAGS = 1,
    OFFSET_SENDER_SIZE = 2,
    OFFSET_CLIENT_SIZE = 4,
    OFFSET_SENDER = 5,
};

static_assert(OFFSET_SENDER + SMTP_PATH_MAX + ENVELOPE_CLIENT_MAX == ENVELOPE_SIZE_MAX,
              "the header is 5 octets");
static_assert(SMTP_PATH_MAX <= UINT16_MAX && ENVELOPE_CLIENT_MAX <= UINT8_MAX, "sizes fit their fields");
static_assert(ENVELOPE_FLAGS_ALL <= UINT8_MAX, "flags fit their field");

static size_t put(char *to, struct smtp_slice slice)
{
    if (slice.size > 0)
        memcpy(to, slice.data, slice.size);
    return slice.size;
}

size_t envelope_encode(const struct envelope *envelope, char bytes[static ENVELOPE_SIZE_MAX])
{
    assert(envelope->sender.size <= SMTP_PATH_MAX);
    assert(envelope->client.size <= ENVELOPE_CLIENT_MAX);
    assert((envelope->flags & ~(uint32_t)ENVELOPE_FLAGS_ALL) == 0);

    bytes[OFFSET_VERSION] = ENVELOPE_VERSION;
    bytes[OFFSET_FLAGS] = (char)envelope->flags;
    bytes[OFFSET_SENDER_SIZE] = (char)(envelope->sender.size & 0xff);
    bytes[OFFSET_SENDER_SIZE + 1] = (char)(envelope->sender.size >> 8);
    bytes[OFFSET_CLIENT_SIZE] = (char)envelope->client.size;

    size_t size = OFFSET_SENDER;
    size += put(bytes + size, envelope->sender);
    size += put(bytes + size, envelope->client);
    assert(size <= ENVELOPE_SIZE_MAX);
    return size;
}

int envelope_decode(const void *bytes, size_t size, struct envelope *envelope)
{
    const uint8_t *at = bytes;
    if (size < OFFSET_SENDER)
        return -EINVAL;
    if (at[OFFSET_VERSION] != ENVELOPE_VERSION || (at[OFFSET_FLAGS] & ~ENVELOPE_FLAGS_ALL) != 0)
        return -EPROTO;

    uint32_t sender_size = at[OFFSET_SENDER_SIZE] | (uint32_t)at[OFFSET_SENDER_SIZE + 1] << 8;
    uint32_t client_size = at[OFFSET_CLIENT_SIZE];
    if (sender_size > SMTP_PATH_MAX || client_size > ENVELOPE_CLIENT_MAX)
        return -EINVAL;
    if (size != (size_t)OFFSET_SENDER + sender_size + client_size)
        return -EINVAL;

    const char *text = (const char *)at + OFFSET_SENDER;
    *envelope = (struct envelope){
        .sender = {text, sender_size},
        .client = {text + sender_size, client_size},
        .flags = at[OFFSET_FLAGS],
    };
    return 0;
}
