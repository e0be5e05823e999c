/*
 * A record set: the answer to one question (a name and a type), immutable and shared by reference.
 *
 * It is one block of memory, made by the resolver and freed with its last reference. Everything belongs to
 * the worker's thread; references are counted without atomics.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/pool.h"

/* The numbers of RFC 1035 §3.2.2 and RFC 3596. */
enum dns_type {
    DNS_A = 1,
    DNS_MX = 15,
    DNS_TXT = 16,
    DNS_AAAA = 28,
};

enum dns_status {
    DNS_OK,        /* one record at least */
    DNS_NODATA,    /* the name exists, the type does not (RFC 2308 §2.2) */
    DNS_NXDOMAIN,  /* the name does not exist, or cannot be one */
    DNS_TEMPORARY, /* nothing is known: SERVFAIL (which a validating server also says of a bogus answer),
                      no answer in time, a chain of aliases that leads nowhere; `reason` says which */
};

enum {
    DNS_RECORDS_MAX = 1024,       /* of one set; of more, the first MX or others are kept */
    DNS_RECORDS_BYTES_MAX = 65536 /* of names and texts in one set; what exceeds it is left out likewise */
};

#define DNS_EXCHANGE_BAD "?"

struct dns_record {
    union {
        struct in_addr a;
        struct in6_addr aaaa;
        struct {
            const char *exchange; /* in the form of name.h; "" is the root: a null MX (RFC 7505);
                                     DNS_EXCHANGE_BAD: it cannot be a host */
            uint16_t preference;
        } mx;
        struct {
            const uint8_t *bytes; /* the character strings, joined (RFC 7208 §3.3) */
            size_t size;
        } txt;
    };
};

struct dns_records {
    enum dns_status status;
    enum dns_type type;
    uint32_t ttl_s;      /* as it was when the answer came, within the resolver's limits */
    uint64_t expires_us; /* monotonic: when it came, and ttl_s */
    bool is_authentic;   /* AD (RFC 6840 §5.8) on all of it, and the server is trusted to say so */
    const char *reason;  /* for the log and the sender: static text; "" for DNS_OK */
    const char *name;    /* at the end of all aliases, in the form of name.h: who owns the records */
    uint32_t count;      /* of MX: by preference, the lowest number first; equals by name */

    /* private */
    uint32_t references; /* UINT32_MAX: static, not counted */
    size_t size;         /* of the block; 0: static */
    struct dns_record records[];
};

/* A record that is to be copied into a set: what it points to is the caller's. */
struct dns_records_draft {
    enum dns_status status;
    enum dns_type type;
    bool is_authentic;
    uint32_t ttl_s;
    uint64_t now_us; /* monotonic */
    const char *reason;
    const char *name;
    const struct dns_record *records;
    uint32_t count;
};

/* A copy with one reference; NULL without memory. */
struct dns_records *dns_records_new(struct pool *pool, const struct dns_records_draft *draft)
    __attribute__((warn_unused_result));

/* One more reference; returns its argument. */
const struct dns_records *dns_records_ref(const struct dns_records *records);

/* One less; `pool` is the one that it was made from. NULL is ignored. */
void dns_records_release(struct pool *pool, const struct dns_records *records);

/* Seconds until it expires, rounded up; 0: it has. */
uint32_t dns_records_ttl(const struct dns_records *records, uint64_t now_us);

/* Sets that need no memory: "out of memory" (temporary), and what is said of a name that cannot exist. */
const struct dns_records *dns_records_no_memory(void) __attribute__((returns_nonnull));
const struct dns_records *dns_records_bad_name(void) __attribute__((returns_nonnull));
const struct dns_records *dns_records_stopped(void) __attribute__((returns_nonnull));
