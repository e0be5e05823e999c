/*
 * An answer taken apart, record by record: for packet.c alone. Worker's thread.
 *
 * ldns_wire2pkt would do it in one call, but keeps only the last of several TSIG records and loses the memory
 * of the others, which a hostile packet can hold by the thousand. Here nothing is kept that is not needed.
 */
#pragma once

/* Before ldns, which would else make a bool of its own. */
#include <stdbool.h>

#include <ldns/ldns.h>
#include <stddef.h>
#include <stdint.h>

struct packet_sections {
    ldns_rr_list *questions;
    ldns_rr_list *answers;
    ldns_rr_list *authorities;
    int code;              /* RCODE, without the part in OPT */
    uint8_t extended_code; /* the upper bits, in OPT (RFC 6891 §6.1.3) */
    bool is_authoritative; /* AA */
    bool offers_recursion; /* RA */
    bool is_authenticated; /* AD */
};

/* `size` is that of a header at least. False when the packet is not well formed, or memory ran out; then
   there is nothing to deinit. */
bool packet_sections_init(struct packet_sections *sections, const uint8_t *bytes, size_t size)
    __attribute__((warn_unused_result));
void packet_sections_deinit(struct packet_sections *sections);
