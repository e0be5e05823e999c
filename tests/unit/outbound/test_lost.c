/* The peer goes away after each single octet that it says: every delivery comes home exactly once, and is
 * done only if the peer said so, in full. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/sasl/users.h"
#include "tests/unit/net/tls_test.h"
#include "tests/unit/outbound/peer.h"
#include "tests/unit/outbound/world.h"

enum { MESSAGES = 3 };

static const char quick[] = "site \"default\" { connections = 1 }\ntimeouts { outbound_idle = \"0\" }";

#define TAKE "S: 250 ok", "S: 250 ok", "S: 354 go", "D", "A: 250 2.0.0 taken"
#define STEP "C~ MAIL", "S: 250 ok", "C~ RCPT", "S: 250 ok", "C: DATA", "S: 354 go", "D", "A: 250 2.0.0 taken"
#define SAID "C~ MAIL", "C~ RCPT", "C: DATA"

static const char *const overlapping[] = {"S: 220 peer.test",
                                          "C: EHLO relay.test",
                                          "S: 250-peer.test",
                                          "S: 250 PIPELINING",
                                          SAID,
                                          TAKE,
                                          SAID,
                                          TAKE,
                                          SAID,
                                          TAKE,
                                          "C: QUIT",
                                          "S: 221 bye",
                                          "E",
                                          NULL};
static const char *const stepping[] = {"S: 220 peer.test",
                                       "C: EHLO relay.test",
                                       "S: 250 peer.test",
                                       STEP,
                                       STEP,
                                       STEP,
                                       "C: QUIT",
                                       "S: 221 bye",
                                       "E",
                                       NULL};

#define STREAMED  "C~ MAIL", "C~ RCPT", "C: BDAT 3 LAST", "B: 3"
#define FOLLOWING "C: RSET", STREAMED
#define ANSWERED  "S: 250 ok", "S: 250 ok", "A: 250 2.0.0 taken"

static const char *const streaming[] = {"S: 220 peer.test",
                                        "C: EHLO relay.test",
                                        "S: 250-peer.test",
                                        "S: 250-CHUNKING",
                                        "S: 250 PIPELINING",
                                        STREAMED,
                                        FOLLOWING,
                                        FOLLOWING,
                                        ANSWERED,
                                        "S: 250 reset",
                                        ANSWERED,
                                        "S: 250 reset",
                                        ANSWERED,
                                        "C: QUIT",
                                        "S: 221 bye",
                                        "E",
                                        NULL};

static const char *const in_tls[] = {"S: 220 peer.test",
                                     "C: EHLO relay.test",
                                     "S: 250-peer.test",
                                     "S: 250 STARTTLS",
                                     "C: STARTTLS",
                                     "S: 220 go",
                                     "T",
                                     "C: EHLO relay.test",
                                     "S: 250-peer.test",
                                     "S: 250-CHUNKING",
                                     "S: 250 PIPELINING",
                                     STREAMED,
                                     FOLLOWING,
                                     FOLLOWING,
                                     ANSWERED,
                                     "S: 250 reset",
                                     ANSWERED,
                                     "S: 250 reset",
                                     ANSWERED,
                                     "C: QUIT",
                                     "S: 221 bye",
                                     "E",
                                     NULL};

static const char *const by_login[] = {"S: 220 peer.test",
                                       "C: EHLO relay.test",
                                       "S: 250-peer.test",
                                       "S: 250 AUTH SCRAM-SHA-256",
                                       "L: SCRAM-SHA-256",
                                       STEP,
                                       STEP,
                                       STEP,
                                       "C: QUIT",
                                       "S: 221 bye",
                                       "E",
                                       NULL};

static const char *const by_lmtp[] = {"S: 220 peer.test",
                                      "C: LHLO relay.test",
                                      "S: 250-peer.test",
                                      "S: 250 PIPELINING",
                                      SAID,
                                      TAKE,
                                      SAID,
                                      TAKE,
                                      SAID,
                                      TAKE,
                                      "C: QUIT",
                                      "S: 221 bye",
                                      "E",
                                      NULL};

static void send_all(struct world *world, struct message *messages)
{
    for (uint32_t i = 0; i < MESSAGES; i++) {
        messages[i] = (struct message){.from = "a@from.test", .to = {"b@to.test"}, .content = "x\r\n"};
        world_send(world, &messages[i]);
    }
}

/* One conversation that is cut after so many octets; false when it was not cut any more. */
static bool play_cut(const char *const *script, uint32_t unsure_max, size_t cut)
{
    static struct world world;
    static struct peer peer;
    static struct message messages[MESSAGES];
    uint32_t done = 0;

    peer_start(&peer, (const char *const *const[]){script, NULL}, cut);
    world_init(&world, (uint16_t[]){peer.port, 0}, quick);
    send_all(&world, messages);
    world_run_home(&world, MESSAGES);
    world_run_closed(&world);
    for (uint32_t i = 0; i < MESSAGES; i++) {
        assert_int_equal(messages[i].homecomings, 1);
        done += messages[i].targets[0].outcome == QUEUE_DONE;
        if (i > 0 && messages[i].targets[0].outcome == QUEUE_DONE)
            assert_int_equal(messages[i - 1].targets[0].outcome, QUEUE_DONE);
    }
    uint64_t unsure = counter_get(&world.counters, COUNTER_duplicates_possible);
    world_deinit(&world);
    peer_stop(&peer);
    assert_int_equal(done, atomic_load(&peer.taken));
    assert_true(unsure <= unsure_max);
    assert_true(unsure + done <= MESSAGES);
    return peer.is_cut;
}

static void play_all_cuts(const char *const *script, uint32_t unsure_max)
{
    size_t cut = 0;

    while (play_cut(script, unsure_max, cut))
        cut++;
    assert_true(cut > 100);
}

static void cut_anywhere_in_overlap(void **state)
{
    play_all_cuts(overlapping, 1);
}

static void cut_anywhere_in_lockstep(void **state)
{
    play_all_cuts(stepping, 1);
}

static void cut_anywhere_in_a_stream(void **state)
{
    play_all_cuts(streaming, MESSAGES);
}

static void make_tls(void)
{
    const struct tls_test_certificate *shown = &tls_test_files.server;

    tls_test_files_make(NULL);
    peer_means.tls = SSL_CTX_new(TLS_method());
    assert_int_equal(SSL_CTX_use_certificate(peer_means.tls, shown->certificate), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(peer_means.tls, shown->key), 1);
}

/* What the kernel took of the ciphertext is nobody's message. */
static void cut_anywhere_in_tls(void **state)
{
    make_tls();
    world_means.route = "tls = \"encrypt\"";
    play_all_cuts(in_tls, MESSAGES);
    world_means = (struct world_means){0};
    SSL_CTX_free(peer_means.tls);
    peer_means.tls = NULL;
    tls_test_files_remove(NULL);
}

static const char *write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fchmod(fileno(file), 0600), 0);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    return path;
}

static void cut_anywhere_in_a_login(void **state)
{
    static const char path[] = "/tmp/sluice-outbound-lost";
    struct users *users = NULL;
    char error[256];

    write_file(
        path,
        "user:-:SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
        ":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\n");
    assert_int_equal(users_load(path, &users, error, sizeof(error)), 0);
    peer_means.users = users;
    world_means.passwords = write_file(path, "127.0.0.1 user pencil\n");
    play_all_cuts(by_login, 1);
    world_means = (struct world_means){0};
    users_free(users);
    unlink(path);
}

static void cut_anywhere_in_lmtp(void **state)
{
    world_means.to = "lmtp://127.0.0.1";
    play_all_cuts(by_lmtp, 1);
    world_means = (struct world_means){0};
}

/* Two recipients, each of whom has an answer. */
static void cut_anywhere_between_the_answers_of_lmtp(void **state)
{
    static const char *const script[] = {"S: 220 peer.test",
                                         "C: LHLO relay.test",
                                         "S: 250-peer.test",
                                         "S: 250 PIPELINING",
                                         "C~ MAIL",
                                         "C~ RCPT",
                                         "C~ RCPT",
                                         "C: DATA",
                                         "S: 250 ok",
                                         "S: 250 ok",
                                         "S: 250 ok",
                                         "S: 354 go",
                                         "D",
                                         "A: 250 2.0.0 first",
                                         "A: 250 2.0.0 second",
                                         "C: QUIT",
                                         "S: 221 bye",
                                         "E",
                                         NULL};
    static struct world world;
    static struct peer peer;

    world_means.to = "lmtp://127.0.0.1";
    for (size_t cut = 0; cut == 0 || peer.is_cut; cut++) {
        struct message message = {
            .from = "a@from.test", .to = {"b@to.test", "c@to.test"}, .content = "x\r\n"};
        peer_start(&peer, (const char *const *const[]){script, NULL}, cut);
        world_init(&world, (uint16_t[]){peer.port, 0}, quick);
        world_send(&world, &message);
        world_run_home(&world, 1);
        world_run_closed(&world);
        uint32_t taken = 0;
        for (uint32_t i = 0; i < 2; i++)
            taken += message.targets[i].outcome == QUEUE_DONE;
        assert_true(message.targets[1].outcome != QUEUE_DONE || message.targets[0].outcome == QUEUE_DONE);
        uint64_t unsure = counter_get(&world.counters, COUNTER_duplicates_possible);
        world_deinit(&world);
        peer_stop(&peer);
        assert_int_equal(taken, atomic_load(&peer.taken));
        assert_true(taken == 0 || unsure == 2 - taken);
    }
    world_means = (struct world_means){0};
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut_anywhere_in_overlap),
        cmocka_unit_test(cut_anywhere_in_lockstep),
        cmocka_unit_test(cut_anywhere_in_a_stream),
        cmocka_unit_test(cut_anywhere_in_tls),
        cmocka_unit_test(cut_anywhere_in_a_login),
        cmocka_unit_test(cut_anywhere_in_lmtp),
        cmocka_unit_test(cut_anywhere_between_the_answers_of_lmtp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
