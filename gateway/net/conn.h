#pragma once

/*
 * A connection: a byte stream with a timeout, back-pressure in both directions and batched output.
 *
 * Embedded in its owner's session. Everything here belongs to the thread of the loop. Callbacks come from
 * loop_turn only, never from inside a function of this header, with one exception: a conn_ref may be released
 * at once when the connection can no longer send. Every function may be called in every callback.
 *
 * Life: conn_init, then conn_attach or conn_connect, ..., conn_close or conn_finish (or a failure),
 * on_closed. The memory belongs to the connection from attach/connect until on_closed, the last call ever.
 */

#include <assert.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "gateway/base/list.h"
#include "gateway/net/loop.h"
#include "gateway/net/timer.h"
#include "gateway/net/tls.h"
#include "gateway/net/tx.h"

#define CONN_FINISH_MS 10000 /* conn_finish: at most so long for the output to go out */
#define CONN_LINGER_MS 2000  /* and then at most so long for the peer to close its side */

struct conn;
struct conn_tls;

/* Any callback but on_data may be NULL; on_space and on_filled are needed by conn_receive_direct. */
struct conn_handler {
    /*
     * Bytes came in; returns how many were consumed. It must be all of them unless the connection was paused,
     * finished or closed inside: the rest comes again, first and in order, after conn_resume. The bytes are
     * valid only during the call.
     */
    size_t (*on_data)(struct conn *conn, const char *bytes, size_t size);

    /*
     * After conn_receive_direct: memory for the next bytes of the stream, *size (at least 1) of them at most.
     * It is the connection's until on_filled. NULL: on_data is given all bytes again, from the next one on.
     */
    void *(*on_space)(struct conn *conn, size_t *size);

    /*
     * The memory is the owner's again, and its first `size` bytes came in. Called exactly once for each
     * memory, before on_eof and on_closed; 0 when nothing came, and always when the connection is not open
     * any more. A pause does not hold it up.
     */
    void (*on_filled)(struct conn *conn, size_t size);

    /* conn_connect came to its end: 0, or a negative errno and then on_closed with the same error follows. */
    void (*on_connected)(struct conn *conn, int error);

    /* The peer has closed its side, all bytes are delivered; output can still be sent. NULL: conn_close. */
    void (*on_eof)(struct conn *conn);

    /* conn_set_timeout's time is over; it is not set any more. NULL: conn_close. */
    void (*on_timeout)(struct conn *conn);

    /* All queued output was handed to the kernel; with TLS it may also have been the handshake's own. */
    void (*on_drained)(struct conn *conn);

    /* The handshake that conn_start_tls or conn_start_tls_client began is done: conn_tls_info knows more. */
    void (*on_secured)(struct conn *conn);

    /*
     * The end: 0 when the owner closed or finished, else the negative errno that ended it; -EPROTO when TLS
     * failed, and then conn_tls_error still tells why.
     */
    void (*on_closed)(struct conn *conn, int error);
};

enum conn_state {
    CONN_IDLE,
    CONN_CONNECTING,
    CONN_OPEN,
    CONN_FINISHING, /* output goes out, input is dropped */
    CONN_LINGERING, /* FIN sent, waiting for the peer's */
    CONN_CLOSING,   /* waiting for completions to come home */
    CONN_CLOSED,
};

enum conn_rx {
    CONN_RX_OFF,
    CONN_RX_ARMED,
    CONN_RX_DIRECT, /* one receive into the owner's memory */
    CONN_RX_CANCELLING,
    CONN_RX_STARVED, /* waits for receive buffers */
    CONN_RX_ENDED,   /* end of the stream was seen */
};

enum conn_tx {
    CONN_TX_IDLE,
    CONN_TX_SENDING, /* one send (or the connect) is in the kernel */
    CONN_TX_BROKEN,  /* the peer takes no more; what it sent before is still read */
};

/* All fields are private to gateway/net, save `ctx`. */
struct conn {
    struct completion receive;
    struct completion send;
    struct loop *loop;
    const struct conn_handler *handler;
    void *ctx;
    int fd;
    int error;
    enum conn_state state : 8;
    enum conn_rx rx : 8;
    enum conn_tx tx : 8;
    bool paused;
    bool reading; /* conn_start_reading was called */
    bool eof_told;
    bool receives_singly;     /* its peer sends faster than it is heard: one buffer at a time */
    bool delivering;          /* inside on_data, on_space or on_filled */
    bool filling;             /* inside on_filled */
    bool direct;              /* on_space is asked before bytes are received */
    bool was_direct;          /* once: what stands before such bytes is received one buffer at a time */
    struct list ready_link;   /* loop: held bytes to deliver */
    struct list flush_link;   /* loop: output to submit, or to be finalised */
    struct list starved_link; /* buffers: waits to receive */
    struct timer timer;
    struct buffer_piece *held_first;
    struct buffer_piece *held_last;
    size_t held_bytes;
    size_t space;           /* bytes of the owner's memory */
    struct tx_queue output; /* what goes to the kernel as it stands: with TLS, ciphertext */
    struct conn_tls *tls;   /* NULL in the clear */
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } peer, local; /* family AF_UNSPEC until somebody asks */
};

static_assert(sizeof(struct conn) <= 384, "an idle connection is small");

void conn_init(struct conn *conn, struct loop *loop, const struct conn_handler *handler, void *ctx);

/* Takes `fd`, a connected stream socket. Reading starts with conn_start_reading. */
void conn_attach(struct conn *conn, int fd);

/*
 * Starts to connect, from `source` unless NULL (its port may be 0). On an error nothing has begun: -EMFILE,
 * -ENFILE, -EADDRINUSE, -EADDRNOTAVAIL, -EAFNOSUPPORT, ...; on_connected tells the rest. Set a timeout first:
 * there is no other than the kernel's (an error clears it). Output may be queued before the connection
 * stands. The address of a Unix socket is not copied: it must live until on_connected or on_closed.
 */
int conn_connect(struct conn *conn, const struct sockaddr *peer, socklen_t peer_size,
                 const struct sockaddr *source) __attribute__((warn_unused_result));

/* `expect_silence`: we speak first, so the kernel need not look for bytes before it waits for them. */
void conn_start_reading(struct conn *conn, bool expect_silence);

/*
 * Stops on_data. What is already on its way is held: less than two turns' worth of receives, and from then on
 * one buffer at a time, after which the kernel holds back the peer. When all connections of the loop together
 * hold BUFFERS_COPIES_MAX, one more that must hold is ended with -ENOMEM. A short pause costs no system call.
 * Calls do not nest.
 */
void conn_pause(struct conn *conn);

/*
 * Bytes that are known to be many need no copy: from now on on_space is asked where they shall go, and
 * on_filled told when they are there, until on_space answers NULL. What was received before is given to
 * on_data first. The owner keeps a timeout: the memory is out as long as the peer is silent; conn_close and
 * conn_finish call it back. Not before conn_start_reading; TLS must not be started while memory is out.
 * With TLS each record is opened into the memory; memory for less than a record (16 KiB) is given back, as if
 * on_space had answered NULL.
 *
 * What it costs in the clear: one submission and one completion for each receive, and once a connection the
 * cancelling of the multishot receive (two more), after which on_data is given one buffer at a time, so that
 * no more than one is received in vain in front of the many. No system call of its own.
 */
void conn_receive_direct(struct conn *conn);

/*
 * In on_filled alone, at most once: these bytes, the last of those that were filled, go to on_data after all,
 * before all others. They are copied, so that the memory may go at once.
 */
void conn_put_back(struct conn *conn, const void *bytes, size_t size);

/* Held bytes are delivered in this turn or the next, before any new ones. Harmless when not paused. */
void conn_resume(struct conn *conn);

/*
 * Output. Everything queued in a turn leaves as one send. Bytes queued on a closing or broken connection are
 * dropped; a lack of memory ends the connection with -ENOMEM.
 */
void conn_send_static(struct conn *conn, const void *bytes, size_t size); /* they outlive the connection */
void conn_send_copy(struct conn *conn, const void *bytes, size_t size);
void conn_send_ref(struct conn *conn, const void *bytes, size_t size, struct conn_ref *ref);

/*
 * Queued bytes that the kernel has not taken. A session stops reading above a limit, until on_drained. With
 * TLS: the bytes that wait for their encryption, and the ciphertext.
 */
size_t conn_pending_bytes(const struct conn *conn);

/*
 * Octets that the other machine has acknowledged so far, TLS's own and the SYN (one) included; UINT64_MAX
 * where nobody knows, as of a Unix socket. A reply cannot be to what was not acknowledged before. One system
 * call.
 */
uint64_t conn_acked_bytes(const struct conn *conn);

/* How far the other machine has come with what the kernel was given. */
struct conn_taken {
    uint64_t acked_bytes;   /* as conn_acked_bytes says it */
    uint32_t since_sent_ms; /* since octets last left, be it for the second time; 0: unknown */
    bool is_all;            /* nothing is queued, here or in the kernel, that it has not acknowledged */
};

/* One system call. Of a Unix socket nobody knows more than what the kernel has taken. */
struct conn_taken conn_taken(const struct conn *conn);

/* Moves or sets the one timeout of the connection; cheap enough for every command. */
void conn_set_timeout(struct conn *conn, uint64_t ms);
void conn_clear_timeout(struct conn *conn);

/* Ends at once; queued output is dropped. on_closed follows from the loop. Harmless when already closing. */
void conn_close(struct conn *conn);

/*
 * Ends politely: sends what is queued, then FIN, reads and drops what the peer still sends (so that no RST
 * overtakes our last reply), closes. No callback but on_closed (0, or what went wrong) comes after this.
 */
void conn_finish(struct conn *conn);

/*
 * Secures the connection, as the server. Output queued before goes out in the clear, first; all later output
 * waits for the end of the handshake. Every byte that on_data is given from now on came through TLS: what the
 * peer sent in the clear behind the command that led here is taken for a part of the handshake, which fails.
 * May be called in on_data, which then consumes all that it was given, but for what is TLS already (behind a
 * PROXY header, say): what it leaves is taken for the beginning of the handshake. Or before
 * conn_start_reading. Set a timeout first: there is no other for the handshake. Harmless when the connection
 * is not open.
 *
 * on_secured tells the success. A failure sends the alert and ends the connection: on_closed with -EPROTO.
 * The peer's close_notify is the end of its stream (on_eof); what it sends behind that is dropped. From here
 * on conn_finish says close_notify before its FIN; before the handshake is done it drops what waits for it.
 * A reference given to conn_send_ref is released as soon as its bytes are encrypted.
 */
void conn_start_tls(struct conn *conn, struct tls_server *server);

/*
 * Secures the connection, as the client: as conn_start_tls, but we speak first. The ClientHello goes out
 * behind what was queued before; all later output waits for the end of the handshake. In on_data the owner
 * consumes all that came with the server's consent (a 220): what stands behind it in the clear is thus thrown
 * away, as RFC 3207 section 4.2 demands. Bytes in the clear that come later, or were held, are no TLS, so the
 * handshake fails; nothing of them ever reaches on_data. For TLS from the first byte call it in on_connected.
 *
 * `server_name` is told to the server (SNI) and picks its certificate; NULL, or an address: nothing is told.
 * `verify_name` is the name that the server's certificate must cover by one of its DNS names, a wildcard
 * standing for its whole first label (RFC 6125 section 6.4, RFC 7817); it must lead to one of the client's
 * CAs and be valid now. Else the handshake fails, and nothing that was queued after the start is sent. With
 * NULL any certificate will do, and conn_tls_info tells whether it would have been verified. Names are as in
 * the DNS (A-labels), with or without a final dot; an address is held against the certificate's addresses; an
 * unfit name is covered by nothing. The names are copied.
 *
 * `slot` (NULL: none) remembers the session for the next connection; it must outlive this one.
 *
 * With TLS 1.3 on_secured comes before the server has judged our certificate: its refusal comes as the
 * connection's end, with -EPROTO.
 */
void conn_start_tls_client(struct conn *conn, struct tls_client *client, const char *server_name,
                           const char *verify_name, struct tls_session_slot *slot);

/* Whether TLS was started, be its handshake done or not. */
static inline bool conn_is_tls(const struct conn *conn)
{
    return conn->tls != NULL;
}

/* NULL in the clear and before the handshake is done. Lives until on_closed has returned. */
const struct tls_info *conn_tls_info(struct conn *conn);

/*
 * Shows `fits` the DNS names of the peer's certificate, or its common name where it has none, until one is
 * taken. Whether one was; false in the clear and without a certificate. A name that is not fit is shown as
 * "".
 */
bool conn_tls_any_name(struct conn *conn, bool (*fits)(const void *context, const char *name),
                       const void *context);

/* Why TLS failed, for the log: static text, never NULL; empty when nothing has failed. */
const char *conn_tls_error(const struct conn *conn);

/* The stream ended without close_notify: an attacker may have cut it. For on_eof and later. */
bool conn_was_truncated(const struct conn *conn);

/*
 * The channel binding of a secured connection; TLS_BINDING_MAX bytes are always enough. The size, or
 * -ENOTCONN (not secured), -ENOTSUP (this connection has no such binding), -ENOSPC.
 */
int conn_tls_binding(struct conn *conn, enum tls_binding type, uint8_t *into, size_t capacity)
    __attribute__((warn_unused_result));

/* Neither closing nor finishing: what is sent has a chance, callbacks still come. */
static inline bool conn_is_open(const struct conn *conn)
{
    return conn->state == CONN_OPEN;
}

/* The addresses of the two ends; AF_UNSPEC when unknown. Valid as long as the connection. */
const struct sockaddr *conn_peer(struct conn *conn);
const struct sockaddr *conn_local(struct conn *conn);
