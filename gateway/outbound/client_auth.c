/*
 * Logging in at the next hop (RFC 4954) with what the file of passwords has for it.
 *
 * A refusal is a mistake of ours, not of the sender: mail is put off and the host left out. The password goes
 * to nobody in the clear, but for this machine itself.
 *
 * SCRAM computes for up to 15 ms, once for each host, and all other mail of the worker waits meanwhile.
 */
#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/table.h"
#include "gateway/outbound/client.h"
#include "gateway/outbound/flight.h"
#include "gateway/outbound/policy.h"
#include "gateway/outbound/site.h"
#include "gateway/sasl/sasl_client.h"

enum {
    AUTH_LINE_MAX = 510
}; /* RFC 5321 §4.5.3.1.4, without CRLF; RFC 4954 §4: the initial response is in it */

/* --- The password --- */

static bool find_by(const struct table *table, const char *key, struct smtp_slice *value)
{
    const char *text;
    size_t size;

    if (!table_find(table, key, strlen(key), &text, &size))
        return false;
    *value = (struct smtp_slice){text, (uint32_t)size};
    return true;
}

/* "HOST:PORT" before "HOST"; IPv6 in brackets; the path of a socket. The value lives in the policy. */
static bool find_login(const struct client *client, struct smtp_slice *value)
{
    const struct table *table = client->site->outbound->policy->passwords;
    const struct endpoint *endpoint = client->endpoint;
    char key[TABLE_KEY_SIZE_MAX + 1];

    if (table == NULL)
        return false;
    if (endpoint->port == 0)
        return find_by(table, endpoint->host, value);
    bool is_v6 = strchr(endpoint->host, ':') != NULL;
    int size = snprintf(key, sizeof(key), "%s%.400s%s:%u", is_v6 ? "[" : "", endpoint->host, is_v6 ? "]" : "",
                        endpoint->port);
    assert(size > 0 && (size_t)size < sizeof(key));
    if (find_by(table, key, value))
        return true;
    *strrchr(key, ':') = '\0';
    return find_by(table, key, value);
}

bool client_must_log_in(const struct client *client)
{
    struct smtp_slice value;
    return find_login(client, &value);
}

/* "USER PASSWORD": blanks may stand in the password, not in the name. */
static void split_login(struct smtp_slice value, struct smtp_slice *user, struct smtp_slice *password)
{
    uint32_t at = 0;

    while (at < value.size && value.data[at] != ' ' && value.data[at] != '\t')
        at++;
    *user = (struct smtp_slice){value.data, at};
    while (at < value.size && (value.data[at] == ' ' || value.data[at] == '\t'))
        at++;
    *password = (struct smtp_slice){value.data + at, value.size - at};
}

static bool is_loopback(const struct sockaddr_storage *address)
{
    switch (address->ss_family) {
    case AF_UNIX:
        return true;
    case AF_INET:
        return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
    case AF_INET6:
        return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
    default:
        return false;
    }
}

/* --- The dialogue --- */

void client_forget_login(struct client *client)
{
    if (client->login == NULL)
        return;
    sasl_client_wipe(client->login);
    pool_free(client->site->outbound->options.pool, client->login, sizeof(*client->login));
    client->login = NULL;
}

static void say_auth(struct client *client, enum sasl_mechanism mechanism)
{
    const char *name = sasl_mechanism_name(mechanism);
    char text[SASL_CLIENT_TEXT_MAX];
    struct flight flight;
    size_t size = sasl_client_first(client->login, AUTH_LINE_MAX - sizeof("AUTH ") - strlen(name), text);

    flight_begin(&flight, client);
    flight_text(&flight, "AUTH ");
    flight_text(&flight, name);
    if (size > 0)
        flight_text(&flight, " ");
    flight_slice(&flight, (struct smtp_slice){text, (uint32_t)size});
    flight_text(&flight, "\r\n");
    client_expect(client, COMMAND_AUTH, NULL, 0);
    flight_end(&flight);
}

static void begin(struct client *client, enum sasl_mechanism mechanism, struct smtp_slice value)
{
    struct smtp_slice user, password;

    client->login = pool_alloc(client->site->outbound->options.pool, sizeof(*client->login));
    if (client->login == NULL) {
        client_refuse(client, "4.3.0", "wants a login, for which there is no memory", SMTP_SLICE(""));
        return;
    }
    memset(client->login, 0, sizeof(*client->login));
    split_login(value, &user, &password);
    if (sasl_client_begin(client->login, mechanism, user, password) < 0) {
        client_refuse(client, "4.7.8", "has a line among the passwords that is no USER PASSWORD",
                      SMTP_SLICE(""));
        return;
    }
    client_enter(client, CLIENT_LOGIN);
    say_auth(client, mechanism);
}

bool client_log_in(struct client *client)
{
    struct smtp_slice value;
    enum sasl_mechanism mechanism;

    assert(client->state == CLIENT_HELLO && client->login == NULL);
    if (!find_login(client, &value))
        return false;
    if (client->tls_version == NULL && !is_loopback(&client->endpoint->address))
        client_refuse(client, "4.7.0", "is not reached by TLS, so the password is not sent", SMTP_SLICE(""));
    else if (!sasl_client_choose(client->mechanisms, &mechanism))
        client_refuse(client, "4.7.4", "offers no AUTH by SCRAM-SHA-256, PLAIN or LOGIN", SMTP_SLICE(""));
    else
        begin(client, mechanism, value);
    return true;
}

static void answer_challenge(struct client *client, struct smtp_slice challenge)
{
    char text[SASL_CLIENT_TEXT_MAX];
    size_t size = 0;
    enum sasl_client_result result =
        sasl_client_step(client->login, challenge, &client->endpoint->salted, text, &size);

    if (result != SASL_CLIENT_SAY) {
        const char *reason = sasl_client_reason(client->login);
        client_refuse(client, "4.7.0", "did not log us in as it should",
                      (struct smtp_slice){reason, (uint32_t)strlen(reason)});
        return;
    }
    struct flight flight;
    flight_begin(&flight, client);
    flight_slice(&flight, (struct smtp_slice){text, (uint32_t)size});
    flight_text(&flight, "\r\n");
    client_expect(client, COMMAND_AUTH, NULL, 0);
    flight_end(&flight);
}

static void end_login(struct client *client)
{
    if (!sasl_client_accepts(client->login)) {
        client_refuse(client, "4.7.0", "let us in without showing that it knows the password",
                      SMTP_SLICE(""));
        return;
    }
    client_forget_login(client);
    client->is_logged_in = true;
    client_ready(client);
}

void client_on_auth(struct client *client, uint16_t code, struct smtp_slice reply)
{
    enum { CODE_SIZE = 4 }; /* "334 " */

    assert(client->state == CLIENT_LOGIN && client->login != NULL);
    if (code == 334) {
        uint32_t skip = reply.size < CODE_SIZE ? reply.size : CODE_SIZE;
        answer_challenge(client, (struct smtp_slice){reply.data + skip, reply.size - skip});
    } else if (code == 235) {
        end_login(client);
    } else {
        client_refuse(client, code >= 500 ? "4.7.8" : "4.7.0", "refused the login", reply);
    }
}
