// The floor: the least program that is a durable relay, so that a real gateway has a yardstick.
//
// One thread owns everything declared here; no function may be called from another. Sizes are bytes.
// Functions that return nothing end the process on a fault of the system: a yardstick that limps is of no
// use.
#pragma once

#include <assert.h>
#include <liburing.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FLOOR_BLOCK = 4096,        // what O_DIRECT wants offsets, lengths and addresses to be a multiple of
    FLOOR_LOG_SIZE = 64 << 20, // the log file, and its image in memory
    FLOOR_MESSAGES = 16384,    // accepted and not yet settled; a power of two
    FLOOR_MESSAGE_SIZE_MAX = 4 << 20,
    FLOOR_RECIPIENTS_MAX = 1000,
    FLOOR_BUFFERS = 256, // in the ring of receive buffers; a power of two
    FLOOR_BUFFER_SIZE = 16384,
    FLOOR_LINKS_MAX = 64,
};

// What a completion is about; rides in the low bits of user_data, the object's address in the others.
enum floor_op {
    FLOOR_ACCEPT,
    FLOOR_SESSION_RECV,
    FLOOR_SESSION_SEND,
    FLOOR_LINK_CONNECT,
    FLOOR_LINK_RECV,
    FLOOR_LINK_SEND,
    FLOOR_LINK_RETRY,
    FLOOR_LOG_WRITE,
    FLOOR_OP_COUNT,
};

struct session;
struct link;

// A message from its end of data to the sink's reply. Its bytes lie in the log's image.
struct message {
    uint64_t position; // of the content in the endless log; modulo FLOOR_LOG_SIZE in image and file
    uint32_t size;     // on the wire: dot-stuffed, with the final dot
    uint32_t recipients;
    struct session *session; // who waits for the 250; NULL once told, or gone
    struct message *retry;   // next in the list of those that a lost link gave back
    bool settled;
};

// Sequence numbers and positions only grow: head <= deliver <= durable <= tail.
struct log {
    int fd;
    bool fixed; // the image is registered, so writes pin no pages
    bool writing;
    unsigned char *image;
    uint64_t tail_position;                // where the next record goes
    uint64_t write_position;               // block-aligned: all before it is on disk or being written
    unsigned write_length;                 // of the write under way
    uint64_t head, deliver, durable, tail; // sequence numbers in `messages`
    struct message *retry;
    struct message messages[FLOOR_MESSAGES];
} __attribute__((aligned(64)));

struct floor_stats {
    uint64_t accepted, delivered, refused, log_writes, log_bytes;
};

struct floor {
    struct io_uring ring;
    struct io_uring_buf_ring *buffer_ring;
    unsigned char *buffers;
    int listener;
    struct sockaddr_in sink;
    struct session *free_sessions;
    struct session *blocked; // whose message found no room in the log
    unsigned link_count;
    struct link *links;
    struct log log;
    struct floor_stats stats;
};

// Ends the process with the system's message for `error` (positive errno).
_Noreturn void floor_die(const char *what, int error);
// Zeroed, block-aligned, never NULL, never freed.
void *floor_allocate(size_t size) __attribute__((returns_nonnull));
// A submission entry whose completion comes back as `op` on `object` (16-byte aligned); never NULL.
struct io_uring_sqe *floor_sqe(struct floor *floor, enum floor_op op, void *object)
    __attribute__((returns_nonnull));
// The receive buffer that `cqe` names; give it back once its bytes are copied.
const unsigned char *floor_buffer(struct floor *floor, const struct io_uring_cqe *cqe);
void floor_buffer_return(struct floor *floor, const struct io_uring_cqe *cqe);
// Multishot receive into the shared buffers.
void floor_receive(struct floor *floor, enum floor_op op, void *object, int fd);

// Opens and pre-writes `path`, so that no later write has to allocate a block.
void log_init(struct floor *floor, const char *path);
// Copies a message in; NULL if the log or the table is full of unsettled ones: try again when some are
// settled. `session` is told when it is durable; one that leaves earlier clears the message's pointer to it.
struct message *log_append(struct floor *floor, struct session *session, const unsigned char *data,
                           size_t size, uint32_t recipients) __attribute__((warn_unused_result));
// Starts a write of all that waits for one, unless one is under way.
void log_commit(struct floor *floor);
void log_on_write(struct floor *floor, const struct io_uring_cqe *cqe);
// The next durable message to deliver, or NULL.
struct message *log_take(struct floor *floor);
// A taken message comes back undelivered / has the sink's final word.
void log_give_back(struct floor *floor, struct message *message);
void log_settle(struct floor *floor, struct message *message);
const unsigned char *log_content(const struct floor *floor, const struct message *message);

void sessions_listen(struct floor *floor, uint16_t port);
void session_on_accept(struct floor *floor, const struct io_uring_cqe *cqe);
void session_on_recv(struct floor *floor, struct session *session, const struct io_uring_cqe *cqe);
void session_on_send(struct floor *floor, struct session *session, const struct io_uring_cqe *cqe);
// The session's message is durable: say so.
void session_committed(struct floor *floor, struct session *session);
// Lets the sessions that waited for room in the log try again.
void sessions_resume(struct floor *floor);

void links_init(struct floor *floor, unsigned count);
void link_on_connect(struct floor *floor, struct link *link, const struct io_uring_cqe *cqe);
void link_on_recv(struct floor *floor, struct link *link, const struct io_uring_cqe *cqe);
void link_on_send(struct floor *floor, struct link *link, const struct io_uring_cqe *cqe);
void link_on_retry(struct floor *floor, struct link *link);
// Sends what each link may send now: content that the sink asked for, and the next envelope behind it.
void links_push(struct floor *floor);
