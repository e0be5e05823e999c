#include "conn_test.h"

#include <string.h>

static void probe_note(struct probe *probe, enum probe_event event)
{
    assert_int_equal(probe->counts[PROBE_CLOSED], 0); /* on_closed is the last call ever */
    probe->counts[event]++;
    if (probe->act_on == event)
        probe->act(probe);
}

static size_t probe_data(struct conn *conn, const char *bytes, size_t size)
{
    struct probe *probe = conn->ctx;
    if (!probe->consume_nothing) {
        size_t room = sizeof(probe->text) - 1 - probe->received;
        if (probe->received < sizeof(probe->text) - 1)
            memcpy(probe->text + probe->received, bytes, size < room ? size : room);
        probe->received += size;
    }
    bool nothing = probe->consume_nothing;
    probe_note(probe, PROBE_DATA);
    return nothing ? 0 : size;
}

static void probe_connected(struct conn *conn, int error)
{
    struct probe *probe = conn->ctx;
    probe->connect_error = error;
    probe_note(probe, PROBE_CONNECTED);
}

static void probe_eof(struct conn *conn)
{
    probe_note(conn->ctx, PROBE_EOF);
}

static void probe_timeout(struct conn *conn)
{
    probe_note(conn->ctx, PROBE_TIMEOUT);
}

static void probe_drained(struct conn *conn)
{
    probe_note(conn->ctx, PROBE_DRAINED);
}

static void probe_secured(struct conn *conn)
{
    probe_note(conn->ctx, PROBE_SECURED);
}

static void probe_closed(struct conn *conn, int error)
{
    struct probe *probe = conn->ctx;
    probe->close_error = error;
    probe_note(probe, PROBE_CLOSED);
    /* The memory is ours again: whoever still touches it is found out. */
    memset(conn, 0xee, sizeof(*conn));
}

static const struct conn_handler probe_handler = {
    .on_data = probe_data,
    .on_connected = probe_connected,
    .on_eof = probe_eof,
    .on_timeout = probe_timeout,
    .on_drained = probe_drained,
    .on_secured = probe_secured,
    .on_closed = probe_closed,
};

void probe_init(struct probe *probe, struct loop *loop)
{
    *probe = (struct probe){.act_on = PROBE_EVENTS};
    conn_init(&probe->conn, loop, &probe_handler, probe);
}

int probe_open(struct probe *probe, struct loop *loop)
{
    int fds[2];
    net_test_pair(fds);
    probe_init(probe, loop);
    conn_attach(&probe->conn, fds[0]);
    conn_start_reading(&probe->conn, true);
    return fds[1];
}

void probe_end(struct probe *probe, struct loop *loop)
{
    if (probe_is_closed(probe))
        return;
    conn_close(&probe->conn);
    assert_false(probe_is_closed(probe)); /* never from inside the call */
    turn_until(loop, probe_is_closed(probe));
}
