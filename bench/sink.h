// A next hop for measurements: it takes mail at many addresses, in groups that stand for sites, holds senders
// to limits that may change while it runs, and counts what they did.
//
// The main thread owns the control socket and the signals; each session belongs to one of the other threads.
#pragma once

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "gateway/base/list.h"

enum {
    SINK_GROUPS_MAX = 4096,
    SINK_HOSTS_MAX = 16384,
    SINK_THREADS_MAX = 16,
    SINK_LINE_MAX = 2048,      // of a command, bytes
    SINK_OUTPUT_MAX = 1 << 16, // replies to one read, bytes
    SINK_INPUT_MAX = 1 << 18,  // one read, bytes
    SINK_RECIPIENTS_MAX = 1 << 16,
};

enum sink_mode {
    SINK_OK,
    SINK_DEAD,  // takes connections and never says a word
    SINK_RESET, // resets every connection
    SINK_BUSY,  // greets everybody with 421
};

// 0 in a number: no limit.
struct sink_limits {
    enum sink_mode mode;
    uint32_t connections;      // at a time; beyond it the greeting is 421
    uint32_t host_connections; // at a time to each host: the same
    uint32_t connect_rate;     // new connections in any second: the same
    uint32_t rate;             // messages in any second; beyond it MAIL gets 450 4.7.1
    uint32_t messages;         // of a connection; then MAIL gets 421
    uint32_t recipients;       // of a message; beyond it RCPT gets 452
    uint32_t delay_ms;         // before what is said to one read
    uint32_t pipelining;       // announced: 1; not: 0
    uint32_t chunking;
    uint32_t overlap; // 0: who sends anything behind the final dot before its reply is cut off, but not at a
                      // connection's first message: a sender takes that for a host that does not work at all
};

// How many events fell into any stretch of a given length.
struct sink_window {
    uint64_t span_ns;
    uint64_t *at_ns; // a ring
    uint32_t size;   // of it, a power of two
    uint32_t first;
    uint32_t count;
    uint32_t most;
};

struct sink_host {
    struct sink_group *group;
    struct sockaddr_in address;
    uint32_t connections; // now
};

// Under its mutex, but for what is set at the start: name, hosts.
struct sink_group {
    pthread_mutex_t mutex;
    const char *name;
    struct sink_host *hosts;
    uint32_t host_count;
    struct sink_limits limits;
    struct list sessions;

    uint32_t connections_now;
    uint64_t connections;         // ever
    uint64_t connections_refused; // of them
    uint64_t connections_cut;     // of them, for octets behind the dot
    uint32_t connections_most;    // at a time
    uint32_t host_connections_most;
    struct sink_window connects_1s;
    struct sink_window connects_short; // a second less the slack
    struct sink_window connects_taken; // those that were not refused: what connect_rate is held against

    uint64_t messages;
    uint64_t recipients;
    uint64_t octets;
    uint64_t messages_refused;
    uint64_t recipients_refused;
    struct sink_window messages_1s; // by their MAIL, refused ones too
    struct sink_window messages_short;
    struct sink_window messages_60s;
    struct sink_window messages_3600s;
    uint64_t first_message_ns; // the same: 0: none yet
    uint64_t last_message_ns;
    struct sink_window messages_taken;
    uint32_t connection_messages_most;
    uint32_t connection_recipients_most;
    uint32_t message_recipients_most;
};

// What became of each recipient whose address begins with u and its number; any thread (atomic).
struct sink_numbers {
    uint32_t count; // 0: nobody looks
    atomic_uchar *seen;
    atomic_uint distinct;
    atomic_uint repeated;
    atomic_uint foreign; // beyond count, or without a number
};

struct sink {
    struct sink_group *groups;
    uint32_t group_count;
    struct sink_host *hosts;
    uint32_t host_count;
    uint32_t slack_ms;
    struct sink_numbers numbers;
    atomic_uint_fast64_t turn_us_most; // the longest that any thread was away from its sockets
};

enum sink_phase { SINK_COMMAND, SINK_DATA, SINK_CHUNK };

// Its thread's, but for group_link, fd and has_left, which the group's mutex covers.
struct sink_session {
    struct list group_link;
    struct list delay_link; // in its thread's list while `output` is held back
    struct sink *sink;
    struct sink_host *host;
    int fd;
    bool has_left;   // not counted as a connection any more
    bool is_silent;  // the group was dead when it spoke: it is never answered again
    bool is_closing; // with the output that is held back
    enum sink_phase phase;
    bool has_sender;
    bool last_chunk;
    uint8_t matched;     // of CRLF.CRLF
    uint64_t chunk_left; // octets
    uint64_t octets;     // of the content so far
    uint32_t messages;
    uint32_t recipients; // of all its messages
    uint32_t number_count;
    uint32_t number_capacity;
    uint32_t *numbers; // of the recipients of this message
    uint64_t due_ns;   // when the output leaves
    size_t output_size;
    char *output; // held back
    uint32_t line_size;
    char line[SINK_LINE_MAX]; // an incomplete command
};

// What a session says to one read.
struct sink_output {
    size_t size;
    char bytes[SINK_OUTPUT_MAX];
};

enum sink_verdict { SINK_GO_ON, SINK_CLOSE, SINK_ABORT };

uint64_t sink_now_ns(void);
_Noreturn void sink_die(const char *what);

// --- sink_group.c: limits and counts ---

// Makes a group of "NAME=ADDRESS[-ADDRESS][:PORT][,KEY=VALUE]...". False: that makes no sense.
bool sink_group_add(struct sink *sink, const char *text) __attribute__((warn_unused_result));
// Changes limits by "KEY=VALUE". False: there is no such key, or the value makes no sense.
bool sink_group_set(struct sink_group *group, const char *assignment) __attribute__((warn_unused_result));
struct sink_limits sink_group_limits(struct sink_group *group);

// A connection is there. False: it is one too many, but counted, and sink_group_leave is to follow.
bool sink_group_enter(struct sink_session *session) __attribute__((warn_unused_result));
void sink_group_leave(struct sink_session *session);

enum sink_mail { SINK_MAIL_OK, SINK_MAIL_RATE, SINK_MAIL_ENOUGH };
enum sink_mail sink_group_mail(struct sink_session *session);
void sink_group_recipient_refused(struct sink_session *session);
void sink_group_message(struct sink_session *session);
void sink_group_cut(struct sink_session *session);

// All counts, as one JSON object.
void sink_print(struct sink *sink, FILE *out);
// A line for each group: seconds, name, messages and refusals so far, connections now.
void sink_print_series(struct sink *sink, double seconds, FILE *out);

// --- sink_window.c ---

void sink_window_init(struct sink_window *window, uint64_t span_ns);
// How many fell into the last stretch.
uint32_t sink_window_count(struct sink_window *window, uint64_t now_ns);
void sink_window_add(struct sink_window *window, uint64_t now_ns);

// --- sink_session.c: the conversation ---

enum sink_verdict sink_session_begin(struct sink_session *session, struct sink_output *output);
enum sink_verdict sink_session_input(struct sink_session *session, const char *bytes, size_t size,
                                     struct sink_output *output);

// --- sink_loop.c: a thread's sockets. Listens at every host; never returns. ---

void *sink_loop_run(void *sink);
