/* A shard of the queue on its files. Owner thread, but for what spool.h and queue.h say. */
#pragma once

#include "gateway/base/config.h"
#include "gateway/base/log.h"
#include "gateway/base/pool.h"
#include "gateway/spool.h"
#include "queue/queue.h"

struct worker;

struct shard {
    struct spool spool;
    struct queue *queue; /* owner thread; as a name: any thread */
    struct worker *worker;
    uint32_t number;
};

/* All borrowed; config for the call alone. */
struct shard_options {
    const struct config *config;
    uint32_t shard_count; /* that share limits.memory */
    struct loop *loop;
    struct log_writer *log;
    struct pool *pool;
    const struct queue_callbacks *callbacks;
    void *context; /* of the callbacks */
};

/* Opens the shard `number`, reading what is there, and logs what was found. 0 or a negative errno:
 * -EMEDIUMTYPE when the files were written with another segment size, else as queue_open says. */
int shard_open(struct shard *shard, const struct shard_options *options) __attribute__((warn_unused_result));

/* Nothing is under way: see queue_idle. */
void shard_close(struct shard *shard);

/* The configuration's retry settings in the queue's words. */
void shard_retry_options(const struct config *config, struct queue_options *options);
