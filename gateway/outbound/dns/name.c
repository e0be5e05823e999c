#include "gateway/outbound/dns/name.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* The octet in the form's own letters, or 0 when it has no place in a name. */
static char name_octet(uint8_t octet)
{
    if (octet >= 'A' && octet <= 'Z')
        return (char)(octet - 'A' + 'a');
    bool is_good =
        (octet >= 'a' && octet <= 'z') || (octet >= '0' && octet <= '9') || octet == '-' || octet == '_';
    return is_good ? (char)octet : 0;
}

int dns_name_from_text(const char *text, char into[static DNS_NAME_SIZE])
{
    char name[DNS_NAME_SIZE];
    size_t size = strnlen(text, DNS_NAME_SIZE + 1);
    if (size > 0 && text[size - 1] == '.')
        size--;
    if (size == 0 || size >= DNS_NAME_SIZE)
        return -EINVAL;
    size_t label = 0;
    for (size_t index = 0; index < size; index++) {
        if (text[index] == '.') {
            if (label == 0)
                return -EINVAL;
            name[index] = '.';
            label = 0;
            continue;
        }
        name[index] = name_octet((uint8_t)text[index]);
        if (name[index] == 0 || ++label > DNS_LABEL_SIZE_MAX)
            return -EINVAL;
    }
    if (label == 0)
        return -EINVAL;
    memcpy(into, name, size);
    into[size] = '\0';
    return (int)size;
}

/* Appends one label of `count` octets; false when it does not fit the form. */
static bool append_label(const uint8_t *label, size_t count, char name[static DNS_NAME_SIZE], size_t *size)
{
    size_t dot = *size > 0 ? 1 : 0;
    if (count > DNS_LABEL_SIZE_MAX || *size + dot + count >= DNS_NAME_SIZE)
        return false;
    if (dot > 0)
        name[(*size)++] = '.';
    for (size_t index = 0; index < count; index++) {
        char octet = name_octet(label[index]);
        if (octet == 0)
            return false;
        name[(*size)++] = octet;
    }
    return true;
}

int dns_name_from_wire(const uint8_t *wire, size_t size, char into[static DNS_NAME_SIZE])
{
    char name[DNS_NAME_SIZE];
    size_t name_size = 0;
    size_t at = 0;
    while (at < size && wire[at] != 0) {
        size_t count = wire[at++];
        if (count > size - at || !append_label(wire + at, count, name, &name_size))
            return -EINVAL;
        at += count;
    }
    if (at >= size)
        return -EINVAL; /* the root label is missing */
    memcpy(into, name, name_size);
    into[name_size] = '\0';
    return (int)name_size;
}
