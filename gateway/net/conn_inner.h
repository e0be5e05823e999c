#pragma once

/*
 * The parts of a connection, for gateway/net alone: conn.c holds its life, conn_receive.c and conn_send.c the
 * two directions.
 */

#include "gateway/net/conn.h"
#include "gateway/net/loop_inner.h"

/* Moves to the next state; asserts that the diagram in conn.c has such an arrow. */
void conn_enter(struct conn *conn, enum conn_state next);

/* Begins to close because of `error` (0: wanted); harmless when already closing. */
void conn_fail(struct conn *conn, int error);

/* Has the end of this turn look at the connection: output, FIN, or its end. */
void conn_flush_later(struct conn *conn);

/* The peer takes no more output; sends it a FIN, or closes when the peer's has come already. */
void conn_say_fin(struct conn *conn);

/* Receives again when the state calls for it and nothing is in its way. */
void conn_receive_continue(struct conn *conn);

/* Stops receiving for good: cancels, or leaves the queue of the starved. */
void conn_receive_stop(struct conn *conn);

/* Calls on_data and returns how much was consumed. */
size_t conn_give(struct conn *conn, const char *bytes, size_t size);

/* Forgets held bytes. */
void conn_drop_held(struct conn *conn);

/* Callbacks of the two completions. */
void conn_received(struct completion *completion, int32_t result, uint32_t flags);
void conn_sent(struct completion *completion, int32_t result, uint32_t flags);

/* Submits what is queued. */
void conn_send_now(struct conn *conn);
