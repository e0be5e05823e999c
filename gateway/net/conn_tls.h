#pragma once

/*
 * TLS between a connection and its socket, for gateway/net alone: conn_receive.c hands ciphertext in and gets
 * on_data called with what it holds, conn.c has output encrypted before it is sent. See conn.h.
 */

#include <openssl/ssl.h>

#include "gateway/net/buffers.h"
#include "gateway/net/conn.h"
#include "gateway/net/tls_inner.h"

/* Bytes of ciphertext that wait for the socket; beyond them output waits as it was queued. */
#define CONN_TLS_OUTPUT_MAX 65536

enum conn_tls_state {
    CONN_TLS_HANDSHAKE,
    CONN_TLS_SECURED,
    CONN_TLS_ENDED,  /* the peer said close_notify; we may still send */
    CONN_TLS_FAILED, /* the alert may still go out, nothing else */
};

struct conn_tls {
    SSL *session;
    struct tls_server *server; /* NULL: we are the client */
    struct tls_demand demand;  /* as the client */
    enum conn_tls_state state : 8;
    bool has_said_end; /* our close_notify is in the output */
    bool is_truncated;
    bool is_out_of_memory;
    const char *error;         /* static text */
    struct tx_queue plain;     /* output that waits for its encryption */
    struct buffer_piece *rest; /* decrypted bytes that on_data left: of one record, on the heap */
    const char *window;        /* ciphertext that the library may read now, and only now */
    size_t window_size;
    struct tls_info info; /* valid when secured */
};

/*
 * Takes ciphertext: makes on_data (and on_secured) be called, and answers the handshake. Returns how much of
 * it is done with: all, unless the connection was paused, finished or closed on the way.
 */
size_t conn_tls_receive(struct conn *conn, const char *bytes, size_t size);

/* Delivers the rest of a record that on_data left. There must be one. */
void conn_tls_give_rest(struct conn *conn);
void conn_tls_drop_rest(struct conn *conn);

/* Keeps decrypted bytes that the owner will take later; there must be none yet. */
void conn_tls_keep_rest(struct conn *conn, const char *bytes, size_t size);

/* The stream came to its end: a failed handshake, a truncation, or after close_notify nothing new. */
void conn_tls_take_end(struct conn *conn);

/* Encrypts what the output has room for; at the end of a finishing connection, says close_notify. */
void conn_tls_flush(struct conn *conn);

/* Forgets output that is not encrypted yet. */
void conn_tls_drop_output(struct conn *conn);

/* conn_finish was called. */
void conn_tls_finish(struct conn *conn);

/* Before on_closed: forgets output, and a session with which the handshake did not succeed. */
void conn_tls_end(struct conn *conn);

/* `tls` belongs to nobody any more; its connection may be gone. NULL is fine. */
void conn_tls_free(struct conn_tls *tls, struct loop *loop);
