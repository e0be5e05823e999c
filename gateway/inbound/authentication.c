#include "gateway/inbound/authentication.h"

#include "gateway/base/config.h"
#include "gateway/base/counters.h"
#include "gateway/base/pool.h"
#include "gateway/inbound/admission.h"
#include "gateway/inbound/hello.h"
#include "gateway/inbound/policy.h"
#include "gateway/inbound/report.h"
#include "gateway/inbound/session.h"
#include "gateway/net/tls.h"
#include "gateway/sasl/sasl.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* A password on its way to the hasher and back. It outlives a session whose client went away. */
struct check {
    struct hasher_job job;
    struct inbound *inbound;
    struct session *session; /* NULL: it is gone */
};

struct login {
    bool is_done;        /* user is who is logged in */
    struct check *check; /* CHECKING */
    enum sasl_mechanism mechanism;
    char user[USER_NAME_MAX + 1];
    struct sasl_exchange *exchange; /* NULL once is_done */
};

static_assert((int)SASL_MECHANISM_COUNT == (int)CONFIG_MECHANISM_COUNT,
              "the configuration names the same ones");
static_assert((int)SASL_SCRAM_SHA_256_PLUS == (int)CONFIG_MECHANISM_SCRAM_SHA_256_PLUS, "in the same order");

const char *authentication_user(const struct session *session)
{
    return session->login != NULL && session->login->is_done ? session->login->user : NULL;
}

uint32_t authentication_mechanisms(const struct session *session)
{
    const struct config_listener *listener = session_listener(session);
    if (listener->auth == CONFIG_AUTH_OFF || session_policy(session)->users == NULL ||
        authentication_user(session) != NULL)
        return 0;
    if (!session_is_secure(session) && !listener->auth_without_tls)
        return 0;
    uint32_t mechanisms = session_policy(session)->config->auth.mechanisms;
    /* A channel can only be bound to where it ends here. */
    if (!conn_is_tls(&session->conn))
        mechanisms &= ~(1u << SASL_SCRAM_SHA_256_PLUS);
    return mechanisms;
}

/* --- The exchange --- */

static size_t bindings_of(struct session *session, struct sasl_binding bindings[static SASL_BINDING_MAX])
{
    static const struct {
        enum tls_binding type;
        const char *name;
    } types[] = {
        {TLS_BINDING_EXPORTER, "tls-exporter"},
        {TLS_BINDING_UNIQUE, "tls-unique"},
        {TLS_BINDING_SERVER_END_POINT, "tls-server-end-point"},
    };
    size_t count = 0;
    if (!conn_is_tls(&session->conn))
        return 0;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        struct sasl_binding *binding = &bindings[count];
        const int size =
            conn_tls_binding(&session->conn, types[i].type, binding->data, sizeof(binding->data));
        if (size <= 0)
            continue;
        binding->name = types[i].name;
        binding->size = (size_t)size;
        count++;
    }
    return count;
}

static void drop_exchange(struct session *session)
{
    struct login *login = session->login;
    if (login->exchange == NULL)
        return;
    sasl_exchange_wipe(login->exchange);
    pool_free(session->inbound->options.pool, login->exchange, sizeof(*login->exchange));
    login->exchange = NULL;
}

static struct login *login_new(struct session *session, bool has_exchange)
{
    struct pool *pool = session->inbound->options.pool;
    struct login *login = pool_alloc(pool, sizeof(*login));
    assert(session->login == NULL);
    if (login == NULL)
        return NULL;
    *login = (struct login){.is_done = !has_exchange};
    if (has_exchange)
        login->exchange = pool_alloc(pool, sizeof(*login->exchange));
    if (has_exchange && login->exchange == NULL) {
        pool_free(pool, login, sizeof(*login));
        return NULL;
    }
    session->login = login;
    return login;
}

void authentication_drop(struct session *session)
{
    struct login *login = session->login;
    if (login == NULL)
        return;
    if (login->check != NULL)
        login->check->session = NULL;
    drop_exchange(session);
    pool_free(session->inbound->options.pool, login, sizeof(*login));
    session->login = NULL;
}

/* The exchange came to nothing, and not because of who the client said to be. */
static void give_up(struct session *session, enum reply_id reply)
{
    report_login(session, sasl_claimed_user(session->login->exchange),
                 sasl_mechanism_name(session->login->mechanism), "failed", reply_get(reply)->name.data);
    authentication_drop(session);
    if (session->state != SESSION_READY)
        session_enter(session, SESSION_READY);
    session_refuse(session, reply);
    session_resume(session);
}

static void fail(struct session *session)
{
    struct login *login = session->login;
    COUNTER_ADD(session->inbound->options.counters, logins_failed, 1);
    report_login(session, sasl_claimed_user(login->exchange), sasl_mechanism_name(login->mechanism), "failed",
                 sasl_reason(login->exchange));
    admission_login_failed(session, sasl_claimed_user(login->exchange));
    authentication_drop(session);
    session_enter(session, SESSION_PENALTY);
}

void authentication_penalty_over(struct session *session)
{
    session_enter(session, SESSION_READY);
    session_refuse(session, REPLY_LOGIN_FAILED);
    session->failed_logins++;
    if (session->failed_logins >= INBOUND_FAILED_LOGINS_MAX)
        session_end_with(session, REPLY_TOO_MANY_ERRORS, SESSION_TOO_MANY_ERRORS);
    else
        session_resume(session);
}

static void succeed(struct session *session)
{
    struct login *login = session->login;
    COUNTER_ADD(session->inbound->options.counters, logins, 1);
    const size_t size = strlen(sasl_user(login->exchange));
    assert(size <= USER_NAME_MAX);
    memcpy(login->user, sasl_user(login->exchange), size + 1);
    drop_exchange(session);
    login->is_done = true;
    report_login(session, login->user, sasl_mechanism_name(login->mechanism), "ok", "");
    if (session->state != SESSION_READY)
        session_enter(session, SESSION_READY);
    session->parser.extensions = hello_extensions(session);
    const enum reply_id refusal = admission_logged_in(session);
    if (refusal != REPLY_NONE) {
        session_refuse(session, refusal);
        session_end(session, SESSION_REFUSED);
        return;
    }
    session_reply(session, REPLY_LOGGED_IN);
    session_resume(session);
}

static void check_password(struct session *session)
{
    const struct inbound_options *options = &session->inbound->options;
    struct login *login = session->login;
    const enum reply_id refusal = admission_login(session, sasl_claimed_user(login->exchange));
    struct check *check = refusal == REPLY_NONE ? pool_alloc(options->pool, sizeof(*check)) : NULL;
    if (check == NULL) {
        give_up(session, refusal != REPLY_NONE ? refusal : REPLY_LOGIN_UNAVAILABLE);
        return;
    }
    *check = (struct check){
        .job = {.done = options->password_checked, .context = options->password_context},
        .inbound = session->inbound,
        .session = session,
    };
    sasl_prepare_check(login->exchange, &check->job);
    if (!hasher_submit(options->hasher, &check->job)) {
        pool_free(options->pool, check, sizeof(*check));
        give_up(session, REPLY_LOGIN_UNAVAILABLE);
        return;
    }
    login->check = check;
    session->inbound->check_count++;
    session_enter(session, SESSION_CHECKING);
}

void inbound_password_checked(struct inbound *inbound, struct hasher_job *job)
{
    struct check *check = (struct check *)job; /* its first member */
    struct session *session = check->session;
    const bool matches = job->matches;
    assert(check->inbound == inbound && inbound->check_count > 0);
    inbound->check_count--;
    pool_free(inbound->options.pool, check, sizeof(*check));
    if (session == NULL)
        return;
    assert(session->state == SESSION_CHECKING);
    session->login->check = NULL;
    if (session->at_eof)
        session_end(session, SESSION_EOF);
    else if (sasl_password_checked(session->login->exchange, matches) == SASL_OK)
        succeed(session);
    else
        fail(session);
}

static void challenge(struct session *session, const char *text, size_t size)
{
    conn_send_copy(&session->conn, "334 ", 4);
    conn_send_copy(&session->conn, text, size);
    conn_send_copy(&session->conn, "\r\n", 2);
    if (session->state == SESSION_READY)
        session_enter(session, SESSION_AUTH);
}

/* The proof is right; it counts if the user may try at all. (Passwords are asked about before the work.) */
static void proven(struct session *session)
{
    const enum reply_id refusal = admission_login(session, sasl_claimed_user(session->login->exchange));
    if (refusal != REPLY_NONE)
        give_up(session, refusal);
    else
        succeed(session);
}

static void step(struct session *session, const char *line, size_t size)
{
    char out[SASL_CHALLENGE_MAX];
    size_t out_size = 0;
    struct sasl_exchange *exchange = session->login->exchange;
    if (session_policy(session)->users == NULL) {
        give_up(session, REPLY_LOGIN_UNAVAILABLE); /* since the exchange began */
        return;
    }
    sasl_set_users(exchange, session_policy(session)->users);
    switch (sasl_step(exchange, line, size, out, sizeof(out), &out_size)) {
    case SASL_CHALLENGE:
        challenge(session, out, out_size);
        break;
    case SASL_CHECK_PASSWORD:
        check_password(session);
        break;
    case SASL_OK:
        proven(session);
        break;
    case SASL_FAILED:
        fail(session);
        break;
    case SASL_MALFORMED:
        give_up(session, REPLY_AUTH_MALFORMED);
        break;
    case SASL_CANCELLED:
        give_up(session, REPLY_AUTH_CANCELLED);
        break;
    }
}

void authentication_begin(struct session *session, const struct smtp_command *command)
{
    const uint32_t offered = authentication_mechanisms(session);
    enum sasl_mechanism mechanism = SASL_PLAIN;
    struct sasl_binding bindings[SASL_BINDING_MAX];
    assert(session->state == SESSION_READY);
    if (!sasl_mechanism_parse(command->mechanism.data, command->mechanism.size, &mechanism) ||
        (offered & 1u << mechanism) == 0) {
        session_refuse(session, REPLY_AUTH_MECHANISM);
        return;
    }
    const enum reply_id refusal = admission_login(session, "");
    struct login *login = refusal == REPLY_NONE ? login_new(session, true) : NULL;
    if (login == NULL) {
        session_refuse(session, refusal != REPLY_NONE ? refusal : REPLY_LOGIN_UNAVAILABLE);
        return;
    }
    login->mechanism = mechanism;
    const bool has_plus = (offered & 1u << SASL_SCRAM_SHA_256_PLUS) != 0;
    sasl_begin(login->exchange, mechanism, session_policy(session)->users, bindings,
               has_plus ? bindings_of(session, bindings) : 0, session->inbound->options.server_secret);
    static const char empty[] = "";
    const char *initial = command->initial.size > 0 ? command->initial.data : empty;
    step(session, command->has_initial ? initial : NULL, command->has_initial ? command->initial.size : 0);
}

size_t authentication_take(struct session *session, const char *bytes, size_t size)
{
    struct smtp_slice line;
    enum smtp_refusal refusal = SMTP_REFUSAL_NONE;
    size_t consumed = 0;
    assert(session->state == SESSION_AUTH && size > 0);
    switch (smtp_command_line(&session->parser, bytes, size, &consumed, &line, &refusal)) {
    case SMTP_PARSE_MORE:
        break;
    case SMTP_PARSE_DONE:
        session_arm_timeout(session);
        step(session, line.data, line.size);
        break;
    case SMTP_PARSE_REJECT:
        authentication_drop(session);
        session_enter(session, SESSION_READY);
        session_refuse_syntax(session, refusal);
        break;
    }
    return consumed;
}

/* --- Without an exchange --- */

int authentication_assume(struct session *session, const char *user, size_t size)
{
    authentication_drop(session);
    assert(size > 0 && size <= USER_NAME_MAX);
    struct login *login = login_new(session, false);
    if (login == NULL)
        return -ENOMEM;
    memcpy(login->user, user, size);
    login->user[size] = '\0';
    return 0;
}
