#pragma once

/*
 * One client's SMTP session. Private to gateway/inbound; belongs to the worker's thread.
 *
 *                  HELO, EHLO          MAIL             RCPT             DATA
 *     ─▶ GREETED ─────────────▶ READY ─────▶ MAIL ─────────▶ RCPT ─────────────▶ CONTENT ◀──▶ STALLED
 *                                 ▲            │ RSET, HELO    │ RSET, HELO       │    │     (no room)
 *                                 ├────────────┴───────────────┘                  │    │ refused
 *                                 │                              reply            │    ▼
 *                                 ├───────────────────────────────────────────────┼─ DISCARD
 *                                 │                                     last dot  │
 *                                 │            durable              ┌─────────────┴─────▶ UNCOMMITTED
 *                                 └────────────────── COMMITTING ◀──┴──────────────────────── (no room)
 *                                                         │
 *                                       client is gone    ▼
 *                                                      ORPHAN ──▶ GONE ◀── ENDING ◀── any state but
 * COMMITTING: durable                        QUIT, 421, 521, EOF, ...
 *
 * In STALLED, UNCOMMITTED and COMMITTING nothing is read: replies stay in order without a queue of their own.
 */

#include <assert.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/list.h"
#include "gateway/inbound/content.h"
#include "gateway/inbound/inbound.h"
#include "gateway/inbound/reply.h"
#include "gateway/inbound/transaction.h"
#include "gateway/net/conn.h"
#include "proto/command.h"

enum session_state {
    SESSION_GREETED,     /* nothing is known of the client */
    SESSION_READY,       /* no transaction */
    SESSION_MAIL,        /* a transaction without a recipient so far */
    SESSION_RCPT,        /* with one or more */
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
    SESSION_SHUT_DOWN,
    SESSION_REASON_COUNT,
};

enum {
    SESSION_HELO_MAX = 255, /* octets kept of the client's name */
    SESSION_CLIENT_TEXT_MAX = INET6_ADDRSTRLEN,
};

struct session {
    struct conn conn; /* its end is the last use of it; commits may outlive it */
    struct inbound *inbound;
    struct list link;          /* inbound->sessions */
    struct list waiting_link;  /* inbound->waiting */
    struct queue_draft *draft; /* CONTENT, STALLED, UNCOMMITTED; NULL in any other state */
    struct transaction transaction;
    struct content content;
    uint64_t content_end_us; /* when the last octet of the message came */
    uint64_t message_size;   /* octets that were committed */
    uint64_t messages;       /* accepted */
    uint64_t bytes;          /* taken */
    enum session_state state : 8;
    enum session_reason reason : 8; /* ENDING */
    enum reply_id verdict : 8;      /* DISCARD: what the client will read */
    bool is_esmtp;                  /* EHLO was said */
    bool at_eof;                    /* the client closed its side while a commit was under way */
    uint8_t bad_commands;           /* in a row */
    uint8_t helo_size;
    uint8_t client_text_size;
    uint32_t listener_index;
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } client;
    char client_text[SESSION_CLIENT_TEXT_MAX]; /* its address without port, not terminated; empty: unknown */
    char helo[SESSION_HELO_MAX];
    struct smtp_command_parser parser;
};

static_assert(sizeof(struct session) <= 4096, "an idle session with its connection fits into one page");

/* Makes a session that owns `fd` and greets its client. `client` may be NULL. -ENOMEM: the fd is still the
 * caller's. */
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

/* The 220 with which a session begins, and the answers to HELO and EHLO, which name us and what we offer. */
void session_reply_greeting(struct session *session);
void session_reply_hello(struct session *session);

/*
 * Queues a negative reply and logs it. The sender of the open transaction is logged with it; the variants
 * name the address that the refusal is about.
 */
void session_refuse(struct session *session, enum reply_id reply);
void session_refuse_sender(struct session *session, enum reply_id reply, struct smtp_slice sender);
void session_refuse_recipient(struct session *session, enum reply_id reply, struct smtp_slice recipient);

/* The same for what a parser refused; a fatal refusal ends the session. */
void session_refuse_syntax(struct session *session, enum smtp_refusal refusal);

/* The transaction is over, with or without success: its draft is given up, its memory given back; READY. */
void session_end_transaction(struct session *session);

/* Lets what is queued go out, then closes. Not while a commit is under way. */
void session_end(struct session *session, enum session_reason reason);

/* Gives the client a 421, then ends; the log learns of it by the reason of the `disconnect`. */
void session_end_with(struct session *session, enum reply_id reply, enum session_reason reason);

/* Reads on if nothing stands against it. */
void session_resume(struct session *session);

/* The queue has room: a waiting session tries again. */
void session_room(struct session *session);

/* A connection that was counted against the limit is no more. */
void inbound_connection_closed(struct inbound *inbound);

/* Inbound drains: ends now, or is bounded from now on. */
void session_drain(struct session *session);
