/*
 * A client is one SMTP or LMTP conversation with a host of a site, in the client's part: connection,
 * greeting, TLS and login where they are due, then messages in the highest gear that the peer can stand, then
 * QUIT. It lives from client_open until its connection is closed. Worker's thread only.
 *
 * client.c holds its life, client_tls.c and client_auth.c what comes before the first message, client_room.c
 * how much it takes, client_wait.c for how long it waits, client_trial.c whether its replies can be trusted,
 * client_end.c how it ends, dialogue.c what each reply means, transaction.c what is said.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "gateway/net/conn.h"
#include "gateway/outbound/command_queue.h"
#include "gateway/outbound/endpoint.h"
#include "gateway/outbound/job.h"
#include "proto/extension.h"
#include "proto/reply.h"

struct sasl_client;
struct site;

/*
 *                              SECURING   LOGIN
 *                               ▲ │        ▲ │235
 *                               │ ▼        │ ▼
 *  CONNECTING ─▶ GREETING ─220▶ HELLO ─250▶ READY ⇄ BUSY
 *      │             │            │         │        │
 *      │             │            │         └───┬────┘
 *      │             │            │             ▼
 *      │             │            │          QUITTING
 *      └─────────────┴────────────┴─────────────┴────────▶ CLOSING ─▶ (gone)
 *
 * CLOSING is entered from everywhere: what was in flight has its outcome then, only the connection is still
 * there.
 */
enum client_state {
    CLIENT_CONNECTING,
    CLIENT_GREETING,
    CLIENT_HELLO,
    CLIENT_SECURING, /* STARTTLS and the handshake */
    CLIENT_LOGIN,    /* AUTH */
    CLIENT_READY,    /* no message in flight */
    CLIENT_BUSY,     /* one or more */
    CLIENT_QUITTING,
    CLIENT_CLOSING,
    CLIENT_STATE_COUNT,
};

/* Which of the site's lists the client is in. */
enum client_room {
    CLIENT_ROOM_NONE,
    CLIENT_ROOM_IDLE,
    CLIENT_ROOM_HALF,
};

/* How far a peer is trusted to give one reply to each command; client_trial.c. */
enum client_trial {
    CLIENT_TRIAL_DATA,  /* the first message goes by DATA, */
    CLIENT_TRIAL_AGAIN, /* the second as well, */
    CLIENT_TRIAL_CHUNK, /* then one chunk may, */
    CLIENT_TRIAL_LAST,  /* and behind it one message by DATA */
    CLIENT_TRIAL_OVER,
};

/* Why a client ends. */
enum client_end {
    CLIENT_END_DONE,    /* we had no more to say, and said so */
    CLIENT_END_STOPPED, /* we want it to end at once */
    CLIENT_END_CONTENT, /* we could not read a message to its end; not the peer's fault */
    CLIENT_END_SIMPLER, /* the peer cannot stand what we can do without: the next connection goes without */
    CLIENT_END_CLOSING, /* the peer said 421 */
    CLIENT_END_REFUSED, /* the peer did not let us in */
    CLIENT_END_LOST,    /* the connection broke or was closed */
    CLIENT_END_TIMEOUT, /* the peer fell silent */
    CLIENT_END_BROKEN,  /* the peer said what makes no sense */
};

enum {
    CLIENT_REPLY_MAX = 480,               /* octets that are kept of a reply of several lines */
    CLIENT_RESETS_MAX = 10,               /* Exim closes at the next one that no accepted message excuses */
    CLIENT_STREAM_MESSAGES = 8,           /* in flight in gear 4 */
    CLIENT_STREAM_UNSENT_MAX = 256 << 10, /* octets not taken by the kernel: nothing more is begun then */
    CLIENT_LONG_CHUNK_MIN = 16 << 10,     /* octets that do not reach the peer at once */
    CLIENT_TLS_TEXT_SIZE = 128,
    CLIENT_LOOKS = 4, /* how often it is looked, within a time limit, whether the peer takes what is sent */
};

struct client {
    struct conn conn;
    struct site *site;
    struct endpoint *endpoint;
    struct list site_link;    /* in site.sessions */
    struct list room_link;    /* in site.idle or site.half */
    struct list feeding_link; /* in outbound.feeding */
    struct list jobs;         /* in flight, oldest first */
    uint32_t job_count;
    enum client_state state;
    enum client_room room;
    enum gear gear;
    enum client_trial trial;
    uint32_t features; /* SMTP_EXT_* that the last EHLO or LHLO announced */
    uint64_t size_limit;
    uint32_t mechanisms;       /* that it announced: 1 << enum sasl_mechanism */
    const char *tls_version;   /* static; NULL: in the clear */
    const char *tls_cipher;    /* the same */
    struct sasl_client *login; /* of the pool, in LOGIN; else NULL */
    uint64_t ready_us;         /* monotonic: when it became ready; 0: not yet */
    uint64_t queued_bytes;     /* handed to the connection since it was opened */
    uint64_t taken_bytes;      /* of them, those that the kernel is known to have taken */
    uint64_t armed_us;         /* monotonic: since when something is waited for */
    uint64_t acked_bytes;      /* by the other machine, when that was last looked at */
    uint64_t moved_us;         /* when that was last seen to have grown */
    uint32_t messages;         /* begun */
    uint32_t recipients;       /* of those */
    uint32_t concluded;        /* that the peer answered for */
    uint32_t unproven;         /* chunks taken since it was last certain that replies are in step */
    uint32_t resets;           /* RSET commands answered that no accepted message excuses */
    bool has_overlapped;       /* two messages were in flight at a time */
    bool has_free_reset;       /* a message was accepted since the last RSET */
    bool is_retiring;          /* no further messages */
    bool has_answered;         /* a reply was completed by what is being read */
    bool needs_reset;          /* the peer may believe in a transaction that we gave up */
    bool is_verified; /* TLS: the certificate is the host's, or has one of the names that the route allows */
    bool is_in_the_clear; /* the peer refused STARTTLS, and we may do without */
    bool is_logged_in;
    bool has_delivered;  /* LMTP: some recipient of the message in flight */
    struct job *current; /* whose reply is being read; NULL: none */
    struct command_queue commands;
    struct smtp_reply_parser parser;
    uint16_t reply_size;  /* of the lines before the last */
    uint16_t reply_lines; /* so far */
    char reply[CLIENT_REPLY_MAX];
};

/* Starts to connect. 0, or a negative errno and nothing has begun. */
int client_open(struct site *site, struct endpoint *endpoint) __attribute__((warn_unused_result));

/* Starts a message; the client must be in one of the site's lists of those with room. It takes the job. */
void client_begin(struct client *client, struct job *job);

/* Whether so many recipients more are within what one connection may carry. client_begin sees to it, too: a
 * message that has more goes back to the site's jobs, and the client retires. */
bool client_has_room_for(const struct client *client, uint32_t recipients);

/* For the log, with version and cipher: "TLSv1.3/TLS_AES_128_GCM_SHA256 verified"; without the last word,
 * when it was not verified that the peer is whom we meant. NULL: in the clear. */
const char *client_tls_text(const struct client *client, char *text, size_t size);

/* No further messages: ends politely when the last one is answered. */
void client_retire(struct client *client);

/* Another policy was taken over from `old`: sessions that were secured or let in by what it replaced begin no
 * further messages. */
void client_heed_policy(struct outbound *outbound, const struct outbound_policy *old);

/* Ends at once. `reply`: what is said of it in the log, beginning with a status code. Harmless when closing.
 */
void client_end(struct client *client, enum client_end end, struct smtp_slice reply);

/* The content of a job in flight moved on. Safe in every callback: the work is done by client_feed. */
void client_content_progress(struct client *client, struct job *job);

/* From the pump: goes on with content that waited. */
void client_feed(struct client *client);

/* --- between client.c, dialogue.c and transaction.c --- */

void client_enter(struct client *client, enum client_state state);

/* client_wait.c: sets the deadline of what is waited for now. */
void client_arm(struct client *client);

/* It came while messages were in flight. True: only a part of the time is over, or the peer went on. */
bool client_keeps_waiting(struct client *client) __attribute__((warn_unused_result));

/* EHLO, LHLO or HELO was answered well: TLS, login and then messages, as far as they are due. */
void client_go_on(struct client *client);

/* All is done that must be before a message. */
void client_ready(struct client *client);

bool client_is_lmtp(const struct client *client);

/* The reply to a command will be waited for; there must be room in the queue. */
void client_expect(struct client *client, enum client_command_kind kind, struct job *job, uint32_t target);

/* client_end.c: ends at once because of what happened while a reply was waited for; `what` says it in a few
 * words. */
void client_end_waiting(struct client *client, enum client_end end, const char *what);

/* client_end.c: we cannot, or do not want to, send by this host now. `reason` is put behind the status and
 * the host's name; `reply` behind that, unless it is empty. */
void client_refuse(struct client *client, const char *status, const char *reason, struct smtp_slice reply);

/* client_tls.c: says STARTTLS, if it is due. True: it did, or the client has ended. */
bool client_secure(struct client *client) __attribute__((warn_unused_result));

/* The reply to STARTTLS; the handshake is done; the connection has ended. The last one is true when it was
 * for TLS: the client has ended then. */
void client_on_starttls(struct client *client, uint16_t code, struct smtp_slice reply);
void client_on_secured(struct client *client);
bool client_blames_tls(struct client *client, const char *what) __attribute__((warn_unused_result));

/* TLS is demanded. */
bool client_must_encrypt(const struct client *client);

/* The connection is what the route demands of one that carries its mail. */
bool client_is_safe(const struct client *client);

/* client_auth.c: begins to log in, if it is due. True: it did, or the client has ended. */
bool client_log_in(struct client *client) __attribute__((warn_unused_result));
bool client_must_log_in(const struct client *client);
void client_on_auth(struct client *client, uint16_t code, struct smtp_slice reply);
void client_forget_login(struct client *client);

/* client_room.c: the one whose replies come next, or NULL. */
struct job *client_oldest_job(const struct client *client);

/* The one whose octets were queued last, or NULL; only it can have more to be queued. */
struct job *client_newest_job(const struct client *client);

/* From what the peer announced, and what its endpoint has shown. */
enum gear client_choose_gear(const struct client *client);

/* client_trial.c: whether the next message may travel as a chunk in gear 4. */
bool client_may_stream(const struct client *client);

/* What tells of the peer's counting: it is ready; a message begins; a 354, which can be the answer to nothing
 * but DATA. */
void client_begin_trial(struct client *client);
void client_try(struct client *client, const struct job *job);
void client_in_step(struct client *client);

/* There was a reply that cannot have been to the command whose turn it was. */
void client_out_of_step(struct client *client, struct smtp_slice reply);

/* Neither retiring nor at its limit of messages; nor would each message in flight, if refused, cost it one
 * RSET too many. */
bool client_may_begin(const struct client *client);

/* So many octets more were handed to the connection. */
void client_count_queued(struct client *client, uint64_t size);

/* Notes how much of that the kernel has taken, while that can be known: when a connection breaks, what it had
 * queued vanishes. */
void client_note_taken(struct client *client);

/* False: something of the message has not left yet, so a reply to its end cannot be true. */
bool client_has_sent(struct client *client, const struct job *job);

/* Out of the site's lists of those with room. */
void client_leave_room(struct client *client);

/* The replies to the oldest job are complete. */
void client_job_done(struct client *client, struct job *job);

/* Puts the client into the list that its state calls for. */
void client_update_room(struct client *client);

/* dialogue.c: one complete reply. */
void client_on_reply(struct client *client, uint16_t code, struct smtp_slice reply);

/* transaction.c: what is said. */
void client_say_hello(struct client *client, enum client_command_kind kind);
void client_say_quit(struct client *client);
/* When each command waits for its reply: RCPT, DATA, BDAT, or the job is done. */
void client_say_next(struct client *client, struct job *job);
void client_say_content(struct client *client, struct job *job);
void client_say_nothing(struct client *client, struct job *job); /* a lone dot */
