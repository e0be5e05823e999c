/* The meta bytes of a message: what goes in comes out, and nothing that a disk may hold is trusted. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/message/envelope.h"

static void assert_slice(struct smtp_slice actual, struct smtp_slice expected)
{
    assert_int_equal(actual.size, expected.size);
    if (expected.size > 0)
        assert_memory_equal(actual.data, expected.data, expected.size);
}

static void round_trip(struct smtp_slice sender, struct smtp_slice client, uint32_t flags)
{
    char bytes[ENVELOPE_SIZE_MAX];
    const struct envelope in = {sender, client, flags};
    const size_t size = envelope_encode(&in, bytes);
    assert_int_equal(size, 5 + sender.size + client.size);

    struct envelope out;
    assert_int_equal(envelope_decode(bytes, size, &out), 0);
    assert_slice(out.sender, sender);
    assert_slice(out.client, client);
    assert_int_equal(out.flags, flags);
}

static void test_what_goes_in_comes_out(void **state)
{
    char longest[SMTP_PATH_MAX];
    memset(longest, 'a', sizeof(longest));
    char longest_client[ENVELOPE_CLIENT_MAX];
    memset(longest_client, '1', sizeof(longest_client));
    for (uint32_t flags = 0; flags <= ENVELOPE_FLAGS_ALL; flags++) {
        round_trip(SMTP_SLICE(""), SMTP_SLICE(""), flags);
        round_trip(SMTP_SLICE("user@example.com"), SMTP_SLICE("192.0.2.1"), flags);
        round_trip((struct smtp_slice){longest, sizeof(longest)},
                   (struct smtp_slice){longest_client, sizeof(longest_client)}, flags);
    }
}

static void test_the_format_does_not_change(void **state)
{
    static const char expected[] = "\x01\x05\x03\x00\x07"
                                   "a@b"
                                   "1.2.3.4";
    const struct envelope envelope = {SMTP_SLICE("a@b"), SMTP_SLICE("1.2.3.4"),
                                      ENVELOPE_HAS_8BIT | ENVELOPE_DOT_LINES};
    char bytes[ENVELOPE_SIZE_MAX];
    assert_int_equal(envelope_encode(&envelope, bytes), sizeof(expected) - 1);
    assert_memory_equal(bytes, expected, sizeof(expected) - 1);
}

/* Decodes bytes that end where their block ends, so that a sanitizer sees a read beyond them. */
static int decode(const char *bytes, size_t size)
{
    char block[ENVELOPE_SIZE_MAX + 1];
    assert_true(size <= sizeof(block));
    char *exact = block + sizeof(block) - size;
    memcpy(exact, bytes, size);
    struct envelope envelope;
    return envelope_decode(exact, size, &envelope);
}

static void test_damaged_bytes_are_refused(void **state)
{
    const struct envelope envelope = {SMTP_SLICE("user@example.com"), SMTP_SLICE("192.0.2.1"), 0};
    char bytes[ENVELOPE_SIZE_MAX + 1] = {0};
    const size_t size = envelope_encode(&envelope, bytes);

    assert_int_equal(decode(bytes, size), 0);
    for (size_t shorter = 0; shorter < size; shorter++)
        assert_int_equal(decode(bytes, shorter), -EINVAL);
    assert_int_equal(decode(bytes, size + 1), -EINVAL);

    bytes[0] = 2;
    assert_int_equal(decode(bytes, size), -EPROTO);
    bytes[0] = 1;
    bytes[1] = ENVELOPE_FLAGS_ALL + 1;
    assert_int_equal(decode(bytes, size), -EPROTO);
    bytes[1] = 0;
    bytes[3] = (char)0xff; /* a sender of 64 KiB */
    assert_int_equal(decode(bytes, size), -EINVAL);
}

static void test_random_bytes_never_break_it(void **state)
{
    srandom(1);
    char bytes[64];
    int accepted = 0;
    for (int round = 0; round < 200000; round++) {
        const size_t size = (size_t)random() % sizeof(bytes);
        for (size_t i = 0; i < size; i++)
            bytes[i] = (char)random();
        bytes[0] = 1;
        bytes[1] &= ENVELOPE_FLAGS_ALL;
        bytes[2] &= 0x3f;
        bytes[3] = 0;
        bytes[4] &= 0x1f;
        const int result = decode(bytes, size);
        assert_true(result == 0 || result == -EINVAL);
        accepted += result == 0;
    }
    assert_true(accepted > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_goes_in_comes_out),
        cmocka_unit_test(test_the_format_does_not_change),
        cmocka_unit_test(test_damaged_bytes_are_refused),
        cmocka_unit_test(test_random_bytes_never_break_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
