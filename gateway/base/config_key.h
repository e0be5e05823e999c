#pragma once

/*
 * The table of what the configuration file may say, and what to tell someone who wrote something else. For
 * the files of the configuration only; control thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum config_section {
#define SECTION(symbol, name, has_title) SECTION_##symbol,
#include "gateway/base/config_keys.def"
    SECTION_COUNT
};

/* The form of a value, and with it the type of the field that takes it. */
enum config_kind {
    KIND_TEXT,
    KIND_HOSTNAME,
    KIND_PATH,
    KIND_LOG_DESTINATION,
    KIND_LOG_FORMAT,
    KIND_LOG_LEVEL,
    KIND_OFF,          /* a choice of which only "off" works yet; stored nowhere */
    KIND_COUNT,        /* uint32_t */
    KIND_PERCENT,      /* uint32_t */
    KIND_SIZE,         /* uint64_t, bytes */
    KIND_SEGMENT_SIZE, /* the same, whole pages */
    KIND_SPAN_US32,    /* uint32_t, microseconds */
    KIND_SPAN_MS32,    /* uint32_t, milliseconds */
    KIND_SPAN_MS64,    /* uint64_t, milliseconds */
    KIND_FREE_DISK,    /* a percentage or a size */
    KIND_BINDS,        /* from here on: lists, taken value by value */
    KIND_NETWORKS,
    KIND_DOMAINS,
    KIND_SCHEDULE,
    KIND_HOSTS,
};

struct config_key {
    enum config_section section;
    const char *name;
    enum config_kind kind;
    size_t offset; /* of the field in the section's structure */
    const char *default_text;
    uint64_t minimum;
    uint64_t maximum;
    const char *right;
};

extern const struct config_key config_keys[];
extern const size_t config_key_count;
enum { CONFIG_KEYS_MAX = 64 }; /* upper bound of config_key_count */

const char *config_section_name(enum config_section section);
bool config_section_has_title(enum config_section section);

/* The section of that name; SECTION_COUNT if there is none. "root" is what libConfuse calls the outermost. */
enum config_section config_section_find(const char *name);

/* The key of that name in that section; NULL if there is none. */
const struct config_key *config_key_find(enum config_section section, const char *name);

static inline bool config_kind_is_list(enum config_kind kind)
{
    return kind >= KIND_BINDS;
}

/* True when a list without a value makes no sense for this key. */
bool config_key_needs_value(const struct config_key *key);

/* What is wrong with `name`, which is no key or section within `section`, and what would be right. */
void config_explain_unknown(enum config_section section, const char *name, char *text, size_t text_size);
