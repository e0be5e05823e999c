/*
 * Receiving into the owner's memory, in the clear and through TLS: the same stream whatever the owner does,
 * and nobody writes to memory that was given back.
 */

#include "tls_test.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MEMORY_SIZE ((size_t)80000)
#define STREAM_SIZE ((size_t)2 << 20)
#define UNUSED_BYTE 0xee

static struct tls_server *server;
static char stream[STREAM_SIZE];

/* An owner that checks the stream, wherever its bytes come. */
struct owner {
    struct conn conn;
    uint64_t seed;       /* of its moods; 0: it has none */
    size_t space_max;    /* of the memory that it gives at a time */
    size_t received;     /* of the stream */
    size_t direct;       /* of them, into memory */
    size_t copied_first; /* bytes that on_data had seen when the first ones came into memory */
    size_t wants_direct; /* from this byte on */
    int spaces;
    int put_back; /* so often */
    int eof;
    int timeouts;
    int closed;
    int error;
    bool is_out; /* the memory */
    void (*on_fill)(struct owner *owner);
    char memory[MEMORY_SIZE];
};

static uint64_t draw(struct owner *owner, uint64_t below)
{
    return owner->seed != 0 ? net_test_random(&owner->seed) % below : below - 1;
}

static void expect_untouched(const struct owner *owner)
{
    assert_int_equal((unsigned char)owner->memory[0], UNUSED_BYTE);
    assert_memory_equal(owner->memory, owner->memory + 1, MEMORY_SIZE - 1);
}

static size_t owner_data(struct conn *conn, const char *bytes, size_t size)
{
    struct owner *owner = conn->ctx;
    assert_false(owner->is_out);
    net_test_check(bytes, size, owner->received);
    owner->received += size;
    if (owner->received >= owner->wants_direct && draw(owner, 3) > 0)
        conn_receive_direct(conn);
    if (draw(owner, 10) == 0) {
        conn_pause(conn);
        conn_resume(conn);
    }
    return size;
}

static void *owner_space(struct conn *conn, size_t *size)
{
    struct owner *owner = conn->ctx;
    assert_false(owner->is_out);
    assert_true(conn_is_open(conn) && !conn->paused);
    if (draw(owner, 20) == 0)
        return NULL;
    expect_untouched(owner);
    *size = 1 + draw(owner, owner->space_max);
    owner->is_out = true;
    owner->spaces++;
    return owner->memory;
}

static void owner_filled(struct conn *conn, size_t size)
{
    struct owner *owner = conn->ctx;
    assert_true(owner->is_out && owner->closed == 0 && owner->eof == 0);
    assert_true(size == 0 || conn_is_open(conn));
    owner->is_out = false;
    net_test_check(owner->memory, size, owner->received);
    if (owner->direct == 0 && size > 0)
        owner->copied_first = owner->received;
    size_t stays = size > 0 && draw(owner, 5) == 0 ? draw(owner, size) : size;
    owner->received += stays;
    owner->direct += stays;
    if (stays < size) {
        owner->put_back++;
        conn_put_back(conn, owner->memory + stays, size - stays);
    }
    memset(owner->memory, UNUSED_BYTE, MEMORY_SIZE);
    if (owner->on_fill != NULL && size > 0)
        owner->on_fill(owner);
}

static void owner_eof(struct conn *conn)
{
    struct owner *owner = conn->ctx;
    assert_false(owner->is_out);
    owner->eof++;
}

static void owner_timeout(struct conn *conn)
{
    ((struct owner *)conn->ctx)->timeouts++;
}

static void owner_closed(struct conn *conn, int error)
{
    struct owner *owner = conn->ctx;
    assert_false(owner->is_out);
    expect_untouched(owner);
    owner->closed++;
    owner->error = error;
    memset(conn, UNUSED_BYTE, sizeof(*conn));
}

static const struct conn_handler owner_handler = {
    .on_data = owner_data,
    .on_space = owner_space,
    .on_filled = owner_filled,
    .on_eof = owner_eof,
    .on_timeout = owner_timeout,
    .on_closed = owner_closed,
};

/* What stands on the other side: a socket, or TLS on it. */
struct far_side {
    struct tls_peer peer;
    bool has_tls;
    struct loop *loop;
};

static void open_both(struct owner *owner, struct far_side *far, struct loop *loop, bool has_tls)
{
    int fds[2];
    net_test_pair(fds);
    *owner = (struct owner){.space_max = MEMORY_SIZE};
    memset(owner->memory, UNUSED_BYTE, MEMORY_SIZE);
    conn_init(&owner->conn, loop, &owner_handler, owner);
    conn_attach(&owner->conn, fds[0]);
    conn_start_reading(&owner->conn, true);
    *far = (struct far_side){.peer.fd = fds[1], .has_tls = has_tls, .loop = loop};
    if (!has_tls)
        return;
    conn_start_tls(&owner->conn, server);
    tls_peer_open(&far->peer, fds[1], TLS1_2_VERSION, TLS1_3_VERSION);
    assert_true(tls_peer_shake(&far->peer, loop));
}

static void far_write(struct far_side *far, const char *bytes, size_t size)
{
    if (far->has_tls) {
        tls_peer_write(&far->peer, far->loop, bytes, size);
        return;
    }
    while (size > 0) {
        ssize_t sent = send(far->peer.fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        assert_true(sent > 0 || errno == EAGAIN);
        if (sent > 0) {
            bytes += sent;
            size -= (size_t)sent;
        }
        loop_turn(far->loop, sent > 0 ? 0 : 500);
    }
}

static void far_close(struct far_side *far)
{
    if (far->has_tls)
        tls_peer_close(&far->peer);
    else if (far->peer.fd >= 0)
        close(far->peer.fd);
}

static void end_both(struct owner *owner, struct far_side *far)
{
    if (owner->closed == 0)
        conn_close(&owner->conn);
    turn_until(far->loop, owner->closed == 1);
    far_close(far);
}

static int setup(void **state)
{
    struct tls_server_options options = tls_test_options();
    server = tls_test_server(&options);
    net_test_fill(stream, STREAM_SIZE, 0);
    return net_test_setup(state);
}

static int teardown(void **state)
{
    tls_server_free(server);
    return net_test_teardown(state);
}

/* --- The stream --- */

static void bytes_go_where_the_owner_says(void **state)
{
    for (int has_tls = 0; has_tls < 2; has_tls++) {
        struct owner owner;
        struct far_side far;
        open_both(&owner, &far, *state, has_tls);
        far_write(&far, stream, 10);
        turn_until(*state, owner.received == 10);
        far_write(&far, stream + 10, STREAM_SIZE - 10);
        turn_until(*state, owner.received == STREAM_SIZE);
        /* What was on its way when it was asked for came the usual way, and no more. */
        assert_int_equal(owner.copied_first, 10);
        assert_int_equal(owner.direct, STREAM_SIZE - 10);
        end_both(&owner, &far);
        assert_int_equal(owner.error, 0);
    }
}

static void whatever_the_owner_does_it_is_the_same_stream(void **state)
{
    for (uint64_t seed = 1; seed <= 24; seed++) {
        struct owner owner;
        struct far_side far;
        open_both(&owner, &far, *state, seed % 2 == 0);
        owner.seed = seed * 7919;
        uint64_t cuts = seed;
        for (size_t at = 0; at < STREAM_SIZE / 4;) {
            size_t size = 1 + net_test_random(&cuts) % (net_test_random(&cuts) % 2 ? 50 : 60000);
            size = size < STREAM_SIZE / 4 - at ? size : STREAM_SIZE / 4 - at;
            far_write(&far, stream + at, size);
            at += size;
        }
        shutdown(far.peer.fd, SHUT_WR);
        turn_until(*state, owner.eof == 1);
        assert_int_equal(owner.received, STREAM_SIZE / 4);
        assert_true(owner.direct > 0 && owner.put_back > 0);
        end_both(&owner, &far);
    }
}

/* The multishot receive takes no more than one buffer in front of what is received directly. */
static void what_stands_before_is_received_in_one_buffer(void **state)
{
    struct owner owner;
    struct far_side far;
    open_both(&owner, &far, *state, false);
    far_write(&far, stream, 10);
    turn_until(*state, owner.spaces == 1);
    owner.wants_direct = 30000;
    /* The memory that is out is filled first. */
    owner.space_max = 100;
    far_write(&far, stream + 10, 5);
    turn_until(*state, owner.received == 15);
    conn_pause(&owner.conn);
    assert_int_equal(send(far.peer.fd, stream + 15, 200000, 0), 200000);
    conn_resume(&owner.conn);
    turn_until(*state, owner.received == 200015);
    assert_true(owner.direct > 0);
    end_both(&owner, &far);
}

/* One completion for each receive, whatever its size, and no submission of its own in the steady state. */
static void what_a_receive_costs(void **state)
{
    struct owner owner;
    struct far_side far;
    open_both(&owner, &far, *state, false);
    far_write(&far, stream, 10);
    turn_until(*state, owner.spaces == 1);
    uint64_t completions = loop_stats(*state)->completions;
    uint64_t enters = loop_stats(*state)->enters;
    for (size_t at = 10; at < 50010; at += 1000) {
        assert_int_equal(send(far.peer.fd, stream + at, 1000, 0), 1000);
        turn_until(*state, owner.received == at + 1000);
    }
    assert_int_equal(loop_stats(*state)->completions - completions, 50);
    assert_true(loop_stats(*state)->enters - enters <= 101);
    end_both(&owner, &far);
}

/* --- Ends, while the memory is out --- */

/* Memory is out, the far side is silent. */
static void open_waiting(struct owner *owner, struct far_side *far, struct loop *loop)
{
    open_both(owner, far, loop, false);
    far_write(far, stream, 10);
    turn_until(loop, owner->is_out);
    assert_int_equal(owner->conn.rx, CONN_RX_DIRECT);
    loop_turn(loop, 1000);
}

static void closing_calls_the_memory_back(void **state)
{
    struct owner owner;
    struct far_side far;
    open_waiting(&owner, &far, *state);
    conn_close(&owner.conn);
    assert_true(owner.is_out); /* not from inside the call */
    assert_int_equal(send(far.peer.fd, stream + 10, 5000, 0), 5000);
    turn_until(*state, owner.closed == 1);
    assert_int_equal(owner.received, 10);
    far_close(&far);
}

static void finishing_calls_the_memory_back_and_reads_on(void **state)
{
    struct owner owner;
    struct far_side far;
    char reply[8];
    open_waiting(&owner, &far, *state);
    conn_send_copy(&owner.conn, "421", 3);
    conn_finish(&owner.conn);
    turn_until(*state, !owner.is_out);
    assert_int_equal(net_test_read_all(far.peer.fd, reply, sizeof(reply)), 3);
    assert_int_equal(owner.closed, 0);
    assert_int_equal(send(far.peer.fd, stream + 10, 5000, 0), 5000);
    shutdown(far.peer.fd, SHUT_WR);
    turn_until(*state, owner.closed == 1);
    assert_int_equal(owner.received, 10);
    assert_int_equal(owner.error, 0);
    far_close(&far);
}

static void the_end_of_the_stream_gives_the_memory_back_first(void **state)
{
    struct owner owner;
    struct far_side far;
    open_waiting(&owner, &far, *state);
    shutdown(far.peer.fd, SHUT_WR);
    turn_until(*state, owner.eof == 1);
    assert_int_equal(owner.conn.rx, CONN_RX_ENDED);
    end_both(&owner, &far);
}

static void a_reset_gives_the_memory_back_first(void **state)
{
    struct owner owner;
    struct far_side far;
    open_waiting(&owner, &far, *state);
    net_test_reset(far.peer.fd);
    turn_until(*state, owner.closed == 1);
    assert_int_equal(owner.error, -ECONNRESET);
}

static void a_timeout_leaves_the_memory_out(void **state)
{
    struct owner owner;
    struct far_side far;
    open_waiting(&owner, &far, *state);
    conn_set_timeout(&owner.conn, 50);
    turn_until(*state, owner.timeouts == 1);
    assert_true(owner.is_out);
    far_write(&far, stream + 10, 5000);
    turn_until(*state, owner.received == 5010);
    end_both(&owner, &far);
}

static void a_pause_lets_the_memory_fill_and_asks_for_no_more(void **state)
{
    struct owner owner;
    struct far_side far;
    open_waiting(&owner, &far, *state);
    owner.space_max = 1000;
    far_write(&far, stream + 10, 100);
    turn_until(*state, owner.received == 110 && owner.is_out);
    conn_pause(&owner.conn);
    far_write(&far, stream + 110, 5000);
    turn_until(*state, owner.received == 1110);
    for (int turn = 0; turn < 5; turn++)
        loop_turn(*state, 1000);
    assert_int_equal(owner.received, 1110);
    assert_false(owner.is_out);
    conn_resume(&owner.conn);
    turn_until(*state, owner.received == 5110);
    conn_pause(&owner.conn);
    shutdown(far.peer.fd, SHUT_WR);
    turn_until(*state, !owner.is_out);
    assert_int_equal(owner.eof, 0);
    conn_resume(&owner.conn);
    turn_until(*state, owner.eof == 1);
    end_both(&owner, &far);
}

/* The peer is gone for what we send; what it said before is still read, into memory or not. */
static void a_failed_send_begins_the_receive_anew(void **state)
{
    struct owner owner;
    struct far_side far;
    open_waiting(&owner, &far, *state);
    int spaces = owner.spaces;
    owner.conn.tx = CONN_TX_IDLE;
    shutdown(owner.conn.fd, SHUT_WR);
    conn_send_copy(&owner.conn, "250", 3);
    turn_until(*state, owner.spaces > spaces);
    far_write(&far, stream + 10, 500);
    turn_until(*state, owner.received == 510);
    shutdown(far.peer.fd, SHUT_WR);
    turn_until(*state, owner.closed == 1);
    assert_int_equal(owner.error, -EPIPE);
    far_close(&far);
}

static void close_owner(struct owner *owner)
{
    conn_close(&owner->conn);
}

static void finish_owner(struct owner *owner)
{
    conn_finish(&owner->conn);
}

static void the_owner_may_end_it_when_it_is_filled(void **state)
{
    for (int way = 0; way < 4; way++) {
        struct owner owner;
        struct far_side far;
        open_both(&owner, &far, *state, way % 2 == 1);
        owner.on_fill = way < 2 ? close_owner : finish_owner;
        far_write(&far, stream, 10);
        turn_until(*state, far.has_tls ? owner.received == 10 : owner.is_out);
        if (far.has_tls) {
            assert_int_equal(SSL_write(far.peer.session, stream + 10, 16000), 16000);
            assert_true(tls_peer_send(&far.peer) > 16000);
        } else {
            assert_int_equal(send(far.peer.fd, stream + 10, 16000, 0), 16000);
        }
        turn_until(*state, owner.direct > 0);
        shutdown(far.peer.fd, SHUT_WR);
        turn_until(*state, owner.closed == 1);
        far_close(&far);
    }
}

/* A piece that is put back and then not wanted any more must not keep the connection from its end. */
static void put_back_and_finish(void **state)
{
    for (int has_tls = 0; has_tls < 2; has_tls++) {
        struct owner owner;
        struct far_side far;
        open_both(&owner, &far, *state, has_tls);
        far_write(&far, stream, 10);
        turn_until(*state, owner.received == 10);
        owner.seed = 1; /* moody: some of it is put back sooner or later */
        owner.on_fill = NULL;
        for (size_t at = 10; owner.put_back == 0 && at + 16000 < STREAM_SIZE; at += 16000)
            far_write(&far, stream + at, 16000);
        assert_true(owner.put_back > 0);
        conn_finish(&owner.conn);
        shutdown(far.peer.fd, SHUT_WR);
        turn_until(*state, owner.closed == 1);
        far_close(&far);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bytes_go_where_the_owner_says, setup, teardown),
        cmocka_unit_test_setup_teardown(whatever_the_owner_does_it_is_the_same_stream, setup, teardown),
        cmocka_unit_test_setup_teardown(what_stands_before_is_received_in_one_buffer, setup, teardown),
        cmocka_unit_test_setup_teardown(what_a_receive_costs, setup, teardown),
        cmocka_unit_test_setup_teardown(closing_calls_the_memory_back, setup, teardown),
        cmocka_unit_test_setup_teardown(finishing_calls_the_memory_back_and_reads_on, setup, teardown),
        cmocka_unit_test_setup_teardown(the_end_of_the_stream_gives_the_memory_back_first, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reset_gives_the_memory_back_first, setup, teardown),
        cmocka_unit_test_setup_teardown(a_timeout_leaves_the_memory_out, setup, teardown),
        cmocka_unit_test_setup_teardown(a_pause_lets_the_memory_fill_and_asks_for_no_more, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failed_send_begins_the_receive_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(the_owner_may_end_it_when_it_is_filled, setup, teardown),
        cmocka_unit_test_setup_teardown(put_back_and_finish, setup, teardown),
    };
    return cmocka_run_group_tests_name("net/direct", tests, tls_test_files_make, tls_test_files_remove);
}
