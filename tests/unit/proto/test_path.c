#include "tests/unit/proto/test.h"

#include "tests/unit/proto/naive_path.h"
#include "tests/unit/proto/transcript.h"

#include "proto/address.h"
#include "proto/path.h"

#include <stdio.h>
#include <stdlib.h>

struct good {
    const char *text;
    const char *local;
    const char *domain;
};

static struct smtp_slice slice_of(const char *text)
{
    return (struct smtp_slice){text, (uint32_t)strlen(text)};
}

/* Parses from a block of exactly the size, so that a sanitizer sees an octet read too far. */
static enum smtp_path_fault parse(const char *text, enum smtp_path_kind kind, struct smtp_path *path,
                                  uint32_t *used, char **block)
{
    size_t size = strlen(text);

    *block = malloc(size > 0 ? size : 1);
    assert_non_null(*block);
    memcpy(*block, text, size);
    return smtp_path_parse((struct smtp_slice){*block, (uint32_t)size}, kind, false, path, used);
}

static void check_good(const struct good *good, enum smtp_path_kind kind, const char *behind)
{
    char text[600];
    char *block;
    struct smtp_path path;
    uint32_t used = 0;

    snprintf(text, sizeof(text), "%s%s", good->text, behind);
    assert_int_equal(parse(text, kind, &path, &used, &block), SMTP_PATH_OK);
    assert_int_equal(used, strlen(good->text));
    assert_true(smtp_slice_equals(path.local, slice_of(good->local)));
    assert_true(smtp_slice_equals(path.domain, slice_of(good->domain)));
    if (path.domain.size > 0)
        assert_int_equal(path.text.size, path.local.size + 1 + path.domain.size);
    else
        assert_int_equal(path.text.size, path.local.size);
    free(block);
}

static const struct good goods[] = {
    {"<a@b>", "a", "b"},
    {"<a.b.c@d.example>", "a.b.c", "d.example"},
    {"<!#$%&'*+-/=?^_`{|}~@d>", "!#$%&'*+-/=?^_`{|}~", "d"},
    {"<\"\"@d>", "\"\"", "d"},
    {"<\"a b\"@d>", "\"a b\"", "d"},
    {"<\"a@b>\"@d>", "\"a@b>\"", "d"},
    {"<\"a\\\"b\"@d>", "\"a\\\"b\"", "d"},
    {"<\"a\\\\\"@d>", "\"a\\\\\"", "d"},
    {"<\"a\\ b\"@d>", "\"a\\ b\"", "d"},
    {"<a@1.2.3.4>", "a", "1.2.3.4"},
    {"<a@x-y.3com.example>", "a", "x-y.3com.example"},
    {"<a@_spf._host_.example>", "a", "_spf._host_.example"},
    {"<a@a--b.example>", "a", "a--b.example"},
    {"<a@[1.2.3.4]>", "a", "[1.2.3.4]"},
    {"<a@[255.255.255.255]>", "a", "[255.255.255.255]"},
    {"<a@[001.02.3.0]>", "a", "[001.02.3.0]"},
    {"<a@[IPv6:2001:db8:0:1:2:3:4:5]>", "a", "[IPv6:2001:db8:0:1:2:3:4:5]"},
    {"<a@[ipv6:::]>", "a", "[ipv6:::]"},
    {"<a@[IPv6:::1]>", "a", "[IPv6:::1]"},
    {"<a@[IPv6:1::]>", "a", "[IPv6:1::]"},
    {"<a@[IPv6:1:2:3::4:5:6]>", "a", "[IPv6:1:2:3::4:5:6]"},
    {"<a@[IPv6:::ffff:192.0.2.1]>", "a", "[IPv6:::ffff:192.0.2.1]"},
    {"<a@[IPv6:1:2:3:4:5:6:192.0.2.1]>", "a", "[IPv6:1:2:3:4:5:6:192.0.2.1]"},
    {"<@r:a@b>", "a", "b"},
    {"<@r.example,@s.example,@t:a@b>", "a", "b"},
};

static void test_good_paths(void **state)
{
    for (size_t i = 0; i < sizeof(goods) / sizeof(goods[0]); i++) {
        check_good(&goods[i], SMTP_PATH_REVERSE, "");
        check_good(&goods[i], SMTP_PATH_FORWARD, " X=<y>");
    }
    check_good(&(struct good){"<>", "", ""}, SMTP_PATH_REVERSE, " SIZE=1");
    check_good(&(struct good){"<postmaster>", "postmaster", ""}, SMTP_PATH_FORWARD, "");
    check_good(&(struct good){"<POSTMASTER>", "POSTMASTER", ""}, SMTP_PATH_FORWARD, "");
    check_good(&(struct good){"<postmaster@b>", "postmaster", "b"}, SMTP_PATH_FORWARD, "");
}

static void check_bad(const char *text, enum smtp_path_kind kind, enum smtp_path_fault wanted)
{
    struct smtp_path path;
    uint32_t used = 0;
    char *block;

    if (parse(text, kind, &path, &used, &block) != wanted)
        fail_msg("%s: not the fault %d", text, wanted);
    free(block);
}

static void test_bad_syntax(void **state)
{
    static const char *const bads[] = {
        "<",
        "<a",
        "<a@",
        "<a@b",
        "<@b>",
        "<a>",
        "<.a@b>",
        "<a.@b>",
        "<a..b@c>",
        "<a b@c>",
        "<a@b c>",
        "<a@b@c>",
        "<a@.b>",
        "<a@b.>",
        "<a@b..c>",
        "<a@-b>",
        "<a@b->",
        "<a@b-.c>",
        "<a@b,c>",
        "<<a@b>>",
        "< a@b>",
        "<a@b >",
        "<a(c)@b>",
        "<a,b@c>",
        "<a:b@c>",
        "<a;b@c>",
        "<a[b@c>",
        "<\"a@b>",
        "<\"a\"b@c>",
        "<a\"b\"@c>",
        "<\"a\\\"@c>",
        "<\"a\"\"b\"@c>",
        "<a@@b>",
        "<a@\"b\">",
        "<a\\b@c>",
        "<\"a\x01\"@b>",
        "<@r>",
        "<@r:>",
        "<@r,:a@b>",
        "<@r,s:a@b>",
        "<@:a@b>",
        "<@r a@b>",
        "<@[1.2.3.4]:a@b>",
        "<@r:postmaster>",
        "<a@[]>",
        "<a@[1.2.3]>",
        "<a@[1.2.3.4>",
        "<a@[1.2.3.4.5]>",
        "<a@[256.1.1.1]>",
        "<a@[1.2.3.1000]>",
        "<a@[1..2.3]>",
        "<a@[a.b.c.d]>",
        "<a@[1.2.3.4]b>",
        "<a@[tag:x]>",
        "<a@[IPv6:]>",
        "<a@[IPv6::1]>",
        "<a@[IPv6:1:2:3:4:5:6:7]>",
        "<a@[IPv6:1:2:3:4:5:6:7:8:9]>",
        "<a@[IPv6:1:2:3:4:5:6:7::]>",
        "<a@[IPv6:1::2::3]>",
        "<a@[IPv6:12345::]>",
        "<a@[IPv6:::g]>",
        "<a@[IPv6:1:2:3:4:5:6:7:]>",
        "<a@[IPv6:1.2.3.4]>",
        "<a@[IPv6:1:2:3:4:5:6:7:1.2.3.4]>",
        "<a@[IPv6::::]>",
        "<a@[IPv6:::1.2.3]>",
        "<a@[IPv6:::1.2.3.4:5]>",
        "<a@[2001:db8::1]>",
        "<a@[IPv6",
    };

    for (size_t i = 0; i < sizeof(bads) / sizeof(bads[0]); i++) {
        check_bad(bads[i], SMTP_PATH_REVERSE, SMTP_PATH_SYNTAX);
        check_bad(bads[i], SMTP_PATH_FORWARD, SMTP_PATH_SYNTAX);
    }
    check_bad("<>", SMTP_PATH_FORWARD, SMTP_PATH_SYNTAX);
    check_bad("<postmaster>", SMTP_PATH_REVERSE, SMTP_PATH_SYNTAX);
}

static void test_no_bracket(void **state)
{
    static const char *const bads[] = {"", "a@b", " <a@b>", "\"<a@b>", ">", "\xff<a@b>"};

    for (size_t i = 0; i < sizeof(bads) / sizeof(bads[0]); i++)
        check_bad(bads[i], SMTP_PATH_FORWARD, SMTP_PATH_NO_BRACKET);
}

static void test_non_ascii(void **state)
{
    static const char *const bads[] = {
        "<\xc3\xa9@b>",       "<a@\xc3\xa9>",    "<a.\x80@b>", "<\"\xc3\xa9\"@b>",
        "<\"\\\xc3\xa9\"@b>", "<@\xc3\xa9:a@b>", "<a@b\xff>",  "<\xff"};

    for (size_t i = 0; i < sizeof(bads) / sizeof(bads[0]); i++)
        check_bad(bads[i], SMTP_PATH_REVERSE, SMTP_PATH_NON_ASCII);
}

/* A local part, then labels of 63 octets (or fewer for the last one) until the domain has its size. */
static void make_path(char *text, size_t local_size, size_t domain_size)
{
    char *at = text;

    *at++ = '<';
    memset(at, 'l', local_size);
    at += local_size;
    *at++ = '@';
    for (size_t i = 0; i < domain_size; i++)
        *at++ = i % 64 == 63 ? '.' : 'd';
    strcpy(at, ">");
}

static void test_lengths(void **state)
{
    char text[1200];
    char label[100];

    make_path(text, 64, 100);
    check_bad(text, SMTP_PATH_REVERSE, SMTP_PATH_OK);
    make_path(text, 65, 100);
    check_bad(text, SMTP_PATH_REVERSE, SMTP_PATH_TOO_LONG);
    make_path(text, 1, 252);
    check_bad(text, SMTP_PATH_REVERSE, SMTP_PATH_OK);
    make_path(text, 1, 253);
    check_bad(text, SMTP_PATH_REVERSE, SMTP_PATH_TOO_LONG);
    make_path(text, 1, 258);
    check_bad(text, SMTP_PATH_REVERSE, SMTP_PATH_TOO_LONG);
    make_path(text, 64, 1000);
    check_bad(text, SMTP_PATH_REVERSE, SMTP_PATH_TOO_LONG);

    memset(label, 'd', sizeof(label));
    snprintf(text, sizeof(text), "<a@%.63s>", label);
    check_bad(text, SMTP_PATH_FORWARD, SMTP_PATH_OK);
    snprintf(text, sizeof(text), "<a@%.64s>", label);
    check_bad(text, SMTP_PATH_FORWARD, SMTP_PATH_TOO_LONG);
    snprintf(text, sizeof(text), "<@%.64s:a@b>", label);
    check_bad(text, SMTP_PATH_FORWARD, SMTP_PATH_TOO_LONG);
}

static void test_utf8(void **state)
{
    static const struct good table[] = {
        {"<caf\xc3\xa9@b>", "caf\xc3\xa9", "b"},
        {"<\xc2\xa0.\xdf\xbf@b>", "\xc2\xa0.\xdf\xbf", "b"},
        {"<\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf@b>",
         "\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf", "b"},
        {"<\xf0\x90\x80\x80\xf4\x8f\xbf\xbf@b>", "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", "b"},
        {"<\"\xc3\xa9 x\"@b>", "\"\xc3\xa9 x\"", "b"},
        {"<a@\xc3\xa9.x\xc3\xa9-\xc3\xa9.b>", "a", "\xc3\xa9.x\xc3\xa9-\xc3\xa9.b"},
        {"<@\xc3\xa9:a@b>", "a", "b"},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct smtp_path path;
        uint32_t used = 0;

        assert_int_equal(smtp_path_parse(slice_of(table[i].text), SMTP_PATH_FORWARD, true, &path, &used),
                         SMTP_PATH_OK);
        assert_int_equal(used, strlen(table[i].text));
        assert_true(path.is_utf8);
        assert_true(smtp_slice_equals(path.local, slice_of(table[i].local)));
        assert_true(smtp_slice_equals(path.domain, slice_of(table[i].domain)));
        check_bad(table[i].text, SMTP_PATH_FORWARD, SMTP_PATH_NON_ASCII);
    }

    struct smtp_path path = {.is_utf8 = true};
    uint32_t used = 0;

    assert_int_equal(smtp_path_parse(slice_of("<a@b>\xc3\xa9"), SMTP_PATH_FORWARD, true, &path, &used),
                     SMTP_PATH_OK);
    assert_false(path.is_utf8);
}

static void test_malformed_utf8(void **state)
{
    static const char *const bads[] = {
        "<\x80@b>",             /* a tail alone */
        "<\xc3@b>",             /* no tail */
        "<\xc0\xaf@b>",         /* overlong "/" */
        "<\xc1\xbf@b>",         /* overlong */
        "<\xe0\x9f\xbf@b>",     /* overlong */
        "<\xf0\x8f\xbf\xbf@b>", /* overlong */
        "<\xc2\x80@b>",         /* C1 */
        "<\xc2\x9f@b>",         /* C1 */
        "<\xed\xa0\x80@b>",     /* surrogate */
        "<\xed\xbf\xbf@b>",     /* surrogate */
        "<\xf4\x90\x80\x80@b>", /* beyond U+10FFFF */
        "<\xf5\x80\x80\x80@b>", /* beyond U+10FFFF */
        "<\xfe@b>",
        "<\xff@b>",
        "<\xe2\x82@b>",       /* two of three */
        "<a@b\xe2\x82",       /* the input ends */
        "<\"\\\xc3\xa9\"@b>", /* behind a backslash */
        "<\"\xc3\"@b>",
        "<a@\xc3\xa9-.b>",
        "<a@-\xc3\xa9.b>",
        "<a@[\xc3\xa9]>",
    };

    for (size_t i = 0; i < sizeof(bads) / sizeof(bads[0]); i++) {
        struct smtp_path path;
        uint32_t used = 0;

        assert_int_equal(smtp_path_parse(slice_of(bads[i]), SMTP_PATH_FORWARD, true, &path, &used),
                         SMTP_PATH_SYNTAX);
        assert_false(naive_path_check(bads[i], strlen(bads[i])));
    }
}

/* Limits are octets in any script, but that of a label is IDNA's where it is not ASCII. */
static void test_lengths_in_utf8(void **state)
{
    static const struct {
        const char *unit;
        size_t local, domain;
        enum smtp_path_fault wanted;
    } table[] = {
        {"\xc3\xa9", 32, 1, SMTP_PATH_OK},        {"\xc3\xa9", 33, 1, SMTP_PATH_TOO_LONG},
        {"\xc3\xa9", 1, 32, SMTP_PATH_OK},        {"\xc3\xa9", 1, 125, SMTP_PATH_OK},
        {"\xc3\xa9", 1, 126, SMTP_PATH_TOO_LONG}, {"\xc3\xa9", 1, 128, SMTP_PATH_TOO_LONG},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char text[600] = "<";
        struct smtp_path path;
        uint32_t used = 0;

        for (size_t n = 0; n < table[i].local; n++)
            strcat(text, table[i].unit);
        strcat(text, "@");
        for (size_t n = 0; n < table[i].domain; n++)
            strcat(text, table[i].unit);
        strcat(text, ">");
        assert_int_equal(smtp_path_parse(slice_of(text), SMTP_PATH_REVERSE, true, &path, &used),
                         table[i].wanted);
        assert_int_equal(naive_path_check(text, strlen(text)), table[i].wanted == SMTP_PATH_OK);
    }
}

/* Every path of the tables with one octet taken out, put in or changed. */
static void test_neighbours_against_the_plain_grammar(void **state)
{
    static const char octets[] = "<>@\"\\.-:,[]a1g _\x7f\x01\x80\xa0\xc2\xc3\xe2\xed\xf4\xff";

    for (size_t i = 0; i < sizeof(goods) / sizeof(goods[0]); i++) {
        size_t size = strlen(goods[i].text);
        char text[128];

        assert_true(naive_path_check(goods[i].text, size));
        for (size_t at = 0; at <= size; at++) {
            memcpy(text, goods[i].text, at);
            if (at < size)
                memcpy(text + at, goods[i].text + at + 1, size - at - 1);
            naive_path_check(text, at < size ? size - 1 : size);
            for (size_t o = 0; o < sizeof(octets) - 1; o++) {
                text[at] = octets[o];
                memcpy(text + at + 1, goods[i].text + at, size - at);
                naive_path_check(text, size + 1);
                if (at < size) {
                    memcpy(text + at + 1, goods[i].text + at + 1, size - at - 1);
                    naive_path_check(text, size);
                }
            }
        }
    }
}

/* Words of the grammar in any order. */
static void test_random_words_against_the_plain_grammar(void **state)
{
    static const char *const words[] = {"a",
                                        "b.c",
                                        "@",
                                        "@",
                                        ">",
                                        "\"",
                                        "\"x y\"",
                                        "\\",
                                        ".",
                                        "-",
                                        "[",
                                        "]",
                                        "IPv6:",
                                        ":",
                                        "::",
                                        "1:",
                                        "f:2",
                                        "255",
                                        "1.2.",
                                        "3.4",
                                        "256",
                                        ",",
                                        "postmaster",
                                        "@r:",
                                        "@[1.2.3.4]",
                                        "@[IPv6:",
                                        "::1]",
                                        "1:2:3:",
                                        "4:5:6",
                                        "\xc3\xa9",
                                        "\xe2\x82\xac",
                                        "\xc3",
                                        "\xf0\x9f\x93\xa7",
                                        "_",
                                        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                                        "<"};
    uint64_t seed = 5321;
    unsigned good = 0;

    for (int run = 0; run < 60000; run++) {
        char text[1024] = "<";
        unsigned count = (unsigned)(transcript_random(&seed) % 9);

        for (unsigned i = 0; i < count; i++)
            strcat(text, words[transcript_random(&seed) % (sizeof(words) / sizeof(words[0]))]);
        strcat(text, ">");
        good += naive_path_check(text, strlen(text));
    }
    assert_true(good > 1000);
}

static void test_lower_case_of_domains(void **state)
{
    char into[12];

    assert_int_equal(smtp_domain_lower(SMTP_SLICE("Example.COM"), into, sizeof(into)), 11);
    assert_memory_equal(into, "example.com", 11);
    assert_int_equal(smtp_domain_lower(SMTP_SLICE("[IPv6:ABC::]"), into, sizeof(into)), 12);
    assert_memory_equal(into, "[ipv6:abc::]", 12);
    assert_int_equal(smtp_domain_lower(SMTP_SLICE("Example.COM"), into, 10), 0);
    assert_int_equal(smtp_domain_lower(SMTP_SLICE(""), into, 0), 0);
    assert_int_equal(smtp_domain_lower(SMTP_SLICE("@[`{\xc3\x89"), into, sizeof(into)), 6);
    assert_memory_equal(into, "@[`{\xc3\x89", 6);
    assert_true(smtp_domain_is_literal(SMTP_SLICE("[1.2.3.4]")));
    assert_false(smtp_domain_is_literal(SMTP_SLICE("1.2.3.4")));
    assert_false(smtp_domain_is_literal(SMTP_SLICE("")));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_paths),
        cmocka_unit_test(test_bad_syntax),
        cmocka_unit_test(test_no_bracket),
        cmocka_unit_test(test_non_ascii),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_malformed_utf8),
        cmocka_unit_test(test_lengths_in_utf8),
        cmocka_unit_test(test_neighbours_against_the_plain_grammar),
        cmocka_unit_test(test_random_words_against_the_plain_grammar),
        cmocka_unit_test(test_lower_case_of_domains),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
