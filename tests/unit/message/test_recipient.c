/* A recipient as the queue stores it: what goes in comes out, and nothing that a disk may hold is trusted. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/message/recipient.h"

static void assert_slice(struct smtp_slice actual, struct smtp_slice expected)
{
    assert_int_equal(actual.size, expected.size);
    if (expected.size > 0)
        assert_memory_equal(actual.data, expected.data, expected.size);
}

static void round_trip(struct smtp_slice address, struct smtp_slice orcpt, uint8_t notify,
                       size_t expected_size)
{
    char bytes[RECIPIENT_SIZE_MAX];
    const struct recipient in = {.address = address, .orcpt = orcpt, .notify = notify};
    const size_t size = recipient_encode(&in, bytes);
    assert_int_equal(size, expected_size);
    const struct recipient out = recipient_decode(bytes, size);
    assert_slice(out.address, address);
    assert_slice(out.orcpt, orcpt);
    assert_int_equal(out.notify, notify);
}

static void test_without_wishes_it_is_the_address_alone(void **state)
{
    char bytes[RECIPIENT_SIZE_MAX];
    const struct recipient recipient = {.address = SMTP_SLICE("b@example.com")};
    assert_int_equal(recipient_encode(&recipient, bytes), 13);
    assert_memory_equal(bytes, "b@example.com", 13);
    round_trip(SMTP_SLICE("b@example.com"), SMTP_SLICE(""), 0, 13);
}

static void test_wishes_come_back(void **state)
{
    char longest[SMTP_PATH_MAX + RECIPIENT_ORCPT_MAX];
    memset(longest, 'r', sizeof(longest));
    for (unsigned notify = 0; notify < 16; notify++) {
        round_trip(SMTP_SLICE("b@c"), SMTP_SLICE("rfc822;b+2Bx@c"), (uint8_t)notify, 3 + 2 + 14);
        round_trip((struct smtp_slice){longest, SMTP_PATH_MAX},
                   (struct smtp_slice){longest, RECIPIENT_ORCPT_MAX}, (uint8_t)notify, RECIPIENT_SIZE_MAX);
        if (notify > 0)
            round_trip(SMTP_SLICE("b@c"), SMTP_SLICE(""), (uint8_t)notify, 3 + 2);
    }
}

static void test_the_format_does_not_change(void **state)
{
    char bytes[RECIPIENT_SIZE_MAX];
    const struct recipient recipient = {
        .address = SMTP_SLICE("b@c"), .orcpt = SMTP_SLICE("rfc822;x"), .notify = 10};
    assert_int_equal(recipient_encode(&recipient, bytes), 13);
    assert_memory_equal(bytes, "b@c\0\nrfc822;x", 13);
}

/* Whatever a disk holds, the slices stay within it. */
static void test_damaged_bytes(void **state)
{
    assert_int_equal(recipient_decode("", 0).address.size, 0);
    assert_int_equal(recipient_decode("\0", 1).address.size, 0);
    const struct recipient cut = recipient_decode("b@c\0", 4);
    assert_slice(cut.address, SMTP_SLICE("b@c"));
    assert_int_equal(cut.notify, 0);
    assert_int_equal(cut.orcpt.size, 0);
    srandom(1);
    for (int round = 0; round < 100000; round++) {
        const size_t size = (size_t)random() % 24;
        char *bytes = malloc(size + 1);
        assert_non_null(bytes);
        char *exact = bytes + 1; /* ends where its block ends */
        for (size_t i = 0; i < size; i++)
            exact[i] = (char)(random() % 4);
        const struct recipient out = recipient_decode(exact, size);
        assert_true(out.address.size + (out.orcpt.size > 0 ? out.orcpt.size + 2 : 0) <= size);
        assert_true(out.address.size == 0 || memchr(out.address.data, '\0', out.address.size) == NULL);
        free(bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_wishes_it_is_the_address_alone),
        cmocka_unit_test(test_wishes_come_back),
        cmocka_unit_test(test_the_format_does_not_change),
        cmocka_unit_test(test_damaged_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
