/*
 * The command parser turns the bytes of an SMTP client into commands (RFC 5321 §4.1).
 *
 * It is resumable at every byte: however the stream is cut, the commands are the same. It keeps a line only
 * while that line is incomplete, in a buffer inside the parser. Which command may come when is the session's
 * business; the parser knows syntax alone. Pure: any thread may call it, one at a time for each parser.
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
 * After a DATA that the session accepted with 354, the bytes behind it belong to the data scanner.
 */
#pragma once

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
    SMTP_VERB_UNSUPPORTED, /* a verb of the registry that is not offered: STARTTLS, AUTH, BDAT, ... */
    SMTP_VERB_COUNT,
};

/* The BODY parameter of MAIL (RFC 6152). */
enum smtp_body {
    SMTP_BODY_UNSTATED, /* by the protocol 7BIT; in life, clients that leave it out send 8-bit content, too */
    SMTP_BODY_7BIT,
    SMTP_BODY_8BITMIME,
};

struct smtp_command {
    enum smtp_verb verb;
    enum smtp_refusal refusal;  /* SMTP_REFUSAL_NONE unless SMTP_PARSE_REJECT */
    struct smtp_slice argument; /* HELO, EHLO: the client's name; NOOP, HELP, VRFY: anything */
    struct smtp_path path;      /* MAIL, RCPT */
    uint64_t size;              /* MAIL: SIZE= in octets (RFC 1870), 0 without has_size */
    enum smtp_body body;        /* MAIL */
    bool has_size;
};

struct smtp_command_parser {
    struct smtp_line line;
    char spill[SMTP_LINE_MAX];
};

void smtp_command_parser_init(struct smtp_command_parser *parser);

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
