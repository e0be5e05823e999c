/*
 * The attributes of XCLIENT and XFORWARD, by which a proxy says whom it speaks for (as documented in
 * Postfix's XCLIENT_README and XFORWARD_README).
 *
 *     attributes = attribute *( SP attribute )
 *     attribute  = name "=" xtext        ; names in any case
 *
 * Who may say so, and what follows from it, is the session's business. Pure; any thread may call it.
 *
 *     struct smtp_slice rest = command.argument;
 *     while ((result = smtp_xclient_next(&rest, forward, &attribute)) == SMTP_XCLIENT_ATTRIBUTE)
 *         ... act on attribute ...
 */
#pragma once

#include "proto/slice.h"

#define SMTP_XCLIENT_VALUE_MAX 255 /* octets of a decoded value; the documents name this limit */

enum smtp_xclient_name {
    SMTP_XCLIENT_NAME,     /* both: the client's host name */
    SMTP_XCLIENT_ADDR,     /* both: its address */
    SMTP_XCLIENT_PORT,     /* both: its port, a number from 0 to 65535 */
    SMTP_XCLIENT_PROTO,    /* both: SMTP or ESMTP */
    SMTP_XCLIENT_HELO,     /* both: what it said after HELO or EHLO */
    SMTP_XCLIENT_LOGIN,    /* XCLIENT: as whom it logged in */
    SMTP_XCLIENT_DESTADDR, /* XCLIENT: the address that it connected to */
    SMTP_XCLIENT_DESTPORT, /* XCLIENT: the port that it connected to */
    SMTP_XCLIENT_IDENT,    /* XFORWARD: the message's name on the host before us */
    SMTP_XCLIENT_SOURCE,   /* XFORWARD: LOCAL or REMOTE */
};

/* A proxy that does not know says so in the value. */
enum smtp_xclient_state {
    SMTP_XCLIENT_GIVEN,
    SMTP_XCLIENT_UNAVAILABLE, /* "[UNAVAILABLE]": there is none */
    SMTP_XCLIENT_TEMPUNAVAIL, /* "[TEMPUNAVAIL]": there may be one, but not now */
};

struct smtp_xclient_attribute {
    enum smtp_xclient_name name;
    enum smtp_xclient_state state;
    bool is_ipv6;  /* ADDR, DESTADDR: "IPV6:" stood before the value, and is left out */
    uint32_t size; /* octets of the value; 0 unless SMTP_XCLIENT_GIVEN, then more */
    char value[SMTP_XCLIENT_VALUE_MAX + 1]; /* decoded, without control characters; a NUL follows it */
};

enum smtp_xclient {
    SMTP_XCLIENT_ATTRIBUTE, /* *attribute was written, *rest moved behind it */
    SMTP_XCLIENT_END,       /* nothing is left */
    SMTP_XCLIENT_BAD, /* syntax, a name that the command does not have, or a value too long or of bad form */
};

/*
 * Takes the next attribute from the front of *rest; `forward` tells whether the command is XFORWARD. *rest
 * and *attribute are written for SMTP_XCLIENT_ATTRIBUTE only. An attribute that comes twice is handed out
 * twice: the later one is meant. Addresses are not looked into (a library function does that better), ports
 * are: they are numbers of at most 16 bits.
 */
enum smtp_xclient smtp_xclient_next(struct smtp_slice *rest, bool forward,
                                    struct smtp_xclient_attribute *attribute)
    __attribute__((warn_unused_result));
