#include "tests/unit/proto/test.h"

#include "proto/xtext.h"

#include <stdio.h>
#include <string.h>

static struct smtp_slice slice_of(const char *text)
{
    return (struct smtp_slice){text, (uint32_t)strlen(text)};
}

static void test_what_texts_stand_for(void **state)
{
    static const struct {
        const char *text;
        const char *octets;
    } table[] = {
        {"", ""},
        {"abc", "abc"},
        {"a+20b", "a b"},
        {"+2B+3D", "+="},
        {"+41+5A", "AZ"},
        {"!~<>;,\\\"", "!~<>;,\\\""},
        {"caf+C3+A9", "caf\xc3\xa9"},
        {"+FF+80", "\xff\x80"},
        {"+2B41", "+41"},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char into[32];
        int size = smtp_xtext_decode(slice_of(table[i].text), into, sizeof(into));

        assert_true(smtp_xtext_check(slice_of(table[i].text)));
        assert_int_equal(size, strlen(table[i].octets));
        assert_memory_equal(into, table[i].octets, (size_t)size);
    }
}

static void test_what_is_no_xtext(void **state)
{
    static const char *const bads[] = {
        "+", "a+",  "+2", "+2b",  "+2G",  "+G2",      "+ 2", "++2B", "a=b",
        "=", "a b", " ",  "\x7f", "\x80", "\xc3\xa9", "a\n", "+0",   "x+2",
    };

    for (size_t i = 0; i < sizeof(bads) / sizeof(bads[0]); i++) {
        char into[32];

        assert_false(smtp_xtext_check(slice_of(bads[i])));
        assert_int_equal(smtp_xtext_decode(slice_of(bads[i]), into, sizeof(into)), -1);
    }
    assert_false(smtp_xtext_check((struct smtp_slice){"a\0", 2}));
}

/* Each octet as a hexchar: controls are refused, whatever they hide behind. */
static void test_every_hidden_octet(void **state)
{
    for (unsigned octet = 0; octet < 256; octet++) {
        char text[8];
        char into[8];
        bool control = octet < 32 || octet == 127;

        snprintf(text, sizeof(text), "x+%02X", octet);
        assert_int_equal(smtp_xtext_check(slice_of(text)), !control);
        assert_int_equal(smtp_xtext_decode(slice_of(text), into, sizeof(into)), control ? -1 : 2);
        if (!control)
            assert_int_equal((unsigned char)into[1], octet);
    }
}

/* Each octet as itself. */
static void test_every_plain_octet(void **state)
{
    for (int octet = 0; octet < 256; octet++) {
        char text[1] = {(char)octet};
        bool plain = octet > 32 && octet < 127 && octet != '+' && octet != '=';

        assert_int_equal(smtp_xtext_check((struct smtp_slice){text, 1}), plain);
    }
}

static void test_room(void **state)
{
    char into[4] = "###";

    assert_int_equal(smtp_xtext_decode(slice_of("+20+20+20"), into, 3), 3);
    assert_int_equal(smtp_xtext_decode(slice_of("abcd"), into, 3), -1);
    assert_int_equal(into[3], '\0');
    assert_int_equal(smtp_xtext_decode(slice_of(""), NULL, 0), 0);
    assert_int_equal(smtp_xtext_decode(slice_of("a"), NULL, 0), -1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_texts_stand_for),
        cmocka_unit_test(test_what_is_no_xtext),
        cmocka_unit_test(test_every_hidden_octet),
        cmocka_unit_test(test_every_plain_octet),
        cmocka_unit_test(test_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
