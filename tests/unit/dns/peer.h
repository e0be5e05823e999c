/*
 * A scripted name server on loopback, UDP and TCP, in the test's own thread: it serves whenever the test lets
 * it. It knows a small zone, and for single names how to misbehave. It writes and reads packets by its own
 * means, so that a mistake of the resolver's library is not made twice.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum {
    PEER_RECORDS_MAX = 2200,
    PEER_TRICKS_MAX = 32,
    PEER_CLIENTS_MAX = 8,
    PEER_PACKET_MAX = 65535,
};

enum peer_trick {
    PEER_HONEST,
    PEER_SILENT,
    PEER_SERVFAIL,
    PEER_REFUSED,
    PEER_HATES_EDNS,    /* FORMERR without a question to whoever uses it */
    PEER_TRUNCATES,     /* over UDP, whatever the size */
    PEER_TRUNCATES_TCP, /* there too */
    PEER_CLOSES_TCP,    /* truncates, and then closes instead of answering */
    PEER_STRAYS,        /* wrong answers of every kind, and then the right one */
    PEER_FLOODS,        /* wrong ids only, over UDP */
    PEER_CUTS,          /* half of the right answer, without saying so */
    PEER_REFERS,        /* sends the asker elsewhere */
    PEER_NO_CHASE,      /* tells one CNAME at a time */
    PEER_NO_SOA,        /* says that there is nothing, but not for how long */
};

struct peer_record {
    char name[128];
    uint16_t type;
    uint32_t ttl_s;
    uint16_t preference;
    char value[160]; /* as in a zone file; "." is the root */
};

struct peer {
    int udp;
    int tcp;
    int clients[PEER_CLIENTS_MAX];
    struct sockaddr_storage address;
    bool is_deaf;          /* reads and says nothing at all */
    const char *deaf_to;   /* NULL, or what the names begin with that it says nothing about */
    bool is_authenticated; /* sets AD when asked with AD */
    uint32_t soa_ttl_s;
    uint32_t soa_minimum_s;
    uint32_t udp_count; /* questions so far */
    uint32_t tcp_count;
    uint32_t edns_count;
    uint32_t ad_count;  /* questions with AD */
    uint16_t ports[64]; /* source ports of the last questions over UDP */
    uint16_t ids[64];   /* and their ids */
    char last_name[256];
    struct peer_record records[PEER_RECORDS_MAX];
    size_t record_count;
    struct {
        char name[128];
        enum peer_trick trick;
        uint32_t times; /* left; UINT32_MAX: always */
    } tricks[PEER_TRICKS_MAX];
    size_t trick_count;
};

/* On 127.0.0.1 with a free port. */
struct peer *peer_new(void);
void peer_free(struct peer *peer);

/* "NAME [TTL] TYPE VALUE" lines, TYPE one of A AAAA MX TXT CNAME; TTL 300 unless given. */
void peer_zone(struct peer *peer, const char *text);

/* The next `times` questions about this name meet the trick. */
void peer_play(struct peer *peer, const char *name, enum peer_trick trick, uint32_t times);

/* Answers whatever has come. */
void peer_serve(struct peer *peer);

/* A packet with a question, for the tests of what reads packets: the answer to it, as the zone has it. */
size_t peer_answer(struct peer *peer, const uint8_t *query, size_t query_size, bool over_tcp,
                   uint8_t into[static PEER_PACKET_MAX]);
