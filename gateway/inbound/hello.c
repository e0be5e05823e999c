#include "gateway/inbound/hello.h"

#include "gateway/base/config.h"
#include "gateway/inbound/authentication.h"
#include "gateway/inbound/policy.h"
#include "gateway/inbound/session.h"
#include "gateway/sasl/sasl.h"
#include "proto/extension.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { HOSTNAME_SHOWN_MAX = 255, REPLY_SIZE_MAX = HOSTNAME_SHOWN_MAX + 512 };

/* What a listener offers whatever else is the case, and the bit that switches it off. */
static const struct {
    enum config_extension off;
    uint32_t extension;
} plain[] = {
    {CONFIG_EXT_PIPELINING, SMTP_EXT_PIPELINING},
    {CONFIG_EXT_SIZE, SMTP_EXT_SIZE},
    {CONFIG_EXT_8BITMIME, SMTP_EXT_8BITMIME},
    {CONFIG_EXT_ENHANCEDSTATUSCODES, SMTP_EXT_ENHANCEDSTATUSCODES},
    {CONFIG_EXT_CHUNKING, SMTP_EXT_CHUNKING},
    {CONFIG_EXT_BINARYMIME | CONFIG_EXT_CHUNKING, SMTP_EXT_BINARYMIME},
    {CONFIG_EXT_SMTPUTF8, SMTP_EXT_SMTPUTF8},
    {CONFIG_EXT_DSN, SMTP_EXT_DSN},
};

/* What EHLO shows: exactly what the session may use at this moment. */
static uint32_t announced(struct session *session)
{
    const struct config_listener *listener = session_listener(session);
    uint32_t extensions = 0;
    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
        if ((listener->extensions_off & plain[i].off) == 0)
            extensions |= plain[i].extension;
    if (listener->tls == CONFIG_TLS_STARTTLS && !session_is_secure(session) &&
        session_policy(session)->tls[session->listener_index] != NULL)
        extensions |= SMTP_EXT_STARTTLS;
    if (authentication_mechanisms(session) != 0)
        extensions |= SMTP_EXT_AUTH;
    if (listener->xclient && config_proxy_allows(listener, conn_peer(&session->conn)))
        extensions |= SMTP_EXT_XCLIENT | SMTP_EXT_XFORWARD;
    return extensions;
}

uint32_t hello_extensions(struct session *session)
{
    const struct config_listener *listener = session_listener(session);
    uint32_t extensions = announced(session);
    if (listener->tls == CONFIG_TLS_STARTTLS)
        extensions |= SMTP_EXT_STARTTLS;
    if (listener->auth != CONFIG_AUTH_OFF)
        extensions |= SMTP_EXT_AUTH;
    return extensions;
}

void hello_greet(struct session *session)
{
    char text[HOSTNAME_SHOWN_MAX + 32];
    const int size = snprintf(text, sizeof(text), "220 %.*s ESMTP Sluice\r\n", HOSTNAME_SHOWN_MAX,
                              session_policy(session)->config->hostname);
    assert(size > 0 && (size_t)size < sizeof(text));
    conn_send_copy(&session->conn, text, (size_t)size);
}

struct text {
    char bytes[REPLY_SIZE_MAX];
    size_t size;
    size_t last_line; /* where the last line begins: its fourth octet becomes a space */
};

__attribute__((format(printf, 2, 3))) static void add_line(struct text *text, const char *format, ...)
{
    va_list arguments;
    text->last_line = text->size;
    va_start(arguments, format);
    const int size = vsnprintf(text->bytes + text->size, sizeof(text->bytes) - text->size, format, arguments);
    va_end(arguments);
    assert(size > 0 && (size_t)size < sizeof(text->bytes) - text->size);
    text->size += (size_t)size;
}

static void add_mechanisms(struct text *text, uint32_t mechanisms)
{
    char names[128] = "";
    size_t size = 0;
    for (enum sasl_mechanism mechanism = 0; mechanism < SASL_MECHANISM_COUNT; mechanism++) {
        if ((mechanisms & 1u << mechanism) == 0)
            continue;
        const char *name = sasl_mechanism_name(mechanism);
        const size_t name_size = strlen(name);
        assert(size + 1 + name_size < sizeof(names));
        names[size] = ' ';
        memcpy(names + size + 1, name, name_size + 1);
        size += 1 + name_size;
    }
    add_line(text, "250-AUTH%s\r\n", names);
}

static void add_extensions(struct text *text, const struct session *session, uint32_t extensions)
{
    static const struct {
        uint32_t extension;
        const char *keyword;
    } keywords[] = {
        {SMTP_EXT_PIPELINING, "PIPELINING"},
        {SMTP_EXT_8BITMIME, "8BITMIME"},
        {SMTP_EXT_ENHANCEDSTATUSCODES, "ENHANCEDSTATUSCODES"},
        {SMTP_EXT_CHUNKING, "CHUNKING"},
        {SMTP_EXT_BINARYMIME, "BINARYMIME"},
        {SMTP_EXT_SMTPUTF8, "SMTPUTF8"},
        {SMTP_EXT_DSN, "DSN"},
        {SMTP_EXT_STARTTLS, "STARTTLS"},
        {SMTP_EXT_XCLIENT, "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"},
        {SMTP_EXT_XFORWARD, "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"},
    };
    for (size_t i = 0; i < sizeof(keywords) / sizeof(keywords[0]); i++)
        if ((extensions & keywords[i].extension) != 0)
            add_line(text, "250-%s\r\n", keywords[i].keyword);
    if ((extensions & SMTP_EXT_SIZE) != 0)
        add_line(text, "250-SIZE %ju\r\n", (uintmax_t)session_listener(session)->max_message_size_bytes);
    if ((extensions & SMTP_EXT_AUTH) != 0)
        add_mechanisms(text, authentication_mechanisms(session));
}

void hello_reply(struct session *session)
{
    struct text text = {.size = 0};
    session->parser.extensions = session->is_esmtp ? hello_extensions(session) : 0;
    add_line(&text, "250-%.*s\r\n", HOSTNAME_SHOWN_MAX, session_policy(session)->config->hostname);
    if (session->is_esmtp)
        add_extensions(&text, session, announced(session));
    text.bytes[text.last_line + 3] = ' ';
    conn_send_copy(&session->conn, text.bytes, text.size);
}
