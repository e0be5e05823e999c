#include "gateway/start.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sysexits.h>
#include <unistd.h>

#include "gateway/base/rate_table.h"
#include "gateway/outbound/probe.h"
#include "gateway/sasl/hasher.h"
#include "gateway/worker.h"

enum {
    BIND_TRIES = 40, /* for a port that is in use */
    BIND_PAUSE_US = 50000,
    HASHER_THREADS = 2,
    HASHER_QUEUE_MAX = 256, /* logins that wait: at some milliseconds each, for a second or two */
    RATE_ENTRIES_MIN = 1 << 14,
    NOTICE_RATE_ENTRIES = 1 << 12,
    RATE_ENTRIES_MAX = 1 << 20,
};

int start_complain(int code, const char *what, const char *about, int error)
{
    fprintf(stderr, "sluice: %s%s%s: %s\n", what, about[0] ? " " : "", about, strerror(-error));
    return code;
}

/* --- Workers --- */

static int cpus(int *numbers, int max)
{
    cpu_set_t set;
    int count = 0;
    if (sched_getaffinity(0, sizeof(set), &set) < 0)
        return 0;
    for (int cpu = 0; cpu < CPU_SETSIZE && count < max; cpu++)
        if (CPU_ISSET(cpu, &set))
            numbers[count++] = cpu;
    return count;
}

static int make_workers(struct gateway *gateway, const struct config *config)
{
    int numbers[256];
    int cpu_count = cpus(numbers, 256);
    gateway->worker_count = config->workers;
    if (gateway->worker_count == 0)
        gateway->worker_count = cpu_count > 0 ? (uint32_t)cpu_count : 1;
    int found = spool_count_shards(config->data_dir);
    if (found < 0)
        return found;
    gateway->shard_count = (uint32_t)found > gateway->worker_count ? (uint32_t)found : gateway->worker_count;
    gateway->workers = aligned_alloc(64, gateway->worker_count * sizeof(struct worker));
    gateway->shards = calloc(gateway->shard_count, sizeof(struct shard));
    if (!gateway->workers || !gateway->shards)
        return -ENOMEM;
    memset(gateway->workers, 0, gateway->worker_count * sizeof(struct worker));
    for (uint32_t i = 0; i < gateway->worker_count; i++) {
        struct worker *worker = &gateway->workers[i];
        worker->gateway = gateway;
        worker->index = i;
        worker->cpu = (uint32_t)cpu_count >= gateway->worker_count ? numbers[i] : -1;
        int error = log_writer_new(gateway->log, &worker->counters, &worker->log);
        if (error)
            return error;
    }
    return 0;
}

/* Shard i belongs to worker i modulo their number: the first of each worker takes new mail, and those beyond,
 * which a run with more workers left, are emptied. They lie beside each other for each worker. */
static void deal_shards(struct gateway *gateway)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < gateway->worker_count; i++) {
        struct worker *worker = &gateway->workers[i];
        worker->shards = &gateway->shards[at];
        for (uint32_t number = i; number < gateway->shard_count; number += gateway->worker_count) {
            gateway->shards[at].worker = worker;
            gateway->shards[at].number = number;
            worker->shard_count++;
            at++;
        }
    }
    assert(at == gateway->shard_count);
}

int start_make_workers(struct gateway *gateway, const struct config *config)
{
    const int error = make_workers(gateway, config);
    if (error == 0)
        deal_shards(gateway);
    return error;
}

/* --- Ports --- */

static uint32_t bind_count(const struct config *config)
{
    uint32_t count = 0;
    for (size_t i = 0; i < config->listener_count; i++)
        count += (uint32_t)config->listeners[i].bind_count;
    return count;
}

static int bind_worker(struct worker *worker, const struct config *config)
{
    worker->listeners = calloc(bind_count(config), sizeof(*worker->listeners));
    if (!worker->listeners)
        return -ENOMEM;
    for (size_t i = 0; i < config->listener_count; i++)
        for (size_t b = 0; b < config->listeners[i].bind_count; b++) {
            const struct sockaddr_storage *address = &config->listeners[i].binds[b];
            int fd = listener_open_socket((const struct sockaddr *)address,
                                          address_size((const struct sockaddr *)address));
            if (fd < 0)
                return fd;
            worker->listeners[worker->listener_count++] =
                (struct worker_listener){.worker = worker, .index = (uint32_t)i, .fd = fd};
        }
    return 0;
}

/* SO_REUSEPORT would let a second gateway of the same user share our ports unnoticed: bind once without it
 * first. */
static int bind_probe(const struct config *config, char where[ADDRESS_TEXT_SIZE])
{
    for (size_t i = 0; i < config->listener_count; i++)
        for (size_t b = 0; b < config->listeners[i].bind_count; b++) {
            const struct sockaddr_storage *address = &config->listeners[i].binds[b];
            address_format((const struct sockaddr *)address, where);
            int fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
            if (fd < 0)
                return -errno;
            int one = 1;
            int error = 0;
            if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
                (address->ss_family == AF_INET6 &&
                 setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) < 0) ||
                bind(fd, (const struct sockaddr *)address, address_size((const struct sockaddr *)address)) <
                    0)
                error = -errno;
            close(fd);
            if (error)
                return error;
        }
    return 0;
}

int start_bind(struct gateway *gateway, const struct config *config)
{
    char where[ADDRESS_TEXT_SIZE] = "";
    int error = bind_probe(config, where);
    /* The kernel takes a moment to let go of the sockets of a gateway that was killed. */
    for (int tries = 0; error == -EADDRINUSE && tries < BIND_TRIES; tries++) {
        usleep(BIND_PAUSE_US);
        error = bind_probe(config, where);
    }
    if (error)
        return start_complain(error == -EACCES ? EX_NOPERM : EX_OSERR, "cannot listen on", where, error);
    for (uint32_t i = 0; i < gateway->worker_count; i++) {
        error = bind_worker(&gateway->workers[i], config);
        if (error)
            return start_complain(EX_OSERR, "cannot listen", "", error);
    }
    return 0;
}

/* --- What they share --- */

/* What all workers share, but for the log and the shards. */
int start_make_shared(struct gateway *gateway, const struct config *config)
{
    uint32_t entries = RATE_ENTRIES_MIN;
    uint64_t seed = 0;
    while (entries < RATE_ENTRIES_MAX && entries / RATE_BUCKET_ENTRIES < config->limits.connections)
        entries *= 2;
    if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed) ||
        getrandom(gateway->server_secret, SASL_SECRET_SIZE, 0) != SASL_SECRET_SIZE)
        return -errno;
    int error = rate_table_new(entries, seed, &gateway->rates);
    if (!error)
        error = rate_table_new(NOTICE_RATE_ENTRIES, ~seed, &gateway->notice_rates);
    if (!error)
        error = probes_new(&gateway->probes);
    return error ? error : hasher_new(HASHER_THREADS, HASHER_QUEUE_MAX, &gateway->hasher);
}
