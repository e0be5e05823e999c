/* Sessions that a client remembers, and what each connection asks of its server. See tls.h. */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/sha.h>

#include "gateway/net/tls_inner.h"

static_assert(sizeof(((struct tls_session_slot *)0)->policy) == TLS_POLICY, "a slot has room for a policy");

void tls_slot_init(struct tls_session_slot *slot)
{
    *slot = (struct tls_session_slot){0};
}

static void slot_forget(struct tls_session_slot *slot)
{
    SSL_SESSION_free(slot->session);
    slot->session = NULL;
}

void tls_slot_drop(struct tls_session_slot *slot)
{
    assert(slot->users == 0);
    slot_forget(slot);
}

/* Whether the session's server could still show its certificate: a resumption must not outlive that. */
static bool slot_is_valid_now(const SSL_SESSION *session)
{
    const X509 *certificate = SSL_SESSION_get0_peer(session);
    return certificate != NULL && X509_cmp_current_time(X509_get0_notBefore(certificate)) < 0 &&
           X509_cmp_current_time(X509_get0_notAfter(certificate)) > 0;
}

/* The session that fits, with a reference for the caller; or NULL. */
static SSL_SESSION *slot_take(const struct tls_session_slot *slot, const uint8_t *policy)
{
    if (slot->session == NULL || memcmp(slot->policy, policy, TLS_POLICY) != 0)
        return NULL;
    if (!slot_is_valid_now(slot->session))
        return NULL;
    /* It stays for others too. RFC 8446 appendix C.4 would use it once, so that nobody can tell that two
     * connections are one client's: a relay says its name in the clear anyway. */
    SSL_SESSION_up_ref(slot->session);
    return slot->session;
}

/* What a session must have been made by, to serve here: the same rules of ours, the same two names. */
static void demand_make_policy(struct tls_demand *demand, const char *server_name)
{
    SHA256_CTX digest;
    const uint8_t verifies = demand->verify_name != NULL;
    SHA256_Init(&digest);
    SHA256_Update(&digest, tls_client_digest(demand->client), TLS_POLICY);
    SHA256_Update(&digest, &verifies, sizeof(verifies));
    if (verifies)
        SHA256_Update(&digest, demand->verify_name, strlen(demand->verify_name) + 1);
    if (server_name != NULL)
        SHA256_Update(&digest, server_name, strlen(server_name) + 1);
    SHA256_Final(demand->policy, &digest);
}

int tls_demand_init(struct tls_demand *demand, struct tls_client *client, const char *server_name,
                    const char *verify_name, struct tls_session_slot *slot)
{
    *demand = (struct tls_demand){0};
    if (verify_name != NULL) {
        demand->verify_name = strdup(verify_name);
        if (demand->verify_name == NULL)
            return -ENOMEM;
    }
    demand->client = tls_client_take(client);
    demand->slot = slot;
    if (slot == NULL)
        return 0;
    slot->users++;
    demand_make_policy(demand, server_name);
    demand->offered = slot_take(slot, demand->policy);
    return 0;
}

void tls_demand_remember(struct tls_demand *demand, SSL_SESSION *session)
{
    assert(demand->slot != NULL && session != NULL);
    slot_forget(demand->slot);
    demand->slot->session = session;
    memcpy(demand->slot->policy, demand->policy, TLS_POLICY);
}

void tls_demand_end(struct tls_demand *demand, bool succeeded)
{
    struct tls_session_slot *slot = demand->slot;
    if (slot == NULL)
        return;
    assert(slot->users > 0);
    /* Some servers fail on a session that they do not like, instead of making a new one. */
    if (!succeeded && demand->offered != NULL && slot->session == demand->offered)
        slot_forget(slot);
    slot->users--;
    demand->slot = NULL;
}

void tls_demand_deinit(struct tls_demand *demand)
{
    assert(demand->slot == NULL);
    SSL_SESSION_free(demand->offered);
    free(demand->verify_name);
    tls_client_free(demand->client);
    *demand = (struct tls_demand){0};
}
