#pragma once

/*
 * Rewrites content that holds octets above 127 so that a next hop without 8BITMIME can take it (RFC 6152 §3):
 * text becomes quoted-printable, everything else base64 (RFC 2045 §6), part by part of the MIME structure
 * (RFC 2046). What needs no change keeps its every octet.
 *
 * Content is read twice, in slices of any size and in its stored form: CRLF line ends, dots stuffed, empty or
 * ending with CRLF. The survey walks through all of it and decides what becomes of each entity (a header and
 * what belongs to it: the message, a part, a message in a part); only then can the first field be written, as
 * it stands before the octets that it is about.
 *
 *     recode_init ─▶ recode_survey ... ─▶ recode_survey_end ─POSSIBLE─▶ recode_convert ... ─▶
 * recode_convert_end
 *
 * Whoever reads structure otherwise than we do would get another message than was meant. So what parsers are
 * known to disagree about is refused (a field twice, a boundary with something behind it, a bare CR or LF),
 * and what is beyond the bounds below.
 *
 * The struct is the caller's; nothing here allocates. Any thread may call, one at a time for each struct.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    RECODE_DEPTH_MAX = 16,      /* multiparts within each other */
    RECODE_BOUNDARY_MAX = 70,   /* octets (RFC 2046 §5.1.1) */
    RECODE_FIELD_MAX = 8192,    /* octets of a field that tells of the structure, its folds included */
    RECODE_ENTITIES_MAX = 1024, /* of one message */
    RECODE_LINE_MAX = 1024,     /* octets of a line that are looked at together, CRLF included */
    /* Room that recode_convert needs to get on, and recode_convert_end to end. */
    RECODE_STEP_MAX = RECODE_FIELD_MAX + 4 * RECODE_LINE_MAX + 512,
};

/* What the survey found. */
enum recode_verdict {
    RECODE_NOTHING,    /* no octet is above 127: the content is sent as it is */
    RECODE_POSSIBLE,   /* it can be converted */
    RECODE_IN_HEADER,  /* such an octet stands in a header, where only SMTPUTF8 has a meaning for it */
    RECODE_IN_SEALED,  /* or in a part that is signed or encrypted, and would be broken (RFC 1847) */
    RECODE_IN_STRANGE, /* or where nothing can be encoded: between parts, in what is said to be encoded */
    RECODE_UNSURE,     /* the structure is broken, or can be read in more than one way */
    RECODE_BEYOND,     /* it is deeper or larger than the bounds */
};

/* A multipart that is open. */
struct recode_level {
    uint16_t message; /* the entity that is the message around it */
    uint8_t boundary_size;
    bool is_digest; /* its parts are messages unless they say otherwise (RFC 2046 §5.1.5) */
    bool is_sealed; /* it, or one around it, is signed or encrypted */
    char boundary[RECODE_BOUNDARY_MAX];
};

/* All fields are private to gateway/message; the enums of the small ones stand in recode_inner.h. */
struct recode {
    enum recode_verdict fault; /* the first; RECODE_NOTHING: none */
    bool is_converting;
    bool has_8bit;   /* an octet above 127 was seen */
    bool is_in_line; /* what comes next does not begin a line */
    uint8_t state;
    uint8_t depth;    /* levels that are open */
    uint16_t count;   /* entities so far */
    uint16_t entity;  /* the one that is read */
    uint16_t message; /* and the one that is the message around it */
    bool is_sealed;   /* nothing of the entity may be changed */
    uint8_t type;
    uint8_t encoding;
    uint8_t field;       /* of the header: the one that is read */
    uint8_t seen;        /* those that were: a bit for each */
    bool body_has_8bit;  /* the entity's own lines */
    bool body_has_long;  /* of more than 998 octets */
    bool holds_crlf;     /* base64: the last line's end; it belongs to a boundary, if one follows */
    char blank;          /* quoted-printable: it may prove to be the last of its line; 0: none */
    uint8_t column;      /* of the encoded line */
    uint8_t triple_size; /* base64: octets that wait for a third */
    uint8_t triple[3];   /* those */
    uint16_t line_size;  /* of `line` */
    uint16_t field_size; /* of `field_text` */
    char *out;           /* where the next octet is written, */
    const char *out_end; /* and where none may be */
    struct recode_level levels[RECODE_DEPTH_MAX + 1]; /* one more than can be opened, to read it into */
    uint8_t actions[RECODE_ENTITIES_MAX];             /* what becomes of each entity, by order of headers */
    char line[RECODE_LINE_MAX];                       /* the beginning of a line that is not complete */
    char field_text[RECODE_FIELD_MAX];                /* a field that tells of the structure, so far */
};

/* Begins the survey. */
void recode_init(struct recode *recode);

/* Looks at the next octets of the content, however they are cut. */
void recode_survey(struct recode *recode, const char *octets, size_t size);

/* All of it was seen. After RECODE_POSSIBLE the conversion can begin. */
enum recode_verdict recode_survey_end(struct recode *recode) __attribute__((warn_unused_result));

/*
 * The same octets again, from the first, however they are cut: writes what becomes of them to `out`, in
 * stored form, and returns how many octets that is; *consumed of those given are done with then. It stops
 * early when less than RECODE_STEP_MAX octets of room are left, and with more room it does something. All
 * that is written is below 128, and lines that were encoded have at most 76 octets.
 */
size_t recode_convert(struct recode *recode, const char *octets, size_t size, size_t *consumed, char *out,
                      size_t out_size) __attribute__((warn_unused_result));

/*
 * All of it was given: writes what was held back and sets *written. False: this was not the content that was
 * surveyed, and what was written is worth nothing.
 */
bool recode_convert_end(struct recode *recode, char out[static RECODE_STEP_MAX], size_t *written)
    __attribute__((warn_unused_result));

/* What stands in the way, to be put behind "it cannot be converted: "; static text. Not for NOTHING and
 * POSSIBLE. */
const char *recode_verdict_text(enum recode_verdict verdict);
