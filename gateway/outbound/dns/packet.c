#include "gateway/outbound/dns/packet.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "gateway/outbound/dns/packet_records.h"
#include "gateway/outbound/dns/packet_sections.h"
#include "gateway/outbound/dns/resolver.h"

static const char loop_reason[] = "its aliases (CNAME) run in a circle, or there are too many";

/* An empty question section, a name and the flags. NULL without memory. */
static ldns_pkt *new_query(const struct packet_question *question)
{
    ldns_rdf *name = ldns_dname_new_frm_str(question->name);
    if (name == NULL)
        return NULL;
    uint16_t flags = (uint16_t)(LDNS_RD | (question->wants_ad ? LDNS_AD : 0));
    ldns_pkt *packet = ldns_pkt_query_new(name, (ldns_rr_type)question->type, LDNS_RR_CLASS_IN, flags);
    if (packet == NULL)
        ldns_rdf_deep_free(name);
    return packet;
}

int packet_write(const struct packet_question *question, uint8_t into[static PACKET_QUERY_SIZE])
{
    ldns_pkt *packet = new_query(question);
    if (packet == NULL)
        return -ENOMEM;
    ldns_pkt_set_id(packet, question->id);
    if (question->has_edns)
        ldns_pkt_set_edns_udp_size(packet, PACKET_UDP_SIZE);
    uint8_t *wire = NULL;
    size_t size = 0;
    ldns_status status = ldns_pkt2wire(&wire, packet, &size);
    ldns_pkt_free(packet);
    if (status != LDNS_STATUS_OK || wire == NULL)
        return -ENOMEM;
    assert(size <= PACKET_QUERY_SIZE);
    memcpy(into, wire, size);
    LDNS_FREE(wire);
    return (int)size;
}

/* Whether the header alone says that this may be ours: an answer, to a query, with our id. */
static bool header_fits(const struct packet_question *question, const uint8_t *bytes, size_t size)
{
    return size >= LDNS_HEADER_SIZE && LDNS_ID_WIRE(bytes) == question->id && LDNS_QR_WIRE(bytes) &&
           LDNS_OPCODE_WIRE(bytes) == LDNS_PACKET_QUERY;
}

/* RFC 5452 §4.2: the question must come back as it was asked. */
static bool question_fits(const struct packet_question *question, const struct packet_sections *packet)
{
    const ldns_rr_list *list = packet->questions;
    if (ldns_rr_list_rr_count(list) != 1)
        return false;
    const ldns_rr *rr = ldns_rr_list_rr(list, 0);
    return ldns_rr_get_type(rr) == (ldns_rr_type)question->type &&
           ldns_rr_get_class(rr) == LDNS_RR_CLASS_IN && packet_owner_is(rr, question->name);
}

/* What an answer code says when it is neither "here it is" nor "no such name". */
static enum packet_verdict judge_code(const struct packet_question *question, int code, const char **reason)
{
    switch (code) {
    case LDNS_RCODE_SERVFAIL:
        *reason = "the name server says SERVFAIL";
        return PACKET_FAILURE;
    case LDNS_RCODE_REFUSED:
        *reason = "the name server refuses to answer";
        return PACKET_FAILURE;
    case LDNS_RCODE_FORMERR:
    case LDNS_RCODE_NOTIMPL:
        *reason = "the name server does not understand the question";
        return question->has_edns ? PACKET_NO_EDNS : PACKET_FAILURE;
    default:
        *reason = "the name server answers with an unknown code";
        return PACKET_FAILURE;
    }
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Follows the aliases within the packet; false when there are too many. */
static bool follow_aliases(const ldns_rr_list *list, struct packet_answer *answer)
{
    for (;;) {
        uint32_t ttl_s = 0;
        char target[DNS_NAME_SIZE];
        int found = packet_find_alias(list, answer->name, target, &ttl_s);
        if (found == 0)
            return true;
        if (found < 0 || ++answer->alias_count > RESOLVER_ALIASES_MAX)
            return false;
        memcpy(answer->name, target, sizeof(target));
        answer->ttl_s = least(answer->ttl_s, ttl_s);
    }
}

uint32_t packet_ttl(enum dns_status status, uint32_t ttl_s)
{
    uint32_t longest_s = status == DNS_OK          ? RESOLVER_TTL_MAX_S
                         : status == DNS_TEMPORARY ? RESOLVER_TTL_FAILURE_S
                                                   : RESOLVER_TTL_NEGATIVE_MAX_S;
    ttl_s = least(ttl_s, longest_s);
    return ttl_s > RESOLVER_TTL_MIN_S ? ttl_s : RESOLVER_TTL_MIN_S;
}

/* Makes the set of what the packet says about the name at the end of the aliases. */
static enum packet_verdict conclude(struct pool *pool, struct packet_answer *answer,
                                    struct dns_records_draft *draft)
{
    draft->name = answer->name;
    draft->is_authentic = answer->is_authentic && draft->status != DNS_TEMPORARY;
    draft->ttl_s = packet_ttl(draft->status, answer->ttl_s);
    answer->records = dns_records_new(pool, draft);
    return answer->records != NULL ? PACKET_ANSWER : PACKET_NO_MEMORY;
}

/* No records at the name's end: it, or the type, does not exist. Or the server does not know. */
static enum packet_verdict read_negative(struct pool *pool, const struct packet_sections *packet,
                                         bool has_alias, struct packet_answer *answer,
                                         struct dns_records_draft *draft)
{
    uint32_t soa_ttl_s = 0;
    bool has_soa = packet_find_soa(packet->authorities, &soa_ttl_s);
    bool exists = packet->code == LDNS_RCODE_NOERROR;
    if (exists && !has_soa && has_alias)
        return PACKET_ALIAS;
    if (exists && !has_soa && !packet->offers_recursion && !packet->is_authoritative) {
        answer->reason = "the name server does not look names up for us";
        return PACKET_FAILURE;
    }
    answer->ttl_s = least(answer->ttl_s, has_soa ? soa_ttl_s : RESOLVER_TTL_MIN_S);
    draft->status = exists ? DNS_NODATA : DNS_NXDOMAIN;
    draft->reason = exists ? "the domain has no such record" : "the domain does not exist";
    return conclude(pool, answer, draft);
}

/* The packet answers our question; its code is NOERROR or NXDOMAIN. */
static enum packet_verdict read_records(struct pool *pool, const struct packet_question *question,
                                        const struct packet_sections *packet, uint64_t now_us,
                                        struct packet_answer *answer)
{
    struct dns_records_draft draft = {.type = question->type, .now_us = now_us, .reason = ""};
    uint32_t aliases_before = answer->alias_count;
    if (!follow_aliases(packet->answers, answer)) {
        draft.status = DNS_TEMPORARY;
        draft.reason = loop_reason;
        return conclude(pool, answer, &draft);
    }
    struct packet_scratch *scratch = pool_alloc(pool, sizeof(*scratch));
    if (scratch == NULL)
        return PACKET_NO_MEMORY;
    enum packet_verdict verdict;
    int count = packet_collect(pool, packet->answers, answer->name, question->type, scratch);
    if (count < 0) {
        verdict = PACKET_NO_MEMORY;
    } else if (count > 0) {
        answer->ttl_s = least(answer->ttl_s, scratch->ttl_s);
        draft.records = scratch->records;
        draft.count = (uint32_t)count;
        draft.status = DNS_OK;
        verdict = conclude(pool, answer, &draft);
    } else {
        verdict = read_negative(pool, packet, answer->alias_count > aliases_before, answer, &draft);
    }
    pool_free(pool, scratch, sizeof(*scratch));
    return verdict;
}

static enum packet_verdict read_packet(struct pool *pool, const struct packet_question *question,
                                       const struct packet_sections *packet, uint64_t now_us,
                                       struct packet_answer *answer)
{
    int code = packet->code;
    bool is_answer = code == LDNS_RCODE_NOERROR || code == LDNS_RCODE_NXDOMAIN;
    /* A server that could not read the question need not repeat it. */
    bool may_lack_question = !is_answer && ldns_rr_list_rr_count(packet->questions) == 0;
    if (!may_lack_question && !question_fits(question, packet))
        return PACKET_STRAY;
    if (packet->extended_code != 0) {
        answer->reason = "the name server does not understand EDNS";
        return question->has_edns ? PACKET_NO_EDNS : PACKET_FAILURE;
    }
    if (!is_answer)
        return judge_code(question, code, &answer->reason);
    answer->is_authentic = answer->is_authentic && question->wants_ad && packet->is_authenticated;
    memcpy(answer->name, question->name, strlen(question->name) + 1);
    return read_records(pool, question, packet, now_us, answer);
}

enum packet_verdict packet_read(struct pool *pool, const struct packet_question *question,
                                const uint8_t *bytes, size_t size, uint64_t now_us,
                                struct packet_answer *answer)
{
    assert(question->name[0] != '\0' && answer->records == NULL);
    if (size > PACKET_SIZE_MAX || !header_fits(question, bytes, size))
        return PACKET_STRAY;
    /* Before the rest is read: it may be cut anywhere. */
    if (LDNS_TC_WIRE(bytes))
        return PACKET_TRUNCATED;
    struct packet_sections packet;
    if (!packet_sections_init(&packet, bytes, size))
        return PACKET_STRAY;
    enum packet_verdict verdict = read_packet(pool, question, &packet, now_us, answer);
    assert((verdict == PACKET_ANSWER) == (answer->records != NULL));
    packet_sections_deinit(&packet);
    return verdict;
}
