#include "tests/unit/proto/test.h"

#include "proto/refusal.h"

#include <stdio.h>
#include <string.h>

/* The replies are part of what users and their tools rely on: a changed one must be changed here, too. */
static const char *const wanted[SMTP_REFUSAL_COUNT] = {
    [SMTP_REFUSAL_UNKNOWN_COMMAND] = "500 5.5.2 command not recognized\r\n",
    [SMTP_REFUSAL_CONTROL_CHARACTER] = "500 5.5.2 control character in command\r\n",
    [SMTP_REFUSAL_LINE_TOO_LONG] = "500 5.5.2 line too long\r\n",
    [SMTP_REFUSAL_UNSUPPORTED_COMMAND] = "502 5.5.1 command not implemented\r\n",
    [SMTP_REFUSAL_BARE_LF] = "521 5.5.2 bare <LF> refused\r\n",
    [SMTP_REFUSAL_BARE_CR] = "521 5.5.2 bare <CR> refused\r\n",
    [SMTP_REFUSAL_HELLO_SYNTAX] = "501 5.5.4 syntax: EHLO or HELO, then your host name\r\n",
    [SMTP_REFUSAL_NO_ARGUMENT_ALLOWED] = "501 5.5.4 this command takes no argument\r\n",
    [SMTP_REFUSAL_ARGUMENT_MISSING] = "501 5.5.4 this command needs an argument\r\n",
    [SMTP_REFUSAL_MAIL_SYNTAX] = "501 5.5.4 syntax: MAIL FROM:<address> [parameters]\r\n",
    [SMTP_REFUSAL_RCPT_SYNTAX] = "501 5.5.4 syntax: RCPT TO:<address>\r\n",
    [SMTP_REFUSAL_SENDER_SYNTAX] = "501 5.1.7 sender address has bad syntax\r\n",
    [SMTP_REFUSAL_RECIPIENT_SYNTAX] = "501 5.1.3 recipient address has bad syntax\r\n",
    [SMTP_REFUSAL_SENDER_TOO_LONG] = "501 5.1.7 sender address is too long\r\n",
    [SMTP_REFUSAL_RECIPIENT_TOO_LONG] = "501 5.1.3 recipient address is too long\r\n",
    [SMTP_REFUSAL_NON_ASCII_ADDRESS] = "553 5.6.7 non-ASCII address needs SMTPUTF8\r\n",
    [SMTP_REFUSAL_PARAMETER_SYNTAX] = "501 5.5.4 parameter has bad syntax\r\n",
    [SMTP_REFUSAL_PARAMETER_REPEATED] = "501 5.5.4 parameter given twice\r\n",
    [SMTP_REFUSAL_PARAMETER_UNKNOWN] = "555 5.5.4 parameter not recognized\r\n",
    [SMTP_REFUSAL_SIZE_SYNTAX] = "501 5.5.4 SIZE needs a number of at most 20 digits\r\n",
    [SMTP_REFUSAL_SIZE_TOO_BIG] = "552 5.3.4 SIZE is beyond every limit\r\n",
    [SMTP_REFUSAL_BODY_SYNTAX] = "501 5.5.4 BODY must be a type that is offered\r\n",
    [SMTP_REFUSAL_SMTPUTF8_SYNTAX] = "501 5.5.4 SMTPUTF8 takes no value\r\n",
    [SMTP_REFUSAL_RET_SYNTAX] = "501 5.5.4 RET must be FULL or HDRS\r\n",
    [SMTP_REFUSAL_ENVID_SYNTAX] = "501 5.5.4 ENVID needs xtext of at most 100 printable characters\r\n",
    [SMTP_REFUSAL_NOTIFY_SYNTAX] =
        "501 5.5.4 NOTIFY must be NEVER, or a list of SUCCESS, FAILURE and DELAY\r\n",
    [SMTP_REFUSAL_ORCPT_SYNTAX] = "501 5.5.4 ORCPT needs a type, a semicolon and an encoded address\r\n",
    [SMTP_REFUSAL_AUTH_PARAMETER_SYNTAX] = "501 5.5.4 AUTH= needs an address in xtext\r\n",
    [SMTP_REFUSAL_AUTH_SYNTAX] = "501 5.5.4 syntax: AUTH mechanism [initial-response]\r\n",
    [SMTP_REFUSAL_AUTH_LINE_TOO_LONG] = "500 5.5.6 line too long for an authentication exchange\r\n",
    [SMTP_REFUSAL_BDAT_SYNTAX] = "501 5.5.4 syntax: BDAT chunk-size [LAST]\r\n",
    [SMTP_REFUSAL_BDAT_TOO_BIG] = "501 5.5.4 chunk-size is beyond every limit\r\n",
};

static void test_every_reply_is_as_promised(void **state)
{
    for (int i = SMTP_REFUSAL_NONE + 1; i < SMTP_REFUSAL_COUNT; i++) {
        const struct smtp_refusal_reply *reply = smtp_refusal_reply((enum smtp_refusal)i);

        assert_non_null(wanted[i]);
        assert_string_equal(reply->line.data, wanted[i]);
        assert_int_equal(reply->line.size, strlen(wanted[i]));
    }
}

static void test_every_reply_is_well_formed(void **state)
{
    for (int i = SMTP_REFUSAL_NONE + 1; i < SMTP_REFUSAL_COUNT; i++) {
        const struct smtp_refusal_reply *reply = smtp_refusal_reply((enum smtp_refusal)i);
        unsigned code, class, subject, detail;

        assert_int_equal(sscanf(reply->line.data, "%3u %1u.%1u.%1u ", &code, &class, &subject, &detail), 4);
        assert_int_equal(code, reply->code);
        assert_int_equal(class, 5);
        assert_int_equal(code / 100, class);
        assert_true(reply->line.size <= 512);
        assert_int_equal(reply->name.size, strlen(reply->name.data));
        assert_int_equal(reply->fatal, i == SMTP_REFUSAL_BARE_LF || i == SMTP_REFUSAL_BARE_CR ||
                                           i == SMTP_REFUSAL_BDAT_SYNTAX || i == SMTP_REFUSAL_BDAT_TOO_BIG);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_reply_is_as_promised),
        cmocka_unit_test(test_every_reply_is_well_formed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
