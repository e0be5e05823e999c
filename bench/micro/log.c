/* The log without a disk: what accepting, delivering and settling a message costs through queue/queue.h when
 * writes complete at once, and what the checksum costs in it. */
#include <stdlib.h>
#include <string.h>

#include "bench/micro/measure.h"
#include "queue/crc32c.h"
#include "queue/queue.h"

enum {
    BATCH = 64, /* messages in one write, as with 64 busy sessions */
    PENDING_MAX = 64,
};

/* A store that forgets everything at once. */
struct null_store {
    struct storage storage;
    struct storage_op *pending[PENDING_MAX];
    uint32_t count;
    uint64_t written; /* octets */
};

static struct null_store *store_of(struct storage *storage)
{
    return (struct null_store *)(void *)((char *)storage - offsetof(struct null_store, storage));
}

static int null_list(struct storage *storage, uint32_t *slots, uint32_t max)
{
    return 0;
}

static int64_t null_load(struct storage *storage, uint32_t slot, uint64_t offset, void *buffer, size_t size)
{
    return 0;
}

static void null_begin(struct null_store *store, struct storage_op *op)
{
    if (store->count == PENDING_MAX)
        abort();
    store->pending[store->count++] = op;
}

static void null_prepare(struct storage *storage, struct storage_op *op, uint32_t slot)
{
    null_begin(store_of(storage), op);
}

static void null_write(struct storage *storage, struct storage_op *op, uint32_t slot, uint64_t offset,
                       const void *buffer, size_t size, bool durable)
{
    store_of(storage)->written += size;
    null_begin(store_of(storage), op);
}

static void null_read(struct storage *storage, struct storage_op *op, uint32_t slot, uint64_t offset,
                      void *buffer, size_t size)
{
    abort(); /* there is memory enough: nothing has to be read back */
}

static int null_discard(struct storage *storage, uint32_t slot)
{
    return 0;
}

static const struct storage_methods null_methods = {
    .list = null_list,
    .load = null_load,
    .prepare = null_prepare,
    .write = null_write,
    .read = null_read,
    .discard = null_discard,
};

static void null_complete(struct null_store *store)
{
    while (store->count > 0) {
        struct storage_op *op = store->pending[--store->count];
        op->done(op, 0);
    }
}

struct bench {
    struct null_store store;
    struct queue *queue;
    struct queue_lane *lane;
    uint8_t *content;
    size_t content_size;
    uint32_t answered;
    uint64_t now_us;
    uint8_t recipient[128];
    uint32_t recipient_size;
};

static void lane_ready(void *context, struct queue_lane *lane)
{
    struct bench *bench = context;
    bench->lane = lane;
}

static void lane_gone(void *context, struct queue_lane *lane)
{
    struct bench *bench = context;
    bench->lane = NULL;
}

static void room(void *context)
{
}

static void state(void *context, enum queue_state state, int error)
{
}

static void committed(void *context, uint64_t id, int error)
{
    struct bench *bench = context;

    if (error)
        abort();
    bench->answered++;
}

static void turn(struct bench *bench)
{
    bench->now_us += 10;
    (void)queue_flush(bench->queue, bench->now_us);
    null_complete(&bench->store);
}

/* -EAGAIN here means that the next segment is being prepared, which takes one turn. */
static void accept_one(struct bench *bench)
{
    struct queue_draft *draft;
    size_t sent = 0;

    while (!(draft = queue_draft_new(bench->queue)))
        turn(bench);
    while (sent < bench->content_size) {
        int64_t taken = queue_draft_append(draft, bench->content + sent, bench->content_size - sent);
        if (taken > 0)
            sent += (size_t)taken;
        else
            turn(bench);
    }
    const struct queue_envelope envelope = {
        .meta = "<sender@example.com>",
        .meta_size = 20,
        .recipients = bench->recipient,
        .recipients_size = bench->recipient_size,
        .recipient_count = 1,
    };
    while (queue_draft_commit(draft, &envelope, 1, committed, bench) != 0)
        turn(bench);
}

static void taken(void *context, struct queue_delivery *delivery)
{
    struct queue_delivery **out = context;
    *out = delivery;
}

static void deliver_all(struct bench *bench)
{
    struct queue_delivery *delivery = NULL;

    while (bench->lane && queue_take(bench->lane, 1, NULL, taken, &delivery)) {
        if (delivery == NULL)
            abort();
        delivery->targets[0].outcome = QUEUE_DONE;
        queue_settle(delivery, 1);
        queue_release(delivery);
    }
}

static void batch(void *context)
{
    struct bench *bench = context;

    bench->answered = 0;
    for (uint32_t i = 0; i < BATCH; i++)
        accept_one(bench);
    while (bench->answered < BATCH)
        turn(bench);
    (void)queue_tick(bench->queue, 1);
    deliver_all(bench);
}

static const struct queue_callbacks callbacks = {
    .lane_ready = lane_ready,
    .lane_gone = lane_gone,
    .room = room,
    .state = state,
};

static void bench_queue(const char *name, size_t content_size)
{
    struct bench bench = {
        .store.storage = {.methods = &null_methods, .segment_size = 64 * 1024 * 1024},
        .content_size = content_size,
        .content = calloc(1, content_size + 1),
    };
    const struct queue_options options = {
        .page_size = QUEUE_PAGE_SIZE,
        .memory_limit = 256 * 1024 * 1024,
        .writes_max = 4,
        .retry_count = 1,
        .retry_ms = {60000},
        .entry_recipients = 64,
        .age_max_ms = 86400000,
        .callbacks = &callbacks,
        .context = &bench,
    };
    struct queue_recovery recovery;

    if (bench.content == NULL || queue_open(&bench.store.storage, &options, 1, &recovery, &bench.queue) != 0)
        abort();
    bench.recipient_size =
        (uint32_t)queue_recipient_encode(bench.recipient, "someone@example.org", 19, "example.org", 11);
    measure(name, batch, &bench, BATCH, content_size);
    printf("  (%.2f octets written for each octet of content)\n",
           (double)queue_stats(bench.queue).log_write_bytes /
               ((double)queue_stats(bench.queue).commits * (double)content_size));
    while (!queue_idle(bench.queue))
        turn(&bench);
    queue_close(bench.queue);
    free(bench.content);
}

static uint8_t block[65536];

static void crc_fast(void *context)
{
    measure_use(crc32c(0, block, *(const size_t *)context));
}

static void crc_portable(void *context)
{
    measure_use(crc32c_portable(0, block, *(const size_t *)context));
}

int main(void)
{
    size_t sizes[] = {64, 1024, 65536};

    for (size_t i = 0; i < sizeof(block); i++)
        block[i] = (uint8_t)(i * 31);
    for (size_t i = 0; i < 3; i++) {
        char name[64];
        snprintf(name, sizeof(name), "crc32c of %zu octets", sizes[i]);
        measure(name, crc_fast, &sizes[i], 1, sizes[i]);
    }
    measure("crc32c, portable, 65536 octets", crc_portable, &sizes[2], 1, sizes[2]);
    bench_queue("queue, 1 KB message", 1024);
    bench_queue("queue, 10 KB message", 10 * 1024);
    bench_queue("queue, 100 KB message", 100 * 1024);
    return 0;
}
