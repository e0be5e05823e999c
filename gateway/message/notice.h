#pragma once

/*
 * Delivery status notifications: the mail that tells a sender what became of a message (RFC 3461, RFC 3464;
 * as multipart/report, RFC 6522; beyond ASCII, RFC 6533).
 *
 * A notice is written piece by piece into the caller's memory, so that it needs no more of it however many
 * recipients it is about; between two pieces the caller may wait as long as it likes:
 *
 *     notice_writer_init(&writer, &notice);
 *     while ((step = notice_next(&writer, piece, &size)) != NOTICE_END)
 *         if (step == NOTICE_PIECE)
 *             append(piece, size);
 *         else
 *             append what is returned of the original, from where it lies
 *
 * Everything is in the form in which content is stored: lines end with CRLF, none is longer than 998 octets,
 * and none of the notice's own begins with a dot; the original has its dots stuffed already.
 *
 * Pure functions on the caller's memory; any thread may call, one at a time for each writer. Addresses,
 * replies, names and identifiers may hold any octets: what could end a line, a field or an address, steer a
 * terminal, or is no text is written as "?". What the caller itself decides is asserted.
 */

#include "gateway/message/notice_class.h"
#include "proto/reply.h"
#include "proto/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    NOTICE_PIECE_MAX = 8192,        /* octets of the largest piece */
    NOTICE_REPLY_MAX = 1024,        /* octets of a far side's reply that are quoted; the rest is cut */
    NOTICE_NAME_MAX = 255,          /* octets of a host's name that are written; the rest is cut */
    NOTICE_HEADER_MAX = 128 * 1024, /* octets of an original's header that are returned */
};

/* A notice is about recipients of one kind. */
enum notice_kind {
    NOTICE_FAILURE, /* given up */
    NOTICE_DELAY,   /* not delivered yet */
    NOTICE_SUCCESS, /* the sender asked to hear of it */
};

/* RFC 3464 §2.3.3. FAILED belongs to NOTICE_FAILURE, DELAYED to NOTICE_DELAY, the others to NOTICE_SUCCESS.
 */
enum notice_action {
    NOTICE_FAILED,
    NOTICE_DELAYED,
    NOTICE_DELIVERED, /* it is in the mailbox */
    NOTICE_RELAYED,   /* passed on to a system that does not promise further notices */
    NOTICE_EXPANDED,  /* passed on to several addresses */
};

/* What is returned of the original, as the last part of the notice. */
enum notice_original {
    NOTICE_ORIGINAL_NOTHING,
    NOTICE_ORIGINAL_HEADER,  /* notice_header_find says how much of the content that is */
    NOTICE_ORIGINAL_CONTENT, /* all of it, in stored form */
};

struct notice_recipient {
    struct smtp_slice address; /* without brackets */
    struct smtp_slice orcpt;   /* ORCPT= as it came, "rfc822;" and xtext; empty: not given */
    enum notice_action action;
    enum notice_class class;   /* why; of no meaning in NOTICE_SUCCESS */
    uint16_t code;             /* 200 to 599: of the reply; 0: the reason is ours, and `reply` its text */
    struct smtp_status status; /* class 0: not known, and one that fits is written */
    struct smtp_slice reply;   /* with the code before it or without; lines may be parted by CRLF; empty:
                                  nothing to quote. Written as one line, with its code once */
    struct smtp_slice host;    /* who said it: a name, an address, or the path of a socket; empty: nobody */
    int64_t last_attempt_ms;   /* since 1970; 0: not known */
};

struct notice {
    enum notice_kind kind;
    struct smtp_slice hostname;    /* ours; never empty */
    struct smtp_slice postmaster;  /* the address in From; empty, or none that may stand there: mailer-daemon
                                      at this host */
    struct smtp_slice id;          /* of the notice itself, as it is queued; 1 to 16 letters and digits */
    struct smtp_slice sender;      /* the reverse-path of the original. Never empty: nothing is ever
                                      sent about a notice (RFC 5321 §4.5.5) */
    struct smtp_slice envid;       /* ENVID= of the original, the xtext as it came; empty: none */
    struct smtp_slice original_id; /* by which we know the original; empty: not told */
    int64_t now_ms;                /* since 1970 */
    int64_t arrival_ms;            /* of the original; 0: not known */
    int64_t expires_ms;            /* NOTICE_DELAY: how long it will be tried; 0: not told */
    uint64_t nonce[2];             /* random, drawn for this notice after the original was received: nobody
                                      could write the boundary into it, as it is made of these */
    const struct notice_recipient *recipients;
    uint32_t recipient_count; /* at least one */
    enum notice_original original;
    bool original_is_8bit; /* an octet of what is returned of the original is above 127 */
    bool original_is_cut;  /* NOTICE_ORIGINAL_HEADER: and the content is not returned because of its size */
    bool is_utf8;          /* the original was declared SMTPUTF8, so its sender takes a notice that is */
};

enum notice_step {
    NOTICE_PIECE,    /* a piece is to be appended */
    NOTICE_RETURNED, /* now what is returned of the original is to be appended, without another line end */
    NOTICE_END,      /* the notice is complete */
};

struct notice_writer {
    const struct notice *notice; /* borrowed, with all that it points to, until NOTICE_END */
    uint32_t recipient;          /* the next one */
    uint8_t stage;               /* enum notice_stage in notice.c */
};

void notice_writer_init(struct notice_writer *writer, const struct notice *notice);

/* The next step; *size, 1 to NOTICE_PIECE_MAX octets, is written for NOTICE_PIECE only. NOTICE_RETURNED comes
 * once, and not at all with NOTICE_ORIGINAL_NOTHING. Not to be called after NOTICE_END. */
enum notice_step notice_next(struct notice_writer *writer, char piece[static NOTICE_PIECE_MAX], size_t *size)
    __attribute__((warn_unused_result));

/* The octets of all pieces together, so of the notice without what is returned of the original. Costs as much
 * as writing it. */
uint64_t notice_size(const struct notice *notice) __attribute__((warn_unused_result));

/* The flags of the notice's envelope (enum envelope_flag), except ENVELOPE_DOT_LINES, which it has if what is
 * returned of the original has it. */
uint32_t notice_envelope_flags(const struct notice *notice) __attribute__((warn_unused_result));

/*
 * How much of the original belongs into the notice: all of it for a failure, if it was not declared
 * RET=HDRS, is not BINARYMIME and has at most `content_max` octets; else the header (RFC 3461 §4.3, §6.2).
 * `envelope_flags` are those of the original. *is_cut tells whether its size alone stands against the whole.
 */
enum notice_original notice_original_choose(enum notice_kind kind, uint32_t envelope_flags,
                                            uint64_t content_size, uint64_t content_max, bool *is_cut)
    __attribute__((warn_unused_result));

struct notice_header {
    uint32_t size;
    bool is_8bit; /* an octet of it is above 127 */
};

/*
 * What of a stored content can be returned as its header: whole lines, up to the empty one, which is not
 * counted, or up to a line that cannot be: no field, longer than 998 octets, with a NUL or a bare CR or LF or
 * beginning with a dot (BINARYMIME), or beyond NOTICE_HEADER_MAX. `content` are the first `size` octets of
 * it; NOTICE_HEADER_MAX of them are enough, and of fewer a last line without its end does not count.
 */
struct notice_header notice_header_find(const char *content, size_t size) __attribute__((warn_unused_result));
