#include "tests/fuzz/fake_conn.h"

#include "gateway/base/address.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct fake_conn fake_conn;

static struct sockaddr_storage peer;

void fake_conn_begin(const char *input)
{
    assert(fake_conn.conn == NULL);
    if (fake_conn.output.text == NULL)
        transcript_init(&fake_conn.output);
    const struct transcript output = fake_conn.output;
    fake_conn = (struct fake_conn){.input = input, .output = output};
    transcript_clear(&fake_conn.output);
    int error = parse_ip("192.0.2.7", 4321, &peer);
    assert(error == 0);
}

/* Whether the gateway had memory for the next octets. */
static bool deliver_directly(struct conn *conn)
{
    size_t size = 0;
    char *memory = conn->handler->on_space(conn, &size);
    if (memory == NULL) {
        conn->direct = false;
        return false;
    }
    assert(size > 0 && conn->state == CONN_OPEN);
    if (size > fake_conn.given - fake_conn.taken)
        size = fake_conn.given - fake_conn.taken;
    memcpy(memory, fake_conn.input + fake_conn.taken, size);
    fake_conn.filled = size;
    conn->filling = true;
    conn->handler->on_filled(conn, size);
    conn->filling = false;
    assert(fake_conn.put_back <= size);
    fake_conn.taken += size - fake_conn.put_back;
    return true;
}

bool fake_conn_deliver(void)
{
    struct conn *conn = fake_conn.conn;
    if (conn == NULL || conn->state != CONN_OPEN || conn->paused || fake_conn.taken == fake_conn.given)
        return false;
    if (conn->direct && fake_conn.put_back == 0 && deliver_directly(conn))
        return true;
    if (conn->state != CONN_OPEN || conn->paused)
        return true;
    const size_t size = fake_conn.given - fake_conn.taken;
    char *block = malloc(size);
    assert(block != NULL);
    memcpy(block, fake_conn.input + fake_conn.taken, size);
    fake_conn.put_back = 0;
    const size_t taken = conn->handler->on_data(conn, block, size);
    assert(taken == size || conn->paused || conn->state != CONN_OPEN);
    fake_conn.taken += taken;
    free(block);
    return true;
}

bool fake_conn_drain(void)
{
    struct conn *conn = fake_conn.conn;
    if (conn == NULL || conn->state != CONN_OPEN || fake_conn.undrained == 0)
        return false;
    fake_conn.undrained = 0;
    conn->handler->on_drained(conn);
    return true;
}

bool fake_conn_time_out(void)
{
    struct conn *conn = fake_conn.conn;
    if (conn == NULL || conn->state != CONN_OPEN || !fake_conn.is_due)
        return false;
    fake_conn.is_due = false;
    conn->handler->on_timeout(conn);
    return true;
}

void fake_conn_end_input(void)
{
    struct conn *conn = fake_conn.conn;
    if (conn == NULL || conn->state != CONN_OPEN || fake_conn.is_eof_told)
        return;
    assert(fake_conn.taken == fake_conn.given);
    fake_conn.is_eof_told = true;
    conn->handler->on_eof(conn);
}

void fake_conn_end(void)
{
    struct conn *conn = fake_conn.conn;
    if (conn == NULL)
        return;
    fake_conn.conn = NULL;
    conn->state = CONN_CLOSED;
    conn->handler->on_closed(conn, 0);
}

/* --- gateway/net/conn.h --- */

void conn_init(struct conn *conn, struct loop *loop, const struct conn_handler *handler, void *ctx)
{
    memset(conn, 0, sizeof(*conn));
    conn->loop = loop;
    conn->handler = handler;
    conn->ctx = ctx;
}

void conn_attach(struct conn *conn, int fd)
{
    assert(fake_conn.conn == NULL && fd >= 0);
    conn->state = CONN_OPEN;
    fake_conn.conn = conn;
}

void conn_start_reading(struct conn *conn, bool expect_silence)
{
    conn->reading = true;
}

void conn_pause(struct conn *conn)
{
    conn->paused = true;
}

void conn_resume(struct conn *conn)
{
    conn->paused = false;
}

void conn_receive_direct(struct conn *conn)
{
    assert(conn->reading);
    conn->direct = conn->state == CONN_OPEN;
}

void conn_put_back(struct conn *conn, const void *bytes, size_t size)
{
    assert(conn->filling && size > 0 && size <= fake_conn.filled && fake_conn.put_back == 0);
    /* They are delivered out of the input once more: let them be the same. */
    assert(memcmp(fake_conn.input + fake_conn.taken + fake_conn.filled - size, bytes, size) == 0);
    if (conn->state == CONN_OPEN)
        fake_conn.put_back = size;
}

void conn_send_copy(struct conn *conn, const void *bytes, size_t size)
{
    if (conn->state != CONN_OPEN)
        return;
    transcript_add_octets(&fake_conn.output, bytes, size);
    fake_conn.undrained += size;
}

void conn_send_static(struct conn *conn, const void *bytes, size_t size)
{
    conn_send_copy(conn, bytes, size);
}

size_t conn_pending_bytes(const struct conn *conn)
{
    return fake_conn.undrained;
}

void conn_set_timeout(struct conn *conn, uint64_t ms)
{
    fake_conn.is_due = ms == 0;
}

void conn_clear_timeout(struct conn *conn)
{
    fake_conn.is_due = false;
}

void conn_finish(struct conn *conn)
{
    assert(conn->state == CONN_OPEN);
    conn->state = CONN_FINISHING;
    fake_conn.is_finished = true;
}

/* No listener of the driver has TLS. */
void conn_start_tls(struct conn *conn, struct tls_server *server)
{
    abort();
}

const struct tls_info *conn_tls_info(struct conn *conn)
{
    return NULL;
}

bool conn_tls_any_name(struct conn *conn, bool (*fits)(const void *context, const char *name),
                       const void *context)
{
    return false;
}

const char *conn_tls_error(const struct conn *conn)
{
    return "";
}

int conn_tls_binding(struct conn *conn, enum tls_binding type, uint8_t *into, size_t capacity)
{
    return -ENOTCONN;
}

const struct sockaddr *conn_peer(struct conn *conn)
{
    return (const struct sockaddr *)&peer;
}

/* --- gateway/net/loop.h --- */

uint64_t loop_now_us(const struct loop *loop)
{
    return UINT64_C(1000000000);
}

void loop_wake_within(struct loop *loop, uint64_t us)
{
}

uint64_t loop_now_wall_ms(const struct loop *loop)
{
    return UINT64_C(1800000000000);
}
