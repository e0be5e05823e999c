#include "gateway/outbound/dns/exchange.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "gateway/outbound/dns/resolver_inner.h"

static void free_exchange(struct exchange *exchange)
{
    struct resolver *resolver = exchange->resolver;
    assert(exchange->lookup == NULL);
    pool_free(resolver->options.pool, exchange->answer, exchange->answer_size);
    list_remove(&exchange->link);
    assert(resolver->slow_count >= exchange->is_slow);
    resolver->slow_count -= exchange->is_slow;
    pool_free(resolver->options.pool, exchange, sizeof(*exchange));
    resolver_on_home(resolver);
}

void exchange_drop(struct exchange *exchange)
{
    if (exchange == NULL)
        return;
    exchange->lookup = NULL;
    if (exchange->over_tcp)
        conn_close(&exchange->conn);
    else
        datagram_close(&exchange->datagram);
}

/* Tells the lookup, which then has no exchange any more. */
static void end(struct exchange *exchange, enum exchange_end how)
{
    struct lookup *lookup = exchange->lookup;
    exchange_drop(exchange);
    if (lookup != NULL)
        lookup_on_end(lookup, how);
}

/* A packet came, whole. True when it ended the exchange. */
static bool give(struct exchange *exchange, const uint8_t *bytes, size_t size)
{
    struct lookup *lookup = exchange->lookup;
    if (lookup == NULL || lookup_on_packet(lookup, bytes, size))
        return true;
    if (++exchange->stray_count < EXCHANGE_STRAYS_MAX)
        return false;
    end(exchange, EXCHANGE_GUESSED);
    return true;
}

static struct exchange *of_datagram(struct datagram *datagram)
{
    return list_entry(datagram, struct exchange, datagram);
}

static void on_datagram(struct datagram *datagram, const uint8_t *bytes, size_t size)
{
    (void)give(of_datagram(datagram), bytes, size);
}

static void on_datagram_error(struct datagram *datagram, int error)
{
    end(of_datagram(datagram), EXCHANGE_GONE);
}

static void on_datagram_timeout(struct datagram *datagram)
{
    end(of_datagram(datagram), EXCHANGE_SILENT);
}

static void on_datagram_closed(struct datagram *datagram)
{
    free_exchange(of_datagram(datagram));
}

static const struct datagram_handler datagram_handler = {
    .on_datagram = on_datagram,
    .on_error = on_datagram_error,
    .on_timeout = on_datagram_timeout,
    .on_closed = on_datagram_closed,
};

static struct exchange *of_conn(struct conn *conn)
{
    return list_entry(conn, struct exchange, conn);
}

/* The length is complete: makes room for that much. False without memory, or when it is no packet's. */
static bool make_room(struct exchange *exchange)
{
    size_t size = (size_t)exchange->head[0] << 8 | exchange->head[1];
    if (size == 0)
        return false;
    exchange->answer = pool_alloc(exchange->resolver->options.pool, size);
    exchange->answer_size = exchange->answer != NULL ? size : 0;
    return exchange->answer != NULL;
}

/* Copies what belongs to the length or to the packet; returns how much that was. */
static size_t fill(struct exchange *exchange, const char *bytes, size_t size)
{
    size_t head_size = sizeof(exchange->head);
    bool is_head = exchange->got < head_size;
    uint8_t *at = is_head ? exchange->head + exchange->got : exchange->answer + exchange->got - head_size;
    size_t room = is_head ? head_size - exchange->got : head_size + exchange->answer_size - exchange->got;
    size_t count = size < room ? size : room;
    memcpy(at, bytes, count);
    exchange->got += count;
    return count;
}

/* The packet is complete. True when it ended the exchange; else the next one may follow. */
static bool finish_packet(struct exchange *exchange)
{
    uint8_t *answer = exchange->answer;
    size_t size = exchange->answer_size;
    exchange->answer = NULL;
    exchange->answer_size = 0;
    exchange->got = 0;
    bool has_ended = give(exchange, answer, size);
    pool_free(exchange->resolver->options.pool, answer, size);
    return has_ended;
}

static size_t on_conn_data(struct conn *conn, const char *bytes, size_t size)
{
    struct exchange *exchange = of_conn(conn);
    size_t taken = 0;
    while (taken < size) {
        taken += fill(exchange, bytes + taken, size - taken);
        if (exchange->got == sizeof(exchange->head) && exchange->answer == NULL && !make_room(exchange)) {
            end(exchange, EXCHANGE_GONE);
            break;
        }
        bool is_complete =
            exchange->answer != NULL && exchange->got == sizeof(exchange->head) + exchange->answer_size;
        if (is_complete && finish_packet(exchange))
            break;
    }
    return size;
}

static void on_conn_connected(struct conn *conn, int error)
{
    if (error == 0)
        conn_start_reading(conn, false);
}

static void on_conn_eof(struct conn *conn)
{
    end(of_conn(conn), EXCHANGE_GONE);
}

static void on_conn_timeout(struct conn *conn)
{
    end(of_conn(conn), EXCHANGE_SILENT);
}

static void on_conn_closed(struct conn *conn, int error)
{
    struct exchange *exchange = of_conn(conn);
    struct lookup *lookup = exchange->lookup;
    exchange->lookup = NULL;
    free_exchange(exchange);
    if (lookup != NULL)
        lookup_on_end(lookup, EXCHANGE_GONE);
}

static const struct conn_handler conn_handler = {
    .on_data = on_conn_data,
    .on_connected = on_conn_connected,
    .on_eof = on_conn_eof,
    .on_timeout = on_conn_timeout,
    .on_closed = on_conn_closed,
};

static int open_udp(struct exchange *exchange, const struct sockaddr *server, uint64_t timeout_ms)
{
    int result = datagram_open(&exchange->datagram, exchange->resolver->options.loop, &datagram_handler,
                               exchange, server, exchange->buffer, sizeof(exchange->buffer));
    if (result < 0)
        return result;
    datagram_set_timeout(&exchange->datagram, timeout_ms);
    datagram_send(&exchange->datagram, exchange->query + 2, exchange->query_size - 2);
    return 0;
}

static int open_tcp(struct exchange *exchange, const struct sockaddr *server, uint64_t timeout_ms)
{
    struct conn *conn = &exchange->conn;
    conn_init(conn, exchange->resolver->options.loop, &conn_handler, exchange);
    conn_set_timeout(conn, timeout_ms);
    int result = conn_connect(conn, server, address_size(server), NULL);
    if (result == 0)
        conn_send_copy(conn, exchange->query, exchange->query_size);
    return result;
}

struct exchange *exchange_open(struct resolver *resolver, struct lookup *lookup,
                               const struct packet_question *question, const struct sockaddr *server,
                               bool over_tcp, uint64_t timeout_ms, int *error)
{
    struct pool *pool = resolver->options.pool;
    struct exchange *exchange = pool_alloc(pool, sizeof(*exchange));
    *error = -ENOMEM;
    if (exchange == NULL)
        return NULL;
    memset(exchange, 0, offsetof(struct exchange, buffer));
    exchange->resolver = resolver;
    exchange->lookup = lookup;
    exchange->over_tcp = over_tcp;
    exchange->is_slow = lookup->is_slow;
    list_init(&exchange->link);
    int size = packet_write(question, exchange->query + 2);
    *error = size < 0 ? size : 0;
    if (size > 0) {
        exchange->query[0] = (uint8_t)(size >> 8);
        exchange->query[1] = (uint8_t)size;
        exchange->query_size = (uint32_t)size + 2;
        *error = over_tcp ? open_tcp(exchange, server, timeout_ms) : open_udp(exchange, server, timeout_ms);
    }
    if (*error < 0) {
        pool_free(pool, exchange, sizeof(*exchange));
        return NULL;
    }
    list_push_back(&resolver->exchanges, &exchange->link);
    resolver->socket_count++;
    resolver->slow_count += exchange->is_slow;
    return exchange;
}
