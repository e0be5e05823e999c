#pragma once

/*
 * What the files of the configuration share: memory of a snapshot, where its values come from, and the drafts
 * of sections while a file is being read. Not for other rooms; control thread.
 */

#include <stdarg.h>

#include "gateway/base/config.h"
#include "gateway/base/config_key.h"
#include "gateway/base/destination.h"
#include "gateway/base/domain_table.h"

/* A place in a file. `line` 0: the value is a default. */
struct origin {
    const char *file;
    unsigned line;
};

struct memory_block;

/* A file that is to be there, and where it was named. */
struct named_file {
    const char *path;
    struct origin origin;
};

struct named_files {
    struct named_file *files;
    size_t count;
};

struct fingerprint {
    uint8_t bytes[32]; /* SHA-256 */
};

struct config_inner {
    struct memory_block *blocks;            /* everything that the snapshot points to */
    const char *file;                       /* the file that was asked for */
    struct origin origins[CONFIG_KEYS_MAX]; /* of the keys outside of titled sections */
    struct origin *listener_origins;        /* their sections */
    struct ip_network *networks;
    size_t network_count;
    struct domain_table relay_domains;
    struct domain_table routes; /* from patterns, also "*" and "from:...", to the index of a destination */
    bool has_sender_routes;
    struct domain_table sites; /* from titles to the index of their limits */
    struct domain_table recipients;
    struct origin *recipients_origins; /* their sections */
    struct named_files certificates;
    struct named_files private_keys;
    const char **client_names; /* of relay.client_certificates */
    size_t client_name_count;
    struct fingerprint *fingerprints; /* of the same */
    size_t fingerprint_count;
    struct sockaddr_storage *nameservers; /* of dns.servers */
};

struct listener_draft {
    struct config_listener listener;
    struct origin origin;
    struct sockaddr_storage *binds;
    struct origin *bind_origins;
    struct ip_network *proxy_networks;
    const struct origin *key_origins; /* as inner->origins, for this section */
};

struct recipients_draft {
    struct config_recipients list;
    struct origin origin;
};

struct route_draft {
    const char *pattern;
    struct origin origin;
    uint16_t weights[DESTINATION_HOSTS_MAX];
    size_t weight_count;
    enum config_security tls;
    struct destination destination; /* when the section has ended */
};

struct site_draft {
    struct config_limits limits;
    struct origin origin;
    bool is_given[CONFIG_KEYS_MAX]; /* by key; false: to be taken from "default" */
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
    struct destination_text *destination; /* of the route that is being read */
    struct site_draft *sites;
    size_t site_count;
    struct domain_draft *domains;
    size_t domain_count;
    struct recipients_draft *recipients;
    size_t recipients_count;
    uint64_t *schedule_ms;
};

/* Zeroed memory that lives as long as the snapshot. Panics when there is none: a machine without memory for a
   few lines of text cannot relay mail either. */
void *config_memory(struct config *config, size_t size) __attribute__((returns_nonnull));
char *config_copy(struct config *config, const char *text, size_t size) __attribute__((returns_nonnull));

/* Room for one more element behind `count` elements; returns the array, which may have moved. */
void *config_grow(struct config *config, void *array, size_t count, size_t element_size)
    __attribute__((returns_nonnull));

/* Where a key outside of titled sections was given; the file without a line for a default. */
struct origin config_origin(const struct config *config, enum config_section section, const char *name);

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

/* Starts the draft of a titled section, or says what is wrong with its title: NULL. `origin` is where the
   section begins. (config_section.c) */
void *config_begin_section(struct config_loader *loader, enum config_section section, const char *title,
                           struct origin origin) __attribute__((warn_unused_result));

/* Judges the draft when its section has been read; `origins` tells by key where its values were given. 0 or
   -EINVAL, reported. (config_section.c) */
int config_end_section(struct config_loader *loader, enum config_section section, void *draft,
                       const struct origin *origins) __attribute__((warn_unused_result));

/* A copy of "example.com" or ".example.com" in the form under which domains are looked up (base/idna.h); NULL
   when it is no domain. (config_section.c) */
const char *config_copy_pattern(struct config *config, const char *text);

/* Says that a value is wrong and what would be right; -EINVAL. (config_value.c) */
int config_refuse(struct config_loader *loader, const struct config_key *key, const char *text,
                  const char *what);

/* Takes one value of a list. (config_list.c) */
int config_add_value(struct config_loader *loader, const struct config_key *key, void *structure,
                     const char *text) __attribute__((warn_unused_result));

/* A `route` section from its begin to its place in the snapshot, with the lists in it. Names of hosts are
   looked up, which may take long. (config_destination.c) */
struct route_draft *config_begin_route(struct config_loader *loader, const char *pattern,
                                       struct origin origin) __attribute__((returns_nonnull));
int config_add_destination(struct config_loader *loader, const struct config_key *key, const char *text)
    __attribute__((warn_unused_result));
int config_add_tls_name(struct config_loader *loader, const struct config_key *key, const char *text)
    __attribute__((warn_unused_result));
int config_add_weight(struct config_loader *loader, const struct config_key *key, struct route_draft *draft,
                      const char *text) __attribute__((warn_unused_result));
int config_end_route(struct config_loader *loader, struct route_draft *draft, const struct origin *origins)
    __attribute__((warn_unused_result));
int config_finish_routes(struct config_loader *loader) __attribute__((warn_unused_result));

/* The same for a `site` section; begin says what is wrong with the title: NULL. (config_limits.c) */
struct site_draft *config_begin_site(struct config_loader *loader, const char *title, struct origin origin);
void config_end_site(struct site_draft *draft, const struct origin *origins);
int config_finish_sites(struct config_loader *loader) __attribute__((warn_unused_result));

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

/* The part of it that is about who may use a listener, and how: a listener's draft is completed; then what
   the sections tls, relay and recipients mean together. (config_admission.c) */
int config_finish_listener(struct config_loader *loader, struct listener_draft *draft)
    __attribute__((warn_unused_result));
int config_finish_admission(struct config_loader *loader) __attribute__((warn_unused_result));

/* A table with room for `name_count` names. */
struct domain_table config_domain_table(struct config *config, size_t name_count);
