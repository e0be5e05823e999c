#include "gateway/message/envelope.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

enum {
    ENVELOPE_VERSION = 2,
    ENVELOPE_VERSION_1 = 1,
    OFFSET_VERSION = 0,
    OFFSET_FLAGS = 1,
    OFFSET_SENDER_SIZE = 2,
    OFFSET_CLIENT_SIZE = 4,
    OFFSET_TEXT_1 = 5,
    OFFSET_ENVID_SIZE = 5,
    OFFSET_TEXT = 7,
};

static_assert(OFFSET_TEXT + SMTP_PATH_MAX + ENVELOPE_CLIENT_MAX + ENVELOPE_ENVID_MAX == ENVELOPE_SIZE_MAX,
              "the header is 7 octets");
static_assert(SMTP_PATH_MAX <= UINT16_MAX && ENVELOPE_CLIENT_MAX <= UINT8_MAX, "sizes fit their fields");
static_assert(ENVELOPE_FLAGS_ALL == UINT8_MAX, "flags fill their field: there is none that is not known");

static size_t put(char *to, struct smtp_slice slice)
{
    if (slice.size > 0)
        memcpy(to, slice.data, slice.size);
    return slice.size;
}

static void put_size(char *to, uint32_t size)
{
    to[0] = (char)(size & 0xff);
    to[1] = (char)(size >> 8);
}

static uint32_t get_size(const uint8_t *from)
{
    return from[0] | (uint32_t)from[1] << 8;
}

size_t envelope_encode(const struct envelope *envelope, char bytes[static ENVELOPE_SIZE_MAX])
{
    assert(envelope->sender.size <= SMTP_PATH_MAX);
    assert(envelope->client.size <= ENVELOPE_CLIENT_MAX);
    assert(envelope->envid.size <= ENVELOPE_ENVID_MAX);
    assert((envelope->flags & ~(uint32_t)ENVELOPE_FLAGS_ALL) == 0);

    bytes[OFFSET_VERSION] = ENVELOPE_VERSION;
    bytes[OFFSET_FLAGS] = (char)envelope->flags;
    put_size(bytes + OFFSET_SENDER_SIZE, envelope->sender.size);
    bytes[OFFSET_CLIENT_SIZE] = (char)envelope->client.size;
    put_size(bytes + OFFSET_ENVID_SIZE, envelope->envid.size);

    size_t size = OFFSET_TEXT;
    size += put(bytes + size, envelope->sender);
    size += put(bytes + size, envelope->client);
    size += put(bytes + size, envelope->envid);
    assert(size <= ENVELOPE_SIZE_MAX);
    return size;
}

int envelope_decode(const void *bytes, size_t size, struct envelope *envelope)
{
    const uint8_t *at = bytes;
    if (size == 0)
        return -EINVAL;
    const bool is_old = at[OFFSET_VERSION] == ENVELOPE_VERSION_1;
    if (!is_old && at[OFFSET_VERSION] != ENVELOPE_VERSION)
        return -EPROTO;
    const size_t text_offset = is_old ? OFFSET_TEXT_1 : OFFSET_TEXT;
    if (size < text_offset)
        return -EINVAL;

    const uint32_t sender_size = get_size(at + OFFSET_SENDER_SIZE);
    const uint32_t client_size = at[OFFSET_CLIENT_SIZE];
    const uint32_t envid_size = is_old ? 0 : get_size(at + OFFSET_ENVID_SIZE);
    if (sender_size > SMTP_PATH_MAX || client_size > ENVELOPE_CLIENT_MAX || envid_size > ENVELOPE_ENVID_MAX)
        return -EINVAL;
    if (size != text_offset + sender_size + client_size + envid_size)
        return -EINVAL;

    const char *text = (const char *)at + text_offset;
    *envelope = (struct envelope){
        .sender = {text, sender_size},
        .client = {text + sender_size, client_size},
        .envid = {text + sender_size + client_size, envid_size},
        .flags = at[OFFSET_FLAGS],
    };
    return 0;
}
