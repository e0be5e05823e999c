// The sink's command line, its control socket, and its last words: see sink.h, and bench/README.md for how it
// is used.
#include "bench/sink.h"
#include "bench/tool.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

struct options {
    const char *control;
    const char *tell; // said to a sink that runs
    const char *series;
    uint32_t threads;
    uint32_t interval_ms;
    bool is_punctual; // before all others on its CPU: what it notes is when things came
};

enum { SIGNALS, CLOCK, CONTROL, SOURCES, REQUEST_MAX = 4096 };

uint64_t sink_now_ns(void)
{
    return tool_now_ns();
}

void sink_die(const char *what)
{
    fprintf(stderr, "sink: %s: %s\n", what, strerror(errno));
    exit(EX_OSERR);
}

static _Noreturn void usage(const char *wrong)
{
    if (wrong != NULL)
        fprintf(stderr, "sink: what is %s?\n", wrong);
    fputs("usage: sink [--threads N] [--control SOCKET] [--series FILE] [--interval-ms N] [--numbers N] "
          "[--slack-ms N]\n"
          "            NAME=ADDRESS[-ADDRESS][:PORT][,KEY=VALUE]...\n"
          "       sink --control SOCKET --tell REQUEST\n"
          "keys: mode (ok, dead, reset, busy), connections, host_connections, connect_rate, rate, messages, "
          "recipients,\n"
          "      delay_ms, pipelining, chunking, overlap\n",
          stderr);
    exit(EX_USAGE);
}

// --- Requests: "stats", or "set NAME KEY=VALUE..." with * for all groups; one a connection, answered at its
// end ---

static bool set(struct sink *sink, char *words)
{
    char *rest;
    const char *name = strtok_r(words, " \n", &rest);
    if (name == NULL)
        return false;
    for (char *word; (word = strtok_r(NULL, " \n", &rest)) != NULL;) {
        bool any = false;
        for (uint32_t index = 0; index < sink->group_count; index++) {
            struct sink_group *group = &sink->groups[index];
            if (strcmp(name, "*") != 0 && strcmp(name, group->name) != 0)
                continue;
            if (!sink_group_set(group, word))
                return false;
            any = true;
        }
        if (!any)
            return false;
    }
    return true;
}

static void answer(struct sink *sink, int listener)
{
    char request[REQUEST_MAX];
    size_t size = 0;
    ssize_t got;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    while (size < sizeof(request) - 1 && (got = read(fd, request + size, sizeof(request) - 1 - size)) > 0) {
        size += (size_t)got;
        if (memchr(request, '\n', size) != NULL)
            break;
    }
    request[size] = '\0';
    FILE *out = fdopen(fd, "w");
    if (out == NULL)
        sink_die("control");
    if (strncmp(request, "stats", strlen("stats")) == 0)
        sink_print(sink, out);
    else if (strncmp(request, "set ", strlen("set ")) == 0 && set(sink, request + strlen("set ")))
        (void)fputs("ok\n", out);
    else
        (void)fputs("what?\n", out);
    (void)fclose(out);
}

static struct sockaddr_un control_address(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path))
        usage(path);
    strcpy(address.sun_path, path);
    return address;
}

static int listen_for_control(const char *path)
{
    struct sockaddr_un address = control_address(path);
    (void)unlink(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 16) < 0)
        sink_die(path);
    return fd;
}

// The other side: says one request, prints the answer.
static int tell(const char *path, const char *request)
{
    struct sockaddr_un address = control_address(path);
    char answer[REQUEST_MAX];
    ssize_t got;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
        dprintf(fd, "%s\n", request) < 0)
        sink_die(path);
    while ((got = read(fd, answer, sizeof(answer))) > 0)
        (void)fwrite(answer, 1, (size_t)got, stdout);
    return EX_OK;
}

// --- Until SIGTERM ---

static int open_signals(const sigset_t *signals)
{
    int fd = signalfd(-1, signals, SFD_CLOEXEC);
    if (fd < 0)
        sink_die("signals");
    return fd;
}

static int open_clock(uint32_t interval_ms)
{
    struct timespec interval = {.tv_sec = interval_ms / 1000,
                                .tv_nsec = (long)(interval_ms % 1000) * 1000000};
    struct itimerspec timer = {.it_interval = interval, .it_value = interval};
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    if (fd < 0 || timerfd_settime(fd, 0, &timer, NULL) < 0)
        sink_die("clock");
    return fd;
}

// True when it is time to go.
static bool heed_signal(struct sink *sink, int fd)
{
    struct signalfd_siginfo info;
    if (read(fd, &info, sizeof(info)) != sizeof(info))
        sink_die("signals");
    sink_print(sink, stdout);
    return info.ssi_signo != SIGUSR1;
}

static void serve(struct sink *sink, const struct options *options, const sigset_t *signals, FILE *series)
{
    uint64_t began_ns = sink_now_ns();
    struct pollfd sources[SOURCES] = {
        [SIGNALS] = {.fd = open_signals(signals), .events = POLLIN},
        [CLOCK] = {.fd = series != NULL ? open_clock(options->interval_ms) : -1, .events = POLLIN},
        [CONTROL] = {.fd = options->control != NULL ? listen_for_control(options->control) : -1,
                     .events = POLLIN},
    };
    for (;;) {
        if (poll(sources, SOURCES, -1) < 0 && errno != EINTR)
            sink_die("poll");
        if (sources[CLOCK].revents != 0) {
            uint64_t ticks;
            if (read(sources[CLOCK].fd, &ticks, sizeof(ticks)) != sizeof(ticks))
                sink_die("clock");
            sink_print_series(sink, (double)(sink_now_ns() - began_ns) / 1e9, series);
        }
        if (sources[CONTROL].revents != 0)
            answer(sink, sources[CONTROL].fd);
        if (sources[SIGNALS].revents != 0 && heed_signal(sink, sources[SIGNALS].fd))
            return;
    }
}

// --- The command line ---

static void parse(int argc, char **argv, struct sink *sink, struct options *options)
{
    const struct tool_option names[] = {{"threads", .number = &options->threads},
                                        {"control", .text = &options->control},
                                        {"series", .text = &options->series},
                                        {"interval-ms", .number = &options->interval_ms},
                                        {"numbers", .number = &sink->numbers.count},
                                        {"slack-ms", .number = &sink->slack_ms},
                                        {"punctual", .flag = &options->is_punctual},
                                        {"tell", .text = &options->tell},
                                        {0}};
    if (!tool_options(argc, argv, names))
        usage(NULL);
    if (options->tell != NULL && options->control != NULL && optind == argc)
        return;
    if (options->tell != NULL || optind == argc || options->interval_ms == 0 || sink->slack_ms >= 1000 ||
        options->threads == 0 || options->threads > SINK_THREADS_MAX)
        usage(NULL);
    for (int index = optind; index < argc; index++) {
        if (!sink_group_add(sink, argv[index]))
            usage(argv[index]);
    }
    if (sink->numbers.count > 0 && (sink->numbers.seen = calloc(sink->numbers.count, 1)) == NULL)
        sink_die("memory");
}

static void start_threads(struct sink *sink, uint32_t count, bool is_punctual)
{
    const struct sched_param priority = {.sched_priority = 1};
    // Threads begin with what the main thread has.
    if (is_punctual && sched_setscheduler(0, SCHED_FIFO, &priority) < 0)
        sink_die("priority");
    for (uint32_t index = 0; index < count; index++) {
        pthread_t thread;
        errno = pthread_create(&thread, NULL, sink_loop_run, sink);
        if (errno != 0)
            sink_die("thread");
    }
}

int main(int argc, char **argv)
{
    struct sink sink = {.slack_ms = 50};
    struct options options = {.threads = 1, .interval_ms = 1000};
    const struct rlimit files = {.rlim_cur = 1 << 20, .rlim_max = 1 << 20};
    FILE *series = NULL;
    sigset_t signals;
    sink.groups = calloc(SINK_GROUPS_MAX, sizeof(*sink.groups));
    sink.hosts = calloc(SINK_HOSTS_MAX, sizeof(*sink.hosts));
    if (sink.groups == NULL || sink.hosts == NULL)
        sink_die("memory");
    parse(argc, argv, &sink, &options);
    if (options.tell != NULL)
        return tell(options.control, options.tell);
    if (options.series != NULL && (series = fopen(options.series, "we")) == NULL)
        sink_die(options.series);
    (void)setrlimit(RLIMIT_NOFILE, &files); // as many as it may
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    start_threads(&sink, options.threads, options.is_punctual);
    serve(&sink, &options, &signals, series);
    return EX_OK;
}
