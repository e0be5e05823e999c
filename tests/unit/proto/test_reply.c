#include "tests/unit/proto/test.h"

#include "tests/unit/proto/cuts.h"

#include "proto/reply.h"

#include <stdio.h>
#include <stdlib.h>

struct answer {
    const char *input;
    const char *wanted;
};

#define CHECK_ALL(table)                                                                                     \
    for (size_t i = 0; i < sizeof(table) / sizeof((table)[0]); i++)                                          \
    cuts_expect(transcript_run_replies, (table)[i].input, strlen((table)[i].input), 20, (table)[i].wanted)

static void test_single_lines(void **state)
{
    static const struct answer table[] = {
        {"220 mx.example ESMTP\r\n",
         "22 220 0.0.0 text=[mx.example ESMTP] line=[220 mx.example ESMTP] extension=0 limit=0\n"},
        {"250\r\n", "5 250 0.0.0 text=[] line=[250] extension=0 limit=0\n"},
        {"250 \r\n", "6 250 0.0.0 text=[] line=[250 ] extension=0 limit=0\n"},
        {"354 go on\r\n", "11 354 0.0.0 text=[go on] line=[354 go on] extension=0 limit=0\n"},
        {"200 a\r\n", "7 200 0.0.0 text=[a] line=[200 a] extension=0 limit=0\n"},
        {"559 a\r\n", "7 559 0.0.0 text=[a] line=[559 a] extension=0 limit=0\n"},
        {"571 a\r\n", "7 571 0.0.0 text=[a] line=[571 a] extension=0 limit=0\n"},
        {"250 \xc3\xa9\t\x01\r\n",
         "10 250 0.0.0 text=[\xc3\xa9\t\x01] line=[250 \xc3\xa9\t\x01] extension=0 limit=0\n"},
        {"250 a\r\n550 b\r\n", "7 250 0.0.0 text=[a] line=[250 a] extension=0 limit=0\n"
                               "14 550 0.0.0 text=[b] line=[550 b] extension=0 limit=0\n"},
    };

    CHECK_ALL(table);
}

static void test_enhanced_status(void **state)
{
    static const struct answer table[] = {
        {"250 2.0.0 Ok\r\n", "14 250 2.0.0 text=[2.0.0 Ok] line=[250 2.0.0 Ok] extension=0 limit=0\n"},
        {"250 2.1.5\r\n", "11 250 2.1.5 text=[2.1.5] line=[250 2.1.5] extension=0 limit=0\n"},
        {"451 4.7.650 x\r\n", "15 451 4.7.650 text=[4.7.650 x] line=[451 4.7.650 x] extension=0 limit=0\n"},
        {"550 5.999.1 x\r\n", "15 550 5.999.1 text=[5.999.1 x] line=[550 5.999.1 x] extension=0 limit=0\n"},
        {"550 4.1.1 x\r\n", "13 550 0.0.0 text=[4.1.1 x] line=[550 4.1.1 x] extension=0 limit=0\n"},
        {"354 3.0.0 x\r\n", "13 354 0.0.0 text=[3.0.0 x] line=[354 3.0.0 x] extension=0 limit=0\n"},
        {"550 5.1 x\r\n", "11 550 0.0.0 text=[5.1 x] line=[550 5.1 x] extension=0 limit=0\n"},
        {"550 5.1.\r\n", "10 550 0.0.0 text=[5.1.] line=[550 5.1.] extension=0 limit=0\n"},
        {"550 5..1\r\n", "10 550 0.0.0 text=[5..1] line=[550 5..1] extension=0 limit=0\n"},
        {"550 5.1.1x\r\n", "12 550 0.0.0 text=[5.1.1x] line=[550 5.1.1x] extension=0 limit=0\n"},
        {"550 5.1.1234\r\n", "14 550 0.0.0 text=[5.1.1234] line=[550 5.1.1234] extension=0 limit=0\n"},
        {"550 5.1111.1\r\n", "14 550 0.0.0 text=[5.1111.1] line=[550 5.1111.1] extension=0 limit=0\n"},
        {"550 5.1\r\n", "9 550 0.0.0 text=[5.1] line=[550 5.1] extension=0 limit=0\n"},
        {"550 5.111\r\n", "11 550 0.0.0 text=[5.111] line=[550 5.111] extension=0 limit=0\n"},
    };

    CHECK_ALL(table);
}

static void test_many_lines(void **state)
{
    static const char input[] =
        "250-mx.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-\r\n250 8BITMIME\r\n250 ok\r\n";
    static const char wanted[] =
        "16 250- 0.0.0 text=[mx.example] line=[250-mx.example] extension=0 limit=0\n"
        "32 250- 0.0.0 text=[PIPELINING] line=[250-PIPELINING] extension=1 limit=0\n"
        "47 250- 0.0.0 text=[SIZE 1000] line=[250-SIZE 1000] extension=2 limit=1000\n"
        "53 250- 0.0.0 text=[] line=[250-] extension=0 limit=0\n"
        "67 250 0.0.0 text=[8BITMIME] line=[250 8BITMIME] extension=4 limit=0\n"
        "75 250 0.0.0 text=[ok] line=[250 ok] extension=0 limit=0\n";

    cuts_expect(transcript_run_replies, input, sizeof(input) - 1, 200, wanted);
}

static void test_faults(void **state)
{
    static const struct answer table[] = {
        {"\r\n", "2 reply without a valid code\n"},
        {"25\r\n", "4 reply without a valid code\n"},
        {"hello\r\n", "7 reply without a valid code\n"},
        {"199 x\r\n", "7 reply without a valid code\n"},
        {"100 x\r\n", "7 reply without a valid code\n"},
        {"600 x\r\n", "7 reply without a valid code\n"},
        {"160 x\r\n", "7 reply without a valid code\n"},
        {"2a0 x\r\n", "7 reply without a valid code\n"},
        {"25: x\r\n", "7 reply without a valid code\n"},
        {"2500 x\r\n", "8 reply without a valid code\n"},
        {"250_x\r\n", "7 reply without a valid code\n"},
        {"250\tx\r\n", "7 reply without a valid code\n"},
        {" 250 x\r\n", "8 reply without a valid code\n"},
        {"250 x\n", "6 bare LF in reply\n"},
        {"250 x\ry\r\n", "6 bare CR in reply\n"},
        {"250 x\r\r\n", "6 bare CR in reply\n"},
        {"250-x\r\n251 y\r\n", "7 250- 0.0.0 text=[x] line=[250-x] extension=0 limit=0\n14 lines of one "
                               "reply differ in their code\n"},
        {"250-x\r\n\r\n",
         "7 250- 0.0.0 text=[x] line=[250-x] extension=0 limit=0\n9 reply without a valid code\n"},
    };

    CHECK_ALL(table);
}

static void test_fault_is_repeated(void **state)
{
    struct smtp_reply_parser parser;
    struct smtp_reply_line line;
    size_t consumed = 0;

    smtp_reply_parser_init(&parser);
    assert_int_equal(smtp_reply_parse(&parser, "x\r\n250 ok\r\n", 11, &consumed, &line), SMTP_PARSE_REJECT);
    assert_int_equal(consumed, 3);
    assert_int_equal(smtp_reply_parse(&parser, "250 ok\r\n", 8, &consumed, &line), SMTP_PARSE_REJECT);
    assert_int_equal(consumed, 8);
    assert_int_equal(parser.fault, SMTP_REPLY_FAULT_CODE);
}

/* The most lines that are allowed, twice, so that the count is seen to begin anew; then one line more. */
static void test_line_count(void **state)
{
    struct smtp_reply_parser parser;
    struct smtp_reply_line line;
    size_t consumed = 0;

    smtp_reply_parser_init(&parser);
    for (int i = 0; i < 2 * SMTP_REPLY_LINES_MAX; i++) {
        bool last = i % SMTP_REPLY_LINES_MAX == SMTP_REPLY_LINES_MAX - 1;

        assert_int_equal(smtp_reply_parse(&parser, last ? "250 x\r\n" : "250-x\r\n", 7, &consumed, &line),
                         SMTP_PARSE_DONE);
        assert_int_equal(line.last, last);
    }
    for (int i = 0; i < SMTP_REPLY_LINES_MAX; i++)
        assert_int_equal(smtp_reply_parse(&parser, "250-x\r\n", 7, &consumed, &line), SMTP_PARSE_DONE);
    assert_int_equal(smtp_reply_parse(&parser, "250 x\r\n", 7, &consumed, &line), SMTP_PARSE_REJECT);
    assert_int_equal(parser.fault, SMTP_REPLY_FAULT_TOO_MANY);
}

static void test_line_length(void **state)
{
    char input[SMTP_REPLY_LINE_MAX + 1];
    struct transcript whole;

    memset(input, 'x', sizeof(input));
    memcpy(input, "250 ", 4);
    memcpy(input + sizeof(input) - 2, "\r\n", 2);
    cuts_expect(transcript_run_replies, input, sizeof(input), 100, "1025 reply line too long\n");
    memcpy(input + sizeof(input) - 3, "\r\n", 2);
    transcript_init(&whole);
    cuts_check(transcript_run_replies, input, sizeof(input) - 1, 100, &whole);
    assert_int_equal(strncmp(whole.text, "1024 250 0.0.0 text=[xxx", 24), 0);
    transcript_deinit(&whole);
}

struct keyword {
    const char *text;
    uint32_t extension;
    uint64_t limit; /* 7: left alone */
};

static void test_extensions(void **state)
{
    static const struct keyword table[] = {
        {"PIPELINING", SMTP_EXT_PIPELINING, 7},
        {"pipelining", SMTP_EXT_PIPELINING, 7},
        {"8BITMIME", SMTP_EXT_8BITMIME, 7},
        {"ENHANCEDSTATUSCODES", SMTP_EXT_ENHANCEDSTATUSCODES, 7},
        {"CHUNKING", SMTP_EXT_CHUNKING, 7},
        {"BINARYMIME", SMTP_EXT_BINARYMIME, 7},
        {"STARTTLS", SMTP_EXT_STARTTLS, 7},
        {"SMTPUTF8", SMTP_EXT_SMTPUTF8, 7},
        {"DSN", SMTP_EXT_DSN, 7},
        {"AUTH PLAIN LOGIN", SMTP_EXT_AUTH, 7},
        {"AUTH=PLAIN", SMTP_EXT_AUTH, 7},
        {"SIZE", SMTP_EXT_SIZE, 0},
        {"SIZE ", SMTP_EXT_SIZE, 0},
        {"SIZE 0", SMTP_EXT_SIZE, 0},
        {"size 52428800", SMTP_EXT_SIZE, 52428800},
        {"SIZE=1000", SMTP_EXT_SIZE, 1000},
        {"SIZE 1000 bytes", SMTP_EXT_SIZE, 1000},
        {"SIZE 1000k", SMTP_EXT_SIZE, 0},
        {"SIZE 18446744073709551615", SMTP_EXT_SIZE, UINT64_MAX},
        {"SIZE 18446744073709551616", SMTP_EXT_SIZE, 0},
        {"", 0, 7},
        {" PIPELINING", 0, 7},
        {"PIPELININGS", 0, 7},
        {"PIPELINE", 0, 7},
        {"VRFY", 0, 7},
        {"XSIZE 10", 0, 7},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct smtp_slice text = {table[i].text, (uint32_t)strlen(table[i].text)};
        uint64_t limit = 7;

        assert_int_equal(smtp_ehlo_keyword(text, &limit), table[i].extension);
        assert_int_equal(limit, table[i].limit);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_single_lines),      cmocka_unit_test(test_enhanced_status),
        cmocka_unit_test(test_many_lines),        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_fault_is_repeated), cmocka_unit_test(test_line_count),
        cmocka_unit_test(test_line_length),       cmocka_unit_test(test_extensions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
