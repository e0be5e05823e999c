#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>

static size_t plan_cuts(const uint8_t *plan, size_t size, size_t *cuts, size_t most)
{
    size_t count = 0;
    size_t at = 0;

    if (((plan[0] | plan[1] | plan[2] | plan[3]) & 63) == 0)
        return 0;
    for (unsigned turn = 0; count < most; turn++) {
        at += plan[turn % FUZZ_PLAN_SIZE] & 63;
        if (at > size)
            break;
        cuts[count++] = at;
    }
    return count;
}

static void demand_equal(const struct transcript *got, const struct transcript *wanted, const char *what)
{
    if (transcript_equal(got, wanted))
        return;
    fprintf(stderr, "%s make a difference. Whole:\n%s\nand otherwise:\n%s\n", what, got->text, wanted->text);
    abort();
}

void fuzz_check(transcript_run *run, fuzz_reference *reference, const uint8_t *data, size_t size)
{
    struct transcript whole, other;

    if (size < FUZZ_PLAN_SIZE)
        return;

    const char *input = (const char *)data + FUZZ_PLAN_SIZE;
    size_t input_size = size - FUZZ_PLAN_SIZE;
    size_t cut_most = 4 * (input_size + 1);
    size_t *cuts = malloc(cut_most * sizeof(*cuts));

    if (cuts == NULL)
        abort();
    transcript_init(&whole);
    transcript_init(&other);
    run(&whole, input, input_size, NULL, 0);
    run(&other, input, input_size, cuts, plan_cuts(data, input_size, cuts, cut_most));
    demand_equal(&whole, &other, "Cuts");
    if (reference != NULL) {
        transcript_clear(&other);
        reference(&other, input, input_size);
        demand_equal(&whole, &other, "The plain rules");
    }
    transcript_deinit(&whole);
    transcript_deinit(&other);
    free(cuts);
}
