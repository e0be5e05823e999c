/* What is said to peers that announce more or less than the message needs: parameters, and refusals of our
 * own. */
#include <stdlib.h>
#include <string.h>

#include "gateway/message/envelope.h"
#include "proto/command.h"
#include "tests/unit/outbound/play.h"

#define TAKE_BY_DATA "=", "C: DATA", "S: 354 go", "=", "D", "A: 250 ok"
#define RAW          "one\n.\r\ntwo \x01\x80\r" /* neither CRLF at its end nor dots stuffed */

static uint32_t count_of(const char *text, const char *part)
{
    uint32_t count = 0;
    while ((text = strstr(text, part)) != NULL) {
        text += strlen(part);
        count++;
    }
    return count;
}

static void wishes_about_notification_are_passed_on(void **state)
{
    struct message messages[] = {
        {.from = "a@from.test",
         .to = {"b@to.test", "c@to.test"},
         .content = BODY,
         .flags = ENVELOPE_RET_HDRS,
         .envid = "QQ+2B314159",
         .notify = SMTP_NOTIFY_SUCCESS | SMTP_NOTIFY_FAILURE | SMTP_NOTIFY_DELAY,
         .orcpt = "rfc822;B+40orig.test"},
        ONE(.flags = ENVELOPE_RET_FULL, .notify = SMTP_NOTIFY_NEVER),
    };
    char *log =
        play(SCRIPTS(SCRIPT(HELLO, "S: 250-peer.test", "S: 250 DSN", "=",
                            "C: MAIL FROM:<a@from.test> RET=HDRS ENVID=QQ+2B314159", "S: 250 ok", "=",
                            "C: RCPT TO:<b@to.test> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;B+40orig.test",
                            "S: 250 ok", "=", "C: RCPT TO:<c@to.test>", "S: 250 ok", TAKE_BY_DATA, "=",
                            "C: MAIL FROM:<a@from.test> RET=FULL", "S: 250 ok", "=",
                            "C: RCPT TO:<b@to.test> NOTIFY=NEVER", "S: 250 ok", TAKE_BY_DATA, BYE)),
             messages, 2, "DDD", NULL);
    check_log(log, "to=<b@to.test>");
}

static void wishes_about_notification_stay_here_without_dsn(void **state)
{
    struct message messages[] = {
        ONE(.flags = ENVELOPE_RET_FULL, .envid = "x", .notify = SMTP_NOTIFY_NEVER, .orcpt = "rfc822;b")};
    char *log =
        play(SCRIPTS(SCRIPT(LOCKSTEP, "=", MAIL, "S: 250 ok", "=", RCPT, "S: 250 ok", TAKE_BY_DATA, BYE)),
             messages, 1, "D", NULL);
    check_log(log, "to=<b@to.test> size=25");
}

static void smtputf8_is_declared(void **state)
{
    struct message messages[] = {
        {.from = "ä@from.test", .to = {"ö@to.test"}, .content = BODY, .flags = ENVELOPE_SMTPUTF8}, ONE()};
    free(play(SCRIPTS(SCRIPT(HELLO, "S: 250-peer.test", "S: 250-8BITMIME", "S: 250 SMTPUTF8", "=",
                             "C: MAIL FROM:<ä@from.test> SMTPUTF8", "S: 250 ok", "=",
                             "C: RCPT TO:<ö@to.test>", "S: 250 ok", TAKE_BY_DATA, "=", MAIL, "S: 250 ok", "=",
                             RCPT, "S: 250 ok", TAKE_BY_DATA, BYE)),
              messages, 2, "DD", NULL));
}

/* The message that the peer cannot take bounces without a word to it, the one behind it is sent. */
static void check_lack(uint32_t flags, const char *reason)
{
    struct message messages[] = {TWO(), ONE()};
    messages[0].flags = flags;
    char *log =
        play(SCRIPTS(SCRIPT(LOCKSTEP, "=", MAIL, "S: 250 ok", "=", RCPT, "S: 250 ok", TAKE_BY_DATA, BYE)),
             messages, 2, "DDD", NULL);
    assert_non_null(strstr(log, "bounce id="));
    check_log(log, reason);
}

static void what_the_peer_does_not_offer_bounces(void **state)
{
    check_lack(ENVELOPE_SMTPUTF8, "reply=\"5.6.7 message needs SMTPUTF8, which 127.0.0.1:");
    check_lack(ENVELOPE_SMTPUTF8 | ENVELOPE_HAS_8BIT, "5.6.7 message needs SMTPUTF8");
    check_lack(ENVELOPE_HAS_8BIT | ENVELOPE_8BITMIME, "5.6.3 message needs 8BITMIME");
    check_lack(ENVELOPE_BINARYMIME | ENVELOPE_HAS_8BIT, "5.6.3 message needs BINARYMIME");
}

static void declared_8bitmime_without_8bit_content_goes_anywhere(void **state)
{
    struct message messages[] = {ONE(.flags = ENVELOPE_8BITMIME)};
    free(play(SCRIPTS(SCRIPT(LOCKSTEP, "=", MAIL, "S: 250 ok", "=", RCPT, "S: 250 ok", TAKE_BY_DATA, BYE)),
              messages, 1, "D", NULL));
}

static void binary_needs_both_extensions(void **state)
{
    struct message messages[] = {ONE(.flags = ENVELOPE_BINARYMIME), ONE(.flags = ENVELOPE_BINARYMIME)};
    char *log =
        play(SCRIPTS(SCRIPT(HELLO, "S: 250-peer.test", "S: 250 BINARYMIME", "C: QUIT", "S: 221 bye", "E")),
             messages, 2, "DD", NULL);
    assert_null(strstr(log, "deliver id="));
    check_log(log, "5.6.3");
}

static void binary_goes_as_a_chunk_in_lockstep(void **state)
{
    struct message messages[] = {
        {.from = "a@from.test",
         .to = {"b@to.test", "c@to.test"},
         .content = RAW,
         .flags = ENVELOPE_BINARYMIME | ENVELOPE_HAS_8BIT | ENVELOPE_DOT_LINES},
        ONE(),
    };
    char *content;
    free(play(SCRIPTS(SCRIPT(HELLO, "S: 250-peer.test", "S: 250-CHUNKING", "S: 250 BINARYMIME", "=",
                             "C: MAIL FROM:<a@from.test> BODY=BINARYMIME", "Q", "S: 250 ok", "=", RCPT, "Q",
                             "S: 250 ok", "=", "C: RCPT TO:<c@to.test>", "Q", "S: 550 no", "=",
                             "C: BDAT 14 LAST", "B: 14", "Q", "A: 250 ok", "=", MAIL, "S: 250 ok", "=", RCPT,
                             "S: 250 ok", TAKE_BY_DATA, BYE)),
              messages, 2, "DDD", &content));
    assert_string_equal(content, RAW BODY ".\r\n");
    free(content);
}

static void binary_for_nobody_is_not_sent_in_lockstep(void **state)
{
    struct message messages[] = {ONE(.flags = ENVELOPE_BINARYMIME), ONE(.flags = ENVELOPE_BINARYMIME), ONE()};
    free(play(
        SCRIPTS(SCRIPT(HELLO, "S: 250-peer.test", "S: 250-CHUNKING", "S: 250 BINARYMIME", "=",
                       "C: MAIL FROM:<a@from.test> BODY=BINARYMIME", "S: 250 ok", "=", RCPT, "S: 550 no", "=",
                       "C: RSET", "C: MAIL FROM:<a@from.test> BODY=BINARYMIME", "S: 250 ok", "S: 250 ok", "=",
                       RCPT, "S: 250 ok", "=", "C: BDAT 25 LAST", "B: 25", "S: 554 5.6.0 no", "=", "C: RSET",
                       MAIL, "S: 250 ok", "S: 250 ok", "=", RCPT, "S: 250 ok", TAKE_BY_DATA, BYE)),
        messages, 3, "DDD", NULL));
}

/* Content that has to be read: the chunk is announced once all before it is answered. */
static void binary_on_disk_waits_for_the_recipients(void **state)
{
    struct message messages[] = {ONE(), ONE(.flags = ENVELOPE_BINARYMIME, .on_disk = true),
                                 ONE(.flags = ENVELOPE_BINARYMIME, .on_disk = true),
                                 ONE(.flags = ENVELOPE_BINARYMIME, .on_disk = true), ONE()};
    char *content;
    free(
        play(SCRIPTS(SCRIPT(HELLO, "S: 250-peer.test", "S: 250-PIPELINING", "S: 250-CHUNKING",
                            "S: 250 BINARYMIME", "=", MAIL, RCPT, "C: BDAT 25 LAST", "B: 25", "C: RSET",
                            "C: MAIL FROM:<a@from.test> BODY=BINARYMIME", RCPT, "Q", "S: 250 ok", "S: 250 ok",
                            "A: 250 ok", "S: 250 ok", "S: 250 ok", "S: 250 ok", "*", "C: BDAT 25 LAST",
                            "B: 25", "C: RSET", "C: MAIL FROM:<a@from.test> BODY=BINARYMIME", RCPT, "Q",
                            "A: 250 ok", "S: 250 ok", "S: 250 ok", "S: 550 no", "=", "C: RSET",
                            "C: MAIL FROM:<a@from.test> BODY=BINARYMIME", RCPT, "S: 250 ok", "S: 550 no",
                            "S: 503 no", "=", "C: RSET", MAIL, RCPT, "C: BDAT 25 LAST", "B: 25", "S: 250 ok",
                            "S: 250 ok", "S: 250 ok", "A: 250 ok", BYE)),
             messages, 5, "DDDDD", &content));
    assert_string_equal(content, BODY BODY BODY);
    free(content);
}

static void damaged_binary_is_never_completed(void **state)
{
    struct message messages[] = {ONE(.flags = ENVELOPE_BINARYMIME, .on_disk = true, .is_damaged = true)};
    char *content;
    char *log = play(SCRIPTS(SCRIPT(HELLO, "S: 250-peer.test", "S: 250-CHUNKING", "S: 250 BINARYMIME",
                                    "C~ MAIL", "S: 250 ok", RCPT, "S: 250 ok", "E")),
                     messages, 1, "D", &content);
    assert_string_equal(content, "");
    free(content);
    check_log(log, "5.3.0 stored content damaged");
}

static void parameters_cannot_carry_commands(void **state)
{
    struct message messages[] = {ONE(.orcpt = "rfc822;x\r\nRSET"), ONE(.envid = "x\r\nRSET"),
                                 FROM("a@from.test>\r\nRSET", BODY, )};
    char *log = play(SCRIPTS(SCRIPT(HELLO, "S: 250-peer.test", "S: 250 DSN", "C: QUIT", "S: 221 bye", "E")),
                     messages, 3, "DFF", NULL);
    assert_non_null(strstr(log, "5.1.3"));
    check_log(log, "4.3.0 stored envelope cannot be read");
}

/* RFC 1870 §3: BODY is 25 octets as it is stored, and 24 without its stuffed dot. */
static void stuffed_dots_do_not_count_as_size(void **state)
{
    struct message messages[] = {ONE(.flags = ENVELOPE_DOT_LINES), ONE(),
                                 FROM("a@from.test", "..\r\n..\r\n\r\nx..\r\n", .flags = ENVELOPE_DOT_LINES),
                                 ONE(.flags = ENVELOPE_DOT_LINES, .on_disk = true)};
    char *log =
        play(SCRIPTS(SCRIPT(HELLO, "S: 250-peer.test", "S: 250 SIZE 24", "=",
                            "C: MAIL FROM:<a@from.test> SIZE=24", "S: 250 ok", "=", RCPT, "S: 250 ok",
                            TAKE_BY_DATA, "=", "C: MAIL FROM:<a@from.test> SIZE=13", "S: 250 ok", "=", RCPT,
                            "S: 250 ok", TAKE_BY_DATA, "=", "C: MAIL FROM:<a@from.test> SIZE=24", "S: 250 ok",
                            "=", RCPT, "S: 250 ok", "=", "C: DATA", "S: 354 go", "*", "D", "A: 250 ok", BYE)),
             messages, 4, "DDDD", NULL);
    assert_int_equal(count_of(log, "deliver id="), 3);
    check_log(log, "5.3.4 message is larger than the peer takes");
}

/* On disk they are not counted: no more than a quarter can be dots. */
static void what_is_not_counted_may_be_three_quarters(void **state)
{
    struct message messages[] = {ONE(.flags = ENVELOPE_DOT_LINES, .on_disk = true)};
    check_log(play(SCRIPTS(SCRIPT(HELLO, "S: 250-peer.test", "S: 250 SIZE 18", "C: QUIT", "S: 221 bye", "E")),
                   messages, 1, "D", NULL),
              "5.3.4 message is larger than the peer takes");
    free(play(SCRIPTS(SCRIPT(HELLO, "S: 250-peer.test", "S: 250 SIZE 19", "=",
                             "C: MAIL FROM:<a@from.test> SIZE=19", "S: 250 ok", "=", RCPT, "S: 250 ok", "=",
                             "C: DATA", "S: 354 go", "*", "D", "A: 250 ok", BYE)),
              messages, 1, "D", NULL));
    free(play(SCRIPTS(SCRIPT(HELLO, "S: 250-peer.test", "S: 250 SIZE", "=",
                             "C: MAIL FROM:<a@from.test> SIZE=25", "S: 250 ok", "=", RCPT, "S: 250 ok", "=",
                             "C: DATA", "S: 354 go", "*", "D", "A: 250 ok", BYE)),
              messages, 1, "D", NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wishes_about_notification_are_passed_on),
        cmocka_unit_test(wishes_about_notification_stay_here_without_dsn),
        cmocka_unit_test(smtputf8_is_declared),
        cmocka_unit_test(what_the_peer_does_not_offer_bounces),
        cmocka_unit_test(declared_8bitmime_without_8bit_content_goes_anywhere),
        cmocka_unit_test(binary_needs_both_extensions),
        cmocka_unit_test(binary_goes_as_a_chunk_in_lockstep),
        cmocka_unit_test(binary_for_nobody_is_not_sent_in_lockstep),
        cmocka_unit_test(binary_on_disk_waits_for_the_recipients),
        cmocka_unit_test(damaged_binary_is_never_completed),
        cmocka_unit_test(parameters_cannot_carry_commands),
        cmocka_unit_test(stuffed_dots_do_not_count_as_size),
        cmocka_unit_test(what_is_not_counted_may_be_three_quarters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
