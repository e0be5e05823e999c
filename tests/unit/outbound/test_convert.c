/* 8-bit content for a peer that takes 7 bits, when the configuration allows to convert it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/message/envelope.h"
#include "gateway/outbound/convert.h"
#include "tests/unit/outbound/play.h"

#define DECLARED (ENVELOPE_HAS_8BIT | ENVELOPE_8BITMIME)
#define HEADER   "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n"
#define EIGHT    HEADER "Content-Transfer-Encoding: 8bit\r\n\r\nf\xc3\xbcr\r\n..\r\n"
#define QUOTED   HEADER "Content-Transfer-Encoding: quoted-printable\r\n\r\nf=C3=BCr\r\n=2E\r\n"
#define IN_VAIN  "Subject: f\xc3\xbcr\r\n\r\nx\r\n" /* what stands in a header cannot be converted */
#define TAKE     "=", MAIL, "S: 250 ok", "=", RCPT, "S: 250 ok", "=", "C: DATA", "S: 354 go"

static int allow(void **state)
{
    world_means = (struct world_means){.sections = "outbound { convert_8bit = true }"};
    return 0;
}

static int forget(void **state)
{
    world_means = (struct world_means){0};
    return 0;
}

/* One message, sent after MAIL with the parameters and as `expected`. */
static void check_sent(const char *features, const char *mail, const char *content, uint32_t flags,
                       bool on_disk, const char *expected)
{
    struct message messages[] = {FROM("a@from.test", content, .flags = flags, .on_disk = on_disk)};
    char *got;

    free(play(
        SCRIPTS(SCRIPT(HELLO, "S: 250-peer.test", features, "=", mail, "S: 250 ok", "=", RCPT, "S: 250 ok",
                       "=", "C: DATA", "S: 354 go", "*", "D", "A: 250 ok", "C: QUIT", "S: 221 bye", "E")),
        messages, 1, "D", &got));
    assert_string_equal(got, expected);
    free(got);
}

/* Its size is not known before it is written, so none is told. */
static void text_becomes_quoted_printable(void **state)
{
    for (int on_disk = 0; on_disk <= 1; on_disk++) {
        check_sent("S: 250 SIZE", MAIL, EIGHT, DECLARED, on_disk, QUOTED ".\r\n");
        check_sent("S: 250 SIZE", MAIL, EIGHT, ENVELOPE_HAS_8BIT, on_disk, QUOTED ".\r\n");
    }
}

static void who_takes_8_bits_gets_them(void **state)
{
    check_sent("S: 250 8BITMIME", MAIL " BODY=8BITMIME", EIGHT, DECLARED, false, EIGHT ".\r\n");
}

/* As without the option: in life it mostly arrives. On disk that is found when MAIL is said. */
static void what_was_never_declared_goes_as_it_is_if_it_must(void **state)
{
    check_sent("S: 250 SIZE", MAIL " SIZE=20", IN_VAIN, ENVELOPE_HAS_8BIT, false, IN_VAIN ".\r\n");
    check_sent("S: 250 SIZE", MAIL, IN_VAIN, ENVELOPE_HAS_8BIT, true, IN_VAIN ".\r\n");
}

static void what_has_no_such_octet_goes_as_it_is(void **state)
{
    check_sent("S: 250 SIZE", MAIL " SIZE=25", BODY, DECLARED, false, BODY ".\r\n");
    check_sent("S: 250 SIZE", MAIL, BODY, DECLARED, true, BODY ".\r\n");
}

static void what_cannot_be_converted_bounces(void **state)
{
    struct message messages[] = {FROM("a@from.test", IN_VAIN, .flags = DECLARED), ONE()};
    char *log = play(SCRIPTS(SCRIPT(LOCKSTEP, TAKE, "=", "D", "A: 250 ok", BYE)), messages, 2, "DD", NULL);

    assert_non_null(strstr(log, "reply=\"5.6.3 message needs 8BITMIME, which 127.0.0.1:"));
    check_log(log, " does not offer; it cannot be converted: its header is not ASCII\"");
}

static void what_proves_inconvertible_is_never_ended(void **state)
{
    struct message messages[] = {FROM("a@from.test", IN_VAIN, .flags = DECLARED, .on_disk = true), ONE()};
    char *content;
    char *log = play(SCRIPTS(SCRIPT(LOCKSTEP, TAKE, "E"), SCRIPT(LOCKSTEP, TAKE, "=", "D", "A: 250 ok", BYE)),
                     messages, 2, "DD", &content);

    assert_string_equal(content, BODY ".\r\n");
    free(content);
    check_log(log, "5.6.3 message needs 8BITMIME, and cannot be converted");
}

static void other_lacks_bounce_all_the_same(void **state)
{
    struct message messages[] = {FROM("a@from.test", EIGHT, .flags = DECLARED | ENVELOPE_SMTPUTF8),
                                 FROM("a@from.test", EIGHT, .flags = DECLARED | ENVELOPE_BINARYMIME)};
    char *log = play(SCRIPTS(SCRIPT(LOCKSTEP, BYE)), messages, 2, "DD", NULL);

    assert_non_null(strstr(log, "5.6.7 message needs SMTPUTF8"));
    check_log(log, "5.6.3 message needs BINARYMIME");
}

static void damaged_content_is_never_ended(void **state)
{
    struct message messages[] = {
        FROM("a@from.test", EIGHT, .flags = DECLARED, .on_disk = true, .is_damaged = true)};
    char *content;
    char *log = play(SCRIPTS(SCRIPT(LOCKSTEP, TAKE, "E")), messages, 1, "D", &content);

    assert_string_equal(content, "");
    free(content);
    check_log(log, "5.3.0 stored content damaged");
}

/* A chunk would have to begin with its size. */
static void it_goes_by_data_between_chunks(void **state)
{
    struct message messages[] = {ONE(), FROM("a@from.test", EIGHT, .flags = DECLARED), ONE()};
    char *content;
    free(play(SCRIPTS(SCRIPT(HELLO, "S: 250-peer.test", "S: 250-PIPELINING", "S: 250 CHUNKING", "=", MAIL,
                             RCPT, "C: BDAT 25 LAST", "B: 25", "C: RSET", MAIL, RCPT, "C: DATA", "S: 250 ok",
                             "S: 250 ok", "A: 250 ok", "S: 250 ok", "S: 250 ok", "S: 250 ok", "S: 354 go",
                             "*", "D", MAIL, RCPT, "C: BDAT 25 LAST", "B: 25", "A: 250 ok", "S: 250 ok",
                             "S: 250 ok", "A: 250 ok", "C: QUIT", "S: 221 bye", "E")),
              messages, 3, "DDD", &content));
    assert_string_equal(content, BODY QUOTED ".\r\n" BODY);
    free(content);
}

/* Many buffers, more than is surveyed at once or in one turn; then the next message in the same session. */
static void check_large(bool on_disk)
{
    enum { COUNT = 600000, LINE = 4 };
    const size_t head = sizeof(HEADER "\r\n") - 1;
    static const char field[] = HEADER "Content-Transfer-Encoding: quoted-printable\r\n\r\n";
    const size_t field_size = sizeof(field) - 1;
    char *body = malloc(head + COUNT * LINE + 1);
    char *content;

    static_assert(COUNT * LINE > 2 * CONVERT_TURN_MAX, "so many turns");
    memcpy(body, HEADER "\r\n", head);
    for (size_t i = 0; i < COUNT; i++)
        memcpy(body + head + i * LINE, i % 2 == 0 ? "\xc3\xbc\r\n" : "\xff.\r\n", LINE + 1);
    struct message messages[] = {FROM("a@from.test", body, .flags = DECLARED, .on_disk = on_disk), ONE()};
    free(play(SCRIPTS(SCRIPT(PIPELINING, "=", MAIL, RCPT, "C: DATA", "S: 250 ok", "S: 250 ok", "S: 354 go",
                             "*", "D", "A: 250 ok", MAIL, RCPT, "C: DATA", "S: 250 ok", "S: 250 ok",
                             "S: 354 go", "*", "D", "A: 250 ok", "C: QUIT", "S: 221 bye", "E")),
              messages, 2, "DD", &content));
    assert_memory_equal(content, field, field_size);
    const char *at = content + field_size;
    for (size_t i = 0; i < COUNT; i++) {
        const char *expected = i % 2 == 0 ? "=C3=BC\r\n" : "=FF.\r\n";
        if (strncmp(at, expected, strlen(expected)) != 0)
            fail_msg("line %zu", i);
        at += strlen(expected);
    }
    assert_string_equal(at, ".\r\n" BODY ".\r\n");
    free(content);
    free(body);
}

static void large_content_is_converted_on_its_way(void **state)
{
    check_large(false);
    check_large(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(text_becomes_quoted_printable, allow, forget),
        cmocka_unit_test_setup_teardown(who_takes_8_bits_gets_them, allow, forget),
        cmocka_unit_test_setup_teardown(what_was_never_declared_goes_as_it_is_if_it_must, allow, forget),
        cmocka_unit_test_setup_teardown(what_has_no_such_octet_goes_as_it_is, allow, forget),
        cmocka_unit_test_setup_teardown(what_cannot_be_converted_bounces, allow, forget),
        cmocka_unit_test_setup_teardown(what_proves_inconvertible_is_never_ended, allow, forget),
        cmocka_unit_test_setup_teardown(other_lacks_bounce_all_the_same, allow, forget),
        cmocka_unit_test_setup_teardown(damaged_content_is_never_ended, allow, forget),
        cmocka_unit_test_setup_teardown(it_goes_by_data_between_chunks, allow, forget),
        cmocka_unit_test_setup_teardown(large_content_is_converted_on_its_way, allow, forget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
