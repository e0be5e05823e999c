// Mail for many domains, as quickly as a server takes it: kept sessions, each a thread, the envelope in one
// flight.
//
// Recipients are numbered over all messages: number n is u<n>@<domain>, where # in the domain stands for n
// modulo --domains. The sink can so tell what came once, twice or never. What is answered with 4xx is tried
// again.
#include "bench/tool.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

enum {
    RECIPIENT_MAX = 256, // octets of a RCPT
    NUMBER_MAX = 16,
    SAID_MAX = 512,
    INPUT_MAX = 1 << 16,
    SESSIONS_MAX = 4096,
    AGAIN_MS = 50,
};

// Read-only once the threads run, but for the atomics.
struct load {
    const char *host;
    const char *port;
    const char *sender;
    const char *domain;
    size_t domain_size;      // up to the number
    const char *domain_rest; // behind it; NULL: there is none
    uint32_t first;          // number of the first recipient
    uint32_t domains;
    uint32_t messages;
    uint32_t recipients; // of each message
    uint32_t sessions;
    uint32_t size;
    uint32_t rate; // messages a second over all; 0: as they go
    char *content;
    size_t content_size;
    uint64_t began_ns;
    atomic_uint next;
    atomic_uint again; // answers of 4xx
};

struct session {
    struct load *load;
    pthread_t thread;
    int fd;
    char *envelope;
    char said[SAID_MAX]; // the last line of the last reply
    size_t input_size;
    char input[INPUT_MAX];
};

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, errno != 0 ? strerror(errno) : "the server left");
    exit(EX_OSERR);
}

static _Noreturn void usage(void)
{
    fputs("usage: load HOST PORT --messages N [--sessions N] [--size OCTETS] [--recipients N] [--domains N]\n"
          "            [--domain NAME-WITH-#] [--from ADDRESS] [--rate N] [--first NUMBER]\n",
          stderr);
    exit(EX_USAGE);
}

static void sleep_ns(uint64_t ns)
{
    struct timespec pause = {.tv_sec = (time_t)(ns / 1000000000U), .tv_nsec = (long)(ns % 1000000000U)};
    nanosleep(&pause, NULL);
}

// --- The wire ---

static int dial(const struct load *load)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    const int on = 1;
    if (getaddrinfo(load->host, load->port, &hints, &found) != 0)
        usage();
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen) < 0)
        die("connect");
    freeaddrinfo(found);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

static void send_all(struct session *session, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t sent = send(session->fd, bytes, size, MSG_NOSIGNAL);
        if (sent < 0)
            die("send");
        bytes += sent;
        size -= (size_t)sent;
    }
}

// The first digit of the next reply, all of whose lines are taken.
static char reply(struct session *session)
{
    for (;;) {
        char *end = memchr(session->input, '\n', session->input_size);
        if (end == NULL) {
            errno = 0;
            ssize_t got =
                recv(session->fd, session->input + session->input_size, INPUT_MAX - session->input_size, 0);
            if (got <= 0)
                die("reply");
            session->input_size += (size_t)got;
            continue;
        }
        size_t size = (size_t)(end - session->input) + 1;
        char digit = session->input[0];
        bool is_last = size >= 4 && session->input[3] != '-';
        size_t kept = size < SAID_MAX ? size : SAID_MAX - 1;
        memcpy(session->said, session->input, kept);
        session->said[kept] = '\0';
        session->input_size -= size;
        memmove(session->input, end + 1, session->input_size);
        if (is_last)
            return digit;
    }
}

static void command(struct session *session, const char *line)
{
    send_all(session, line, strlen(line));
    (void)reply(session);
}

// --- One message ---

static size_t put(char *into, size_t at, const char *text)
{
    size_t size = strlen(text);
    memcpy(into + at, text, size);
    return at + size;
}

static size_t put_number(char *into, size_t at, uint32_t number)
{
    int size = snprintf(into + at, NUMBER_MAX, "%u", number);
    assert(size > 0 && size < NUMBER_MAX);
    return at + (size_t)size;
}

static size_t put_recipient(const struct load *load, uint32_t number, char *into, size_t at)
{
    at = put(into, at, "RCPT TO:<u");
    at = put(into, put_number(into, at, number), "@");
    memcpy(into + at, load->domain, load->domain_size);
    at += load->domain_size;
    if (load->domain_rest != NULL)
        at = put(into, put_number(into, at, number % load->domains), load->domain_rest);
    return put(into, at, ">\r\n");
}

static size_t make_envelope(const struct load *load, uint32_t message, char *into)
{
    size_t at = put(into, put(into, put(into, 0, "MAIL FROM:<"), load->sender), ">\r\n");
    for (uint32_t index = 0; index < load->recipients; index++)
        at = put_recipient(load, load->first + message * load->recipients + index, into, at);
    return put(into, at, "DATA\r\n");
}

// Takes one more reply of a message; what follows a refusal says nothing new.
static bool heed(struct session *session, bool is_good, char wanted)
{
    char digit = reply(session);
    if ((is_good && digit == '5') || (!is_good && digit == '3')) {
        fprintf(stderr, "load: not all is taken: %s", session->said);
        exit(EX_PROTOCOL);
    }
    return is_good && digit == wanted;
}

// True when the server has it.
static bool try_message(struct session *session, uint32_t message)
{
    const struct load *load = session->load;
    send_all(session, session->envelope, make_envelope(load, message, session->envelope));
    bool is_good = heed(session, true, '2');
    for (uint32_t index = 0; index < load->recipients; index++)
        is_good = heed(session, is_good, '2');
    if (!heed(session, is_good, '3')) {
        command(session, "RSET\r\n");
        return false;
    }
    send_all(session, load->content, load->content_size);
    return heed(session, true, '2');
}

static void wait_turn(const struct load *load, uint32_t message)
{
    if (load->rate == 0)
        return;
    uint64_t due_ns = load->began_ns + (uint64_t)message * 1000000000U / load->rate;
    uint64_t at_ns = tool_now_ns();
    if (due_ns > at_ns)
        sleep_ns(due_ns - at_ns);
}

static void *run_session(void *context)
{
    struct session *session = context;
    struct load *load = session->load;
    uint32_t message;
    session->fd = dial(load);
    (void)reply(session);
    command(session, "EHLO load.bench.example\r\n");
    // Relaxed: the number is all that threads share here.
    while ((message = atomic_fetch_add_explicit(&load->next, 1, memory_order_relaxed)) < load->messages) {
        wait_turn(load, message);
        while (!try_message(session, message)) {
            atomic_fetch_add_explicit(&load->again, 1, memory_order_relaxed);
            sleep_ns(AGAIN_MS * 1000000U);
        }
    }
    command(session, "QUIT\r\n");
    close(session->fd);
    return NULL;
}

static void run(struct load *load)
{
    struct session *sessions = calloc(load->sessions, sizeof(*sessions));
    if (sessions == NULL)
        die("memory");
    load->began_ns = tool_now_ns();
    for (uint32_t index = 0; index < load->sessions; index++) {
        sessions[index].load = load;
        sessions[index].envelope = malloc((size_t)(load->recipients + 2) * RECIPIENT_MAX);
        if (sessions[index].envelope == NULL)
            die("memory");
        errno = pthread_create(&sessions[index].thread, NULL, run_session, &sessions[index]);
        if (errno != 0)
            die("thread");
    }
    for (uint32_t index = 0; index < load->sessions; index++)
        pthread_join(sessions[index].thread, NULL);
    printf("{\"messages\": %u, \"again\": %u, \"seconds\": %.6f}\n", load->messages,
           atomic_load(&load->again), (double)(tool_now_ns() - load->began_ns) / 1e9);
}

// --- The command line ---

static void parse_domain(const char *name, struct load *load)
{
    const char *mark = strchr(name, '#');
    if (strlen(name) > RECIPIENT_MAX / 4)
        usage();
    load->domain_rest = mark != NULL ? mark + 1 : NULL;
    load->domain_size = mark != NULL ? (size_t)(mark - name) : strlen(name);
    load->domain = name;
}

int main(int argc, char **argv)
{
    struct load load = {
        .sender = "load@source.example", .domains = 1, .recipients = 1, .sessions = 10, .size = 10240};
    const char *domain = "sink.example";
    const struct tool_option options[] = {
        {"messages", .number = &load.messages}, {"sessions", .number = &load.sessions},
        {"size", .number = &load.size},         {"recipients", .number = &load.recipients},
        {"domains", .number = &load.domains},   {"domain", .text = &domain},
        {"from", .text = &load.sender},         {"rate", .number = &load.rate},
        {"first", .number = &load.first},       {0}};
    if (!tool_options(argc, argv, options) || argc - optind != 2 || load.messages == 0 ||
        load.sessions == 0 || load.sessions > SESSIONS_MAX || load.recipients == 0 || load.domains == 0 ||
        strlen(load.sender) > RECIPIENT_MAX)
        usage();
    parse_domain(domain, &load);
    load.host = argv[optind];
    load.port = argv[optind + 1];
    load.content = tool_content(load.size, &load.content_size);
    if (load.content == NULL)
        die("memory");
    run(&load);
    return EX_OK;
}
