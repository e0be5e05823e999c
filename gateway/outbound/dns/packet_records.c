#include "gateway/outbound/dns/packet_records.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A record that may be taken, with what it is sorted by. */
struct candidate {
    const ldns_rr *rr;
    uint32_t rank;
};

static const uint8_t *field_bytes(const ldns_rr *rr, size_t index, size_t *size)
{
    const ldns_rdf *field = ldns_rr_rdf(rr, index);
    if (field == NULL || ldns_rdf_data(field) == NULL)
        return NULL;
    *size = ldns_rdf_size(field);
    return ldns_rdf_data(field);
}

/* A number of 16 or 32 bits; false when the field has another size. */
static bool field_number(const ldns_rr *rr, size_t index, size_t size, uint32_t *number)
{
    size_t found_size = 0;
    const uint8_t *bytes = field_bytes(rr, index, &found_size);
    if (bytes == NULL || found_size != size)
        return false;
    uint32_t result = 0;
    for (size_t at = 0; at < size; at++)
        result = result << 8 | bytes[at];
    *number = result;
    return true;
}

static bool field_name(const ldns_rr *rr, size_t index, char into[static DNS_NAME_SIZE])
{
    size_t size = 0;
    const uint8_t *bytes = field_bytes(rr, index, &size);
    return bytes != NULL && dns_name_from_wire(bytes, size, into) >= 0;
}

/* RFC 2181 §8: a time with the highest bit set is none. */
static uint32_t rr_ttl(const ldns_rr *rr)
{
    uint32_t ttl_s = ldns_rr_ttl(rr);
    return ttl_s <= INT32_MAX ? ttl_s : 0;
}

bool packet_owner_is(const ldns_rr *rr, const char *name)
{
    char owner[DNS_NAME_SIZE];
    const ldns_rdf *field = ldns_rr_owner(rr);
    if (field == NULL || dns_name_from_wire(ldns_rdf_data(field), ldns_rdf_size(field), owner) < 0)
        return false;
    return strcmp(owner, name) == 0;
}

static bool rr_is(const ldns_rr *rr, const char *name, ldns_rr_type type)
{
    return ldns_rr_get_type(rr) == type && ldns_rr_get_class(rr) == LDNS_RR_CLASS_IN &&
           packet_owner_is(rr, name);
}

int packet_find_alias(const ldns_rr_list *list, const char *name, char target[static DNS_NAME_SIZE],
                      uint32_t *ttl_s)
{
    size_t count = ldns_rr_list_rr_count(list);
    for (size_t index = 0; index < count; index++) {
        const ldns_rr *rr = ldns_rr_list_rr(list, index);
        if (!rr_is(rr, name, LDNS_RR_TYPE_CNAME))
            continue;
        char found[DNS_NAME_SIZE];
        if (!field_name(rr, 0, found) || found[0] == '\0')
            return -EINVAL;
        memcpy(target, found, sizeof(found));
        *ttl_s = rr_ttl(rr);
        return 1;
    }
    return 0;
}

bool packet_find_soa(const ldns_rr_list *list, uint32_t *ttl_s)
{
    enum { SOA_MINIMUM = 6 };
    size_t count = ldns_rr_list_rr_count(list);
    for (size_t index = 0; index < count; index++) {
        const ldns_rr *rr = ldns_rr_list_rr(list, index);
        uint32_t minimum_s = 0;
        if (ldns_rr_get_type(rr) != LDNS_RR_TYPE_SOA || !field_number(rr, SOA_MINIMUM, 4, &minimum_s))
            continue;
        uint32_t own_s = rr_ttl(rr);
        *ttl_s = own_s < minimum_s ? own_s : minimum_s;
        return true;
    }
    return false;
}

static bool take_address(const ldns_rr *rr, void *into, size_t size)
{
    size_t found_size = 0;
    const uint8_t *bytes = field_bytes(rr, 0, &found_size);
    if (bytes == NULL || found_size != size)
        return false;
    memcpy(into, bytes, size);
    return true;
}

static bool take_mx(const ldns_rr *rr, struct dns_record *record, struct packet_scratch *scratch)
{
    uint32_t preference = 0;
    char name[DNS_NAME_SIZE];
    if (!field_number(rr, 0, 2, &preference))
        return false;
    if (!field_name(rr, 1, name))
        memcpy(name, DNS_EXCHANGE_BAD, sizeof(DNS_EXCHANGE_BAD));
    size_t size = strlen(name) + 1;
    if (size > sizeof(scratch->text) - scratch->text_size)
        return false;
    char *at = scratch->text + scratch->text_size;
    memcpy(at, name, size);
    scratch->text_size += size;
    record->mx.exchange = at;
    record->mx.preference = (uint16_t)preference;
    return true;
}

/* Joins the character strings of one record; each begins with its length. */
static bool take_text(const ldns_rr *rr, struct dns_record *record, struct packet_scratch *scratch)
{
    size_t start = scratch->text_size;
    for (size_t index = 0; index < ldns_rr_rd_count(rr); index++) {
        size_t size = 0;
        const uint8_t *bytes = field_bytes(rr, index, &size);
        if (bytes == NULL || size == 0 || size - 1 > sizeof(scratch->text) - scratch->text_size) {
            scratch->text_size = start;
            return false;
        }
        memcpy(scratch->text + scratch->text_size, bytes + 1, size - 1);
        scratch->text_size += size - 1;
    }
    record->txt.bytes = (const uint8_t *)scratch->text + start;
    record->txt.size = scratch->text_size - start;
    return true;
}

static bool take(const ldns_rr *rr, enum dns_type type, struct dns_record *record,
                 struct packet_scratch *scratch)
{
    *record = (struct dns_record){0};
    switch (type) {
    case DNS_A:
        return take_address(rr, &record->a, sizeof(record->a));
    case DNS_AAAA:
        return take_address(rr, &record->aaaa, sizeof(record->aaaa));
    case DNS_MX:
        return take_mx(rr, record, scratch);
    case DNS_TXT:
        return take_text(rr, record, scratch);
    }
    assert(!"a type that is never asked for");
    return false;
}

/* The length of a label is below every letter, so a whole name may be turned. */
static int lower(uint8_t octet)
{
    return octet >= 'A' && octet <= 'Z' ? octet - 'A' + 'a' : octet;
}

/* Any order of names will do that does not depend on the order in which they came, nor on their case. */
static int compare_names(const struct candidate *a, const struct candidate *b)
{
    size_t left_size = 0;
    size_t right_size = 0;
    const uint8_t *left = field_bytes(a->rr, 1, &left_size);
    const uint8_t *right = field_bytes(b->rr, 1, &right_size);
    if (left == NULL || right == NULL)
        return (left != NULL) - (right != NULL);
    for (size_t at = 0; at < left_size && at < right_size; at++) {
        int difference = lower(left[at]) - lower(right[at]);
        if (difference != 0)
            return difference;
    }
    return (left_size > right_size) - (left_size < right_size);
}

static int compare_candidates(const void *left, const void *right)
{
    const struct candidate *a = left;
    const struct candidate *b = right;
    if (a->rank != b->rank)
        return a->rank > b->rank ? 1 : -1;
    return compare_names(a, b);
}

/* MX by preference and name, for servers turn equals around; all others, of which none is better, stay as
 * they came. */
static size_t find_candidates(const ldns_rr_list *list, const char *name, enum dns_type type,
                              struct candidate *candidates)
{
    size_t count = 0;
    size_t rr_count = ldns_rr_list_rr_count(list);
    for (size_t index = 0; index < rr_count; index++) {
        const ldns_rr *rr = ldns_rr_list_rr(list, index);
        uint32_t rank = 0;
        if (!rr_is(rr, name, (ldns_rr_type)type) || (type == DNS_MX && !field_number(rr, 0, 2, &rank)))
            continue;
        candidates[count++] = (struct candidate){.rr = rr, .rank = rank};
    }
    if (type == DNS_MX)
        qsort(candidates, count, sizeof(*candidates), compare_candidates);
    return count;
}

int packet_collect(struct pool *pool, const ldns_rr_list *list, const char *name, enum dns_type type,
                   struct packet_scratch *scratch)
{
    scratch->text_size = 0;
    scratch->ttl_s = UINT32_MAX;
    size_t rr_count = ldns_rr_list_rr_count(list);
    if (rr_count == 0)
        return 0;
    size_t room = rr_count * sizeof(struct candidate);
    struct candidate *candidates = pool_alloc(pool, room);
    if (candidates == NULL)
        return -ENOMEM;
    size_t candidate_count = find_candidates(list, name, type, candidates);
    uint32_t count = 0;
    for (size_t index = 0; index < candidate_count && count < DNS_RECORDS_MAX; index++) {
        const ldns_rr *rr = candidates[index].rr;
        if (!take(rr, type, &scratch->records[count], scratch))
            continue;
        count++;
        scratch->ttl_s = rr_ttl(rr) < scratch->ttl_s ? rr_ttl(rr) : scratch->ttl_s;
    }
    pool_free(pool, candidates, room);
    return (int)count;
}
