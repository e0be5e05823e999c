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

static void round_trip(struct smtp_slice sender, struct smtp_slice client, struct smtp_slice envid,
                       uint32_t flags)
{
    char bytes[ENVELOPE_SIZE_MAX];
    const struct envelope in = {.sender = sender, .client = client, .envid = envid, .flags = flags};
    const size_t size = envelope_encode(&in, bytes);
    assert_int_equal(size, 7 + sender.size + client.size + envid.size);

    struct envelope out;
    assert_int_equal(envelope_decode(bytes, size, &out), 0);
    assert_slice(out.sender, sender);
    assert_slice(out.client, client);
    assert_slice(out.envid, envid);
    assert_int_equal(out.flags, flags);
}

static void test_what_goes_in_comes_out(void **state)
{
    static char longest[SMTP_PATH_MAX + ENVELOPE_CLIENT_MAX + ENVELOPE_ENVID_MAX];
    memset(longest, 'a', sizeof(longest));
    for (uint32_t flags = 0; flags <= ENVELOPE_FLAGS_ALL; flags++) {
        round_trip(SMTP_SLICE(""), SMTP_SLICE(""), SMTP_SLICE(""), flags);
        round_trip(SMTP_SLICE("user@example.com"), SMTP_SLICE("192.0.2.1"), SMTP_SLICE("QQ+2B"), flags);
        round_trip((struct smtp_slice){longest, SMTP_PATH_MAX},
                   (struct smtp_slice){longest, ENVELOPE_CLIENT_MAX},
                   (struct smtp_slice){longest, ENVELOPE_ENVID_MAX}, flags);
    }
}

static void test_the_format_does_not_change(void **state)
{
    static const char expected[] = "\x02\x25\x03\x00\x07\x02\x00"
                                   "a@b"
                                   "1.2.3.4"
                                   "id";
    const struct envelope envelope = {
        .sender = SMTP_SLICE("a@b"),
        .client = SMTP_SLICE("1.2.3.4"),
        .envid = SMTP_SLICE("id"),
        .flags = ENVELOPE_HAS_8BIT | ENVELOPE_DOT_LINES | ENVELOPE_RET_FULL,
    };
    char bytes[ENVELOPE_SIZE_MAX];
    assert_int_equal(envelope_encode(&envelope, bytes), sizeof(expected) - 1);
    assert_memory_equal(bytes, expected, sizeof(expected) - 1);
}

/* What an older gateway left in the queue. */
static void test_the_first_version_is_still_read(void **state)
{
    static const char bytes[] = "\x01\x05\x03\x00\x07"
                                "a@b"
                                "1.2.3.4";
    struct envelope envelope;
    assert_int_equal(envelope_decode(bytes, sizeof(bytes) - 1, &envelope), 0);
    assert_slice(envelope.sender, SMTP_SLICE("a@b"));
    assert_slice(envelope.client, SMTP_SLICE("1.2.3.4"));
    assert_int_equal(envelope.envid.size, 0);
    assert_int_equal(envelope.flags, ENVELOPE_HAS_8BIT | ENVELOPE_DOT_LINES);
    for (size_t size = 0; size < sizeof(bytes) - 1; size++)
        assert_int_equal(envelope_decode(bytes, size, &envelope), -EINVAL);
    assert_int_equal(envelope_decode(bytes, sizeof(bytes), &envelope), -EINVAL);
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
    const struct envelope envelope = {.sender = SMTP_SLICE("user@example.com"),
                                      .client = SMTP_SLICE("192.0.2.1")};
    char bytes[ENVELOPE_SIZE_MAX + 1] = {0};
    const size_t size = envelope_encode(&envelope, bytes);

    assert_int_equal(decode(bytes, size), 0);
    for (size_t shorter = 0; shorter < size; shorter++)
        assert_int_equal(decode(bytes, shorter), -EINVAL);
    assert_int_equal(decode(bytes, size + 1), -EINVAL);

    bytes[0] = 3;
    assert_int_equal(decode(bytes, size), -EPROTO);
    bytes[0] = 2;
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
        bytes[0] = 2;
        bytes[2] &= 0x3f;
        bytes[3] = 0;
        bytes[4] &= 0x1f;
        bytes[5] &= 0x07;
        bytes[6] = 0;
        const int result = decode(bytes, size);
        assert_true(result == 0 || result == -EINVAL);
        accepted += result == 0;
    }
    assert_true(accepted > 100);
}

/* What an earlier version wrote is still in the log after an upgrade. */
static void test_version_1_is_read(void **state)
{
    static const char old[] = "\x01\x05\x03\x00\x07"
                              "a@b"
                              "1.2.3.4";
    struct envelope envelope;
    assert_int_equal(envelope_decode(old, sizeof(old) - 1, &envelope), 0);
    assert_slice(envelope.sender, SMTP_SLICE("a@b"));
    assert_slice(envelope.client, SMTP_SLICE("1.2.3.4"));
    assert_int_equal(envelope.envid.size, 0);
    assert_int_equal(envelope.flags, ENVELOPE_HAS_8BIT | ENVELOPE_DOT_LINES);
    for (size_t shorter = 0; shorter < sizeof(old) - 1; shorter++)
        assert_int_equal(decode(old, shorter), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_goes_in_comes_out),
        cmocka_unit_test(test_the_format_does_not_change),
        cmocka_unit_test(test_version_1_is_read),
        cmocka_unit_test(test_the_first_version_is_still_read),
        cmocka_unit_test(test_damaged_bytes_are_refused),
        cmocka_unit_test(test_random_bytes_never_break_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
