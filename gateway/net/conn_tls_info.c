/* What an owner may ask about the TLS of its connection. See conn.h. */

#include <errno.h>

#include "gateway/net/conn_tls.h"
#include "gateway/net/tls_inner.h"

const struct tls_info *conn_tls_info(struct conn *conn)
{
    const struct conn_tls *tls = conn->tls;
    return tls != NULL && tls->info.version != NULL ? &tls->info : NULL;
}

bool conn_tls_any_name(struct conn *conn, bool (*fits)(const void *context, const char *name),
                       const void *context)
{
    return conn_tls_info(conn) != NULL && tls_session_any_name(conn->tls->session, fits, context);
}

const char *conn_tls_error(const struct conn *conn)
{
    return conn->tls != NULL ? conn->tls->error : "";
}

bool conn_was_truncated(const struct conn *conn)
{
    return conn->tls != NULL && conn->tls->is_truncated;
}

int conn_tls_binding(struct conn *conn, enum tls_binding type, uint8_t *into, size_t capacity)
{
    if (conn_tls_info(conn) == NULL)
        return -ENOTCONN;
    return tls_session_binding(conn->tls->session, type, into, capacity);
}
