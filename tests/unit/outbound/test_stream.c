/* Gear 4: whole transactions back to back, to peers that announce CHUNKING and PIPELINING. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/message/envelope.h"
#include "gateway/outbound/site.h"
#include "tests/unit/outbound/play.h"

#define STREAM    HELLO, "S: 250-peer.test", "S: 250-CHUNKING", "S: 250 PIPELINING"
#define CHUNK     "C: BDAT 25 LAST", "B: 25"
#define SAID      MAIL, RCPT, CHUNK
#define NEXT      "C: RSET", SAID
#define TAKE      "S: 250 ok", "S: 250 ok", "A: 250 2.0.0 taken"
#define TAKE_NEXT "S: 250 reset", TAKE
#define WAY_3     "=", MAIL, RCPT, "C: DATA", "S: 250 ok", "S: 250 ok", "S: 354 go", "=", "D", "A: 250 ok"
#define BY_DATA   MAIL, RCPT, "C: DATA"
#define ASK       "S: 250 ok", "S: 250 ok", "S: 354 go"
#define LARGE     (12 << 20)

static const char one_connection[] =
    "site \"default\" { connections = 1 }\ntimeouts { outbound_idle = \"0\" }";

static struct world world;
static struct peer peer;

static void transactions_leave_in_one_flight(void **state)
{
    struct message messages[] = {TWO(), ONE(), ONE()};
    char *content;
    char *log = play(
        SCRIPTS(SCRIPT(STREAM, "=", MAIL, RCPT, "C: RCPT TO:<c@to.test>", CHUNK, NEXT, NEXT, "Q", "S: 250 ok",
                       "S: 250 ok", "S: 250 ok", "A: 250 2.0.0 taken as 77", TAKE_NEXT, TAKE_NEXT, BYE)),
        messages, 3, "DDDD", &content);
    assert_string_equal(content, BODY BODY BODY);
    free(content);
    check_log(log, "reply=\"250 2.0.0 taken as 77\"");
}

static void window_is_bounded(void **state)
{
    struct message messages[] = {ONE(), ONE(), ONE(), ONE(), ONE(), ONE(), ONE(), ONE(), ONE(), ONE()};
    free(play(SCRIPTS(SCRIPT(STREAM, "=", SAID, NEXT, NEXT, NEXT, NEXT, NEXT, NEXT, NEXT, "Q", TAKE, "=",
                             NEXT, "Q", TAKE_NEXT, TAKE_NEXT, "*", NEXT, TAKE_NEXT, TAKE_NEXT, TAKE_NEXT,
                             TAKE_NEXT, TAKE_NEXT, TAKE_NEXT, TAKE_NEXT, BYE)),
              messages, 10, "DDDDDDDDDD", NULL));
}

static void idle_session_needs_no_reset(void **state)
{
    struct message messages[2] = {ONE(), ONE()};

    peer_start(&peer,
               SCRIPTS(SCRIPT(STREAM, "=", SAID, TAKE, "=", SAID, TAKE, "=", "C: QUIT", "S: 221 bye", "E")),
               SIZE_MAX);
    world_init(&world, (uint16_t[]){peer.port, 0},
               "site \"default\" { connections = 1 }\ntimeouts { outbound_idle = \"300ms\" }");
    for (uint32_t i = 0; i < 2; i++) {
        world_send(&world, &messages[i]);
        world_run_home(&world, i + 1);
    }
    world_run_closed(&world);
    world_deinit(&world);
    peer_stop(&peer);
    assert_string_equal(peer.failure, "");
}

static void content_is_empty(void **state)
{
    struct message messages[] = {FROM("a@from.test", "", )};
    char *content;
    free(play(SCRIPTS(SCRIPT(STREAM, "=", MAIL, RCPT, "C: BDAT 0 LAST", TAKE, BYE)), messages, 1, "D",
              &content));
    assert_string_equal(content, "");
    free(content);
}

/* Stuffed dots are not for chunks, and what must be read first goes by DATA: nothing overtakes it. */
static void data_rides_in_the_stream(void **state)
{
    struct message messages[] = {ONE(), ONE(.flags = ENVELOPE_DOT_LINES), ONE(), ONE(.on_disk = true)};
    char *content;
    free(play(SCRIPTS(SCRIPT(STREAM, "=", SAID, "C: RSET", MAIL, RCPT, "C: DATA", "Q", TAKE, "S: 250 ok",
                             "S: 250 ok", "S: 250 ok", "S: 354 go", "=", "D", SAID, "C: RSET", MAIL, RCPT,
                             "C: DATA", "Q", "A: 250 ok", TAKE, "S: 250 ok", "S: 250 ok", "S: 250 ok",
                             "S: 354 go", "*", "D", "A: 250 ok", "C: QUIT", "S: 221 bye", "E")),
              messages, 4, "DDDD", &content));
    assert_string_equal(content, BODY BODY ".\r\n" BODY BODY ".\r\n");
    free(content);
}

static void without_pipelining_there_is_no_stream(void **state)
{
    struct message messages[] = {ONE()};
    free(play(SCRIPTS(SCRIPT(HELLO, "S: 250-peer.test", "S: 250 CHUNKING", "=", MAIL, "S: 250 ok", "=", RCPT,
                             "S: 250 ok", "=", "C: DATA", "S: 354 go", "=", "D", "A: 250 ok", BYE)),
              messages, 1, "D", NULL));
}

/* MAIL, RCPT or BDAT refused: each costs its own message only, whatever the peer says to the rest of it. */
static void refusals_concern_their_own_message(void **state)
{
    struct message messages[] = {ONE(), ONE(), TWO(), ONE(), ONE()};
    char *log = play(
        SCRIPTS(SCRIPT(STREAM, "=", SAID, NEXT, "C: RSET", MAIL, RCPT, "C: RCPT TO:<c@to.test>", CHUNK, NEXT,
                       NEXT, "S: 550 5.7.1 no sender", "S: 503 no", "S: 503 no", "S: 250 reset", "S: 250 ok",
                       "S: 550 5.1.1 nobody", "S: 554 5.5.1 no recipients", "S: 250 reset", "S: 250 ok",
                       "S: 250 ok", "S: 452 4.2.2 full", "A: 250 2.0.0 taken", "S: 250 reset", "S: 250 ok",
                       "S: 250 ok", "S: 552 5.3.4 too much", TAKE_NEXT, BYE)),
        messages, 5, "DDDFDD", NULL);
    assert_non_null(strstr(log, "reply=\"550 5.7.1 no sender\""));
    assert_non_null(strstr(log, "reply=\"550 5.1.1 nobody\""));
    assert_non_null(strstr(log, "reply=\"552 5.3.4 too much\""));
    assert_null(strstr(log, "503"));
    check_log(log, "reply=\"452 4.2.2 full\"");
}

static void reset_follows_a_refused_chunk(void **state)
{
    struct message messages[] = {ONE(), ONE()};

    peer_start(&peer,
               SCRIPTS(SCRIPT(STREAM, "=", SAID, "S: 250 ok", "S: 250 ok", "S: 451 later", "=", NEXT,
                              TAKE_NEXT, "=", "C: QUIT", "S: 221 bye", "E")),
               SIZE_MAX);
    world_init(&world, (uint16_t[]){peer.port, 0},
               "site \"default\" { connections = 1 }\ntimeouts { outbound_idle = \"300ms\" }");
    for (uint32_t i = 0; i < 2; i++) {
        world_send(&world, &messages[i]);
        world_run_home(&world, i + 1);
    }
    world_run_closed(&world);
    assert_int_equal(messages[0].targets[0].outcome, QUEUE_DEFER);
    assert_int_equal(messages[1].targets[0].outcome, QUEUE_DONE);
    world_deinit(&world);
    peer_stop(&peer);
    assert_string_equal(peer.failure, "");
}

/* A message to nobody that the peer takes all the same counts for nobody. */
static void nobody_accepted_and_yet_taken(void **state)
{
    struct message messages[] = {ONE(), ONE()};
    char *log =
        play(SCRIPTS(SCRIPT(STREAM, "=", SAID, NEXT, "S: 250 ok", "S: 550 no", "S: 250 ok", TAKE_NEXT, BYE)),
             messages, 2, "DD", NULL);
    assert_non_null(strstr(log, "bounce id="));
    check_log(log, "deliver id=");
}

static void what_was_sent_and_not_answered_may_be_a_duplicate(void **state)
{
    struct message messages[] = {ONE(), ONE(), ONE()};
    char *log = play(SCRIPTS(SCRIPT(STREAM, "=", SAID, NEXT, NEXT, TAKE, "S: 250 reset", "S: 250 ok", "X")),
                     messages, 3, "DFF", NULL);
    const char *first = strstr(log, "possible_duplicate=true");
    assert_non_null(first);
    assert_non_null(strstr(first + 1, "possible_duplicate=true"));
    check_log(log, "waiting for the reply to RCPT");
}

static void closing_421_defers_the_current_one(void **state)
{
    struct message messages[] = {ONE(), ONE()};
    char *log =
        play(SCRIPTS(SCRIPT(STREAM, "=", SAID, NEXT, TAKE, "S: 250 reset", "S: 421 4.3.2 going down", "E")),
             messages, 2, "DF", NULL);
    assert_null(strstr(log, "possible_duplicate"));
    check_log(log, "reply=\"421 4.3.2 going down\"");
}

/* --- Large content --- */

static char *large_content(void)
{
    char *content = malloc(LARGE + 1);

    assert_non_null(content);
    memset(content, 'x', LARGE);
    for (size_t i = 80; i <= LARGE; i += 80)
        memcpy(content + i - 2, "\r\n", 2);
    memcpy(content + LARGE - 2, "\r\n", 2);
    content[LARGE] = 0;
    return content;
}

static void nothing_is_begun_while_much_is_unsent(void **state)
{
    char *large = large_content();
    struct message messages[] = {FROM("a@from.test", large, ), ONE()};
    const size_t before_next = strlen("EHLO relay.test\r\nMAIL FROM:<a@from.test>\r\nRCPT TO:<b@to.test>\r\n"
                                      "BDAT 12582912 LAST\r\n") +
                               LARGE;

    peer_start(&peer,
               SCRIPTS(SCRIPT(STREAM, MAIL, RCPT, "C: BDAT 12582912 LAST", "W", "W", "W", "B: 12582912", NEXT,
                              TAKE, TAKE_NEXT, "C: QUIT", "S: 221 bye", "E")),
               SIZE_MAX);
    world_init(&world, (uint16_t[]){peer.port, 0}, one_connection);
    world_send(&world, &messages[0]);
    world_send(&world, &messages[1]);
    world_run_ms(&world, 60);
    assert_int_equal(counter_get(&world.counters, COUNTER_bytes_sent), before_next);
    world_run_home(&world, 2);
    world_run_closed(&world);
    assert_int_equal(messages[0].targets[0].outcome, QUEUE_DONE);
    assert_int_equal(messages[1].targets[0].outcome, QUEUE_DONE);
    world_deinit(&world);
    peer_stop(&peer);
    assert_int_equal(peer.content_size, LARGE + 25);
    assert_string_equal(peer.failure, "");
    free(large);
}

#define READ_ON(size) "B: " size, "W"
#define READ_4(size)  READ_ON(size), READ_ON(size), READ_ON(size), READ_ON(size)
#define READ_16(size) READ_4(size), READ_4(size), READ_4(size), READ_4(size)
#define SLOW          STREAM, MAIL, RCPT, "S: 250 ok", "S: 250 ok"

/* One message to a peer with a small window. */
static void play_slowly(const char *const *script, const char *content, const char *timeouts,
                        enum queue_outcome outcome)
{
    static const char *const *scripts[2]; /* the peer outlives this call */
    struct message messages[] = {FROM("a@from.test", content, )};
    char more[256];

    scripts[0] = script;
    peer_means.window = 32 << 10;
    peer_start(&peer, scripts, SIZE_MAX);
    peer_means.window = 0;
    snprintf(more, sizeof(more),
             "site \"default\" { connections = 1 }\ntimeouts { outbound_idle = \"0\" %s }", timeouts);
    world_init(&world, (uint16_t[]){peer.port, 0}, more);
    world_send(&world, &messages[0]);
    world_run_home(&world, 1);
    if (messages[0].targets[0].outcome != outcome)
        fail_msg("outcome %u, log:\n%s", messages[0].targets[0].outcome, world_log(&world));
    world_run_closed(&world);
}

static void end_slowly(char *large)
{
    world_deinit(&world);
    peer_stop(&peer);
    free(large);
}

/* All of it is in memory and leaves as few sends; only what the peer acknowledges tells that it goes on. */
static void a_slow_peer_that_takes_something_is_waited_for(void **state)
{
    char *large = large_content();
    play_slowly(SCRIPT(SLOW, "C: BDAT 12582912 LAST", READ_16("750000"), "B: 582912", "A: 250 ok", BYE),
                large, "outbound_block = \"500ms\"", QUEUE_DONE);
    end_slowly(large);
    assert_string_equal(peer.failure, "");
}

/* The kernel has taken the whole message long before the peer has. */
static void the_time_for_the_answer_begins_when_the_peer_has_all(void **state)
{
    char *large = large_content();
    play_slowly(SCRIPT(SLOW, "C: BDAT 640000 LAST", READ_16("40000"), "A: 250 ok", BYE),
                large + LARGE - 640000, "outbound_block = \"600ms\" outbound_end = \"500ms\"", QUEUE_DONE);
    end_slowly(large);
    assert_string_equal(peer.failure, "");
}

static void a_peer_that_takes_nothing_is_given_up(void **state)
{
    char *large = large_content();
    play_slowly(SCRIPT(SLOW, "B: 1000", "W", "W", "W", "W", "W", "W", "W", "W", "E"), large,
                "outbound_block = \"100ms\"", QUEUE_DEFER);
    assert_non_null(strstr(world_log(&world), "4.4.2 timeout, waiting for the reply to BDAT"));
    end_slowly(large);
}

/* It cannot have it yet, whatever the kernel has taken: the reply was to something else. */
static void a_long_chunk_is_not_taken_before_it_has_arrived(void **state)
{
    char *large = large_content();
    play_slowly(SCRIPT(SLOW, "C: BDAT 640000 LAST", "W", "S: 250 ok", "W", "E"), large + LARGE - 640000, "",
                QUEUE_DEFER);
    assert_non_null(strstr(world_log(&world), "unexpected reply to BDAT: 250 ok"));
    end_slowly(large);
}

/* A refusal holds; what was not read cannot have been taken. */
static void an_answer_in_the_middle_of_the_content(void **state)
{
    static const struct {
        const char *reply;
        const char *outcome;
        const char *log;
    } cases[] = {{"S: 250 2.0.0 enough", "F", "unexpected reply to end of content: 250 2.0.0 enough"},
                 {"S: 552 5.3.4 too much", "D", "reply=\"552 5.3.4 too much\""},
                 {"S: 451 4.3.0 later", "F", "reply=\"451 4.3.0 later\""}};
    char *large = large_content();

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct message messages[] = {FROM("a@from.test", large, )};
        char *log = play(SCRIPTS(SCRIPT(PIPELINING, MAIL, RCPT, "C: DATA", "S: 250 ok", "S: 250 ok",
                                        "S: 354 go", "B: 1000", cases[i].reply, "E")),
                         messages, 1, cases[i].outcome, NULL);
        assert_null(strstr(log, "possible_duplicate"));
        check_log(log, cases[i].log);
    }
    free(large);
}

/* Of three messages one was answered, one was sent, and one got stuck on its way. */
static void an_unfinished_chunk_is_no_duplicate(void **state)
{
    char *large = large_content();
    struct message messages[] = {ONE(), ONE(), FROM("a@from.test", large, )};

    peer_start(&peer, SCRIPTS(SCRIPT(STREAM, SAID, NEXT, TAKE, "W", "Z")), SIZE_MAX);
    world_init(&world, (uint16_t[]){peer.port, 0}, one_connection);
    for (uint32_t i = 0; i < 3; i++)
        world_send(&world, &messages[i]);
    world_run_home(&world, 3);
    world_run_closed(&world);
    assert_int_equal(messages[0].targets[0].outcome, QUEUE_DONE);
    assert_int_equal(messages[1].targets[0].outcome, QUEUE_DEFER);
    assert_int_equal(messages[2].targets[0].outcome, QUEUE_RETRY);
    assert_int_equal(counter_get(&world.counters, COUNTER_duplicates_possible), 1);
    world_deinit(&world);
    peer_stop(&peer);
    free(large);
}

/* --- Trouble lowers the gear --- */

/* On the broken connection one message is done, and two are unsure. */
static void a_stream_that_breaks_gets_gear_three(void **state)
{
    struct message messages[] = {ONE(), ONE(), ONE(), ONE(), ONE()};

    peer_start(&peer,
               SCRIPTS(SCRIPT(STREAM, "=", SAID, NEXT, NEXT, TAKE, "X"),
                       SCRIPT(STREAM, WAY_3, MAIL, RCPT, "C: DATA", "S: 250 ok", "S: 250 ok", "S: 354 go",
                              "=", "D", "A: 250 ok", BYE)),
               SIZE_MAX);
    world_init(&world, (uint16_t[]){peer.port, 0}, one_connection);
    for (uint32_t i = 0; i < 5; i++) {
        world_send(&world, &messages[i]);
        if (i == 2)
            world_run_home(&world, 3);
    }
    world_run_home(&world, 5);
    world_run_closed(&world);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(messages[i].targets[0].outcome, i == 1 || i == 2 ? QUEUE_DEFER : QUEUE_DONE);
    assert_int_equal(counter_get(&world.counters, COUNTER_duplicates_possible), 2);
    world_deinit(&world);
    peer_stop(&peer);
    assert_string_equal(peer.failure, "");
}

static struct endpoint *only_endpoint(void)
{
    for (uint32_t i = 0; i < OUTBOUND_BUCKETS; i++) {
        list_each(link, &world.outbound.buckets[i])
        {
            struct site *site = list_entry(link, struct site, bucket_link);
            if (site->hop != NULL)
                return list_entry(site->endpoints.next, struct endpoint, link);
        }
    }
    fail_msg("there is no site");
    abort();
}

/* One message at a time says nothing of a gear that is for several. */
static void a_gear_proves_itself_by_what_it_is_for(void **state)
{
    struct message messages[] = {ONE(), ONE(), ONE(), ONE(), ONE(), ONE()};

    peer_start(&peer,
               SCRIPTS(SCRIPT(STREAM, "=", SAID, NEXT, NEXT, TAKE, "X"), SCRIPT(STREAM, "=", SAID, TAKE, BYE),
                       SCRIPT(STREAM, "=", SAID, NEXT, TAKE, TAKE_NEXT, BYE)),
               SIZE_MAX);
    world_init(&world, (uint16_t[]){peer.port, 0}, one_connection);
    for (uint32_t i = 0; i < 3; i++)
        world_send(&world, &messages[i]);
    world_run_home(&world, 3);
    world_run_closed(&world);
    struct endpoint *endpoint = only_endpoint();
    assert_int_equal(endpoint->gear_max, GEAR_OVERLAP);
    assert_int_equal(endpoint->proven_until_us, 0);
    endpoint->rest_until_us = 0; /* it is over */
    endpoint->proven_until_us = UINT64_MAX;
    world_send(&world, &messages[3]);
    world_run_home(&world, 4);
    world_run_closed(&world);
    assert_int_equal(endpoint->gear_max, GEAR_STREAM);
    assert_int_equal(endpoint->rest_us, ENDPOINT_REST_MIN_US);
    world_send(&world, &messages[4]);
    world_send(&world, &messages[5]);
    world_run_home(&world, 6);
    world_run_closed(&world);
    assert_int_equal(endpoint->rest_us, 0);
    world_deinit(&world);
    peer_stop(&peer);
    assert_string_equal(peer.failure, "");
}

/* The gear is lowered at once, and what was refused for the confusion's sake is tried again. */
static void check_confusion(const char *const *script)
{
    struct message messages[] = {ONE(), ONE(), ONE()};

    peer_start(&peer, SCRIPTS(script, SCRIPT(STREAM, WAY_3, BYE)), SIZE_MAX);
    world_init(&world, (uint16_t[]){peer.port, 0}, one_connection);
    world_send(&world, &messages[0]);
    world_send(&world, &messages[1]);
    world_run_home(&world, 2);
    world_send(&world, &messages[2]);
    world_run_home(&world, 3);
    world_run_closed(&world);
    assert_int_equal(messages[1].targets[0].outcome, QUEUE_DEFER);
    assert_int_equal(messages[2].targets[0].outcome, QUEUE_DONE);
    assert_int_equal(counter_get(&world.counters, COUNTER_bounced), 0);
    world_deinit(&world);
    peer_stop(&peer);
    assert_string_equal(peer.failure, "");
}

static void confusion_lowers_the_gear(void **state)
{
    check_confusion(SCRIPT(STREAM, "=", SAID, NEXT, "S: 250 ok", "S: 250 ok", "S: 502 5.5.1 BDAT?", "E"));
    check_confusion(SCRIPT(STREAM, "=", SAID, NEXT, TAKE, "S: 250 reset", "S: 503 5.5.1 nested MAIL", "E"));
}

/* --- Replies must be those to the commands --- */

/* Whoever has shown it once is believed on other connections, too. */
static void a_stranger_shows_that_it_counts(void **state)
{
    struct message messages[] = {ONE(), ONE(), ONE(), ONE(), ONE(), ONE(), ONE()};

    peer_start(&peer,
               SCRIPTS(SCRIPT(STREAM, "=", BY_DATA, ASK, "=", "D", BY_DATA, "A: 250 ok", ASK, "=", "D", SAID,
                              "C: RSET", BY_DATA, "A: 250 ok", TAKE, "S: 250 reset", ASK, "=", "D", SAID,
                              "A: 250 ok", TAKE, BYE),
                       SCRIPT(STREAM, "=", SAID, NEXT, TAKE, TAKE_NEXT, BYE)),
               SIZE_MAX);
    world_means.on_trial = true;
    world_init(&world, (uint16_t[]){peer.port, 0}, one_connection);
    for (uint32_t i = 0; i < 7; i++) {
        world_send(&world, &messages[i]);
        if (i == 4) {
            world_run_home(&world, 5);
            world_run_closed(&world);
        }
    }
    world_run_home(&world, 7);
    world_run_closed(&world);
    for (uint32_t i = 0; i < 7; i++)
        assert_int_equal(messages[i].targets[0].outcome, QUEUE_DONE);
    world_means.on_trial = false;
    world_deinit(&world);
    peer_stop(&peer);
    assert_string_equal(peer.failure, "");
}

/* Each kind of command is answered twice, and what follows is refused: nothing may pass for delivered. */
static void one_reply_too_many_is_found_before_it_harms(void **state)
{
#define REFUSE "S: 451 4.3.0 no", "E"
    const struct {
        const char *const *script;
        const char *outcomes;
    } cases[] = {
        {SCRIPT(STREAM, BY_DATA, "S: 250 ok", "S: 250 ok", "S: 250 ok", REFUSE), "FFFF"},
        {SCRIPT(STREAM, BY_DATA, ASK, "S: 354 go", "E"), "FFFF"},
        {SCRIPT(STREAM, BY_DATA, ASK, "D", BY_DATA, "A: 250 ok", "S: 250 ok", "S: 250 ok", "S: 250 ok",
                REFUSE),
         "DFFF"},
        {SCRIPT(STREAM, BY_DATA, ASK, "D", BY_DATA, "A: 250 ok", ASK, "D", SAID, "C: RSET", BY_DATA,
                "A: 250 ok", TAKE, "S: 250 ok", "S: 250 reset", "S: 250 ok", "S: 250 ok", REFUSE),
         "DDDF"},
        {SCRIPT(STREAM, BY_DATA, ASK, "D", BY_DATA, "A: 250 ok", ASK, "D", SAID, "C: RSET", BY_DATA,
                "A: 250 ok", TAKE, "S: 250 reset", "S: 250 reset", "S: 250 ok", "S: 250 ok", REFUSE),
         "DDDF"},
    };

    world_means.on_trial = true;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct message messages[] = {ONE(), ONE(), ONE(), ONE()};
        char *log = play(SCRIPTS(cases[i].script), messages, 4, cases[i].outcomes, NULL);
        check_log(log, i == 1 ? "unexpected reply to end of content: 354" : "unexpected reply to DATA: 250");
    }
    world_means.on_trial = false;
}

/* Too late to help, but not to learn from. */
static void what_nobody_asked_for_ends_the_stream(void **state)
{
    const char *const *const scripts[] = {
        SCRIPT(STREAM, "=", SAID, NEXT, "S: 250 ok", TAKE, TAKE_NEXT, "E"),
        SCRIPT(STREAM, "=", SAID, NEXT, TAKE, TAKE_NEXT, "=", "C: QUIT", "S: 451 4.3.0 no", "E"),
    };

    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        struct message messages[] = {ONE(), ONE(), ONE(), ONE()};
        peer_start(&peer,
                   SCRIPTS(scripts[i], SCRIPT(STREAM, "=", BY_DATA, ASK, "=", "D", BY_DATA, "A: 250 ok", ASK,
                                              "=", "D", "A: 250 ok", BYE)),
                   SIZE_MAX);
        world_init(&world, (uint16_t[]){peer.port, 0}, one_connection);
        for (uint32_t j = 0; j < 4; j++) {
            world_send(&world, &messages[j]);
            if (j == 1)
                world_run_home(&world, 2);
            if (j == 1)
                world_run_closed(&world);
        }
        const struct endpoint *endpoint = only_endpoint();
        assert_int_equal(endpoint->gear_max, GEAR_OVERLAP);
        assert_int_equal(endpoint->rest_us, ENDPOINT_REST_MAX_US);
        assert_int_equal(endpoint->proven_until_us, 0);
        world_run_home(&world, 4);
        world_run_closed(&world);
        assert_non_null(strstr(world_log(&world), "replies do not match commands"));
        assert_non_null(strstr(world_log(&world), "messages=2"));
        world_deinit(&world);
        peer_stop(&peer);
        assert_string_equal(peer.failure, "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transactions_leave_in_one_flight),
        cmocka_unit_test(window_is_bounded),
        cmocka_unit_test(idle_session_needs_no_reset),
        cmocka_unit_test(content_is_empty),
        cmocka_unit_test(data_rides_in_the_stream),
        cmocka_unit_test(without_pipelining_there_is_no_stream),
        cmocka_unit_test(refusals_concern_their_own_message),
        cmocka_unit_test(reset_follows_a_refused_chunk),
        cmocka_unit_test(nobody_accepted_and_yet_taken),
        cmocka_unit_test(what_was_sent_and_not_answered_may_be_a_duplicate),
        cmocka_unit_test(closing_421_defers_the_current_one),
        cmocka_unit_test(nothing_is_begun_while_much_is_unsent),
        cmocka_unit_test(an_answer_in_the_middle_of_the_content),
        cmocka_unit_test(an_unfinished_chunk_is_no_duplicate),
        cmocka_unit_test(a_stream_that_breaks_gets_gear_three),
        cmocka_unit_test(a_gear_proves_itself_by_what_it_is_for),
        cmocka_unit_test(confusion_lowers_the_gear),
        cmocka_unit_test(a_stranger_shows_that_it_counts),
        cmocka_unit_test(one_reply_too_many_is_found_before_it_harms),
        cmocka_unit_test(what_nobody_asked_for_ends_the_stream),
        cmocka_unit_test(a_slow_peer_that_takes_something_is_waited_for),
        cmocka_unit_test(the_time_for_the_answer_begins_when_the_peer_has_all),
        cmocka_unit_test(a_peer_that_takes_nothing_is_given_up),
        cmocka_unit_test(a_long_chunk_is_not_taken_before_it_has_arrived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
