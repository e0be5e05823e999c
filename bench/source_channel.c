// The source's connections: a socket, in the clear or behind BoringSSL. See source.h.
#include "bench/source.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include <openssl/err.h>

enum { RECORD_HEADER = 5 }; // RFC 8446 section 5.1: type, version, and in the last two octets the length

static int channel_keep_ticket(SSL *tls, SSL_SESSION *ticket)
{
    struct channel *channel = SSL_get_app_data(tls);
    SSL_SESSION_free(channel->ticket);
    channel->ticket = ticket;
    return 1; // it is ours now
}

static void channel_see_record(int is_sent, int version, int type, const void *bytes, size_t size, SSL *tls,
                               void *context)
{
    struct channel *channel = SSL_get_app_data(tls);
    if (type != SSL3_RT_HEADER || !channel->counting)
        return;
    assert(size == RECORD_HEADER);
    const uint8_t *header = bytes;
    uint64_t record = RECORD_HEADER + ((uint64_t)header[3] << 8 | header[4]);
    struct source_records *records = &channel->records;
    *(is_sent ? &records->sent : &records->received) += 1;
    *(is_sent ? &records->sent_bytes : &records->received_bytes) += record;
}

SSL_CTX *channel_context(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_method());
    if (context == NULL || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1)
        source_die("TLS");
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, channel_keep_ticket);
    SSL_CTX_set_msg_callback(context, channel_see_record);
    return context;
}

static _Noreturn void channel_die(const char *what)
{
    uint32_t code = ERR_peek_error();
    fprintf(stderr, "source: %s: %s\n", what, code != 0 ? ERR_reason_error_string(code) : strerror(errno));
    exit(EX_PROTOCOL);
}

void channel_open(struct channel *channel, const struct sockaddr_storage *address)
{
    assert(channel->tls == NULL);
    const int on = 1;
    socklen_t size = address->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    channel->fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (channel->fd < 0 || connect(channel->fd, (const struct sockaddr *)address, size) < 0)
        source_die("connect");
    setsockopt(channel->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (fcntl(channel->fd, F_SETFL, O_NONBLOCK) < 0)
        source_die("fcntl");
}

void channel_start_tls(struct channel *channel, SSL_CTX *context, bool resume)
{
    assert(channel->tls == NULL);
    channel->tls = SSL_new(context);
    if (channel->tls == NULL || SSL_set_fd(channel->tls, channel->fd) != 1)
        channel_die("TLS");
    SSL_set_app_data(channel->tls, channel);
    SSL_set_connect_state(channel->tls);
    if (resume && channel->ticket != NULL && SSL_set_session(channel->tls, channel->ticket) != 1)
        channel_die("ticket");
}

// What a call of the library came to that gave no bytes.
static int channel_trouble(struct channel *channel, int result, const char *what)
{
    switch (SSL_get_error(channel->tls, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return CHANNEL_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return CHANNEL_END;
    default:
        channel_die(what);
    }
}

bool channel_shake(struct channel *channel)
{
    ERR_clear_error();
    errno = 0;
    int result = SSL_do_handshake(channel->tls);
    if (result == 1)
        return true;
    if (channel_trouble(channel, result, "handshake") == CHANNEL_END)
        channel_die("handshake");
    return false;
}

ssize_t channel_read(struct channel *channel, char *into, size_t size)
{
    if (channel->tls != NULL) {
        ERR_clear_error();
        int result = SSL_read(channel->tls, into, (int)size);
        return result > 0 ? result : channel_trouble(channel, result, "read");
    }
    ssize_t got = recv(channel->fd, into, size, 0);
    if (got == 0)
        return CHANNEL_END;
    if (got < 0 && errno != EAGAIN && errno != EINTR)
        source_die("read");
    return got < 0 ? CHANNEL_AGAIN : got;
}

ssize_t channel_write(struct channel *channel, const char *bytes, size_t size)
{
    if (channel->tls != NULL) {
        ERR_clear_error();
        int result = SSL_write(channel->tls, bytes, (int)size);
        return result > 0 ? result : channel_trouble(channel, result, "write");
    }
    ssize_t sent = send(channel->fd, bytes, size, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR)
        source_die("write");
    return sent < 0 ? CHANNEL_AGAIN : sent;
}

void channel_close(struct channel *channel)
{
    if (channel->tls != NULL)
        (void)SSL_shutdown(channel->tls); // its close_notify; the peer has said all
    SSL_free(channel->tls);
    channel->tls = NULL;
    close(channel->fd);
    channel->fd = -1;
}
