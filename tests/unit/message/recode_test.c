#include "tests/unit/message/recode_test.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

size_t recode_room(size_t size)
{
    return 16 * size + 2 * RECODE_STEP_MAX;
}

/* Each call has the least room that there may be, in memory of its own, so that a sanitizer sees a step too
 * far. */
static size_t convert_slice(struct recode *recode, const char *slice, size_t size, char *out)
{
    char *room = malloc(RECODE_STEP_MAX);
    size_t written = 0;

    assert(room != NULL);
    while (size > 0) {
        size_t consumed = 0;
        size_t step = recode_convert(recode, slice, size, &consumed, room, RECODE_STEP_MAX);
        assert(consumed > 0 && consumed <= size && step <= RECODE_STEP_MAX);
        memcpy(out + written, room, step);
        written += step;
        slice += consumed;
        size -= consumed;
    }
    free(room);
    return written;
}

enum recode_verdict recode_at_cut(const char *content, size_t size, size_t cut, char *out, size_t *written)
{
    struct recode *recode = malloc(sizeof(*recode));
    size_t rest = 0;

    assert(recode != NULL && cut <= size);
    memset(recode, 0xA5, sizeof(*recode));
    *written = 0;
    recode_init(recode);
    recode_survey(recode, content, cut);
    recode_survey(recode, content + cut, size - cut);
    enum recode_verdict verdict = recode_survey_end(recode);
    if (verdict == RECODE_POSSIBLE) {
        *written = convert_slice(recode, content, cut, out);
        *written += convert_slice(recode, content + cut, size - cut, out + *written);
        bool is_same = recode_convert_end(recode, out + *written, &rest);
        assert(is_same);
        *written += rest;
        assert(*written <= recode_room(size));
    }
    free(recode);
    return verdict;
}

enum recode_verdict recode_at_every_cut(const char *content, size_t size, char *out, size_t *written)
{
    char *other = malloc(recode_room(size));
    size_t other_size = 0;

    assert(other != NULL);
    enum recode_verdict verdict = recode_at_cut(content, size, 0, out, written);
    for (size_t cut = 1; cut < size; cut++) {
        enum recode_verdict other_verdict = recode_at_cut(content, size, cut, other, &other_size);
        assert(other_verdict == verdict && other_size == *written);
        assert(memcmp(other, out, other_size) == 0);
    }
    free(other);
    return verdict;
}
