#include "tests/unit/proto/test.h"

#include "tests/unit/proto/cuts.h"
#include "tests/unit/proto/naive.h"

#include "proto/header.h"

struct mail {
    const char *content;
    unsigned received;
    unsigned delivered_to;
    bool done;
};

static const struct mail mails[] = {
    {"", 0, 0, false},
    {"\r\n", 0, 0, true},
    {"Received: a\r\n\r\n", 1, 0, true},
    {"Received: a\r\nReceived: b\r\n\r\nReceived: body\r\n", 2, 0, true},
    {"RECEIVED:a\r\nreceived:\r\nReCeIvEd :x\r\nReceived\t: y\r\n\r\n", 4, 0, true},
    {"Delivered-To: a@b\r\ndelivered-to: c@d\r\nReceived: x\r\n\r\n", 1, 2, true},
    {"Subject: Received: no\r\n Received: folded\r\n\tDelivered-To: folded\r\n\r\n", 0, 0, true},
    {"X-Received: a\r\nReceived-SPF: pass\r\nReceive: b\r\nReceivedd: c\r\nDelivered-To-X: d\r\n\r\n", 0, 0,
     true},
    {"Received: a\r\nno field at all\r\nReceived: b\r\n", 1, 0, true},
    {"Received a: b\r\nReceived: c\r\n", 0, 0, true},
    {"From somebody Sat\r\nReceived: a\r\n", 0, 0, true},
    {" folded: first\r\nReceived: a\r\n", 0, 0, true},
    {": no name\r\nReceived: a\r\n", 0, 0, true},
    {"..Stuffed: x\r\nReceived: a\r\n\r\n", 1, 0, true},
    {"caf\xc3\xa9: x\r\nReceived: a\r\n\r\n", 0, 0, true},
    {"Received", 0, 0, false},
    {"Received:", 1, 0, false},
    {"Received: a\r\n", 1, 0, false},
};

static void test_counts(void **state)
{
    for (size_t i = 0; i < sizeof(mails) / sizeof(mails[0]); i++) {
        struct transcript wanted;

        transcript_init(&wanted);
        transcript_add(&wanted, "received=%u delivered_to=%u done=%d\n", mails[i].received,
                       mails[i].delivered_to, mails[i].done);
        cuts_expect(transcript_run_header, mails[i].content, strlen(mails[i].content), 20, wanted.text);
        transcript_clear(&wanted);
        transcript_deinit(&wanted);
    }
}

/* A name longer than an octet can count must not come round to the size of a counted one. */
static void test_very_long_name(void **state)
{
    char content[400];

    memset(content, 'x', sizeof(content));
    memcpy(content, "received", 8);
    memcpy(content + 256 + 8, ":\r\nReceived:\r\n", 14);
    cuts_expect(transcript_run_header, content, 256 + 8 + 14, 50, "received=1 delivered_to=0 done=0\n");
}

static void test_random_mail_against_naive(void **state)
{
    static const char *const words[] = {
        "Received", "received", "Delivered-To", ":",  ": ", " ",    "\t", "\r\n",
        "x",        ".",        "\r\n",         "\n", "\r", "\xff", "Re", "\r\n"};
    struct transcript real, naive;
    uint64_t seed = 1;

    transcript_init(&real);
    transcript_init(&naive);
    for (int run = 0; run < 300000; run++) {
        char content[300];
        size_t size = 0;

        for (uint64_t i = transcript_random(&seed) % 20; i > 0; i--) {
            const char *word = words[transcript_random(&seed) % 16];

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
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_very_long_name),
        cmocka_unit_test(test_random_mail_against_naive),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
