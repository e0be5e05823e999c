#include "gateway/inbound/sender_check.h"

#include "gateway/base/idna.h"
#include "gateway/base/pool.h"
#include "gateway/inbound/admission.h"
#include "gateway/inbound/session.h"

#include <assert.h>

struct sender_check {
    struct inbound *inbound;
    struct session *session; /* NULL: it waits no more */
};

/* The reply to MAIL. */
static void conclude(struct session *session, bool is_null)
{
    assert(session->state == SESSION_ASKING && session->sender_check == NULL);
    const enum reply_id refusal = is_null ? admission_null_mx_sender(session) : REPLY_NONE;
    if (refusal != REPLY_NONE) {
        session_refuse(session, refusal);
        session_end_transaction(session);
        return;
    }
    session_enter(session, SESSION_MAIL);
    session_reply(session, REPLY_SENDER_OK);
    session_resume(session);
}

static void on_answer(void *asker, bool is_null)
{
    struct sender_check *check = asker;
    struct inbound *inbound = check->inbound;
    struct session *session = check->session;
    assert(inbound->question_count > 0);
    inbound->question_count--;
    pool_free(inbound->options.pool, check, sizeof(*check));
    if (session == NULL)
        return;
    assert(session->sender_check == check);
    session->sender_check = NULL;
    conclude(session, is_null);
}

static bool ask(struct session *session, const char *domain)
{
    struct inbound *inbound = session->inbound;
    const struct inbound_options *options = &inbound->options;
    if (options->ask_null_mx == NULL || inbound->question_count >= INBOUND_QUESTIONS_MAX)
        return false;
    struct sender_check *check = pool_alloc(options->pool, sizeof(*check));
    if (check == NULL)
        return false;
    *check = (struct sender_check){.inbound = inbound, .session = session};
    if (!options->ask_null_mx(options->dns_context, domain, on_answer, check)) {
        pool_free(options->pool, check, sizeof(*check));
        return false;
    }
    inbound->question_count++;
    session->sender_check = check;
    return true;
}

bool sender_check_begin(struct session *session, struct smtp_slice domain)
{
    char key[IDNA_KEY_SIZE];
    assert(session->state == SESSION_READY && session->sender_check == NULL);
    if (domain.size == 0 || !admission_asks_about_sender(session))
        return false; /* the null reverse-path has no domain */
    const int size = idna_domain_key(domain.data, domain.size, key);
    if (size <= 0 || key[0] == '[')
        return false; /* no name of the DNS */
    if (!ask(session, key))
        return false;
    session_enter(session, SESSION_ASKING);
    return true;
}

void sender_check_late(struct session *session)
{
    sender_check_drop(session);
    conclude(session, false);
}

void sender_check_drop(struct session *session)
{
    if (session->sender_check == NULL)
        return;
    assert(session->sender_check->session == session);
    session->sender_check->session = NULL;
    session->sender_check = NULL;
}
