/*
 * A client is one SMTP conversation with a host of a site, in the client's part: connection, greeting, then
 * messages in the highest gear that the peer can stand, then QUIT. It lives from client_open until its
 * connection is closed. Worker's thread only.
 *
 * client.c holds its life, client_room.c how much it takes, client_end.c how it ends, dialogue.c what each
 * reply means, transaction.c what is said.
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

struct site;

/*
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
    CLIENT_READY, /* no message in flight */
    CLIENT_BUSY,  /* one or more */
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

/* Why a client ends. */
enum client_end {
    CLIENT_END_DONE,    /* we had no more to say, and said so */
    CLIENT_END_STOPPED, /* we want it to end at once */
    CLIENT_END_CONTENT, /* we could not read a message to its end; not the peer's fault */
    CLIENT_END_CLOSING, /* the peer said 421 */
    CLIENT_END_REFUSED, /* the peer did not let us in */
    CLIENT_END_LOST,    /* the connection broke or was closed */
    CLIENT_END_TIMEOUT, /* the peer fell silent */
    CLIENT_END_BROKEN,  /* the peer said what makes no sense */
};

enum {
    CLIENT_REPLY_MAX = 480,              /* octets that are kept of a reply of several lines */
    CLIENT_RESETS_MAX = 10,              /* Exim closes at the next one that no accepted message excuses */
    CLIENT_STREAM_MESSAGES = 8,          /* in flight in gear 4 */
    CLIENT_STREAM_UNSENT_MAX = 256 << 10 /* octets not taken by the kernel: nothing more is begun then */
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
    uint32_t features; /* SMTP_EXT_* */
    uint64_t size_limit;
    uint64_t ready_us;     /* monotonic: when it became ready; 0: not yet */
    uint64_t queued_bytes; /* handed to the connection since it was opened */
    uint64_t taken_bytes;  /* of them, those that the kernel is known to have taken */
    uint32_t messages;     /* begun */
    uint32_t concluded;    /* that the peer answered for */
    uint32_t resets;       /* RSET commands answered that no accepted message excuses */
    bool has_free_reset;   /* a message was accepted since the last RSET */
    bool is_retiring;      /* no further messages */
    bool needs_reset;      /* the peer may believe in a transaction that we gave up */
    struct job *current;   /* whose reply is being read; NULL: none */
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

/* No further messages: ends politely when the last one is answered. */
void client_retire(struct client *client);

/* Ends at once. `reply`: what is said of it in the log, beginning with a status code. Harmless when closing.
 */
void client_end(struct client *client, enum client_end end, struct smtp_slice reply);

/* The content of a job in flight moved on. Safe in every callback: the work is done by client_feed. */
void client_content_progress(struct client *client, struct job *job);

/* From the pump: goes on with content that waited. */
void client_feed(struct client *client);

/* --- between client.c, dialogue.c and transaction.c --- */

void client_enter(struct client *client, enum client_state state);

/* Sets the deadline of what is waited for now. */
void client_arm(struct client *client);

/* EHLO or HELO was answered well. */
void client_ready(struct client *client);

/* client_end.c: ends at once because of what happened while a reply was waited for; `what` says it in a few
 * words. */
void client_end_waiting(struct client *client, enum client_end end, const char *what);

/* client_room.c: the one whose replies come next, or NULL. */
struct job *client_oldest_job(const struct client *client);

/* The one whose octets were queued last, or NULL; only it can have more to be queued. */
struct job *client_newest_job(const struct client *client);

/* From what the peer announced, and what its endpoint has shown. */
enum gear client_choose_gear(const struct client *client);

/* Neither retiring nor at its limit of messages; nor would each message in flight, if refused, cost it one
 * RSET too many. */
bool client_may_begin(const struct client *client);

/* So many octets more were handed to the connection. */
void client_count_queued(struct client *client, uint64_t size);

/* Notes how much of that the kernel has taken, while that can be known: when a connection breaks, what it had
 * queued vanishes. */
void client_note_taken(struct client *client);

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
