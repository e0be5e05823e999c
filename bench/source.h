// A source of mail that speaks in the clear and through TLS 1.3 alike, so that nothing but TLS differs
// between two measurements. In lock-step, as smtp-source does it: a command, its reply, the next command.
//
// A session and its channel belong to one thread. What a source shares is read-only, or atomic. Faults end
// the process: a load that limps measures nothing.
#pragma once

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <openssl/ssl.h>

enum {
    SOURCE_REPLY_MAX = 4096, // bytes
    SOURCE_THREADS_MAX = 64,
};

enum source_tls {
    SOURCE_CLEAR,
    SOURCE_IMPLICIT, // TLS from the first byte
    SOURCE_STARTTLS,
};

// Records as they go over the wire, their headers included in the bytes.
struct source_records {
    uint64_t sent;
    uint64_t sent_bytes;
    uint64_t received;
    uint64_t received_bytes;
};

// One end of a connection. Non-blocking once it is open.
struct channel {
    int fd;
    bool counting;       // records go into `records`
    SSL *tls;            // NULL in the clear
    SSL_SESSION *ticket; // of this or an earlier connection; kept when the channel closes
    struct source_records records;
};

enum channel_result {
    CHANNEL_AGAIN = 0, // when the socket is ready
    CHANNEL_END = -1,  // the peer said its last byte
};

// The client's side of TLS for all channels: TLS 1.3 only, any certificate is good. Never freed.
SSL_CTX *channel_context(void);

// Connects; waits for it.
void channel_open(struct channel *channel, const struct sockaddr_storage *address);

// Begins TLS, with the ticket if there is one and `resume` says so.
void channel_start_tls(struct channel *channel, SSL_CTX *context, bool resume);

// True when the handshake is done; false: again when the socket is ready.
bool channel_shake(struct channel *channel);

// How many bytes, or a channel_result. A write that is tried again has to be given the same bytes.
ssize_t channel_read(struct channel *channel, char *into, size_t size);
ssize_t channel_write(struct channel *channel, const char *bytes, size_t size);

void channel_close(struct channel *channel);

// What all sessions of all threads share.
struct source {
    // Read-only once the threads run.
    struct sockaddr_storage address;
    enum source_tls tls;
    SSL_CTX *context;
    bool connects; // every piece of work is a connection: EHLO and QUIT; else it is a message
    bool resume;
    bool hold;           // sessions stop before their first message, and again before they leave
    const char *content; // of each message, with the final dot
    size_t content_size;
    uint32_t write_size; // of content that is handed over at once

    // Any thread (atomic).
    atomic_long work; // pieces that nobody has taken yet
};

// What a thread's sessions did.
struct source_totals {
    uint64_t parked; // sessions that stand still, see session_release
    uint64_t messages;
    uint64_t connections;
    uint64_t handshakes; // resumed ones included
    uint64_t resumed;
    struct source_records records; // of the transactions: from MAIL to the reply to the content
    const char *cipher;            // of the last handshake; NULL in the clear
};

struct session {
    struct source *source;
    struct source_totals *totals;
    struct channel channel;
    int step;
    bool released; // once, to its messages
    int epoll;
    const char *output; // what of the step's words is not written yet
    size_t output_size;
    size_t reply_size;
    char reply[SOURCE_REPLY_MAX];
};

// Opens the first connection, and shows it to `epoll` (edge-triggered, the session as its data). False: there
// was no work left.
bool session_start(struct session *session);

// Goes as far as it can without waiting. False when the session has done its last work.
bool session_go_on(struct session *session);

// Lets a session go on that stopped because its source holds: to its messages, then out. Follow with
// session_go_on.
void session_release(struct session *session);

_Noreturn void source_die(const char *what);
