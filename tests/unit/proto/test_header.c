#include "tests/unit/proto/test.h"

#include "tests/unit/proto/cuts.h"
#include "tests/unit/proto/naive.h"

#include "proto/header.h"

struct mail {
    const char *content;
    const char *wanted;
};

static void test_fields(void **state)
{
    static const struct mail mails[] = {
        {"", "received=0 delivered_to=0 end=0\n"},
        {"\r\n", "empty line at 0\nreceived=0 delivered_to=0 end=1\n"},
        {"\r", "empty line at 0\nreceived=0 delivered_to=0 end=1\n"},
        {"Received: a\r\n\r\n", "empty line at 13\nreceived=1 delivered_to=0 end=1\n"},
        {"Received: a\r\n\r", "empty line at 13\nreceived=1 delivered_to=0 end=1\n"},
        {"Received: a\r\nReceived: b\r\n\r\nReceived: body\r\n",
         "empty line at 26\nreceived=2 delivered_to=0 end=1\n"},
        {"RECEIVED:a\r\nreceived:\r\nReCeIvEd :x\r\nReceived\t: y\r\n\r\n",
         "empty line at 50\nreceived=4 delivered_to=0 end=1\n"},
        {"Delivered-To: a@b\r\ndelivered-to: c@d\r\nReceived: x\r\n\r\n",
         "empty line at 51\nreceived=1 delivered_to=2 end=1\n"},
        {"Subject: Received: no\r\n Received: folded\r\n\tDelivered-To: folded\r\n\r\n",
         "empty line at 65\nreceived=0 delivered_to=0 end=1\n"},
        {"X-Received: a\r\nReceived-SPF: pass\r\nReceive: b\r\nReceivedd: c\r\nDelivered-To-X: d\r\n\r\n",
         "empty line at 80\nreceived=0 delivered_to=0 end=1\n"},
        {"Date: Thu, 1 Jan 1970 00:00:00 +0000\r\n\r\n",
         "empty line at 38\nreceived=0 delivered_to=0 date end=1\n"},
        {"from:a@b\r\nMESSAGE-ID :<x@y>\r\ndate\t:\r\n folded\r\n\r\n",
         "empty line at 46\nreceived=0 delivered_to=0 date message_id from end=1\n"},
        {"Resent-Date: x\r\nDates: x\r\nDat: x\r\nMessage-ID-2: x\r\nMessageID: x\r\nX-From: x\r\n\r\n",
         "empty line at 76\nreceived=0 delivered_to=0 end=1\n"},
        {"To: x\r\n\r\nDate: in the body\r\n", "empty line at 7\nreceived=0 delivered_to=0 end=1\n"},
        {"Date", "received=0 delivered_to=0 end=0\n"},
        {"Date:", "received=0 delivered_to=0 date end=0\n"},
        {"Received: a\r\nno field at all\r\nReceived: b\r\n", "received=1 delivered_to=0 end=2\n"},
        {"Received a: b\r\nReceived: c\r\n", "received=0 delivered_to=0 end=2\n"},
        {"From somebody Sat\r\nReceived: a\r\n", "received=0 delivered_to=0 end=2\n"},
        {" folded: first\r\nReceived: a\r\n", "received=0 delivered_to=0 end=2\n"},
        {": no name\r\nReceived: a\r\n", "received=0 delivered_to=0 end=2\n"},
        {"..Stuffed: x\r\nReceived: a\r\n\r\n", "empty line at 27\nreceived=1 delivered_to=0 end=1\n"},
        {"caf\xc3\xa9: x\r\nReceived: a\r\n\r\n", "received=0 delivered_to=0 end=2\n"},
        {"Received", "received=0 delivered_to=0 end=0\n"},
        {"Received:", "received=1 delivered_to=0 end=0\n"},
        {"Received: a\r\n", "received=1 delivered_to=0 end=0\n"},
    };

    for (size_t i = 0; i < sizeof(mails) / sizeof(mails[0]); i++)
        cuts_expect(transcript_run_header, mails[i].content, strlen(mails[i].content), 20, mails[i].wanted);
}

/* Where a line is no field, the header ends in front of it, as long as it did not begin in an earlier input.
 */
static void test_place_of_a_line_that_is_no_field(void **state)
{
    static const char content[] = "To: x\r\n folded\r\nno field\r\nmore\r\n";
    const size_t line = 16;

    for (size_t cut = 0; cut < sizeof(content) - 1; cut++) {
        struct smtp_header_scan scan;
        /* The blank behind "no" decides. */
        size_t decided = line + 3;

        smtp_header_scan_init(&scan);

        size_t first = smtp_header_scan_feed(&scan, content, cut);
        size_t second = smtp_header_scan_feed(&scan, content + cut, sizeof(content) - 1 - cut);

        assert_int_equal(scan.end, SMTP_HEADER_NO_FIELD);
        assert_int_equal(scan.is_split, cut > line && cut <= decided);
        if (cut <= line)
            assert_int_equal(first + second, line);
        else
            assert_int_equal(first, cut <= decided ? cut : line);
        if (cut > line)
            assert_int_equal(second, 0);
        assert_int_equal(smtp_header_scan_feed(&scan, "a: b\r\n", 6), 0);
    }
}

/* A name longer than an octet can count must not come round to the size of a counted one. */
static void test_very_long_name(void **state)
{
    char content[400];

    memset(content, 'x', sizeof(content));
    memcpy(content, "received", 8);
    memcpy(content + 256 + 8, ":\r\nReceived:\r\n", 14);
    cuts_expect(transcript_run_header, content, 256 + 8 + 14, 50, "received=1 delivered_to=0 end=0\n");
}

static void test_random_mail_against_naive(void **state)
{
    static const char *const words[] = {"Received", "received", "Delivered-To", ":",    ": ",   " ",    "\t",
                                        "\r\n",     "Date",     "Message-ID",   "x",    ".",    "\r\n", "\n",
                                        "\r",       "\xff",     "Re",           "\r\n", "from", ":\r\n"};
    struct transcript real, naive;
    uint64_t seed = 1;

    transcript_init(&real);
    transcript_init(&naive);
    for (int run = 0; run < 300000; run++) {
        char content[300];
        size_t size = 0;

        for (uint64_t i = transcript_random(&seed) % 20; i > 0; i--) {
            const char *word = words[transcript_random(&seed) % 20];

            memcpy(content + size, word, strlen(word));
            size += strlen(word);
        }
        transcript_clear(&real);
        transcript_clear(&naive);
        transcript_run_header(&real, content, size, &(size_t){transcript_random(&seed) % (size + 1)}, 1);
        naive_header(&naive, content, size);
        content[size] = '\0';
        if (!transcript_equal(&real, &naive))
            fail_msg("%s%s%s", content, real.text, naive.text);
    }
    transcript_deinit(&real);
    transcript_deinit(&naive);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_place_of_a_line_that_is_no_field),
        cmocka_unit_test(test_very_long_name),
        cmocka_unit_test(test_random_mail_against_naive),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
