#include "tests/unit/proto/test.h"

#include "tests/unit/proto/transcript.h"

#include "proto/base64.h"

#include <stdio.h>
#include <string.h>

static struct smtp_slice slice_of(const char *text)
{
    return (struct smtp_slice){text, (uint32_t)strlen(text)};
}

/* The examples of RFC 4648 §10, and octets that need the last of the alphabet. */
static void test_known_pairs(void **state)
{
    static const struct {
        const char *octets;
        const char *text;
    } table[] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
        {"\xfb\xef\xbe\xff\xff\xff", "++++////"},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char into[16];
        size_t size = smtp_base64_encode(table[i].octets, strlen(table[i].octets), into, sizeof(into));

        assert_int_equal(size, strlen(table[i].text));
        assert_memory_equal(into, table[i].text, size);
        assert_int_equal(smtp_base64_decode(slice_of(table[i].text), into, sizeof(into)),
                         strlen(table[i].octets));
        assert_memory_equal(into, table[i].octets, strlen(table[i].octets));
    }
}

static void test_what_is_no_base64(void **state)
{
    static const char *const bads[] = {
        "Z",         "Zg",   "Zg=",          "Zm8",      "=",        "==",     "====",
        "Z===",      "=Zg=", "Zg=a",         "Zg==Zg==", "Zm8=Zm8=", "Zm9v=",  "Zm9v==",
        "Zm9v====",  "Zm 9", "Zm9v\n\n\n\n", "Zm9-",     "Zm9_",     "Zm9.",   "Zm\x80v",
        "Zm9v Zm9v", "*",    "Zh==",         "Zm9=",     "Zv==",     "Zn8=\n", "ZgA==",
    };

    for (size_t i = 0; i < sizeof(bads) / sizeof(bads[0]); i++) {
        char into[16];

        if (smtp_base64_decode(slice_of(bads[i]), into, sizeof(into)) != -1)
            fail_msg("%s was taken", bads[i]);
    }
    char into[4];

    assert_int_equal(smtp_base64_decode((struct smtp_slice){"Zm\0v", 4}, into, sizeof(into)), -1);
}

/* Every text of two groups' last octet: exactly those that the encoder makes are taken. */
static void test_one_text_for_one_value(void **state)
{
    unsigned taken = 0;

    for (unsigned pair = 0; pair < 256 * 256; pair++) {
        char text[4] = {'Z', (char)(pair >> 8), (char)pair, '='};
        char octets[3], again[4];
        int size = smtp_base64_decode((struct smtp_slice){text, 4}, octets, sizeof(octets));

        if (size < 0)
            continue;
        assert_int_equal(smtp_base64_encode(octets, (size_t)size, again, sizeof(again)), 4);
        assert_memory_equal(again, text, 4);
        taken++;
    }
    /* Z?== has 4 of 64 without unused bits, Z??= 64 times 16. */
    assert_int_equal(taken, 4 + 64 * 16);
}

static void test_round_trips(void **state)
{
    uint64_t seed = 4648;

    for (unsigned run = 0; run < 5000; run++) {
        char octets[200], text[SMTP_BASE64_ENCODED_SIZE(200)], again[200];
        size_t size = transcript_random(&seed) % (sizeof(octets) + 1);

        for (size_t i = 0; i < size; i++)
            octets[i] = (char)transcript_random(&seed);

        size_t text_size = smtp_base64_encode(octets, size, text, sizeof(text));

        assert_int_equal(text_size, SMTP_BASE64_ENCODED_SIZE(size));
        assert_int_equal(smtp_base64_decode((struct smtp_slice){text, (uint32_t)text_size}, again, size),
                         size);
        assert_memory_equal(again, octets, size);
        /* In place. */
        assert_int_equal(smtp_base64_decode((struct smtp_slice){text, (uint32_t)text_size}, text, size),
                         size);
        assert_memory_equal(text, octets, size);
    }
}

static void test_room(void **state)
{
    char into[8] = "#######";

    assert_int_equal(smtp_base64_encode("foo", 3, into, 3), 0);
    assert_int_equal(smtp_base64_encode("foob", 4, into, 7), 0);
    assert_int_equal(smtp_base64_decode(slice_of("Zm9v"), into, 2), -1);
    assert_int_equal(smtp_base64_decode(slice_of("Zm8="), into, 1), -1);
    assert_int_equal(smtp_base64_decode(slice_of("Zg=="), into, 0), -1);
    assert_int_equal(into[2], '#');
    assert_int_equal(smtp_base64_decode(slice_of("Zg=="), into, 1), 1);
    assert_int_equal(smtp_base64_encode(NULL, 0, NULL, 0), 0);
    assert_int_equal(smtp_base64_decode(slice_of(""), NULL, 0), 0);
    assert_int_equal(smtp_base64_encode("x", SIZE_MAX, into, sizeof(into)), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_pairs),
        cmocka_unit_test(test_what_is_no_base64),
        cmocka_unit_test(test_one_text_for_one_value),
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
