// The floor's loop: options, the ring, and which completion goes to whom. See bench/README.md for what it
// leaves out.
#include "bench/floor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum {
    RING_ENTRIES = 4096,
    COMPLETION_ENTRIES = 4 * RING_ENTRIES,
    BUFFER_GROUP = 0,
    OP_MASK = 15,
};

static_assert((int)FLOOR_OP_COUNT <= (int)OP_MASK, "the operation fits under a 16-byte aligned address");

struct options {
    uint16_t port;
    unsigned connections;
    const char *sink;
    const char *log;
};

static volatile sig_atomic_t stopping;

static void on_signal(int number)
{
    stopping = number;
}

void floor_die(const char *what, int error)
{
    fprintf(stderr, "floor: %s: %s\n", what, strerror(error));
    exit(EX_OSERR);
}

struct io_uring_sqe *floor_sqe(struct floor *floor, enum floor_op op, void *object)
{
    assert(((uintptr_t)object & OP_MASK) == 0);
    struct io_uring_sqe *sqe = io_uring_get_sqe(&floor->ring);
    if (sqe == NULL) {
        int submitted = io_uring_submit(&floor->ring);
        if (submitted < 0)
            floor_die("io_uring_submit", -submitted);
        sqe = io_uring_get_sqe(&floor->ring);
    }
    if (sqe == NULL)
        floor_die("submission queue", EBUSY);
    io_uring_sqe_set_data64(sqe, (uintptr_t)object | op);
    return sqe;
}

static unsigned buffer_id(const struct io_uring_cqe *cqe)
{
    assert(cqe->flags & IORING_CQE_F_BUFFER);
    return cqe->flags >> IORING_CQE_BUFFER_SHIFT;
}

const unsigned char *floor_buffer(struct floor *floor, const struct io_uring_cqe *cqe)
{
    return floor->buffers + (size_t)buffer_id(cqe) * FLOOR_BUFFER_SIZE;
}

static void buffer_offer(struct floor *floor, unsigned id)
{
    int mask = io_uring_buf_ring_mask(FLOOR_BUFFERS);
    unsigned char *buffer = floor->buffers + (size_t)id * FLOOR_BUFFER_SIZE;
    io_uring_buf_ring_add(floor->buffer_ring, buffer, FLOOR_BUFFER_SIZE, (unsigned short)id, mask, 0);
    io_uring_buf_ring_advance(floor->buffer_ring, 1);
}

void floor_buffer_return(struct floor *floor, const struct io_uring_cqe *cqe)
{
    buffer_offer(floor, buffer_id(cqe));
}

void floor_receive(struct floor *floor, enum floor_op op, void *object, int fd)
{
    struct io_uring_sqe *sqe = floor_sqe(floor, op, object);
    io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUFFER_GROUP;
}

void *floor_allocate(size_t size)
{
    void *memory = NULL;
    int error = posix_memalign(&memory, FLOOR_BLOCK, size);
    if (error != 0)
        floor_die("memory", error);
    memset(memory, 0, size);
    return memory;
}

static void ring_init(struct floor *floor)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
        .cq_entries = COMPLETION_ENTRIES,
    };
    int error = io_uring_queue_init_params(RING_ENTRIES, &floor->ring, &params);
    if (error < 0)
        floor_die("io_uring", -error);
    io_uring_register_ring_fd(&floor->ring);

    floor->buffers = floor_allocate((size_t)FLOOR_BUFFERS * FLOOR_BUFFER_SIZE);
    floor->buffer_ring = floor_allocate(FLOOR_BUFFERS * sizeof(struct io_uring_buf));
    struct io_uring_buf_reg registration = {
        .ring_addr = (uintptr_t)floor->buffer_ring, .ring_entries = FLOOR_BUFFERS, .bgid = BUFFER_GROUP};
    error = io_uring_register_buf_ring(&floor->ring, &registration, 0);
    if (error < 0)
        floor_die("ring of receive buffers", -error);
    io_uring_buf_ring_init(floor->buffer_ring);
    for (unsigned id = 0; id < FLOOR_BUFFERS; id++)
        buffer_offer(floor, id);
}

static void dispatch(struct floor *floor, const struct io_uring_cqe *cqe)
{
    void *object = (void *)(uintptr_t)(cqe->user_data & ~(uint64_t)OP_MASK);
    switch ((enum floor_op)(cqe->user_data & OP_MASK)) {
    case FLOOR_ACCEPT:
        session_on_accept(floor, cqe);
        break;
    case FLOOR_SESSION_RECV:
        session_on_recv(floor, object, cqe);
        break;
    case FLOOR_SESSION_SEND:
        session_on_send(floor, object, cqe);
        break;
    case FLOOR_LINK_CONNECT:
        link_on_connect(floor, object, cqe);
        break;
    case FLOOR_LINK_RECV:
        link_on_recv(floor, object, cqe);
        break;
    case FLOOR_LINK_SEND:
        link_on_send(floor, object, cqe);
        break;
    case FLOOR_LINK_RETRY:
        link_on_retry(floor, object);
        break;
    case FLOOR_LOG_WRITE:
        log_on_write(floor, cqe);
        break;
    case FLOOR_OP_COUNT:
        abort();
    }
}

// Reap all, act on each, then send and write what came of it in one submission.
static void run(struct floor *floor)
{
    while (!stopping) {
        int error = io_uring_submit_and_wait(&floor->ring, 1);
        if (error < 0 && error != -EINTR)
            floor_die("io_uring_submit_and_wait", -error);
        struct io_uring_cqe *cqe;
        unsigned head;
        unsigned count = 0;
        io_uring_for_each_cqe(&floor->ring, head, cqe)
        {
            dispatch(floor, cqe);
            count++;
        }
        io_uring_cq_advance(&floor->ring, count);
        links_push(floor);
        log_commit(floor);
    }
}

static void print_stats(const struct floor_stats *stats)
{
    printf("{\"messages_accepted\": %ju, \"messages_delivered\": %ju, \"messages_refused\": %ju, "
           "\"log_writes\": %ju, \"log_write_bytes\": %ju}\n",
           (uintmax_t)stats->accepted, (uintmax_t)stats->delivered, (uintmax_t)stats->refused,
           (uintmax_t)stats->log_writes, (uintmax_t)stats->log_bytes);
}

static _Noreturn void usage(void)
{
    fputs("usage: floor --listen PORT --sink HOST:PORT --log FILE [--connections N]\n", stderr);
    exit(EX_USAGE);
}

static unsigned parse_number(const char *text, unsigned max)
{
    char *end;
    errno = 0;
    unsigned long number = strtoul(text, &end, 10);
    if (errno != 0 || *end != '\0' || end == text || number == 0 || number > max)
        usage();
    return (unsigned)number;
}

static struct sockaddr_in parse_sink(const char *text)
{
    char host[256];
    const char *colon = strrchr(text, ':');
    if (colon == NULL || (size_t)(colon - text) >= sizeof(host))
        usage();
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = '\0';
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    int error = getaddrinfo(host, colon + 1, &hints, &found);
    if (error != 0) {
        fprintf(stderr, "floor: %s: %s\n", text, gai_strerror(error));
        exit(EX_NOHOST);
    }
    struct sockaddr_in address;
    assert(found->ai_addrlen == sizeof(address));
    memcpy(&address, found->ai_addr, sizeof(address));
    freeaddrinfo(found);
    return address;
}

static struct options parse_options(int argc, char **argv)
{
    static const struct option names[] = {
        {"listen", required_argument, NULL, 'l'},
        {"sink", required_argument, NULL, 's'},
        {"log", required_argument, NULL, 'f'},
        {"connections", required_argument, NULL, 'c'},
        {0},
    };
    struct options options = {.connections = 8};
    int name;
    while ((name = getopt_long(argc, argv, "", names, NULL)) != -1) {
        if (name == 'l')
            options.port = (uint16_t)parse_number(optarg, UINT16_MAX);
        else if (name == 's')
            options.sink = optarg;
        else if (name == 'f')
            options.log = optarg;
        else if (name == 'c')
            options.connections = parse_number(optarg, FLOOR_LINKS_MAX);
        else
            usage();
    }
    if (optind != argc || options.port == 0 || options.sink == NULL || options.log == NULL)
        usage();
    return options;
}

int main(int argc, char **argv)
{
    struct options options = parse_options(argc, argv);
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);

    static struct floor state;
    struct floor *floor = &state;
    floor->sink = parse_sink(options.sink);
    ring_init(floor);
    log_init(floor, options.log);
    links_init(floor, options.connections);
    sessions_listen(floor, options.port);
    run(floor);
    print_stats(&floor->stats);
    return EX_OK;
}
