#include "gateway/control.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sysexits.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/rate_table.h"
#include "gateway/net/tls.h"
#include "gateway/outbound/probe.h"
#include "gateway/privilege.h"
#include "gateway/sasl/hasher.h"
#include "gateway/snapshot.h"
#include "gateway/start.h"
#include "gateway/version.h"
#include "gateway/worker.h"

enum {
    POLL_MS = 50,      /* how long a log line may wait to be written */
    PUBLISH_MS = 500,  /* for the workers to bring their counters up to date */
    POST_TRIES = 1000, /* a mailbox that stays full for a second has a dead owner */
    LOOK_MS = 1000,
};

struct control {
    struct gateway gateway;
    const char *config_path;
    const struct config *config; /* in force; the snapshot's, once there is one */
    struct snapshot *snapshot;   /* NULL until the start has come so far */
    struct snapshot *old;        /* until every worker has left them */
    struct tls_tickets *tickets;
    uint64_t next_look_us; /* at files that may have changed, and at the age of the ticket keys */
    struct log_writer *log;
    int signals;
    bool started; /* there are worker threads */
    bool draining;
    bool stopping;
    uint32_t publishes; /* letters sent */
};

/* --- Talking to workers --- */

/* Mailboxes do not stay full. */
static void post_config(struct control *control, struct snapshot *snapshot)
{
    for (uint32_t i = 0; i < control->gateway.worker_count; i++) {
        struct worker *worker = &control->gateway.workers[i];
        for (int tries = 0; tries < POST_TRIES && !worker_post(worker, NULL, LETTER_CONFIG, snapshot);
             tries++)
            usleep(1000);
    }
}

static void order_all(struct control *control, enum order order)
{
    for (uint32_t i = 0; i < control->gateway.worker_count; i++) {
        struct worker *worker = &control->gateway.workers[i];
        for (int tries = 0; tries < POST_TRIES && !worker_order(worker, order); tries++)
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
            control->snapshot)
            return false;
    return true;
}

static void free_old(struct control *control)
{
    if (!control->old || !all_adopted(control))
        return;
    while (control->old) {
        struct snapshot *old = control->old;
        control->old = old->next;
        snapshot_free(old);
    }
}

static void put_in_force(struct control *control, struct snapshot *snapshot)
{
    control->snapshot->next = control->old;
    control->old = control->snapshot;
    control->snapshot = snapshot;
    control->config = snapshot->policy.config;
    post_config(control, snapshot);
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
    struct snapshot *snapshot = NULL;
    if (config_load(control->config_path, &config, &error) < 0 ||
        config_reload_check(control->config, config, &error) < 0 ||
        snapshot_new(config, control->tickets, control->log, &snapshot, error.text, sizeof(error.text)) < 0) {
        reload_failed(control, error.text);
        config_free(config);
        return;
    }
    int reopened =
        log_configure(control->gateway.log, config->log.destination, config->log.format, config->log.level);
    if (reopened == 0)
        reopened = log_reopen(control->gateway.log);
    put_in_force(control, snapshot);
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
    order_all(control, ORDER_PUBLISH);
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
    order_all(control, ORDER_DRAIN);
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

static int complain_queue(const struct config *config, int error)
{
    if (error == -EMEDIUMTYPE)
        fprintf(stderr,
                "sluice: the log in %s was written with another queue segment_size: set it as it was\n",
                config->data_dir);
    else if (error == -EPROTO)
        fprintf(stderr, "sluice: the log in %s was written by another version of sluice\n", config->data_dir);
    else
        return start_complain(EX_IOERR, "cannot open the queue in", config->data_dir, error);
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
        int error = worker_start(&control->gateway.workers[i], control->snapshot);
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

/* After the privileges are gone: what cannot be read now cannot be read at a reload either. */
static int make_snapshot(struct control *control, struct config *config)
{
    char error[512];
    control->tickets = tls_tickets_new();
    if (!control->tickets)
        return start_complain(EX_OSERR, "cannot make ticket keys", "", -ENOMEM);
    tls_tickets_rotate(control->tickets, clock_monotonic_us() / 1000);
    if (snapshot_new(config, control->tickets, control->log, &control->snapshot, error, sizeof(error)) == 0)
        return 0;
    fprintf(stderr, "sluice: %s\n", error);
    return EX_CONFIG;
}

static int start(struct control *control, struct config *config)
{
    int error = open_signals(control);
    if (error)
        return start_complain(EX_OSERR, "cannot hear signals", "", error);
    privilege_raise_limits();
    error = privilege_data_dir(config);
    if (error == -EWOULDBLOCK) {
        fprintf(stderr, "sluice: another gateway runs on %s\n", config->data_dir);
        return EX_TEMPFAIL;
    }
    if (error)
        return start_complain(EX_IOERR, "cannot use data_dir", config->data_dir, error);
    error = log_new(config->log.destination, config->log.format, config->log.level, &control->gateway.log);
    if (error)
        return start_complain(EX_IOERR, "cannot log to", config->log.destination, error);
    control->log = log_control(control->gateway.log);
    error = start_make_workers(&control->gateway, config);
    if (error)
        return start_complain(EX_OSERR, "cannot make workers", "", error);
    int code = start_bind(&control->gateway, config);
    if (code)
        return code;
    error = privilege_drop(config);
    if (error)
        return start_complain(EX_NOPERM, "cannot become user", config->user, error);
    error = start_make_shared(&control->gateway, config);
    if (error)
        return start_complain(EX_OSERR, "cannot start", "", error);
    code = make_snapshot(control, config);
    return code ? code : start_workers(control);
}

/* --- Running --- */

static void stop_workers(struct control *control)
{
    order_all(control, ORDER_STOP);
    atomic_store_explicit(&control->gateway.parting, true, memory_order_release);
    for (uint32_t i = 0; i < control->gateway.worker_count; i++) {
        pthread_join(control->gateway.workers[i].thread, NULL);
    }
    control->stopping = true;
}

/* Once a second: files that are looked things up in, and the age of the ticket keys. */
static void look_around(struct control *control)
{
    const uint64_t now_us = clock_monotonic_us();
    if (now_us < control->next_look_us)
        return;
    control->next_look_us = now_us + (uint64_t)LOOK_MS * 1000;
    tls_tickets_rotate(control->tickets, now_us / 1000);
    struct snapshot *renewed = control->draining ? NULL : snapshot_renew(control->snapshot, control->log);
    if (renewed)
        put_in_force(control, renewed);
}

static void run(struct control *control)
{
    struct pollfd poll_fd = {.fd = control->signals, .events = POLLIN};
    while (!control->stopping) {
        (void)poll(&poll_fd, 1, POLL_MS);
        hear_signals(control);
        look_around(control);
        free_old(control);
        log_drain(control->gateway.log);
        if (control->draining && all_quiet(control))
            stop_workers(control);
    }
}

static void control_deinit(struct control *control)
{
    hasher_free(control->gateway.hasher);
    log_free(control->gateway.log);
    free_old(control);
    snapshot_free(control->snapshot);
    tls_tickets_free(control->tickets);
    rate_table_free(control->gateway.rates);
    rate_table_free(control->gateway.notice_rates);
    probes_free(control->gateway.probes);
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
    int code = start(&control, config);
    if (code && control.started)
        give_up(&control, code);
    if (code) {
        if (!control.snapshot)
            config_free(config);
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
