/*
 * Stands in for the sources of gateway/net behind conn.h and for the clock of loop.h, without sockets and
 * without time: one connection, whose client is a run of octets that the driver hands over piece by piece.
 * Single thread.
 */
#pragma once

#include "gateway/net/conn.h"
#include "tests/unit/proto/transcript.h"

/* What the gateway sent, and where the connection stands. */
struct fake_conn {
    struct conn *conn; /* NULL: none was attached, or on_closed was called */
    const char *input;
    size_t given; /* octets of the input that the client has sent so far */
    size_t taken; /* of those, octets that on_data took */
    struct transcript output;
    size_t filled;    /* octets that came into memory of the gateway's own */
    size_t put_back;  /* of those, the last ones that on_data shall be given after all */
    size_t undrained; /* octets of output since the last on_drained */
    bool is_due;      /* a timeout of no time was set */
    bool is_finished; /* the gateway ended it */
    bool is_eof_told;
};
extern struct fake_conn fake_conn;

/* Before the gateway is given a connection; `input` outlives it. */
void fake_conn_begin(const char *input);

/* Each does one thing that is due, and says whether there was any. */
bool fake_conn_deliver(void); /* octets that were given, all at once, in a block of just their size; or into
                                 memory of the gateway's own */
bool fake_conn_drain(void);
bool fake_conn_time_out(void);

/* The client has closed its side, once all that it sent was taken. */
void fake_conn_end_input(void);

/* Calls on_closed, if the connection is still there. */
void fake_conn_end(void);
