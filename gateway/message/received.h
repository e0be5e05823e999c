#pragma once

/*
 * The Received: field that every message gets on its way in (RFC 5321 §4.4, RFC 5322 §3.6.7; the words
 * behind `with` are those of RFC 3848 and RFC 6531 §4.3):
 *
 *     Received: from client.example ([192.0.2.1])
 *         (using TLSv1.3 with cipher TLS_AES_128_GCM_SHA256)
 *         by relay.example with ESMTPSA id 0000000000abc
 *         for <user@example.com>; Sat, 21 Nov 2026 22:19:42 +0000
 *
 * Pure functions on the caller's memory; any thread may call, one at a time for each date. What the client
 * said of itself may be hostile: only characters that cannot end the field, the line or a comment are written
 * as they came.
 */

#include "proto/path.h"
#include "proto/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    RECEIVED_NAME_MAX = 255,  /* octets of a host's name that are written; the rest is cut */
    RECEIVED_CLIENT_MAX = 63, /* octets of an address literal */
    RECEIVED_TLS_MAX = 95,    /* octets of protocol version and cipher */
    RECEIVED_SIZE_MAX = 1152, /* octets of the longest field, with its last CRLF */
    RECEIVED_DATE_SIZE = 31,  /* octets of "Sat, 21 Nov 2026 22:19:42 +0000" */
};

/* The last date that was written, since most messages of a second share it. Zeroed, it is ready for use. */
struct received_date {
    int64_t second;                /* since 1970 */
    char text[RECEIVED_DATE_SIZE]; /* text[0] == 0: none yet */
};

/* The date and time of RFC 5322 §3.3 in UTC, not terminated; valid until the next call with the same `date`.
 */
struct smtp_slice received_date_text(struct received_date *date, int64_t now_ms);

struct received {
    struct smtp_slice helo;      /* as the client gave it */
    struct smtp_slice client;    /* its address: "192.0.2.1", "2001:db8::1"; at most RECEIVED_CLIENT_MAX */
    struct smtp_slice hostname;  /* ours */
    struct smtp_slice id;        /* of the message; empty: not known */
    struct smtp_slice recipient; /* path without brackets; empty: several, and none may learn of the others */
    struct smtp_slice date;      /* received_date_text */
    struct smtp_slice tls;       /* "TLSv1.3 with TLS_AES_128_GCM_SHA256"; empty: in the clear */
    bool is_esmtp;               /* the client said EHLO */
    bool is_authenticated;       /* it logged in */
    bool is_utf8;                /* the message was declared as SMTPUTF8 */
};

/* An upper bound of what received_write will write, at most RECEIVED_SIZE_MAX. */
size_t received_bound(const struct received *received) __attribute__((warn_unused_result));

/* Writes the folded field with its last CRLF into `into`, which has room for received_bound; returns its
 * size. */
size_t received_write(const struct received *received, char *into) __attribute__((warn_unused_result));
