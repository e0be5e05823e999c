/*
 * The PROXY parser reads the header with which a proxy in front of us tells whose connection it passes on,
 * version 1 (a line of text) or 2 (binary), as described by HAProxy's authors in proxy-protocol.txt.
 *
 * The header comes before everything else on the connection. Only ask for it where the peer is a proxy that
 * may speak for others: whoever sends it is believed. Pure: any thread may call it, one at a time for each
 * parser.
 */
#pragma once

#include "proto/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SMTP_PROXY_MAX 2048 /* octets of a header; a longer one is refused */

struct smtp_proxy_parser {
    uint16_t size; /* octets of the header so far; they are in `bytes` */
    bool is_over;  /* answered DONE or BAD */
    unsigned char bytes[SMTP_PROXY_MAX];
};

/* Slices point into the parser and live as long as it does; none holds a control character. */
struct smtp_proxy {
    uint8_t version;    /* 1 or 2 */
    bool is_local;      /* LOCAL: the proxy speaks for itself, a health check of its own */
    uint8_t family;     /* 4 or 6; 0: no address is told, by LOCAL or because the proxy knows none (UNKNOWN,
                           AF_UNSPEC, AF_UNIX) */
    uint8_t source[16]; /* the client; in network order, the first 4 or 16 octets; the rest is 0 */
    uint8_t destination[16]; /* where the client connected to */
    uint16_t source_port;    /* in host order */
    uint16_t destination_port;
    bool has_tls;             /* the client speaks TLS with the proxy; if not, the next five say nothing */
    bool tls_has_certificate; /* and showed a certificate, on this connection or earlier in its TLS session */
    bool tls_verified;        /* which the proxy has verified */
    struct smtp_slice tls_version; /* such as "TLSv1.3"; each slice is empty if not told */
    struct smtp_slice tls_cipher;
    struct smtp_slice tls_common_name; /* of the client's certificate; the proxy verified it or it did not */
    struct smtp_slice authority; /* the host name that the client asked for (SNI), with or without TLS */
};

enum smtp_proxy_result {
    SMTP_PROXY_MORE, /* all was taken and the header goes on */
    SMTP_PROXY_DONE, /* the header is complete; what follows is the client's */
    SMTP_PROXY_BAD,  /* not an acceptable header: close, without an answer */
};

void smtp_proxy_parser_init(struct smtp_proxy_parser *parser);

/*
 * Takes the next octets of the connection; *consumed is how many, never one that is behind the header. *out
 * is written with SMTP_PROXY_DONE only. A parser that answered DONE or BAD must be initialised before it is
 * used again; one that is left at MORE when the peer closes has seen no header.
 *
 * SMTP_PROXY_BAD comes at the first octet that no header could have there, or with which its announced size
 * cannot be right; what addresses and TLVs hold is judged when the header is complete. Version 1: at most 107
 * octets of printable ASCII with CRLF, addresses of the announced family without superfluous zeros in
 * decimals, ports up to 65535. Version 2: STREAM over IPv4, IPv6 or UNIX, or UNSPEC; DGRAM is refused, as no
 * mail comes that way. TLVs must fill the header exactly. The TLS TLV and each text may come once, and a text
 * without control characters; a CRC32C must be right; TLVs unknown here are skipped. Of LOCAL and UNSPEC
 * headers only the size is looked at.
 */
enum smtp_proxy_result smtp_proxy_parse(struct smtp_proxy_parser *parser, const char *bytes, size_t size,
                                        size_t *consumed, struct smtp_proxy *out)
    __attribute__((warn_unused_result));
