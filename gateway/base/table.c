#include "gateway/base/table.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "gateway/base/table_inner.h"

enum { SLOT_COUNT_MIN = 16 };

_Static_assert(TABLE_KEY_SIZE_MAX <= UINT16_MAX && TABLE_LINE_SIZE_MAX - 1 <= UINT16_MAX,
               "the sizes of a key and a value are kept in two bytes");

static inline char to_lower(char byte)
{
    return byte >= 'A' && byte <= 'Z' ? (char)(byte - 'A' + 'a') : byte;
}

static void fold(const char *key, size_t size, char into[static TABLE_KEY_SIZE_MAX])
{
    assert(size <= TABLE_KEY_SIZE_MAX);
    for (size_t index = 0; index < size; index++)
        into[index] = to_lower(key[index]);
}

/* An entry, taken apart. */
struct entry {
    const char *key;
    const char *value;
    uint16_t key_size;
    uint16_t value_size;
};

static size_t header_size(const struct table *table)
{
    return table->form == TABLE_PAIRS ? 2 * sizeof(uint16_t) : sizeof(uint16_t);
}

static struct entry read_entry(const struct table *table, uint32_t offset)
{
    assert(offset > 0 && offset < table->text_size);
    const char *cursor = table->text + offset;
    struct entry entry = {0};
    memcpy(&entry.key_size, cursor, sizeof(entry.key_size));
    if (table->form == TABLE_PAIRS)
        memcpy(&entry.value_size, cursor + sizeof(entry.key_size), sizeof(entry.value_size));
    entry.key = cursor + header_size(table);
    entry.value = entry.key + entry.key_size;
    assert(entry.value + entry.value_size <= table->text + table->text_size);
    return entry;
}

static uint32_t hash_of(const struct table *table, const char *folded, size_t size)
{
    return (uint32_t)(siphash(&table->hash_key, folded, size) >> 32);
}

/* Slots stand in the order of their hashes, so any number of slots will do, not only powers of two. */
static uint32_t home_of(uint32_t hash, uint32_t slot_count)
{
    return (uint32_t)((uint64_t)hash * slot_count >> 32);
}

static uint32_t next_slot(uint32_t index, uint32_t slot_count)
{
    return index + 1 < slot_count ? index + 1 : 0;
}

/* The slot of the key, or the free one where it would go. */
static struct table_slot *probe(const struct table *table, const char *folded, size_t size, uint32_t hash,
                                struct entry *entry)
{
    assert(table->count < table->slot_count);
    uint32_t index = home_of(hash, table->slot_count);
    while (true) {
        struct table_slot *slot = &table->slots[index];
        if (slot->offset == 0)
            return slot;
        if (slot->hash == hash) {
            *entry = read_entry(table, slot->offset);
            if (entry->key_size == size && memcmp(entry->key, folded, size) == 0)
                return slot;
        }
        index = next_slot(index, table->slot_count);
    }
}

/* Lays the slots out anew. */
static int set_slot_count(struct table *table, uint64_t slot_count)
{
    assert(slot_count > table->count);
    if (slot_count > UINT32_MAX)
        return -EFBIG;
    struct table_slot *slots = calloc(slot_count, sizeof(*slots));
    if (slots == NULL)
        return -ENOMEM;
    for (uint32_t old = 0; old < table->slot_count; old++) {
        if (table->slots[old].offset == 0)
            continue;
        uint32_t index = home_of(table->slots[old].hash, (uint32_t)slot_count);
        while (slots[index].offset != 0)
            index = next_slot(index, (uint32_t)slot_count);
        slots[index] = table->slots[old];
    }
    free(table->slots);
    table->slots = slots;
    table->slot_count = (uint32_t)slot_count;
    return 0;
}

/* Two thirds full: a key that is not there is known after reading five slots on average. */
static uint64_t slots_for(uint64_t count)
{
    uint64_t slot_count = count + count / 2 + 1;
    return slot_count < SLOT_COUNT_MIN ? SLOT_COUNT_MIN : slot_count;
}

static int reserve_text(struct table *table, size_t size)
{
    size_t wanted = table->text_size + size;
    if (wanted > UINT32_MAX)
        return -EFBIG;
    if (wanted <= table->text_capacity)
        return 0;
    size_t capacity = wanted + wanted / 2;
    char *text = realloc(table->text, capacity);
    if (text == NULL)
        return -ENOMEM;
    table->text = text;
    table->text_capacity = capacity;
    return 0;
}

int table_new(enum table_form form, size_t text_size, struct table **table)
{
    struct table *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return -ENOMEM;
    made->form = form;
    made->text_size = 1;
    made->text_capacity = text_size + 1;
    made->text = malloc(made->text_capacity);
    int result = made->text == NULL ? -ENOMEM : set_slot_count(made, SLOT_COUNT_MIN);
    if (result == 0 &&
        getrandom(&made->hash_key, sizeof(made->hash_key), 0) != (ssize_t)sizeof(made->hash_key))
        result = errno > 0 ? -errno : -EIO;
    if (result < 0) {
        table_free(made);
        return result;
    }
    made->text[0] = '\0';
    *table = made;
    return 0;
}

static void append(struct table *table, const void *bytes, size_t size)
{
    assert(size <= table->text_capacity - table->text_size);
    memcpy(table->text + table->text_size, bytes, size);
    table->text_size += size;
}

int table_add(struct table *table, const char *key, size_t key_size, const char *value, size_t value_size)
{
    assert(key_size > 0 && key_size <= TABLE_KEY_SIZE_MAX);
    assert(value_size < TABLE_LINE_SIZE_MAX && (value_size == 0 || table->form == TABLE_PAIRS));
    char folded[TABLE_KEY_SIZE_MAX];
    fold(key, key_size, folded);
    uint32_t hash = hash_of(table, folded, key_size);
    struct entry entry;
    struct table_slot *slot = probe(table, folded, key_size, hash, &entry);
    if (slot->offset != 0)
        return -EEXIST;

    int result = reserve_text(table, header_size(table) + key_size + value_size);
    if (result == 0 && slots_for(table->count + 1ULL) > table->slot_count) {
        result = set_slot_count(table, table->slot_count * 2ULL);
        slot = probe(table, folded, key_size, hash, &entry);
    }
    if (result < 0)
        return result;
    *slot = (struct table_slot){.offset = (uint32_t)table->text_size, .hash = hash};
    append(table, &(uint16_t){(uint16_t)key_size}, sizeof(uint16_t));
    if (table->form == TABLE_PAIRS)
        append(table, &(uint16_t){(uint16_t)value_size}, sizeof(uint16_t));
    append(table, folded, key_size);
    if (value_size > 0)
        append(table, value, value_size);
    table->count++;
    return 0;
}

int table_fit(struct table *table)
{
    char *text = realloc(table->text, table->text_size);
    if (text == NULL)
        return -ENOMEM;
    table->text = text;
    table->text_capacity = table->text_size;
    return set_slot_count(table, slots_for(table->count));
}

void table_free(struct table *table)
{
    if (table == NULL)
        return;
    free(table->text);
    free(table->slots);
    free(table);
}

size_t table_count(const struct table *table)
{
    return table->count;
}

size_t table_bytes(const struct table *table)
{
    return sizeof(*table) + table->text_capacity + table->slot_count * sizeof(*table->slots);
}

bool table_find(const struct table *table, const char *key, size_t size, const char **value,
                size_t *value_size)
{
    if (size == 0 || size > TABLE_KEY_SIZE_MAX)
        return false;
    char folded[TABLE_KEY_SIZE_MAX];
    fold(key, size, folded);
    struct entry entry;
    if (probe(table, folded, size, hash_of(table, folded, size), &entry)->offset == 0)
        return false;
    *value = entry.value;
    *value_size = entry.value_size;
    return true;
}

bool table_next(const struct table *table, size_t *position, struct table_entry *entry)
{
    size_t offset = *position == 0 ? 1 : *position;
    assert(offset <= table->text_size);
    if (offset == table->text_size)
        return false;
    struct entry read = read_entry(table, (uint32_t)offset);
    *entry = (struct table_entry){
        .key = read.key, .key_size = read.key_size, .value = read.value, .value_size = read.value_size};
    *position = offset + header_size(table) + read.key_size + read.value_size;
    return true;
}

bool table_has(const struct table *table, const char *key, size_t size)
{
    const char *value;
    size_t value_size;
    return table_find(table, key, size, &value, &value_size);
}
