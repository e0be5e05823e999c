#include "queue/format.h"

#include <stddef.h>
#include <string.h>

#include "queue/crc32c.h"

uint32_t format_batch_crc(const struct format_batch *batch)
{
    const uint8_t *bytes = (const uint8_t *)batch;
    size_t skip = offsetof(struct format_batch, log);
    return crc32c(0, bytes + skip, sizeof(*batch) - skip);
}

uint32_t format_record_crc(const struct format_record *record, uint32_t seed)
{
    const uint8_t *bytes = (const uint8_t *)record;
    size_t skip = offsetof(struct format_record, payload_crc);
    return crc32c(seed, bytes + skip, sizeof(*record) - skip);
}

bool format_batch_check(const struct format_batch *batch)
{
    if (batch->magic != FORMAT_MAGIC)
        return false;
#if !defined(PLANT_SKIP_CRC)
    if (batch->crc != format_batch_crc(batch))
        return false;
#endif
    return batch->size >= sizeof(*batch);
}

bool format_record_check(const struct format_record *record, uint32_t space, uint32_t seed)
{
    if (space < sizeof(*record) || record->size > space - sizeof(*record))
        return false;
#if !defined(PLANT_SKIP_CRC)
    if (record->header_crc != format_record_crc(record, seed))
        return false;
    if (record->payload_crc != crc32c(0, record + 1, record->size))
        return false;
#endif
    return record->type >= FORMAT_BODY && record->type <= FORMAT_SETTLE;
}

bool format_settle_read(const struct format_record *record, struct format_settle *settle)
{
    if (record->size != FORMAT_SETTLE_BARE && record->size != sizeof(*settle))
        return false;
    *settle = (struct format_settle){0};
    memcpy(settle, record + 1, record->size);
    return settle->count <= FORMAT_SETTLE_RECIPIENTS;
}
