#include "tests/unit/outbound/world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/table.h"
#include "gateway/message/envelope.h"
#include "gateway/net/tls.h"
#include "gateway/outbound/classes.h"
#include "gateway/outbound/next_hop.h"
#include "gateway/outbound/policy.h"
#include "gateway/outbound/site.h"
#include "gateway/outbound/told.h"
#include "queue/crc32c.h"

struct world_means world_means;

static void send_home(void *context, struct queue_delivery *delivery)
{
    struct world *world = context;
    struct message *message = list_entry(delivery, struct message, delivery);

    assert_ptr_equal(delivery->user, &message->gift);
    next_hop_unref(message->gift.hop);
    told_free(delivery);
    message->homecomings++;
    assert_int_equal(message->homecomings, 1);
    world->home++;
}

static bool is_local(void *context, const struct queue *shard)
{
    return false;
}

static void read_piece(void *context, struct outbound_read *read)
{
    struct world *world = context;

    assert_true(world->read_count < 16);
    assert_int_equal((uintptr_t)read->buffer % STORAGE_BLOCK, 0);
    world->reads[world->read_count++] = read;
    if (world->read_count > world->reads_most)
        world->reads_most = world->read_count;
}

/* The newest first, so that an order that only luck keeps is found. */
static void answer_reads(struct world *world)
{
    while (world->read_count > 0) {
        struct outbound_read *read = world->reads[--world->read_count];
        struct message *message = (struct message *)(void *)read->shard;
        memset(read->buffer, '#', read->range.size);
        memcpy((char *)read->buffer + read->range.skip, message->content + read->piece->slot,
               read->piece->size);
        if (message->is_damaged)
            ((char *)read->buffer)[read->range.skip] ^= 1;
        read->done(read, message->read_error);
    }
}

static void hook(struct loop_hook *hook)
{
    struct world *world = list_entry(hook, struct world, hook);

    log_set_time(world->writer, clock_wall_us());
    if (!world->is_running)
        return;
    answer_reads(world);
    outbound_pump(&world->outbound);
    if (world->read_count > 0)
        loop_wake_within(world->loop, 0);
}

static void hook_late(struct loop_hook *hook)
{
    struct world *world = list_entry(hook, struct world, hook);

    if (world->is_running)
        outbound_ask_for_turn(&world->outbound);
}

struct config *world_config(const uint16_t *ports, const char *more)
{
    const char *to = world_means.to != NULL ? world_means.to : "smtp://127.0.0.1";
    const bool is_path = strncmp(to, "lmtp:/", 6) == 0 && to[6] != '/';
    char text[2048];
    size_t size = (size_t)snprintf(text, sizeof(text),
                                   "hostname = \"relay.test\"\nlistener \"l\" { bind = "
                                   "{\"127.0.0.1:2525\"} }\nroute \"*\" { to = {");
    struct config *config;
    struct config_error error;

    for (; !is_path && *ports != 0; ports++)
        size += (size_t)snprintf(text + size, sizeof(text) - size, "\"%s:%u\"%s", to, *ports,
                                 ports[1] != 0 ? ", " : "");
    if (is_path)
        size += (size_t)snprintf(text + size, sizeof(text) - size, "\"%s\"", to);
    snprintf(text + size, sizeof(text) - size, "} %s }\n%s\n%s\n",
             world_means.route != NULL ? world_means.route : "", more,
             world_means.sections != NULL ? world_means.sections : "");
    if (config_load_text("test", text, &config, &error) < 0)
        fail_msg("%s", error.text);
    return config;
}

struct world_policy {
    struct outbound_policy policy;
    struct table *passwords;
    struct classes *classes;
};

static struct world_policy *make_policy(const struct config *config)
{
    struct world_policy *made = calloc(1, sizeof(*made));
    struct tls_client_options tls = {.ca_file = world_means.ca_file,
                                     .verify_possible = world_means.ca_file != NULL,
                                     .version_min = 0x0303};
    char error[TABLE_ERROR_SIZE] = "";

    assert_non_null(made);
    made->policy = (struct outbound_policy){.config = config, .routes = {.config = config}};
    if (tls_client_new(&tls, &made->policy.tls, error, sizeof(error)) < 0)
        fail_msg("%s", error);
    if (world_means.passwords != NULL &&
        table_load(world_means.passwords, TABLE_PAIRS, &made->passwords, error, sizeof(error)) < 0)
        fail_msg("%s", error);
    made->policy.passwords = made->passwords;
    assert_int_equal(classes_new(&made->classes), 0);
    made->policy.classes = made->classes;
    return made;
}

static void free_policy(struct world_policy *made)
{
    tls_client_free(made->policy.tls);
    table_free(made->passwords);
    classes_free(made->classes);
    free(made);
}

static void trust(struct site *site)
{
    list_each(link, &site->endpoints)
    {
        list_entry(link, struct endpoint, link)->proven_until_us = UINT64_MAX;
    }
}

void world_init(struct world *world, const uint16_t *ports, const char *more)
{
    memset(world, 0, sizeof(*world));
    strcpy(world->log_path, "/tmp/sluice-outbound-XXXXXX");
    close(mkstemp(world->log_path));
    assert_int_equal(loop_new(NULL, &world->loop), 0);
    counters_init(&world->counters);
    assert_int_equal(log_new(world->log_path, LOG_TEXT, LOG_DEBUG, &world->log), 0);
    assert_int_equal(log_writer_new(world->log, &world->counters, &world->writer), 0);
    pool_init(&world->pool, &world->counters, SIZE_MAX);
    world->config = world_config(ports, more);
    world->policy = make_policy(world->config);
    world->hook.fn = hook;
    world->hook.late = hook_late;
    loop_add_hook(world->loop, &world->hook);
    struct outbound_options options = {
        .loop = world->loop,
        .policy = &world->policy->policy,
        .log = world->writer,
        .counters = &world->counters,
        .pool = &world->pool,
        .worker_count = 1,
        .context = world,
        .send_home = send_home,
        .is_local = is_local,
        .read_piece = read_piece,
        .site_backoff_ms = 5,
        .host_backoff_ms = 50,
    };
    assert_int_equal(outbound_init(&world->outbound, &options), 0);
    if (!world_means.on_trial)
        site_each(&world->outbound, trust);
    world->is_running = true;
}

void world_reload(struct world *world, const uint16_t *ports, const char *more)
{
    world_take(world, world_config(ports, more));
}

void world_take(struct world *world, struct config *config)
{
    struct world_policy *old_policy = world->policy;
    struct config *old_config = world->config;

    world->policy = make_policy(config);
    world->config = config;
    assert_int_equal(outbound_set_policy(&world->outbound, &world->policy->policy, true), 0);
    free_policy(old_policy);
    config_free(old_config);
}

void world_run_closed(struct world *world)
{
    uint64_t until_us = clock_monotonic_us() + 10000000;
    while (outbound_session_count(&world->outbound) > 0) {
        if (clock_monotonic_us() > until_us)
            fail_msg("%u sessions are still there; log:\n%s", outbound_session_count(&world->outbound),
                     world_log(world));
        loop_turn(world->loop, 10000);
    }
}

void world_deinit(struct world *world)
{
    outbound_stop(&world->outbound);
    world_run_closed(world);
    loop_turn(world->loop, 0);
    answer_reads(world);
    outbound_deinit(&world->outbound);
    assert_int_equal(world->pool.used_bytes, 0);
    pool_deinit(&world->pool);
    loop_free(world->loop);
    log_free(world->log);
    free_policy(world->policy);
    config_free(world->config);
    unlink(world->log_path);
}

static uint32_t cut_content(struct message *message)
{
    uint32_t size = (uint32_t)strlen(message->content);
    uint32_t count = message->on_disk ? WORLD_PIECES_MAX : 1;
    uint32_t at = 0;

    for (uint32_t i = 0; i < count && size > 0; i++) {
        uint32_t end = i + 1 == count ? size : size / count * (i + 1);
        message->pieces[i] = (struct queue_piece){
            .data = message->on_disk ? NULL : message->content + at,
            .size = end - at,
            .slot = at, /* tells read_piece where the bytes are */
            .offset = 100 + i,
            .crc = crc32c(0, message->content + at, end - at),
        };
        at = end;
    }
    return size > 0 ? count : 0;
}

static struct smtp_slice slice_of(const char *text)
{
    return (struct smtp_slice){text, text != NULL ? (uint32_t)strlen(text) : 0};
}

static void encode_first(struct message *message)
{
    struct recipient recipient = {
        .address = slice_of(message->to[0]), .notify = message->notify, .orcpt = slice_of(message->orcpt)};

    message->targets[0].address = message->first;
    message->targets[0].size = (uint32_t)recipient_encode(&recipient, message->first);
}

/* Where another worker would send it. */
static struct next_hop *hop_of(struct world *world, const struct message *message)
{
    const char *domain = strchr(message->to[0], '@') + 1;
    struct route_found found;

    assert_true(routes_find(&world->policy->policy.routes, domain, strlen(domain), "", 0, &found));
    struct next_hop *hop = next_hop_of_destination(world->config, found.destination);
    assert_non_null(hop);
    return hop;
}

void world_send(struct world *world, struct message *message)
{
    static uint64_t id = 1000;
    uint32_t count = 0;

    for (; message->to[count] != NULL; count++)
        message->targets[count] = (struct queue_target){
            .address = message->to[count], .size = (uint32_t)strlen(message->to[count]), .index = count};
    encode_first(message);
    struct envelope envelope = {
        .sender = slice_of(message->from), .envid = slice_of(message->envid), .flags = message->flags};
    message->homecomings = 0;
    message->gift = (struct outbound_gift){.hop = hop_of(world, message)};
    message->delivery = (struct queue_delivery){
        .user = &message->gift,
        .queue = (struct queue *)(void *)message, /* nobody looks into it: all are guests */
        .id = ++id,
        .arrival_ms = (int64_t)clock_wall_ms() - 5,
        .content_size = strlen(message->content),
        .attempt = 1,
        .meta = message->meta,
        .meta_size = (uint32_t)envelope_encode(&envelope, message->meta),
        .is_owed = message->is_owed,
        .targets = message->targets,
        .target_count = count,
        .pieces = message->pieces,
        .piece_count = cut_content(message),
    };
    outbound_accept_handover(&world->outbound, &message->delivery);
}

void world_run_ms(struct world *world, uint64_t ms)
{
    uint64_t until_us = clock_monotonic_us() + ms * 1000;
    while (clock_monotonic_us() < until_us)
        loop_turn(world->loop, 2000);
}

void world_run_home(struct world *world, uint32_t count)
{
    uint64_t until_us = clock_monotonic_us() + 10000000;
    while (world->home < count) {
        if (clock_monotonic_us() > until_us)
            fail_msg("%u of %u came home; log:\n%s", world->home, count, world_log(world));
        loop_turn(world->loop, 10000);
    }
}

const char *world_log(struct world *world)
{
    log_drain(world->log);
    FILE *file = fopen(world->log_path, "r");
    assert_non_null(file);
    size_t size = fread(world->log_text, 1, WORLD_LOG_MAX - 1, file);
    fclose(file);
    world->log_text[size] = 0;
    return world->log_text;
}
