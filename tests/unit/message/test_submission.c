/* The fields that a submitted message is given (RFC 6409). */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "gateway/message/submission.h"

#define DATE "Sat, 21 Nov 2026 22:19:42 +0000"

static void expect(struct submission_fields fields, const char *text)
{
    char written[SUBMISSION_FIELDS_MAX + 1];
    const size_t size = submission_fields_write(&fields, written);
    written[size] = '\0';
    assert_string_equal(written, text);
}

static void test_what_is_missing_is_written(void **state)
{
    struct submission_fields fields = {
        .date = SMTP_SLICE(DATE), .id = SMTP_SLICE("0000000000abc"), .hostname = SMTP_SLICE("relay.example")};
    expect(fields, "Date: " DATE "\r\nMessage-ID: <0000000000abc@relay.example>\r\n");
    fields.date = SMTP_SLICE("");
    expect(fields, "Message-ID: <0000000000abc@relay.example>\r\n");
    fields.id = SMTP_SLICE("");
    expect(fields, "");
    fields.date = SMTP_SLICE(DATE);
    expect(fields, "Date: " DATE "\r\n");
}

static void test_a_hostname_cannot_forge_anything(void **state)
{
    const struct submission_fields fields = {.id = SMTP_SLICE("1"),
                                             .hostname = SMTP_SLICE("a b>\r\nBcc: \xc3\xa4_x.Y-9")};
    expect(fields, "Message-ID: <1@a-b---Bcc-----x.Y-9>\r\n");
}

static void test_the_longest_fields_fit(void **state)
{
    char name[1000], written[SUBMISSION_FIELDS_MAX];
    memset(name, 'n', sizeof(name));
    const struct submission_fields fields = {
        .date = SMTP_SLICE(DATE), .id = SMTP_SLICE("0123456789abcdef"), .hostname = {name, sizeof(name)}};
    const size_t size = submission_fields_write(&fields, written);
    assert_true(size <= SUBMISSION_FIELDS_MAX);
    assert_memory_equal(written + size - 3, ">\r\n", 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_missing_is_written),
        cmocka_unit_test(test_a_hostname_cannot_forge_anything),
        cmocka_unit_test(test_the_longest_fields_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
