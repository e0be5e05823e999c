#pragma once

/*
 * The parts of a connection, for gateway/net alone: conn.c holds its life, conn_receive.c and conn_send.c the
 * two directions, conn_direct.c what is received into the owner's memory.
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

/* Whether the next receive shall go into the owner's memory. */
bool conn_direct_is_due(const struct conn *conn);

/* Has the owner asked for memory in this turn, or receives the usual way when it has none. */
void conn_direct_later(struct conn *conn);
void conn_direct_receive(struct conn *conn);

/* Asks the owner for memory (NULL: none, or it is not to be used now); gives it back. */
void *conn_direct_space(struct conn *conn, size_t *size) __attribute__((warn_unused_result));
void conn_direct_fill(struct conn *conn, size_t size);

/* Keeps bytes that came before all that are held; it must hold none. */
void conn_hold_first(struct conn *conn, const char *bytes, size_t size);

/* A receive came home without bytes: 0 or a negative errno. Then conn_receive_settle. */
void conn_receive_ended(struct conn *conn, int result);

/* After a receive came home, the next step: another one, or the connection's end. */
void conn_receive_settle(struct conn *conn);

/* Forgets held bytes. */
void conn_drop_held(struct conn *conn);

/* Callbacks of the two completions; conn_direct_received while memory of the owner is out. */
void conn_received(struct completion *completion, int32_t result, uint32_t flags);
void conn_direct_received(struct completion *completion, int32_t result, uint32_t flags);
void conn_sent(struct completion *completion, int32_t result, uint32_t flags);

/* Submits what is queued. */
void conn_send_now(struct conn *conn);
