#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/domain_table.h"
#include "gateway/base/idna.h"
#include "gateway/base/routes.h"

/* A route file, judged line by line. */

enum { PROBLEM_SIZE = 512 };

static bool is_ascii(const char *text, size_t size)
{
    for (size_t index = 0; index < size; index++) {
        if ((unsigned char)text[index] >= 0x80)
            return false;
    }
    return true;
}

static int refuse_pattern(const char *domain, size_t size, char problem[static PROBLEM_SIZE])
{
    char key[IDNA_KEY_SIZE];
    int key_size = is_ascii(domain, size) ? -EINVAL : idna_domain_key(domain, size, key);
    if (key_size > 0)
        snprintf(problem, PROBLEM_SIZE, "would never be found as it is written; would be right: \"%s\"", key);
    else
        snprintf(
            problem, PROBLEM_SIZE,
            "is not a pattern; would be right: \"example.com\", \".example.com\" for it and all below it, "
            "the same after \"from:\" for the sender's domain, or \"*\"");
    return -EINVAL;
}

static int check_pattern(const char *pattern, size_t size, char problem[static PROBLEM_SIZE])
{
    static const char prefix[] = "from:";
    if (size == 1 && pattern[0] == '*')
        return 0;
    if (size > strlen(prefix) && memcmp(pattern, prefix, strlen(prefix)) == 0) {
        pattern += strlen(prefix);
        size -= strlen(prefix);
    }
    if (pattern[0] == '.') {
        pattern++;
        size--;
    }
    if (domain_is_valid(pattern, size) && is_ascii(pattern, size))
        return 0;
    return refuse_pattern(pattern, size, problem);
}

static void write_error(const char *path, const char *pattern, size_t size, const char *problem, char *error,
                        size_t error_size)
{
    int shown = size < 256 ? (int)size : 256;
    int written = snprintf(error, error_size, "%s: route \"%.*s\" %s", path, shown, pattern, problem);
    assert(written > 0 && error_size > 0);
    for (char *cursor = error; *cursor != '\0'; cursor++) {
        if ((unsigned char)*cursor < ' ' || *cursor == 0x7f)
            *cursor = '?';
    }
}

int routes_check(const struct table *file, const char *path, char *error, size_t error_size)
{
    struct destination_text parsed;
    struct table_entry entry;
    size_t position = 0;
    while (table_next(file, &position, &entry)) {
        char problem[PROBLEM_SIZE];
        int result = check_pattern(entry.key, entry.key_size, problem);
        if (result == 0) {
            char reason[PROBLEM_SIZE - 8];
            result = destination_parse(entry.value, entry.value_size, &parsed, reason, sizeof(reason));
            if (result < 0)
                snprintf(problem, sizeof(problem), "to %s", reason);
        }
        if (result < 0) {
            write_error(path, entry.key, entry.key_size, problem, error, error_size);
            return result;
        }
    }
    return 0;
}
