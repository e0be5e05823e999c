#include "tests/unit/inbound/world.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/rate_table.h"
#include "gateway/sasl/sasl.h"
#include "gateway/snapshot.h"

static const char usual_config[] = "hostname = \"relay.test\"\n"
                                   "listener \"smtp\" {\n"
                                   "  bind = {\"127.0.0.1:2525\"}\n"
                                   "  max_message_size = \"%s\"\n"
                                   "  max_recipients = 100\n"
                                   "  %s\n"
                                   "}\n"
                                   "relay { networks = {%s} domains = {\"example.com\"} %s }\n"
                                   "route \"example.com\" { to = \"smtp://127.0.0.1:2526\" }\n"
                                   "route \"example.net\" { to = \"smtp://127.0.0.1:2526\" }\n"
                                   "route \"relay.test\" { to = \"smtp://127.0.0.1:2526\" }\n"
                                   "%s";

static const uint8_t server_secret[SASL_SECRET_SIZE] = "what all workers know alike ....";

static const char *text_of(const char *text, const char *otherwise)
{
    return text != NULL ? text : otherwise;
}

static struct snapshot *load_snapshot(struct world *world, const struct world_config *wanted)
{
    char text[4096], reason[512] = "";
    const int size = snprintf(text, sizeof(text), usual_config, text_of(wanted->max_size, "64K"),
                              text_of(wanted->listener, ""), text_of(wanted->networks, "\"127.0.0.0/8\""),
                              text_of(wanted->relay, ""), text_of(wanted->more, ""));
    assert_true(size > 0 && (size_t)size < sizeof(text));
    struct config *config = NULL;
    struct snapshot *snapshot = NULL;
    struct config_error error = {{0}};
    if (config_load_text("test", text, &config, &error) != 0)
        fail_msg("%s", error.text);
    if (snapshot_new(config, NULL, world->writer, &snapshot, reason, sizeof(reason)) != 0)
        fail_msg("%s", reason);
    return snapshot;
}

/* Files that the next world will own. */
static char files[WORLD_FILES_MAX][64];
static size_t file_count;

const char *world_file(const char *text)
{
    assert_true(file_count < WORLD_FILES_MAX);
    char *path = files[file_count++];
    strcpy(path, "/tmp/sluice-inbound-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    return path;
}

static void take_files(struct world *world)
{
    memcpy(world->files, files, sizeof(files));
    world->file_count = file_count;
    file_count = 0;
}

/* --- Passwords --- */

/* On a thread of the hasher. */
static void on_checked(struct hasher_job *job)
{
    struct world *world = job->context;
    pthread_mutex_lock(&world->mutex);
    job->next = world->checked;
    world->checked = job;
    world->checker = pthread_self();
    pthread_mutex_unlock(&world->mutex);
}

static void bring_passwords(struct world *world)
{
    pthread_mutex_lock(&world->mutex);
    struct hasher_job *job = world->holds_checks ? NULL : world->checked;
    if (job != NULL)
        world->checked = NULL;
    pthread_mutex_unlock(&world->mutex);
    while (job != NULL) {
        struct hasher_job *next = job->next;
        world->checked_count++;
        inbound_password_checked(&world->inbound, job);
        job = next;
    }
}

/* --- The DNS --- */

static bool ask_null_mx(void *context, const char *domain, void (*answer)(void *asker, bool is_null),
                        void *asker)
{
    struct world *world = context;
    if (world->is_dns_closed)
        return false;
    assert_true(world->question_count < WORLD_QUESTIONS_MAX);
    struct world_question *question = &world->questions[world->question_count++];
    *question = (struct world_question){.answer = answer, .asker = asker};
    assert_true(strlen(domain) < sizeof(question->domain));
    strcpy(question->domain, domain);
    return true;
}

void world_answer(struct world *world, const char *domain, bool is_null)
{
    const struct world_question question = world->questions[0];
    assert_true(world->question_count > 0);
    assert_string_equal(question.domain, domain);
    world->question_count--;
    memmove(world->questions, world->questions + 1, world->question_count * sizeof(question));
    question.answer(question.asker, is_null);
}

static void on_room(void *context)
{
    inbound_room(context);
}

static void start_queue(struct world *world)
{
    fake_queue_init(&world->queue);
    world->queue.on_room = on_room;
    world->queue.context = &world->inbound;
}

struct world *world_new(const char *config_more)
{
    return world_new_with(&(struct world_config){.more = config_more});
}

struct world *world_new_with(const struct world_config *config)
{
    struct world *world = calloc(1, sizeof(*world));
    assert_non_null(world);
    const struct loop_options loop_options = {
        .sq_entries = 64, .cq_entries = 256, .receive_buffer_count = 64, .receive_buffer_size = 16384};
    assert_int_equal(loop_new(&loop_options, &world->loop), 0);
    loop_turn(world->loop, 0);
    strcpy(world->log_path, "/tmp/sluice-inbound-XXXXXX");
    int fd = mkstemp(world->log_path);
    assert_true(fd >= 0);
    close(fd);
    counters_init(&world->counters);
    assert_int_equal(log_new(world->log_path, LOG_TEXT, LOG_DEBUG, &world->log), 0);
    assert_int_equal(log_writer_new(world->log, &world->counters, &world->writer), 0);
    log_set_time(world->writer, clock_wall_us());
    pool_init(&world->pool, &world->counters, SIZE_MAX);
    start_queue(world);
    take_files(world);
    world->snapshot = load_snapshot(world, config);
    assert_int_equal(rate_table_new(4096, 1, &world->rates), 0);
    assert_int_equal(hasher_new(1, 4, &world->hasher), 0);
    pthread_mutex_init(&world->mutex, NULL);
    inbound_init(&world->inbound, &(struct inbound_options){
                                      .loop = world->loop,
                                      .queue = &world->queue,
                                      .policy = &world->snapshot->policy,
                                      .log = world->writer,
                                      .counters = &world->counters,
                                      .pool = &world->pool,
                                      .rates = world->rates,
                                      .hasher = world->hasher,
                                      .server_secret = server_secret,
                                      .password_checked = on_checked,
                                      .password_context = world,
                                      .ask_null_mx = ask_null_mx,
                                      .dns_context = world,
                                  });
    return world;
}

static void end_queue(struct world *world)
{
    world_wait_empty(world);
    assert_int_equal(counter_get(&world->counters, COUNTER_connections_open), 0);
    assert_int_equal(world->pool.used_bytes, 0);
    assert_int_equal(world->queue.drafts_open, 0);
    fake_queue_deinit(&world->queue);
}

void world_clear(struct world *world)
{
    end_queue(world);
    start_queue(world);
}

void world_free(struct world *world)
{
    end_queue(world);
    inbound_deinit(&world->inbound);
    hasher_free(world->hasher);
    pthread_mutex_destroy(&world->mutex);
    rate_table_free(world->rates);
    pool_deinit(&world->pool);
    loop_free(world->loop);
    snapshot_free(world->snapshot);
    log_free(world->log);
    unlink(world->log_path);
    for (size_t i = 0; i < world->file_count; i++)
        unlink(world->files[i]);
    free(world);
}

void world_reload(struct world *world, const char *config_more)
{
    world_reload_with(world, &(struct world_config){.more = config_more});
}

void world_reload_with(struct world *world, const struct world_config *config)
{
    struct snapshot *next = load_snapshot(world, config);
    inbound_set_policy(&world->inbound, &next->policy);
    snapshot_free(world->snapshot);
    world->snapshot = next;
}

void world_turn(struct world *world, uint64_t wait_us)
{
    /* Whoever got some room just now wants more as soon as the loop has seen to it. */
    loop_turn(world->loop, world->gave_room ? 0 : wait_us);
    bring_passwords(world);
    fake_queue_flush(&world->queue);
    world->gave_room = world->trickle > 0 && !list_is_empty(&world->inbound.waiting);
    if (world->gave_room)
        fake_queue_give_room(&world->queue, world->trickle);
}

void world_settle(struct world *world)
{
    for (int i = 0; i < 10; i++)
        world_turn(world, 1000);
}

void world_wait_empty(struct world *world)
{
    const uint64_t deadline_us = clock_monotonic_us() + 5000000;
    while (inbound_session_count(&world->inbound) > 0) {
        assert_true(clock_monotonic_us() < deadline_us);
        world_turn(world, 1000);
    }
}

void world_wait_checked(struct world *world, uint32_t count)
{
    const uint64_t deadline_us = clock_monotonic_us() + 5000000;
    while (world->checked_count < count) {
        assert_true(clock_monotonic_us() < deadline_us);
        world_turn(world, 1000);
    }
}

void expect_log(struct world *world, const char *text)
{
    const char *log = world_log(world);
    if (strstr(log, text) == NULL)
        fail_msg("no \"%s\" in:\n%s", text, log);
}

const char *world_log(struct world *world)
{
    static char text[1 << 16];
    log_drain(world->log);
    int fd = open(world->log_path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    const ssize_t size = read(fd, text, sizeof(text) - 1);
    assert_true(size >= 0);
    text[size] = '\0';
    close(fd);
    return text;
}

/* --- Messages --- */

const char *message_body(const struct fake_message *message, size_t *size)
{
    static const char first[] = "Received: from ";
    const char *at = message->content;
    const char *end = at + message->size;
    assert_true(message->size > sizeof(first));
    assert_memory_equal(at, first, sizeof(first) - 1);
    do {
        at = memmem(at, (size_t)(end - at), "\r\n", 2);
        assert_non_null(at);
        at += 2;
    } while (at < end && *at == '\t');
    *size = (size_t)(end - at);
    return at;
}

void expect_body(const struct fake_message *message, const char *text)
{
    size_t size = 0;
    const char *body = message_body(message, &size);
    assert_int_equal(size, strlen(text));
    assert_memory_equal(body, text, size);
}
