#pragma once

/*
 * One client's SMTP session. Private to gateway/inbound; belongs to the worker's thread.
 *
 *     PROXY ──▶ SECURING ──▶ SILENT ──▶ GREETED            (each only where the listener asks for it)
 *               (TLS)        (delay)     │ EHLO, HELO
 *                                        ▼        AUTH                   wrong
 *     ┌────────────────────────────▶ READY ◀───▶ AUTH ──▶ CHECKING ──▶ PENALTY ──▶ READY
 *     │                                  │ MAIL            (hasher)
 *     │    RSET, HELO                    ├──────▶ ASKING ──▶ READY
 *     │                                  ▼        │ (DNS)
 *     ├───────────────────────────── MAIL, RCPT ◀─┘
 *     │                                  │ DATA, BDAT
 *     │            reply     last octet  ▼           no room
 *     ├──────────────────── DISCARD ◀─ CONTENT ◀──────────▶ STALLED
 *     │                                  │  ▲ end of a chunk, BDAT
 *     │                                  │  └──────────────────────▶ CHUNKS
 *     │            durable               ▼
 *     └────────────────────────── COMMITTING ◀──▶ UNCOMMITTED (no room)
 *                                        │ client is gone
 *                                        ▼
 *                                     ORPHAN ──▶ GONE ◀── ENDING ◀── any state but COMMITTING: QUIT, 421,
 * EOF, ...
 *
 * In ASKING, CHECKING, PENALTY, STALLED, UNCOMMITTED and COMMITTING nothing is read: replies stay in order
 * without a queue of their own. STARTTLS leads from READY to SECURING and then to GREETED: what was said
 * before is forgotten (RFC 3207 §4.2).
 */

#include <assert.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/config.h"
#include "gateway/base/list.h"
#include "gateway/inbound/content.h"
#include "gateway/inbound/inbound.h"
#include "gateway/inbound/reply.h"
#include "gateway/inbound/transaction.h"
#include "gateway/net/conn.h"
#include "proto/command.h"
#include "proto/proxy.h"

enum session_state {
    SESSION_PROXY,       /* the PROXY header is awaited */
    SESSION_SILENT,      /* the greeting is held back: who speaks now is no mail client */
    SESSION_GREETED,     /* nothing is known of the client */
    SESSION_READY,       /* no transaction */
    SESSION_MAIL,        /* a transaction without a recipient so far */
    SESSION_RCPT,        /* with one or more */
    SESSION_CHUNKS,      /* between two chunks of a message (RFC 3030) */
    SESSION_AUTH,        /* a line of a login is awaited (RFC 4954) */
    SESSION_SECURING,    /* a TLS handshake is under way */
    SESSION_ASKING,      /* the DNS is asked about the sender of the transaction, which MAIL began */
    SESSION_CHECKING,    /* a password is with the hasher, which will call back */
    SESSION_PENALTY,     /* a failed login waits for its answer */
    SESSION_CONTENT,     /* content goes into the draft */
    SESSION_DISCARD,     /* content is read and dropped; the verdict on it stands */
    SESSION_STALLED,     /* the queue has no room for content: waits in inbound->waiting */
    SESSION_UNCOMMITTED, /* the queue has no room for the commit: waits in inbound->waiting */
    SESSION_COMMITTING,  /* the queue owns the message and will call back */
    SESSION_ORPHAN,      /* the same, but there is no client any more */
    SESSION_ENDING,      /* the last reply was given; waits for the connection's end */
    SESSION_GONE,        /* nothing will call back any more */
    SESSION_STATE_COUNT,
};

/* Why a session ended, the log's `reason`. */
enum session_reason {
    SESSION_LOST, /* the connection failed */
    SESSION_QUIT,
    SESSION_EOF, /* the client closed without QUIT */
    SESSION_TIMED_OUT,
    SESSION_BROKEN_LINES, /* bare CR or LF */
    SESSION_TOO_MANY_ERRORS,
    SESSION_REFUSED,     /* by a rule of admission */
    SESSION_BAD_PROXY,   /* no PROXY header, or a broken one */
    SESSION_OUT_OF_STEP, /* octets behind a command that must be the last of its group */
    SESSION_SHUT_DOWN,
    SESSION_REASON_COUNT,
};

enum {
    SESSION_HELO_MAX = 255, /* octets kept of the client's name */
    SESSION_CLIENT_TEXT_MAX = INET6_ADDRSTRLEN,
};

/* What a proxy, a login or XFORWARD tells of a client: in a block of its own, since most have none of it. */
struct session_origin {
    char tls_version[16]; /* of the TLS that a proxy ended; empty: none */
    char tls_cipher[64];
    char certificate[256]; /* the name in the client's certificate that the proxy verified */
    char forwarded[128];   /* XFORWARD: who stands behind the client, for the log alone */
};

struct login;
struct sender_check;

struct session {
    struct conn conn; /* its end is the last use of it; commits may outlive it */
    struct inbound *inbound;
    struct list link;          /* inbound->sessions */
    struct list waiting_link;  /* inbound->waiting */
    struct queue_draft *draft; /* CONTENT, STALLED, UNCOMMITTED, CHUNKS; ENDING: while the connection receives
                                  into it; NULL in any other state */
    struct login *login;       /* an exchange that is under way, or the name it ended with; NULL: none */
    struct sender_check *sender_check; /* ASKING; NULL in any other state */
    struct session_origin *origin;     /* NULL: nothing beyond the connection is known */
    struct transaction transaction;
    struct content content;
    uint64_t content_end_us; /* when the last octet of the message came */
    uint64_t message_size;   /* octets that were committed */
    uint64_t messages;       /* accepted */
    uint64_t bytes;          /* taken */
    enum session_state state : 8;
    enum session_state after : 8;   /* DISCARD of a chunk: the state when it is over */
    enum session_reason reason : 8; /* ENDING */
    enum reply_id verdict : 8;      /* DISCARD, CHUNKS: what the client will read of this message */
    bool is_esmtp;                  /* EHLO was said */
    bool at_eof;                    /* the client closed its side while a commit was under way */
    bool is_listed;                 /* in relay.networks */
    uint64_t
        open_as[CONFIG_RATE_COUNT]; /* rate keys under which this connection is counted as open; 0: not */
    bool is_early;                  /* spoke before the greeting, and a dry run let it pass */
    bool is_followed;               /* more octets came with the command at hand */
    bool is_over_limit;             /* too many errors: the next command is the last */
    uint8_t bad_commands;           /* in a row */
    uint8_t failed_logins;
    uint8_t helo_size;
    uint8_t client_text_size;
    uint32_t listener_index;
    uint32_t config_number; /* inbound->config_number when is_listed was looked up */
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } client;
    char client_text[SESSION_CLIENT_TEXT_MAX]; /* its address without port, not terminated; empty: unknown */
    char helo[SESSION_HELO_MAX];
    union {
        struct smtp_command_parser parser;
        struct smtp_proxy_parser proxy; /* PROXY */
    };
};

static_assert(sizeof(struct session) <= 4096, "an idle session with its connection fits into one page");

/* Makes a session that owns `fd` and begins with its client, who is its peer unless `client` is given.
 * -ENOMEM: the fd is still the caller's. */
int session_new(struct inbound *inbound, int fd, uint32_t listener_index, const struct sockaddr *client)
    __attribute__((warn_unused_result));

/* Asserts that the step is in the diagram, and sets the timeout of the new state. */
void session_enter(struct session *session, enum session_state state);

/* The timeout that the state demands, from now on. */
void session_arm_timeout(struct session *session);

/* Queues a reply, nothing else. */
void session_reply(struct session *session, enum reply_id reply);

/* "250 2.0.0 Ok: queued as ID" */
void session_reply_queued(struct session *session, uint64_t id);

/* Who the client is, from now on; another address family than those of IP: nobody that we know. */
void session_set_client(struct session *session, const struct sockaddr *client);

/* Looks again, if the configuration changed, whether the client is in relay.networks. */
void session_look_again(struct session *session);

/* The connection's next step towards its greeting: from here on the client's address is known. */
void session_admit(struct session *session);

/* Sends the 220 and expects EHLO. */
void session_greet(struct session *session);

/* What is looked up, as it is in force now: not to be kept between two turns. */
static inline const struct policy *session_policy(const struct session *session)
{
    return session->inbound->options.policy;
}

/* The listener that the client came in on, as it is configured now. */
const struct config_listener *session_listener(const struct session *session);

/* Neither in relay.networks nor logged in: the last to be served when something is short. */
bool session_is_stranger(const struct session *session);

/* Whether nobody on the way can read along: by our TLS, or by that of a proxy we trust. */
bool session_is_secure(const struct session *session);

/*
 * Queues a negative reply and logs it. The sender of the open transaction is logged with it; the variants
 * name the address that the refusal is about.
 */
void session_refuse(struct session *session, enum reply_id reply);
void session_refuse_sender(struct session *session, enum reply_id reply, struct smtp_slice sender);
void session_refuse_recipient(struct session *session, enum reply_id reply, struct smtp_slice recipient);

/* The same with a reply that is not of the table: `line` has its CRLF and is copied, `name` stands for it in
 * the log. */
void session_refuse_recipient_by(struct session *session, struct smtp_slice line, struct smtp_slice name,
                                 struct smtp_slice recipient);

/* The same for a connection, which ends with it; `silently`: the log alone learns why. */
void session_refuse_connection(struct session *session, enum reply_id reply, bool silently);

/* The same for what a parser refused; a fatal refusal ends the session. */
void session_refuse_syntax(struct session *session, enum smtp_refusal refusal);

/* The transaction is over, with or without success: its draft is given up, its memory given back; READY. */
void session_end_transaction(struct session *session);

/* STALLED or UNCOMMITTED: goes on when the queue has room. */
void session_wait_for_room(struct session *session, enum session_state state);

/* Lets what is queued go out, then closes. Not while a commit is under way. */
void session_end(struct session *session, enum session_reason reason);

/* Gives the client a 421, then ends; the log learns of it by the reason of the `disconnect`. */
void session_end_with(struct session *session, enum reply_id reply, enum session_reason reason);

/* Reads on if nothing stands against it. */
void session_resume(struct session *session);

/* The queue has room: a waiting session tries again. */
void session_room(struct session *session);

/* "TLSv1.3", `separator` and the cipher; empty: in the clear. The text is cut to `capacity`. */
struct smtp_slice session_tls_text(struct session *session, const char *separator, char *into,
                                   size_t capacity);

/* The TLS handshake begins. What was queued goes out in the clear. */
void session_secure(struct session *session, struct tls_server *server);

/* What the client said before does not count any more: STARTTLS, XCLIENT, PROXY (RFC 3207 §4.2). */
void session_forget(struct session *session);

/* A connection that was counted against the limit is no more. */
void inbound_connection_closed(struct inbound *inbound);

/* The callbacks of its connection; the one that says that a TLS handshake is done. */
extern const struct conn_handler session_handler;
void session_secured(struct conn *conn);

/* Inbound drains: ends now, or is bounded from now on. */
void session_drain(struct session *session);
