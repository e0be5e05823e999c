#include "tls_wire.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/net/conn_tls.h"

struct tls_server *tls_wire_server(const struct tls_test_certificate *certificate,
                                   struct tls_tickets *tickets)
{
    const char *certificates[] = {certificate->certificate_path};
    const char *private_keys[] = {certificate->key_path};
    struct tls_server_options options = tls_test_options();
    options.certificates = certificates;
    options.private_keys = private_keys;
    options.certificate_count = 1;
    options.tickets = tickets;
    return tls_test_server(&options);
}

struct tls_client *tls_wire_client_of(const struct tls_client_options *options)
{
    struct tls_client *client = NULL;
    char error[256] = "";
    if (tls_client_new(options, &client, error, sizeof(error)) < 0)
        fail_msg("%s", error);
    return client;
}

struct tls_client *tls_wire_client(const char *ca_file)
{
    const struct tls_client_options options = {
        .ca_file = ca_file, .verify_possible = true, .version_min = TLS1_2_VERSION};
    return tls_wire_client_of(&options);
}

static void note_error(struct probe *probe)
{
    struct tls_wire *wire = list_entry(probe, struct tls_wire, client);
    wire->error = conn_tls_error(&probe->conn);
}

void tls_wire_open(struct tls_wire *wire, struct loop *loop)
{
    *wire = (struct tls_wire){.loop = loop, .cut = 65536, .carry_max = SIZE_MAX, .error = ""};
    wire->client_end = probe_open(&wire->client, loop);
    wire->server_end = probe_open(&wire->server, loop);
    wire->client.act_on = PROBE_CLOSED;
    wire->client.act = note_error;
}

void tls_wire_start(struct tls_wire *wire, struct tls_server *server, struct tls_client *client,
                    uint16_t version, struct tls_wire_names names)
{
    conn_start_tls(&wire->server.conn, server);
    assert_int_equal(SSL_set_max_proto_version(wire->server.conn.tls->session, version), 1);
    conn_start_tls_client(&wire->client.conn, client, names.server_name, names.verify_name, names.slot);
}

/* Rewrites what the ClientHello's supported_versions (RFC 8446 section 4.2.1) says beyond the maximum. */
static void wire_lie(const struct tls_wire *wire, char *bytes, size_t size)
{
    static const char extension[] = {0x00, 0x2b, 0x00};
    char *list = memmem(bytes, size, extension, sizeof(extension));
    if (wire->version_max == 0 || size < 6 || bytes[0] != 0x16 || bytes[5] != 1 || list == NULL)
        return;
    for (char *version = list + 5; version < list + 5 + list[4]; version += 2) {
        if (version[1] > (char)wire->version_max)
            version[1] = (char)wire->version_max;
    }
}

/* At most `max` bytes from one plain socket to another; FIN follows FIN. */
static size_t wire_move(const struct tls_wire *wire, int from, int to, size_t max)
{
    char bytes[65536];
    ssize_t size = recv(from, bytes, max < sizeof(bytes) ? max : sizeof(bytes), MSG_DONTWAIT);
    if (size == 0 || (size < 0 && errno != EAGAIN))
        (void)shutdown(to, SHUT_WR);
    if (size <= 0)
        return 0;
    wire_lie(wire, bytes, (size_t)size);
    (void)send(to, bytes, (size_t)size, MSG_NOSIGNAL);
    return (size_t)size;
}

void tls_wire_pump(struct tls_wire *wire)
{
    size_t left = wire->carry_max - wire->carried;
    size_t moved = wire_move(wire, wire->client_end, wire->server_end, wire->cut);
    if (left > 0) {
        size_t size =
            wire_move(wire, wire->server_end, wire->client_end, left < wire->cut ? left : wire->cut);
        wire->carried += size;
        moved += size;
    }
    if (wire->carried == wire->carry_max)
        (void)shutdown(wire->client_end, SHUT_WR);
    loop_turn(wire->loop, moved > 0 ? 0 : 200);
}

bool tls_wire_shake(struct tls_wire *wire)
{
    pump_until(wire, wire->client.counts[PROBE_SECURED] > 0 || probe_is_closed(&wire->client));
    return wire->client.counts[PROBE_SECURED] > 0;
}

void tls_wire_close(struct tls_wire *wire)
{
    probe_end(&wire->client, wire->loop);
    probe_end(&wire->server, wire->loop);
    close(wire->client_end);
    close(wire->server_end);
}
