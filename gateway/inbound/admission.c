#include "gateway/inbound/admission.h"

#include "gateway/base/counters.h"
#include "gateway/base/rate_table.h"
#include "gateway/base/table.h"
#include "gateway/inbound/authentication.h"
#include "gateway/inbound/commit.h"
#include "gateway/inbound/policy.h"
#include "gateway/inbound/report.h"
#include "gateway/inbound/session.h"
#include "gateway/net/loop.h"
#include "gateway/net/tls.h"
#include "gateway/sasl/senders.h"
#include "queue/queue.h"

#include <assert.h>
#include <string.h>

enum { STRESS_PERCENT = 80 }; /* of limits.connections */

static const struct config *config_of(const struct session *session)
{
    return session_policy(session)->config;
}

static uint64_t now_ms(const struct session *session)
{
    return loop_now_us(session->inbound->options.loop) / 1000;
}

/* The answer of a rule that can be tried dry. */
static enum reply_id refuse_by(struct session *session, enum config_rule rule, enum reply_id reply)
{
    if ((config_of(session)->admission.dry_run & 1u << rule) == 0)
        return reply;
    report_dry_run(session, rule, reply);
    return REPLY_NONE;
}

/* --- Rates --- */

/* One of the three ways to count a client: under which key, within which limits, by which rule. */
struct counted {
    uint64_t key;
    const struct config_rate *limits;
    enum config_rule rule;
};

/* Those that apply: a listed client is not counted by its address; returns how many. */
static size_t counted_as(const struct session *session, struct counted counted[static CONFIG_RATE_COUNT])
{
    const struct rate_table *rates = session->inbound->options.rates;
    const struct config_rate *limits = config_of(session)->rates;
    const char *login = authentication_user(session);
    size_t count = 0;
    if (!session->is_listed) {
        counted[count++] = (struct counted){rate_key_address(rates, &session->client.any),
                                            &limits[CONFIG_RATE_CLIENT], CONFIG_RULE_CLIENT_RATE};
        counted[count++] = (struct counted){rate_key_network(rates, &session->client.any),
                                            &limits[CONFIG_RATE_NETWORK], CONFIG_RULE_NETWORK_RATE};
    }
    if (login != NULL)
        counted[count++] = (struct counted){rate_key_login(rates, login, strlen(login)),
                                            &limits[CONFIG_RATE_LOGIN], CONFIG_RULE_LOGIN_RATE};
    return count;
}

static uint32_t limit_of(const struct config_rate *limits, enum rate_event event)
{
    switch (event) {
    case RATE_CONNECTIONS:
        return limits->connections_per_minute;
    case RATE_MESSAGES:
        return limits->messages_per_minute;
    case RATE_RECIPIENTS:
        return limits->recipients_per_minute;
    case RATE_ERRORS:
        return limits->errors_per_minute;
    case RATE_HANDSHAKES:
        return limits->handshakes_per_minute;
    default:
        return 0;
    }
}

/* Counts an event under all keys; the first whose limit it exceeds answers. Where there is no limit nothing
 * is counted, so this costs nothing that nobody asked for. */
static enum reply_id count_event(struct session *session, enum rate_event event, enum reply_id reply)
{
    struct counted counted[CONFIG_RATE_COUNT];
    const size_t count = counted_as(session, counted);
    enum reply_id refusal = REPLY_NONE;
    for (size_t i = 0; i < count; i++) {
        const uint32_t limit = limit_of(counted[i].limits, event);
        if (limit == 0)
            continue;
        const uint32_t seen =
            rate_add(session->inbound->options.rates, counted[i].key, event, 1, now_ms(session));
        if (seen > limit && refusal == REPLY_NONE)
            refusal = refuse_by(session, counted[i].rule, reply);
    }
    if (refusal != REPLY_NONE)
        COUNTER_ADD(session->inbound->options.counters, rate_limited, 1);
    return refusal;
}

static bool is_full(const struct counted *counted, uint32_t open)
{
    return counted->limits->connections != 0 && open > counted->limits->connections;
}

/* --- Connecting --- */

enum reply_id admission_connect(struct session *session)
{
    static const enum reply_id replies[] = {REPLY_CLIENT_RATE, REPLY_NETWORK_RATE};
    struct rate_table *rates = session->inbound->options.rates;
    struct counted counted[CONFIG_RATE_COUNT];
    enum reply_id refusal = REPLY_NONE;
    assert(session->open_as[0] == 0 && session->open_as[1] == 0 && authentication_user(session) == NULL);
    const size_t count = counted_as(session, counted);
    assert(count == 0 || count == 2);
    for (size_t i = 0; i < count; i++) {
        const uint32_t open = rate_enter(rates, counted[i].key, now_ms(session));
        session->open_as[i] = open > 0 ? counted[i].key : 0;
        if (is_full(&counted[i], open) && refusal == REPLY_NONE)
            refusal = refuse_by(session, counted[i].rule, replies[i]);
    }
    if (refusal == REPLY_NONE)
        return count_event(session, RATE_CONNECTIONS, REPLY_CLIENT_RATE);
    COUNTER_ADD(session->inbound->options.counters, rate_limited, 1);
    return refusal;
}

void admission_leave(struct session *session)
{
    for (size_t i = 0; i < CONFIG_RATE_COUNT; i++)
        if (session->open_as[i] != 0)
            rate_leave(session->inbound->options.rates, session->open_as[i]);
    memset(session->open_as, 0, sizeof(session->open_as));
}

enum reply_id admission_handshake(struct session *session)
{
    return count_event(session, RATE_HANDSHAKES, REPLY_TOO_MANY_HANDSHAKES);
}

enum reply_id admission_early_talker(struct session *session)
{
    COUNTER_ADD(session->inbound->options.counters, early_talkers, 1);
    return refuse_by(session, CONFIG_RULE_EARLY_TALKER, REPLY_EARLY_TALKER);
}

bool admission_is_stressed(const struct session *session)
{
    if (!session_is_stranger(session))
        return false;
    const uint64_t open =
        atomic_load_explicit(session->inbound->options.connection_count, memory_order_relaxed);
    return open * 100 >= (uint64_t)config_of(session)->limits.connections * STRESS_PERCENT;
}

void admission_error(struct session *session)
{
    if (count_event(session, RATE_ERRORS, REPLY_TOO_MANY_ERRORS) != REPLY_NONE)
        session->is_over_limit = true;
}

/* --- Logging in --- */

enum reply_id admission_login(struct session *session, const char *user)
{
    const struct rate_table *rates = session->inbound->options.rates;
    const uint32_t limit = config_of(session)->auth.failures_per_minute;
    if (limit == 0)
        return REPLY_NONE;
    const uint64_t client_key = rate_key_address(rates, &session->client.any);
    const uint64_t user_key = rate_key_login(rates, user, strlen(user));
    if (rate_get(rates, client_key, RATE_LOGIN_FAILURES, now_ms(session)) < limit &&
        rate_get(rates, user_key, RATE_LOGIN_FAILURES, now_ms(session)) < limit)
        return REPLY_NONE;
    COUNTER_ADD(session->inbound->options.counters, rate_limited, 1);
    return REPLY_LOGIN_FAILURES;
}

void admission_login_failed(struct session *session, const char *user)
{
    struct rate_table *rates = session->inbound->options.rates;
    (void)rate_add(rates, rate_key_address(rates, &session->client.any), RATE_LOGIN_FAILURES, 1,
                   now_ms(session));
    if (user[0] != '\0')
        (void)rate_add(rates, rate_key_login(rates, user, strlen(user)), RATE_LOGIN_FAILURES, 1,
                       now_ms(session));
}

enum reply_id admission_logged_in(struct session *session)
{
    struct rate_table *rates = session->inbound->options.rates;
    struct counted counted[CONFIG_RATE_COUNT];
    const size_t count = counted_as(session, counted);
    assert(count > 0 && counted[count - 1].rule == CONFIG_RULE_LOGIN_RATE);
    const struct counted *login = &counted[count - 1];
    assert(session->open_as[CONFIG_RATE_LOGIN] == 0);
    const uint32_t open = rate_enter(rates, login->key, now_ms(session));
    session->open_as[CONFIG_RATE_LOGIN] = open > 0 ? login->key : 0;
    uint32_t seen = 0;
    if (login->limits->connections_per_minute != 0)
        seen = rate_add(rates, login->key, RATE_CONNECTIONS, 1, now_ms(session));
    if (!is_full(login, open) && seen <= login->limits->connections_per_minute)
        return REPLY_NONE;
    COUNTER_ADD(session->inbound->options.counters, rate_limited, 1);
    return refuse_by(session, CONFIG_RULE_LOGIN_RATE, REPLY_LOGIN_CONNECTIONS);
}

void admission_logged_out(struct session *session)
{
    if (session->open_as[CONFIG_RATE_LOGIN] != 0)
        rate_leave(session->inbound->options.rates, session->open_as[CONFIG_RATE_LOGIN]);
    session->open_as[CONFIG_RATE_LOGIN] = 0;
}

/* --- MAIL --- */

static enum reply_id judge_sender(struct session *session, struct smtp_slice sender)
{
    const struct policy *policy = session_policy(session);
    const char *login = authentication_user(session);
    if (login == NULL || policy->config->auth.senders == NULL)
        return REPLY_NONE;
    const struct smtp_slice name = {login, (uint32_t)strlen(login)};
    if (policy->senders == NULL)
        return refuse_by(session, CONFIG_RULE_AUTH_SENDER, REPLY_SENDERS_UNAVAILABLE);
    if (senders_allow(policy->senders, name, sender))
        return REPLY_NONE;
    return refuse_by(session, CONFIG_RULE_AUTH_SENDER, REPLY_SENDER_DENIED);
}

static enum reply_id judge_queue(const struct session *session)
{
    const bool is_open = queue_state(session->inbound->options.queue) == QUEUE_OPEN;
    return is_open ? REPLY_NONE : commit_reply_to_no_draft(session);
}

enum reply_id admission_mail(struct session *session, const struct smtp_command *command)
{
    const struct config_listener *listener = session_listener(session);
    if (listener->auth == CONFIG_AUTH_REQUIRED && authentication_user(session) == NULL)
        return REPLY_LOGIN_REQUIRED;
    enum reply_id refusal = count_event(session, RATE_MESSAGES, REPLY_MESSAGE_RATE);
    if (refusal == REPLY_NONE)
        refusal = judge_sender(session, command->path.text);
    if (refusal == REPLY_NONE && command->has_size && command->size > listener->max_message_size_bytes)
        refusal = REPLY_TOO_BIG;
    return refusal != REPLY_NONE ? refusal : judge_queue(session);
}

bool admission_asks_about_sender(struct session *session)
{
    return config_of(session)->admission.reject_null_mx_sender && !admission_may_relay(session);
}

enum reply_id admission_null_mx_sender(struct session *session)
{
    return refuse_by(session, CONFIG_RULE_NULL_MX_SENDER, REPLY_NULL_MX_SENDER);
}

/* --- RCPT --- */

/* RFC 5321 §4.5.1: the postmaster of each domain that is ours hears whoever writes; <postmaster> without a
 * domain is the one of this host. */
static bool is_our_postmaster(const struct session *session, const struct smtp_path *path,
                              struct smtp_slice key)
{
    if (path->domain.size == 0)
        return true;
    return smtp_slice_equals_nocase(path->local, SMTP_SLICE("postmaster")) &&
           config_relay_domain(config_of(session), key.data, key.size);
}

static bool is_certificate_name(const void *config, const char *name)
{
    static const uint8_t no_fingerprint[32];
    return name[0] != '\0' && config_relay_allows_certificate(config, name, no_fingerprint);
}

/* A verified certificate that is on the list: the one of this TLS connection, or the one that a proxy saw. */
static bool is_certified(struct session *session)
{
    const struct config *config = config_of(session);
    const struct tls_info *tls = conn_tls_info(&session->conn);
    if (tls != NULL && tls->client_verified)
        return config_relay_allows_certificate(config, "", tls->client_fingerprint) ||
               conn_tls_any_name(&session->conn, is_certificate_name, config);
    return session->origin != NULL && is_certificate_name(config, session->origin->certificate);
}

bool admission_may_relay(struct session *session)
{
    return session->is_listed || authentication_user(session) != NULL || is_certified(session);
}

/* A list that cannot be read says nothing about anybody: the client comes again. */
static enum reply_id judge_listed(struct session *session, const struct smtp_path *path,
                                  struct smtp_slice key)
{
    const struct policy *policy = session_policy(session);
    const ptrdiff_t index = config_recipients_find(policy->config, key.data, key.size);
    if (index < 0)
        return REPLY_NONE;
    const struct table *list = policy->recipients[index];
    if (list == NULL)
        return refuse_by(session, CONFIG_RULE_RECIPIENT_LIST, REPLY_LIST_UNAVAILABLE);
    if (table_has_address(list, path->local.data, path->local.size, key.data, key.size,
                          policy->config->recipient_delimiter))
        return REPLY_NONE;
    return refuse_by(session, CONFIG_RULE_RECIPIENT_LIST, REPLY_UNKNOWN_RECIPIENT);
}

enum reply_id admission_recipient(struct session *session, const struct smtp_path *path,
                                  struct smtp_slice key, struct smtp_slice sender, struct route_found *route)
{
    const struct config *config = config_of(session);
    struct route_found found;
    const bool is_postmaster = is_our_postmaster(session, path, key);
    if (!is_postmaster && !admission_may_relay(session) && !config_relay_domain(config, key.data, key.size))
        return REPLY_RELAYING_DENIED;
    enum reply_id refusal = count_event(session, RATE_RECIPIENTS, REPLY_RECIPIENT_RATE);
    if (refusal == REPLY_NONE && !is_postmaster)
        refusal = judge_listed(session, path, key);
    if (refusal != REPLY_NONE)
        return refusal;
    if (!routes_find(&session_policy(session)->routes, key.data, key.size, sender.data, sender.size, &found))
        return REPLY_NO_ROUTE;
    if (session->transaction.recipient_count >= session_listener(session)->max_recipients)
        return REPLY_TOO_MANY_RECIPIENTS;
    *route = found;
    return REPLY_NONE;
}
