#include "tests/unit/proto/test.h"

#include "proto/ip.h"

#include "tests/unit/proto/transcript.h"

#include <arpa/inet.h>

static struct smtp_slice slice(const char *text)
{
    return (struct smtp_slice){text, (uint32_t)strlen(text)};
}

static void test_ipv4(void **state)
{
    static const char *const bad[] = {
        "",         "1",         "1.2.3",     "1.2.3.4.5", "1.2.3.",     ".1.2.3",
        "1..2.3",   "256.1.1.1", "1.2.3.04",  "00.1.2.3",  "1.2.3.4 ",   " 1.2.3.4",
        "1.2.3.-4", "1.2.3.+4",  "1.2.3.0x1", "1.2.3.a",   "1.2.3.1000", "1.2.3.99999999999999999999"};
    uint8_t octets[4] = {9, 9, 9, 9};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(smtp_ipv4_parse(slice(bad[i]), octets));
    assert_memory_equal(octets, "\x09\x09\x09\x09", 4);
    assert_true(smtp_ipv4_parse(slice("192.0.2.255"), octets));
    assert_memory_equal(octets, "\xc0\x00\x02\xff", 4);
    assert_true(smtp_ipv4_parse(slice("0.0.0.0"), octets));
    assert_memory_equal(octets, "\0\0\0\0", 4);
}

static void test_ipv6(void **state)
{
    static const char *const bad[] = {"",
                                      ":",
                                      ":::",
                                      "1",
                                      "1:2:3:4:5:6:7",
                                      "1:2:3:4:5:6:7:8:9",
                                      "1::2::3",
                                      "::1::",
                                      "1:2:3:4:5:6:7::8",
                                      ":1::",
                                      "1:",
                                      "1::2:",
                                      ":1:2:3:4:5:6:7:8",
                                      "12345::",
                                      "g::",
                                      "::1.2.3",
                                      "::1.2.3.256",
                                      "1.2.3.4::",
                                      "1:2:3:4:5:6:7:1.2.3.4",
                                      "::1%lo",
                                      "[::1]",
                                      "::1 ",
                                      "1.2.3.4",
                                      "::ffff:1.2.3.04",
                                      "1:2:3:4:5:6:7:8::",
                                      "::1:2:3:4:5:6:7:8",
                                      "1:::2"};
    static const struct {
        const char *text;
        const char *octets;
    } good[] = {
        {"::", "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"},
        {"::1", "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"},
        {"2001:DB8::f", "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x0f"},
        {"1:2:3:4:5:6:7:8", "\0\1\0\2\0\3\0\4\0\5\0\6\0\7\0\x08"},
        {"0001:2:3:4:5:6:7::", "\0\1\0\2\0\3\0\4\0\5\0\6\0\7\0\0"},
        {"::2:3:4:5:6:7:8", "\0\0\0\2\0\3\0\4\0\5\0\6\0\7\0\x08"},
        {"::ffff:192.0.2.1", "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\1"},
        {"1:2:3:4:5:6:1.2.3.4", "\0\1\0\2\0\3\0\4\0\5\0\6\1\2\3\4"},
        {"fe80::1:0:0", "\xfe\x80\0\0\0\0\0\0\0\0\0\1\0\0\0\0"},
    };
    uint8_t octets[16];

    memset(octets, 7, sizeof(octets));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (smtp_ipv6_parse(slice(bad[i]), octets))
            fail_msg("%s", bad[i]);
    }
    for (size_t i = 0; i < sizeof(octets); i++)
        assert_int_equal(octets[i], 7);
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        if (!smtp_ipv6_parse(slice(good[i].text), octets))
            fail_msg("%s", good[i].text);
        assert_memory_equal(octets, good[i].octets, 16);
    }
}

/* The C library reads the same, in millions of texts that are nearly addresses. */
static void test_texts_against_libc(void **state)
{
    static const char *const words[] = {":", "::",      "1", "ab",  "ffff", "0",
                                        ":", "1.2.3.4", ".", "255", "256",  "12345"};
    uint64_t seed = 5;
    size_t good = 0;

    for (size_t run = 0; run < 2000000; run++) {
        char text[160] = "";
        uint8_t got[16] = {0};
        uint8_t wanted[16] = {0};
        bool is_v4 = transcript_random(&seed) % 4 == 0;

        for (uint64_t i = transcript_random(&seed) % 18; i > 0; i--)
            strcat(text, words[is_v4 ? 7 + transcript_random(&seed) % 4 : transcript_random(&seed) % 12]);

        bool is_wanted = inet_pton(is_v4 ? AF_INET : AF_INET6, text, wanted) == 1;
        bool is_good = is_v4 ? smtp_ipv4_parse(slice(text), got) : smtp_ipv6_parse(slice(text), got);

        if (is_good != is_wanted || memcmp(got, wanted, 16) != 0)
            fail_msg("%s", text);
        good += is_good;
    }
    assert_true(good > 1000);
}

static void test_decimal(void **state)
{
    static const char *const bad[] = {
        "", "00", "01", "65536", "-1", "+1", " 1", "1 ", "1a", "0x1", "99999999999999999999", "4294967297"};
    uint32_t number = 7;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(smtp_decimal_parse(slice(bad[i]), 65535, &number));
    assert_int_equal(number, 7);
    assert_true(smtp_decimal_parse(slice("0"), 65535, &number));
    assert_int_equal(number, 0);
    assert_true(smtp_decimal_parse(slice("65535"), 65535, &number));
    assert_int_equal(number, 65535);
    assert_true(smtp_decimal_parse(slice("4294967295"), UINT32_MAX, &number));
    assert_true(number == UINT32_MAX);
    assert_false(smtp_decimal_parse(slice("4294967296"), UINT32_MAX, &number));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ipv4),
        cmocka_unit_test(test_ipv6),
        cmocka_unit_test(test_texts_against_libc),
        cmocka_unit_test(test_decimal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
