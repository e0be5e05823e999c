/*
 * Questions and answers as they stand on the wire (RFC 1035 §4), written and read by ldns.
 *
 * An answer is what anybody may have sent: it is believed only as far as it fits its question, and only what
 * lies on the way from the name asked for to the records asked for is taken from it. Pure but for memory;
 * worker's thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/outbound/dns/name.h"
#include "gateway/outbound/dns/records.h"

enum {
    PACKET_UDP_SIZE = 1232,  /* what fits any path without fragments: announced by EDNS0 (RFC 9715 §3.1) */
    PACKET_QUERY_SIZE = 300, /* header 12, name 255, type and class 4, OPT 11 */
    PACKET_SIZE_MAX = 65535, /* over TCP */
};

struct packet_question {
    const char *name; /* in the form of name.h */
    enum dns_type type;
    uint16_t id;
    bool has_edns;
    bool wants_ad; /* says that we understand AD (RFC 6840 §5.7), and believes it */
};

/* Returns the size of the question, or -ENOMEM. */
int packet_write(const struct packet_question *question, uint8_t into[static PACKET_QUERY_SIZE])
    __attribute__((warn_unused_result));

enum packet_verdict {
    PACKET_STRAY,     /* no answer to this question: to be ignored */
    PACKET_TRUNCATED, /* to be asked again over TCP */
    PACKET_NO_EDNS,   /* the server did not understand: to be asked again without EDNS (RFC 6891 §7) */
    PACKET_FAILURE,   /* this server cannot tell; another one may */
    PACKET_ALIAS,     /* the name is an alias, and what is behind it is not in this answer */
    PACKET_ANSWER,
    PACKET_NO_MEMORY,
};

/* How far an answer led. Filled by packet_read as the verdict calls for. */
struct packet_answer {
    const char *reason;          /* FAILURE: static text for people */
    char name[DNS_NAME_SIZE];    /* ALIAS: what to ask for next */
    uint32_t alias_count;        /* CNAME records followed, with those before */
    uint32_t ttl_s;              /* the least of all records used, those before included; not limited yet */
    bool is_authentic;           /* all of them are, those before included */
    struct dns_records *records; /* ANSWER: one reference, the caller's */
};

/*
 * Judges a packet. `answer` holds what the answers before it led to: at first no alias, the greatest ttl_s
 * and is_authentic true. `now_us` is monotonic.
 */
enum packet_verdict packet_read(struct pool *pool, const struct packet_question *question,
                                const uint8_t *bytes, size_t size, uint64_t now_us,
                                struct packet_answer *answer) __attribute__((warn_unused_result));

/* The time to live of a set of this status, within the resolver's limits. */
uint32_t packet_ttl(enum dns_status status, uint32_t ttl_s);
