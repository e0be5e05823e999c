/* The peer goes away after each single octet that it says: every delivery comes home exactly once, and is
 * done only if the peer said so, in full. */
#include <stdlib.h>
#include <string.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut_anywhere_in_overlap),
        cmocka_unit_test(cut_anywhere_in_lockstep),
        cmocka_unit_test(cut_anywhere_in_a_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
