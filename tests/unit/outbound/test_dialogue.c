/* What is said on the wire, in each gear and for each refusal. Conversations stand as the peer sees them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/message/envelope.h"
#include "tests/unit/outbound/play.h"

static void lockstep_says_one_command_at_a_time(void **state)
{
    struct message messages[] = {TWO(), ONE()};
    char *content;
    char *log =
        play(SCRIPTS(SCRIPT(LOCKSTEP, "=", MAIL, "Q", "S: 250 ok", "=", RCPT, "Q", "S: 250 ok", "=",
                            "C: RCPT TO:<c@to.test>", "Q", "S: 250 ok", "=", "C: DATA", "Q", "S: 354 go", "=",
                            "D", "Q", "A: 250 2.0.0 taken as 77", "=", MAIL, "S: 250 ok", "=", RCPT,
                            "S: 250 ok", "=", "C: DATA", "S: 354 go", "=", "D", "A: 250 ok", BYE)),
             messages, 2, "DDD", &content);
    assert_string_equal(content, BODY ".\r\n" BODY ".\r\n");
    free(content);
    check_log(log, "reply=\"250 2.0.0 taken as 77\"");
}

static void overlap_sends_content_and_next_envelope_in_one_flight(void **state)
{
    struct message messages[] = {TWO(), ONE(), ONE()};
    char *log = play(
        SCRIPTS(SCRIPT(PIPELINING, "=", MAIL, RCPT, "C: RCPT TO:<c@to.test>", "C: DATA", "Q", "S: 250 ok",
                       "S: 250 ok", "S: 250 ok", "S: 354 go", "=", "D", MAIL, RCPT, "C: DATA", "Q",
                       "A: 250 ok", "S: 250 ok", "S: 250 ok", "S: 354 go", "=", "D", MAIL, RCPT, "C: DATA",
                       "A: 250 ok", "S: 250 ok", "S: 250 ok", "S: 354 go", "=", "D", "A: 250 ok", BYE)),
        messages, 3, "DDDD", NULL);
    check_log(log, "deliver id=");
}

static void parameters_follow_what_is_announced(void **state)
{
    struct message messages[] = {ONE(.flags = ENVELOPE_HAS_8BIT), ONE(), FROM("", BODY, )};
    char *log = play(SCRIPTS(SCRIPT(HELLO, "S: 250-peer.test", "S: 250-SIZE 1000", "S: 250 8BITMIME", "=",
                                    "C: MAIL FROM:<a@from.test> SIZE=25 BODY=8BITMIME", "S: 250 ok", "=",
                                    RCPT, "S: 250 ok", "=", "C: DATA", "S: 354 go", "=", "D", "A: 250 ok",
                                    "=", "C: MAIL FROM:<a@from.test> SIZE=25", "S: 250 ok", "=", RCPT,
                                    "S: 250 ok", "=", "C: DATA", "S: 354 go", "=", "D", "A: 250 ok", "=",
                                    "C: MAIL FROM:<> SIZE=25", "S: 250 ok", "=", RCPT, "S: 250 ok", "=",
                                    "C: DATA", "S: 354 go", "=", "D", "A: 250 ok", BYE)),
                     messages, 3, "DDD", NULL);
    check_log(log, "from=<>");
}

static void too_large_for_the_peer_bounces_unsent(void **state)
{
    struct message messages[] = {FROM("a@from.test", "0123456789\r\n", ), FROM("a@from.test", "x\r\n", )};
    char *log = play(SCRIPTS(SCRIPT(HELLO, "S: 250-peer.test", "S: 250 SIZE 5", "=",
                                    "C: MAIL FROM:<a@from.test> SIZE=3", "S: 250 ok", "=", RCPT, "S: 250 ok",
                                    "=", "C: DATA", "S: 354 go", "=", "D", "A: 250 ok", BYE)),
                     messages, 2, "DD", NULL);
    check_log(log, "bounce");
}

static void empty_content_is_a_lone_dot(void **state)
{
    struct message messages[] = {FROM("a@from.test", "", )};
    char *content;
    char *log = play(SCRIPTS(SCRIPT(PIPELINING, "=", MAIL, RCPT, "C: DATA", "S: 250 ok", "S: 250 ok",
                                    "S: 354 go", "=", "D", "A: 250 ok", BYE)),
                     messages, 1, "D", &content);
    assert_string_equal(content, ".\r\n");
    free(content);
    check_log(log, "size=0");
}

static void helo_when_ehlo_is_unknown(void **state)
{
    struct message messages[] = {ONE()};
    free(play(SCRIPTS(SCRIPT(HELLO, "S: 502 what", "=", "C: HELO relay.test", "S: 250-peer.test",
                             "S: 250 PIPELINING", "=", MAIL, "Q", "S: 250 ok", "=", RCPT, "S: 250 ok", "=",
                             "C: DATA", "S: 354 go", "=", "D", "A: 250 ok", BYE)),
              messages, 1, "D", NULL));
}

static void helo_when_the_peer_closes_at_ehlo(void **state)
{
    struct message messages[] = {ONE(), ONE()};
    free(play(SCRIPTS(SCRIPT("S: 220 peer.test", "C: EHLO relay.test", "X"),
                      SCRIPT("S: 220 peer.test", "C: HELO relay.test", "S: 250 hi", MAIL, "S: 250 ok", RCPT,
                             "S: 250 ok", "C: DATA", "S: 354 go", "D", "A: 250 ok", "X"),
                      SCRIPT("S: 220 peer.test", "C: HELO relay.test", "S: 250 hi", MAIL, "S: 250 ok", RCPT,
                             "S: 250 ok", "C: DATA", "S: 354 go", "D", "A: 250 ok", BYE)),
              messages, 2, "DD", NULL));
}

static void a_peer_that_closes_at_helo_too_is_lost(void **state)
{
    struct message messages[] = {ONE()};
    check_log(play(SCRIPTS(SCRIPT("S: 220 peer.test", "C: EHLO relay.test", "X"),
                           SCRIPT("S: 220 peer.test", "C: HELO relay.test", "X")),
                   messages, 1, "F", NULL),
              "waiting for the reply to HELO");
}

static void a_peer_that_falls_silent_at_ehlo_is_lost(void **state)
{
    struct message messages[] = {ONE()};
    check_log(play(SCRIPTS(SCRIPT("S: 220 peer.test", "C: EHLO relay.test", "E")), messages, 1, "F", NULL),
              "timeout, waiting for the reply to EHLO");
}

static void the_time_for_a_reply_does_not_begin_anew_with_each_octet(void **state)
{
    struct message messages[] = {ONE()};
    check_log(
        play(SCRIPTS(SCRIPT("S: 220 peer.test", "C: EHLO relay.test", "S: 250-peer.test", "W", "S: 250-x",
                            "W", "R: 2", "W", "R: 5", "W", "R: 0", "W", "R: -", "W", "R: y", "E")),
             messages, 1, "F", NULL),
        "timeout, waiting for the reply to EHLO");
}

static void an_answer_ahead_of_the_content_is_none(void **state)
{
    struct message messages[] = {ONE(), ONE()};
    check_log(play(SCRIPTS(SCRIPT(PIPELINING, MAIL, RCPT, "C: DATA", "S: 250 ok", "S: 250 ok",
                                  "R: 354 go\r\n250 2.0.0 taken\r\n", "E"),
                           SCRIPT(PIPELINING, MAIL, RCPT, "C: DATA", "S: 250 ok", "S: 250 ok",
                                  "R: 354 go\r\n552 5.3.4 too large\r\n", "E")),
                   messages, 2, "FD", NULL),
              "unexpected reply to end of content: 250 2.0.0 taken");
}

static void refused_mail_ends_the_message_alone(void **state)
{
    struct message messages[] = {TWO(), ONE(), ONE()};
    free(play(SCRIPTS(SCRIPT(PIPELINING, "=", MAIL, RCPT, "C: RCPT TO:<c@to.test>", "C: DATA",
                             "S: 550 5.7.1 no", "S: 503 no", "S: 503 no", "S: 503 no", "=", "C: RSET", MAIL,
                             RCPT, "C: DATA", "S: 250 ok", "S: 451 4.3.0 later", "S: 503 no", "S: 503 no",
                             "=", "C: RSET", MAIL, RCPT, "C: DATA", "S: 250 ok", "S: 250 ok", "S: 250 ok",
                             "S: 354 go", "=", "D", "A: 250 ok", BYE)),
              messages, 3, "DDFD", NULL));
}

static void refused_recipients_are_told_apart(void **state)
{
    struct message messages[] = {
        {.from = "a@from.test", .to = {"b@to.test", "c@to.test", "d@to.test"}, .content = BODY}};
    char *log =
        play(SCRIPTS(SCRIPT(PIPELINING, "=", MAIL, RCPT, "C: RCPT TO:<c@to.test>", "C: RCPT TO:<d@to.test>",
                            "C: DATA", "S: 250 ok", "S: 550-5.1.1 nobody", "S: 550 5.1.1 of that name",
                            "S: 452 4.2.2 full", "S: 250 ok", "S: 354 go", "=", "D", "A: 250 ok", BYE)),
             messages, 1, "DFD", NULL);
    assert_non_null(strstr(log, "to=<c@to.test> size=25"));
    check_log(log, "reply=\"452 4.2.2 full\"");
}

static void several_lines_of_a_refusal_are_logged_together(void **state)
{
    struct message messages[] = {ONE()};
    char *log = play(SCRIPTS(SCRIPT(PIPELINING, "=", MAIL, RCPT, "C: DATA", "S: 250 ok",
                                    "S: 550-5.1.1 nobody", "S: 550 of that name", "S: 554 no", BYE)),
                     messages, 1, "D", NULL);
    check_log(log, "reply=\"550-5.1.1 nobody of that name\"");
}

static void nobody_accepted_and_yet_354(void **state)
{
    struct message messages[] = {ONE(), ONE()};
    char *content;
    char *log = play(SCRIPTS(SCRIPT(PIPELINING, "=", MAIL, RCPT, "C: DATA", "S: 250 ok", "S: 550 no",
                                    "S: 354 go", "=", "D", MAIL, RCPT, "C: DATA", "S: 250 ok", "S: 250 ok",
                                    "S: 250 ok", "S: 354 go", "=", "D", "A: 250 ok", BYE)),
                     messages, 2, "DD", &content);
    assert_string_equal(content, ".\r\n" BODY ".\r\n");
    assert_non_null(strstr(log, "bounce"));
    free(content);
    free(log);
}

static void refused_data_needs_a_reset(void **state)
{
    struct message messages[] = {ONE(), ONE(), ONE()};
    free(play(SCRIPTS(SCRIPT(LOCKSTEP, "=", MAIL, "S: 250 ok", "=", RCPT, "S: 250 ok", "=", "C: DATA",
                             "S: 451 later", "=", "C: RSET", MAIL, "S: 250 ok", "S: 250 ok", "=", RCPT,
                             "S: 550 no", "=", "C: RSET", MAIL, "S: 250 ok", "S: 250 ok", "=", RCPT,
                             "S: 250 ok", "=", "C: DATA", "S: 354 go", "=", "D", "S: 554 5.6.0 no", BYE)),
              messages, 3, "FDD", NULL));
}

static void the_dot_decides_for_all_accepted(void **state)
{
    struct message messages[] = {TWO(), TWO()};
    free(play(SCRIPTS(SCRIPT(PIPELINING, "=", MAIL, RCPT, "C: RCPT TO:<c@to.test>", "C: DATA", "S: 250 ok",
                             "S: 250 ok", "S: 550 no", "S: 354 go", "=", "D", MAIL, RCPT,
                             "C: RCPT TO:<c@to.test>", "C: DATA", "S: 451 later", "S: 250 ok", "S: 250 ok",
                             "S: 250 ok", "S: 354 go", "=", "D", "S: 552 no", BYE)),
              messages, 2, "FDDD", NULL));
}

static void closing_421_defers_the_current_one_only(void **state)
{
    struct message messages[] = {ONE(), ONE()};
    char *log =
        play(SCRIPTS(SCRIPT(PIPELINING, "=", MAIL, RCPT, "C: DATA", "S: 250 ok", "S: 250 ok", "S: 354 go",
                            "=", "D", MAIL, RCPT, "C: DATA", "S: 421 4.3.2 going down", "E")),
             messages, 2, "FR", NULL);
    assert_null(strstr(log, "possible_duplicate"));
    check_log(log, "reply=\"421 4.3.2 going down\"");
}

static void unanswered_dot_may_be_a_duplicate(void **state)
{
    struct message messages[] = {ONE(), ONE()};
    char *log = play(SCRIPTS(SCRIPT(PIPELINING, "=", MAIL, RCPT, "C: DATA", "S: 250 ok", "S: 250 ok",
                                    "S: 354 go", "=", "D", MAIL, RCPT, "C: DATA", "X")),
                     messages, 2, "FR", NULL);
    check_log(log, "possible_duplicate=true");
}

static void silence_ends_in_a_timeout(void **state)
{
    struct message messages[] = {ONE()};
    char *log = play(SCRIPTS(SCRIPT(PIPELINING, "=", MAIL, RCPT, "C: DATA", "E")), messages, 1, "F", NULL);
    check_log(log, "timeout, waiting for the reply to MAIL");
}

static void senseless_replies_break_off(void **state)
{
    static const char *const replies[] = {"354 what", "250ok", "9999", "250 ok\nmore",
                                          "25",       "199 x", "600 x"};
    char line[64];

    for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++) {
        struct message messages[] = {ONE()};
        snprintf(line, sizeof(line), "S: %s", replies[i]);
        free(
            play(SCRIPTS(SCRIPT(PIPELINING, "=", MAIL, RCPT, "C: DATA", line, "E")), messages, 1, "F", NULL));
    }
}

static void reply_out_of_turn_closes(void **state)
{
    struct message messages[] = {ONE()};
    char *log = play(SCRIPTS(SCRIPT(PIPELINING, "=", MAIL, RCPT, "C: DATA", "S: 250 ok", "S: 250 ok",
                                    "S: 354 go", "=", "D", "A: 250 ok", "S: 250 and more", "E")),
                     messages, 1, "D", NULL);
    check_log(log, "deliver");
}

static void addresses_cannot_carry_commands(void **state)
{
    struct message messages[] = {
        {.from = "a@from.test", .to = {"b@to.test>\r\nRCPT TO:<evil@x", "b@to.test"}, .content = BODY}};
    char *log = play(SCRIPTS(SCRIPT(PIPELINING, "=", MAIL, RCPT, "C: DATA", "S: 250 ok", "S: 250 ok",
                                    "S: 354 go", "=", "D", "A: 250 ok", BYE)),
                     messages, 1, "DD", NULL);
    check_log(log, "5.1.3");
}

static void content_is_read_back_in_order(void **state)
{
    size_t size = 400000;
    char *body = malloc(size + 1);
    for (size_t i = 0; i < size; i += 8)
        snprintf(body + i, 9, "%06zu\r\n", i / 8);
    struct message messages[] = {FROM("a@from.test", body, .on_disk = true), ONE()};
    char *content;
    char *log =
        play(SCRIPTS(SCRIPT(PIPELINING, "=", MAIL, RCPT, "C: DATA", "S: 250 ok", "S: 250 ok", "S: 354 go",
                            "*", "D", "A: 250 ok", MAIL, RCPT, "C: DATA", "S: 250 ok", "S: 250 ok",
                            "S: 354 go", "*", "D", "A: 250 ok", "C: QUIT", "S: 221 bye", "E")),
             messages, 2, "DD", &content);
    assert_memory_equal(content, body, size);
    assert_string_equal(content + size, ".\r\n" BODY ".\r\n");
    free(content);
    free(body);
    free(log);
}

static void damaged_content_is_never_ended(void **state)
{
    struct message messages[] = {ONE(.on_disk = true, .is_damaged = true)};
    char *content;
    char *log = play(
        SCRIPTS(SCRIPT(PIPELINING, "=", MAIL, RCPT, "C: DATA", "S: 250 ok", "S: 250 ok", "S: 354 go", "E")),
        messages, 1, "D", &content);
    assert_string_equal(content, "");
    free(content);
    assert_non_null(strstr(log, "bounce"));
    check_log(log, "5.3.0 stored content damaged");
}

static void unreadable_content_is_deferred(void **state)
{
    struct message messages[] = {ONE(.on_disk = true, .read_error = -EIO)};
    char *log = play(
        SCRIPTS(SCRIPT(PIPELINING, "=", MAIL, RCPT, "C: DATA", "S: 250 ok", "S: 250 ok", "S: 354 go", "E")),
        messages, 1, "F", NULL);
    check_log(log, "4.3.0 stored content cannot be read");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lockstep_says_one_command_at_a_time),
        cmocka_unit_test(overlap_sends_content_and_next_envelope_in_one_flight),
        cmocka_unit_test(parameters_follow_what_is_announced),
        cmocka_unit_test(too_large_for_the_peer_bounces_unsent),
        cmocka_unit_test(empty_content_is_a_lone_dot),
        cmocka_unit_test(helo_when_ehlo_is_unknown),
        cmocka_unit_test(helo_when_the_peer_closes_at_ehlo),
        cmocka_unit_test(a_peer_that_closes_at_helo_too_is_lost),
        cmocka_unit_test(a_peer_that_falls_silent_at_ehlo_is_lost),
        cmocka_unit_test(the_time_for_a_reply_does_not_begin_anew_with_each_octet),
        cmocka_unit_test(an_answer_ahead_of_the_content_is_none),
        cmocka_unit_test(refused_mail_ends_the_message_alone),
        cmocka_unit_test(refused_recipients_are_told_apart),
        cmocka_unit_test(several_lines_of_a_refusal_are_logged_together),
        cmocka_unit_test(nobody_accepted_and_yet_354),
        cmocka_unit_test(refused_data_needs_a_reset),
        cmocka_unit_test(the_dot_decides_for_all_accepted),
        cmocka_unit_test(closing_421_defers_the_current_one_only),
        cmocka_unit_test(unanswered_dot_may_be_a_duplicate),
        cmocka_unit_test(silence_ends_in_a_timeout),
        cmocka_unit_test(senseless_replies_break_off),
        cmocka_unit_test(reply_out_of_turn_closes),
        cmocka_unit_test(addresses_cannot_carry_commands),
        cmocka_unit_test(content_is_read_back_in_order),
        cmocka_unit_test(damaged_content_is_never_ended),
        cmocka_unit_test(unreadable_content_is_deferred),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
