#include "tests/unit/proto/exchange.h"

#include <stdlib.h>

/*
 * What extensions add to commands, and that none of it is there while they are not in force.
 */
#define A_AT_B "MAIL path=[a@b] local=[a] domain=[b]"
#define TO_A_B "RCPT path=[a@b] local=[a] domain=[b]"
#define ALL    UINT32_MAX

static int with_all(void **state)
{
    transcript_extensions = ALL;
    return 0;
}

static void test_mail_parameters(void **state)
{
    static const struct exchange table[] = {
        {"MAIL FROM:<a@b> BODY=BINARYMIME SIZE=5", A_AT_B " size=5 body=BINARYMIME"},
        {"MAIL FROM:<a@b> body=binarymime", A_AT_B " body=BINARYMIME"},
        {"MAIL FROM:<a@b> smtputf8 BODY=8BITMIME", A_AT_B " body=8BITMIME smtputf8"},
        {"MAIL FROM:<a@b> SMTPUTF8=", "501 5.5.4 parameter has bad syntax"},
        {"MAIL FROM:<a@b> SMTPUTF8=yes", "501 5.5.4 SMTPUTF8 takes no value"},
        {"MAIL FROM:<a@b> SMTPUTF8 SMTPUTF8", "501 5.5.4 parameter given twice"},
        {"MAIL FROM:<a@b> RET=FULL ENVID=QQ314159", A_AT_B " ret=FULL envid=[QQ314159]"},
        {"MAIL FROM:<a@b> ret=hdrs", A_AT_B " ret=HDRS"},
        {"MAIL FROM:<a@b> RET", "501 5.5.4 RET must be FULL or HDRS"},
        {"MAIL FROM:<a@b> RET=BODY", "501 5.5.4 RET must be FULL or HDRS"},
        {"MAIL FROM:<a@b> RET=FULL RET=HDRS", "501 5.5.4 parameter given twice"},
        {"MAIL FROM:<a@b> ENVID=a+20b+2Bc+3D", A_AT_B " envid=[a+20b+2Bc+3D]"},
        {"MAIL FROM:<a@b> ENVID", "501 5.5.4 ENVID needs xtext of at most 100 printable characters"},
        {"MAIL FROM:<a@b> ENVID=+0D+0A", "501 5.5.4 ENVID needs xtext of at most 100 printable characters"},
        {"MAIL FROM:<a@b> ENVID=x+00", "501 5.5.4 ENVID needs xtext of at most 100 printable characters"},
        {"MAIL FROM:<a@b> ENVID=+C3+A9", "501 5.5.4 ENVID needs xtext of at most 100 printable characters"},
        {"MAIL FROM:<a@b> ENVID=\xc3\xa9", "501 5.5.4 ENVID needs xtext of at most 100 printable characters"},
        {"MAIL FROM:<a@b> ENVID=+2b", "501 5.5.4 ENVID needs xtext of at most 100 printable characters"},
        {"MAIL FROM:<a@b> ENVID=x ENVID=x", "501 5.5.4 parameter given twice"},
        {"MAIL FROM:<a@b> AUTH=<>", A_AT_B " auth=[<>]"},
        {"MAIL FROM:<a@b> AUTH=e+3Dmc2@example.com", A_AT_B " auth=[e+3Dmc2@example.com]"},
        {"MAIL FROM:<a@b> AUTH", "501 5.5.4 AUTH= needs an address in xtext"},
        {"MAIL FROM:<a@b> AUTH=a+0Ab", "501 5.5.4 AUTH= needs an address in xtext"},
        {"MAIL FROM:<a@b> AUTH=<> AUTH=<>", "501 5.5.4 parameter given twice"},
        {"MAIL FROM:<a@b> NOTIFY=NEVER", "555 5.5.4 parameter not recognized"},
        {"MAIL FROM:<a@b> ORCPT=rfc822;a@b", "555 5.5.4 parameter not recognized"},
        {"MAIL FROM:<a@b> X=caf\xc3\xa9", "555 5.5.4 parameter not recognized"},
        {"MAIL FROM:<a@b> X=\xc3", "501 5.5.4 parameter has bad syntax"},
    };

    CHECK_ALL(table);
}

#define BAD_NOTIFY "501 5.5.4 NOTIFY must be NEVER, or a list of SUCCESS, FAILURE and DELAY"
#define BAD_ORCPT  "501 5.5.4 ORCPT needs a type, a semicolon and an encoded address"

static void test_rcpt_parameters(void **state)
{
    static const struct exchange table[] = {
        {"RCPT TO:<a@b> NOTIFY=NEVER", TO_A_B " notify=1"},
        {"RCPT TO:<a@b> NOTIFY=SUCCESS", TO_A_B " notify=2"},
        {"RCPT TO:<a@b> notify=failure,delay", TO_A_B " notify=12"},
        {"RCPT TO:<a@b> NOTIFY=DELAY,SUCCESS,FAILURE,DELAY", TO_A_B " notify=14"},
        {"RCPT TO:<a@b> NOTIFY", BAD_NOTIFY},
        {"RCPT TO:<a@b> NOTIFY=NEVER,DELAY", BAD_NOTIFY},
        {"RCPT TO:<a@b> NOTIFY=SUCCESS,", BAD_NOTIFY},
        {"RCPT TO:<a@b> NOTIFY=,SUCCESS", BAD_NOTIFY},
        {"RCPT TO:<a@b> NOTIFY=SUCCESS,,DELAY", BAD_NOTIFY},
        {"RCPT TO:<a@b> NOTIFY=ALWAYS", BAD_NOTIFY},
        {"RCPT TO:<a@b> NOTIFY=NEVER NOTIFY=NEVER", "501 5.5.4 parameter given twice"},
        {"RCPT TO:<a@b> ORCPT=rfc822;c@d NOTIFY=DELAY", TO_A_B " notify=8 orcpt=[rfc822;c@d]"},
        {"RCPT TO:<a@b> ORCPT=rfc822;a+2Btag@d", TO_A_B " orcpt=[rfc822;a+2Btag@d]"},
        {"RCPT TO:<a@b> ORCPT=x400;/S+3Dme/", TO_A_B " orcpt=[x400;/S+3Dme/]"},
        {"RCPT TO:<a@b> ORCPT", BAD_ORCPT},
        {"RCPT TO:<a@b> ORCPT=c@d", BAD_ORCPT},
        {"RCPT TO:<a@b> ORCPT=;c@d", BAD_ORCPT},
        {"RCPT TO:<a@b> ORCPT=rfc822;", BAD_ORCPT},
        {"RCPT TO:<a@b> ORCPT=a@b;c@d", BAD_ORCPT},
        {"RCPT TO:<a@b> ORCPT=x+0A;c@d", BAD_ORCPT},
        {"RCPT TO:<a@b> ORCPT=rfc822;c+0D+0Ad", BAD_ORCPT},
        {"RCPT TO:<a@b> ORCPT=rfc822;c+7F", BAD_ORCPT},
        {"RCPT TO:<a@b> ORCPT=rfc822;c+80", BAD_ORCPT},
        {"RCPT TO:<a@b> ORCPT=rfc822;c+d@e", BAD_ORCPT},
        {"RCPT TO:<a@b> ORCPT=rfc822;caf\xc3\xa9@e", BAD_ORCPT},
        {"RCPT TO:<a@b> ORCPT=rfc822;c ORCPT=rfc822;c", "501 5.5.4 parameter given twice"},
        {"RCPT TO:<a@b> SIZE=1", "555 5.5.4 parameter not recognized"},
        {"RCPT TO:<a@b> SMTPUTF8", "555 5.5.4 parameter not recognized"},
    };

    CHECK_ALL(table);
}

/* RFC 6533 §3: UTF-8 as it is, or as "\x{...}"; controls in neither. */
static void test_original_recipient_of_type_utf8(void **state)
{
    static const struct exchange table[] = {
        {"RCPT TO:<a@b> ORCPT=utf-8;caf\xc3\xa9@d", TO_A_B " orcpt=[utf-8;caf\xc3\xa9@d]"},
        {"RCPT TO:<a@b> ORCPT=UTF-8;caf\\x{E9}@d", TO_A_B " orcpt=[UTF-8;caf\\x{E9}@d]"},
        {"RCPT TO:<a@b> ORCPT=utf-8;\\x{5C}\\x{2b}\\x{3D}\\x{20}",
         TO_A_B " orcpt=[utf-8;\\x{5C}\\x{2b}\\x{3D}\\x{20}]"},
        {"RCPT TO:<a@b> ORCPT=utf-8;\\x{10FFFF}", TO_A_B " orcpt=[utf-8;\\x{10FFFF}]"},
        {"RCPT TO:<a@b> ORCPT=utf-8;\\x{110000}", BAD_ORCPT},
        {"RCPT TO:<a@b> ORCPT=utf-8;\\x{1000000}", BAD_ORCPT},
        {"RCPT TO:<a@b> ORCPT=utf-8;\\x{D800}", BAD_ORCPT},
        {"RCPT TO:<a@b> ORCPT=utf-8;\\x{0D}", BAD_ORCPT},
        {"RCPT TO:<a@b> ORCPT=utf-8;\\x{A}", BAD_ORCPT},
        {"RCPT TO:<a@b> ORCPT=utf-8;\\x{10}", BAD_ORCPT},
        {"RCPT TO:<a@b> ORCPT=utf-8;\\x{85}", BAD_ORCPT},
        {"RCPT TO:<a@b> ORCPT=utf-8;\\x{41}", BAD_ORCPT},
        {"RCPT TO:<a@b> ORCPT=utf-8;\\x{0E9}", BAD_ORCPT},
        {"RCPT TO:<a@b> ORCPT=utf-8;\\x{}", BAD_ORCPT},
        {"RCPT TO:<a@b> ORCPT=utf-8;\\x{E9", BAD_ORCPT},
        {"RCPT TO:<a@b> ORCPT=utf-8;\\x{", BAD_ORCPT},
        {"RCPT TO:<a@b> ORCPT=utf-8;\\", BAD_ORCPT},
        {"RCPT TO:<a@b> ORCPT=utf-8;\\X{E9}", BAD_ORCPT},
        {"RCPT TO:<a@b> ORCPT=utf-8;a+2Bb", BAD_ORCPT},
        {"RCPT TO:<a@b> ORCPT=utf-8;", BAD_ORCPT},
        {"RCPT TO:<a@b> ORCPT=utf-8;\xc2\x85", "501 5.5.4 parameter has bad syntax"},
        {"RCPT TO:<a@b> ORCPT=utf-8;\xff", "501 5.5.4 parameter has bad syntax"},
    };

    CHECK_ALL(table);
}

/* Fills `line` with `head`, `count` times `unit`, and nothing else. */
static char *repeated(char *line, const char *head, const char *unit, size_t count)
{
    char *at = stpcpy(line, head);

    for (size_t i = 0; i < count; i++)
        at = stpcpy(at, unit);
    return line;
}

static void check_length(const char *head, const char *unit, size_t count, bool accepted)
{
    char line[SMTP_LINE_MAX];
    struct smtp_command_parser parser;
    struct smtp_command command;
    size_t consumed = 0;

    strcat(repeated(line, head, unit, count), "\r\n");
    smtp_command_parser_init(&parser, ALL);
    assert_int_equal(smtp_command_parse(&parser, line, strlen(line), &consumed, &command),
                     accepted ? SMTP_PARSE_DONE : SMTP_PARSE_REJECT);
    assert_int_equal(consumed, strlen(line));
}

/* ENVID is measured decoded, ORCPT as it came. */
static void test_lengths_of_parameters(void **state)
{
    check_length("MAIL FROM:<> ENVID=", "e", 100, true);
    check_length("MAIL FROM:<> ENVID=", "e", 101, false);
    check_length("MAIL FROM:<> ENVID=", "+20", 100, true);
    check_length("MAIL FROM:<> ENVID=", "+20", 101, false);
    check_length("RCPT TO:<a@b> ORCPT=rfc822;", "o", 493, true);
    check_length("RCPT TO:<a@b> ORCPT=rfc822;", "o", 494, false);
    check_length("RCPT TO:<a@b> ORCPT=x;", "+20", 166, true);
    check_length("RCPT TO:<a@b> ORCPT=x;", "+20", 167, false);
    check_length("RCPT TO:<a@b> ORCPT=utf-8;", "\xc3\xa9", 247, true);
    check_length("RCPT TO:<a@b> ORCPT=utf-8;", "\xc3\xa9", 248, false);
    check_length("AUTH ", "M", 20, true);
    check_length("AUTH ", "M", 21, false);
}

#define NEEDS_UTF8 "553 5.6.7 non-ASCII address needs SMTPUTF8"

static void test_utf8_addresses(void **state)
{
    static const struct exchange table[] = {
        {"MAIL FROM:<caf\xc3\xa9@b> SMTPUTF8",
         "MAIL path=[caf\xc3\xa9@b] local=[caf\xc3\xa9] domain=[b] utf8 smtputf8"},
        {"MAIL FROM:<caf\xc3\xa9@b>", NEEDS_UTF8},
        {"MAIL FROM:<a@caf\xc3\xa9.example> SIZE=1", NEEDS_UTF8},
        {"MAIL FROM:<@caf\xc3\xa9:a@b>", NEEDS_UTF8},
        {"MAIL FROM:<\xe9@b> SMTPUTF8", "501 5.1.7 sender address has bad syntax"},
        {"RCPT TO:<a@caf\xc3\xa9.example>",
         "RCPT path=[a@caf\xc3\xa9.example] local=[a] domain=[caf\xc3\xa9.example] utf8"},
        {"RCPT TO:<\"\xc3\xa9 \"@b>", "RCPT path=[\"\xc3\xa9 \"@b] local=[\"\xc3\xa9 \"] domain=[b] utf8"},
        {"RCPT TO:<a\xed\xa0\x80@b>", "501 5.1.3 recipient address has bad syntax"},
        {"VRFY caf\xc3\xa9 SMTPUTF8", "VRFY argument=[caf\xc3\xa9] smtputf8"},
        {"VRFY  <x@y>   smtputf8 ", "VRFY argument=[<x@y>] smtputf8"},
        {"VRFY two words", "VRFY argument=[two words]"},
        {"VRFY SMTPUTF8", "VRFY argument=[SMTPUTF8]"},
        {"VRFY xSMTPUTF8", "VRFY argument=[xSMTPUTF8]"},
        {"VRFY caf\xc3\xa9", NEEDS_UTF8},
        {"VRFY caf\xe9", NEEDS_UTF8},
        {"VRFY caf\xe9 SMTPUTF8", "501 5.1.3 recipient address has bad syntax"},
    };

    CHECK_ALL(table);
}

#define BAD_BDAT "501 5.5.4 syntax: BDAT chunk-size [LAST]"
#define BAD_AUTH "501 5.5.4 syntax: AUTH mechanism [initial-response]"

static void test_verbs_of_extensions(void **state)
{
    static const struct exchange table[] = {
        {"STARTTLS", "STARTTLS"},
        {"starttls ", "STARTTLS"},
        {"STARTTLS now", "501 5.5.4 this command takes no argument"},
        {"BDAT 0", "BDAT chunk=0"},
        {"bdat  86   last", "BDAT chunk=86 last"},
        {"BDAT 18446744073709551615 LAST", "BDAT chunk=18446744073709551615 last"},
        {"BDAT 00000000000000000000000000000001", "BDAT chunk=1"},
        {"BDAT 18446744073709551616", "501 5.5.4 chunk-size is beyond every limit"},
        {"BDAT", BAD_BDAT},
        {"BDAT LAST", BAD_BDAT},
        {"BDAT 10\tLAST", BAD_BDAT},
        {"BDAT 1\x01", BAD_BDAT},
        {"BDAT -1", BAD_BDAT},
        {"BDAT 0x10", BAD_BDAT},
        {"BDAT 10LAST", BAD_BDAT},
        {"BDAT 10 FIRST", BAD_BDAT},
        {"BDAT 10 LAST LAST", BAD_BDAT},
        {"AUTH PLAIN", "AUTH mechanism=[PLAIN]"},
        {"auth scram-sha-256-plus =", "AUTH mechanism=[scram-sha-256-plus] initial=[]"},
        {"AUTH PLAIN AGEAYg==", "AUTH mechanism=[PLAIN] initial=[AGEAYg==]"},
        {"AUTH PLAIN ==", "AUTH mechanism=[PLAIN] initial=[==]"},
        {"AUTH", BAD_AUTH},
        {"AUTH PLAIN a b", BAD_AUTH},
        {"AUTH PL\xc3\xa4IN", BAD_AUTH},
        {"AUTH PLAIN,LOGIN", BAD_AUTH},
        {"XCLIENT NAME=x ADDR=192.0.2.1", "XCLIENT argument=[NAME=x ADDR=192.0.2.1]"},
        {"xforward SOURCE=LOCAL", "XFORWARD argument=[SOURCE=LOCAL]"},
        {"XCLIENT", "501 5.5.4 this command needs an argument"},
        {"XFORWARD ", "501 5.5.4 this command needs an argument"},
        {"ETRN x", "502 5.5.1 command not implemented"},
    };

    CHECK_ALL(table);
}

/* Behind a BDAT whose size nobody can read come octets that must not be taken for commands. */
static void test_bdat_without_a_size_ends_the_session(void **state)
{
    static const char input[] = "BDAT 1O LAST\r\nMAIL FROM:<x@y>\r\nQUIT\r\n";

    cuts_expect(transcript_run_commands, input, sizeof(input) - 1, 50, "14 " BAD_BDAT "\r\n");

    struct smtp_command_parser parser;
    struct smtp_command command;
    struct smtp_slice text;
    enum smtp_refusal refusal = SMTP_REFUSAL_NONE;
    size_t consumed = 0;

    smtp_command_parser_init(&parser, ALL);
    assert_int_equal(smtp_command_parse(&parser, input, 14, &consumed, &command), SMTP_PARSE_REJECT);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(smtp_command_parse(&parser, "QUIT\r\n", 6, &consumed, &command), SMTP_PARSE_REJECT);
        assert_int_equal(command.refusal, SMTP_REFUSAL_BDAT_SYNTAX);
        assert_int_equal(consumed, 6);
        assert_int_equal(smtp_command_line(&parser, "QUIT\r\n", 6, &consumed, &text, &refusal),
                         SMTP_PARSE_REJECT);
        assert_int_equal(refusal, SMTP_REFUSAL_BDAT_SYNTAX);
    }
}

/* Each word belongs to one extension, and is unknown with all others in force. */
static void test_what_is_not_in_force_is_unknown(void **state)
{
    static const struct {
        const char *line;
        uint32_t extension;
    } words[] = {
        {"STARTTLS", SMTP_EXT_STARTTLS},
        {"AUTH PLAIN", SMTP_EXT_AUTH},
        {"BDAT 1 LAST", SMTP_EXT_CHUNKING},
        {"BDAT x", SMTP_EXT_CHUNKING},
        {"XCLIENT NAME=x", SMTP_EXT_XCLIENT},
        {"XFORWARD NAME=x", SMTP_EXT_XFORWARD},
        {"MAIL FROM:<a@b> SIZE=1", SMTP_EXT_SIZE},
        {"MAIL FROM:<a@b> SIZE=x", SMTP_EXT_SIZE},
        {"MAIL FROM:<a@b> BODY=7BIT", SMTP_EXT_8BITMIME},
        {"MAIL FROM:<a@b> SMTPUTF8", SMTP_EXT_SMTPUTF8},
        {"MAIL FROM:<a@b> RET=FULL", SMTP_EXT_DSN},
        {"MAIL FROM:<a@b> ENVID=x", SMTP_EXT_DSN},
        {"RCPT TO:<a@b> NOTIFY=NEVER", SMTP_EXT_DSN},
        {"RCPT TO:<a@b> ORCPT=rfc822;x", SMTP_EXT_DSN},
        {"MAIL FROM:<a@b> AUTH=<>", SMTP_EXT_AUTH},
    };

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        bool parameter = strchr(words[i].line, '<') != NULL;

        transcript_extensions = ~words[i].extension;
        check_exchange(&(struct exchange){words[i].line, parameter ? "555 5.5.4 parameter not recognized"
                                                                   : "502 5.5.1 command not implemented"});
    }
    transcript_extensions = ~SMTP_EXT_BINARYMIME;
    check_exchange(&(struct exchange){"MAIL FROM:<a@b> BODY=BINARYMIME",
                                      "501 5.5.4 BODY must be a type that is offered"});
    transcript_extensions = ~SMTP_EXT_SMTPUTF8;
    check_exchange(&(struct exchange){"RCPT TO:<caf\xc3\xa9@b>", NEEDS_UTF8});
    check_exchange(&(struct exchange){"VRFY x SMTPUTF8", "VRFY argument=[x SMTPUTF8]"});
    check_exchange(
        &(struct exchange){"RCPT TO:<a@b> ORCPT=utf-8;\xc3\xa9", "501 5.5.4 parameter has bad syntax"});
    check_exchange(&(struct exchange){"RCPT TO:<a@b> ORCPT=utf-8;\\x{E9}", TO_A_B " orcpt=[utf-8;\\x{E9}]"});
}

/* The owner changes what is in force while a pipelined line waits in the parser. */
static void test_extensions_change_between_lines(void **state)
{
    struct smtp_command_parser parser;
    struct smtp_command command;
    size_t consumed = 0;

    smtp_command_parser_init(&parser, SMTP_EXT_STARTTLS);
    assert_int_equal(smtp_command_parse(&parser, "STARTTLS\r\n", 10, &consumed, &command), SMTP_PARSE_DONE);
    parser.extensions = SMTP_EXT_AUTH;
    assert_int_equal(smtp_command_parse(&parser, "STARTTLS\r\n", 10, &consumed, &command), SMTP_PARSE_REJECT);
    assert_int_equal(command.verb, SMTP_VERB_STARTTLS);
    assert_int_equal(smtp_command_parse(&parser, "AUTH X\r\n", 8, &consumed, &command), SMTP_PARSE_DONE);
    assert_int_equal(command.verb, SMTP_VERB_AUTH);
    assert_false(command.has_initial);
}

static void test_lines_of_an_auth_exchange(void **state)
{
    static const char input[] =
        "AUTH LOGIN\r\n dXNlcg== \t\x01\r\nQUIT\r\nAUTH PLAIN\r\n*\r\nAUTH X\r\n\r\nAUTH Y\r\na\nb";

    cuts_expect(transcript_run_commands, input, sizeof(input) - 1, 200,
                "12 AUTH mechanism=[LOGIN]\n26 line text=[ dXNlcg== \t\x01]\n32 QUIT\n"
                "44 AUTH mechanism=[PLAIN]\n47 line text=[*]\n"
                "55 AUTH mechanism=[X]\n57 line text=[]\n"
                "65 AUTH mechanism=[Y]\n67 521 5.5.2 bare <LF> refused\r\n");
}

static void test_auth_line_too_long(void **state)
{
    char input[SMTP_LINE_MAX + 32];
    char wanted[160];

    for (size_t size = SMTP_LINE_MAX; size <= SMTP_LINE_MAX + 1; size++) {
        struct transcript whole;

        memcpy(input, "AUTH X\r\n", 8);
        memset(input + 8, 'x', size - 2);
        memcpy(input + 8 + size - 2, "\r\nQUIT\r\n", 8);
        transcript_init(&whole);
        cuts_check(transcript_run_commands, input, size + 14, 50, &whole);
        snprintf(wanted, sizeof(wanted), "%zu 500 5.5.6 line too long for an authentication exchange\r\n",
                 size + 8);
        assert_int_equal(strstr(whole.text, wanted) != NULL, size > SMTP_LINE_MAX);
        snprintf(wanted, sizeof(wanted), "%zu QUIT\n", size + 14);
        assert_non_null(strstr(whole.text, wanted));
        transcript_deinit(&whole);
    }
}

static void test_keywords_of_proxies(void **state)
{
    uint64_t limit = 0;

    assert_int_equal(smtp_ehlo_keyword(SMTP_SLICE("XCLIENT NAME ADDR"), &limit), SMTP_EXT_XCLIENT);
    assert_int_equal(smtp_ehlo_keyword(SMTP_SLICE("xforward"), &limit), SMTP_EXT_XFORWARD);
    assert_int_equal(smtp_ehlo_keyword(SMTP_SLICE("XCLIENTS"), &limit), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_mail_parameters, with_all),
        cmocka_unit_test_setup(test_rcpt_parameters, with_all),
        cmocka_unit_test_setup(test_original_recipient_of_type_utf8, with_all),
        cmocka_unit_test(test_lengths_of_parameters),
        cmocka_unit_test_setup(test_utf8_addresses, with_all),
        cmocka_unit_test_setup(test_verbs_of_extensions, with_all),
        cmocka_unit_test_setup(test_bdat_without_a_size_ends_the_session, with_all),
        cmocka_unit_test(test_what_is_not_in_force_is_unknown),
        cmocka_unit_test(test_extensions_change_between_lines),
        cmocka_unit_test_setup(test_lines_of_an_auth_exchange, with_all),
        cmocka_unit_test_setup(test_auth_line_too_long, with_all),
        cmocka_unit_test(test_keywords_of_proxies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
