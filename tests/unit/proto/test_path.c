#include "tests/unit/proto/test.h"

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
    return smtp_path_parse((struct smtp_slice){*block, (uint32_t)size}, kind, path, used);
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
        cmocka_unit_test(test_good_paths), cmocka_unit_test(test_bad_syntax),
        cmocka_unit_test(test_no_bracket), cmocka_unit_test(test_non_ascii),
        cmocka_unit_test(test_lengths),    cmocka_unit_test(test_lower_case_of_domains),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
