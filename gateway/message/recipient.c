#include "gateway/message/recipient.h"

#include <assert.h>
#include <string.h>

size_t recipient_encode(const struct recipient *recipient, char bytes[static RECIPIENT_SIZE_MAX])
{
    assert(recipient->address.size > 0 && recipient->address.size <= SMTP_PATH_MAX);
    assert(recipient->orcpt.size <= RECIPIENT_ORCPT_MAX);
    assert(memchr(recipient->address.data, '\0', recipient->address.size) == NULL);
    size_t size = recipient->address.size;
    memcpy(bytes, recipient->address.data, size);
    if (recipient->notify == 0 && recipient->orcpt.size == 0)
        return size;
    bytes[size++] = '\0';
    bytes[size++] = (char)recipient->notify;
    if (recipient->orcpt.size > 0)
        memcpy(bytes + size, recipient->orcpt.data, recipient->orcpt.size);
    return size + recipient->orcpt.size;
}

struct recipient recipient_decode(const void *bytes, size_t size)
{
    const char *text = bytes;
    const char *nul = size > 0 ? memchr(text, '\0', size) : NULL;
    if (nul == NULL)
        return (struct recipient){.address = {text, (uint32_t)size}};
    const size_t address_size = (size_t)(nul - text);
    struct recipient recipient = {.address = {text, (uint32_t)address_size}};
    if (size - address_size < 2)
        return recipient;
    recipient.notify = (uint8_t)nul[1];
    recipient.orcpt = (struct smtp_slice){nul + 2, (uint32_t)(size - address_size - 2)};
    return recipient;
}
