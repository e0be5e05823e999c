#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cmocka_base.h"
#include "gateway/base/idna.h"

#define LABEL_63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

/* NULL: -EINVAL. */
static void check(const char *domain, const char *expected)
{
    char key[IDNA_KEY_SIZE] = "untouched";
    /* The domain stands at the end of its memory, without a zero: reading on would be found. */
    size_t size = strlen(domain);
    char *copy = malloc(size > 0 ? size : 1);
    assert_non_null(copy);
    memcpy(copy, domain, size);
    int result = idna_domain_key(copy, size, key);
    free(copy);
    if (result < 0) {
        if (expected != NULL)
            fail_msg("\"%s\": error %d", domain, result);
        assert_int_equal(result, -EINVAL);
        assert_string_equal(key, "untouched");
        return;
    }
    if (expected == NULL)
        fail_msg("\"%s\" gave \"%s\"", domain, key);
    assert_string_equal(key, expected);
    assert_int_equal(result, strlen(expected));
}

static void ascii_is_put_into_small_letters(void **state)
{
    check("example.com", "example.com");
    check("EXAMPLE.Com", "example.com");
    check("a", "a");
    check("under_score.EXAMPLE", "under_score.example");
    check("XN--BCHER-KVA.example", "xn--bcher-kva.example");
    check("[192.0.2.1]", "[192.0.2.1]");
    check("[IPv6:2001:DB8::1]", "[ipv6:2001:db8::1]");
    check("", NULL);
}

static void u_labels_become_a_labels(void **state)
{
    check("bücher.example", "xn--bcher-kva.example");
    check("BÜCHER.Example", "xn--bcher-kva.example");
    check("bu\u0308cher.example", "xn--bcher-kva.example"); /* u and a combining diaeresis: NFC */
    check("straße.example", "xn--strae-oqa.example");       /* not "strasse" */
    check("例え.テスト", "xn--r8jz45g.xn--zckzah");
    check("例え。テスト", "xn--r8jz45g.xn--zckzah"); /* an ideographic full stop is a dot, too */
    check("ｅｘａｍｐｌｅ.com", "example.com");      /* wide letters */
    check("пример.испытание", "xn--e1afmkfd.xn--80akhbyknj4f");
    check("under_score.bücher.example", "under_score.xn--bcher-kva.example");
}

static void what_is_no_domain_is_refused(void **state)
{
    check("b\xfc"
          "cher.example",
          NULL);                                  /* Latin-1 */
    check("b\xc3.example", NULL);                 /* cut */
    check("a\uff20bücher.example", NULL);         /* a wide "@" */
    check("a\uff0fb.example", NULL);              /* a wide "/" */
    check("bü cher.example", NULL);               /* a blank */
    check("bü..example", NULL);                   /* an empty label */
    check("-ü.example", NULL);                    /* a hyphen at the begin */
    check("\u0301a.example", NULL);               /* begins with a combining mark */
    check("[bücher]", NULL);                      /* no literal is beyond ASCII */
    check("a\u200bü\ufffd.example", NULL);        /* a replacement character */
    check("xn--bcher-kva.b\u2028.example", NULL); /* a line separator */
    check("ü" LABEL_63 ".example", NULL);         /* a label over 63 octets */
}

static void a_zero_in_the_middle_does_not_cut_it(void **state)
{
    static const char domain[] = "b\xc3\xbc.example\0.invalid";
    char key[IDNA_KEY_SIZE];
    assert_int_equal(idna_domain_key(domain, sizeof(domain) - 1, key), -EINVAL);
}

static void sizes_at_the_limit(void **state)
{
    static const char ascii[] = LABEL_63 "." LABEL_63 "." LABEL_63 "." LABEL_63;
    char key[IDNA_KEY_SIZE];
    _Static_assert(sizeof(ascii) == 256, "255 octets and the zero");
    assert_int_equal(idna_domain_key(ascii, 255, key), 255);
    assert_string_equal(key, ascii);
    assert_int_equal(idna_domain_key(LABEL_63 "." LABEL_63 "." LABEL_63 "." LABEL_63 "a", 256, key),
                     -ENAMETOOLONG);
    assert_int_equal(idna_domain_key("\xc3\xbc." LABEL_63 "." LABEL_63 "." LABEL_63 "." LABEL_63, 258, key),
                     -ENAMETOOLONG);

    /* 254 octets as given, more as a key. */
    char grown[255] = "";
    for (unsigned label = 0; label < 50; label++)
        strcat(grown, "\xc3\xbc"
                      "aa.");
    strcat(grown, "test");
    assert_int_equal(strlen(grown), 254);
    int result = idna_domain_key(grown, strlen(grown), key);
    assert_int_equal(result, -ENAMETOOLONG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ascii_is_put_into_small_letters),
        cmocka_unit_test(u_labels_become_a_labels),
        cmocka_unit_test(what_is_no_domain_is_refused),
        cmocka_unit_test(a_zero_in_the_middle_does_not_cut_it),
        cmocka_unit_test(sizes_at_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
