/*
 * TLS to the next hop (RFC 3207): whether it is due, and what follows when it does not come about.
 *
 *              not announced or refused      the handshake fails
 *     none     (not tried)                   -
 *     may      in the clear                  once more, in the clear; and so for ten minutes
 *     encrypt  put off (4.7.4)               put off (4.7.5)
 *     verify   the same                      the same; so when the certificate is not that of the host
 *
 * A Unix socket is a way inside of this machine: TLS is never spoken there, and each level is content.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "gateway/outbound/client.h"
#include "gateway/outbound/policy.h"
#include "gateway/outbound/site.h"

#define TLS_BAD_US UINT64_C(600000000)

static enum config_security level_of(const struct client *client)
{
    const struct site *site = client->site;

    assert(site->hop != NULL && site->hop->tls != CONFIG_SECURITY_UNSET);
    return client->endpoint->port == 0 ? CONFIG_SECURITY_NONE : site->hop->tls;
}

bool client_must_encrypt(const struct client *client)
{
    enum config_security level = level_of(client);
    return level == CONFIG_SECURITY_ENCRYPT || level == CONFIG_SECURITY_VERIFY;
}

bool client_is_safe(const struct client *client)
{
    bool is_verified = client->is_verified || level_of(client) != CONFIG_SECURITY_VERIFY;
    return !client_must_encrypt(client) || (client->tls_version != NULL && is_verified);
}

static uint64_t now_of(const struct client *client)
{
    return loop_now_us(client->site->outbound->options.loop);
}

bool client_secure(struct client *client)
{
    bool is_offered = client->features & SMTP_EXT_STARTTLS;

    if (client->tls_version != NULL || level_of(client) == CONFIG_SECURITY_NONE)
        return false;
    if (client_must_encrypt(client)) {
        if (!is_offered) {
            client_refuse(client, "4.7.4", "does not offer STARTTLS, which is demanded", SMTP_SLICE(""));
            return true;
        }
    } else if (!is_offered || client->is_in_the_clear ||
               now_of(client) < client->endpoint->tls_bad_until_us) {
        return false;
    }
    client_enter(client, CLIENT_SECURING);
    client_expect(client, COMMAND_STARTTLS, NULL, 0);
    conn_send_static(&client->conn, "STARTTLS\r\n", 10);
    client_count_queued(client, 10);
    return true;
}

/* --- The handshake --- */

static void shake_hands(struct client *client)
{
    const struct site *site = client->site;
    const char *host = client->endpoint->host;
    bool is_verified = level_of(client) == CONFIG_SECURITY_VERIFY;

    /* One name can be demanded in the handshake; of several, one must be found afterwards. */
    const char *verify_name = is_verified && site->hop->tls_name_count == 0 ? host : NULL;
    client_expect(client, COMMAND_TLS, NULL, 0);
    conn_start_tls_client(&client->conn, site->outbound->policy->tls, host, verify_name,
                          &client->endpoint->slot);
}

void client_on_starttls(struct client *client, uint16_t code, struct smtp_slice reply)
{
    assert(client->state == CLIENT_SECURING);
    if (code == 220) {
        shake_hands(client);
    } else if (client_must_encrypt(client)) {
        client_refuse(client, "4.7.4", "refused STARTTLS", reply);
    } else if (code < 400) { /* what it means by that nobody knows, nor what it waits for now */
        bool is_over = client_blames_tls(client, "unexpected reply to STARTTLS");
        assert(is_over);
    } else {
        client->is_in_the_clear = true;
        client_enter(client, CLIENT_HELLO);
        client_go_on(client);
    }
}

struct allowed_names {
    const char *const *names;
    uint32_t count;
};

/* A wildcard stands for one label (RFC 6125 §6.4.3). */
static bool covers(const char *pattern, const char *name)
{
    const char *rest = strchr(name, '.');

    if (strncmp(pattern, "*.", 2) == 0)
        return rest != NULL && rest != name && strcasecmp(pattern + 1, rest) == 0;
    return pattern[0] != '\0' && strcasecmp(pattern, name) == 0;
}

static bool is_allowed(const void *context, const char *name)
{
    const struct allowed_names *allowed = context;

    for (uint32_t i = 0; i < allowed->count; i++) {
        if (covers(name, allowed->names[i]))
            return true;
    }
    return false;
}

static bool judge(struct client *client, const struct tls_info *info)
{
    const struct next_hop *hop = client->site->hop;
    struct allowed_names allowed = {hop->tls_names, hop->tls_name_count};

    if (info->is_verified)
        return true;
    return info->is_trusted && allowed.count > 0 && conn_tls_any_name(&client->conn, is_allowed, &allowed);
}

/* RFC 3207 §4.2: what was said in the clear counts no more. */
static void forget_announcement(struct client *client)
{
    client->features = 0;
    client->size_limit = 0;
    client->mechanisms = 0;
    smtp_reply_parser_init(&client->parser);
}

void client_on_secured(struct client *client)
{
    const struct tls_info *info = conn_tls_info(&client->conn);

    assert(client->state == CLIENT_SECURING && info != NULL);
    assert(command_queue_head(&client->commands)->kind == COMMAND_TLS);
    command_queue_pop(&client->commands);
    client->tls_version = info->version;
    client->tls_cipher = info->cipher;
    client->is_verified = judge(client, info);
    if (!client_is_safe(client)) {
        const char *why = info->is_trusted ? "it has none of the names that are allowed" : info->distrust;
        client_refuse(client, "4.7.5", "showed a certificate that is not to be trusted",
                      (struct smtp_slice){why, (uint32_t)strlen(why)});
        return;
    }
    forget_announcement(client);
    client_enter(client, CLIENT_HELLO);
    client_say_hello(client, client_is_lmtp(client) ? COMMAND_LHLO : COMMAND_EHLO);
    client_arm(client);
}

/* --- Failure --- */

static void log_fall_back(struct client *client, const char *what)
{
    struct log_line line;

    if (!log_begin(client->site->outbound->options.log, &line, LOG_CAUTION, LOG_WARNING))
        return;
    log_text(&line, "what", "TLS failed, so mail goes in the clear for ten minutes");
    log_text(&line, "site", client->site->name);
    log_text(&line, "host", client->endpoint->text);
    log_text(&line, "tls", what);
    log_end(&line);
}

bool client_blames_tls(struct client *client, const char *what)
{
    const char *error = conn_tls_error(&client->conn);
    /* Only then does a TLS 1.3 server tell us what it thinks of our certificate. */
    bool is_late = client->state == CLIENT_HELLO && error[0] != '\0';

    if (client->state != CLIENT_SECURING && !is_late)
        return false;
    struct smtp_slice reason = {error[0] != '\0' ? error : what, 0};
    reason.size = (uint32_t)strlen(reason.data);
    if (client_must_encrypt(client)) {
        client_refuse(client, "4.7.5", "could not be brought to TLS", reason);
        return true;
    }
    if (now_of(client) >= client->endpoint->tls_bad_until_us)
        log_fall_back(client, reason.data);
    client->endpoint->tls_bad_until_us = now_of(client) + TLS_BAD_US;
    client_end(client, CLIENT_END_SIMPLER, reason);
    return true;
}

const char *client_tls_text(const struct client *client, char *text, size_t size)
{
    if (client->tls_version == NULL)
        return NULL;
    int written = snprintf(text, size, "%s/%s%s", client->tls_version, client->tls_cipher,
                           client->is_verified ? " verified" : "");
    assert(written > 0);
    return text;
}
