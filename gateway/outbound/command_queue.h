/*
 * The commands in flight on one connection, in the order in which their replies will come: each waits in its
 * own slot with its own deadline (RFC 2920 §3.1; RFC 5321 §4.5.3.2). Worker's thread only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct job;
struct pool;

#define COMMANDS(X)                                                                                          \
    X(GREETING, "connection", outbound_greeting_ms) /* not a command, but it has a reply and a deadline */   \
    X(EHLO, "EHLO", outbound_mail_ms)                                                                        \
    X(HELO, "HELO", outbound_mail_ms)                                                                        \
    X(LHLO, "LHLO", outbound_mail_ms)                                                                        \
    X(STARTTLS, "STARTTLS", outbound_mail_ms)                                                                \
    X(TLS, "TLS handshake", outbound_mail_ms) /* the same as GREETING, without a reply */                    \
    X(AUTH, "AUTH", outbound_mail_ms)                                                                        \
    X(RSET, "RSET", outbound_mail_ms)                                                                        \
    X(MAIL, "MAIL", outbound_mail_ms)                                                                        \
    X(RCPT, "RCPT", outbound_rcpt_ms)                                                                        \
    X(DATA, "DATA", outbound_data_ms)                                                                        \
    X(END, "end of content", outbound_end_ms)                                                                \
    X(BDAT, "BDAT", outbound_end_ms)                                                                         \
    X(QUIT, "QUIT", outbound_quit_ms)

enum client_command_kind {
#define COMMAND_KIND(kind, name, timeout) COMMAND_##kind,
    COMMANDS(COMMAND_KIND)
#undef COMMAND_KIND
};

struct client_command {
    struct job *job; /* of MAIL, RCPT, DATA, END and BDAT */
    uint32_t target; /* of RCPT; of END and BDAT in LMTP */
    enum client_command_kind kind;
};

enum { COMMAND_QUEUE_INLINE = 16 }; /* enough for two messages to a few recipients each */

struct command_queue {
    struct client_command *slots; /* a ring; `own`, or a block of the pool */
    uint32_t capacity;            /* a power of two */
    uint32_t first;
    uint32_t count;
    struct client_command own[COMMAND_QUEUE_INLINE];
};

void command_queue_init(struct command_queue *queue);
void command_queue_deinit(struct command_queue *queue, struct pool *pool);

/* Makes room for `more` commands. 0 or -ENOMEM. */
int command_queue_reserve(struct command_queue *queue, struct pool *pool, uint32_t more)
    __attribute__((warn_unused_result));

/* There must be room. */
void command_queue_push(struct command_queue *queue, struct client_command command);

/* The one whose reply comes next; NULL: none is in flight. Valid until the next push, reserve or pop. */
const struct client_command *command_queue_head(const struct command_queue *queue);
void command_queue_pop(struct command_queue *queue);

/* Whether its reply settles the message. */
static inline bool client_command_is_end(enum client_command_kind kind)
{
    return kind == COMMAND_END || kind == COMMAND_BDAT;
}

/* As a log names it. */
const char *client_command_name(enum client_command_kind kind);
