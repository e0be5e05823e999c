#include "tls_test.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/ec_key.h>
#include <openssl/err.h>
#include <openssl/nid.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

struct tls_test_files tls_test_files;

static EVP_PKEY *make_key(void)
{
    EC_KEY *curve = EC_KEY_new_by_curve_name(NID_X9_62_prime256v1);
    EVP_PKEY *key = EVP_PKEY_new();
    assert_int_equal(EC_KEY_generate_key(curve), 1);
    assert_int_equal(EVP_PKEY_assign_EC_KEY(key, curve), 1);
    return key;
}

static void add_extension(X509 *certificate, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_nconf_nid(NULL, NULL, nid, value);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

static void write_pem(struct tls_test_certificate *made, const char *name)
{
    const char *directory = tls_test_files.directory;
    (void)snprintf(made->certificate_path, sizeof(made->certificate_path), "%s/%s.pem", directory, name);
    (void)snprintf(made->key_path, sizeof(made->key_path), "%s/%s.key", directory, name);
    FILE *file = fopen(made->certificate_path, "we");
    assert_int_equal(PEM_write_X509(file, made->certificate), 1);
    assert_int_equal(fclose(file), 0);
    file = fopen(made->key_path, "we");
    assert_int_equal(PEM_write_PrivateKey(file, made->key, NULL, NULL, 0, NULL, NULL), 1);
    assert_int_equal(fclose(file), 0);
}

static void make_certificate(struct tls_test_certificate *made, const char *name, const char *common_name,
                             const char *extra, int extra_nid, const struct tls_test_certificate *issuer)
{
    tls_test_make(made, name, common_name, extra, extra_nid, issuer, -3600, 86400);
}

void tls_test_make(struct tls_test_certificate *made, const char *name, const char *common_name,
                   const char *extra, int extra_nid, const struct tls_test_certificate *issuer, long begin_s,
                   long end_s)
{
    static int serial = 1;
    X509 *certificate = X509_new();
    made->key = make_key();
    made->certificate = certificate;
    assert_int_equal(X509_set_version(certificate, X509_VERSION_3), 1);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
    X509_gmtime_adj(X509_getm_notBefore(certificate), begin_s);
    X509_gmtime_adj(X509_getm_notAfter(certificate), end_s);
    X509_NAME *subject = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_UTF8, (const unsigned char *)common_name, -1,
                               -1, 0);
    X509_set_issuer_name(certificate, issuer ? X509_get_subject_name(issuer->certificate) : subject);
    X509_set_pubkey(certificate, made->key);
    if (extra != NULL)
        add_extension(certificate, extra_nid, extra);
    assert_true(X509_sign(certificate, issuer ? issuer->key : made->key, EVP_sha256()) > 0);
    write_pem(made, name);
}

int tls_test_files_make(void **state)
{
    struct tls_test_files *files = &tls_test_files;
    strcpy(files->directory, "/tmp/net-tls-XXXXXX");
    assert_non_null(mkdtemp(files->directory));
    make_certificate(&files->authority, "authority", "Test Authority", "critical,CA:TRUE",
                     NID_basic_constraints, NULL);
    make_certificate(&files->server, "server", "ignored.example.net", "DNS:mx.example.org",
                     NID_subject_alt_name, NULL);
    make_certificate(&files->wildcard, "wildcard", "wildcard", "DNS:*.example.net", NID_subject_alt_name,
                     NULL);
    make_certificate(&files->client, "client", "ignored", "DNS:client.example.com", NID_subject_alt_name,
                     &files->authority);
    make_certificate(&files->named, "named", "plain name", NULL, 0, &files->authority);
    make_certificate(&files->impostor_authority, "impostor_authority", "Test Authority", "critical,CA:TRUE",
                     NID_basic_constraints, NULL);
    make_certificate(&files->impostor, "impostor", "ignored", "DNS:client.example.com", NID_subject_alt_name,
                     &files->impostor_authority);
    make_certificate(&files->stranger, "stranger", "bad\nname", NULL, 0, NULL);
    return 0;
}

void tls_test_unmake(struct tls_test_certificate *made)
{
    unlink(made->certificate_path);
    unlink(made->key_path);
    X509_free(made->certificate);
    EVP_PKEY_free(made->key);
}

int tls_test_files_remove(void **state)
{
    struct tls_test_files *files = &tls_test_files;
    tls_test_unmake(&files->authority);
    tls_test_unmake(&files->server);
    tls_test_unmake(&files->wildcard);
    tls_test_unmake(&files->client);
    tls_test_unmake(&files->named);
    tls_test_unmake(&files->impostor_authority);
    tls_test_unmake(&files->impostor);
    tls_test_unmake(&files->stranger);
    return rmdir(files->directory);
}

struct tls_server_options tls_test_options(void)
{
    static const char *certificates[2];
    static const char *private_keys[2];
    certificates[0] = tls_test_files.server.certificate_path;
    certificates[1] = tls_test_files.wildcard.certificate_path;
    private_keys[0] = tls_test_files.server.key_path;
    private_keys[1] = tls_test_files.wildcard.key_path;
    return (struct tls_server_options){.name = "smtp",
                                       .certificates = certificates,
                                       .private_keys = private_keys,
                                       .certificate_count = 2,
                                       .version_min = TLS1_2_VERSION};
}

struct tls_server *tls_test_server(const struct tls_server_options *options)
{
    struct tls_server *server = NULL;
    char error[256] = "";
    if (tls_server_new(options, &server, error, sizeof(error)) < 0)
        fail_msg("%s", error);
    return server;
}

static int keep_ticket(SSL *session, SSL_SESSION *ticket)
{
    struct tls_peer *peer = SSL_get_app_data(session);
    SSL_SESSION_free(peer->ticket);
    peer->ticket = ticket;
    return 1;
}

void tls_peer_open(struct tls_peer *peer, int fd, uint16_t min, uint16_t max)
{
    *peer = (struct tls_peer){.context = SSL_CTX_new(TLS_method()), .fd = fd, .cut = 65536};
    assert_non_null(peer->context);
    assert_int_equal(SSL_CTX_set_min_proto_version(peer->context, min), 1);
    assert_int_equal(SSL_CTX_set_max_proto_version(peer->context, max), 1);
    SSL_CTX_set_session_cache_mode(peer->context, SSL_SESS_CACHE_CLIENT);
    SSL_CTX_sess_set_new_cb(peer->context, keep_ticket);
    peer->session = SSL_new(peer->context);
    peer->in = BIO_new(BIO_s_mem());
    peer->out = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return(peer->in, -1);
    BIO_set_mem_eof_return(peer->out, -1);
    SSL_set_bio(peer->session, peer->in, peer->out);
    SSL_set_app_data(peer->session, peer);
    SSL_set_connect_state(peer->session);
}

void tls_peer_close(struct tls_peer *peer)
{
    SSL_SESSION_free(peer->ticket);
    SSL_free(peer->session);
    SSL_CTX_free(peer->context);
    if (peer->fd >= 0)
        close(peer->fd);
    ERR_clear_error();
}

void tls_peer_show(struct tls_peer *peer, const struct tls_test_certificate *certificate)
{
    assert_int_equal(SSL_use_certificate(peer->session, certificate->certificate), 1);
    assert_int_equal(SSL_use_PrivateKey(peer->session, certificate->key), 1);
}

size_t tls_peer_send(struct tls_peer *peer)
{
    static char sink[65536];
    const uint8_t *waiting = NULL;
    size_t size = 0;
    assert_int_equal(BIO_mem_contents(peer->out, &waiting, &size), 1);
    if (size > peer->cut)
        size = peer->cut;
    ssize_t sent = size > 0 ? send(peer->fd, waiting, size, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
    if (sent <= 0)
        return 0;
    assert_true((size_t)sent <= sizeof(sink));
    assert_int_equal(BIO_read(peer->out, sink, (int)sent), sent);
    return (size_t)sent;
}

void tls_peer_receive(struct tls_peer *peer)
{
    static char bytes[65536];
    ssize_t size = recv(peer->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (size > 0)
        assert_int_equal(BIO_write(peer->in, bytes, (int)size), size);
    else if (size == 0 || errno != EAGAIN)
        peer->saw_fin = true;
}

void tls_peer_pump(struct tls_peer *peer, struct loop *loop)
{
    loop_turn(loop, tls_peer_send(peer) > 0 ? 0 : 500);
    tls_peer_receive(peer);
}

static bool peer_wants_more(const struct tls_peer *peer, int result)
{
    int error = SSL_get_error(peer->session, result);
    return (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) && !peer->saw_fin;
}

bool tls_peer_shake(struct tls_peer *peer, struct loop *loop)
{
    uint64_t deadline_us = net_test_now_us() + 10000000;
    for (;;) {
        ERR_clear_error();
        int result = SSL_do_handshake(peer->session);
        if (result == 1 && BIO_pending(peer->out) == 0)
            return true;
        if (result != 1 && !peer_wants_more(peer, result)) {
            print_message("the client: %s\n", ERR_reason_error_string(ERR_peek_error()));
            break;
        }
        assert_true(net_test_now_us() < deadline_us);
        tls_peer_pump(peer, loop);
    }
    while (BIO_pending(peer->out) > 0 && !peer->saw_fin)
        tls_peer_pump(peer, loop); /* the alert */
    shutdown(peer->fd, SHUT_WR);   /* or the server would wait for it */
    return false;
}

void tls_peer_write(struct tls_peer *peer, struct loop *loop, const void *bytes, size_t size)
{
    ERR_clear_error();
    assert_int_equal(SSL_write(peer->session, bytes, (int)size), size);
    while (BIO_pending(peer->out) > 0)
        tls_peer_pump(peer, loop);
}

size_t tls_peer_read(struct tls_peer *peer, struct loop *loop, char *bytes, size_t size)
{
    uint64_t deadline_us = net_test_now_us() + 10000000;
    size_t total = 0;
    while (total < size) {
        ERR_clear_error();
        int got = SSL_read(peer->session, bytes + total, (int)(size - total));
        if (got > 0)
            total += (size_t)got;
        else if (!peer_wants_more(peer, got))
            break;
        else
            tls_peer_pump(peer, loop);
        if (net_test_now_us() > deadline_us)
            fail_msg("ten seconds are over, only %zu of %zu bytes came", total, size);
    }
    return total;
}

int tls_peer_read_end(struct tls_peer *peer, struct loop *loop)
{
    char byte = 0;
    int got = -1;
    uint64_t deadline_us = net_test_now_us() + 10000000;
    do {
        assert_true(net_test_now_us() < deadline_us);
        tls_peer_pump(peer, loop);
        ERR_clear_error();
        got = SSL_read(peer->session, &byte, 1);
    } while (got <= 0 && peer_wants_more(peer, got));
    assert_true(got <= 0);
    return SSL_get_error(peer->session, got);
}

void tls_test_secured(struct probe *probe, struct tls_peer *peer, struct loop *loop,
                      struct tls_server *server, uint16_t version)
{
    int fd = probe_open(probe, loop);
    conn_start_tls(&probe->conn, server);
    tls_peer_open(peer, fd, version, version);
    assert_true(tls_peer_shake(peer, loop));
    turn_until(loop, probe->counts[PROBE_SECURED] == 1);
}
