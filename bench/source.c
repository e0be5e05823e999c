// The source's command line, threads and figures: see source.h, and bench/README.md for how it is used.
#include "bench/source.h"
#include "bench/tool.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <time.h>

enum { EVENTS = 64 };

struct options {
    uint32_t sessions;
    uint32_t threads;
    uint32_t messages;
    uint32_t connects;
    uint32_t size; // of a message's content, bytes
};

struct worker {
    pthread_t thread;
    struct source *source;
    unsigned sessions;
    unsigned live; // of them, not gone for good
    struct source_totals totals;
};

static pthread_barrier_t reached;  // by all threads: their sessions stand still
static pthread_barrier_t released; // and may go on
static uint64_t held_ns;           // when it was reached

void source_die(const char *what)
{
    fprintf(stderr, "source: %s: %s\n", what, strerror(errno));
    exit(EX_OSERR);
}

static _Noreturn void usage(void)
{
    fputs("usage: source HOST PORT --messages N | --connects N\n"
          "       [--tls clear|implicit|starttls] [--resume] [--hold] [--sessions N] [--threads N]\n"
          "       [--size BYTES] [--write BYTES]\n",
          stderr);
    exit(EX_USAGE);
}

static void resolve(const char *host, const char *port, struct sockaddr_storage *into)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    int error = getaddrinfo(host, port, &hints, &found);
    if (error != 0) {
        fprintf(stderr, "source: %s: %s\n", host, gai_strerror(error));
        exit(EX_NOHOST);
    }
    memcpy(into, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
}

static unsigned start_sessions(struct worker *worker, struct session *sessions, int epoll)
{
    unsigned live = 0;
    for (unsigned index = 0; index < worker->sessions; index++) {
        sessions[index].source = worker->source;
        sessions[index].totals = &worker->totals;
        sessions[index].epoll = epoll;
        live += session_start(&sessions[index]);
    }
    return live;
}

// Until all sessions have stopped: parked, or gone for good.
static void pump(struct worker *worker, int epoll)
{
    while (worker->live > worker->totals.parked) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(epoll, events, EVENTS, -1);
        if (count < 0 && errno != EINTR)
            source_die("epoll");
        for (int index = 0; index < count; index++)
            worker->live -= !session_go_on(events[index].data.ptr);
    }
}

// The thread's side of hold().
static void wait_for_release(struct worker *worker, struct session *sessions)
{
    pthread_barrier_wait(&reached);
    pthread_barrier_wait(&released);
    for (unsigned index = 0; index < worker->sessions; index++) {
        session_release(&sessions[index]);
        worker->live -= !session_go_on(&sessions[index]);
    }
}

// Waits until all threads' sessions stand still, says so, and waits for a line.
static void hold(const char *word)
{
    pthread_barrier_wait(&reached);
    held_ns = tool_now_ns();
    puts(word);
    (void)fflush(stdout);
    for (int letter = 0; letter != '\n' && letter != EOF;)
        letter = getchar();
    pthread_barrier_wait(&released);
}

static void *work(void *context)
{
    struct worker *worker = context;
    struct session *sessions = calloc(worker->sessions, sizeof(*sessions));
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (sessions == NULL || epoll < 0)
        source_die("start");
    worker->live = start_sessions(worker, sessions, epoll);
    pump(worker, epoll);
    if (worker->source->hold) {
        wait_for_release(worker, sessions);
        pump(worker, epoll);
        wait_for_release(worker, sessions);
        pump(worker, epoll);
    }
    return NULL; // the memory goes with the process
}

static void add(struct source_totals *sum, const struct source_totals *part)
{
    sum->messages += part->messages;
    sum->connections += part->connections;
    sum->handshakes += part->handshakes;
    sum->resumed += part->resumed;
    sum->records.sent += part->records.sent;
    sum->records.sent_bytes += part->records.sent_bytes;
    sum->records.received += part->records.received;
    sum->records.received_bytes += part->records.received_bytes;
    if (part->cipher != NULL)
        sum->cipher = part->cipher;
}

static void print(const struct source_totals *totals, double seconds)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu_us = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
                    (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
    const struct source_records *records = &totals->records;
    printf("{\"messages\": %lu, \"connections\": %lu, \"handshakes\": %lu, \"resumed\": %lu, ",
           totals->messages, totals->connections, totals->handshakes, totals->resumed);
    printf("\"records_sent\": %lu, \"record_bytes_sent\": %lu, \"records_received\": %lu, "
           "\"record_bytes_received\": %lu, ",
           records->sent, records->sent_bytes, records->received, records->received_bytes);
    printf("\"cipher\": \"%s\", \"seconds\": %.6f, \"cpu_us\": %.0f}\n",
           totals->cipher != NULL ? totals->cipher : "", seconds, cpu_us);
}

static void run(struct source *source, const struct options *options)
{
    static struct worker workers[SOURCE_THREADS_MAX];
    struct source_totals sum = {0};
    uint64_t begin = tool_now_ns();
    pthread_barrier_init(&reached, NULL, options->threads + 1);
    pthread_barrier_init(&released, NULL, options->threads + 1);
    for (unsigned index = 0; index < options->threads; index++) {
        struct worker *worker = &workers[index];
        worker->source = source;
        worker->sessions =
            options->sessions / options->threads + (index < options->sessions % options->threads);
        errno = pthread_create(&worker->thread, NULL, work, worker);
        if (errno != 0)
            source_die("thread");
    }
    uint64_t end = 0;
    if (source->hold) {
        hold("ready");
        begin = tool_now_ns();
        hold("done");
        end = held_ns;
    }
    for (unsigned index = 0; index < options->threads; index++) {
        pthread_join(workers[index].thread, NULL);
        add(&sum, &workers[index].totals);
    }
    print(&sum, (double)((source->hold ? end : tool_now_ns()) - begin) / 1e9);
}

static enum source_tls parse_tls(const char *text)
{
    if (strcmp(text, "clear") == 0)
        return SOURCE_CLEAR;
    if (strcmp(text, "implicit") == 0)
        return SOURCE_IMPLICIT;
    if (strcmp(text, "starttls") == 0)
        return SOURCE_STARTTLS;
    usage();
}

int main(int argc, char **argv)
{
    struct source source = {.write_size = 1 << 20};
    struct options options = {.sessions = 1, .threads = 1, .size = 10240};
    const char *tls = "clear";
    const struct tool_option names[] = {{"tls", .text = &tls},
                                        {"resume", .flag = &source.resume},
                                        {"hold", .flag = &source.hold},
                                        {"messages", .number = &options.messages},
                                        {"connects", .number = &options.connects},
                                        {"sessions", .number = &options.sessions},
                                        {"threads", .number = &options.threads},
                                        {"size", .number = &options.size},
                                        {"write", .number = &source.write_size},
                                        {0}};
    if (!tool_options(argc, argv, names) || argc - optind != 2 ||
        (options.messages == 0) == (options.connects == 0) || (source.hold && options.connects > 0))
        usage();
    if (options.threads == 0 || options.threads > SOURCE_THREADS_MAX || options.threads > options.sessions ||
        source.write_size == 0)
        usage();
    resolve(argv[optind], argv[optind + 1], &source.address);
    source.tls = parse_tls(tls);
    source.connects = options.connects > 0;
    source.content = tool_content(options.size, &source.content_size);
    if (source.content == NULL)
        source_die("memory");
    atomic_init(&source.work, (long)(options.messages + options.connects));
    (void)signal(SIGPIPE, SIG_IGN); // a server that left is a result of write
    if (source.tls != SOURCE_CLEAR)
        source.context = channel_context();
    run(&source, &options);
    return EX_OK;
}
