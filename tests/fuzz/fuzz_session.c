/*
 * The whole server's side of a session: a client's octets in, replies and messages out, with nothing below it
 * but a connection and a queue in memory.
 *
 *     octet 0      bits 0 to 2: the listener and the client, see `kinds`; bit 3: bare newlines are
 * normalised; bit 4: commits end only when there is nothing else to do octet 1      the room that the queue
 * gives at a time, in octets; 0: all octets 2, 3  the sizes of the pieces, over and over; 0: in one piece
 *     octet 4 ...  what the client sends
 *
 * However the input is cut, whatever the queue's moods, and whether chunks are copied or received in place,
 * replies and messages must be the same. A reader
 * that was written anew from the standards must see the same messages end at the same octets. Nothing may be
 * stored that the sending side could not send, or that could be read in two ways; and a stranger reaches our
 * own domains only.
 */
#include "tests/fuzz/fake_conn.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/strict_reader.h"
#include "tests/unit/inbound/fake_queue.h"

#include "gateway/base/address.h"
#include "gateway/base/config.h"
#include "gateway/base/counters.h"
#include "gateway/base/log.h"
#include "gateway/base/pool.h"
#include "gateway/base/rate_table.h"
#include "gateway/inbound/inbound.h"
#include "gateway/inbound/policy.h"
#include "gateway/message/envelope.h"
#include "gateway/message/recipient.h"
#include "gateway/sasl/sasl.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { INPUT_MAX = 3000, HEAD_SIZE = 4, KIND_COUNT = 8, NORMALISE = 8, LAZY = 16, TRACE_LINES = 3 };

static const struct kind {
    const char *listener; /* keys */
    const char *client;
    bool has_chunking;
    bool may_relay;    /* from the first command on, or by what the input says */
    bool has_header;   /* a PROXY header comes first: the strict reader does not know it */
    bool is_completed; /* fields are added */
    bool needs_login;
} kinds[KIND_COUNT] = {
    {"", "192.0.2.7", true, false, false, false, false},
    {"", "10.0.0.1", true, true, false, false, false},
    {"auth = \"optional\" auth_without_tls = true", "192.0.2.7", true, false, false, false, false},
    {"submission = true auth_without_tls = true", "192.0.2.7", true, false, false, true, true},
    {"auth = \"optional\" auth_without_tls = true xclient = true proxy_networks = {\"192.0.2.0/24\"}",
     "10.0.0.1", true, true, false, false, false},
    {"proxy_protocol = true proxy_networks = {\"192.0.2.0/24\"}", "192.0.2.7", true, true, true, false,
     false},
    {"extensions_off = {\"CHUNKING\", \"SIZE\", \"DSN\"}", "192.0.2.7", false, false, false, false, false},
    {"extensions_off = {\"8BITMIME\"} auth = \"required\" auth_without_tls = true", "192.0.2.7", true, false,
     false, false, true},
};

/* Made once. */
static struct stage {
    struct policy policy;
    struct config *config;
    struct log *log;
    struct log_writer *writer;
    struct counters counters;
    struct pool pool;
    struct rate_table *rates;
} stage;

/* One run. */
static struct queue queue;
static struct inbound inbound;
static struct hasher_job *checked;

static void demand(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "not so: %s\n", what);
    abort();
}

/* --- Making the stage --- */

static const char *users_path(void)
{
    static const char text[] =
        "user:$6$NaCl5alt$g7J23aynDN2pUF4fQygLWdmzc.zfynvHoss7K/ypzP6vFvHnnYHs3Q0qIipbx/"
        "UMdeAcOuOtsWmjPyNTJzaxl/:-\n";
    static char path[64];
    int file = memfd_create("users", 0);
    demand(file >= 0 && fchmod(file, 0600) == 0, "there is a file");
    demand(write(file, text, sizeof(text) - 1) == sizeof(text) - 1, "it can be written");
    snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
    return path;
}

static void make_config(const char *users)
{
    static char text[8192];
    struct config_error error = {{0}};
    size_t size = (size_t)snprintf(text, sizeof(text),
                                   "hostname = \"relay.test\"\n"
                                   "relay { networks = {\"10.0.0.0/8\"} domains = {\"example.com\"} }\n"
                                   "rate \"client\" { connections = 0 errors_per_minute = 0 }\n"
                                   "rate \"network\" { connections = 0 errors_per_minute = 0 }\n"
                                   "route \"*\" { to = \"smtp://127.0.0.1:2526\" }\n"
                                   "auth { users = \"%s\" mechanisms = {\"PLAIN\", \"LOGIN\"} failure_delay "
                                   "= \"0s\" failures_per_minute = 0 }\n",
                                   users);
    for (unsigned i = 0; i < 2 * KIND_COUNT; i++)
        size += (size_t)snprintf(
            text + size, sizeof(text) - size,
            "listener \"l%u\" { bind = {\"127.0.0.1:%u\"} max_message_size = \"1K\" %s %s }\n", i, 3000 + i,
            kinds[i % KIND_COUNT].listener, i >= KIND_COUNT ? "bare_newlines = \"normalise\"" : "");
    if (config_load_text("fuzz", text, &stage.config, &error) != 0)
        demand(false, error.text);
}

static void make_stage(void)
{
    static struct tls_server *no_tls[2 * KIND_COUNT];
    char error[256] = "";
    struct users *users = NULL;
    const char *path = users_path();
    make_config(path);
    demand(users_load(path, &users, error, sizeof(error)) == 0, error);
    stage.policy = (struct policy){
        .config = stage.config, .routes = {.config = stage.config}, .tls = no_tls, .users = users};
    counters_init(&stage.counters);
    demand(log_new("/dev/null", LOG_TEXT, LOG_ERROR, &stage.log) == 0, "there is a log");
    demand(log_writer_new(stage.log, &stage.counters, &stage.writer) == 0, "it has a writer");
    demand(rate_table_new(64, 1, &stage.rates) == 0, "there is memory");
    pool_init(&stage.pool, &stage.counters, SIZE_MAX);
}

/* --- Running it --- */

/* Plays the hasher, without the work. */
bool hasher_submit(struct hasher *hasher, struct hasher_job *job)
{
    job->matches = job->check.is_known && strcmp(job->password, "pencil") == 0;
    job->done(job);
    return true;
}

static void on_checked(struct hasher_job *job)
{
    job->next = checked;
    checked = job;
}

static bool bring_password(void)
{
    struct hasher_job *job = checked;
    if (job == NULL)
        return false;
    checked = job->next;
    inbound_password_checked(&inbound, job);
    return true;
}

static bool flush(void)
{
    if (queue.pending == NULL)
        return false;
    fake_queue_flush(&queue);
    return true;
}

static bool give_room(uint64_t room)
{
    if (list_is_empty(&inbound.waiting))
        return false;
    fake_queue_give_room(&queue, room);
    return true;
}

static void on_room(void *context)
{
    inbound_room(&inbound);
}

/* Until nothing is due; `lazily`: of that, only what needs nobody's work. */
static void settle(uint64_t room, bool lazily)
{
    while (fake_conn_deliver() || fake_conn_drain() ||
           (!lazily && (bring_password() || give_room(room) || flush() || fake_conn_time_out())))
        ;
}

static void open_session(const uint8_t *head, uint32_t direct_min)
{
    const uint32_t listener = head[0] & (NORMALISE | (KIND_COUNT - 1));
    struct sockaddr_storage client;
    fake_queue_init(&queue);
    queue.on_room = on_room;
    inbound_init(&inbound, &(struct inbound_options){
                               .loop = (struct loop *)&stage, /* a clock that stands still needs none */
                               .queue = &queue,
                               .policy = &stage.policy,
                               .log = stage.writer,
                               .counters = &stage.counters,
                               .pool = &stage.pool,
                               .rates = stage.rates,
                               .server_secret = (const uint8_t *)"a secret of the fuzzer's own....",
                               .password_checked = on_checked,
                               .direct_min = direct_min,
                           });
    demand(parse_ip(kinds[listener % KIND_COUNT].client, 4321, &client) == 0, "that is an address");
    inbound_accept(&inbound, INT_MAX, listener, (const struct sockaddr *)&client);
}

/* Hands the input over in pieces of these sizes; the queue gives so much room at a time, and so much to be
 * received into. */
static void run(const uint8_t *head, const char *input, size_t size, const uint8_t sizes[2], uint8_t trickle,
                uint32_t space)
{
    const uint64_t room = trickle > 0 ? trickle : UINT64_MAX;
    fake_conn_begin(input);
    open_session(head, space > 0 ? 1 : UINT32_MAX);
    queue.room = room;
    queue.space = space;
    settle(room, false);
    for (unsigned turn = 0; fake_conn.given < size && fake_conn.conn != NULL; turn++) {
        const size_t piece = sizes[turn % 2] > 0 ? sizes[turn % 2] : size;
        fake_conn.given += piece < size - fake_conn.given ? piece : size - fake_conn.given;
        settle(room, (head[0] & LAZY) != 0);
    }
    settle(room, false);
    if (!fake_conn.is_finished)
        fake_conn_end_input();
    settle(room, false);
    fake_conn_end();
    demand(inbound_session_count(&inbound) == 0 && stage.pool.used_bytes == 0,
           "a session leaves nothing behind");
    demand(queue.drafts_open == 0, "no draft is forgotten");
    inbound_deinit(&inbound);
    /* Freed blocks are poisoned, so the leak checker cannot follow the pool's list of them. */
    pool_deinit(&stage.pool);
    pool_init(&stage.pool, &stage.counters, SIZE_MAX);
}

/* --- What must be so --- */

/* Behind our own field. */
static struct smtp_slice body_of(const struct fake_message *message)
{
    const char *at = message->content, *end = at + message->size;
    demand(message->size > 14 && memcmp(at, "Received: from", 14) == 0, "our field comes first");
    for (int line = 0; line < TRACE_LINES; line++) {
        at = memmem(at, (size_t)(end - at), "\r\n", 2);
        demand(at != NULL, "it is complete");
        at += 2;
    }
    return (struct smtp_slice){at, (uint32_t)(end - at)};
}

/* White space at the beginning would continue our field: an empty line stands before it. */
static bool is_stored(struct smtp_slice body, const char *text, size_t size)
{
    const size_t added = size > 0 && (text[0] == ' ' || text[0] == '\t') ? 2 : 0;
    return body.size == size + added && memcmp(body.data, "\r\n", added) == 0 &&
           memcmp(body.data + added, text, size) == 0;
}

static bool is_clean(struct smtp_slice text)
{
    for (uint32_t i = 0; i < text.size; i++)
        if (text.data[i] == '\r' || text.data[i] == '\n' || text.data[i] == '\0')
            return false;
    return true;
}

static struct envelope envelope_of(const struct fake_message *message)
{
    struct envelope envelope;
    demand(envelope_decode(message->meta, message->meta_size, &envelope) == 0,
           "an envelope can be read back");
    return envelope;
}

static void check_content(const struct fake_message *message, uint32_t flags)
{
    const char *text = message->content;
    const size_t size = message->size;
    if ((flags & ENVELOPE_BINARYMIME) != 0)
        return;
    demand(memmem(text, size, "\r\n.\r\n", 5) == NULL, "no message ends within a message");
    demand(size >= 2 && memcmp(text + size - 2, "\r\n", 2) == 0, "the last line is complete");
    demand((memmem(text, size, "\r\n.", 3) != NULL) == ((flags & ENVELOPE_DOT_LINES) != 0),
           "dots at the beginning of lines are told of");
    demand(memchr(text, '\0', size) == NULL, "no NUL is stored");
    for (size_t i = 0; i < size; i++) {
        demand(text[i] != '\n' || text[i - 1] == '\r', "no bare LF is stored");
        demand(text[i] != '\r' || text[i + 1] == '\n', "no bare CR is stored");
    }
}

static void check_message(const struct fake_message *message, bool by_stranger)
{
    const struct envelope envelope = envelope_of(message);
    struct fake_recipient each;
    demand(is_clean(envelope.sender) && is_clean(envelope.client) && is_clean(envelope.envid),
           "a clean envelope");
    for (size_t at = 0; fake_recipients_next(message->encoded, message->encoded_size, &at, &each);) {
        const struct recipient recipient = recipient_decode(each.stored, each.stored_size);
        const struct smtp_slice key = {each.key, (uint32_t)each.key_size};
        demand(is_clean(recipient.address) && is_clean(recipient.orcpt) && is_clean(key),
               "a clean recipient");
        const bool is_postmaster = smtp_slice_equals_nocase(recipient.address, SMTP_SLICE("postmaster"));
        demand(!by_stranger || smtp_slice_equals(key, SMTP_SLICE("example.com")) ||
                   (is_postmaster && smtp_slice_equals(key, SMTP_SLICE("relay.test"))),
               "a stranger writes to our domains only");
    }
    check_content(message, envelope.flags);
}

static bool is_binary(void *context, size_t k)
{
    return k < queue.message_count && (envelope_of(&queue.messages[k]).flags & ENVELOPE_BINARYMIME) != 0;
}

static void check_reading(const uint8_t *head, const char *input, size_t size)
{
    const struct kind *kind = &kinds[head[0] & (KIND_COUNT - 1)];
    const struct strict_rules rules = {
        .has_chunking = kind->has_chunking,
        .normalises = (head[0] & NORMALISE) != 0,
        .is_completed = kind->is_completed,
    };
    static struct strict_reading reading;
    strict_read(&reading, &rules, input, size, &fake_conn.output, is_binary, NULL);
    demand(reading.message_count == queue.message_count, "what was answered is what was stored");
    demand(reading.is_closed == (fake_conn.is_finished && !fake_conn.is_eof_told),
           "both know whether it is over");
    demand(!kind->needs_login || reading.before_login == 0, "there is no mail before the login");
    for (size_t k = 0; k < reading.message_count; k++) {
        const struct smtp_slice body = body_of(&queue.messages[k]);
        check_message(&queue.messages[k], !kind->may_relay && k < reading.before_login);
        if (reading.content_is_known[k])
            demand(is_stored(body, reading.contents[k].text, reading.contents[k].size),
                   "the content is what a strict reader sees");
    }
    strict_reading_free(&reading);
}

/* Content that is refused for two reasons is refused for the one that shows first, which may depend on the
 * cuts. */
static void describe_replies(struct transcript *into)
{
    static const char *const verdicts[] = {"552 5.3.4 Message is larger", "554 5.6.0 The content",
                                           "554 5.4.6 Too many"};
    const char *end = NULL;
    for (const char *line = fake_conn.output.text; *line != '\0'; line = end + 2) {
        bool is_verdict = false;
        end = strstr(line, "\r\n");
        demand(end != NULL, "replies are lines");
        for (size_t i = 0; i < sizeof(verdicts) / sizeof(verdicts[0]); i++)
            is_verdict |= strncmp(line, verdicts[i], strlen(verdicts[i])) == 0;
        if (is_verdict)
            transcript_add(into, "55x that content is refused\n");
        else
            transcript_add_octets(into, line, (size_t)(end + 2 - line));
    }
}

/* All that came of a run. */
static void describe(struct transcript *into)
{
    transcript_clear(into);
    describe_replies(into);
    for (size_t i = 0; i < queue.message_count; i++) {
        const struct fake_message *message = &queue.messages[i];
        transcript_add(into, "message %zu\n", i);
        transcript_add_octets(into, message->meta, message->meta_size);
        transcript_add_octets(into, message->encoded, message->encoded_size);
        transcript_add_octets(into, message->content, message->size);
    }
}

static void compare(const struct transcript *whole, struct transcript *other)
{
    describe(other);
    if (transcript_equal(whole, other))
        return;
    fprintf(stderr, "Cuts make a difference. Whole:\n%s\nand otherwise:\n%s\n", whole->text, other->text);
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t in_one_piece[2], octet_by_octet[2] = {1, 1};
    struct transcript whole, other;
    if (stage.config == NULL)
        make_stage();
    if (size < HEAD_SIZE || size > HEAD_SIZE + INPUT_MAX)
        return 0;
    const char *input = (const char *)data + HEAD_SIZE;
    const struct kind *kind = &kinds[data[0] & (KIND_COUNT - 1)];
    size -= HEAD_SIZE;
    transcript_init(&whole);
    transcript_init(&other);

    run(data, input, size, in_one_piece, 0, 0);
    describe(&whole);
    if (!kind->has_header)
        check_reading(data, input, size);
    else
        for (size_t i = 0; i < queue.message_count; i++)
            check_message(&queue.messages[i], false);
    fake_queue_deinit(&queue);

    const struct {
        const uint8_t *sizes;
        uint32_t space;
    } ways[] = {{data + 2, 0}, {octet_by_octet, 0}, {data + 2, 1000}, {in_one_piece, 1 + data[2]}};
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        run(data, input, size, ways[i].sizes, data[1], ways[i].space);
        compare(&whole, &other);
        fake_queue_deinit(&queue);
    }

    transcript_deinit(&whole);
    transcript_deinit(&other);
    return 0;
}
