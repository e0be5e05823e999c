#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "tests/unit/message/recode_test.h"

/* The first octet says where the input is cut, and whether it is taken as it is or as lines that end with LF,
   from which content in stored form is made; the rest is the content. However it is cut, the same must come
   of it; what is written must be lines of octets below 128 that end no DATA. */

static size_t make_stored(const char *lines, size_t size, char *stored)
{
    char *to = stored;
    for (size_t i = 0; i < size; i++) {
        if (lines[i] == '.' && (i == 0 || lines[i - 1] == '\n'))
            *to++ = '.';
        if (lines[i] == '\n')
            *to++ = '\r';
        *to++ = lines[i];
    }
    return (size_t)(to - stored);
}

static bool is_seven_bits(const char *octets, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if ((uint8_t)octets[i] > 127)
            return false;
    }
    return true;
}

/* Such a line is only ever made of one that was there. */
static bool has_lone_dot(const char *content, size_t size)
{
    return (size >= 3 && memcmp(content, ".\r\n", 3) == 0) || memmem(content, size, "\r\n.\r\n", 5) != NULL;
}

static void check(const char *content, size_t size, const char *out, size_t written)
{
    assert(written > 0 && is_seven_bits(out, written));
    assert(written >= 2 && memcmp(out + written - 2, "\r\n", 2) == 0);
    assert(has_lone_dot(content, size) || !has_lone_dot(out, written));
    for (const char *at = out; (at = memchr(at, '\n', (size_t)(out + written - at))) != NULL; at++)
        assert(at > out && at[-1] == '\r');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > 1 << 16)
        return 0;
    const uint8_t first = data[0];
    char *content = malloc(2 * size);
    char *out = malloc(recode_room(2 * size));
    char *other = malloc(recode_room(2 * size));
    size_t written = 0;
    size_t other_written = 0;
    if (content == NULL || out == NULL || other == NULL)
        abort();
    const char *input = (const char *)data + 1;
    size--;
    if (first & 1)
        memcpy(content, input, size);
    else
        size = make_stored(input, size, content);
    enum recode_verdict verdict = recode_at_cut(content, size, 0, out, &written);
    enum recode_verdict again =
        recode_at_cut(content, size, size * (first >> 1) / 128, other, &other_written);
    assert(verdict == again && written == other_written && memcmp(out, other, written) == 0);
    assert((verdict == RECODE_NOTHING) == is_seven_bits(content, size));
    if (verdict == RECODE_POSSIBLE)
        check(content, size, out, written);
    free(content);
    free(out);
    free(other);
    return 0;
}
