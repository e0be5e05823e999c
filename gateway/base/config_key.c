#include "gateway/base/config_key.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/config_inner.h"

#define SECOND 1000000ULL
#define MINUTE (60 * SECOND)
#define DAY    (86400 * SECOND)

const struct config_key config_keys[] = {
#define KEY(section_, name_, kind_, structure, field, default_, minimum_, maximum_, right_)                  \
    {SECTION_##section_, #name_,   KIND_##kind_, offsetof(struct structure, field),                          \
     default_,           minimum_, maximum_,     right_},
#include "gateway/base/config_keys.def"
};

const size_t config_key_count = sizeof(config_keys) / sizeof(config_keys[0]);
_Static_assert(sizeof(config_keys) / sizeof(config_keys[0]) <= CONFIG_KEYS_MAX, "the bound is too small");

static const struct {
    const char *name;
    bool has_title;
} sections[SECTION_COUNT] = {
#define SECTION(symbol, name, has_title) [SECTION_##symbol] = {name, has_title},
#include "gateway/base/config_keys.def"
};

static const struct {
    enum config_section section;
    const char *name;
} unavailable[] = {
#define UNAVAILABLE(section, name) {SECTION_##section, name},
#include "gateway/base/config_keys.def"
};

enum { UNAVAILABLE_COUNT = sizeof(unavailable) / sizeof(unavailable[0]), NAME_SIZE_MAX = 40 };

const char *config_section_name(enum config_section section)
{
    assert(section < SECTION_COUNT);
    return sections[section].name;
}

bool config_section_has_title(enum config_section section)
{
    assert(section < SECTION_COUNT);
    return sections[section].has_title;
}

enum config_section config_section_find(const char *name)
{
    if (strcmp(name, "root") == 0)
        return SECTION_ROOT;
    for (int section = SECTION_ROOT + 1; section < SECTION_COUNT; section++) {
        if (strcmp(sections[section].name, name) == 0)
            return (enum config_section)section;
    }
    return SECTION_COUNT;
}

const struct config_key *config_key_find(enum config_section section, const char *name)
{
    for (size_t index = 0; index < config_key_count; index++) {
        const struct config_key *key = &config_keys[index];
        if (key->section == section && strcmp(key->name, name) == 0)
            return key;
    }
    return NULL;
}

bool config_key_needs_value(const struct config_key *key)
{
    switch (key->kind) {
    case KIND_BINDS:
    case KIND_SCHEDULE:
    case KIND_DESTINATIONS:
    case KIND_WEIGHTS:
    case KIND_CERTIFICATES:
    case KIND_PRIVATE_KEYS:
    case KIND_MECHANISMS:
        return true;
    default:
        return false;
    }
}

static size_t smallest(size_t a, size_t b, size_t c)
{
    size_t least = a < b ? a : b;
    return least < c ? least : c;
}

/* How many letters must be changed, added, left out or swapped with their neighbour to get from one name to
   the other. Names beyond NAME_SIZE_MAX are like none. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t a_size = strlen(a);
    size_t b_size = strlen(b);
    if (a_size > NAME_SIZE_MAX || b_size > NAME_SIZE_MAX)
        return SIZE_MAX;
    size_t rows[NAME_SIZE_MAX + 1][NAME_SIZE_MAX + 1];
    for (size_t i = 0; i <= a_size; i++) {
        for (size_t j = 0; j <= b_size; j++) {
            if (i == 0 || j == 0) {
                rows[i][j] = i + j;
                continue;
            }
            size_t change = rows[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            rows[i][j] = smallest(rows[i - 1][j] + 1, rows[i][j - 1] + 1, change);
            bool is_swap = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (is_swap && rows[i - 2][j - 2] + 1 < rows[i][j])
                rows[i][j] = rows[i - 2][j - 2] + 1;
        }
    }
    return rows[a_size][b_size];
}

/* The next name that may stand in `section`: its keys, and in the outermost one also the sections. */
static const char *next_name(enum config_section section, size_t *position)
{
    while (*position < config_key_count) {
        const struct config_key *key = &config_keys[(*position)++];
        if (key->section == section)
            return key->name;
    }
    size_t which = *position - config_key_count + 1;
    if (section != SECTION_ROOT || which >= SECTION_COUNT)
        return NULL;
    (*position)++;
    return sections[which].name;
}

static const char *nearest_name(enum config_section section, const char *name)
{
    const char *nearest = NULL;
    size_t least = strlen(name) / 3 + 1; /* farther off it would be guessing */
    const char *candidate;
    for (size_t position = 0; (candidate = next_name(section, &position)) != NULL;) {
        size_t distance = edit_distance(name, candidate);
        if (distance < least || (distance == least && nearest == NULL)) {
            least = distance;
            nearest = candidate;
        }
    }
    return nearest;
}

static const struct config_key *find_elsewhere(const char *name)
{
    for (size_t index = 0; index < config_key_count; index++) {
        if (strcmp(config_keys[index].name, name) == 0)
            return &config_keys[index];
    }
    return NULL;
}

bool config_name_is_key(const char *name)
{
    return find_elsewhere(name) != NULL;
}

static bool is_unavailable(enum config_section section, const char *name)
{
    for (size_t index = 0; index < UNAVAILABLE_COUNT; index++) {
        if (unavailable[index].section == section && strcmp(unavailable[index].name, name) == 0)
            return true;
    }
    return false;
}

static void list_names(enum config_section section, char *text, size_t text_size)
{
    size_t used = strlen(text);
    const char *separator = "";
    const char *candidate;
    for (size_t position = 0; (candidate = next_name(section, &position)) != NULL; separator = ", ") {
        int size = snprintf(text + used, text_size - used, "%s%s", separator, candidate);
        if (size < 0 || (size_t)size >= text_size - used)
            return;
        used += (size_t)size;
    }
}

void config_explain_unknown(enum config_section section, const char *name, char *text, size_t text_size)
{
    char where[NAME_SIZE_MAX + 16] = "";
    if (section != SECTION_ROOT)
        snprintf(where, sizeof(where), " in section '%s'", sections[section].name);

    const char *nearest = nearest_name(section, name);
    const struct config_key *elsewhere = find_elsewhere(name);
    if (is_unavailable(section, name)) {
        snprintf(text, text_size, "'%s'%s is not available yet in this version; would be right: leave it out",
                 name, where);
    } else if (section != SECTION_ROOT && config_section_find(name) != SECTION_COUNT) {
        snprintf(text, text_size, "section '%s' stands%s; is a '}' missing before it?", name, where);
    } else if (elsewhere != NULL && elsewhere->section == SECTION_ROOT) {
        snprintf(text, text_size, "unknown option '%s'%s; it belongs outside of the sections", name, where);
    } else if (elsewhere != NULL) {
        snprintf(text, text_size, "unknown option '%s'%s; it belongs in section '%s'", name, where,
                 sections[elsewhere->section].name);
    } else if (nearest != NULL) {
        snprintf(text, text_size, "unknown option '%s'%s; did you mean '%s'?", name, where, nearest);
    } else {
        snprintf(text, text_size, "unknown option '%s'%s; known here: ", name, where);
        list_names(section, text, text_size);
    }
}
