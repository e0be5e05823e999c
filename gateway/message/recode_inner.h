/* What recode.c, recode_field.c and recode_encode.c share. */
#pragma once

#include "gateway/message/recode.h"
#include "proto/slice.h"

/*
 *                  blank line of a multipart           its last delimiter
 *     HEADER ─────────────────────────────▶ AROUND ◀───────────────────────┐
 *     ▲ │  ▲ blank line of a message in it  │                              │
 *     │ └──┘                                │ delimiter                    │
 *     │ └────────── blank line of all else ─┼──────────▶ BODY ─────────────┤
 *     └─────────────────────────────────────┴───────── delimiter ──────────┘
 */
enum recode_state {
    RECODE_HEADER,
    RECODE_BODY,   /* of an entity without parts */
    RECODE_AROUND, /* before the first part and behind the last one, where nobody reads */
};

/* Fields that tell of the structure. */
enum recode_field {
    RECODE_FIELD_NONE, /* the header has not begun */
    RECODE_FIELD_OTHER,
    RECODE_FIELD_MIME_VERSION,
    RECODE_FIELD_CONTENT_TYPE,
    RECODE_FIELD_ENCODING,
};

enum recode_type {
    RECODE_TYPE_TEXT,
    RECODE_TYPE_BINARY, /* image, application, ... and what nobody knows */
    RECODE_TYPE_MULTIPART,
    RECODE_TYPE_MESSAGE, /* message/rfc822: a message in a part */
    RECODE_TYPE_REPORT,  /* any other message type: has rules of its own, so it is left alone */
};

/* Content-Transfer-Encoding. */
enum recode_encoding {
    RECODE_ENCODING_7BIT,
    RECODE_ENCODING_8BIT, /* or binary */
    RECODE_ENCODING_DONE, /* quoted-printable or base64; or one that we do not know */
};

/* Bits. */
enum recode_action {
    RECODE_ACTION_SEVEN = 1 << 0, /* is called 7bit, which it is when its parts are */
    RECODE_ACTION_QUOTED = 1 << 1,
    RECODE_ACTION_BASE64 = 1 << 2,
    RECODE_ACTION_ENCODED = RECODE_ACTION_QUOTED | RECODE_ACTION_BASE64,
    RECODE_ACTION_MIME = 1 << 3, /* something in it is encoded, so it must be MIME */
};

/* recode_field.c: which field the line begins; RECODE_FIELD_NONE: it begins none, or not for all readers. */
enum recode_field recode_field_name(struct smtp_slice line) __attribute__((warn_unused_result));

/* The type that the field's text (name, value, folds) tells; of a multipart, also sets the level's boundary,
 * is_digest and is_sealed. -EBADMSG: cannot be read, or in more than one way. */
int recode_field_type(struct smtp_slice text, struct recode_level *level) __attribute__((warn_unused_result));

enum recode_encoding recode_field_encoding(struct smtp_slice text) __attribute__((warn_unused_result));

/* recode_encode.c: writes, if this is the conversion. */
void recode_write(struct recode *recode, struct smtp_slice text);

/* A line of the body, or a fragment of it, its stuffed dot removed; `ends`: with CRLF, which is part of it.
 */
void recode_write_quoted(struct recode *recode, struct smtp_slice text, bool ends);
void recode_write_base64(struct recode *recode, struct smtp_slice text, bool ends);

/* The body is complete; `at_boundary`: the last line's end is not a part of it. */
void recode_write_base64_end(struct recode *recode, bool at_boundary);
