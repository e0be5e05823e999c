#include <errno.h>

#include "cmocka_base.h"
#include "gateway/base/quantity.h"

struct quantity_case {
    const char *text;
    int result;
    uint64_t number;
};

typedef int parse_function(const char *, uint64_t *);

static void check(parse_function *parse, const struct quantity_case *cases)
{
    for (; cases->text != NULL; cases++) {
        uint64_t number = 4711;
        int result = parse(cases->text, &number);
        if (result != cases->result || number != (result == 0 ? cases->number : 4711))
            fail_msg("\"%s\": %d, %llu", cases->text, result, (unsigned long long)number);
    }
}

static void counts(void **state)
{
    check(parse_count, (struct quantity_case[]){{"0", 0, 0},
                                                {"1000", 0, 1000},
                                                {"18446744073709551615", 0, UINT64_MAX},
                                                {"18446744073709551616", -ERANGE, 0},
                                                {"", -EINVAL, 0},
                                                {"-1", -EINVAL, 0},
                                                {" 1", -EINVAL, 0},
                                                {"1K", -EINVAL, 0},
                                                {"0x10", -EINVAL, 0},
                                                {NULL, 0, 0}});
}

static void sizes(void **state)
{
    check(parse_size, (struct quantity_case[]){{"4096", 0, 4096},
                                               {"64K", 0, 65536},
                                               {"50M", 0, 52428800},
                                               {"1G", 0, 1073741824},
                                               {"17179869183G", 0, UINT64_MAX - (1ULL << 30) + 1},
                                               {"17179869184G", -ERANGE, 0},
                                               {"1T", -EINVAL, 0},
                                               {"1k", -EINVAL, 0},
                                               {"1 K", -EINVAL, 0},
                                               {"K", -EINVAL, 0},
                                               {NULL, 0, 0}});
}

static void spans(void **state)
{
    check(parse_span, (struct quantity_case[]){{"0", 0, 0},
                                               {"7us", 0, 7},
                                               {"2ms", 0, 2000},
                                               {"30s", 0, 30000000},
                                               {"5m", 0, 300000000},
                                               {"4h", 0, 14400000000},
                                               {"5d", 0, 432000000000},
                                               {"999999999999999d", -ERANGE, 0},
                                               {"5", -EINVAL, 0},
                                               {"1h30m", -EINVAL, 0},
                                               {"5 m", -EINVAL, 0},
                                               {"1.5s", -EINVAL, 0},
                                               {NULL, 0, 0}});
}

static void percentages(void **state)
{
    unsigned percent = 7;
    assert_int_equal(parse_percent("0%", &percent), 0);
    assert_int_equal(percent, 0);
    assert_int_equal(parse_percent("100%", &percent), 0);
    assert_int_equal(percent, 100);
    assert_int_equal(parse_percent("101%", &percent), -ERANGE);
    assert_int_equal(parse_percent("5", &percent), -EINVAL);
    assert_int_equal(parse_percent("%", &percent), -EINVAL);
    assert_int_equal(parse_percent("5%%", &percent), -EINVAL);
    assert_int_equal(percent, 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts),
        cmocka_unit_test(sizes),
        cmocka_unit_test(spans),
        cmocka_unit_test(percentages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
