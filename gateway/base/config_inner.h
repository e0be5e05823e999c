#pragma once

/*
 * What the files of the configuration share: memory of a snapshot, where its values come from, and the drafts
 * of sections while a file is being read. Not for other rooms; control thread.
 */

#include <stdarg.h>

#include "gateway/base/config.h"
#include "gateway/base/config_key.h"
#include "gateway/base/domain_table.h"

/* A place in a file. `line` 0: the value is a default. */
struct origin {
    const char *file;
    unsigned line;
};

struct memory_block;

struct config_inner {
    struct memory_block *blocks;            /* everything that the snapshot points to */
    const char *file;                       /* the file that was asked for */
    struct origin origins[CONFIG_KEYS_MAX]; /* of the keys outside of titled sections */
    struct origin *listener_origins;        /* their sections */
    struct ip_network *networks;
    size_t network_count;
    struct domain_table relay_domains;
    struct domain_table routes;
    const struct config_route *default_route; /* "*"; NULL: none */
};

struct listener_draft {
    struct config_listener listener;
    struct origin origin;
    struct sockaddr_storage *binds;
    struct origin *bind_origins;
};

struct route_draft {
    const char *pattern;
    struct origin origin;
    struct config_host *hosts;
    size_t host_count;
};

enum { SITE_VALUE_UNSET = UINT32_MAX };

struct site_draft {
    const char *name;
    struct origin origin;
    uint32_t connections;
    uint32_t messages_per_connection;
    uint32_t recipients_per_message;
};

/* A domain of relay.domains as it was written, until the table is made. */
struct domain_draft {
    const char *name;
};

struct config_loader {
    struct config *config;
    struct config_error *error;
    bool has_failed;
    struct origin place; /* of the value that is being read */

    struct listener_draft *listeners;
    size_t listener_count;
    struct route_draft *routes;
    size_t route_count;
    struct site_draft *sites;
    size_t site_count;
    struct domain_draft *domains;
    size_t domain_count;
    uint64_t *schedule_ms;
};

/* Zeroed memory that lives as long as the snapshot. Panics when there is none: a machine without memory for a
   few lines of text cannot relay mail either. */
void *config_memory(struct config *config, size_t size) __attribute__((returns_nonnull));
char *config_copy(struct config *config, const char *text, size_t size) __attribute__((returns_nonnull));

/* Room for one more element behind `count` elements; returns the array, which may have moved. */
void *config_grow(struct config *config, void *array, size_t count, size_t element_size)
    __attribute__((returns_nonnull));

/* Say what is wrong, unless something was said before. They return -EINVAL. */
int config_fail(struct config_error *error, struct origin origin, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int config_loader_fail(struct config_loader *loader, struct origin origin, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int config_loader_vfail(struct config_loader *loader, struct origin origin, const char *format,
                        va_list arguments) __attribute__((format(printf, 3, 0)));

/* The file as one zero-terminated text with a newline at its end, in the snapshot's memory; negative errno.
   (config_load.c) */
int config_read_file(struct config *config, const char *path, char **text, size_t *size)
    __attribute__((warn_unused_result));

/* Reads a whole text, and what it includes, into the snapshot and the drafts; `text` is changed. 0; -EINVAL,
   reported; or -ENOMEM. (config_parse.c) */
int config_parse(struct config_loader *loader, char *text, size_t size) __attribute__((warn_unused_result));

/* Reads one value of `key` into `structure` (the draft of a titled section, or the config). A list takes its
   values one by one. 0 or -EINVAL, reported. (config_value.c) */
int config_set_value(struct config_loader *loader, const struct config_key *key, void *structure,
                     const char *text) __attribute__((warn_unused_result));

/* Gives all keys of `section` that have a default their default. */
void config_set_defaults(struct config_loader *loader, enum config_section section, void *structure);

/* Makes a list empty before its first value replaces the default. */
void config_clear_list(struct config_loader *loader, const struct config_key *key, void *structure);

/* What can only be judged when the whole file has been read: makes listeners, sites, routes and lookup tables
   out of the drafts. 0 or -EINVAL, reported. (config_check.c) */
int config_finish(struct config_loader *loader) __attribute__((warn_unused_result));
