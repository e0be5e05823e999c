#include "gateway/base/domain_table.h"

#include <assert.h>
#include <string.h>

enum { LABEL_SIZE_MAX = 63 };

static bool is_domain_byte(unsigned char byte)
{
    bool is_letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
    return is_letter || (byte >= '0' && byte <= '9') || byte == '-' || byte == '_' || byte >= 0x80;
}

static bool is_label(const char *label, size_t size)
{
    if (size == 0 || size > LABEL_SIZE_MAX)
        return false;
    for (size_t index = 0; index < size; index++) {
        if (!is_domain_byte((unsigned char)label[index]))
            return false;
    }
    return label[0] != '-' && label[size - 1] != '-';
}

bool domain_is_valid(const char *domain, size_t size)
{
    if (size == 0 || size > DOMAIN_SIZE_MAX)
        return false;
    while (true) {
        const char *dot = memchr(domain, '.', size);
        size_t label_size = dot != NULL ? (size_t)(dot - domain) : size;
        if (!is_label(domain, label_size))
            return false;
        if (dot == NULL)
            return true;
        domain += label_size + 1;
        size -= label_size + 1;
    }
}

static uint32_t hash_name(const char *name, size_t size)
{
    uint64_t hash = 0xcbf29ce484222325ULL;
    for (size_t index = 0; index < size; index++)
        hash = (hash ^ (unsigned char)name[index]) * 0x100000001b3ULL;
    return (uint32_t)(hash ^ hash >> 32);
}

size_t domain_table_slots(size_t name_count)
{
    if (name_count == 0)
        return 0;
    size_t count = 8;
    while (count < name_count * 2)
        count *= 2;
    return count;
}

/* The slot that holds the name, or the free one where it would go. */
static struct domain_slot *probe(const struct domain_table *table, const char *name, size_t size)
{
    assert((table->slot_count & (table->slot_count - 1)) == 0);
    uint32_t hash = hash_name(name, size);
    size_t index = hash & (table->slot_count - 1);
    while (true) {
        struct domain_slot *slot = &table->slots[index];
        if (slot->name == NULL ||
            (slot->hash == hash && slot->size == size && memcmp(slot->name, name, size) == 0))
            return slot;
        index = (index + 1) & (table->slot_count - 1);
    }
}

bool domain_table_add(struct domain_table *table, const char *name, uint32_t value)
{
    assert(table->slot_count > 0);
    size_t size = strlen(name);
    struct domain_slot *slot = probe(table, name, size);
    if (slot->name != NULL)
        return false;
    *slot = (struct domain_slot){
        .name = name, .hash = hash_name(name, size), .size = (uint32_t)size, .value = value};
    return true;
}

static bool look_up(const struct domain_table *table, const char *name, size_t size, uint32_t *value)
{
    const struct domain_slot *slot = probe(table, name, size);
    if (slot->name == NULL)
        return false;
    *value = slot->value;
    return true;
}

bool domain_table_get(const struct domain_table *table, const char *name, size_t size, uint32_t *value)
{
    return table->slot_count > 0 && look_up(table, name, size, value);
}

bool domain_table_find(const struct domain_table *table, const char *domain, size_t size, uint32_t *value)
{
    if (table->slot_count == 0 || size == 0 || size > DOMAIN_SIZE_MAX)
        return false;
    char dotted[DOMAIN_SIZE_MAX +
                1]; /* a dot, then the domain: each suffix that begins with a dot is a pattern */
    dotted[0] = '.';
    for (size_t index = 0; index < size; index++) {
        char byte = domain[index];
        dotted[index + 1] = byte >= 'A' && byte <= 'Z' ? (char)(byte - 'A' + 'a') : byte;
    }
    if (look_up(table, dotted + 1, size, value))
        return true;
    for (size_t index = 0; index < size; index++) {
        if (dotted[index] == '.' && look_up(table, dotted + index, size + 1 - index, value))
            return true;
    }
    return false;
}
