#include "tests/unit/proto/cuts.h"

#include "tests/unit/proto/test.h"

#include <stdio.h>
#include <stdlib.h>

struct check {
    transcript_run *run;
    const char *input;
    size_t size;
    const struct transcript *whole;
    struct transcript piecewise;
};

static void print_cuts(const size_t *cuts, size_t cut_count)
{
    fprintf(stderr, "cut at");
    for (size_t i = 0; i < cut_count && i < 40; i++)
        fprintf(stderr, " %zu", cuts[i]);
    fprintf(stderr, "\n");
}

static void compare(struct check *check, const size_t *cuts, size_t cut_count)
{
    transcript_clear(&check->piecewise);
    check->run(&check->piecewise, check->input, check->size, cuts, cut_count);
    if (transcript_equal(&check->piecewise, check->whole))
        return;
    print_cuts(cuts, cut_count);
    assert_string_equal(check->piecewise.text, check->whole->text);
    fail_msg("the transcripts differ behind a NUL");
}

static void check_single_octets(struct check *check)
{
    size_t *cuts = malloc((check->size + 1) * sizeof(*cuts));

    assert_non_null(cuts);
    for (size_t i = 0; i < check->size; i++)
        cuts[i] = i + 1;
    compare(check, cuts, check->size);
    free(cuts);
}

static void check_single_cuts_and_pairs(struct check *check)
{
    for (size_t first = 0; first <= check->size; first++) {
        compare(check, &first, 1);
        if (check->size > CUTS_PAIRS_MAX)
            continue;
        for (size_t second = first; second <= check->size; second++)
            compare(check, (size_t[]){first, second}, 2);
    }
}

static void check_random_cuts(struct check *check, unsigned random_count)
{
    enum { CUT_MAX = 64 };
    uint64_t seed = check->size;

    for (unsigned run = 0; run < random_count; run++) {
        size_t cuts[CUT_MAX];
        size_t mean = 1 + check->size / (1 + transcript_random(&seed) % CUT_MAX);
        size_t count = 0;

        for (size_t at = 0; count < CUT_MAX; count++) {
            at += transcript_random(&seed) % (2 * mean);
            if (at > check->size)
                break;
            cuts[count] = at;
        }
        compare(check, cuts, count);
    }
}

void cuts_check(transcript_run *run, const char *input, size_t size, unsigned random_count,
                struct transcript *whole)
{
    struct check check = {.run = run, .input = input, .size = size, .whole = whole};

    assert_int_equal(whole->size, 0);
    transcript_init(&check.piecewise);
    run(whole, input, size, NULL, 0);
    check_single_octets(&check);
    check_single_cuts_and_pairs(&check);
    check_random_cuts(&check, random_count);
    transcript_deinit(&check.piecewise);
}

void cuts_expect(transcript_run *run, const char *input, size_t size, unsigned random_count,
                 const char *expected)
{
    struct transcript whole;

    transcript_init(&whole);
    cuts_check(run, input, size, random_count, &whole);
    assert_string_equal(whole.text, expected);
    transcript_deinit(&whole);
}
