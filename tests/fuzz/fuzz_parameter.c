#include "tests/fuzz/fuzz.h"

#include "proto/base64.h"
#include "proto/command.h"
#include "proto/xclient.h"
#include "proto/xtext.h"

#include <stdio.h>
#include <stdlib.h>

/*
 * The input is taken for the text of each encoding in turn, and for the parameters of commands, without a
 * plan of cuts. What is accepted must come back as it was from being decoded and encoded again, and hide no
 * controls.
 */
enum { SIZE_MOST = 1024 };

static void demand(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "%s\n", what);
    abort();
}

static bool has_control(const char *octets, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if ((unsigned char)octets[i] < 32 || octets[i] == 127)
            return true;
    }
    return false;
}

static void check_base64(struct smtp_slice text)
{
    char octets[SIZE_MOST], again[SMTP_BASE64_ENCODED_SIZE(SIZE_MOST)];
    int size = smtp_base64_decode(text, octets, sizeof(octets));

    if (size >= 0) {
        size_t again_size = smtp_base64_encode(octets, (size_t)size, again, sizeof(again));

        demand(smtp_slice_equals(text, (struct smtp_slice){again, (uint32_t)again_size}),
               "base64 has two texts for one value");
    }

    size_t encoded = smtp_base64_encode(text.data, text.size, again, sizeof(again));

    size = smtp_base64_decode((struct smtp_slice){again, (uint32_t)encoded}, octets, text.size);
    demand(size == (int)text.size && (size == 0 || memcmp(octets, text.data, text.size) == 0),
           "base64 does not come back");
}

static void check_xtext(struct smtp_slice text)
{
    char octets[SIZE_MOST], again[3 * SIZE_MOST + 1], octets_again[SIZE_MOST];
    int size = smtp_xtext_decode(text, octets, sizeof(octets));
    size_t at = 0;

    demand((size >= 0) == smtp_xtext_check(text), "xtext is decoded but not good, or the other way round");
    if (size < 0)
        return;
    demand((size_t)size <= text.size && !has_control(octets, (size_t)size), "xtext hides a control");
    for (int i = 0; i < size; i++)
        at += (size_t)snprintf(again + at, sizeof(again) - at, "+%02X", (unsigned char)octets[i]);
    demand(smtp_xtext_decode((struct smtp_slice){again, (uint32_t)at}, octets_again, (size_t)size) == size &&
               memcmp(octets, octets_again, (size_t)size) == 0,
           "xtext does not come back");
}

static void check_xclient(struct smtp_slice text, bool forward)
{
    struct smtp_slice rest = text;
    struct smtp_xclient_attribute attribute;

    for (uint32_t left = text.size; smtp_xclient_next(&rest, forward, &attribute) == SMTP_XCLIENT_ATTRIBUTE;
         left = rest.size) {
        demand(rest.size < left, "an attribute took nothing");
        demand(attribute.size <= SMTP_XCLIENT_VALUE_MAX, "a value is too long");
        demand(attribute.value[attribute.size] == '\0', "a value does not end");
        demand(!has_control(attribute.value, attribute.size), "a value hides a control");
    }
}

static void check_mail(const struct smtp_command *command)
{
    char decoded[SMTP_LINE_MAX];

    demand(smtp_xtext_decode(command->envid, decoded, SMTP_ENVID_MAX) >= 0, "ENVID is no xtext, or too long");
    demand(smtp_xtext_check(command->auth), "AUTH= is no xtext");
    demand(command->has_auth == (command->auth.size > 0), "AUTH= is empty");
}

static void check_rcpt(const struct smtp_command *command)
{
    bool never = (command->notify & SMTP_NOTIFY_NEVER) != 0;

    demand(!never || command->notify == SMTP_NOTIFY_NEVER, "NEVER and others");
    demand(command->orcpt.size <= SMTP_ORCPT_MAX, "ORCPT is too long");
    demand(!has_control(command->orcpt.data, command->orcpt.size), "ORCPT has a control");
    /* Whoever takes "utf-8;" for xtext, too, gets no control out of it. */
    for (uint32_t i = 0; i < command->orcpt.size; i++) {
        struct smtp_slice hexchar = {command->orcpt.data + i, 3};

        if (*hexchar.data == '+')
            demand(i + 3 <= command->orcpt.size && smtp_xtext_check(hexchar), "ORCPT hides a control");
    }
}

static void check_command(const char *head, struct smtp_slice text)
{
    struct smtp_command_parser parser;
    struct smtp_command command;
    char line[SIZE_MOST + 64];
    size_t consumed = 0;
    int size = snprintf(line, sizeof(line), "%s", head);

    memcpy(line + size, text.data, text.size);
    memcpy(line + (size_t)size + text.size, "\r\n", 2);
    smtp_command_parser_init(&parser, UINT32_MAX);
    if (smtp_command_parse(&parser, line, (size_t)size + text.size + 2, &consumed, &command) !=
        SMTP_PARSE_DONE)
        return;
    if (command.verb == SMTP_VERB_MAIL)
        check_mail(&command);
    else
        check_rcpt(&command);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct smtp_slice text = {(const char *)data, (uint32_t)size};

    if (size > SIZE_MOST)
        return 0;
    check_base64(text);
    check_xtext(text);
    check_xclient(text, false);
    check_xclient(text, true);
    check_command("MAIL FROM:<> ", text);
    check_command("RCPT TO:<a@b> ", text);
    return 0;
}
