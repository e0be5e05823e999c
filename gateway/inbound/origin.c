#include "gateway/inbound/origin.h"

#include "gateway/base/address.h"
#include "gateway/base/config.h"
#include "gateway/base/pool.h"
#include "gateway/inbound/admission.h"
#include "gateway/inbound/authentication.h"
#include "gateway/inbound/session.h"
#include "gateway/sasl/users.h"
#include "proto/xclient.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The block is made when there is something to keep. NULL without memory. */
static struct session_origin *origin_of(struct session *session)
{
    if (session->origin == NULL) {
        session->origin = pool_alloc(session->inbound->options.pool, sizeof(*session->origin));
        if (session->origin != NULL)
            memset(session->origin, 0, sizeof(*session->origin));
    }
    return session->origin;
}

void origin_drop(struct session *session)
{
    if (session->origin != NULL)
        pool_free(session->inbound->options.pool, session->origin, sizeof(*session->origin));
    session->origin = NULL;
}

/* Text of a peer into a field, cut to its size; an octet that is no visible ASCII makes it empty. */
static void keep_text(char *into, size_t capacity, struct smtp_slice text)
{
    const size_t size = text.size < capacity - 1 ? text.size : capacity - 1;
    into[0] = '\0';
    for (size_t i = 0; i < size; i++)
        if (text.data[i] <= ' ' || text.data[i] > '~')
            return;
    if (size > 0)
        memcpy(into, text.data, size);
    into[size] = '\0';
}

/* --- The PROXY header --- */

static void client_of(const struct smtp_proxy *proxy, struct sockaddr_storage *client)
{
    *client = (struct sockaddr_storage){.ss_family = AF_UNSPEC};
    if (proxy->family == 4) {
        struct sockaddr_in *v4 = (struct sockaddr_in *)client;
        v4->sin_family = AF_INET;
        v4->sin_port = htons(proxy->source_port);
        memcpy(&v4->sin_addr, proxy->source, sizeof(v4->sin_addr));
    } else if (proxy->family == 6) {
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)client;
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(proxy->source_port);
        memcpy(&v6->sin6_addr, proxy->source, sizeof(v6->sin6_addr));
    }
}

static int keep_tls(struct session *session, const struct smtp_proxy *proxy)
{
    struct session_origin *origin = origin_of(session);
    if (origin == NULL)
        return -ENOMEM;
    keep_text(origin->tls_version, sizeof(origin->tls_version), proxy->tls_version);
    keep_text(origin->tls_cipher, sizeof(origin->tls_cipher), proxy->tls_cipher);
    if (origin->tls_version[0] == '\0')
        memcpy(origin->tls_version, "TLS", sizeof("TLS"));
    /* A name that was cut would be another's. */
    if (proxy->tls_has_certificate && proxy->tls_verified &&
        proxy->tls_common_name.size < sizeof(origin->certificate))
        keep_text(origin->certificate, sizeof(origin->certificate), proxy->tls_common_name);
    return 0;
}

static void take_header(struct session *session, const struct smtp_proxy *proxy)
{
    /* The proxy speaks for itself with LOCAL alone; a client that it cannot name is nobody we know. */
    if (!proxy->is_local) {
        struct sockaddr_storage client;
        client_of(proxy, &client);
        session_set_client(session, (const struct sockaddr *)&client);
        if (proxy->has_tls && keep_tls(session, proxy) != 0) {
            session_end(session, SESSION_BAD_PROXY);
            return;
        }
    }
    /* From here on the memory of the header is that of the command parser. */
    session_admit(session);
}

size_t origin_take_proxy(struct session *session, const char *bytes, size_t size)
{
    struct smtp_proxy proxy;
    size_t consumed = 0;
    assert(session->state == SESSION_PROXY);
    switch (smtp_proxy_parse(&session->proxy, bytes, size, &consumed, &proxy)) {
    case SMTP_PROXY_MORE:
        break;
    case SMTP_PROXY_DONE:
        take_header(session, &proxy);
        break;
    case SMTP_PROXY_BAD:
        session_refuse(session, REPLY_PROXY_REQUIRED);
        session_end(session, SESSION_BAD_PROXY);
        return size;
    }
    return consumed;
}

/* --- XCLIENT --- */

/* What one XCLIENT says; a later attribute of the same name counts. */
struct xclient {
    struct sockaddr_storage address; /* AF_UNSPEC: not given */
    bool has_address;
    bool has_helo;
    bool has_login;
    uint16_t port;
    uint8_t helo_size;
    uint8_t login_size;
    char helo[SESSION_HELO_MAX];
    char login[USER_NAME_MAX + 1];
};

static bool take_attribute(struct xclient *xclient, const struct smtp_xclient_attribute *attribute)
{
    const bool is_given = attribute->state == SMTP_XCLIENT_GIVEN;
    const uint32_t size = is_given ? attribute->size : 0;
    switch (attribute->name) {
    case SMTP_XCLIENT_ADDR:
        xclient->has_address = true;
        xclient->address = (struct sockaddr_storage){.ss_family = AF_UNSPEC};
        return !is_given || parse_ip(attribute->value, 0, &xclient->address) == 0;
    case SMTP_XCLIENT_PORT:
        xclient->port = is_given ? (uint16_t)strtoul(attribute->value, NULL, 10) : 0;
        return true;
    case SMTP_XCLIENT_HELO:
        xclient->has_helo = true;
        xclient->helo_size = (uint8_t)(size < SESSION_HELO_MAX ? size : SESSION_HELO_MAX);
        memcpy(xclient->helo, attribute->value, xclient->helo_size);
        return true;
    case SMTP_XCLIENT_LOGIN:
        xclient->has_login = true;
        xclient->login_size = (uint8_t)size;
        memcpy(xclient->login, attribute->value, size <= USER_NAME_MAX ? size : 0);
        return size <= USER_NAME_MAX && memchr(xclient->login, '\0', xclient->login_size) == NULL;
    default:
        return true; /* names, the protocol and our own address are not needed */
    }
}

/* The client is somebody else from now on: counted, and greeted, as a new connection of its own. */
static void become(struct session *session, struct xclient *xclient)
{
    if (xclient->has_address) {
        if (xclient->address.ss_family == AF_INET)
            ((struct sockaddr_in *)&xclient->address)->sin_port = htons(xclient->port);
        else if (xclient->address.ss_family == AF_INET6)
            ((struct sockaddr_in6 *)&xclient->address)->sin6_port = htons(xclient->port);
        session_set_client(session, (const struct sockaddr *)&xclient->address);
    }
    admission_leave(session);
    session_forget(session);
    if (xclient->has_helo) {
        session->helo_size = xclient->helo_size;
        memcpy(session->helo, xclient->helo, xclient->helo_size);
    }
    enum reply_id refusal = admission_connect(session);
    if (refusal == REPLY_NONE && xclient->has_login && xclient->login_size > 0)
        refusal = authentication_assume(session, xclient->login, xclient->login_size) != 0
                      ? REPLY_LOGIN_UNAVAILABLE
                      : admission_logged_in(session);
    if (refusal != REPLY_NONE) {
        session_refuse(session, refusal);
        session_end(session, SESSION_REFUSED);
        return;
    }
    session_greet(session);
}

void origin_xclient(struct session *session, const struct smtp_command *command)
{
    struct xclient xclient = {.address.ss_family = AF_UNSPEC};
    struct smtp_xclient_attribute attribute;
    struct smtp_slice rest = command->argument;
    for (;;) {
        const enum smtp_xclient next = smtp_xclient_next(&rest, false, &attribute);
        if (next == SMTP_XCLIENT_END)
            break;
        if (next == SMTP_XCLIENT_BAD || !take_attribute(&xclient, &attribute)) {
            session_refuse(session, REPLY_XCLIENT_SYNTAX);
            return;
        }
    }
    become(session, &xclient);
}

/* --- XFORWARD --- */

void origin_xforward(struct session *session, const struct smtp_command *command)
{
    struct smtp_xclient_attribute attribute;
    struct smtp_slice rest = command->argument;
    struct session_origin *origin = origin_of(session);
    for (;;) {
        const enum smtp_xclient next = smtp_xclient_next(&rest, true, &attribute);
        if (next == SMTP_XCLIENT_END)
            break;
        if (next == SMTP_XCLIENT_BAD) {
            session_refuse(session, REPLY_XCLIENT_SYNTAX);
            return;
        }
        if (origin != NULL && attribute.name == SMTP_XCLIENT_ADDR)
            keep_text(origin->forwarded, sizeof(origin->forwarded),
                      (struct smtp_slice){attribute.value,
                                          attribute.state == SMTP_XCLIENT_GIVEN ? attribute.size : 0});
    }
    session_reply(session, REPLY_OK);
}
