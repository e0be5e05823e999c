/* Which text is a name, and which is a password. */

#include "sasl_test.h"

#include "gateway/sasl/text.h"

#include <string.h>

static void text_is_utf8_without_controls(void **state)
{
    static const struct {
        const char *text;
        bool is_valid;
    } cases[] = {
        {"", false},
        {"a", true},
        {"correct horse: battery, staple = #*", true},
        {"\xc3\xa9", true},
        {"\xe2\x82\xac", true},
        {"\xf0\x9f\x94\x91", true},
        {"\xf4\x8f\xbf\xbd", true},
        {"a\n", false},
        {"a\x7f", false},
        {"\xc2\x80", false},
        {"\xc2\x9f", false},
        {"\xc2\xa0", true},
        {"\x80", false},         /* a continuation first */
        {"\xc3", false},         /* cut short */
        {"\xe2\x82", false},     /* cut short */
        {"\xe2\x82z", false},    /* cut short by another */
        {"\xc0\xaf", false},     /* overlong */
        {"\xc1\xbf", false},     /* overlong */
        {"\xe0\x9f\xbf", false}, /* overlong */
        {"\xf0\x8f\xbf\xbd", false},
        {"\xed\xa0\x80", false},     /* a surrogate */
        {"\xed\xbf\xbf", false},     /* a surrogate */
        {"\xee\x80\x80", true},      /* the next after them */
        {"\xf4\x90\x80\x80", false}, /* beyond U+10FFFF */
        {"\xf5\x80\x80\x80", false},
        {"\xff", false},
        {"\xef\xbf\xbe", false}, /* a noncharacter */
        {"\xef\xb7\x90", false}, /* a noncharacter */
    };
    for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
        if (sasl_text_is_valid(cases[index].text, strlen(cases[index].text)) != cases[index].is_valid)
            fail_msg("case %zu", index);
    }
    assert_false(sasl_text_is_valid("a\0b", 3));
    assert_false(sasl_text_is_valid("\xe2\x82\xac", 2));
}

static void names_are_stricter(void **state)
{
    static const struct {
        const char *name;
        bool is_valid;
    } cases[] = {
        {"alice@example.com", true},
        {"a#b", true},
        {"a*", true},
        {"a=b,c", true},
        {"-", true},
        {"zo\xc3\xab", true},
        {"", false},
        {"*", false},
        {"#a", false},
        {"a b", false},
        {"a:b", false},
        {"a\tb", false},
        {"a\xc2\xa0", false},     /* a no-break space */
        {"a\xc2\xad", false},     /* a soft hyphen */
        {"a\xe2\x80\x8b", false}, /* a zero-width space */
        {"a\xe2\x80\xae", false}, /* right-to-left override */
        {"a\xe3\x80\x80", false}, /* an ideographic space */
        {"\xef\xbb\xbf"
         "a",
         false}, /* a byte-order mark */
        {"a\xff", false},
    };
    for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
        if (sasl_name_is_valid(cases[index].name, strlen(cases[index].name)) != cases[index].is_valid)
            fail_msg("case %zu", index);
    }
    char longest[USER_NAME_MAX + 1];
    memset(longest, 'a', sizeof(longest));
    assert_true(sasl_name_is_valid(longest, USER_NAME_MAX));
    assert_false(sasl_name_is_valid(longest, USER_NAME_MAX + 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_utf8_without_controls),
        cmocka_unit_test(names_are_stricter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
