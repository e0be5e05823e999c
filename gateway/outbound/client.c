#include "gateway/outbound/client.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "gateway/outbound/site.h"
#include "gateway/sasl/sasl_client.h"

/* What may follow each state. */
static const uint16_t client_next[CLIENT_STATE_COUNT] = {
    [CLIENT_CONNECTING] = 1 << CLIENT_GREETING | 1 << CLIENT_CLOSING,
    [CLIENT_GREETING] = 1 << CLIENT_HELLO | 1 << CLIENT_CLOSING,
    [CLIENT_HELLO] = 1 << CLIENT_SECURING | 1 << CLIENT_LOGIN | 1 << CLIENT_READY | 1 << CLIENT_CLOSING,
    [CLIENT_SECURING] = 1 << CLIENT_HELLO | 1 << CLIENT_CLOSING,
    [CLIENT_LOGIN] = 1 << CLIENT_READY | 1 << CLIENT_CLOSING,
    [CLIENT_READY] = 1 << CLIENT_BUSY | 1 << CLIENT_QUITTING | 1 << CLIENT_CLOSING,
    [CLIENT_BUSY] = 1 << CLIENT_READY | 1 << CLIENT_CLOSING,
    [CLIENT_QUITTING] = 1 << CLIENT_CLOSING,
    [CLIENT_CLOSING] = 0,
};

bool client_is_lmtp(const struct client *client)
{
    return client->site->hop->is_lmtp;
}

void client_enter(struct client *client, enum client_state state)
{
    assert(state < CLIENT_STATE_COUNT);
    assert(client_next[client->state] & (1u << state));
    client->state = state;
}

static uint64_t now_of(const struct client *client)
{
    return loop_now_us(client->site->outbound->options.loop);
}

/* --- Progress --- */

void client_count_queued(struct client *client, uint64_t size)
{
    client->queued_bytes += size;
    COUNTER_ADD(client->site->outbound->options.counters, bytes_sent, size);
}

/* Nothing pending may also mean that the connection dropped it; on_drained knows better. */
void client_note_taken(struct client *client)
{
    size_t pending = conn_pending_bytes(&client->conn);

    if (pending == 0 || pending > client->queued_bytes)
        return;
    uint64_t taken = client->queued_bytes - pending;
    if (taken > client->taken_bytes)
        client->taken_bytes = taken;
}

/* A send that is under way does not tell how far it has come; what the peer acknowledged does. And a chunk
 * that needs several round trips shows replies that are out of step, for they come before its end. */
bool client_has_sent(struct client *client, const struct job *job)
{
    assert(job->state == JOB_ENDED);
    if (job->ended_us == now_of(client))
        return false; /* what is queued in a turn leaves at its end */
    client_note_taken(client);
    bool is_long_chunk = job->carrier != CARRIER_DATA && job->delivery->content_size >= CLIENT_LONG_CHUNK_MIN;
    return (job->end_at <= client->taken_bytes && !is_long_chunk) ||
           job->end_at <= conn_acked_bytes(&client->conn);
}

void client_go_on(struct client *client)
{
    assert(client->state == CLIENT_HELLO);
    if (client_secure(client) || client_log_in(client))
        return;
    client_ready(client);
}

void client_ready(struct client *client)
{
    struct site *site = client->site;

    assert(client_is_safe(client) && client->ready_us == 0);

    client->ready_us = now_of(client);
    client->gear = client_choose_gear(client);
    client_begin_trial(client);
    client->endpoint->established++;
    assert(site->connecting > 0);
    site->connecting--;
    if (site->state == SITE_DOWN)
        site_found_session(site);
    client_enter(client, CLIENT_READY);
    client_update_room(client);
}

void client_job_done(struct client *client, struct job *job)
{
    assert(client->state == CLIENT_BUSY && client->job_count > 0);
    assert(job == client_oldest_job(client));
    client->job_count--;
    client->concluded++;
    site_endpoint_worked(client->site, client->endpoint, job->has_pressed);
    job_over(job);
    if (client->job_count > 0) {
        client_update_room(client);
        return;
    }
    assert(command_queue_head(&client->commands) == NULL);
    list_remove(&client->feeding_link);
    client_enter(client, CLIENT_READY);
    if (client_may_begin(client))
        client_update_room(client);
    else
        client_say_quit(client);
}

void client_content_progress(struct client *client, struct job *job)
{
    struct outbound *outbound = client->site->outbound;

    assert(job->client == client);
    client_note_taken(client);
    if (client->state != CLIENT_BUSY || (job->state != JOB_CONTENT && job->state != JOB_ENDED))
        return;
    if (list_is_empty(&client->feeding_link))
        list_push_back(&outbound->feeding, &client->feeding_link);
}

void client_feed(struct client *client)
{
    struct job *job = client_newest_job(client);

    assert(client->state == CLIENT_BUSY && job != NULL);
    if (job->state == JOB_CONTENT)
        client_say_content(client, job);
    else if (client->gear == GEAR_STREAM && client->room == CLIENT_ROOM_NONE)
        client_update_room(client); /* what was unsent may have been too much */
    if (client->state != CLIENT_CLOSING)
        client_arm(client);
}

/* --- The connection --- */

static struct client *client_of(struct conn *conn)
{
    return list_entry(conn, struct client, conn);
}

static void on_connected(struct conn *conn, int error)
{
    struct client *client = client_of(conn);

    if (client->state == CLIENT_CLOSING)
        return;
    assert(client->state == CLIENT_CONNECTING);
    if (error != 0) {
        const char *what = strerrordesc_np(-error);
        client_end_waiting(client, CLIENT_END_LOST, what != NULL ? what : "cannot connect");
        return;
    }
    client_enter(client, CLIENT_GREETING);
    command_queue_push(&client->commands, (struct client_command){.kind = COMMAND_GREETING});
    conn_start_reading(conn, false);
    client_arm(client);
}

/* A line of the reply to EHLO or LHLO, but the first. */
static void take_announcement(struct client *client, struct smtp_slice text)
{
    enum { AUTH_SIZE = 5 }; /* "AUTH " or "AUTH=" */
    uint64_t size_limit = 0;
    uint32_t feature = smtp_ehlo_keyword(text, &size_limit);

    client->features |= feature;
    if (feature == SMTP_EXT_SIZE)
        client->size_limit = size_limit;
    else if (feature == SMTP_EXT_AUTH && text.size > AUTH_SIZE)
        client->mechanisms |=
            sasl_client_offered((struct smtp_slice){text.data + AUTH_SIZE, text.size - AUTH_SIZE});
}

static bool is_hello(enum client_command_kind kind)
{
    return kind == COMMAND_EHLO || kind == COMMAND_LHLO;
}

/* One line of a reply; a reply of several is kept in client->reply until its last. */
static void on_line(struct client *client, const struct smtp_reply_line *line)
{
    struct smtp_slice reply = line->line;
    const struct client_command *head = command_queue_head(&client->commands);

    if (head != NULL && is_hello(head->kind) && line->code == 250 && client->reply_lines > 0)
        take_announcement(client, line->text);
    client->reply_lines++;
    if (!line->last || client->reply_size > 0) {
        struct smtp_slice part = client->reply_size == 0 ? line->line : line->text;
        uint32_t room = CLIENT_REPLY_MAX - client->reply_size;
        if (client->reply_size > 0 && room > 0) {
            client->reply[client->reply_size++] = ' ';
            room--;
        }
        uint32_t size = part.size < room ? part.size : room;
        memcpy(client->reply + client->reply_size, part.data, size);
        client->reply_size = (uint16_t)(client->reply_size + size);
        reply = (struct smtp_slice){client->reply, client->reply_size};
    }
    if (!line->last)
        return;
    client->reply_size = 0;
    client->reply_lines = 0;
    client->has_answered = true;
    client_on_reply(client, line->code, reply);
}

static size_t on_data(struct conn *conn, const char *bytes, size_t size)
{
    struct client *client = client_of(conn);
    struct smtp_reply_line line;
    size_t done = 0;
    bool was_tls = conn_is_tls(conn);

    client->has_answered = false;
    /* What stands behind the consent to STARTTLS in the clear is nobody's: RFC 3207 §4.2. */
    while (done < size && client->state != CLIENT_CLOSING && conn_is_tls(conn) == was_tls) {
        size_t consumed = 0;
        enum smtp_parse parse =
            smtp_reply_parse(&client->parser, bytes + done, size - done, &consumed, &line);
        done += consumed;
        assert(done <= size);
        if (parse == SMTP_PARSE_MORE)
            break;
        if (parse == SMTP_PARSE_DONE)
            on_line(client, &line);
        else
            client_end_waiting(client, CLIENT_END_BROKEN, smtp_reply_fault_text(client->parser.fault));
    }
    /* The time for a reply does not begin anew with each of its octets. */
    if (client->state != CLIENT_CLOSING && client->has_answered)
        client_arm(client);
    return size;
}

static void on_eof(struct conn *conn)
{
    struct client *client = client_of(conn);
    if (client->state == CLIENT_QUITTING)
        client_end(client, CLIENT_END_DONE, SMTP_SLICE("closed"));
    else
        client_end_waiting(client, CLIENT_END_LOST, "the peer closed the connection");
}

static void on_timeout(struct conn *conn)
{
    struct client *client = client_of(conn);

    if (client->state == CLIENT_READY && !list_is_empty(&client->site->dirty_link))
        client_arm(client); /* the pump of this turn may have work for it */
    else if (client->state == CLIENT_READY)
        client_say_quit(client);
    else if (client->state == CLIENT_QUITTING)
        client_end(client, CLIENT_END_DONE, SMTP_SLICE("closed"));
    else if (client->state != CLIENT_BUSY || !client_keeps_waiting(client))
        client_end_waiting(client, CLIENT_END_TIMEOUT, "timeout");
}

static void on_secured(struct conn *conn)
{
    struct client *client = client_of(conn);
    if (client->state != CLIENT_CLOSING)
        client_on_secured(client);
}

/* From here on the peer has all it needs for its reply. */
static void on_drained(struct conn *conn)
{
    struct client *client = client_of(conn);
    const struct client_command *head = command_queue_head(&client->commands);

    client->taken_bytes = client->queued_bytes;
    if (client->state == CLIENT_BUSY && head != NULL && client_command_is_end(head->kind))
        client_arm(client);
}

static void on_closed(struct conn *conn, int error)
{
    struct client *client = client_of(conn);
    struct site *site = client->site;
    struct endpoint *endpoint = client->endpoint;
    struct pool *pool = site->outbound->options.pool;

    if (client->state != CLIENT_CLOSING) {
        const char *what = error != 0 ? strerrordesc_np(error < 0 ? -error : error) : NULL;
        client_end_waiting(client, CLIENT_END_LOST, what != NULL ? what : "connection lost");
    }
    assert(client->job_count == 0 && client->login == NULL);
    list_remove(&client->site_link);
    command_queue_deinit(&client->commands, pool);
    pool_free(pool, client, sizeof(*client));
    endpoint_unuse(endpoint);
    site_session_closed(site, endpoint);
}

static const struct conn_handler client_handler = {
    .on_data = on_data,
    .on_connected = on_connected,
    .on_eof = on_eof,
    .on_timeout = on_timeout,
    .on_drained = on_drained,
    .on_secured = on_secured,
    .on_closed = on_closed,
};

int client_open(struct site *site, struct endpoint *endpoint)
{
    struct outbound *outbound = site->outbound;
    const struct sockaddr *address = (const struct sockaddr *)&endpoint->address;
    struct client *client = pool_alloc(outbound->options.pool, sizeof(*client));

    if (client == NULL)
        return -ENOMEM;
    memset(client, 0, offsetof(struct client, parser));
    client->reply_size = 0;
    client->reply_lines = 0;
    client->site = site;
    client->endpoint = endpoint;
    client->gear = GEAR_LOCKSTEP;
    list_init(&client->site_link);
    list_init(&client->room_link);
    list_init(&client->feeding_link);
    list_init(&client->jobs);
    command_queue_init(&client->commands);
    smtp_reply_parser_init(&client->parser);
    conn_init(&client->conn, outbound->options.loop, &client_handler, client);
    conn_set_timeout(&client->conn, outbound->config->timeouts.outbound_connect_ms);
    int result = conn_connect(&client->conn, address, address_size(address), NULL);
    if (result < 0) {
        pool_free(outbound->options.pool, client, sizeof(*client));
        return result;
    }
    list_push_back(&site->sessions, &client->site_link);
    endpoint_use(endpoint);
    site_session_opened(site, endpoint);
    return 0;
}
