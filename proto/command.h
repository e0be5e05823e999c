/*
 * The command parser turns the bytes of an SMTP client into commands (RFC 5321 §4.1).
 *
 * It is resumable at every byte: however the stream is cut, the commands are the same. It keeps a line only
 * while that line is incomplete, in a buffer inside the parser. Which command may come when is the session's
 * business; the parser knows syntax alone, and which extensions are in force. Pure: any thread may call it,
 * one at a time for each parser.
 *
 *     while (size > 0) {
 *         switch (smtp_command_parse(&parser, bytes, size, &consumed, &command)) {
 *         case SMTP_PARSE_MORE: return;
 *         case SMTP_PARSE_DONE: ... act on command.verb ...
 *         case SMTP_PARSE_REJECT: ... send smtp_refusal_reply(command.refusal), close if it is fatal ...
 *         }
 *         bytes += consumed, size -= consumed;
 *     }
 *
 * After a DATA that the session accepted with 354, the bytes behind it belong to the data scanner; after any
 * BDAT of correct syntax, the next chunk_size octets are a chunk, accepted or not (RFC 3030 §2); after an
 * AUTH that goes on, lines are read by smtp_command_line().
 */
#pragma once

#include "proto/extension.h"
#include "proto/line.h"
#include "proto/path.h"
#include "proto/refusal.h"

#define SMTP_LINE_MAX 2048 /* octets with CRLF; RFC 5321 §4.5.3.1.4 asks for 512, parameters need more */

enum smtp_verb {
    SMTP_VERB_NONE, /* refused before the verb was known, or an unknown verb */
    SMTP_VERB_HELO,
    SMTP_VERB_EHLO,
    SMTP_VERB_MAIL,
    SMTP_VERB_RCPT,
    SMTP_VERB_DATA,
    SMTP_VERB_RSET,
    SMTP_VERB_NOOP,
    SMTP_VERB_VRFY,
    SMTP_VERB_HELP,
    SMTP_VERB_QUIT,
    SMTP_VERB_STARTTLS,    /* RFC 3207 */
    SMTP_VERB_AUTH,        /* RFC 4954 */
    SMTP_VERB_BDAT,        /* RFC 3030 */
    SMTP_VERB_XCLIENT,     /* xclient.h */
    SMTP_VERB_XFORWARD,    /* xclient.h */
    SMTP_VERB_UNSUPPORTED, /* a verb of the registry that this server has no code for: ETRN, EXPN, ... */
    SMTP_VERB_COUNT,
};

/* The BODY parameter of MAIL (RFC 6152, RFC 3030 §3). */
enum smtp_body {
    SMTP_BODY_UNSTATED, /* by the protocol 7BIT; in life, clients that leave it out send 8-bit content, too */
    SMTP_BODY_7BIT,
    SMTP_BODY_8BITMIME,
    SMTP_BODY_BINARYMIME, /* needs SMTP_EXT_BINARYMIME, too */
};

/* The RET parameter of MAIL: how much of the message a failure report returns (RFC 3461 §4.3). */
enum smtp_ret {
    SMTP_RET_UNSTATED,
    SMTP_RET_FULL,
    SMTP_RET_HDRS,
};

/* The NOTIFY parameter of RCPT, a set of bits (RFC 3461 §4.1). NEVER stands alone. */
#define SMTP_NOTIFY_NEVER   1
#define SMTP_NOTIFY_SUCCESS 2
#define SMTP_NOTIFY_FAILURE 4
#define SMTP_NOTIFY_DELAY   8

#define SMTP_ENVID_MAX          100 /* octets of ENVID when decoded (RFC 3461 §4.4) */
#define SMTP_ORCPT_MAX          500 /* octets of ORCPT as it came (RFC 3461 §4.2) */
#define SMTP_AUTH_MECHANISM_MAX 20  /* octets in the name of a SASL mechanism (RFC 4422 §3.1) */

/* What stands under a verb is zero for every other one. */
struct smtp_command {
    enum smtp_verb verb;
    enum smtp_refusal refusal;  /* SMTP_REFUSAL_NONE unless SMTP_PARSE_REJECT */
    struct smtp_slice argument; /* HELO, EHLO: the client's name; NOOP, HELP, VRFY: anything;
                                   XCLIENT, XFORWARD: the attributes */
    struct smtp_path path;      /* MAIL, RCPT; is_utf8 in MAIL only together with is_smtputf8 */

    /* MAIL */
    uint64_t size;           /* SIZE= in octets (RFC 1870), 0 without has_size */
    struct smtp_slice envid; /* ENVID= as it came: xtext of printable ASCII; empty: not given */
    struct smtp_slice auth; /* AUTH= as it came: xtext, perhaps "<>" (RFC 4954 §5); empty without has_auth */
    enum smtp_body body;
    enum smtp_ret ret;
    bool has_size;
    bool has_auth;
    bool is_smtputf8; /* RFC 6531 §3.4; VRFY may say it, too (§3.7.4.2) */

    /* RCPT; whether the transaction lets path.is_utf8 be, and octets above 127 in orcpt, is the session's to
     * judge */
    uint8_t notify;          /* SMTP_NOTIFY_ bits; 0: not given */
    struct smtp_slice orcpt; /* ORCPT= as it came, "rfc822;" or another type, then xtext of printable ASCII;
                                "utf-8;", then the forms of RFC 6533 §3; no control is hidden in either;
                                empty: not given */

    /* BDAT */
    uint64_t chunk_size; /* octets that follow the CRLF */
    bool is_last;

    /* AUTH */
    bool has_initial;            /* an initial response came, perhaps the empty one, "=" */
    struct smtp_slice mechanism; /* letters of either case, digits, "-" and "_" */
    struct smtp_slice initial;   /* one word, base64 if the client is right */
};

struct smtp_command_parser {
    struct smtp_line line;
    uint32_t extensions; /* SMTP_EXT_ bits in force now; the owner sets it at any time between two lines */
    bool lenient;   /* LF alone ends a line, too, CR alone is still refused; the owner sets it after init */
    uint8_t broken; /* the fatal refusal after which the stream is not read any more, or NONE */
    char spill[SMTP_LINE_MAX];
};

/*
 * extensions: SMTP_EXT_ bits. A verb of an extension that is not in force is
 * SMTP_REFUSAL_UNSUPPORTED_COMMAND, with the verb told; a parameter of one is SMTP_REFUSAL_PARAMETER_UNKNOWN;
 * a non-ASCII path without SMTPUTF8 is SMTP_REFUSAL_NON_ASCII_ADDRESS.
 */
void smtp_command_parser_init(struct smtp_command_parser *parser, uint32_t extensions);

/*
 * Reads one command. *consumed says how many of the `size` octets were taken; `bytes` may be NULL only if
 * size is 0.
 *
 * SMTP_PARSE_MORE: all of them, and no line is complete; *command is untouched.
 * SMTP_PARSE_DONE: *command is a command of correct syntax, *consumed is just behind its CRLF. Its slices are
 *     valid until the next call on this parser or until `bytes` goes, whichever is first.
 * SMTP_PARSE_REJECT: command->refusal says why; command->verb says what it was about, as far as that is
 *     known; no other field is set. Unless the refusal is fatal, *consumed is just behind the CRLF and the
 *     session goes on. After a fatal one the stream cannot be trusted: answer, then close. Further calls
 *     swallow all input and repeat the refusal.
 */
enum smtp_parse smtp_command_parse(struct smtp_command_parser *parser, const char *bytes, size_t size,
                                   size_t *consumed, struct smtp_command *command)
    __attribute__((warn_unused_result));

/*
 * Reads one line that is no command, as the client sends them in an AUTH exchange (RFC 4954 §4), in place of
 * smtp_command_parse(): the owner calls the one or the other for a whole line. *consumed, SMTP_PARSE_MORE and
 * what follows a fatal refusal are as there. *text is written on SMTP_PARSE_DONE only, is the line without
 * its end, may hold any other octet, and lives as long as a command's slices. *refusal is written on
 * SMTP_PARSE_REJECT only.
 */
enum smtp_parse smtp_command_line(struct smtp_command_parser *parser, const char *bytes, size_t size,
                                  size_t *consumed, struct smtp_slice *text, enum smtp_refusal *refusal)
    __attribute__((warn_unused_result));
