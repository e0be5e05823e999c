#include "gateway/outbound/dns/packet_sections.h"

#include <assert.h>

/* Where the next record begins. */
struct cursor {
    const uint8_t *bytes;
    size_t size;
    size_t at;
};

static bool read_list(struct cursor *cursor, uint16_t count, ldns_pkt_section section, ldns_rr_list *into)
{
    for (uint16_t index = 0; index < count; index++) {
        ldns_rr *rr = NULL;
        if (ldns_wire2rr(&rr, cursor->bytes, cursor->size, &cursor->at, section) != LDNS_STATUS_OK)
            return false;
        if (!ldns_rr_list_push_rr(into, rr)) {
            ldns_rr_free(rr);
            return false;
        }
    }
    return true;
}

/* Of the additional records only OPT says something to us, and of that only its code. */
static bool read_additional(struct cursor *cursor, uint16_t count, struct packet_sections *sections)
{
    for (uint16_t index = 0; index < count; index++) {
        ldns_rr *rr = NULL;
        if (ldns_wire2rr(&rr, cursor->bytes, cursor->size, &cursor->at, LDNS_SECTION_ADDITIONAL) !=
            LDNS_STATUS_OK)
            return false;
        if (ldns_rr_get_type(rr) == LDNS_RR_TYPE_OPT)
            sections->extended_code = (uint8_t)(ldns_rr_ttl(rr) >> 24);
        ldns_rr_free(rr);
    }
    return true;
}

bool packet_sections_init(struct packet_sections *sections, const uint8_t *bytes, size_t size)
{
    assert(size >= LDNS_HEADER_SIZE);
    struct cursor cursor = {.bytes = bytes, .size = size, .at = LDNS_HEADER_SIZE};
    struct packet_sections made = {
        .questions = ldns_rr_list_new(),
        .answers = ldns_rr_list_new(),
        .authorities = ldns_rr_list_new(),
        .code = LDNS_RCODE_WIRE(bytes),
        .is_authoritative = LDNS_AA_WIRE(bytes),
        .offers_recursion = LDNS_RA_WIRE(bytes),
        .is_authenticated = LDNS_AD_WIRE(bytes),
    };
    bool is_good = made.questions != NULL && made.answers != NULL && made.authorities != NULL &&
                   read_list(&cursor, LDNS_QDCOUNT(bytes), LDNS_SECTION_QUESTION, made.questions) &&
                   read_list(&cursor, LDNS_ANCOUNT(bytes), LDNS_SECTION_ANSWER, made.answers) &&
                   read_list(&cursor, LDNS_NSCOUNT(bytes), LDNS_SECTION_AUTHORITY, made.authorities) &&
                   read_additional(&cursor, LDNS_ARCOUNT(bytes), &made);
    if (!is_good) {
        packet_sections_deinit(&made);
        return false;
    }
    *sections = made;
    return true;
}

void packet_sections_deinit(struct packet_sections *sections)
{
    ldns_rr_list_deep_free(sections->questions);
    ldns_rr_list_deep_free(sections->answers);
    ldns_rr_list_deep_free(sections->authorities);
    *sections = (struct packet_sections){0};
}
