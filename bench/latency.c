// Two probes that run beside a load: how long a server takes from the end of data to its 250, and how long
// the disk takes for one durable block. Each prints one JSON object; SIGTERM ends a probe early, with what it
// has.
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <signal.h>
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
    BLOCK = 4096,
    PROBE_FILE_SIZE = 64 << 20,
    LINE_WIDTH = 78,
    REPLY_MAX = 4096,
};

struct options {
    unsigned size; // of a message's content, bytes
    unsigned count;
    unsigned interval_ms;
};

struct samples {
    unsigned count;
    uint64_t *ns;
};

static volatile sig_atomic_t stopping;

static void on_signal(int number)
{
    stopping = number;
}

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "latency: %s: %s\n", what, errno ? strerror(errno) : "unexpected end or reply");
    exit(EX_OSERR);
}

static _Noreturn void usage(void)
{
    fputs("usage: latency smtp HOST PORT [--size BYTES] [--count N] [--interval-ms N]\n"
          "       latency disk DIR [--count N] [--interval-ms N]\n",
          stderr);
    exit(EX_USAGE);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

// Woken early by a signal, which then ends the probe.
static void pause_ms(unsigned ms)
{
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    if (ms > 0)
        nanosleep(&pause, NULL);
}

static int compare_ns(const void *left, const void *right)
{
    const uint64_t *a = left;
    const uint64_t *b = right;
    return *a < *b ? -1 : *a > *b;
}

static struct samples samples_new(unsigned capacity)
{
    struct samples samples = {.ns = calloc(capacity, sizeof(uint64_t))};
    if (samples.ns == NULL)
        die("memory");
    return samples;
}

// Nearest rank: the smallest sample that `percent` of all do not exceed.
static double percentile_us(const struct samples *samples, unsigned percent)
{
    assert(percent > 0 && percent <= 100);
    if (samples->count == 0)
        return 0;
    uint64_t rank = ((uint64_t)samples->count * percent + 99) / 100;
    assert(rank > 0 && rank <= samples->count);
    return (double)samples->ns[rank - 1] / 1e3;
}

static void samples_print(struct samples *samples)
{
    qsort(samples->ns, samples->count, sizeof(uint64_t), compare_ns);
    printf("{\"count\": %u, \"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f}\n", samples->count,
           percentile_us(samples, 50), percentile_us(samples, 99), percentile_us(samples, 100));
}

static int dial(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    int error = getaddrinfo(host, port, &hints, &found);
    if (error != 0) {
        fprintf(stderr, "latency: %s: %s\n", host, gai_strerror(error));
        exit(EX_NOHOST);
    }
    int fd = -1;
    for (struct addrinfo *at = found; at != NULL && fd < 0; at = at->ai_next) {
        fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
        if (fd >= 0 && connect(fd, at->ai_addr, at->ai_addrlen) < 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    if (fd < 0)
        die("connect");
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

static void send_all(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR)
            die("send");
        if (sent > 0) {
            bytes += sent;
            size -= (size_t)sent;
        }
    }
}

static bool is_whole(const char *reply, size_t size)
{
    if (size < 5 || reply[size - 1] != '\n')
        return false;
    const char *before = memrchr(reply, '\n', size - 1);
    const char *last = before == NULL ? reply : before + 1;
    return reply + size - last > 4 && last[3] == ' ';
}

// The probe is in lock-step, so a read never holds more than one reply.
static void expect(int fd, char digit)
{
    char reply[REPLY_MAX];
    size_t size = 0;
    errno = 0;
    while (!is_whole(reply, size)) {
        if (size == sizeof(reply))
            die("reply too long");
        ssize_t got = recv(fd, reply + size, sizeof(reply) - size, 0);
        if (got == 0 || (got < 0 && errno != EINTR))
            die("reply");
        if (got > 0)
            size += (size_t)got;
    }
    if (reply[0] != digit) {
        fprintf(stderr, "latency: unexpected reply: %.*s", (int)size, reply);
        exit(EX_PROTOCOL);
    }
}

static void command(int fd, const char *line, char digit)
{
    send_all(fd, line, strlen(line));
    expect(fd, digit);
}

static char *make_content(unsigned size, size_t *total)
{
    static const char header[] = "Subject: latency probe\r\n\r\n";
    static const char end[] = ".\r\n";
    char *content = malloc(sizeof(header) + size + 2 + sizeof(end));
    if (content == NULL)
        die("memory");
    memset(content, 'x', sizeof(header) + size + 2);
    memcpy(content, header, sizeof(header) - 1);
    size_t used = sizeof(header) - 1;
    if (used < size)
        used = size;
    for (size_t at = sizeof(header) + LINE_WIDTH; at + 2 < used; at += LINE_WIDTH + 2)
        memcpy(content + at, "\r\n", 2);
    if (content[used - 1] == '\r')
        content[used - 1] = 'x';
    memcpy(content + used, "\r\n", 2);
    memcpy(content + used + 2, end, sizeof(end) - 1);
    *total = used + 2 + sizeof(end) - 1;
    return content;
}

static void probe_smtp(const char *host, const char *port, const struct options *options)
{
    struct samples samples = samples_new(options->count);
    size_t size;
    char *content = make_content(options->size, &size);
    int fd = dial(host, port);
    expect(fd, '2');
    command(fd, "EHLO latency.example\r\n", '2');
    while (samples.count < options->count && !stopping) {
        command(fd, "MAIL FROM:<probe@latency.example>\r\n", '2');
        command(fd, "RCPT TO:<probe@latency.example>\r\n", '2');
        command(fd, "DATA\r\n", '3');
        send_all(fd, content, size);
        uint64_t start = now_ns();
        expect(fd, '2');
        samples.ns[samples.count++] = now_ns() - start;
        pause_ms(options->interval_ms);
    }
    command(fd, "QUIT\r\n", '2');
    close(fd);
    samples_print(&samples);
    free(content);
    free(samples.ns);
}

static void write_file(int fd, const char *block)
{
    for (off_t at = 0; at < PROBE_FILE_SIZE; at += BLOCK) {
        if (pwrite(fd, block, BLOCK, at) != BLOCK)
            die("write");
    }
    if (fsync(fd) < 0)
        die("fsync");
}

static int open_probe_file(const char *directory, const char *block)
{
    char path[PATH_MAX];
    int length = snprintf(path, sizeof(path), "%s/latency-probe.%d", directory, (int)getpid());
    if (length < 0 || (size_t)length >= sizeof(path))
        usage();
    int plain = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (plain < 0)
        die(path);
    write_file(plain, block);
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_DIRECT | O_DSYNC);
    int error = errno;
    unlink(path);
    close(plain);
    errno = error;
    if (fd < 0)
        die("O_DIRECT");
    return fd;
}

static void probe_disk(const char *directory, const struct options *options)
{
    static char block[BLOCK] __attribute__((aligned(BLOCK)));
    memset(block, 0x5a, sizeof(block));
    struct samples samples = samples_new(options->count);
    int fd = open_probe_file(directory, block);
    while (samples.count < options->count && !stopping) {
        off_t at = (off_t)samples.count * BLOCK % PROBE_FILE_SIZE;
        uint64_t start = now_ns();
        if (pwrite(fd, block, BLOCK, at) != BLOCK)
            die("write");
        samples.ns[samples.count++] = now_ns() - start;
        pause_ms(options->interval_ms);
    }
    close(fd);
    samples_print(&samples);
    free(samples.ns);
}

static unsigned parse_number(const char *text)
{
    char *end;
    errno = 0;
    unsigned long number = strtoul(text, &end, 10);
    if (errno != 0 || *end != '\0' || end == text || number > 100000000)
        usage();
    return (unsigned)number;
}

static struct options parse_options(int argc, char **argv)
{
    static const struct option names[] = {
        {"size", required_argument, NULL, 's'},
        {"count", required_argument, NULL, 'c'},
        {"interval-ms", required_argument, NULL, 'i'},
        {0},
    };
    struct options options = {.size = 1024, .count = 1000};
    int name;
    while ((name = getopt_long(argc, argv, "", names, NULL)) != -1) {
        if (name == 's')
            options.size = parse_number(optarg);
        else if (name == 'c')
            options.count = parse_number(optarg);
        else if (name == 'i')
            options.interval_ms = parse_number(optarg);
        else
            usage();
    }
    if (options.count == 0)
        usage();
    return options;
}

int main(int argc, char **argv)
{
    struct options options = parse_options(argc, argv);
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    int rest = argc - optind;
    if (rest == 3 && strcmp(argv[optind], "smtp") == 0)
        probe_smtp(argv[optind + 1], argv[optind + 2], &options);
    else if (rest == 2 && strcmp(argv[optind], "disk") == 0)
        probe_disk(argv[optind + 1], &options);
    else
        usage();
    return EX_OK;
}
