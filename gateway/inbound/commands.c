#include "gateway/inbound/commands.h"

#include "gateway/base/config.h"
#include "gateway/base/counters.h"
#include "gateway/inbound/session.h"
#include "proto/address.h"
#include "queue/queue.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/*
 * What a command out of turn is answered; what is not named here may come. RCPT_FIRST becomes
 * NO_VALID_RECIPIENTS when there were recipients and all of them were refused (RFC 2920 §3.1: DATA may be on
 * its way with them).
 */
static const uint8_t out_of_turn[SESSION_RCPT + 1][SMTP_VERB_COUNT] = {
    [SESSION_GREETED] =
        {
            [SMTP_VERB_MAIL] = REPLY_HELLO_FIRST,
            [SMTP_VERB_RCPT] = REPLY_HELLO_FIRST,
            [SMTP_VERB_DATA] = REPLY_HELLO_FIRST,
        },
    [SESSION_READY] =
        {
            [SMTP_VERB_RCPT] = REPLY_MAIL_FIRST,
            [SMTP_VERB_DATA] = REPLY_MAIL_FIRST,
        },
    [SESSION_MAIL] =
        {
            [SMTP_VERB_MAIL] = REPLY_NESTED_MAIL,
            [SMTP_VERB_DATA] = REPLY_RCPT_FIRST,
        },
    [SESSION_RCPT] =
        {
            [SMTP_VERB_MAIL] = REPLY_NESTED_MAIL,
        },
};

static bool is_open_transaction(const struct session *session)
{
    return session->state == SESSION_MAIL || session->state == SESSION_RCPT;
}

static const struct config *config_of(const struct session *session)
{
    return session->inbound->options.config;
}

/* --- HELO, EHLO --- */

/* RFC 5321 §4.1.4: also resets what is under way. */
static void run_hello(struct session *session, const struct smtp_command *command)
{
    const uint32_t size = command->argument.size;
    assert(size > 0);
    session->helo_size = (uint8_t)(size < SESSION_HELO_MAX ? size : SESSION_HELO_MAX);
    memcpy(session->helo, command->argument.data, session->helo_size);
    session->is_esmtp = command->verb == SMTP_VERB_EHLO;
    session_reply_hello(session);
    if (session->state == SESSION_GREETED)
        session_enter(session, SESSION_READY);
    else if (is_open_transaction(session))
        session_end_transaction(session);
}

/* --- MAIL --- */

static enum reply_id judge_mail(const struct session *session, const struct smtp_command *command)
{
    const struct config_listener *listener = &config_of(session)->listeners[session->listener_index];
    if (command->has_size && command->size > listener->max_message_size_bytes)
        return REPLY_TOO_BIG;
    switch (queue_state(session->inbound->options.queue)) {
    case QUEUE_OPEN:
        return REPLY_NONE;
    case QUEUE_FAILED:
        return REPLY_STORAGE_FAILED;
    default:
        return REPLY_STORAGE_FULL;
    }
}

static void run_mail(struct session *session, const struct smtp_command *command)
{
    const struct smtp_slice sender = command->path.text;
    struct transaction *transaction = &session->transaction;
    enum reply_id refusal = judge_mail(session, command);
    if (refusal == REPLY_NONE && transaction_begin(transaction, session->inbound->options.pool, sender) != 0)
        refusal = REPLY_STORAGE_FULL;
    if (refusal != REPLY_NONE) {
        session_refuse_sender(session, refusal, sender);
        return;
    }
    transaction->is_8bitmime = command->body == SMTP_BODY_8BITMIME;
    transaction->may_relay = config_relay_allows_client(config_of(session), &session->client.any);
    session_enter(session, SESSION_MAIL);
    session_reply(session, REPLY_SENDER_OK);
}

/* --- RCPT --- */

/* The lane key: the domain in lower case. <postmaster>, which has none, is the postmaster of this host. */
static struct smtp_slice recipient_key(const struct session *session, const struct smtp_path *path,
                                       char key[static SMTP_DOMAIN_MAX])
{
    struct smtp_slice domain = path->domain;
    if (domain.size == 0) {
        const char *hostname = config_of(session)->hostname;
        domain = (struct smtp_slice){hostname, (uint32_t)strlen(hostname)};
    }
    const size_t size = smtp_domain_lower(domain, key, SMTP_DOMAIN_MAX);
    assert(size > 0);
    return (struct smtp_slice){key, (uint32_t)size};
}

static enum reply_id judge_recipient(const struct session *session, const struct smtp_path *path,
                                     struct smtp_slice key)
{
    const struct config *config = config_of(session);
    const struct transaction *transaction = &session->transaction;
    /* RFC 5321 §4.5.1: anyone may write to the postmaster. */
    const bool is_postmaster = path->domain.size == 0;
    if (!is_postmaster && !transaction->may_relay && !config_relay_domain(config, key.data, key.size))
        return REPLY_RELAYING_DENIED;
    if (config_route_find(config, key.data, key.size) == NULL)
        return REPLY_NO_ROUTE;
    if (transaction->recipient_count >= config->listeners[session->listener_index].max_recipients)
        return REPLY_TOO_MANY_RECIPIENTS;
    return REPLY_NONE;
}

static void run_rcpt(struct session *session, const struct smtp_command *command)
{
    const struct inbound_options *options = &session->inbound->options;
    struct transaction *transaction = &session->transaction;
    char key_text[SMTP_DOMAIN_MAX];
    const struct smtp_slice key = recipient_key(session, &command->path, key_text);
    enum reply_id refusal = judge_recipient(session, &command->path, key);
    if (refusal == REPLY_NONE) {
        const int error = transaction_add(transaction, options->pool, command->path.text, key);
        if (error != 0)
            refusal = error == -ENOSPC ? REPLY_TOO_MANY_RECIPIENTS : REPLY_STORAGE_FULL;
    }
    if (refusal != REPLY_NONE) {
        transaction->refused_count++;
        COUNTER_ADD(options->counters, recipients_refused, 1);
        session_refuse_recipient(session, refusal, command->path.text);
        return;
    }
    COUNTER_ADD(options->counters, recipients_accepted, 1);
    if (session->state == SESSION_MAIL)
        session_enter(session, SESSION_RCPT);
    session_reply(session, REPLY_RECIPIENT_OK);
}

/* --- The others --- */

static void run_data(struct session *session, const struct smtp_command *command)
{
    content_begin(session);
}

static void run_rset(struct session *session, const struct smtp_command *command)
{
    session_reply(session, REPLY_OK);
    if (is_open_transaction(session))
        session_end_transaction(session);
}

static void run_noop(struct session *session, const struct smtp_command *command)
{
    session_reply(session, REPLY_OK);
}

static void run_vrfy(struct session *session, const struct smtp_command *command)
{
    session_reply(session, REPLY_CANNOT_VERIFY);
}

static void run_help(struct session *session, const struct smtp_command *command)
{
    session_reply(session, REPLY_HELP);
}

static void run_quit(struct session *session, const struct smtp_command *command)
{
    session_reply(session, REPLY_GOODBYE);
    session_end(session, SESSION_QUIT);
}

typedef void run_command(struct session *session, const struct smtp_command *command);

static run_command *const run[SMTP_VERB_COUNT] = {
    [SMTP_VERB_HELO] = run_hello, [SMTP_VERB_EHLO] = run_hello, [SMTP_VERB_MAIL] = run_mail,
    [SMTP_VERB_RCPT] = run_rcpt,  [SMTP_VERB_DATA] = run_data,  [SMTP_VERB_RSET] = run_rset,
    [SMTP_VERB_NOOP] = run_noop,  [SMTP_VERB_VRFY] = run_vrfy,  [SMTP_VERB_HELP] = run_help,
    [SMTP_VERB_QUIT] = run_quit,
};

/* --- Dispatch --- */

static enum reply_id judge_turn(const struct session *session, enum smtp_verb verb)
{
    assert(session->state <= SESSION_RCPT);
    assert(verb > SMTP_VERB_NONE && verb < SMTP_VERB_COUNT);
    const enum reply_id refusal = out_of_turn[session->state][verb];
    if (refusal == REPLY_RCPT_FIRST && session->transaction.refused_count > 0)
        return REPLY_NO_VALID_RECIPIENTS;
    return refusal;
}

/* A client that gets nothing right in a row is a program gone astray, or looking for a hole. */
static void count_bad_command(struct session *session)
{
    session->bad_commands++;
    if (session->bad_commands >= INBOUND_BAD_COMMANDS_MAX && session->state != SESSION_ENDING)
        session_end_with(session, REPLY_TOO_MANY_ERRORS, SESSION_TOO_MANY_ERRORS);
}

static void run_in_turn(struct session *session, const struct smtp_command *command)
{
    const enum reply_id refusal = judge_turn(session, command->verb);
    if (refusal != REPLY_NONE) {
        session_refuse(session, refusal);
        count_bad_command(session);
        return;
    }
    session->bad_commands = 0;
    assert(run[command->verb] != NULL);
    run[command->verb](session, command);
}

size_t commands_take(struct session *session, const char *bytes, size_t size)
{
    assert(size > 0 && session->state <= SESSION_RCPT);
    struct smtp_command command;
    size_t consumed = 0;
    const enum smtp_parse result = smtp_command_parse(&session->parser, bytes, size, &consumed, &command);
    if (result == SMTP_PARSE_MORE)
        return consumed;

    COUNTER_ADD(session->inbound->options.counters, commands, 1);
    session_arm_timeout(session);
    if (result == SMTP_PARSE_DONE) {
        run_in_turn(session, &command);
    } else {
        session_refuse_syntax(session, command.refusal);
        count_bad_command(session);
    }
    return consumed;
}
