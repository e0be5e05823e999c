#include <errno.h>
#include <string.h>

#include "cmocka_base.h"
#include "gateway/base/id.h"

static void assert_text(uint64_t id, const char *expected)
{
    char text[ID_TEXT_SIZE + 1] = {0};
    id_format(id, text);
    assert_string_equal(text, expected);
}

static void known_ids_have_known_texts(void **state)
{
    assert_text(0, "0000000000000");
    assert_text(1, "0000000000001");
    assert_text(31, "000000000000z");
    assert_text(32, "0000000000010");
    assert_text(UINT64_MAX, "fzzzzzzzzzzzz");
}

static void every_bit_survives_the_round_trip(void **state)
{
    uint64_t id = 0x9e3779b97f4a7c15;
    for (unsigned round = 0; round < 10000; round++) {
        uint64_t candidate = round < 64 ? 1ULL << round : id;
        char text[ID_TEXT_SIZE];
        uint64_t back = ~candidate;
        id_format(candidate, text);
        assert_int_equal(id_parse(text, sizeof(text), &back), 0);
        assert_true(back == candidate);
        id = id * 6364136223846793005 + 1442695040888963407;
    }
}

static void texts_sort_as_ids_do(void **state)
{
    char low[ID_TEXT_SIZE];
    char high[ID_TEXT_SIZE];
    for (unsigned bit = 0; bit < 64; bit++) {
        id_format((1ULL << bit) - 1, low);
        id_format(1ULL << bit, high);
        assert_true(memcmp(low, high, ID_TEXT_SIZE) < 0);
    }
}

static void other_texts_are_refused(void **state)
{
    static const char *const wrong[] = {"",
                                        "000000000000",   /* short */
                                        "00000000000000", /* long */
                                        "g000000000000",  /* 65 bits */
                                        "000000000000i",
                                        "000000000000l",
                                        "000000000000o",
                                        "000000000000u",
                                        "000000000000-",
                                        "000000 000000"};
    uint64_t id = 7;
    for (size_t index = 0; index < sizeof(wrong) / sizeof(wrong[0]); index++)
        assert_int_equal(id_parse(wrong[index], strlen(wrong[index]), &id), -EINVAL);
    assert_true(id == 7);
    assert_int_equal(id_parse("000000000000Z", 13, &id), 0);
    assert_true(id == 31);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_ids_have_known_texts),
        cmocka_unit_test(every_bit_survives_the_round_trip),
        cmocka_unit_test(texts_sort_as_ids_do),
        cmocka_unit_test(other_texts_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
