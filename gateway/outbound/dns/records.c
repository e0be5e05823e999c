#include "gateway/outbound/dns/records.h"

#include <assert.h>
#include <string.h>

enum { STATIC_REFERENCES = UINT32_MAX };

static const struct dns_records no_memory = {
    .status = DNS_TEMPORARY,
    .reason = "out of memory",
    .name = "",
    .references = STATIC_REFERENCES,
};

static const struct dns_records bad_name = {
    .status = DNS_NXDOMAIN,
    .reason = "this cannot be the name of a host",
    .name = "",
    .ttl_s = UINT32_MAX, /* it never will */
    .expires_us = UINT64_MAX,
    .references = STATIC_REFERENCES,
};

static const struct dns_records stopped = {
    .status = DNS_TEMPORARY,
    .reason = "the gateway is stopping",
    .name = "",
    .references = STATIC_REFERENCES,
};

const struct dns_records *dns_records_no_memory(void)
{
    return &no_memory;
}

const struct dns_records *dns_records_bad_name(void)
{
    return &bad_name;
}

const struct dns_records *dns_records_stopped(void)
{
    return &stopped;
}

/* What a record points to. */
static size_t record_bytes(enum dns_type type, const struct dns_record *record)
{
    switch (type) {
    case DNS_MX:
        return strlen(record->mx.exchange) + 1;
    case DNS_TXT:
        return record->txt.size;
    default:
        return 0;
    }
}

/* Copies what the record points to, and returns where the next one's goes. */
static char *copy_record(enum dns_type type, struct dns_record *record, char *at)
{
    size_t size = record_bytes(type, record);
    if (type == DNS_MX) {
        memcpy(at, record->mx.exchange, size);
        record->mx.exchange = at;
    } else if (type == DNS_TXT) {
        if (size > 0)
            memcpy(at, record->txt.bytes, size);
        record->txt.bytes = (const uint8_t *)at;
    }
    return at + size;
}

struct dns_records *dns_records_new(struct pool *pool, const struct dns_records_draft *draft)
{
    assert((draft->status == DNS_OK) == (draft->count > 0));
    assert(draft->count <= DNS_RECORDS_MAX);
    size_t name_size = strlen(draft->name) + 1;
    size_t size = sizeof(struct dns_records) + draft->count * sizeof(struct dns_record) + name_size;
    for (uint32_t index = 0; index < draft->count; index++)
        size += record_bytes(draft->type, &draft->records[index]);

    struct dns_records *records = pool_alloc(pool, size);
    if (records == NULL)
        return NULL;
    char *at = (char *)&records->records[draft->count];
    *records = (struct dns_records){
        .status = draft->status,
        .type = draft->type,
        .ttl_s = draft->ttl_s,
        .expires_us = draft->now_us + (uint64_t)draft->ttl_s * 1000000,
        .is_authentic = draft->is_authentic,
        .reason = draft->reason,
        .name = at,
        .count = draft->count,
        .references = 1,
        .size = size,
    };
    memcpy(at, draft->name, name_size);
    at += name_size;
    for (uint32_t index = 0; index < draft->count; index++) {
        records->records[index] = draft->records[index];
        at = copy_record(draft->type, &records->records[index], at);
    }
    assert(at == (char *)records + size);
    return records;
}

/* The counter is the only part of a set that ever changes; a static set stays in read-only memory. */
static uint32_t *references_of(const struct dns_records *records)
{
    return (uint32_t *)(uintptr_t)&records->references;
}

const struct dns_records *dns_records_ref(const struct dns_records *records)
{
    assert(records->references > 0);
    if (records->references != STATIC_REFERENCES)
        ++*references_of(records);
    return records;
}

void dns_records_release(struct pool *pool, const struct dns_records *records)
{
    if (records == NULL || records->references == STATIC_REFERENCES)
        return;
    assert(records->references > 0 && records->size > 0);
    if (--*references_of(records) == 0)
        pool_free(pool, (void *)(uintptr_t)records, records->size);
}

uint32_t dns_records_ttl(const struct dns_records *records, uint64_t now_us)
{
    if (records->expires_us <= now_us)
        return 0;
    uint64_t left_s = (records->expires_us - now_us + 999999) / 1000000;
    return left_s < UINT32_MAX ? (uint32_t)left_s : UINT32_MAX;
}
