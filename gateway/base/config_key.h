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
    KIND_MAILBOX,
    KIND_DELIMITER,  /* char */
    KIND_SWITCH,     /* bool; from here on: one of some words (config_word.c) */
    KIND_NEWLINES,   /* bool */
    KIND_LOG_FORMAT, /* an enum, as the next five */
    KIND_LOG_LEVEL,
    KIND_TLS,
    KIND_AUTH,
    KIND_CERTIFICATE,
    KIND_SECURITY,
    KIND_TLS_VERSION,        /* uint16_t */
    KIND_CLIENT_TLS_VERSION, /* uint16_t */
    KIND_COUNT,              /* uint32_t */
    KIND_PERCENT,            /* uint32_t */
    KIND_SIZE,               /* uint64_t, bytes */
    KIND_SEGMENT_SIZE,       /* the same, whole pages */
    KIND_SPAN_US32,          /* uint32_t, microseconds */
    KIND_SPAN_MS32,          /* uint32_t, milliseconds */
    KIND_SPAN_MS64,          /* uint64_t, milliseconds */
    KIND_FREE_DISK,          /* a percentage or a size */
    KIND_BINDS,              /* from here on: lists, taken value by value */
    KIND_NETWORKS,
    KIND_PROXY_NETWORKS,
    KIND_DOMAINS,
    KIND_SCHEDULE,
    KIND_DESTINATIONS,
    KIND_WEIGHTS,
    KIND_TLS_NAMES,
    KIND_NAMESERVERS,
    KIND_CERTIFICATES,
    KIND_PRIVATE_KEYS,
    KIND_CLIENT_CERTIFICATES,
    KIND_EXTENSIONS, /* uint32_t of bits; from here on: some of some words */
    KIND_MECHANISMS,
    KIND_RULES,
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
enum { CONFIG_KEYS_MAX = 128 }; /* upper bound of config_key_count */

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

/* Is there a key of that name in any section? */
bool config_name_is_key(const char *name);

/* The value of a word, for the kinds that are words; false when there is no such word. Any thread. */
bool config_word_find(enum config_kind kind, const char *word, uint32_t *value);

/* The word of that value, which is one of the kind's. */
const char *config_word_name(enum config_kind kind, uint32_t value) __attribute__((returns_nonnull));

/* True when a list without a value makes no sense for this key. */
bool config_key_needs_value(const struct config_key *key);

/* What is wrong with `name`, which is no key or section within `section`, and what would be right. */
void config_explain_unknown(enum config_section section, const char *name, char *text, size_t text_size);
