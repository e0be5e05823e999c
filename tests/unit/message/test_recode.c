#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/message/recode_test.h"

/* What becomes of whole messages, another reader judges: recode_email.py. */

#define MIME "MIME-Version: 1.0\r\n"

static const char latin[] = MIME "Content-Type: text/plain\r\n"
                                 "Content-Transfer-Encoding: 8bit\r\n\r\n"
                                 "gr\xfc\xdf"
                                 "e\r\n..\r\n";

static const char latin_quoted[] = MIME "Content-Type: text/plain\r\n"
                                        "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
                                        "gr=FC=DFe\r\n=2E\r\n";

static struct recode *surveyed(const char *content, enum recode_verdict expected)
{
    struct recode *recode = malloc(sizeof(*recode));

    assert_non_null(recode);
    recode_init(recode);
    recode_survey(recode, content, strlen(content));
    assert_int_equal(recode_survey_end(recode), expected);
    return recode;
}

static bool convert(struct recode *recode, const char *content, char *out, size_t *written)
{
    size_t consumed = 0;
    size_t rest = 0;

    *written = recode_convert(recode, content, strlen(content), &consumed, out, 4 * RECODE_STEP_MAX);
    assert_int_equal(consumed, strlen(content));
    bool is_same = recode_convert_end(recode, out + *written, &rest);
    *written += rest;
    return is_same;
}

static void text_becomes_quoted_printable_at_every_cut(void **state)
{
    char *out = malloc(recode_room(sizeof(latin)));
    size_t written = 0;

    assert_non_null(out);
    assert_int_equal(recode_at_every_cut(latin, sizeof(latin) - 1, out, &written), RECODE_POSSIBLE);
    assert_int_equal(written, sizeof(latin_quoted) - 1);
    assert_memory_equal(out, latin_quoted, written);
    free(out);
}

static void seven_bits_are_nothing_to_do_whatever_is_broken(void **state)
{
    static const char *const contents[] = {"",
                                           "\r\n",
                                           "no header\r\n",
                                           "a\nb\rc",
                                           MIME MIME "\r\nx\r\n",
                                           "Content-Type: multipart/mixed\r\n\r\n"};

    for (size_t i = 0; i < sizeof(contents) / sizeof(contents[0]); i++)
        free(surveyed(contents[i], RECODE_NOTHING));
}

static void an_octet_is_found_behind_what_is_broken(void **state)
{
    free(surveyed("no field\r\n\r\n\xfc\r\n", RECODE_UNSURE));
    free(surveyed("no field\r\n\r\n\xfc", RECODE_UNSURE));
    free(surveyed("a: b\r\n\r\na\nb \xfc\r\n", RECODE_UNSURE));
}

static void without_room_nothing_is_consumed(void **state)
{
    struct recode *recode = surveyed(latin, RECODE_POSSIBLE);
    char out[RECODE_STEP_MAX];
    size_t consumed = 1;

    assert_int_equal(recode_convert(recode, latin, sizeof(latin) - 1, &consumed, out, sizeof(out) - 1), 0);
    assert_int_equal(consumed, 0);
    free(recode);
}

/* What comes from a disk may be another content the second time; it must not go out as if it were ours. */
static void other_content_than_was_surveyed_is_told(void **state)
{
    static const char *const others[] = {
        "Subject: x\r\n\r\n\r\nx",                                    /* without an end */
        "S: \xfc\r\n\r\nx\r\n",                                       /* another header */
        MIME "Content-Type: message/rfc822\r\n\r\n\r\n\xfc\r\n",      /* an entity more */
        MIME "Content-Type: multipart/x; boundary=b\r\n\r\n\xfc\r\n", /* no body */
    };
    char out[6 * RECODE_STEP_MAX];
    size_t written = 0;

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        struct recode *recode = surveyed(latin, RECODE_POSSIBLE);
        assert_false(convert(recode, others[i], out, &written));
        for (size_t at = 0; at < written; at++)
            assert_true((uint8_t)out[at] < 128);
        free(recode);
    }
    struct recode *recode = surveyed(latin, RECODE_POSSIBLE);
    assert_true(convert(recode, latin, out, &written));
    assert_int_equal(written, sizeof(latin_quoted) - 1);
    free(recode);
}

static void every_obstacle_has_its_words(void **state)
{
    for (int verdict = RECODE_IN_HEADER; verdict <= RECODE_BEYOND; verdict++)
        assert_true(strlen(recode_verdict_text((enum recode_verdict)verdict)) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_becomes_quoted_printable_at_every_cut),
        cmocka_unit_test(seven_bits_are_nothing_to_do_whatever_is_broken),
        cmocka_unit_test(an_octet_is_found_behind_what_is_broken),
        cmocka_unit_test(without_room_nothing_is_consumed),
        cmocka_unit_test(other_content_than_was_surveyed_is_told),
        cmocka_unit_test(every_obstacle_has_its_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
