/* Together with a real queue over a store in memory: lanes, riding along, retries, expiry, handing over. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/clock.h"
#include "gateway/message/envelope.h"
#include "tests/unit/outbound/peer.h"
#include "tests/unit/outbound/world.h"

#define SCRIPT(...)                                                                                          \
    (const char *const[])                                                                                    \
    {                                                                                                        \
        __VA_ARGS__, NULL                                                                                    \
    }
#define SCRIPTS(...)                                                                                         \
    (const char *const *const[])                                                                             \
    {                                                                                                        \
        __VA_ARGS__, NULL                                                                                    \
    }
#define HELLO "S: 220 peer.test", "C: EHLO relay.test", "S: 250-peer.test", "S: 250 PIPELINING"
#define BYE   "C: QUIT", "S: 221 bye", "E"

enum { SLOTS = 16, SEGMENT_SIZE = 1 << 20, PENDING_MAX = 64 };

static const char quick[] = "site \"default\" { connections = 1 }\ntimeouts { outbound_idle = \"0\" }";
static const char patient[] = "site \"default\" { connections = 1 }\ntimeouts { outbound_idle = \"300ms\" }";

/* --- A store whose operations end in the next turn --- */

static struct {
    struct storage storage;
    char *slots[SLOTS];
    struct storage_op *pending[PENDING_MAX];
    uint32_t pending_count;
} disk;

static void later(struct storage_op *op)
{
    assert_true(disk.pending_count < PENDING_MAX);
    disk.pending[disk.pending_count++] = op;
}

static bool finish_operations(void)
{
    struct storage_op *ended[PENDING_MAX];
    uint32_t count = disk.pending_count;

    memcpy(ended, disk.pending, sizeof(ended));
    disk.pending_count = 0;
    for (uint32_t i = 0; i < count; i++)
        ended[i]->done(ended[i], 0);
    return count > 0;
}

static int disk_list(struct storage *storage, uint32_t *slots, uint32_t max)
{
    return 0;
}

static int64_t disk_load(struct storage *storage, uint32_t slot, uint64_t offset, void *buffer, size_t size)
{
    return -ENOENT;
}

static void disk_prepare(struct storage *storage, struct storage_op *op, uint32_t slot)
{
    assert_true(slot < SLOTS);
    if (disk.slots[slot] == NULL)
        disk.slots[slot] = calloc(1, SEGMENT_SIZE);
    later(op);
}

static void disk_write(struct storage *storage, struct storage_op *op, uint32_t slot, uint64_t offset,
                       const void *buffer, size_t size, bool durable)
{
    memcpy(disk.slots[slot] + offset, buffer, size);
    later(op);
}

static void disk_read(struct storage *storage, struct storage_op *op, uint32_t slot, uint64_t offset,
                      void *buffer, size_t size)
{
    memcpy(buffer, disk.slots[slot] + offset, size);
    later(op);
}

static int disk_discard(struct storage *storage, uint32_t slot)
{
    free(disk.slots[slot]);
    disk.slots[slot] = NULL;
    return 0;
}

static const struct storage_methods disk_methods = {disk_list,  disk_load, disk_prepare,
                                                    disk_write, disk_read, disk_discard};

/* --- A worker with a shard --- */

static struct world world;
static struct peer peer;
static struct queue *queue;
static struct loop_hook queue_hook;
static uint32_t committed_count;
static struct queue_delivery *handed[8];
static uint32_t handed_count;

static bool is_local(void *context, const struct queue *shard)
{
    return shard == queue;
}

static bool hand_over(void *context, uint32_t site_index, struct queue_delivery *delivery)
{
    assert_int_equal(site_index, 0);
    if (handed_count == 2)
        return false;
    handed[handed_count++] = delivery;
    return true;
}

static void lane_ready(void *context, struct queue_lane *lane)
{
    outbound_lane_ready(&world.outbound, lane);
}

static void lane_gone(void *context, struct queue_lane *lane)
{
    outbound_lane_gone(&world.outbound, lane);
}

static void drive(struct loop_hook *hook)
{
    if (queue == NULL)
        return;
    if (finish_operations())
        loop_wake_within(world.loop, 0);
    (void)queue_tick(queue, (int64_t)clock_wall_ms());
    outbound_sweep(&world.outbound, queue, 10000);
    (void)queue_flush(queue, clock_monotonic_us());
    loop_wake_within(world.loop, 1000);
}

static void open_queue(int64_t age_max_ms)
{
    static const struct queue_callbacks callbacks = {.lane_ready = lane_ready, .lane_gone = lane_gone};
    struct queue_options options = {
        .page_size = 64 * 1024,
        .memory_limit = 64 << 20,
        .writes_max = 1,
        .retry_count = 1,
        .retry_ms = {30},
        .entry_recipients = 64,
        .age_max_ms = age_max_ms,
        .seed = 1,
        .callbacks = &callbacks,
    };
    struct queue_recovery recovery;

    disk.storage = (struct storage){.methods = &disk_methods, .segment_size = SEGMENT_SIZE};
    assert_int_equal(queue_open(&disk.storage, &options, (int64_t)clock_wall_ms(), &recovery, &queue), 0);
}

static void begin(const uint16_t *ports, const char *more, int64_t age_max_ms)
{
    committed_count = handed_count = 0;
    queue = NULL;
    world_init(&world, ports, more);
    queue_hook = (struct loop_hook){.fn = drive};
    loop_add_hook(world.loop, &queue_hook);
    world.outbound.options.is_local = is_local;
    open_queue(age_max_ms);
}

static void end(void)
{
    outbound_stop(&world.outbound);
    world_run_closed(&world);
    assert_int_equal(queue_stats(queue).messages, 0);
    while (!queue_idle(queue))
        loop_turn(world.loop, 1000);
    queue_close(queue);
    queue = NULL;
    world_deinit(&world);
    for (uint32_t i = 0; i < SLOTS; i++) {
        free(disk.slots[i]);
        disk.slots[i] = NULL;
    }
}

static void committed(void *context, uint64_t id, int error)
{
    assert_int_equal(error, 0);
    committed_count++;
}

/* Accepts a message to addresses that end with NULL, and waits until it is durable. */
static void take_in(const char *const *to)
{
    static const char content[] = "Subject: x\r\n\r\nhello\r\n";
    struct envelope sender = {.sender = SMTP_SLICE("a@from.test")};
    char meta[ENVELOPE_SIZE_MAX];
    char recipients[1024];
    struct queue_envelope envelope = {.meta = meta, .recipients = recipients};
    struct queue_draft *draft = queue_draft_new(queue);
    uint32_t before = committed_count;

    assert_non_null(draft);
    while (queue_draft_append(draft, content, sizeof(content) - 1) == -EAGAIN)
        loop_turn(world.loop, 1000);
    envelope.meta_size = (uint32_t)envelope_encode(&sender, meta);
    for (; *to != NULL; to++, envelope.recipient_count++) {
        const char *domain = strchr(*to, '@') + 1;
        envelope.recipients_size += (uint32_t)queue_recipient_encode(
            recipients + envelope.recipients_size, *to, strlen(*to), domain, strlen(domain));
    }
    while (queue_draft_commit(draft, &envelope, (int64_t)clock_wall_ms(), committed, NULL) == -EAGAIN)
        loop_turn(world.loop, 1000);
    while (committed_count == before)
        loop_turn(world.loop, 1000);
}

static void run_until_empty(void)
{
    uint64_t until_us = clock_monotonic_us() + 10000000;

    while (queue_stats(queue).messages > 0) {
        if (clock_monotonic_us() > until_us)
            fail_msg("the queue does not get empty; log:\n%s", world_log(&world));
        loop_turn(world.loop, 1000);
    }
}

static void check_peer(void)
{
    peer_stop(&peer);
    if (peer.failure[0] != 0)
        fail_msg("%s", peer.failure);
}

/* --- Tests --- */

static void recipients_of_one_site_ride_together(void **state)
{
    static const char *const to[] = {"b@one.test", "c@two.test", NULL};

    peer_start(&peer,
               SCRIPTS(SCRIPT(HELLO, "=", "C: MAIL FROM:<a@from.test>", "C: RCPT TO:<b@one.test>",
                              "C: RCPT TO:<c@two.test>", "C: DATA", "S: 250 ok", "S: 250 ok", "S: 250 ok",
                              "S: 354 go", "=", "D", "A: 250 ok", "=", BYE)),
               SIZE_MAX);
    begin((uint16_t[]){peer.port, 0}, quick, 1000000);
    take_in(to);
    run_until_empty();
    world_run_closed(&world);
    assert_int_equal(counter_get(&world.counters, COUNTER_recipients_delivered), 2);
    assert_int_equal(counter_get(&world.counters, COUNTER_messages_delivered), 1);
    end();
    check_peer();
}

static void only_the_deferred_recipient_is_tried_again(void **state)
{
    static const char *const to[] = {"b@one.test", "c@two.test", NULL};

    peer_start(&peer,
               SCRIPTS(SCRIPT(HELLO, "C~ MAIL", "C: RCPT TO:<b@one.test>", "C: RCPT TO:<c@two.test>",
                              "C: DATA", "S: 250 ok", "S: 250 ok", "S: 451 later", "S: 354 go", "D",
                              "A: 250 ok", "C~ MAIL", "C: RCPT TO:<c@two.test>", "C: DATA", "S: 250 ok",
                              "S: 250 ok", "S: 354 go", "D", "A: 250 ok", BYE)),
               SIZE_MAX);
    begin((uint16_t[]){peer.port, 0}, patient, 1000000);
    take_in(to);
    run_until_empty();
    world_run_closed(&world);
    assert_non_null(strstr(world_log(&world), "attempt=2"));
    end();
    check_peer();
}

/* The first line of the event says who sent the message; notices, which nobody sent, come later. */
static void assert_names_sender(const char *event)
{
    const char *line = strstr(world_log(&world), event);
    assert_non_null(line);
    const char *from = strstr(line, "from=");
    assert_non_null(from);
    assert_int_not_equal(strncmp(from, "from=<>", 7), 0);
}

static void old_mail_for_a_dead_site_expires(void **state)
{
    static const char *const to[] = {"b@one.test", NULL};

    begin((uint16_t[]){peer_dead_port(), 0}, quick, 50);
    take_in(to);
    run_until_empty();
    assert_int_equal(counter_get(&world.counters, COUNTER_expired), 1 + 1); /* and its notice */
    assert_names_sender("expire id=");
    end();
}

static void a_closing_peer_gets_the_untried_message_next(void **state)
{
    static const char *const to[] = {"b@one.test", NULL};

    peer_start(&peer,
               SCRIPTS(SCRIPT(HELLO, "C~ MAIL", "C~ RCPT", "C: DATA", "S: 250 ok", "S: 250 ok", "S: 354 go",
                              "D", "A: 250 ok", "C~ MAIL", "S: 421 4.3.2 enough", "E"),
                       SCRIPT(HELLO, "C~ MAIL", "C~ RCPT", "C: DATA", "S: 250 ok", "S: 250 ok", "S: 354 go",
                              "D", "A: 250 ok", BYE)),
               SIZE_MAX);
    begin((uint16_t[]){peer.port, 0}, patient, 1000000);
    take_in(to);
    take_in(to);
    run_until_empty();
    world_run_closed(&world);
    assert_int_equal(counter_get(&world.counters, COUNTER_recipients_delivered), 2);
    end();
    check_peer();
}

static void without_a_share_all_is_handed_over(void **state)
{
    static const char *const to[] = {"b@one.test", NULL};

    begin((uint16_t[]){peer_dead_port(), 0}, quick, 1000000);
    world.outbound.options.worker_count = 2;
    world.outbound.options.worker_index = 1; /* of one connection the first worker has it */
    world.outbound.options.hand_over = hand_over;
    world_reload(&world, (uint16_t[]){peer_dead_port(), 0}, quick);
    for (uint32_t i = 0; i < 3; i++)
        take_in(to);
    world_run_ms(&world, 50);
    assert_int_equal(handed_count, 2); /* then nobody had room, and the third waits */
    assert_int_equal(outbound_session_count(&world.outbound), 0);
    for (uint32_t i = 0; i < 3; i++) {
        handed[0]->targets[0].outcome = QUEUE_DONE;
        outbound_come_home(&world.outbound, handed[0]);
        handed[0] = handed[1];
        handed_count--;
        world_run_ms(&world, 50);
    }
    assert_int_equal(queue_stats(queue).messages, 0);
    end();
}

static void domain_without_route_is_deferred(void **state)
{
    static const char *const to[] = {"b@one.test", NULL};
    struct config *config = NULL;
    struct config_error error;

    begin((uint16_t[]){peer_dead_port(), 0}, quick, 50);
    assert_int_equal(
        config_load_text("test",
                         "hostname = \"relay.test\"\nlistener \"l\" { bind = {\"127.0.0.1:2525\"} }\n"
                         "route \"other.test\" { to = \"smtp://127.0.0.1:9\" }\n",
                         &config, &error),
        0);
    world_take(&world, config);
    take_in(to);
    run_until_empty();
    assert_non_null(strstr(world_log(&world), "4.4.4 no route to the domain"));
    end();
}

static bool hand_over_to_nobody(void *context, uint32_t site_index, struct queue_delivery *delivery)
{
    return false;
}

static void what_nobody_took_is_sent_from_here_after_a_reload(void **state)
{
    static const char *const to[] = {"b@one.test", NULL};

    begin((uint16_t[]){peer_dead_port(), 0}, quick, 50);
    world.outbound.options.worker_count = 2;
    world.outbound.options.worker_index = 1;
    world.outbound.options.hand_over = hand_over_to_nobody;
    world_reload(&world, (uint16_t[]){peer_dead_port(), 0}, quick);
    take_in(to);
    world_run_ms(&world, 50);
    assert_int_equal(counter_get(&world.counters, COUNTER_deferred), 0);
    world_reload(&world, (uint16_t[]){peer_dead_port(), 0}, "site \"default\" { connections = 2 }");
    run_until_empty();
    assert_names_sender("defer id=");
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recipients_of_one_site_ride_together),
        cmocka_unit_test(only_the_deferred_recipient_is_tried_again),
        cmocka_unit_test(old_mail_for_a_dead_site_expires),
        cmocka_unit_test(a_closing_peer_gets_the_untried_message_next),
        cmocka_unit_test(without_a_share_all_is_handed_over),
        cmocka_unit_test(domain_without_route_is_deferred),
        cmocka_unit_test(what_nobody_took_is_sent_from_here_after_a_reload),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
