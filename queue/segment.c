#include "queue/segment.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "queue/page.h"

static int push_number(uint32_t **numbers, uint32_t *count, uint32_t *capacity, uint32_t value)
{
    if (*count == *capacity) {
        uint32_t more = *capacity ? 2 * *capacity : 16;
        uint32_t *grown = realloc(*numbers, more * sizeof(**numbers));
        if (!grown)
            return -ENOMEM;
        *numbers = grown;
        *capacity = more;
    }
    (*numbers)[(*count)++] = value;
    return 0;
}

int segment_add_spare(struct segment_table *table, uint32_t slot)
{
    return push_number(&table->spare, &table->spare_count, &table->spare_capacity, slot);
}

int segment_add_hole(struct segment_table *table, uint32_t slot)
{
    return push_number(&table->hole, &table->hole_count, &table->hole_capacity, slot);
}

int segment_table_init(struct segment_table *table, struct storage *storage, uint32_t page_size)
{
    if (storage->segment_size % page_size != 0 || storage->segment_size / page_size > UINT32_MAX ||
        storage->segment_size > UINT32_MAX)
        return -EINVAL;
    *table = (struct segment_table){
        .storage = storage,
        .pages_per_segment = (uint32_t)(storage->segment_size / page_size),
        .preparing = SEGMENT_NO_SLOT,
    };
    return 0;
}

void segment_table_deinit(struct segment_table *table)
{
    for (uint32_t i = 0; i < table->count; i++)
        free(table->segments[i]);
    free(table->segments);
    free(table->spare);
    free(table->hole);
    *table = (struct segment_table){.preparing = SEGMENT_NO_SLOT};
}

static int segments_reserve(struct segment_table *table)
{
    if (table->count < table->capacity)
        return 0;
    uint32_t more = table->capacity ? 2 * table->capacity : 16;
    struct segment **grown = realloc(table->segments, more * sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    table->segments = grown;
    table->capacity = more;
    return 0;
}

struct segment *segment_push(struct segment_table *table, uint32_t slot)
{
    if (segments_reserve(table) < 0)
        return NULL;
    struct segment *segment =
        calloc(1, sizeof(*segment) + table->pages_per_segment * sizeof(segment->pages[0]));
    if (!segment)
        return NULL;
    TAILQ_INIT(&segment->holders);
    segment->sequence = table->next_sequence++;
    segment->slot = slot;
    segment->page_count = table->pages_per_segment;
    table->segments[table->count++] = segment;
    return segment;
}

struct segment *segment_find(const struct segment_table *table, uint32_t sequence)
{
    if (table->count == 0)
        return NULL;
    uint32_t index = sequence - table->segments[0]->sequence;
    return index < table->count ? table->segments[index] : NULL;
}

struct segment *segment_head(const struct segment_table *table)
{
    return table->count > 0 ? table->segments[table->count - 1] : NULL;
}

struct segment *segment_tail(const struct segment_table *table)
{
    return table->released < table->count ? table->segments[table->released] : NULL;
}

uint32_t segment_tail_sequence(const struct segment_table *table)
{
    const struct segment *tail = segment_tail(table);
    return tail ? tail->sequence : table->next_sequence;
}

void segment_hold(struct segment *segment, struct segment_holder *holder, bool is_draft)
{
    assert(!holder->segment);
    holder->segment = segment;
    holder->is_draft = is_draft;
    TAILQ_INSERT_TAIL(&segment->holders, holder, link);
}

void segment_unhold(struct segment_holder *holder)
{
    if (!holder->segment)
        return;
    TAILQ_REMOVE(&holder->segment->holders, holder, link);
    holder->segment = NULL;
}

static bool segment_in_memory(const struct segment *segment)
{
    for (uint32_t i = 0; i < segment->page_count; i++)
        if (segment->pages[i])
            return true;
    return false;
}

void segment_release(struct segment_table *table)
{
    struct segment *tail;
    while ((tail = segment_tail(table)) && tail->sealed && TAILQ_EMPTY(&tail->holders) &&
           !segment_in_memory(tail))
        table->released++;
}

static void slot_free(struct segment_table *table, const struct segment *segment, uint32_t spare_max)
{
    if (segment->slot == SEGMENT_NO_SLOT)
        return;
    if (!segment->bad && table->spare_count < spare_max && segment_add_spare(table, segment->slot) == 0)
        return;
    /* A slot that cannot be removed stays as it is: its number is prepared anew before it is used. */
    (void)table->storage->methods->discard(table->storage, segment->slot);
    if (segment_add_hole(table, segment->slot) < 0)
        return; /* the number is lost until the next start finds the slot */
}

void segment_recycle(struct segment_table *table, uint32_t tail, uint32_t spare_max)
{
    uint32_t gone = 0;
    while (gone < table->released && (int32_t)(table->segments[gone]->sequence - tail) < 0) {
        slot_free(table, table->segments[gone], spare_max);
        free(table->segments[gone]);
        gone++;
    }
    if (gone == 0)
        return;
    table->count -= gone;
    table->released -= gone;
    memmove(table->segments, table->segments + gone, table->count * sizeof(table->segments[0]));
}

bool segment_steal(struct segment_table *table)
{
    segment_release(table);
    if (table->released == 0)
        return false;
    segment_recycle(table, table->segments[0]->sequence + 1, UINT32_MAX);
    return true;
}

static void prepared(struct storage_op *op, int32_t result)
{
    struct segment_table *table =
        (struct segment_table *)(void *)((char *)op - offsetof(struct segment_table, prepare));
    uint32_t slot = table->preparing;
    table->preparing = SEGMENT_NO_SLOT;
    table->prepare_error = result;
    if (result == 0)
        result = segment_add_spare(table, slot);
    if (result < 0 && segment_add_hole(table, slot) < 0)
        table->prepare_error = -ENOMEM;
}

void segment_prepare(struct segment_table *table)
{
    if (table->preparing != SEGMENT_NO_SLOT)
        return;
    if (table->hole_count > 0)
        table->preparing = table->hole[--table->hole_count];
    else
        table->preparing = table->slot_count++;
    table->prepare.done = prepared;
    table->storage->methods->prepare(table->storage, &table->prepare, table->preparing);
}
