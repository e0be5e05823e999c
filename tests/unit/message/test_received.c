/* The Received: field, for friendly and hostile clients. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gateway/message/received.h"

static const struct received usual = {
    .helo = {"client.example", 14},
    .client = {"192.0.2.1", 9},
    .hostname = {"relay.example", 13},
    .id = {"0000000000abc", 13},
    .recipient = {"user@example.com", 16},
    .date = {"Sat, 21 Nov 2026 22:19:42 +0000", 31},
    .is_esmtp = true,
};

/* Writes into a block of exactly the size that was promised to be enough. */
static void expect(struct received received, const char *text)
{
    const size_t bound = received_bound(&received);
    assert_true(bound <= RECEIVED_SIZE_MAX);
    char *buffer = malloc(bound);
    assert_non_null(buffer);
    const size_t size = received_write(&received, buffer);
    char written[RECEIVED_SIZE_MAX + 1];
    memcpy(written, buffer, size);
    written[size] = '\0';
    free(buffer);
    assert_string_equal(written, text);
}

static void test_fields(void **state)
{
    struct received received = usual;
    expect(received, "Received: from client.example ([192.0.2.1])\r\n"
                     "\tby relay.example with ESMTP id 0000000000abc\r\n"
                     "\tfor <user@example.com>; Sat, 21 Nov 2026 22:19:42 +0000\r\n");
    received.is_esmtp = false;
    received.client = SMTP_SLICE("2001:db8::1");
    expect(received, "Received: from client.example ([IPv6:2001:db8::1])\r\n"
                     "\tby relay.example with SMTP id 0000000000abc\r\n"
                     "\tfor <user@example.com>; Sat, 21 Nov 2026 22:19:42 +0000\r\n");
    received.recipient = SMTP_SLICE("");
    received.id = SMTP_SLICE("");
    expect(received, "Received: from client.example ([IPv6:2001:db8::1])\r\n"
                     "\tby relay.example with SMTP;\r\n"
                     "\tSat, 21 Nov 2026 22:19:42 +0000\r\n");
    received.client = SMTP_SLICE("");
    received.helo = SMTP_SLICE("");
    expect(received, "Received: from unknown\r\n"
                     "\tby relay.example with SMTP;\r\n"
                     "\tSat, 21 Nov 2026 22:19:42 +0000\r\n");
}

/* The protocol types of RFC 3848 and RFC 6531, and the TLS that was used. */
static void test_how_it_came(void **state)
{
    static const char *const types[] = {"ESMTP",    "ESMTPA",    "ESMTPS",    "ESMTPSA",
                                        "UTF8SMTP", "UTF8SMTPA", "UTF8SMTPS", "UTF8SMTPSA"};
    for (unsigned i = 0; i < 8; i++) {
        struct received received = usual;
        char text[512];
        received.is_authenticated = (i & 1) != 0;
        received.tls =
            (i & 2) != 0 ? SMTP_SLICE("TLSv1.3 with cipher TLS_AES_128_GCM_SHA256") : SMTP_SLICE("");
        received.is_utf8 = (i & 4) != 0;
        const size_t bound = received_bound(&received);
        const size_t size = received_write(&received, text);
        assert_true(size <= bound);
        text[size] = '\0';
        char type[32];
        snprintf(type, sizeof(type), " with %s id ", types[i]);
        assert_non_null(strstr(text, type));
        assert_int_equal(strstr(text, "TLSv1.3 with cipher TLS_AES_128_GCM_SHA256") != NULL, (i & 2) != 0);
    }
}

static void test_no_name_can_forge_anything(void **state)
{
    static const struct {
        struct smtp_slice helo;
        const char *written;
    } table[] = {
        {SMTP_SLICE("a b"), "a?b"},
        {SMTP_SLICE("x\r\nBcc: y"), "x??Bcc:?y"},
        {SMTP_SLICE("x (comment)"), "x??comment?"},
        {SMTP_SLICE("evil; Sat"), "evil??Sat"},
        {SMTP_SLICE("\"q\"\\<a@b>"), "?q???a?b?"},
        {SMTP_SLICE("\xc3\xa4.example\x7f"), "??.example?"},
        {{"nul\0byte", 8}, "nul?byte"},
        {SMTP_SLICE("[IPv6:2001:db8::1]"), "[IPv6:2001:db8::1]"},
        {SMTP_SLICE("under_score-9.example"), "under_score-9.example"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct received received = usual;
        received.helo = table[i].helo;
        char text[512];
        snprintf(text, sizeof(text),
                 "Received: from %s ([192.0.2.1])\r\n"
                 "\tby relay.example with ESMTP id 0000000000abc\r\n"
                 "\tfor <user@example.com>; Sat, 21 Nov 2026 22:19:42 +0000\r\n",
                 table[i].written);
        expect(received, text);
    }
}

static void test_the_longest_field_is_bounded_and_folded(void **state)
{
    char name[4096];
    memset(name, 'n', sizeof(name));
    struct received received = usual;
    received.helo = (struct smtp_slice){name, sizeof(name)};
    received.hostname = received.helo;
    received.client = (struct smtp_slice){name, RECEIVED_CLIENT_MAX};
    received.recipient = (struct smtp_slice){name, SMTP_PATH_MAX};

    char written[RECEIVED_SIZE_MAX + 1];
    assert_true(received_bound(&received) <= RECEIVED_SIZE_MAX);
    const size_t size = received_write(&received, written);
    written[size] = '\0';
    int lines = 0;
    for (char *line = written; *line != '\0'; lines++) {
        char *end = strstr(line, "\r\n");
        assert_non_null(end);
        assert_true(end - line <= 998); /* RFC 5322 §2.1.1 */
        assert_true(line == written || *line == '\t');
        line = end + 2;
    }
    assert_int_equal(lines, 3);
}

static void expect_date(struct received_date *date, int64_t second, const char *text)
{
    const struct smtp_slice slice = received_date_text(date, second * 1000 + 999);
    assert_int_equal(slice.size, strlen(text));
    assert_memory_equal(slice.data, text, slice.size);
}

static void test_dates(void **state)
{
    struct received_date date = {0};
    expect_date(&date, 0, "Thu, 01 Jan 1970 00:00:00 +0000");
    expect_date(&date, 951782400, "Tue, 29 Feb 2000 00:00:00 +0000");
    expect_date(&date, 1795299582, "Sat, 21 Nov 2026 22:19:42 +0000");
    expect_date(&date, 1795299582, "Sat, 21 Nov 2026 22:19:42 +0000");
    expect_date(&date, 1795299581, "Sat, 21 Nov 2026 22:19:41 +0000");
    expect_date(&date, 4102444799, "Thu, 31 Dec 2099 23:59:59 +0000");
}

/* A calendar that somebody else keeps. */
static void test_dates_agree_with_strftime(void **state)
{
    struct received_date date = {0};
    for (int64_t second = 1; second < INT64_C(4102444800); second += 86400 * 13 + 3607) {
        const time_t time = second;
        struct tm tm;
        assert_non_null(gmtime_r(&time, &tm));
        char text[64];
        strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S +0000", &tm);
        expect_date(&date, second, text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_how_it_came),
        cmocka_unit_test(test_no_name_can_forge_anything),
        cmocka_unit_test(test_the_longest_field_is_bounded_and_folded),
        cmocka_unit_test(test_dates),
        cmocka_unit_test(test_dates_agree_with_strftime),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
