/*
 * What a name server may send: any packet is judged without harm, and what is taken from it keeps the
 * promises of its headers. The first octet chooses what was asked; the rest is the packet, whose id always
 * fits.
 */
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <string.h>

#include "gateway/outbound/dns/packet.h"
#include "gateway/outbound/dns/resolver.h"

static void check_name(const char *name)
{
    char again[DNS_NAME_SIZE];
    assert(name[0] == '\0' || dns_name_from_text(name, again) == (int)strlen(name));
    assert(name[0] == '\0' || strcmp(again, name) == 0);
}

static void check_mx(const struct dns_records *records)
{
    for (uint32_t index = 0; index < records->count; index++) {
        const struct dns_record *record = &records->records[index];
        if (strcmp(record->mx.exchange, DNS_EXCHANGE_BAD) != 0)
            check_name(record->mx.exchange);
        assert(index == 0 || records->records[index - 1].mx.preference <= record->mx.preference);
    }
}

/* Reads every octet, so that a sanitizer sees one that is not there. */
static void check_text(const struct dns_records *records)
{
    static volatile uint8_t sum;
    for (uint32_t index = 0; index < records->count; index++) {
        for (size_t at = 0; at < records->records[index].txt.size; at++)
            sum = (uint8_t)(sum + records->records[index].txt.bytes[at]);
    }
}

static void check_records(const struct dns_records *records, enum dns_type type)
{
    assert((records->status == DNS_OK) == (records->count > 0));
    assert(records->status <= DNS_TEMPORARY && records->count <= DNS_RECORDS_MAX);
    assert(records->ttl_s >= RESOLVER_TTL_MIN_S && records->ttl_s <= RESOLVER_TTL_MAX_S);
    check_name(records->name);
    if (type == DNS_MX)
        check_mx(records);
    if (type == DNS_TXT)
        check_text(records);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum dns_type types[] = {DNS_A, DNS_MX, DNS_TXT, DNS_AAAA};
    if (size < 3)
        return 0;
    struct packet_question question = {
        .name = "fuzz.test",
        .type = types[data[0] & 3],
        .id = (uint16_t)(data[1] << 8 | data[2]),
        .has_edns = (data[0] & 4) != 0,
        .wants_ad = (data[0] & 8) != 0,
    };
    struct packet_answer answer = {.ttl_s = UINT32_MAX, .is_authentic = true};
    struct pool pool;
    pool_init(&pool, NULL, SIZE_MAX);
    enum packet_verdict verdict = packet_read(&pool, &question, data + 1, size - 1, 1000000, &answer);
    if (verdict == PACKET_ANSWER)
        check_records(answer.records, question.type);
    else if (verdict == PACKET_FAILURE)
        assert(answer.reason != NULL && answer.reason[0] != '\0');
    else if (verdict == PACKET_ALIAS)
        check_name(answer.name);
    assert(answer.alias_count <= RESOLVER_ALIASES_MAX + 1);
    dns_records_release(&pool, answer.records);
    assert(pool.used_bytes == 0);
    pool_deinit(&pool);
    return 0;
}
