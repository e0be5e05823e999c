/* LMTP (RFC 2033): LHLO, an answer for each recipient behind the content, Unix sockets. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/message/envelope.h"
#include "tests/unit/net/tls_test.h"
#include "tests/unit/outbound/play.h"

#define LHLO     "S: 220 peer.test LMTP", "C: LHLO relay.test"
#define STEPS    LHLO, "S: 250 peer.test"
#define PIPES    LHLO, "S: 250-peer.test", "S: 250-CHUNKING", "S: 250 PIPELINING"
#define TO(name) "C: RCPT TO:<" name "@to.test>"
#define OK       "S: 250 ok"
#define END      "C: QUIT", "S: 221 bye", "E"

#define FOUR()                                                                                               \
    {                                                                                                        \
        .from = "a@from.test", .to = {"b@to.test", "c@to.test", "d@to.test", "e@to.test"}, .content = BODY   \
    }

static int begin(void **state)
{
    world_means = (struct world_means){.to = "lmtp://127.0.0.1"};
    return 0;
}

static int end(void **state)
{
    world_means = (struct world_means){0};
    return 0;
}

static uint32_t count_of(const char *log, const char *what)
{
    uint32_t count = 0;
    while ((log = strstr(log, what)) != NULL) {
        count++;
        log++;
    }
    return count;
}

static void each_recipient_has_an_answer_of_its_own(void **state)
{
    struct message messages[] = {FOUR(), TWO()};
    char *content;
    char *log =
        play(SCRIPTS(SCRIPT(PIPES, "=", MAIL, TO("b"), TO("c"), TO("d"), TO("e"), "C: DATA", OK, OK,
                            "S: 550 5.1.1 nobody", OK, OK, "S: 354 go", "=", "D", "A: 250 2.1.5 b has it",
                            "S: 452 4.2.2 d is full", "Q", "S: 550 5.7.1 e wants none of it", "=", MAIL,
                            TO("b"), TO("c"), "C: DATA", OK, OK, OK, "S: 354 go", "=", "D", "A: 250 ok", "Q",
                            "S: 250 ok", "=", END)),
             messages, 2, "DDFDDD", &content);
    assert_string_equal(content, BODY ".\r\n" BODY ".\r\n");
    free(content);
    assert_non_null(strstr(log, "reply=\"250 2.1.5 b has it\""));
    assert_non_null(strstr(log, "reply=\"452 4.2.2 d is full\""));
    assert_non_null(strstr(log, "reply=\"550 5.7.1 e wants none of it\""));
    assert_int_equal(count_of(log, "deliver id="), 3);
    assert_int_equal(count_of(log, "bounce id="), 2);
    free(log);
}

static void one_command_at_a_time_without_pipelining(void **state)
{
    struct message messages[] = {TWO(), ONE()};
    free(play(SCRIPTS(SCRIPT(STEPS, "=", MAIL, "Q", OK, "=", TO("b"), "Q", "S: 451 later", "=", TO("c"), "Q",
                             OK, "=", "C: DATA", "Q", "S: 354 go", "=", "D", "A: 250 ok", "=", MAIL, OK, "=",
                             TO("b"), OK, "=", "C: DATA", "S: 354 go", "=", "D", "A: 250 ok", "=", END)),
              messages, 2, "FDD", NULL));
}

/* Nobody knows how many answers a lone dot would get. */
static void a_354_for_nobody_ends_the_connection(void **state)
{
    struct message messages[] = {TWO(), ONE()};
    char *content;
    free(play(SCRIPTS(SCRIPT(PIPES, MAIL, TO("b"), TO("c"), "C: DATA", OK, "S: 550 no", "S: 451 later",
                             "S: 354 go", "E"),
                      SCRIPT(PIPES, MAIL, TO("b"), "C: DATA", OK, OK, "S: 354 go", "D", "A: 250 ok", END)),
              messages, 2, "DFD", &content));
    assert_string_equal(content, BODY ".\r\n");
    free(content);
}

static void nobody_accepted_and_data_refused(void **state)
{
    struct message messages[] = {TWO(), ONE()};
    free(play(SCRIPTS(SCRIPT(PIPES, MAIL, TO("b"), TO("c"), "C: DATA", OK, "S: 550 no", "S: 451 later",
                             "S: 503 nobody", "C: RSET", MAIL, TO("b"), "C: DATA", OK, OK, OK, "S: 354 go",
                             "D", "A: 250 ok", END)),
              messages, 2, "DFD", NULL));
}

static void lost_between_the_answers(void **state)
{
    struct message messages[] = {FOUR()};
    char *log = play(SCRIPTS(SCRIPT(PIPES, MAIL, TO("b"), TO("c"), TO("d"), TO("e"), "C: DATA", OK, OK, OK,
                                    OK, OK, "S: 354 go", "D", "A: 250 ok", "S: 550 5.2.1 no", "R: 250", "X")),
                     messages, 1, "DDFF", NULL);
    assert_int_equal(count_of(log, "possible_duplicate=true"), 2);
    check_log(log, "waiting for the reply to end of content");
}

static void a_421_in_the_place_of_one_answer_is_one_recipients(void **state)
{
    struct message messages[] = {FOUR()};
    char *log = play(SCRIPTS(SCRIPT(PIPES, MAIL, TO("b"), TO("c"), TO("d"), TO("e"), "C: DATA", OK, OK, OK,
                                    OK, OK, "S: 354 go", "D", "A: 250 ok", "S: 421 4.3.2 c will see", "E")),
                     messages, 1, "DFFF", NULL);
    assert_int_equal(count_of(log, "possible_duplicate=true"), 2);
    check_log(log, "reply=\"421 4.3.2 c will see\"");
}

static void an_answer_too_many_breaks_the_conversation(void **state)
{
    struct message messages[] = {ONE()};
    free(play(SCRIPTS(SCRIPT(PIPES, MAIL, TO("b"), "C: DATA", OK, OK, "S: 354 go", "D",
                             "R: 250 ok\r\n250 and another\r\n", "E")),
              messages, 1, "D", NULL));
}

static void an_answer_too_few_is_waited_for(void **state)
{
    struct message messages[] = {TWO()};
    static struct world world;
    static struct peer peer;

    peer_start(&peer,
               SCRIPTS(SCRIPT(PIPES, MAIL, TO("b"), TO("c"), "C: DATA", OK, OK, OK, "S: 354 go", "D",
                              "A: 250 ok", "Q", "E")),
               SIZE_MAX);
    world_init(&world, (uint16_t[]){peer.port, 0}, "timeouts { outbound_end = \"200ms\" }");
    world_send(&world, &messages[0]);
    world_run_home(&world, 1);
    assert_int_equal(messages[0].targets[0].outcome, QUEUE_DONE);
    assert_int_equal(messages[0].targets[1].outcome, QUEUE_DEFER);
    assert_non_null(strstr(world_log(&world), "possible_duplicate=true"));
    world_deinit(&world);
    peer_stop(&peer);
    assert_string_equal(peer.failure, "");
}

static void binary_content_goes_by_one_chunk_and_gets_all_answers(void **state)
{
    struct message messages[] = {TWO()};
    messages[0].flags = ENVELOPE_BINARYMIME;
    free(play(
        SCRIPTS(SCRIPT(LHLO, "S: 250-peer.test", "S: 250-CHUNKING", "S: 250-BINARYMIME", "S: 250 PIPELINING",
                       "=", "C: MAIL FROM:<a@from.test> BODY=BINARYMIME", TO("b"), TO("c"), "Q", OK, OK, OK,
                       "=", "C: BDAT 25 LAST", "B: 25", "A: 250 ok", "Q", "S: 452 4.2.2 full", "=", END)),
        messages, 1, "DF", NULL));
}

static void helo_is_never_said(void **state)
{
    struct message messages[] = {ONE()};
    check_log(play(SCRIPTS(SCRIPT(LHLO, "S: 502 what", "E")), messages, 1, "F", NULL), "refused the LHLO");
    check_log(play(SCRIPTS(SCRIPT(LHLO, "X")), messages, 1, "F", NULL), "waiting for the reply to LHLO");
}

static void tls_is_followed_by_lhlo(void **state)
{
    struct message messages[] = {ONE()};
    tls_test_files_make(state);
    peer_means.tls = SSL_CTX_new(TLS_method());
    SSL_CTX_use_certificate(peer_means.tls, tls_test_files.server.certificate);
    SSL_CTX_use_PrivateKey(peer_means.tls, tls_test_files.server.key);
    world_means.route = "tls = \"encrypt\"";
    free(play(SCRIPTS(SCRIPT(LHLO, "S: 250-peer.test", "S: 250 STARTTLS", "C: STARTTLS", "S: 220 go", "T",
                             "C: LHLO relay.test", "S: 250 peer.test", MAIL, OK, TO("b"), OK, "C: DATA",
                             "S: 354 go", "D", "A: 250 ok", END)),
              messages, 1, "D", NULL));
    SSL_CTX_free(peer_means.tls);
    peer_means.tls = NULL;
    tls_test_files_remove(state);
}

/* No TLS there, whatever is offered or demanded. */
static void a_socket_of_this_machine_is_safe(void **state)
{
    struct message messages[] = {TWO()};
    world_means = (struct world_means){.to = "lmtp:/tmp/sluice-outbound-lmtp", .route = "tls = \"encrypt\""};
    peer_means.path = "/tmp/sluice-outbound-lmtp";
    check_log(play(SCRIPTS(SCRIPT(LHLO, "S: 250-peer.test", "S: 250-STARTTLS", "S: 250 PIPELINING", "=", MAIL,
                                  TO("b"), TO("c"), "C: DATA", OK, OK, OK, "S: 354 go", "=", "D", "A: 250 ok",
                                  "A: 250 ok", "=", END)),
                   messages, 1, "DD", NULL),
              "host=/tmp/sluice-outbound-lmtp");
    check_log(play(SCRIPTS(SCRIPT("S: 451 4.3.2 not now", "E")), messages, 1, "FF", NULL), "not now");
    unlink(peer_means.path);
    peer_means.path = NULL;
}

static void a_socket_that_is_not_there_defers(void **state)
{
    static struct world world;
    struct message message = ONE();
    world_means = (struct world_means){.to = "lmtp:/tmp/sluice-outbound-none"};
    world_init(&world, (uint16_t[]){0}, "");
    world_send(&world, &message);
    world_run_home(&world, 1);
    assert_int_equal(message.targets[0].outcome, QUEUE_DEFER);
    assert_non_null(strstr(world_log(&world), "No such file or directory"));
    world_deinit(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_recipient_has_an_answer_of_its_own, begin, end),
        cmocka_unit_test_setup_teardown(one_command_at_a_time_without_pipelining, begin, end),
        cmocka_unit_test_setup_teardown(a_354_for_nobody_ends_the_connection, begin, end),
        cmocka_unit_test_setup_teardown(nobody_accepted_and_data_refused, begin, end),
        cmocka_unit_test_setup_teardown(lost_between_the_answers, begin, end),
        cmocka_unit_test_setup_teardown(a_421_in_the_place_of_one_answer_is_one_recipients, begin, end),
        cmocka_unit_test_setup_teardown(an_answer_too_many_breaks_the_conversation, begin, end),
        cmocka_unit_test_setup_teardown(an_answer_too_few_is_waited_for, begin, end),
        cmocka_unit_test_setup_teardown(binary_content_goes_by_one_chunk_and_gets_all_answers, begin, end),
        cmocka_unit_test_setup_teardown(helo_is_never_said, begin, end),
        cmocka_unit_test_setup_teardown(tls_is_followed_by_lhlo, begin, end),
        cmocka_unit_test_setup_teardown(a_socket_of_this_machine_is_safe, begin, end),
        cmocka_unit_test_setup_teardown(a_socket_that_is_not_there_defers, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
