#include "gateway/inbound/commands.h"

#include "gateway/base/config.h"
#include "gateway/base/counters.h"
#include "gateway/base/idna.h"
#include "gateway/inbound/admission.h"
#include "gateway/inbound/authentication.h"
#include "gateway/inbound/chunks.h"
#include "gateway/inbound/commit.h"
#include "gateway/inbound/hello.h"
#include "gateway/inbound/origin.h"
#include "gateway/inbound/policy.h"
#include "gateway/inbound/route_refusal.h"
#include "gateway/inbound/sender_check.h"
#include "gateway/inbound/session.h"
#include "gateway/message/recipient.h"
#include "gateway/net/tls.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/*
 * What a command out of turn is answered; what is not named here may come. RCPT_FIRST becomes
 * NO_VALID_RECIPIENTS when there were recipients and all of them were refused (RFC 2920 §3.1: DATA may be on
 * its way with them).
 */
static const uint8_t out_of_turn[SESSION_CHUNKS + 1][SMTP_VERB_COUNT] = {
    [SESSION_GREETED] =
        {
            [SMTP_VERB_MAIL] = REPLY_HELLO_FIRST,
            [SMTP_VERB_RCPT] = REPLY_HELLO_FIRST,
            [SMTP_VERB_DATA] = REPLY_HELLO_FIRST,
            [SMTP_VERB_STARTTLS] = REPLY_EHLO_FIRST,
            [SMTP_VERB_AUTH] = REPLY_EHLO_FIRST,
            [SMTP_VERB_XFORWARD] = REPLY_EHLO_FIRST,
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
            [SMTP_VERB_STARTTLS] = REPLY_IN_TRANSACTION,
            [SMTP_VERB_AUTH] = REPLY_IN_TRANSACTION, /* RFC 4954 §4 */
            [SMTP_VERB_XCLIENT] = REPLY_IN_TRANSACTION,
            [SMTP_VERB_XFORWARD] = REPLY_IN_TRANSACTION,
        },
    [SESSION_RCPT] =
        {
            [SMTP_VERB_MAIL] = REPLY_NESTED_MAIL,
            [SMTP_VERB_STARTTLS] = REPLY_IN_TRANSACTION,
            [SMTP_VERB_AUTH] = REPLY_IN_TRANSACTION,
            [SMTP_VERB_XCLIENT] = REPLY_IN_TRANSACTION,
            [SMTP_VERB_XFORWARD] = REPLY_IN_TRANSACTION,
        },
    [SESSION_CHUNKS] =
        {
            [SMTP_VERB_MAIL] = REPLY_IN_CHUNKS,
            [SMTP_VERB_RCPT] = REPLY_IN_CHUNKS,
            [SMTP_VERB_DATA] = REPLY_IN_CHUNKS, /* RFC 3030 §2: the two do not mix */
            [SMTP_VERB_STARTTLS] = REPLY_IN_TRANSACTION,
            [SMTP_VERB_AUTH] = REPLY_IN_TRANSACTION,
            [SMTP_VERB_XCLIENT] = REPLY_IN_TRANSACTION,
            [SMTP_VERB_XFORWARD] = REPLY_IN_TRANSACTION,
        },
};

static bool is_open_transaction(const struct session *session)
{
    return session->state == SESSION_MAIL || session->state == SESSION_RCPT ||
           session->state == SESSION_CHUNKS;
}

static const struct config *config_of(const struct session *session)
{
    return session_policy(session)->config;
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
    hello_reply(session);
    if (session->state == SESSION_GREETED)
        session_enter(session, SESSION_READY);
    else if (is_open_transaction(session))
        session_end_transaction(session);
}

/* --- MAIL --- */

static void run_mail(struct session *session, const struct smtp_command *command)
{
    const struct smtp_slice sender = command->path.text;
    session_look_again(session);
    enum reply_id refusal = admission_mail(session, command);
    if (refusal == REPLY_NONE &&
        transaction_begin(&session->transaction, session->inbound->options.pool, command) != 0)
        refusal = REPLY_STORAGE_FULL;
    if (refusal != REPLY_NONE) {
        session_refuse_sender(session, refusal, sender);
        return;
    }
    if (sender_check_begin(session, command->path.domain))
        return;
    session_enter(session, SESSION_MAIL);
    session_reply(session, REPLY_SENDER_OK);
}

/* --- RCPT --- */

/* The lane key: the domain as it is routed. <postmaster>, which has none, is the postmaster of this host. */
static struct smtp_slice recipient_key(const struct session *session, const struct smtp_path *path,
                                       char key[static IDNA_KEY_SIZE])
{
    struct smtp_slice domain = path->domain;
    if (domain.size == 0) {
        const char *hostname = config_of(session)->hostname;
        domain = (struct smtp_slice){hostname, (uint32_t)strlen(hostname)};
    }
    const int size = idna_domain_key(domain.data, domain.size, key);
    return (struct smtp_slice){key, size > 0 ? (uint32_t)size : 0};
}

/* The sender's domain as it is routed; empty for the null path. */
static struct smtp_slice sender_key(const struct session *session, char key[static IDNA_KEY_SIZE])
{
    const struct smtp_slice sender = transaction_sender(&session->transaction);
    const char *at = sender.size > 0 ? memrchr(sender.data, '@', sender.size) : NULL;
    if (at == NULL)
        return (struct smtp_slice){0};
    const int size = idna_domain_key(at + 1, (size_t)(sender.data + sender.size - at - 1), key);
    return (struct smtp_slice){key, size > 0 ? (uint32_t)size : 0};
}

static bool is_ascii(struct smtp_slice text)
{
    for (uint32_t i = 0; i < text.size; i++)
        if ((text.data[i] & 0x80) != 0)
            return false;
    return true;
}

static enum reply_id judge_recipient(struct session *session, const struct smtp_command *command,
                                     struct smtp_slice key, struct smtp_slice sender,
                                     struct route_found *route)
{
    const bool is_utf8 = command->path.is_utf8 || !is_ascii(command->orcpt);
    if (is_utf8 && !session->transaction.is_smtputf8)
        return REPLY_NEEDS_SMTPUTF8;
    if (key.size == 0)
        return REPLY_BAD_DOMAIN;
    return admission_recipient(session, &command->path, key, sender, route);
}

static void count_refused_recipient(struct session *session)
{
    session->transaction.refused_count++;
    COUNTER_ADD(session->inbound->options.counters, recipients_refused, 1);
}

static void run_rcpt(struct session *session, const struct smtp_command *command)
{
    const struct inbound_options *options = &session->inbound->options;
    struct transaction *transaction = &session->transaction;
    char key_text[IDNA_KEY_SIZE];
    char sender_text[IDNA_KEY_SIZE];
    const struct smtp_slice key = recipient_key(session, &command->path, key_text);
    const struct smtp_slice sender = sender_key(session, sender_text);
    struct route_found route;
    enum reply_id refusal = judge_recipient(session, command, key, sender, &route);
    if (refusal == REPLY_NONE && route_refuses(&route)) {
        count_refused_recipient(session);
        route_refuse(session, &route, command->path.text);
        return;
    }
    if (refusal == REPLY_NONE) {
        char lane[ROUTES_KEY_MAX];
        const size_t lane_size = routes_lane_key(&session_policy(session)->routes, key.data, key.size,
                                                 sender.data, sender.size, lane);
        const struct recipient recipient = {command->path.text, command->orcpt, command->notify};
        const int error = transaction_add(transaction, options->pool, &recipient,
                                          (struct smtp_slice){lane, (uint32_t)lane_size});
        if (error != 0)
            refusal = error == -ENOSPC ? REPLY_TOO_MANY_RECIPIENTS : REPLY_STORAGE_FULL;
    }
    if (refusal != REPLY_NONE) {
        count_refused_recipient(session);
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
    if (session->transaction.body == SMTP_BODY_BINARYMIME) {
        session_refuse(session, REPLY_BINARY_BY_DATA);
        return;
    }
    if (!content_begin(session, false)) {
        session_refuse(session, commit_reply_to_no_draft(session));
        session_end_transaction(session);
        return;
    }
    session_enter(session, SESSION_CONTENT);
    session_reply(session, REPLY_START_CONTENT);
}

static void run_bdat(struct session *session, const struct smtp_command *command)
{
    chunks_begin(session, command);
}

/*
 * RFC 3207. What follows STARTTLS in the clear was sent by somebody who wants it to be read as if it came
 * through TLS. (What comes in another packet is read as a part of the handshake, which then fails.)
 */
static void run_starttls(struct session *session, const struct smtp_command *command)
{
    struct tls_server *server = session_policy(session)->tls[session->listener_index];
    if (session_is_secure(session)) {
        session_refuse(session, REPLY_TLS_ALREADY);
        return;
    }
    if (session->is_followed) {
        session_refuse(session, REPLY_NOT_LAST);
        session_end(session, SESSION_OUT_OF_STEP);
        return;
    }
    if (server == NULL) {
        session_refuse(session, REPLY_TLS_UNAVAILABLE);
        return;
    }
    const enum reply_id refusal = admission_handshake(session);
    if (refusal != REPLY_NONE) {
        session_refuse(session, refusal);
        session_end(session, SESSION_REFUSED);
        return;
    }
    session_reply(session, REPLY_START_TLS);
    session_secure(session, server);
}

static void run_auth(struct session *session, const struct smtp_command *command)
{
    if (authentication_user(session) != NULL)
        session_refuse(session, REPLY_AUTH_ALREADY); /* RFC 4954 §4 */
    else if (!session_is_secure(session) && !session_listener(session)->auth_without_tls)
        session_refuse(session, REPLY_TLS_FIRST);
    else
        authentication_begin(session, command);
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
    [SMTP_VERB_HELO] = run_hello,
    [SMTP_VERB_EHLO] = run_hello,
    [SMTP_VERB_MAIL] = run_mail,
    [SMTP_VERB_RCPT] = run_rcpt,
    [SMTP_VERB_DATA] = run_data,
    [SMTP_VERB_RSET] = run_rset,
    [SMTP_VERB_NOOP] = run_noop,
    [SMTP_VERB_VRFY] = run_vrfy,
    [SMTP_VERB_HELP] = run_help,
    [SMTP_VERB_QUIT] = run_quit,
    [SMTP_VERB_BDAT] = run_bdat,
    [SMTP_VERB_STARTTLS] = run_starttls,
    [SMTP_VERB_AUTH] = run_auth,
    [SMTP_VERB_XCLIENT] = origin_xclient,
    [SMTP_VERB_XFORWARD] = origin_xforward,
};

/* --- Dispatch --- */

static enum reply_id judge_turn(const struct session *session, enum smtp_verb verb)
{
    assert(session->state >= SESSION_GREETED && session->state <= SESSION_CHUNKS);
    assert(verb > SMTP_VERB_NONE && verb < SMTP_VERB_COUNT);
    const enum reply_id refusal = out_of_turn[session->state][verb];
    if (refusal == REPLY_RCPT_FIRST && session->transaction.refused_count > 0)
        return REPLY_NO_VALID_RECIPIENTS;
    return refusal;
}

/* A client that gets nothing right in a row is a program gone astray, or looking for a hole. */
static void count_bad_command(struct session *session)
{
    const uint8_t most =
        admission_is_stressed(session) ? INBOUND_BAD_COMMANDS_STRESSED : INBOUND_BAD_COMMANDS_MAX;
    session->bad_commands++;
    if (session->bad_commands >= most && session->state != SESSION_ENDING)
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
    /* A chunk out of turn is answered when it has been read, but it is a mistake at once. */
    const bool is_stray_chunk = command->verb == SMTP_VERB_BDAT && session->state < SESSION_RCPT;
    if (!is_stray_chunk)
        session->bad_commands = 0;
    assert(run[command->verb] != NULL);
    run[command->verb](session, command);
    if (is_stray_chunk)
        count_bad_command(session);
}

/* A recipient that cannot even be read is refused like any other: DATA behind it finds none that is valid. */
static void count_bad_recipient(struct session *session, enum smtp_verb verb)
{
    if (verb != SMTP_VERB_RCPT || (session->state != SESSION_MAIL && session->state != SESSION_RCPT))
        return;
    count_refused_recipient(session);
}

size_t commands_take(struct session *session, const char *bytes, size_t size)
{
    assert(size > 0 && session->state >= SESSION_GREETED && session->state <= SESSION_CHUNKS);
    struct smtp_command command;
    size_t consumed = 0;
    const enum smtp_parse result = smtp_command_parse(&session->parser, bytes, size, &consumed, &command);
    if (result == SMTP_PARSE_MORE)
        return consumed;

    COUNTER_ADD(session->inbound->options.counters, commands, 1);
    if (admission_is_stressed(session))
        COUNTER_ADD(session->inbound->options.counters, connections_stressed, 1);
    session_arm_timeout(session);
    if (result != SMTP_PARSE_DONE) {
        count_bad_recipient(session, command.verb);
        session_refuse_syntax(session, command.refusal);
        count_bad_command(session);
    } else {
        session->is_followed = consumed < size;
        run_in_turn(session, &command);
    }
    if (session->is_over_limit && session->state >= SESSION_GREETED && session->state <= SESSION_CHUNKS)
        session_end_with(session, REPLY_TOO_MANY_ERRORS, SESSION_TOO_MANY_ERRORS);
    return consumed;
}
