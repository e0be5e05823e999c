#include "gateway/control.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sysexits.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/privilege.h"
#include "gateway/version.h"
#include "gateway/worker.h"

enum {
    POLL_MS = 50,     /* how long a log line may wait to be written */
    PUBLISH_MS = 500, /* for the workers to bring their counters up to date */
    BIND_TRIES = 40,  /* for a port that is in use */
    BIND_PAUSE_US = 50000,
    POST_TRIES = 1000, /* a mailbox that stays full for a second has a dead owner */
};

struct old_config {
    struct config *config;
    struct old_config *next;
};

struct control {
    struct gateway gateway;
    const char *config_path;
    struct config *config;  /* in force */
    struct old_config *old; /* until every worker has left them */
    struct log_writer *log;
    int signals;
    bool started; /* there are worker threads */
    bool draining;
    bool stopping;
    uint32_t publishes; /* letters sent */
};

/* --- Talking to workers --- */

static void post_all(struct control *control, enum letter letter, void *content)
{
    for (uint32_t i = 0; i < control->gateway.worker_count; i++)
        for (int tries = 0; !worker_post(&control->gateway.workers[i], NULL, letter, content); tries++) {
            if (tries == POST_TRIES)
                break;
            usleep(1000);
        }
}

static bool all_quiet(const struct control *control)
{
    for (uint32_t i = 0; i < control->gateway.worker_count; i++)
        if (!atomic_load_explicit(&control->gateway.workers[i].quiet, memory_order_acquire))
            return false;
    return true;
}

static bool all_adopted(const struct control *control)
{
    for (uint32_t i = 0; i < control->gateway.worker_count; i++)
        if (atomic_load_explicit(&control->gateway.workers[i].adopted, memory_order_acquire) !=
            control->config)
            return false;
    return true;
}

static void free_old(struct control *control)
{
    if (!control->old || !all_adopted(control))
        return;
    while (control->old) {
        struct old_config *old = control->old;
        control->old = old->next;
        config_free(old->config);
        free(old);
    }
}

/* --- Signals --- */

static void reload_failed(struct control *control, const char *reason)
{
    struct log_line line;
    if (!log_begin(control->log, &line, LOG_RELOAD, LOG_ERROR))
        return;
    log_text(&line, "result", "refused");
    log_text(&line, "reason", reason);
    log_end(&line);
}

static void reload(struct control *control)
{
    struct config_error error;
    struct config *config = NULL;
    struct old_config *old = malloc(sizeof(*old));
    if (!old) {
        reload_failed(control, "out of memory");
        return;
    }
    if (config_load(control->config_path, &config, &error) < 0 ||
        config_reload_check(control->config, config, &error) < 0) {
        reload_failed(control, error.text);
        config_free(config);
        free(old);
        return;
    }
    int reopened =
        log_configure(control->gateway.log, config->log.destination, config->log.format, config->log.level);
    if (reopened == 0)
        reopened = log_reopen(control->gateway.log);
    *old = (struct old_config){control->config, control->old};
    control->old = old;
    control->config = config;
    post_all(control, LETTER_CONFIG, config);
    struct log_line line;
    if (!log_begin(control->log, &line, LOG_RELOAD, LOG_NOTICE))
        return;
    log_text(&line, "result", "taken");
    log_text(&line, "file", control->config_path);
    if (reopened < 0)
        log_errno(&line, "log_error", reopened);
    log_end(&line);
}

static void wait_published(const struct control *control)
{
    uint64_t until_us = clock_monotonic_us() + (uint64_t)PUBLISH_MS * 1000;
    for (uint32_t i = 0; i < control->gateway.worker_count; i++)
        while (atomic_load_explicit(&control->gateway.workers[i].published, memory_order_acquire) <
                   control->publishes &&
               clock_monotonic_us() < until_us)
            usleep(500);
}

static void stats(struct control *control)
{
    uint64_t sums[COUNTER_COUNT] = {0};
    struct log_line line;
    for (uint32_t i = 0; i < control->gateway.worker_count; i++)
        counters_sum(sums, &control->gateway.workers[i].counters);
    if (!log_begin(control->log, &line, LOG_STATS, LOG_NOTICE))
        return;
    log_u64(&line, "uptime_ms", clock_wall_ms() - control->gateway.start_wall_ms);
    log_u64(&line, "workers", control->gateway.worker_count);
    for (enum counter counter = 0; counter < COUNTER_COUNT; counter++)
        log_u64(&line, counter_name(counter), sums[counter]);
    log_end(&line);
}

static void stats_asked(struct control *control)
{
    control->publishes++;
    post_all(control, LETTER_PUBLISH, NULL);
    wait_published(control);
    stats(control);
}

static void terminate(struct control *control)
{
    struct log_line line;
    if (control->draining) {
        /* What was accepted is on disk; what was in flight will be sent again. */
        if (log_begin(control->log, &line, LOG_STOP, LOG_WARNING)) {
            log_text(&line, "reason", "told twice: not waiting for what is in flight");
            log_end(&line);
        }
        log_drain(control->gateway.log);
        _exit(EX_OK);
    }
    control->draining = true;
    if (log_begin(control->log, &line, LOG_DRAIN, LOG_NOTICE)) {
        log_u64(&line, "connections",
                atomic_load_explicit(&control->gateway.connections, memory_order_relaxed));
        log_end(&line);
    }
    post_all(control, LETTER_DRAIN, NULL);
}

static void hear_signals(struct control *control)
{
    struct signalfd_siginfo info;
    while (read(control->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGHUP && !control->draining)
            reload(control);
        else if (info.ssi_signo == SIGUSR1)
            stats_asked(control);
        else if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
            terminate(control);
    }
}

/* --- Starting --- */

static int complain(int code, const char *what, const char *about, int error)
{
    fprintf(stderr, "sluice: %s%s%s: %s\n", what, about[0] ? " " : "", about, strerror(-error));
    return code;
}

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

static int make_workers(struct control *control)
{
    int numbers[256];
    int cpu_count = cpus(numbers, 256);
    struct gateway *gateway = &control->gateway;
    gateway->worker_count = control->config->workers;
    if (gateway->worker_count == 0)
        gateway->worker_count = cpu_count > 0 ? (uint32_t)cpu_count : 1;
    int found = spool_count_shards(control->config->data_dir);
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

static int bind_all(struct control *control)
{
    char where[ADDRESS_TEXT_SIZE] = "";
    int error = bind_probe(control->config, where);
    /* The kernel takes a moment to let go of the sockets of a gateway that was killed. */
    for (int tries = 0; error == -EADDRINUSE && tries < BIND_TRIES; tries++) {
        usleep(BIND_PAUSE_US);
        error = bind_probe(control->config, where);
    }
    if (error)
        return complain(error == -EACCES ? EX_NOPERM : EX_OSERR, "cannot listen on", where, error);
    for (uint32_t i = 0; i < control->gateway.worker_count; i++) {
        error = bind_worker(&control->gateway.workers[i], control->config);
        if (error)
            return complain(EX_OSERR, "cannot listen", "", error);
    }
    return 0;
}

static int complain_queue(const struct config *config, int error)
{
    if (error == -EMEDIUMTYPE)
        fprintf(stderr,
                "sluice: the log in %s was written with another queue segment_size: set it as it was\n",
                config->data_dir);
    else if (error == -EPROTO)
        fprintf(stderr, "sluice: the log in %s was written by another version of sluice\n", config->data_dir);
    else
        return complain(EX_IOERR, "cannot open the queue in", config->data_dir, error);
    return EX_CONFIG;
}

/* 0, or the exit code. */
static int wait_started(struct control *control)
{
    for (uint32_t i = 0; i < control->gateway.worker_count; i++) {
        struct worker *worker = &control->gateway.workers[i];
        while (!atomic_load_explicit(&worker->ready, memory_order_acquire)) {
            int error = atomic_load_explicit(&worker->start_error, memory_order_acquire);
            if (error) {
                log_drain(control->gateway.log);
                return complain_queue(control->config, error);
            }
            log_drain(control->gateway.log);
            usleep(1000);
        }
    }
    return 0;
}

static int start_workers(struct control *control)
{
    control->started = true;
    for (uint32_t i = 0; i < control->gateway.worker_count; i++) {
        int error = worker_start(&control->gateway.workers[i], control->config);
        if (error) {
            fprintf(stderr, "sluice: cannot start a worker: %s\n", loop_error_text(error));
            return EX_OSERR;
        }
    }
    return wait_started(control);
}

static void tell_start(struct control *control)
{
    struct log_line line;
    if (log_begin(control->log, &line, LOG_START, LOG_NOTICE)) {
        log_text(&line, "version", SLUICE_VERSION);
        log_text(&line, "hostname", control->config->hostname);
        log_u64(&line, "workers", control->gateway.worker_count);
        log_text(&line, "data_dir", control->config->data_dir);
        log_bool(&line, "direct_io", control->gateway.shards[0].spool.direct);
        log_end(&line);
    }
    for (size_t i = 0; i < control->config->listener_count; i++)
        for (size_t b = 0; b < control->config->listeners[i].bind_count; b++)
            if (log_begin(control->log, &line, LOG_LISTEN, LOG_NOTICE)) {
                log_text(&line, "listener", control->config->listeners[i].name);
                log_addr(&line, "address", (const struct sockaddr *)&control->config->listeners[i].binds[b]);
                log_end(&line);
            }
}

static int open_signals(struct control *control)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGPIPE);
    /* Before any thread is made, so that all of them have it. */
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    sigdelset(&set, SIGPIPE);
    control->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return control->signals < 0 ? -errno : 0;
}

static int start(struct control *control)
{
    struct config *config = control->config;
    int error = open_signals(control);
    if (error)
        return complain(EX_OSERR, "cannot hear signals", "", error);
    privilege_raise_limits();
    error = privilege_data_dir(config);
    if (error == -EWOULDBLOCK) {
        fprintf(stderr, "sluice: another gateway runs on %s\n", config->data_dir);
        return EX_TEMPFAIL;
    }
    if (error)
        return complain(EX_IOERR, "cannot use data_dir", config->data_dir, error);
    error = log_new(config->log.destination, config->log.format, config->log.level, &control->gateway.log);
    if (error)
        return complain(EX_IOERR, "cannot log to", config->log.destination, error);
    control->log = log_control(control->gateway.log);
    error = make_workers(control);
    if (error)
        return complain(EX_OSERR, "cannot make workers", "", error);
    deal_shards(&control->gateway);
    int code = bind_all(control);
    if (code)
        return code;
    error = privilege_drop(config);
    if (error)
        return complain(EX_NOPERM, "cannot become user", config->user, error);
    return start_workers(control);
}

/* --- Running --- */

static void stop_workers(struct control *control)
{
    post_all(control, LETTER_STOP, NULL);
    atomic_store_explicit(&control->gateway.parting, true, memory_order_release);
    for (uint32_t i = 0; i < control->gateway.worker_count; i++) {
        pthread_join(control->gateway.workers[i].thread, NULL);
    }
    control->stopping = true;
}

static void run(struct control *control)
{
    struct pollfd poll_fd = {.fd = control->signals, .events = POLLIN};
    while (!control->stopping) {
        (void)poll(&poll_fd, 1, POLL_MS);
        hear_signals(control);
        free_old(control);
        log_drain(control->gateway.log);
        if (control->draining && all_quiet(control))
            stop_workers(control);
    }
}

static void control_deinit(struct control *control)
{
    log_free(control->gateway.log);
    free_old(control);
    config_free(control->config);
    for (uint32_t i = 0; control->gateway.workers && i < control->gateway.worker_count; i++)
        free(control->gateway.workers[i].listeners);
    free(control->gateway.workers);
    free(control->gateway.shards);
    if (control->signals >= 0)
        close(control->signals);
}

/* Some workers are up and some are not: what they made goes with the process. */
static _Noreturn void give_up(struct control *control, int code)
{
    atomic_store_explicit(&control->gateway.given_up, true, memory_order_relaxed);
    for (uint32_t i = 0; i < control->gateway.worker_count; i++)
        if (control->gateway.workers[i].has_thread)
            pthread_join(control->gateway.workers[i].thread, NULL);
    _exit(code);
}

int control_run(const char *config_path, struct config *config)
{
    struct control control = {
        .config_path = config_path,
        .config = config,
        .gateway = {.start_wall_ms = clock_wall_ms()},
        .signals = -1,
    };
    int code = start(&control);
    if (code && control.started)
        give_up(&control, code);
    if (code) {
        control_deinit(&control);
        return code;
    }
    tell_start(&control);
    run(&control);
    stats(&control);
    struct log_line line;
    if (log_begin(control.log, &line, LOG_STOP, LOG_NOTICE)) {
        log_u64(&line, "uptime_ms", clock_wall_ms() - control.gateway.start_wall_ms);
        log_end(&line);
    }
    control_deinit(&control);
    return EX_OK;
}
