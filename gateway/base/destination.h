#pragma once

/*
 * A destination: where mail goes, as one value of a route says it, in the configuration or in a route file.
 *
 *     smtp://HOST[:PORT]       a host, port 25 unless given; HOST is a name or an IP address, IPv6 in
 * brackets lmtp://HOST[:PORT]       the same by LMTP (RFC 2033), port 24 lmtp:/path/of/socket     the same
 * over a Unix socket mx                       the recipient domain's MX records discard nowhere: accepted and
 * thrown away error:CODE X.Y.Z TEXT    nowhere: refused with this reply (X.Y.Z may be left out)
 *
 * A list has hosts of one kind, smtp or lmtp; the other values stand alone. Functions are pure unless said
 * otherwise and may be called from any thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "gateway/base/config.h"

enum destination_kind {
    DESTINATION_SMTP,
    DESTINATION_LMTP,
    DESTINATION_MX,
    DESTINATION_DISCARD,
    DESTINATION_ERROR,
};

struct destination_host {
    const char *name; /* in lower case, A-labels where needed; an IP address in its usual form, without
                         brackets; of a Unix socket its absolute path */
    uint16_t port;    /* 0: a Unix socket */
    uint16_t weight;  /* 0: hosts are tried in order; else mail is spread by weight (all or none have one) */
    const struct sockaddr_storage *addresses; /* with the port; AF_INET, AF_INET6 or AF_UNIX */
    size_t address_count; /* at least 1 in the configuration; of a route file 1 for an IP address or a socket,
                             0 for a name, which is to be looked up when it is needed */
};

struct destination {
    enum destination_kind kind;
    const struct destination_host *hosts;
    size_t host_count;            /* 1 ... DESTINATION_HOSTS_MAX of SMTP and LMTP, else 0 */
    uint16_t code;                /* of ERROR: 400 ... 599 */
    const char *text;             /* of ERROR: "5.7.1 We do not take this", always begins with an enhanced
                                     code of the same class (RFC 3463), printable ASCII; else "" */
    enum config_security tls;     /* UNSET: the site section's, else may */
    const char *const *tls_names; /* under verify: names that count besides the host's; in lower case */
    size_t tls_name_count;        /* at most DESTINATION_TLS_NAMES_MAX */
    const char *name; /* what the site is called: the first host, IPv6 in brackets, with ":port" unless
                         that is 25 (24 of LMTP); a socket's path; "" of MX, DISCARD and ERROR */
    uint32_t index;   /* config.destinations[index] is this one; UINT32_MAX: of a route file */
};

enum {
    DESTINATION_HOSTS_MAX = 16,
    DESTINATION_TLS_NAMES_MAX = 16,
    DESTINATION_WEIGHT_MAX = 1000,
    DESTINATION_ERROR_TEXT_MAX = 400, /* a reply has to fit into a line (RFC 5321 §4.5.3.1.5) */
    DESTINATION_VALUE_SIZE_MAX = 4096 /* of a line of a route file, without its pattern */
};

/* What completes "would be right: ..." about a destination. */
#define DESTINATION_RIGHT                                                                                    \
    "\"smtp://HOST\", \"lmtp://HOST\", each also with \":PORT\", \"lmtp:/SOCKET\", \"mx\", \"discard\" or "  \
    "\"error:550 5.7.1 TEXT\""

/*
 * A destination and all that it points to, in one piece, to be put on the stack (about 12 KB). It points into
 * itself, so it must not be copied by assignment. Filled by destination_parse, or step by step.
 */
struct destination_text {
    struct destination destination;
    struct destination_host hosts[DESTINATION_HOSTS_MAX];
    struct sockaddr_storage addresses[DESTINATION_HOSTS_MAX];
    const char *tls_names[DESTINATION_TLS_NAMES_MAX];
    size_t used; /* of the text below */
    char text[2 * DESTINATION_VALUE_SIZE_MAX];
};

/* Parses what stands behind the pattern in a line of a route file:
       DESTINATION[,DESTINATION...] [tls=WORD] [tls_names=NAME[,NAME...]] [weights=N[,N...]]
   An `error:` takes the whole rest of the line. No host is looked up. 0, or -EINVAL with what is wrong and
   what would be right in `error` (cut to `error_size`, zero-terminated, free of control characters). */
int destination_parse(const char *text, size_t size, struct destination_text *out, char *error,
                      size_t error_size) __attribute__((warn_unused_result));

/* The steps, for who has the parts one by one: init, then add each, in this order. Each returns NULL or what
   is wrong as the end of a sentence, such as "is not a next hop"; then only init is allowed. */
void destination_init(struct destination_text *out);
const char *destination_add(struct destination_text *out, const char *text, size_t size)
    __attribute__((warn_unused_result)); /* one "smtp://HOST", "mx", ... */
const char *destination_add_tls_name(struct destination_text *out, const char *text, size_t size)
    __attribute__((warn_unused_result));
const char *destination_set_weights(struct destination_text *out, const uint16_t *weights, size_t count)
    __attribute__((warn_unused_result)); /* one for each host; count 0: none */
const char *destination_set_tls(struct destination_text *out, enum config_security tls)
    __attribute__((warn_unused_result)); /* also judges the names that were added */

/* True when both say the same, whatever their index and the addresses behind their names. */
bool destination_equals(const struct destination *a, const struct destination *b);
