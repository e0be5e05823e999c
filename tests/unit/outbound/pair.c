#include "tests/unit/outbound/pair.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/address.h"
#include "gateway/base/clock.h"
#include "gateway/base/table.h"
#include "gateway/net/tls.h"
#include "gateway/outbound/classes.h"
#include "gateway/outbound/hop_query.h"
#include "gateway/outbound/probe.h"
#include "tests/unit/dns/peer.h"

struct pair_policy {
    struct outbound_policy policy;
    struct table *routes;
    struct classes *classes;
};

/* --- Letters --- */

static void post(struct pair_worker *to, enum pair_letter_kind kind, void *content)
{
    assert_true(to->letter_count < PAIR_MAIL_MAX);
    to->letters[to->letter_count++] = (struct pair_letter){kind, content};
}

static struct pair_worker *other_of(struct pair_worker *worker)
{
    return &worker->pair->workers[1 - worker->index];
}

static void read_letter(struct pair_worker *worker, struct pair_letter letter)
{
    switch (letter.kind) {
    case PAIR_ASK:
        worker->asked++;
        hop_query_serve(&worker->outbound, letter.content);
        break;
    case PAIR_ANSWER:
        hop_query_answered(letter.content);
        break;
    case PAIR_GIFT:
        worker->gifts++;
        outbound_accept_handover(&worker->outbound, letter.content);
        break;
    case PAIR_HOME:
        worker->away--;
        outbound_come_home(&worker->outbound, letter.content);
        break;
    }
}

static void read_letters(struct pair_worker *worker)
{
    uint32_t count = worker->is_deaf ? 0 : worker->letter_count;

    for (uint32_t i = 0; i < count; i++)
        read_letter(worker, worker->letters[i]);
    worker->letter_count -= count;
    memmove(worker->letters, worker->letters + count, worker->letter_count * sizeof(worker->letters[0]));
}

/* --- What outbound asks for --- */

static void send_home(void *context, struct queue_delivery *delivery)
{
    post(other_of(context), PAIR_HOME, delivery);
}

static bool give(struct pair_worker *worker, struct queue_delivery *delivery)
{
    struct pair_worker *other = other_of(worker);

    if (other->is_unwilling)
        return false;
    worker->away++;
    if (worker->away > worker->most_away)
        worker->most_away = worker->away;
    post(other, PAIR_GIFT, delivery);
    return true;
}

static bool hand_over(void *context, uint32_t site_index, struct queue_delivery *delivery)
{
    struct pair_worker *worker = context;
    return outbound_room(&other_of(worker)->outbound, site_index) > 0 && give(worker, delivery);
}

static bool hand_to(void *context, uint32_t index, struct queue_delivery *delivery)
{
    struct pair_worker *worker = context;
    assert_int_not_equal(index, worker->index);
    return give(worker, delivery);
}

static void ask(void *context, struct hop_query *query)
{
    struct pair_worker *worker = context;
    assert_int_not_equal(query->worker, worker->index);
    post(&worker->pair->workers[query->worker], PAIR_ASK, query);
}

static void answer(void *context, struct hop_query *query)
{
    struct pair_worker *asker = query->asker->options.context;
    assert_ptr_not_equal(asker, context);
    post(asker, PAIR_ANSWER, query);
}

static bool is_local(void *context, const struct queue *shard)
{
    const struct pair_worker *worker = context;
    return shard == worker->queue;
}

static void read_piece(void *context, struct outbound_read *read)
{
    struct pair_worker *worker = context;

    assert_true(worker->read_count < PAIR_READS_MAX);
    worker->reads[worker->read_count++] = read;
}

/* The shard may be the other's. */
static void answer_reads(struct pair_worker *worker)
{
    while (worker->read_count > 0) {
        struct outbound_read *read = worker->reads[--worker->read_count];
        struct pair_worker *owner = read->shard == worker->queue ? worker : other_of(worker);
        memcpy(read->buffer, owner->disk.slots[read->piece->slot].bytes + read->range.offset,
               read->range.size);
        read->done(read, 0);
    }
}

static void lane_ready(void *context, struct queue_lane *lane)
{
    struct pair_worker *worker = context;
    outbound_lane_ready(&worker->outbound, lane);
}

static void lane_gone(void *context, struct queue_lane *lane)
{
    struct pair_worker *worker = context;
    outbound_lane_gone(&worker->outbound, lane);
}

static const struct queue_callbacks callbacks = {.lane_ready = lane_ready, .lane_gone = lane_gone};

/* --- Turns --- */

static void drive_disk(struct pair_worker *worker)
{
    const uint64_t flush_us = queue_flush(worker->queue, worker->disk.now_us);
    uint64_t next_us = disk_next_us(&worker->disk);

    if (flush_us != UINT64_MAX && worker->disk.now_us + flush_us < next_us)
        next_us = worker->disk.now_us + flush_us;
    if (next_us != UINT64_MAX && next_us > worker->disk.now_us)
        worker->disk.now_us = next_us;
    while (disk_step(&worker->disk))
        ;
}

static void on_turn(struct loop_hook *hook)
{
    struct pair_worker *worker = list_entry(hook, struct pair_worker, hook);

    log_set_time(worker->writer, clock_wall_us());
    if (worker->queue == NULL)
        return;
    read_letters(worker);
    answer_reads(worker);
    (void)queue_tick(worker->queue, (int64_t)clock_wall_ms());
    outbound_sweep(&worker->outbound, worker->queue, 10000);
    outbound_pump(&worker->outbound);
    drive_disk(worker);
}

void pair_turn(struct pair *pair)
{
    peer_serve(pair->names);
    for (uint32_t i = 0; i < 2; i++)
        loop_turn(pair->workers[i].loop, 500);
}

uint64_t pair_clock_us(void)
{
    return clock_monotonic_us();
}

void pair_run_ms(struct pair *pair, uint64_t ms)
{
    uint64_t until_us = clock_monotonic_us() + ms * 1000;
    while (clock_monotonic_us() < until_us)
        pair_turn(pair);
}

/* --- Life --- */

static struct config *load(struct pair *pair, const char *more)
{
    char text[4096];
    char where[ADDRESS_TEXT_SIZE];
    struct config *config;
    struct config_error error;

    address_format((const struct sockaddr *)&pair->names->address, where);
    snprintf(text, sizeof(text),
             "hostname = \"relay.test\"\nlistener \"l\" { bind = {\"127.0.0.1:2525\"} }\n"
             "dns { servers = {\"%s\"} }\n%s\n",
             where, more);
    if (config_load_text("test", text, &config, &error) < 0)
        fail_msg("%s", error.text);
    assert_true(pair->config_count < 64);
    pair->configs[pair->config_count++] = config;
    return config;
}

static struct table *load_routes(const char *lines)
{
    char path[] = "/tmp/sluice-routes-XXXXXX";
    char error[TABLE_ERROR_SIZE] = "";
    struct table *table = NULL;
    int fd = mkstemp(path);

    assert_int_equal(write(fd, lines, strlen(lines)), strlen(lines));
    close(fd);
    if (table_load(path, TABLE_PAIRS, &table, error, sizeof(error)) < 0)
        fail_msg("%s", error);
    unlink(path);
    return table;
}

static struct pair_policy *make_policy(const struct pair *pair, const struct config *config)
{
    struct pair_policy *made = calloc(1, sizeof(*made));
    struct tls_client_options tls = {.version_min = 0x0303};
    char error[TABLE_ERROR_SIZE] = "";

    assert_non_null(made);
    made->routes = pair->routes != NULL ? load_routes(pair->routes) : NULL;
    made->policy =
        (struct outbound_policy){.config = config, .routes = {.config = config, .file = made->routes}};
    if (tls_client_new(&tls, &made->policy.tls, error, sizeof(error)) < 0)
        fail_msg("%s", error);
    assert_int_equal(classes_new(&made->classes), 0);
    made->policy.classes = made->classes;
    return made;
}

static void free_policy(struct pair_policy *made)
{
    tls_client_free(made->policy.tls);
    classes_free(made->classes);
    table_free(made->routes);
    free(made);
}

static void begin_outbound(struct pair_worker *worker)
{
    struct outbound_options options = {
        .loop = worker->loop,
        .policy = &worker->policy->policy,
        .log = worker->writer,
        .counters = &worker->counters,
        .pool = &worker->pool,
        .worker_index = worker->index,
        .worker_count = 2,
        .context = worker,
        .send_home = send_home,
        .hand_over = hand_over,
        .hand_to = hand_to,
        .ask = ask,
        .answer = answer,
        .is_local = is_local,
        .read_piece = read_piece,
        .site_backoff_ms = 5,
        .host_backoff_ms = 50,
        .probes = worker->pair->probes,
    };
    assert_int_equal(outbound_init(&worker->outbound, &options), 0);
}

static void begin_queue(struct pair_worker *worker)
{
    int64_t age_max_ms = worker->pair->age_max_ms;
    struct queue_options options = {
        .page_size = 64 * 1024,
        .memory_limit = 64 << 20,
        .writes_max = 4,
        .retry_count = 1,
        .retry_ms = {20},
        .entry_recipients = 64,
        .age_max_ms = age_max_ms != 0 ? age_max_ms : 432000000,
        .seed = worker->index + 1,
        .callbacks = &callbacks,
        .context = worker,
    };
    struct queue_recovery recovery;

    worker->disk_options = (struct disk_options){.seed = worker->index + 1,
                                                 .segment_size = 512 * 1024,
                                                 .slots_max = 200,
                                                 .latency_min_us = 50,
                                                 .latency_max_us = 100};
    disk_init(&worker->disk, &worker->disk_options);
    assert_int_equal(
        queue_open(&worker->disk.storage, &options, (int64_t)clock_wall_ms(), &recovery, &worker->queue), 0);
}

static void begin_worker(struct pair_worker *worker, const struct config *config)
{
    strcpy(worker->log_path, "/tmp/sluice-pair-XXXXXX");
    close(mkstemp(worker->log_path));
    assert_int_equal(loop_new(NULL, &worker->loop), 0);
    counters_init(&worker->counters);
    assert_int_equal(log_new(worker->log_path, LOG_TEXT, LOG_DEBUG, &worker->log), 0);
    assert_int_equal(log_writer_new(worker->log, &worker->counters, &worker->writer), 0);
    pool_init(&worker->pool, &worker->counters, SIZE_MAX);
    worker->policy = make_policy(worker->pair, config);
    begin_outbound(worker);
    begin_queue(worker);
    worker->hook.fn = on_turn;
    loop_add_hook(worker->loop, &worker->hook);
}

void pair_begin(struct pair *pair, const char *zone, const char *more)
{
    *pair = (struct pair){.age_max_ms = pair->age_max_ms, .routes = pair->routes, .names = peer_new()};
    peer_zone(pair->names, zone);
    assert_int_equal(probes_new(&pair->probes), 0);
    struct config *config = load(pair, more);
    for (uint32_t i = 0; i < 2; i++) {
        pair->workers[i].pair = pair;
        pair->workers[i].index = i;
        begin_worker(&pair->workers[i], config);
    }
}

static bool is_quiet(struct pair *pair)
{
    for (uint32_t i = 0; i < 2; i++) {
        struct pair_worker *worker = &pair->workers[i];
        if (!outbound_is_quiet(&worker->outbound) || worker->letter_count > 0 || worker->away > 0 ||
            !queue_idle(worker->queue))
            return false;
    }
    return true;
}

static void end_worker(struct pair_worker *worker)
{
    queue_close(worker->queue);
    worker->queue = NULL;
    outbound_deinit(&worker->outbound);
    disk_deinit(&worker->disk);
    assert_int_equal(worker->pool.used_bytes, 0);
    pool_deinit(&worker->pool);
    loop_free(worker->loop);
    log_free(worker->log);
    free_policy(worker->policy);
    unlink(worker->log_path);
}

void pair_end(struct pair *pair)
{
    for (uint32_t i = 0; i < 2; i++) {
        pair->workers[i].is_deaf = false;
        outbound_drain(&pair->workers[i].outbound);
    }
    pair_run_ms(pair, 5);
    for (uint32_t i = 0; i < 2; i++)
        outbound_stop(&pair->workers[i].outbound);
    pair_until(pair, is_quiet(pair));
    for (uint32_t i = 0; i < 2; i++)
        end_worker(&pair->workers[i]);
    probes_free(pair->probes);
    for (uint32_t i = 0; i < pair->config_count; i++)
        config_free(pair->configs[i]);
    peer_free(pair->names);
}

void pair_reload(struct pair *pair, uint32_t index, const char *more)
{
    struct pair_worker *worker = &pair->workers[index];
    struct pair_policy *old = worker->policy;

    worker->policy = make_policy(pair, load(pair, more));
    assert_int_equal(outbound_set_policy(&worker->outbound, &worker->policy->policy, true), 0);
    free_policy(old);
}
