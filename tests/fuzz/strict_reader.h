/*
 * Reads one client's octets and the server's replies to them as RFC 5321, RFC 3030 and RFC 4954 say, and as
 * nobody could read them otherwise; with no code of the server's. Where the server saw the end of a line, of
 * a chunk or of a message elsewhere, the replies do not fit.
 */
#pragma once

#include "tests/unit/proto/transcript.h"

struct strict_rules {
    bool has_chunking; /* BDAT is a command */
    bool has_xclient;
    bool normalises;   /* a line of commands may end with LF alone; content is octets up to CRLF.CRLF */
    bool is_completed; /* fields may be added to a message */
};

enum { STRICT_MESSAGES_MAX = 64 };

struct strict_reading {
    struct transcript
        contents[STRICT_MESSAGES_MAX]; /* as they are to be stored; only where content_is_known */
    bool content_is_known[STRICT_MESSAGES_MAX];
    size_t message_count; /* accepted */
    size_t before_login;  /* of those, before anybody was logged in */
    bool is_closed;       /* the server has closed */
};

/* Whether the k-th accepted message was announced as BODY=BINARYMIME. */
typedef bool strict_is_binary(void *context, size_t k);

/* Aborts with the reason when replies and input do not fit together. */
void strict_read(struct strict_reading *reading, const struct strict_rules *rules, const char *input,
                 size_t size, const struct transcript *replies, strict_is_binary *is_binary, void *context);
void strict_reading_free(struct strict_reading *reading);
