/*
 * What is taken out of the sections of an answer: for packet.c alone. Worker's thread.
 */
#pragma once

/* Before ldns, which would else make a bool of its own. */
#include <stdbool.h>

#include <ldns/ldns.h>
#include <stdint.h>

#include "gateway/outbound/dns/name.h"
#include "gateway/outbound/dns/records.h"

/* Room for the records of one answer on their way from the packet to their set. */
struct packet_scratch {
    struct dns_record records[DNS_RECORDS_MAX];
    uint32_t ttl_s; /* the least of the records taken */
    size_t text_size;
    char text[DNS_RECORDS_BYTES_MAX];
};

/* Whether the record is about this name. */
bool packet_owner_is(const ldns_rr *rr, const char *name);

/* What `name` is an alias of: 1, 0 (it is none) or -EINVAL (of what cannot be a name). */
int packet_find_alias(const ldns_rr_list *list, const char *name, char target[static DNS_NAME_SIZE],
                      uint32_t *ttl_s) __attribute__((warn_unused_result));

/* How long an absence may be believed, by the SOA record (RFC 2308 §5); false when there is none. */
bool packet_find_soa(const ldns_rr_list *list, uint32_t *ttl_s);

/* Takes the records of this name and type, MX by preference; the count, or -ENOMEM. Records that are not
   well formed are left out, as are those beyond the room. */
int packet_collect(struct pool *pool, const ldns_rr_list *list, const char *name, enum dns_type type,
                   struct packet_scratch *scratch) __attribute__((warn_unused_result));
