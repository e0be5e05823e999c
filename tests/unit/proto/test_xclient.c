#include "tests/unit/proto/test.h"

#include "tests/unit/proto/transcript.h"

#include "proto/xclient.h"

#include <stdlib.h>

static const char *const names[] = {"NAME",  "ADDR",     "PORT",     "PROTO", "HELO",
                                    "LOGIN", "DESTADDR", "DESTPORT", "IDENT", "SOURCE"};

/* One line for each attribute, then how it ended. The text lies in a block of exactly its size. */
static void read_all(struct transcript *transcript, const char *text, bool forward)
{
    size_t size = strlen(text);
    char *block = malloc(size > 0 ? size : 1);
    struct smtp_slice rest = {block, (uint32_t)size};
    struct smtp_xclient_attribute attribute;
    enum smtp_xclient result;

    assert_non_null(block);
    memcpy(block, text, size);
    while ((result = smtp_xclient_next(&rest, forward, &attribute)) == SMTP_XCLIENT_ATTRIBUTE) {
        transcript_add(transcript, "%s", names[attribute.name]);
        if (attribute.state == SMTP_XCLIENT_GIVEN)
            transcript_add(transcript, "=%s%s", attribute.is_ipv6 ? "6:" : "", attribute.value);
        else
            transcript_add(transcript, "%s", attribute.state == SMTP_XCLIENT_UNAVAILABLE ? "?" : "??");
        transcript_add(transcript, "\n");
        assert_int_equal(attribute.size, attribute.state == SMTP_XCLIENT_GIVEN ? strlen(attribute.value) : 0);
    }
    transcript_add(transcript, result == SMTP_XCLIENT_END ? "end" : "bad");
    free(block);
}

static void check(const char *text, bool forward, const char *wanted)
{
    struct transcript transcript;

    transcript_init(&transcript);
    read_all(&transcript, text, forward);
    assert_string_equal(transcript.text, wanted);
    transcript_deinit(&transcript);
}

static void test_xclient(void **state)
{
    check("NAME=spike.example ADDR=168.100.189.2", false, "NAME=spike.example\nADDR=168.100.189.2\nend");
    check("name=x Proto=ESMTP hElO=y", false, "NAME=x\nPROTO=ESMTP\nHELO=y\nend");
    check("ADDR=192.0.2.7 PORT=1234 LOGIN=joe+40example.com NAME=[UNAVAILABLE]", false,
          "ADDR=192.0.2.7\nPORT=1234\nLOGIN=joe@example.com\nNAME?\nend");
    check("ADDR=IPV6:2001:db8::1 DESTADDR=ipv6:::1 DESTPORT=25", false,
          "ADDR=6:2001:db8::1\nDESTADDR=6:::1\nDESTPORT=25\nend");
    check("NAME=[TEMPUNAVAIL] LOGIN=[unavailable] PORT=[UNAVAILABLE]", false, "NAME??\nLOGIN?\nPORT?\nend");
    check("NAME=IPV6:x", false, "NAME=IPV6:x\nend");
    check("NAME=a NAME=b", false, "NAME=a\nNAME=b\nend");
    check("  NAME=a   HELO=b  ", false, "NAME=a\nHELO=b\nend");
    check("HELO=[192.0.2.1]", false, "HELO=[192.0.2.1]\nend");
    check("LOGIN=a+20b+2B", false, "LOGIN=a b+\nend");
    check("", false, "end");
    check("  ", false, "end");
}

static void test_xforward(void **state)
{
    check("NAME=x ADDR=192.0.2.7 PORT=65535 PROTO=SMTP HELO=y IDENT=4BcD SOURCE=REMOTE", true,
          "NAME=x\nADDR=192.0.2.7\nPORT=65535\nPROTO=SMTP\nHELO=y\nIDENT=4BcD\nSOURCE=REMOTE\nend");
    check("SOURCE=[UNAVAILABLE]", true, "SOURCE?\nend");
}

/* Each command has its own names. */
static void test_names_of_the_other_command(void **state)
{
    check("LOGIN=x", true, "bad");
    check("DESTADDR=192.0.2.1", true, "bad");
    check("DESTPORT=25", true, "bad");
    check("IDENT=x", false, "bad");
    check("SOURCE=LOCAL", false, "bad");
}

static void test_bad_attributes(void **state)
{
    static const char *const bads[] = {
        "NAME",      "NAME=",       "=x",           "NAMES=x",   "NAM=x",         "NAME =x",    "NAME= x",
        "NAME=a=b",  "NAME=a+b",    "NAME=a+0D+0A", "NAME=a+00", "NAME=\xc3\xa9", "PORT=65536", "PORT=-1",
        "PORT=+31x", "PORT=123456", "DESTPORT=",    "PORT=a",    "ADDR=IPV6:",    "ADDR=",      "NAME\xc3=x",
    };

    for (size_t i = 0; i < sizeof(bads) / sizeof(bads[0]); i++)
        check(bads[i], false, "bad");
    check("HELO=a NAME", false, "HELO=a\nbad");
}

static void test_length_of_values(void **state)
{
    for (size_t size = 254; size <= 256; size++) {
        char text[5 + 256 * 3 + 1] = "NAME=";
        struct smtp_slice rest = {text, (uint32_t)(5 + size)};
        struct smtp_xclient_attribute attribute = {.name = SMTP_XCLIENT_SOURCE};
        bool fits = size <= SMTP_XCLIENT_VALUE_MAX;

        memset(text + 5, 'n', size);
        assert_int_equal(smtp_xclient_next(&rest, false, &attribute),
                         fits ? SMTP_XCLIENT_ATTRIBUTE : SMTP_XCLIENT_BAD);
        assert_int_equal(attribute.name, fits ? SMTP_XCLIENT_NAME : SMTP_XCLIENT_SOURCE);
        assert_int_equal(rest.size, fits ? 0 : 5 + size);

        for (size_t i = 0; i < size; i++)
            memcpy(text + 5 + 3 * i, "+20", 3);
        rest = (struct smtp_slice){text, (uint32_t)(5 + 3 * size)};
        assert_int_equal(smtp_xclient_next(&rest, false, &attribute),
                         fits ? SMTP_XCLIENT_ATTRIBUTE : SMTP_XCLIENT_BAD);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_xclient),
        cmocka_unit_test(test_xforward),
        cmocka_unit_test(test_names_of_the_other_command),
        cmocka_unit_test(test_bad_attributes),
        cmocka_unit_test(test_length_of_values),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
