/* Plays conversations: scripts on the peer's side, messages on ours, outcomes and log to be compared. */
#pragma once

#include "tests/unit/outbound/peer.h"
#include "tests/unit/outbound/world.h"

#define SCRIPT(...)                                                                                          \
    (const char *const[])                                                                                    \
    {                                                                                                        \
        __VA_ARGS__, NULL                                                                                    \
    }
#define SCRIPTS(...)                                                                                         \
    (const char *const *const[])                                                                             \
    {                                                                                                        \
        __VA_ARGS__, NULL                                                                                    \
    }
#define HELLO      "S: 220 peer.test ESMTP", "C: EHLO relay.test"
#define PIPELINING HELLO, "S: 250-peer.test", "S: 250 PIPELINING"
#define LOCKSTEP   HELLO, "S: 250 peer.test"
#define BYE        "=", "C: QUIT", "S: 221 bye", "E"
#define MAIL       "C: MAIL FROM:<a@from.test>"
#define RCPT       "C: RCPT TO:<b@to.test>"
#define BODY       "Subject: x\r\n\r\nhello\r\n..\r\n"
#define FROM(sender, text, ...)                                                                              \
    {                                                                                                        \
        .from = sender, .to = {"b@to.test"}, .content = text, __VA_ARGS__                                    \
    }
#define ONE(...) FROM("a@from.test", BODY, __VA_ARGS__)
#define TWO()                                                                                                \
    {                                                                                                        \
        .from = "a@from.test", .to = {"b@to.test", "c@to.test"}, .content = BODY                             \
    }

/* Plays the scripts against the messages, all at hand from the start; the outcomes are one letter for each
 * target: D done, F deferred, R untried. Returns the log, to be freed; the peer is checked. `content`: what
 * the peer kept, to be freed; NULL: not wanted. */
char *play(const char *const *const *scripts, struct message *messages, uint32_t count, const char *outcomes,
           char **content);

/* Fails unless it is in the log; frees the log. */
void check_log(char *log, const char *part);
