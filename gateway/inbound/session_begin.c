/* A session's way from the accepted socket to the greeting, and what is known of its client. See session.h.
 */

#include "gateway/inbound/session.h"

#include "gateway/base/config.h"
#include "gateway/base/counters.h"
#include "gateway/base/pool.h"
#include "gateway/inbound/admission.h"
#include "gateway/inbound/authentication.h"
#include "gateway/inbound/hello.h"
#include "gateway/inbound/policy.h"
#include "gateway/inbound/report.h"
#include "gateway/net/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

bool session_is_secure(const struct session *session)
{
    if (session->origin != NULL && session->origin->tls_version[0] != '\0')
        return true;
    return conn_is_tls(&session->conn) && session->state != SESSION_SECURING;
}

struct smtp_slice session_tls_text(struct session *session, const char *separator, char *into,
                                   size_t capacity)
{
    const struct tls_info *tls = conn_tls_info(&session->conn);
    const struct session_origin *origin = session->origin;
    int size = 0;
    if (tls != NULL)
        size = snprintf(into, capacity, "%s%s%s", tls->version, separator, tls->cipher);
    else if (origin != NULL && origin->tls_version[0] != '\0')
        size = snprintf(into, capacity, "%s%s%s", origin->tls_version,
                        origin->tls_cipher[0] != '\0' ? separator : "", origin->tls_cipher);
    assert(size >= 0);
    return (struct smtp_slice){into, (uint32_t)((size_t)size < capacity ? (size_t)size : capacity - 1)};
}

void session_set_client(struct session *session, const struct sockaddr *client)
{
    const char *text = NULL;
    memset(&session->client, 0, sizeof(session->client));
    if (client->sa_family == AF_INET) {
        memcpy(&session->client.v4, client, sizeof(session->client.v4));
        text =
            inet_ntop(AF_INET, &session->client.v4.sin_addr, session->client_text, SESSION_CLIENT_TEXT_MAX);
    } else if (client->sa_family == AF_INET6) {
        memcpy(&session->client.v6, client, sizeof(session->client.v6));
        text =
            inet_ntop(AF_INET6, &session->client.v6.sin6_addr, session->client_text, SESSION_CLIENT_TEXT_MAX);
    }
    session->client_text_size = text != NULL ? (uint8_t)strlen(text) : 0;
    session->is_listed = config_relay_allows_client(session_policy(session)->config, &session->client.any);
    session->config_number = session->inbound->config_number;
}

void session_look_again(struct session *session)
{
    if (session->config_number == session->inbound->config_number)
        return;
    session->is_listed = config_relay_allows_client(session_policy(session)->config, &session->client.any);
    session->config_number = session->inbound->config_number;
}

void session_forget(struct session *session)
{
    admission_logged_out(session);
    authentication_drop(session);
    session->helo_size = 0;
    session->is_esmtp = false;
    session->parser.extensions = hello_extensions(session);
}

void session_greet(struct session *session)
{
    hello_greet(session);
    session_enter(session, SESSION_GREETED);
    session_resume(session);
}

static void greet_in_time(struct session *session)
{
    if (session_listener(session)->greeting_delay_ms > 0 && !session->is_listed)
        session_enter(session, SESSION_SILENT);
    else
        session_greet(session);
}

void session_secure(struct session *session, struct tls_server *server)
{
    session_enter(session, SESSION_SECURING);
    conn_start_tls(&session->conn, server);
}

/* After STARTTLS the client was greeted long ago; with implicit TLS that is yet to come. */
void session_secured(struct conn *conn)
{
    struct session *session = conn->ctx;
    assert(session->state == SESSION_SECURING);
    const bool was_greeted = session_listener(session)->tls != CONFIG_TLS_IMPLICIT;
    if (was_greeted)
        session_enter(session, SESSION_GREETED);
    else
        greet_in_time(session);
    session_forget(session);
}

void session_admit(struct session *session)
{
    struct tls_server *server = session_policy(session)->tls[session->listener_index];
    const bool is_implicit =
        session_listener(session)->tls == CONFIG_TLS_IMPLICIT && !session_is_secure(session);
    smtp_command_parser_init(&session->parser, 0);
    session->parser.lenient = session_listener(session)->normalise_newlines;
    report_connect(session);
    enum reply_id refusal = admission_connect(session);
    if (refusal == REPLY_NONE && is_implicit)
        refusal = server == NULL ? REPLY_TLS_UNAVAILABLE : admission_handshake(session);
    if (refusal != REPLY_NONE) {
        session_refuse_connection(session, refusal, is_implicit);
        return;
    }
    session->parser.extensions = hello_extensions(session);
    if (is_implicit)
        session_secure(session, server);
    else
        greet_in_time(session);
}

/* With the PROXY protocol the peer says who the client is; anybody but a proxy that we know would lie. */
static void await_proxy(struct session *session)
{
    smtp_proxy_parser_init(&session->proxy);
    if (config_proxy_allows(session_listener(session), &session->client.any)) {
        session_arm_timeout(session);
        return;
    }
    report_connect(session);
    session_refuse_connection(session, REPLY_PROXY_REQUIRED, false);
}

int session_new(struct inbound *inbound, int fd, uint32_t listener_index, const struct sockaddr *client)
{
    const struct inbound_options *options = &inbound->options;
    assert(fd >= 0 && listener_index < options->policy->config->listener_count);
    struct session *session = pool_alloc(options->pool, sizeof(*session));
    if (session == NULL)
        return -ENOMEM;
    /* The parser and its line of 2 KiB are last and are not worth clearing for each connection. */
    memset(session, 0, offsetof(struct session, parser));
    session->inbound = inbound;
    session->listener_index = listener_index;
    session->state = SESSION_PROXY;
    list_init(&session->link);
    list_init(&session->waiting_link);
    conn_init(&session->conn, options->loop, &session_handler, session);
    conn_attach(&session->conn, fd);
    session_set_client(session, client);

    list_push_back(&inbound->sessions, &session->link);
    inbound->session_count++;
    COUNTER_ADD(options->counters, connections_accepted, 1);
    COUNTER_ADD(options->counters, connections_open, 1);
    const bool is_proxied = session_listener(session)->proxy_protocol;
    if (is_proxied)
        await_proxy(session);
    else
        session_admit(session);
    conn_start_reading(&session->conn, !is_proxied && !conn_is_tls(&session->conn));
    return 0;
}
