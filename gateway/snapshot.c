#include "gateway/snapshot.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/config.h"
#include "gateway/base/log.h"
#include "gateway/base/table.h"
#include "gateway/net/tls.h"
#include "gateway/outbound/classes.h"
#include "gateway/sasl/senders.h"
#include "gateway/sasl/users.h"

/* What only a reload changes; shared by the snapshots between two of them. */
struct snapshot_core {
    unsigned references;
    struct config *config;
    struct tls_server **tls; /* one for each listener */
    struct tls_client *client;
    struct classes *classes;
};

enum part_kind { PART_USERS, PART_SENDERS, PART_ROUTES, PART_PASSWORDS, PART_RECIPIENTS };

/* One file, as it was when it was read; shared by the snapshots until it changes. */
struct snapshot_part {
    unsigned references;
    enum part_kind kind;
    void *object; /* struct users, senders or table; NULL: there is no file, or it cannot be read */
    struct table_stamp stamp;
    bool has_stamp; /* there was a file */
};

enum { FIRST_LIST = PART_RECIPIENTS }; /* one of each kind, then the lists of recipients */

/* --- Parts --- */

static size_t part_count(const struct config *config)
{
    return FIRST_LIST + config->recipients_count;
}

static enum part_kind kind_of(size_t index)
{
    return index < FIRST_LIST ? (enum part_kind)index : PART_RECIPIENTS;
}

static const char *part_path(const struct config *config, size_t index)
{
    switch (kind_of(index)) {
    case PART_USERS:
        return config->auth.users;
    case PART_SENDERS:
        return config->auth.senders;
    case PART_ROUTES:
        return config->route_file;
    case PART_PASSWORDS:
        return config->outbound.passwords;
    case PART_RECIPIENTS:
        break;
    }
    return config->recipients[index - FIRST_LIST].file;
}

static int load_routes(const char *path, struct table **table, char *error, size_t error_size)
{
    int result = table_load(path, TABLE_PAIRS, table, error, error_size);
    if (result == 0)
        result = routes_check(*table, path, error, error_size);
    if (result < 0) {
        table_free(*table);
        *table = NULL;
    }
    return result;
}

/* Whoever can read the file can log in as us elsewhere. */
static int load_passwords(const char *path, struct table **table, char *error, size_t error_size)
{
    struct stat file;
    if (stat(path, &file) == 0 && (file.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        snprintf(error, error_size,
                 "%s: can be read or written by others than its owner; would be right: mode 600", path);
        return -EPERM;
    }
    return table_load(path, TABLE_PAIRS, table, error, error_size);
}

static int load(struct snapshot_part *part, const char *path, char *error, size_t error_size)
{
    struct users *users = NULL;
    struct senders *senders = NULL;
    struct table *table = NULL;
    int result = 0;
    switch (part->kind) {
    case PART_USERS:
        result = users_load(path, &users, error, error_size);
        part->object = users;
        break;
    case PART_SENDERS:
        result = senders_load(path, &senders, error, error_size);
        part->object = senders;
        break;
    case PART_ROUTES:
        result = load_routes(path, &table, error, error_size);
        part->object = table;
        break;
    case PART_PASSWORDS:
        result = load_passwords(path, &table, error, error_size);
        part->object = table;
        break;
    case PART_RECIPIENTS:
        result = table_load(path, TABLE_ADDRESSES, &table, error, error_size);
        part->object = table;
        break;
    }
    return result;
}

static void unload(const struct snapshot_part *part)
{
    switch (part->kind) {
    case PART_USERS:
        users_free(part->object);
        break;
    case PART_SENDERS:
        senders_free(part->object);
        break;
    case PART_ROUTES:
    case PART_PASSWORDS:
    case PART_RECIPIENTS:
        table_free(part->object);
        break;
    }
}

static void part_drop(struct snapshot_part *part)
{
    if (part == NULL)
        return;
    assert(part->references > 0);
    if (--part->references > 0)
        return;
    unload(part);
    free(part);
}

static void report(struct log_writer *log, const char *path, const char *result, const char *reason)
{
    struct log_line line;
    if (log == NULL || !log_begin(log, &line, LOG_TABLE, reason[0] != '\0' ? LOG_ERROR : LOG_NOTICE))
        return;
    log_text(&line, "file", path);
    log_text(&line, "result", result);
    if (reason[0] != '\0')
        log_text(&line, "reason", reason);
    log_end(&line);
}

/* The stamp is taken first: a change while the file is read shows at the next look. */
static struct snapshot_part *part_new(enum part_kind kind, const char *path, struct log_writer *log)
{
    char error[TABLE_ERROR_SIZE] = "";
    struct snapshot_part *part = calloc(1, sizeof(*part));
    if (part == NULL)
        return NULL;
    part->references = 1;
    part->kind = kind;
    if (path == NULL)
        return part;
    part->has_stamp = table_stamp_read(path, &part->stamp) == 0;
    if (load(part, path, error, sizeof(error)) < 0)
        report(log, path, "unreadable", error);
    else
        report(log, path, "read", "");
    return part;
}

static bool has_changed(const struct snapshot_part *part, const char *path)
{
    struct table_stamp stamp;
    const bool has_stamp = table_stamp_read(path, &stamp) == 0;
    return has_stamp != part->has_stamp || (has_stamp && !table_stamp_equals(&stamp, &part->stamp));
}

/* The part for the next snapshot. Users, routes and passwords whose file has become unreadable go on as they
 * were: a slip of the pen must not lock everybody out, nor send mail another way. Lists do not: who is new in
 * them would be refused for good. */
static struct snapshot_part *part_renew(struct snapshot_part *part, const char *path, struct log_writer *log)
{
    if (path == NULL || !has_changed(part, path)) {
        part->references++;
        return part;
    }
    struct snapshot_part *renewed = part_new(part->kind, path, log);
    bool is_kept = part->kind == PART_USERS || part->kind == PART_ROUTES || part->kind == PART_PASSWORDS;
    if (renewed == NULL || renewed->object != NULL || !is_kept)
        return renewed;
    part->stamp = renewed->stamp;
    part->has_stamp = renewed->has_stamp;
    part_drop(renewed);
    part->references++;
    return part;
}

/* --- The core --- */

/* All but the configuration. */
static void core_free(struct snapshot_core *core)
{
    for (size_t i = 0; core->tls != NULL && i < core->config->listener_count; i++)
        tls_server_free(core->tls[i]);
    free(core->tls);
    tls_client_free(core->client);
    classes_free(core->classes);
    free(core);
}

static void core_drop(struct snapshot_core *core)
{
    struct config *config = core->config;
    assert(core->references > 0);
    if (--core->references > 0)
        return;
    core_free(core);
    config_free(config);
}

static int make_tls(struct snapshot_core *core, struct tls_tickets *tickets, char *error, size_t error_size)
{
    const struct config *config = core->config;
    for (size_t i = 0; i < config->listener_count; i++) {
        const struct config_listener *listener = &config->listeners[i];
        if (listener->tls == CONFIG_TLS_OFF)
            continue;
        const bool asks = listener->client_certificate != CONFIG_CERTIFICATE_OFF;
        const struct tls_server_options options = {
            .name = listener->name,
            .certificates = config->tls.certificates,
            .private_keys = config->tls.private_keys,
            .certificate_count = config->tls.certificate_count,
            .version_min = config->tls.version_min,
            .client_ca = asks ? config->tls.client_ca : NULL,
            .client_required = listener->client_certificate == CONFIG_CERTIFICATE_REQUIRE,
            .tickets = tickets,
        };
        const int result = tls_server_new(&options, &core->tls[i], error, error_size);
        if (result < 0)
            return result;
    }
    return 0;
}

/* What we are to next hops, and what their replies mean. Where no CAs are installed nothing is verified, and
 * a route that demands it says so. */
static int make_outbound(struct snapshot_core *core, char *error, size_t error_size)
{
    const struct config *config = core->config;
    const char *ca_file = config->outbound.ca_file;
    const struct tls_client_options options = {
        .ca_file = ca_file,
        .verify_possible = ca_file != NULL || access(TLS_SYSTEM_CA_FILE, R_OK) == 0,
        .version_min = config->outbound.version_min,
        .certificate = config->outbound.certificate,
        .private_key = config->outbound.private_key,
    };
    const int result = tls_client_new(&options, &core->client, error, error_size);
    if (result < 0)
        return result;
    if (config->outbound.classes != NULL)
        return classes_load(config->outbound.classes, &core->classes, error, error_size);
    return classes_new(&core->classes);
}

/* On failure the configuration is still the caller's. */
static int core_new(struct config *config, struct tls_tickets *tickets, struct snapshot_core **out,
                    char *error, size_t error_size)
{
    struct snapshot_core *core = calloc(1, sizeof(*core));
    int result = -ENOMEM;
    snprintf(error, error_size, "out of memory");
    if (core == NULL)
        return result;
    core->references = 1;
    core->config = config;
    core->tls = calloc(config->listener_count, sizeof(struct tls_server *));
    if (core->tls != NULL)
        result = make_tls(core, tickets, error, error_size);
    if (result == 0)
        result = make_outbound(core, error, error_size);
    if (result == 0)
        *out = core;
    else
        core_free(core);
    return result;
}

/* --- Snapshots --- */

/* A snapshot of these parts, which are dropped if it fails. */
static struct snapshot *assemble(struct snapshot_core *core, struct snapshot_part **parts)
{
    const size_t lists = core->config->recipients_count;
    struct snapshot *snapshot = calloc(1, sizeof(*snapshot));
    const struct table **tables = calloc(lists + 1, sizeof(*tables));
    if (snapshot == NULL || tables == NULL) {
        free(snapshot);
        free(tables);
        return NULL;
    }
    for (size_t i = 0; i < lists; i++)
        tables[i] = parts[FIRST_LIST + i]->object;
    *snapshot = (struct snapshot){
        .policy =
            {
                .config = core->config,
                .tls = core->tls,
                .users = parts[PART_USERS]->object,
                .senders = parts[PART_SENDERS]->object,
                .recipients = tables,
                .routes = {core->config, parts[PART_ROUTES]->object},
            },
        .outbound =
            {
                .config = core->config,
                .routes = {core->config, parts[PART_ROUTES]->object},
                .tls = core->client,
                .passwords = parts[PART_PASSWORDS]->object,
                .classes = core->classes,
            },
        .core = core,
        .parts = parts,
        .lists = tables,
    };
    return snapshot;
}

static void drop_parts(struct snapshot_part **parts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        part_drop(parts[i]);
    free(parts);
}

int snapshot_new(struct config *config, struct tls_tickets *tickets, struct log_writer *log,
                 struct snapshot **snapshot, char *error, size_t error_size)
{
    struct snapshot_core *core = NULL;
    const int result = core_new(config, tickets, &core, error, error_size);
    if (result < 0)
        return result;
    const size_t count = part_count(config);
    struct snapshot_part **parts = calloc(count, sizeof(*parts));
    bool is_complete = parts != NULL;
    for (size_t i = 0; is_complete && i < count; i++) {
        parts[i] = part_new(kind_of(i), part_path(config, i), log);
        is_complete = parts[i] != NULL;
    }
    const bool has_routes = is_complete && (config->route_file == NULL || parts[PART_ROUTES]->object != NULL);
    *snapshot = has_routes ? assemble(core, parts) : NULL;
    if (*snapshot != NULL)
        return 0;
    if (parts != NULL)
        drop_parts(parts, count);
    core_free(core);
    if (!is_complete || has_routes) {
        snprintf(error, error_size, "out of memory");
        return -ENOMEM;
    }
    struct table *routes = NULL; /* once more, for the reason */
    const int refused = load_routes(config->route_file, &routes, error, error_size);
    table_free(routes);
    return refused < 0 ? refused : -EAGAIN;
}

static bool any_changed(const struct snapshot *snapshot)
{
    const struct config *config = snapshot->core->config;
    for (size_t i = 0; i < part_count(config); i++) {
        const char *path = part_path(config, i);
        if (path != NULL && has_changed(snapshot->parts[i], path))
            return true;
    }
    return false;
}

struct snapshot *snapshot_renew(struct snapshot *snapshot, struct log_writer *log)
{
    const struct config *config = snapshot->core->config;
    const size_t count = part_count(config);
    if (!any_changed(snapshot))
        return NULL;
    struct snapshot_part **parts = calloc(count, sizeof(*parts));
    bool is_complete = parts != NULL;
    for (size_t i = 0; is_complete && i < count; i++) {
        parts[i] = part_renew(snapshot->parts[i], part_path(config, i), log);
        is_complete = parts[i] != NULL;
    }
    struct snapshot *renewed = is_complete ? assemble(snapshot->core, parts) : NULL;
    if (renewed != NULL)
        snapshot->core->references++;
    else if (parts != NULL)
        drop_parts(parts, count);
    return renewed;
}

void snapshot_free(struct snapshot *snapshot)
{
    if (snapshot == NULL)
        return;
    drop_parts(snapshot->parts, part_count(snapshot->core->config));
    core_drop(snapshot->core);
    free(snapshot->lists);
    free(snapshot);
}

int snapshot_check(struct config *config, char *error, size_t error_size)
{
    struct snapshot_core *core = NULL;
    int result = core_new(config, NULL, &core, error, error_size);
    if (result == 0)
        core_free(core);
    for (size_t i = 0; result == 0 && i < part_count(config); i++) {
        struct snapshot_part part = {.kind = kind_of(i)};
        if (part_path(config, i) == NULL)
            continue;
        result = load(&part, part_path(config, i), error, error_size);
        if (result == 0)
            unload(&part);
    }
    return result;
}
