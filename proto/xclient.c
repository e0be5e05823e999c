#include "proto/xclient.h"

#include "proto/octet.h"
#include "proto/xtext.h"

#include <assert.h>

enum {
    FOR_XCLIENT = 1 << 0,
    FOR_XFORWARD = 1 << 1,
};

static const struct {
    struct smtp_slice word;
    unsigned commands; /* that have the attribute */
} names[] = {
    [SMTP_XCLIENT_NAME] = {{"NAME", 4}, FOR_XCLIENT | FOR_XFORWARD},
    [SMTP_XCLIENT_ADDR] = {{"ADDR", 4}, FOR_XCLIENT | FOR_XFORWARD},
    [SMTP_XCLIENT_PORT] = {{"PORT", 4}, FOR_XCLIENT | FOR_XFORWARD},
    [SMTP_XCLIENT_PROTO] = {{"PROTO", 5}, FOR_XCLIENT | FOR_XFORWARD},
    [SMTP_XCLIENT_HELO] = {{"HELO", 4}, FOR_XCLIENT | FOR_XFORWARD},
    [SMTP_XCLIENT_LOGIN] = {{"LOGIN", 5}, FOR_XCLIENT},
    [SMTP_XCLIENT_DESTADDR] = {{"DESTADDR", 8}, FOR_XCLIENT},
    [SMTP_XCLIENT_DESTPORT] = {{"DESTPORT", 8}, FOR_XCLIENT},
    [SMTP_XCLIENT_IDENT] = {{"IDENT", 5}, FOR_XFORWARD},
    [SMTP_XCLIENT_SOURCE] = {{"SOURCE", 6}, FOR_XFORWARD},
};

static bool find_name(struct smtp_slice word, bool forward, enum smtp_xclient_name *name)
{
    unsigned command = forward ? FOR_XFORWARD : FOR_XCLIENT;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if ((names[i].commands & command) == 0 || !smtp_slice_equals_nocase(word, names[i].word))
            continue;
        *name = (enum smtp_xclient_name)i;
        return true;
    }
    return false;
}

static bool is_port(const char *digits, uint32_t size)
{
    unsigned value = 0;

    if (size == 0 || size > 5)
        return false;
    for (uint32_t i = 0; i < size; i++) {
        if (!octet_is(digits[i], OCTET_DIGIT))
            return false;
        value = value * 10 + (unsigned)(digits[i] - '0');
    }
    return value <= UINT16_MAX;
}

static struct smtp_slice without_tag(struct smtp_slice value, bool *tagged)
{
    static const struct smtp_slice tag = {"IPV6:", 5};

    *tagged =
        value.size >= tag.size && smtp_slice_equals_nocase((struct smtp_slice){value.data, tag.size}, tag);
    return *tagged ? (struct smtp_slice){value.data + tag.size, value.size - tag.size} : value;
}

/* Fills in all but the name, which is there already. */
static bool read_value(struct smtp_slice value, struct smtp_xclient_attribute *attribute)
{
    bool is_address = attribute->name == SMTP_XCLIENT_ADDR || attribute->name == SMTP_XCLIENT_DESTADDR;
    bool is_number = attribute->name == SMTP_XCLIENT_PORT || attribute->name == SMTP_XCLIENT_DESTPORT;

    if (smtp_slice_equals_nocase(value, SMTP_SLICE("[UNAVAILABLE]"))) {
        attribute->state = SMTP_XCLIENT_UNAVAILABLE;
        return true;
    }
    if (smtp_slice_equals_nocase(value, SMTP_SLICE("[TEMPUNAVAIL]"))) {
        attribute->state = SMTP_XCLIENT_TEMPUNAVAIL;
        return true;
    }
    if (is_address)
        value = without_tag(value, &attribute->is_ipv6);

    int size = smtp_xtext_decode(value, attribute->value, SMTP_XCLIENT_VALUE_MAX);

    if (size <= 0)
        return false;
    attribute->size = (uint32_t)size;
    attribute->value[size] = '\0';
    return !is_number || is_port(attribute->value, attribute->size);
}

enum smtp_xclient smtp_xclient_next(struct smtp_slice *rest, bool forward,
                                    struct smtp_xclient_attribute *attribute)
{
    struct smtp_slice text = *rest;
    struct smtp_xclient_attribute found = {.state = SMTP_XCLIENT_GIVEN};

    while (text.size > 0 && text.data[0] == ' ')
        text = octet_skip(text, 1);
    if (text.size == 0)
        return SMTP_XCLIENT_END;

    struct smtp_slice word = {text.data, octet_find(text, ' ')};
    struct smtp_slice name = {word.data, octet_find(word, '=')};

    if (name.size == word.size || !find_name(name, forward, &found.name))
        return SMTP_XCLIENT_BAD;
    if (!read_value(octet_skip(word, name.size + 1), &found))
        return SMTP_XCLIENT_BAD;
    assert((found.size > 0) == (found.state == SMTP_XCLIENT_GIVEN));
    *attribute = found;
    *rest = octet_skip(text, word.size);
    return SMTP_XCLIENT_ATTRIBUTE;
}
