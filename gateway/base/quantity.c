#include "gateway/base/quantity.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit size_units[] = {
    {"", 1}, {"K", 1ULL << 10}, {"M", 1ULL << 20}, {"G", 1ULL << 30}, {NULL, 0}};

static const struct unit span_units[] = {
    {"us", 1},         {"ms", 1000},       {"s", 1000000}, {"m", 60000000},
    {"h", 3600000000}, {"d", 86400000000}, {NULL, 0},
};

/* Digits from the start of `text`; `rest` is what follows them. */
static int parse_digits(const char *text, uint64_t *number, const char **rest)
{
    uint64_t result = 0;
    const char *cursor = text;
    for (; *cursor >= '0' && *cursor <= '9'; cursor++) {
        if (__builtin_mul_overflow(result, 10, &result) ||
            __builtin_add_overflow(result, (uint64_t)(*cursor - '0'), &result))
            return -ERANGE;
    }
    if (cursor == text)
        return -EINVAL;
    *number = result;
    *rest = cursor;
    return 0;
}

static int parse_with_unit(const char *text, const struct unit *units, uint64_t *number)
{
    uint64_t count;
    const char *rest;
    int result = parse_digits(text, &count, &rest);
    if (result < 0)
        return result;
    for (const struct unit *unit = units; unit->name != NULL; unit++) {
        if (strcmp(rest, unit->name) == 0)
            return __builtin_mul_overflow(count, unit->factor, number) ? -ERANGE : 0;
    }
    return -EINVAL;
}

int parse_count(const char *text, uint64_t *count)
{
    static const struct unit no_units[] = {{"", 1}, {NULL, 0}};
    uint64_t number;
    int result = parse_with_unit(text, no_units, &number);
    if (result == 0)
        *count = number;
    return result;
}

int parse_size(const char *text, uint64_t *size_bytes)
{
    uint64_t number;
    int result = parse_with_unit(text, size_units, &number);
    if (result == 0)
        *size_bytes = number;
    return result;
}

int parse_span(const char *text, uint64_t *span_us)
{
    if (strcmp(text, "0") == 0) {
        *span_us = 0;
        return 0;
    }
    uint64_t number;
    int result = parse_with_unit(text, span_units, &number);
    if (result == 0)
        *span_us = number;
    return result;
}

int parse_percent(const char *text, unsigned *percent)
{
    uint64_t number;
    const char *rest;
    int result = parse_digits(text, &number, &rest);
    if (result < 0)
        return result;
    if (strcmp(rest, "%") != 0)
        return -EINVAL;
    if (number > 100)
        return -ERANGE;
    *percent = (unsigned)number;
    return 0;
}
