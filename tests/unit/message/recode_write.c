/*
 * Converts what a test hands it: stdin is a row of contents, each behind its size (four octets, the least
 * significant first); for each, stdout gets the verdict (one octet), a size and what was written. With an
 * argument each content is also fed at every cut.
 */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/message/recode_test.h"

static bool read_size(size_t *size)
{
    uint8_t octets[4];
    if (fread(octets, 1, sizeof(octets), stdin) != sizeof(octets))
        return false;
    *size = octets[0] | octets[1] << 8 | octets[2] << 16 | (size_t)octets[3] << 24;
    return true;
}

static void write_result(enum recode_verdict verdict, const char *out, size_t size)
{
    putchar(verdict);
    for (int i = 0; i < 4; i++)
        putchar((int)(size >> 8 * i & 255));
    size_t written = fwrite(out, 1, size, stdout);
    assert(written == size);
}

int main(int argc, char **argv)
{
    size_t size = 0;

    (void)argv;
    while (read_size(&size)) {
        char *content = malloc(size + 1);
        char *out = malloc(recode_room(size));
        size_t written = 0;
        assert(content != NULL && out != NULL);
        size_t got = fread(content, 1, size, stdin);
        assert(got == size);
        enum recode_verdict verdict = argc > 1 ? recode_at_every_cut(content, size, out, &written)
                                               : recode_at_cut(content, size, size / 2, out, &written);
        write_result(verdict, out, written);
        free(content);
        free(out);
    }
    return 0;
}
