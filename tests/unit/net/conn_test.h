#pragma once

/*
 * A connection that writes down what happens to it, for the tests of conn.
 */

#include "net_test.h"

#include "gateway/net/conn.h"

enum probe_event {
    PROBE_DATA,
    PROBE_CONNECTED,
    PROBE_EOF,
    PROBE_TIMEOUT,
    PROBE_DRAINED,
    PROBE_SECURED,
    PROBE_CLOSED,
    PROBE_EVENTS,
};

struct probe {
    struct conn conn;
    int counts[PROBE_EVENTS];
    char text[256]; /* the first bytes received */
    size_t received;
    int connect_error;
    int close_error;

    /* What to do in the callback `act_on` (PROBE_EVENTS: nothing). */
    enum probe_event act_on;
    void (*act)(struct probe *probe);
    bool consume_nothing;
};

void probe_init(struct probe *probe, struct loop *loop);

/* Attached to one end of a pair and reading; returns the other end, a plain blocking socket. */
int probe_open(struct probe *probe, struct loop *loop);

static inline bool probe_is_closed(const struct probe *probe)
{
    return probe->counts[PROBE_CLOSED] > 0;
}

/* Closes it unless it is closed, and waits for that. */
void probe_end(struct probe *probe, struct loop *loop);
