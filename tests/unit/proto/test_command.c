#include "tests/unit/proto/exchange.h"

#include <stdlib.h>

static void test_verbs_in_any_case(void **state)
{
    static const struct exchange table[] = {
        {"HELO relay.example", "HELO argument=[relay.example]"},
        {"ehlo relay.example", "EHLO argument=[relay.example]"},
        {"EhLo [192.0.2.1]", "EHLO argument=[[192.0.2.1]]"},
        {"EHLO [IPv6:2001:db8::1]", "EHLO argument=[[IPv6:2001:db8::1]]"},
        {"HELO my_pc", "HELO argument=[my_pc]"},
        {"HELO -odd-.name.", "HELO argument=[-odd-.name.]"},
        {"MAIL FROM:<a@b.example>", "MAIL path=[a@b.example] local=[a] domain=[b.example]"},
        {"rcpt to:<a@b.example>", "RCPT path=[a@b.example] local=[a] domain=[b.example]"},
        {"DATA", "DATA"},
        {"data", "DATA"},
        {"Rset", "RSET"},
        {"NOOP", "NOOP"},
        {"NOOP any thing <at> all", "NOOP argument=[any thing <at> all]"},
        {"NOOP caf\xc3\xa9", "NOOP argument=[caf\xc3\xa9]"},
        {"VRFY somebody", "VRFY argument=[somebody]"},
        {"HELP", "HELP"},
        {"HELP mail", "HELP argument=[mail]"},
        {"QUIT", "QUIT"},
        {"qUIt", "QUIT"},
    };

    CHECK_ALL(table);
}

static void test_white_space_behind_the_last_word(void **state)
{
    static const struct exchange table[] = {
        {"QUIT   ", "QUIT"},
        {"DATA \t ", "DATA"},
        {"RSET\t", "RSET"},
        {"EHLO   relay.example  ", "EHLO argument=[relay.example]"},
        {"MAIL   FROM:   <a@b>  ", "MAIL path=[a@b] local=[a] domain=[b]"},
        {"MAIL FROM:<a@b>   SIZE=1   BODY=7BIT ", "MAIL path=[a@b] local=[a] domain=[b] size=1 body=7BIT"},
        {"NOOP ", "NOOP"},
    };

    CHECK_ALL(table);
}

static void test_unknown_and_unsupported_verbs(void **state)
{
    static const struct exchange table[] = {
        {"", "500 5.5.2 command not recognized"},
        {"   ", "500 5.5.2 command not recognized"},
        {" QUIT", "500 5.5.2 command not recognized"},
        {"QUI", "500 5.5.2 command not recognized"},
        {"QUITS", "500 5.5.2 command not recognized"},
        {"GET / HTTP/1.1", "500 5.5.2 command not recognized"},
        {"\xd1\xd5\xc9\xd4", "500 5.5.2 command not recognized"},
        {"M@IL FROM:<a@b>", "500 5.5.2 command not recognized"},
        {"MAILFROM:<a@b>", "500 5.5.2 command not recognized"},
        {"STARTTLS", "502 5.5.1 command not implemented"},
        {"starttls now", "502 5.5.1 command not implemented"},
        {"AUTH PLAIN AGEAYg==", "502 5.5.1 command not implemented"},
        {"BDAT 10 LAST", "502 5.5.1 command not implemented"},
        {"ETRN example.com", "502 5.5.1 command not implemented"},
        {"EXPN list", "502 5.5.1 command not implemented"},
        {"TURN", "502 5.5.1 command not implemented"},
        {"ATRN", "502 5.5.1 command not implemented"},
        {"SEND FROM:<a@b>", "502 5.5.1 command not implemented"},
        {"SOML FROM:<a@b>", "502 5.5.1 command not implemented"},
        {"SAML FROM:<a@b>", "502 5.5.1 command not implemented"},
        {"XCLIENT NAME=x", "502 5.5.1 command not implemented"},
        {"XFORWARD NAME=x", "502 5.5.1 command not implemented"},
    };

    CHECK_ALL(table);
}

static void test_arguments_missing_or_in_excess(void **state)
{
    static const struct exchange table[] = {
        {"HELO", "501 5.5.4 syntax: EHLO or HELO, then your host name"},
        {"EHLO ", "501 5.5.4 syntax: EHLO or HELO, then your host name"},
        {"EHLO two names", "501 5.5.4 syntax: EHLO or HELO, then your host name"},
        {"EHLO a(b)", "501 5.5.4 syntax: EHLO or HELO, then your host name"},
        {"EHLO a;b", "501 5.5.4 syntax: EHLO or HELO, then your host name"},
        {"EHLO caf\xc3\xa9.example", "501 5.5.4 syntax: EHLO or HELO, then your host name"},
        {"DATA now", "501 5.5.4 this command takes no argument"},
        {"RSET all", "501 5.5.4 this command takes no argument"},
        {"QUIT bye", "501 5.5.4 this command takes no argument"},
        {"VRFY", "501 5.5.4 this command needs an argument"},
        {"VRFY  ", "501 5.5.4 this command needs an argument"},
        {"MAIL", "501 5.5.4 syntax: MAIL FROM:<address> [parameters]"},
        {"MAIL TO:<a@b>", "501 5.5.4 syntax: MAIL FROM:<address> [parameters]"},
        {"MAIL FROM", "501 5.5.4 syntax: MAIL FROM:<address> [parameters]"},
        {"MAIL FROM :<a@b>", "501 5.5.4 syntax: MAIL FROM:<address> [parameters]"},
        {"MAIL FROM:", "501 5.5.4 syntax: MAIL FROM:<address> [parameters]"},
        {"MAIL FROM:a@b", "501 5.5.4 syntax: MAIL FROM:<address> [parameters]"},
        {"MAIL FROM:<a@b>SIZE=1", "501 5.5.4 syntax: MAIL FROM:<address> [parameters]"},
        {"MAIL FROM:<a@b>>", "501 5.5.4 syntax: MAIL FROM:<address> [parameters]"},
        {"RCPT", "501 5.5.4 syntax: RCPT TO:<address>"},
        {"RCPT FROM:<a@b>", "501 5.5.4 syntax: RCPT TO:<address>"},
        {"RCPT TO:a@b", "501 5.5.4 syntax: RCPT TO:<address>"},
        {"RCPT TO:<a@b>x", "501 5.5.4 syntax: RCPT TO:<address>"},
    };

    CHECK_ALL(table);
}

static void test_addresses(void **state)
{
    static const struct exchange table[] = {
        {"MAIL FROM:<>", "MAIL path=[] local=[] domain=[]"},
        {"MAIL FROM: <> BODY=8bitmime", "MAIL path=[] local=[] domain=[] body=8BITMIME"},
        {"RCPT TO:<postmaster>", "RCPT path=[postmaster] local=[postmaster] domain=[]"},
        {"RCPT TO:<PostMaster>", "RCPT path=[PostMaster] local=[PostMaster] domain=[]"},
        {"RCPT TO:<@r1.example,@r2.example:u@d.example>",
         "RCPT path=[u@d.example] local=[u] domain=[d.example]"},
        {"RCPT TO:<\"a b@c\"@d.example>",
         "RCPT path=[\"a b@c\"@d.example] local=[\"a b@c\"] domain=[d.example]"},
        {"RCPT TO:<>", "501 5.1.3 recipient address has bad syntax"},
        {"RCPT TO:<somebody>", "501 5.1.3 recipient address has bad syntax"},
        {"MAIL FROM:<postmaster>", "501 5.1.7 sender address has bad syntax"},
        {"MAIL FROM:<a@b", "501 5.1.7 sender address has bad syntax"},
        {"MAIL FROM:<a b@c>", "501 5.1.7 sender address has bad syntax"},
        {"RCPT TO:<a@b@c>", "501 5.1.3 recipient address has bad syntax"},
        {"MAIL FROM:<aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@b>",
         "501 5.1.7 sender address is too long"},
        {"RCPT TO:<aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@b>",
         "501 5.1.3 recipient address is too long"},
        {"MAIL FROM:<caf\xc3\xa9@b>", "553 5.6.7 non-ASCII address needs SMTPUTF8"},
        {"RCPT TO:<a@caf\xc3\xa9.example>", "553 5.6.7 non-ASCII address needs SMTPUTF8"},
    };

    CHECK_ALL(table);
}

static void test_parameters(void **state)
{
#define A_AT_B "MAIL path=[a@b] local=[a] domain=[b]"
    static const struct exchange table[] = {
        {"MAIL FROM:<a@b> SIZE=0", A_AT_B " size=0"},
        {"MAIL FROM:<a@b> size=1000", A_AT_B " size=1000"},
        {"MAIL FROM:<a@b> SIZE=00000000000000000007", A_AT_B " size=7"},
        {"MAIL FROM:<a@b> SIZE=18446744073709551615", A_AT_B " size=18446744073709551615"},
        {"MAIL FROM:<a@b> BODY=7bit SIZE=12", A_AT_B " size=12 body=7BIT"},
        {"MAIL FROM:<a@b> SIZE=18446744073709551616", "552 5.3.4 SIZE is beyond every limit"},
        {"MAIL FROM:<a@b> SIZE=99999999999999999999", "552 5.3.4 SIZE is beyond every limit"},
        {"MAIL FROM:<a@b> SIZE=000000000000000000001", "501 5.5.4 SIZE needs a number of at most 20 digits"},
        {"MAIL FROM:<a@b> SIZE", "501 5.5.4 SIZE needs a number of at most 20 digits"},
        {"MAIL FROM:<a@b> SIZE=-1", "501 5.5.4 SIZE needs a number of at most 20 digits"},
        {"MAIL FROM:<a@b> SIZE=1k", "501 5.5.4 SIZE needs a number of at most 20 digits"},
        {"MAIL FROM:<a@b> SIZE=1 SIZE=1", "501 5.5.4 parameter given twice"},
        {"MAIL FROM:<a@b> BODY=7BIT BODY=8BITMIME", "501 5.5.4 parameter given twice"},
        {"MAIL FROM:<a@b> BODY=BINARYMIME", "501 5.5.4 BODY must be a type that is offered"},
        {"MAIL FROM:<a@b> BODY", "501 5.5.4 BODY must be a type that is offered"},
        {"MAIL FROM:<a@b> SIZE=", "501 5.5.4 parameter has bad syntax"},
        {"MAIL FROM:<a@b> =1", "501 5.5.4 parameter has bad syntax"},
        {"MAIL FROM:<a@b> -X=1", "501 5.5.4 parameter has bad syntax"},
        {"MAIL FROM:<a@b> A_B=1", "501 5.5.4 parameter has bad syntax"},
        {"MAIL FROM:<a@b> <x>", "501 5.5.4 parameter has bad syntax"},
        {"MAIL FROM:<a@b> X=1=2", "501 5.5.4 parameter has bad syntax"},
        {"MAIL FROM:<a@b> X=caf\xc3\xa9", "501 5.5.4 parameter has bad syntax"},
        {"MAIL FROM:<a@b> SMTPUTF8", "555 5.5.4 parameter not recognized"},
        {"MAIL FROM:<a@b> SIZE=1 AUTH=<>", "555 5.5.4 parameter not recognized"},
        {"MAIL FROM:<a@b> X-Y9=1", "555 5.5.4 parameter not recognized"},
        {"RCPT TO:<a@b> SIZE=1", "555 5.5.4 parameter not recognized"},
        {"RCPT TO:<a@b> NOTIFY=NEVER", "555 5.5.4 parameter not recognized"},
        {"RCPT TO:<a@b> !", "501 5.5.4 parameter has bad syntax"},
    };

    CHECK_ALL(table);
}

static void test_control_characters(void **state)
{
    static const struct exchange table[] = {
        {"NOOP \x01", "500 5.5.2 control character in command"},
        {"NOOP a\tb", "500 5.5.2 control character in command"},
        {"MAIL FROM:<\x7f@b>", "500 5.5.2 control character in command"},
        {"MAIL FROM:<\"a\tb\"@c>", "500 5.5.2 control character in command"},
        {"EHLO \x1b[31m", "500 5.5.2 control character in command"},
        {"\x16\x03\x01", "500 5.5.2 control character in command"},
    };

    CHECK_ALL(table);
    cuts_expect(
        transcript_run_commands, "NOOP \0\r\nQUIT\0\r\nQUIT\r\n", 21, 0,
        "8 500 5.5.2 control character in command\r\n15 500 5.5.2 control character in command\r\n21 QUIT\n");
}

struct broken {
    const char *input;
    const char *wanted;
};

/* After a bare CR or LF nothing that follows is a command any more, whoever thinks that a line ended there.
 */
static void test_bare_cr_and_lf_end_the_session(void **state)
{
    static const struct broken table[] = {
        {"QUIT\n", "5 521 5.5.2 bare <LF> refused\r\n"},
        {"\n", "1 521 5.5.2 bare <LF> refused\r\n"},
        {"NOOP\nQUIT\r\n", "5 521 5.5.2 bare <LF> refused\r\n"},
        {"NOOP\rQUIT\r\n", "5 521 5.5.2 bare <CR> refused\r\n"},
        {"NOOP\r\r\nQUIT\r\n", "5 521 5.5.2 bare <CR> refused\r\n"},
        {"\rQUIT\r\n", "1 521 5.5.2 bare <CR> refused\r\n"},
        {"NOOP\r\n\nQUIT\r\n", "6 NOOP\n7 521 5.5.2 bare <LF> refused\r\n"},
        {"NOOP\r\n\r\rQUIT\r\n", "6 NOOP\n7 521 5.5.2 bare <CR> refused\r\n"},
        {"NOOP\n\rQUIT\r\n", "5 521 5.5.2 bare <LF> refused\r\n"},
        {"NOOP\r\nQUIT\r", "6 NOOP\n"},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        cuts_expect(transcript_run_commands, table[i].input, strlen(table[i].input), 0, table[i].wanted);
}

static void test_fatal_refusal_is_repeated(void **state)
{
    struct smtp_command_parser parser;
    struct smtp_command command;
    size_t consumed = 0;

    smtp_command_parser_init(&parser, 0);
    assert_int_equal(smtp_command_parse(&parser, "\nQUIT\r\n", 7, &consumed, &command), SMTP_PARSE_REJECT);
    assert_int_equal(consumed, 1);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(smtp_command_parse(&parser, "QUIT\r\n", 6, &consumed, &command), SMTP_PARSE_REJECT);
        assert_int_equal(command.refusal, SMTP_REFUSAL_BARE_LF);
        assert_int_equal(consumed, 6);
    }
}

/* One line of `size` octets with its CRLF, then QUIT. */
static void check_line_of(size_t size, bool accepted)
{
    char *input = malloc(size + 6);
    struct transcript wanted;

    assert_non_null(input);
    memset(input, 'x', size);
    memcpy(input, "VRFY ", 5);
    memcpy(input + size - 2, "\r\nQUIT\r\n", 8);
    transcript_init(&wanted);
    transcript_add(&wanted, accepted ? "%zu VRFY argument=[" : "%zu 500 5.5.2 line too long\r\n", size);
    if (accepted) {
        transcript_add_octets(&wanted, input + 5, size - 7);
        transcript_add(&wanted, "]\n");
    }
    transcript_add(&wanted, "%zu QUIT\n", size + 6);
    cuts_expect(transcript_run_commands, input, size + 6, 200, wanted.text);
    transcript_deinit(&wanted);
    free(input);
}

static void test_line_length(void **state)
{
    check_line_of(SMTP_LINE_MAX, true);
    check_line_of(SMTP_LINE_MAX + 1, false);
    check_line_of(SMTP_LINE_MAX + 2, false);
    check_line_of(3 * SMTP_LINE_MAX, false);
}

/* A line that is thrown away is still looked at: nothing may hide in it. */
static void test_bare_lf_in_a_line_too_long(void **state)
{
    char input[3 * SMTP_LINE_MAX];
    char wanted[128];

    memset(input, 'x', sizeof(input));
    memcpy(input + sizeof(input) - 12, "\nQUIT\r\n", 7);
    snprintf(wanted, sizeof(wanted), "%zu 521 5.5.2 bare <LF> refused\r\n", sizeof(input) - 11);
    cuts_expect(transcript_run_commands, input, sizeof(input), 100, wanted);
    memcpy(input + sizeof(input) - 12, "\rQUIT\r\n", 7);
    snprintf(wanted, sizeof(wanted), "%zu 521 5.5.2 bare <CR> refused\r\n", sizeof(input) - 11);
    cuts_expect(transcript_run_commands, input, sizeof(input), 100, wanted);
}

static void test_lenient_lines(void **state)
{
    static const char input[] = "NOOP a\nNOOP b\r\n\nQUIT\n";

    transcript_lenient = true;
    cuts_expect(
        transcript_run_commands, input, sizeof(input) - 1, 20,
        "7 NOOP argument=[a]\n15 NOOP argument=[b]\n16 500 5.5.2 command not recognized\r\n21 QUIT\n");
    cuts_expect(transcript_run_commands, "NOOP\n\rQUIT\n", 11, 0,
                "5 NOOP\n6 521 5.5.2 bare <CR> refused\r\n");
    cuts_expect(transcript_run_commands, "NOOP\r\r\n", 7, 0, "5 521 5.5.2 bare <CR> refused\r\n");
    transcript_lenient = false;
}

/* The end of a line may be shorter, its text may not be longer. */
static void test_lenient_line_length(void **state)
{
    char input[SMTP_LINE_MAX + 16];
    char wanted[64];

    transcript_lenient = true;
    for (size_t text = SMTP_LINE_MAX - 3; text <= SMTP_LINE_MAX; text++) {
        struct transcript whole;

        memset(input, 'x', text);
        memcpy(input + text, "\nQUIT\n", 6);
        transcript_init(&whole);
        cuts_check(transcript_run_commands, input, text + 6, 20, &whole);
        snprintf(wanted, sizeof(wanted), "%zu 500 5.5.2 %s\r\n%zu QUIT\n", text + 1,
                 text <= SMTP_LINE_MAX - 2 ? "command not recognized" : "line too long", text + 6);
        assert_string_equal(whole.text, wanted);
        transcript_deinit(&whole);
    }
    transcript_lenient = false;
}

/* The verb of a refused command is told, so that a log can say what was tried. */
static void test_refused_command_keeps_its_verb(void **state)
{
    struct smtp_command_parser parser;
    struct smtp_command command;
    size_t consumed = 0;

    smtp_command_parser_init(&parser, 0);
    assert_int_equal(smtp_command_parse(&parser, "RCPT TO:<a@>\r\n", 14, &consumed, &command),
                     SMTP_PARSE_REJECT);
    assert_int_equal(command.verb, SMTP_VERB_RCPT);
    assert_int_equal(command.path.text.size, 0);
    assert_int_equal(smtp_command_parse(&parser, "AUTH\r\n", 6, &consumed, &command), SMTP_PARSE_REJECT);
    assert_int_equal(command.verb, SMTP_VERB_AUTH);
    assert_int_equal(command.refusal, SMTP_REFUSAL_UNSUPPORTED_COMMAND);
    assert_int_equal(smtp_command_parse(&parser, "ETRN\r\n", 6, &consumed, &command), SMTP_PARSE_REJECT);
    assert_int_equal(command.verb, SMTP_VERB_UNSUPPORTED);
}

/* What is sent on is what came in: the slices of a line in one piece point into that piece. */
static void test_whole_line_is_not_copied(void **state)
{
    static const char input[] = "RCPT TO:<@a.example:u@d.example>\r\n";
    struct smtp_command_parser parser;
    struct smtp_command command;
    size_t consumed = 0;

    smtp_command_parser_init(&parser, 0);
    assert_int_equal(smtp_command_parse(&parser, input, sizeof(input) - 1, &consumed, &command),
                     SMTP_PARSE_DONE);
    assert_ptr_equal(command.path.text.data, input + 20);
    assert_ptr_equal(command.path.domain.data, input + 22);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verbs_in_any_case),
        cmocka_unit_test(test_white_space_behind_the_last_word),
        cmocka_unit_test(test_unknown_and_unsupported_verbs),
        cmocka_unit_test(test_arguments_missing_or_in_excess),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_control_characters),
        cmocka_unit_test(test_bare_cr_and_lf_end_the_session),
        cmocka_unit_test(test_fatal_refusal_is_repeated),
        cmocka_unit_test(test_line_length),
        cmocka_unit_test(test_bare_lf_in_a_line_too_long),
        cmocka_unit_test(test_lenient_lines),
        cmocka_unit_test(test_lenient_line_length),
        cmocka_unit_test(test_refused_command_keeps_its_verb),
        cmocka_unit_test(test_whole_line_is_not_copied),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
