#include "gateway/shard.h"

#include <string.h>
#include <unistd.h>

#include "gateway/base/clock.h"

enum {
    LOG_WRITES_MAX = 4,
    ENTRY_RECIPIENTS = 64,
};

static void *queue_alloc(void *context, size_t size)
{
    return pool_alloc(context, size);
}

static void queue_free(void *context, void *memory, size_t size)
{
    pool_free(context, memory, size);
}

void shard_retry_options(const struct config *config, struct queue_options *options)
{
    options->retry_count = 0;
    for (size_t i = 0; i < config->retry.schedule_count && i < QUEUE_RETRY_STEPS_MAX; i++)
        options->retry_ms[options->retry_count++] = (int64_t)config->retry.schedule_ms[i];
    options->entry_recipients = ENTRY_RECIPIENTS;
    for (size_t i = 0; i < config->site_limits_count; i++) {
        const struct config_limits *limits = &config->site_limits[i];
        if (limits->recipients_per_message < options->entry_recipients)
            options->entry_recipients = limits->recipients_per_message;
        if (limits->recipients_per_connection > 0 &&
            limits->recipients_per_connection < options->entry_recipients)
            options->entry_recipients = limits->recipients_per_connection;
    }
    options->retry_jitter_percent = config->retry.jitter_percent;
    options->age_max_ms = (int64_t)config->retry.max_age_ms;
}

static void log_recovery(struct log_writer *log, const struct shard *shard,
                         const struct queue_recovery *found, uint64_t took_us)
{
    struct log_line line;
    bool damage = found->damaged_batches || found->damaged_records || found->missing_segments;
    if (!log_begin(log, &line, LOG_RECOVER, damage ? LOG_ERROR : LOG_NOTICE))
        return;
    log_u64(&line, "shard", shard->number);
    log_u64(&line, "messages", found->messages);
    log_u64(&line, "recipients", found->recipients);
    log_u64(&line, "segments", found->segments);
    log_u64(&line, "bytes", found->bytes);
    log_u64(&line, "torn_tails", found->torn_tails);
    log_u64(&line, "damaged_batches", found->damaged_batches);
    log_u64(&line, "damaged_records", found->damaged_records);
    log_u64(&line, "missing_segments", found->missing_segments);
    log_u64(&line, "stale_segments", found->stale_segments);
    log_u64(&line, "foreign_slots", found->foreign_slots);
    log_bool(&line, "direct_io", shard->spool.direct);
    log_u64(&line, "took_ms", took_us / 1000);
    log_end(&line);
}

int shard_open(struct shard *shard, const struct shard_options *given)
{
    const struct config *config = given->config;
    struct queue_options options = {
        .shard = shard->number,
        .page_size = QUEUE_PAGE_SIZE,
        .memory_limit = config->limits.memory_bytes / given->shard_count,
        .writes_max = LOG_WRITES_MAX,
        .commit_delay_us = config->queue.commit_delay_us,
        .seed = clock_wall_us() ^ (uint64_t)getpid() << 40 ^ (uint64_t)shard->number << 56,
        .callbacks = given->callbacks,
        .context = given->context,
        .alloc = queue_alloc,
        .free = queue_free,
        .alloc_context = given->pool,
    };
    shard_retry_options(config, &options);
    struct spool_limits limits = {config->limits.min_free_disk_bytes, config->limits.min_free_disk_percent};
    uint64_t begin = clock_monotonic_us();
    int error =
        spool_init(&shard->spool, config->data_dir, shard->number, config->queue.segment_size_bytes, &limits);
    if (error)
        return error;
    spool_attach(&shard->spool, given->loop);
    struct queue_recovery found;
    error = queue_open(&shard->spool.storage, &options, (int64_t)clock_wall_ms(), &found, &shard->queue);
    if (error)
        return error;
    log_recovery(given->log, shard, &found, clock_monotonic_us() - begin);
    return 0;
}

void shard_close(struct shard *shard)
{
    queue_close(shard->queue);
    spool_deinit(&shard->spool);
}
