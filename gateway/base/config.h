#pragma once

/*
 * The configuration: an immutable snapshot of the file, checked and resolved, that any thread may read.
 *
 * It is made and freed by the control thread (loading may wait for the name service); workers adopt a
 * snapshot at a loop turn and never write to it. Everything that it points to lives as long as the snapshot
 * does. Units stand in the names. Defaults and ranges stand in config_keys.def and in sluice.conf(5).
 */

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "gateway/base/address.h"
#include "gateway/base/log.h"

/* "FILE:LINE: what is wrong and what would be right" */
struct config_error {
    char text[512];
};

struct config_listener {
    const char *name; /* the section's title */
    const struct sockaddr_storage *binds;
    size_t bind_count; /* at least 1 */
    uint64_t max_message_size_bytes;
    uint32_t max_recipients;
};

/* A host of a site, in the order in which hosts are tried. */
struct config_host {
    const char *name; /* as written: an address or a name; without brackets, scheme and port */
    uint16_t port;
    const struct sockaddr_storage *addresses; /* port included; looked up when the file was read */
    size_t address_count;                     /* at least 1 */
};

/* A list of hosts that mail is sent to, with its limits. Routes with the same list share one site. */
struct config_site {
    const char *name; /* the first host, with its port unless that is 25: what `site` sections call it */
    uint32_t index;   /* 0 … site_count - 1 */
    const struct config_host *hosts;
    size_t host_count;                /* at least 1 */
    uint32_t connections;             /* at most, at a time, over all workers */
    uint32_t messages_per_connection; /* 0: no limit */
    uint32_t recipients_per_message;  /* in one transaction */
};

struct config_route {
    const char *pattern; /* "example.com", ".example.com" or "*", in lower case */
    const struct config_site *site;
};

/* All in milliseconds. Inbound: RFC 5321 §4.5.3.2.7; outbound: §4.5.3.2.1 – §4.5.3.2.6. */
struct config_timeouts {
    uint32_t inbound_command_ms; /* from one command to the next */
    uint32_t inbound_data_ms;    /* from one piece of content to the next */
    uint32_t outbound_connect_ms;
    uint32_t outbound_greeting_ms;
    uint32_t outbound_mail_ms; /* also EHLO */
    uint32_t outbound_rcpt_ms;
    uint32_t outbound_data_ms;  /* DATA to its 354 */
    uint32_t outbound_block_ms; /* a piece of content to be taken */
    uint32_t outbound_end_ms;   /* end of content to its reply */
    uint32_t outbound_idle_ms;  /* how long a connection without work is kept */
    uint32_t outbound_quit_ms;
};

struct config {
    const char *hostname;
    const char *data_dir;
    uint32_t workers; /* 0: one per CPU that the process may use */
    const char *user; /* "": stay who we are */

    const struct config_listener *listeners;
    size_t listener_count; /* at least 1 */

    const struct config_route *routes;
    size_t route_count;
    const struct config_site *sites;
    size_t site_count;

    struct {
        const uint64_t *schedule_ms; /* wait after attempt 1, 2, …; the last one repeats */
        size_t schedule_count;       /* at least 1 */
        uint64_t max_age_ms;
        uint32_t jitter_percent; /* of each wait, to either side */
    } retry;

    struct {
        uint64_t memory_bytes;
        uint64_t min_free_disk_bytes;   /* one of the two is 0 */
        uint32_t min_free_disk_percent; /* of the file system under data_dir */
        uint32_t connections;           /* inbound, over all listeners and workers */
    } limits;

    struct {
        enum log_format format;
        enum log_level level;
        const char *destination; /* "stderr" or an absolute path */
    } log;

    struct {
        uint64_t segment_size_bytes;
        uint32_t commit_delay_us; /* how long a commit may wait for company */
    } queue;

    struct config_timeouts timeouts;

    struct config_inner *inner; /* lookup tables, origins of values, memory: private to config*.c */
};

/* Reads and checks the file. 0, or a negative errno with the reason in `error`: -EINVAL for what the file
   says, else why it could not be read. */
int config_load(const char *path, struct config **config, struct config_error *error)
    __attribute__((warn_unused_result));

/* The same for a text in memory; `name` stands for the file in errors. */
int config_load_text(const char *name, const char *text, struct config **config, struct config_error *error)
    __attribute__((warn_unused_result));

/* NULL is ignored. */
void config_free(struct config *config);

/* Checks what depends on this machine rather than on the file: the user exists, the log's folder too.
   0 or -EINVAL with the reason. For `-t` and for start. */
int config_check_machine(const struct config *config, struct config_error *error)
    __attribute__((warn_unused_result));

/* May `new_config` take over from `old_config` while running? -EINVAL with file and line of what only a
   restart can change: data_dir, workers, user, listeners' addresses, queue's segment_size. */
int config_reload_check(const struct config *old_config, const struct config *new_config,
                        struct config_error *error) __attribute__((warn_unused_result));

/* The version of libConfuse in use, like "3.3". Any thread. */
const char *config_library_version(void);

/* May this client send to anyone? (relay.networks) */
bool config_relay_allows_client(const struct config *config, const struct sockaddr *client);

/* May anyone send to this domain? (relay.domains) Without case; constant time for a number of labels. */
bool config_relay_domain(const struct config *config, const char *domain, size_t size);

/* The route for mail to this domain: the exact name, else the longest ".parent" (which also covers the parent
   itself), else "*", else NULL. Without case; constant time for a number of labels. */
const struct config_route *config_route_find(const struct config *config, const char *domain, size_t size);
