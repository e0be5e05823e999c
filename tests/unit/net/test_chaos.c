/*
 * Many connections, in the clear or not, whose owners and peers do anything at any time. Whatever happens:
 * on_closed comes exactly once, every reference is released exactly once, and no descriptor is left behind.
 */

#include "tls_test.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PARTIES 40
#define STEPS   20000

struct party {
    struct conn conn;
    struct chaos *chaos;
    int peer; /* -1: closed */
    bool has_tls;
    struct tls_peer tls; /* of the same descriptor, when it has TLS */
    bool alive;
    bool is_out;        /* the memory */
    char memory[20000]; /* more than a record */
};

struct chaos {
    struct loop *loop;
    struct tls_server *server; /* NULL: all in the clear */
    struct tls_client *client; /* some are clients; NULL with it */
    struct tls_session_slot slot;
    uint64_t seed;
    struct party parties[PARTIES];
    int refs_out;
    int opened;
    int closed;
    int filled; /* memory of owners, with bytes */
    char big[300000];
};

struct chaos_ref {
    struct conn_ref ref;
    struct chaos *chaos;
    struct party *party;
};

static uint64_t draw(struct chaos *chaos, uint64_t below)
{
    return net_test_random(&chaos->seed) % below;
}

static void party_act(struct party *party);

static void chaos_release(struct conn_ref *ref)
{
    struct chaos_ref *owner = list_entry(ref, struct chaos_ref, ref);
    owner->chaos->refs_out--;
    if (draw(owner->chaos, 50) == 0 && owner->party->alive)
        conn_close(&owner->party->conn);
    free(owner);
}

static void party_send_ref(struct party *party)
{
    struct chaos *chaos = party->chaos;
    struct chaos_ref *owner = malloc(sizeof(*owner));
    *owner = (struct chaos_ref){.ref.release = chaos_release, .chaos = chaos, .party = party};
    chaos->refs_out++;
    conn_send_ref(&party->conn, chaos->big, draw(chaos, sizeof(chaos->big)) + 1, &owner->ref);
}

static void party_act(struct party *party)
{
    struct chaos *chaos = party->chaos;
    struct conn *conn = &party->conn;
    switch (draw(chaos, 44)) {
    case 40:
    case 41:
    case 42:
    case 43:
        conn_receive_direct(conn);
        break;
    case 0:
        conn_close(conn);
        break;
    case 1:
        conn_finish(conn);
        break;
    case 2:
    case 3:
    case 4:
        conn_pause(conn);
        break;
    case 5:
        conn_set_timeout(conn, draw(chaos, 100));
        break;
    case 6:
        conn_clear_timeout(conn);
        break;
    case 7:
    case 8:
        party_send_ref(party);
        break;
    case 9:
    case 10:
    case 11:
        conn_send_copy(conn, chaos->big, draw(chaos, 5000));
        break;
    case 12:
        conn_send_static(conn, chaos->big, draw(chaos, 1000));
        break;
    default:
        conn_resume(conn);
    }
}

static size_t party_data(struct conn *conn, const char *bytes, size_t size)
{
    struct party *party = conn->ctx;
    assert_true(party->alive);
    party_act(party);
    if (conn->state != CONN_OPEN || conn->paused)
        return draw(party->chaos, size + 1);
    return size;
}

static void expect_untouched(const struct party *party)
{
    const char *memory = party->memory;
    assert_int_equal((unsigned char)memory[0], 0xee);
    assert_memory_equal(memory, memory + 1, sizeof(party->memory) - 1);
}

static void *party_space(struct conn *conn, size_t *size)
{
    struct party *party = conn->ctx;
    assert_true(party->alive && !party->is_out);
    expect_untouched(party);
    party_act(party);
    if (draw(party->chaos, 10) == 0)
        return NULL;
    *size = draw(party->chaos, 2) == 0 ? sizeof(party->memory) : 1 + draw(party->chaos, 5000);
    party->is_out = true;
    return party->memory;
}

static void party_filled(struct conn *conn, size_t size)
{
    struct party *party = conn->ctx;
    assert_true(party->alive && party->is_out);
    assert_true(size == 0 || conn->state == CONN_OPEN);
    party->is_out = false;
    party->chaos->filled += size > 0;
    party_act(party);
    if (size > 0 && draw(party->chaos, 3) == 0) {
        size_t stays = draw(party->chaos, size);
        conn_put_back(conn, party->memory + stays, size - stays);
    }
    memset(party->memory, 0xee, sizeof(party->memory));
    party_act(party);
}

static void party_event(struct conn *conn)
{
    struct party *party = conn->ctx;
    assert_true(party->alive);
    party_act(party);
}

static void party_eof(struct conn *conn)
{
    struct party *party = conn->ctx;
    assert_true(party->alive);
    if (draw(party->chaos, 2) == 0)
        conn_close(conn);
    else
        conn_finish(conn);
}

static void party_closed(struct conn *conn, int error)
{
    struct party *party = conn->ctx;
    assert_true(party->alive && !party->is_out);
    assert_true(error <= 0);
    expect_untouched(party);
    party->alive = false;
    party->chaos->closed++;
    memset(conn, 0xee, sizeof(*conn));
}

static const struct conn_handler party_handler = {
    .on_data = party_data,
    .on_space = party_space,
    .on_filled = party_filled,
    .on_eof = party_eof,
    .on_timeout = party_event,
    .on_drained = party_event,
    .on_secured = party_event,
    .on_closed = party_closed,
};

/* The roles are turned round; the name that some demand is wrong for the certificate that they see. */
static void party_start_client(struct party *party)
{
    struct chaos *chaos = party->chaos;
    const char *verify_name = draw(chaos, 8) == 0 ? "elsewhere.example.org" : NULL;
    SSL_set_accept_state(party->tls.session);
    tls_peer_show(&party->tls, &tls_test_files.server);
    conn_start_tls_client(&party->conn, chaos->client, "mx.example.org", verify_name,
                          draw(chaos, 3) == 0 ? NULL : &chaos->slot);
}

static void party_open(struct party *party, struct chaos *chaos)
{
    int fds[2];
    net_test_pair(fds);
    party->chaos = chaos;
    party->peer = fds[1];
    party->alive = true;
    party->is_out = false;
    memset(party->memory, 0xee, sizeof(party->memory));
    chaos->opened++;
    conn_init(&party->conn, chaos->loop, &party_handler, party);
    conn_attach(&party->conn, fds[0]);
    party->has_tls = chaos->server != NULL && draw(chaos, 5) > 0;
    if (party->has_tls) {
        uint16_t version = draw(chaos, 2) == 0 ? TLS1_2_VERSION : TLS1_3_VERSION;
        tls_peer_open(&party->tls, fds[1], version, version);
        if (draw(chaos, 2) == 0)
            conn_start_tls(&party->conn, chaos->server);
        else
            party_start_client(party);
    }
    conn_start_reading(&party->conn, draw(chaos, 2) == 0);
}

static void peer_forget(struct party *party)
{
    party->peer = -1;
    if (!party->has_tls)
        return;
    party->tls.fd = -1;
    tls_peer_close(&party->tls);
    party->has_tls = false;
}

/* The TLS client's next step, whatever comes of it. */
static void peer_speak(struct party *party)
{
    static char sink[65536];
    struct chaos *chaos = party->chaos;
    struct tls_peer *peer = &party->tls;
    if (SSL_do_handshake(peer->session) == 1) {
        if (draw(chaos, 30) == 0)
            (void)SSL_shutdown(peer->session);
        else if (draw(chaos, 3) == 0 && BIO_pending(peer->out) < 100000)
            (void)SSL_write(peer->session, chaos->big, (int)draw(chaos, 40000) + 1);
        (void)SSL_read(peer->session, sink, sizeof(sink));
    }
    peer->cut = 1 + draw(chaos, 60000);
    (void)tls_peer_send(peer);
    tls_peer_receive(peer);
}

static void peer_act(struct party *party)
{
    static char sink[65536];
    struct chaos *chaos = party->chaos;
    if (party->has_tls && draw(chaos, 20) > 0) {
        peer_speak(party);
        return;
    }
    switch (draw(chaos, 30)) {
    case 0:
        close(party->peer);
        peer_forget(party);
        break;
    case 1:
        net_test_reset(party->peer);
        peer_forget(party);
        break;
    case 2:
        shutdown(party->peer, SHUT_WR);
        break;
    case 3:
    case 4:
    case 5:
    case 6:
    case 7:
        (void)!send(party->peer, chaos->big, draw(chaos, 100000), MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
    default:
        (void)!recv(party->peer, sink, sizeof(sink), MSG_DONTWAIT);
    }
}

static int open_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int count = 0;
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

static void chaos_step(struct chaos *chaos)
{
    struct party *party = &chaos->parties[draw(chaos, PARTIES)];
    if (!party->alive && party->peer < 0)
        party_open(party, chaos);
    else if (party->peer >= 0 && (!party->alive || draw(chaos, 2) == 0))
        peer_act(party);
    else if (party->alive)
        party_act(party);
    if (draw(chaos, 8) == 0)
        loop_turn(chaos->loop, draw(chaos, 4) == 0 ? 100 : 0);
}

static struct tls_client *chaos_client(void)
{
    const struct tls_client_options options = {.ca_file = tls_test_files.server.certificate_path,
                                               .verify_possible = true,
                                               .version_min = TLS1_2_VERSION};
    struct tls_client *client = NULL;
    char error[256] = "";
    assert_int_equal(tls_client_new(&options, &client, error, sizeof(error)), 0);
    return client;
}

/* Returns how often memory of an owner was filled. */
static int chaos_run(uint64_t seed, uint32_t buffer_count, uint32_t buffer_size, struct tls_server *server)
{
    struct chaos *chaos = calloc(1, sizeof(*chaos));
    int before = open_descriptors();
    chaos->seed = seed;
    chaos->server = server;
    tls_slot_init(&chaos->slot);
    if (server != NULL)
        chaos->client = chaos_client();
    chaos->loop = net_test_loop(buffer_count, buffer_size);
    for (int index = 0; index < PARTIES; index++)
        chaos->parties[index].peer = -1;
    for (int step = 0; step < STEPS; step++)
        chaos_step(chaos);
    for (int index = 0; index < PARTIES; index++) {
        if (chaos->parties[index].peer >= 0) {
            close(chaos->parties[index].peer);
            peer_forget(&chaos->parties[index]);
        }
        if (chaos->parties[index].alive)
            conn_close(&chaos->parties[index].conn);
    }
    turn_until(chaos->loop, chaos->closed == chaos->opened);
    assert_int_equal(chaos->refs_out, 0);
    assert_true(chaos->opened > PARTIES);
    if (server != NULL) {
        assert_true(loop_stats(chaos->loop)->tls_handshakes > 10);
        assert_true(loop_stats(chaos->loop)->tls_failed > 10);
    }
    tls_slot_drop(&chaos->slot);
    tls_client_free(chaos->client);
    loop_free(chaos->loop);
    assert_int_equal(open_descriptors(), before);
    int filled = chaos->filled;
    free(chaos);
    return filled;
}

static void anything_at_any_time(void **state)
{
    int filled = 0;
    for (uint64_t seed = 1; seed <= 5; seed++)
        filled += chaos_run(seed, 0, 0, NULL);
    assert_true(filled > 20);
}

static void anything_at_any_time_with_few_buffers(void **state)
{
    int filled = 0;
    for (uint64_t seed = 11; seed <= 15; seed++)
        filled += chaos_run(seed, 8, 1024, NULL);
    assert_true(filled > 20);
}

static void anything_at_any_time_with_tls(void **state)
{
    struct tls_server_options options = tls_test_options();
    options.tickets = tls_tickets_new();
    struct tls_server *server = tls_test_server(&options);
    int filled = 0;
    for (uint64_t seed = 21; seed <= 25; seed++)
        filled += chaos_run(seed, seed % 2 ? 0 : 8, seed % 2 ? 0 : 1024, server);
    assert_true(filled > 20);
    tls_server_free(server);
    tls_tickets_free(options.tickets);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(anything_at_any_time),
        cmocka_unit_test(anything_at_any_time_with_few_buffers),
        cmocka_unit_test(anything_at_any_time_with_tls),
    };
    return cmocka_run_group_tests_name("net/chaos", tests, tls_test_files_make, tls_test_files_remove);
}
